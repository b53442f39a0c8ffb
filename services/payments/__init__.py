"""Payments: the gateways, and what they need of the settings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from pydantic import SecretStr

from services.payments.base import Gateway
from services.payments.click import Click
from services.payments.payme import Payme
from services.payments.uzum import Uzum
from services.settings import Settings

TITLES: Mapping[str, str] = {kind.kind: kind.title for kind in (Payme, Click, Uzum)}
LIVES: Mapping[str, dt.timedelta] = {kind.kind: kind.life for kind in (Payme, Click, Uzum)}
"""How long a gateway's attempt may wait to be performed."""


def make_gateways(settings: Settings) -> Mapping[str, Gateway]:
    """Return every gateway by its kind; one that is not configured refuses every call as not proved."""
    secrets, facts = settings.secrets, settings.payments
    return {
        "payme": Payme(
            secrets.payme_merchant_id or "",
            _plain(secrets.payme_key),
            _plain(secrets.payme_test_key),
            checkout=facts.payme_checkout,
            test_checkout=facts.payme_test_checkout,
        ),
        "click": Click(
            secrets.click_service_id or 0,
            secrets.click_merchant_id or 0,
            _plain(secrets.click_secret_key),
            checkout=facts.click_checkout,
        ),
        "uzum": Uzum(
            secrets.uzum_service_id or 0,
            secrets.uzum_username or "",
            _plain(secrets.uzum_password),
            checkout=facts.uzum_checkout,
            parameter=facts.uzum_parameter,
        ),
    }


def configured(settings: Settings) -> tuple[str, ...]:
    """Return the kinds of the gateways that have all they need to be paid by."""
    secrets = settings.secrets
    needed = {
        "payme": (secrets.payme_merchant_id, secrets.payme_key or secrets.payme_test_key),
        "click": (secrets.click_service_id, secrets.click_merchant_id, secrets.click_secret_key),
        "uzum": (secrets.uzum_service_id, secrets.uzum_username, secrets.uzum_password),
    }
    return tuple(kind for kind, values in needed.items() if all(values))


def is_test_mode(settings: Settings) -> bool:
    """Tell whether this installation is under test: of Payme's keys only the test key is set."""
    return settings.secrets.payme_key is None and settings.secrets.payme_test_key is not None


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""
