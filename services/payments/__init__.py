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

NEEDED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "payme": (("payme_merchant_id",), ("payme_key", "payme_test_key")),
    "click": (("click_service_id",), ("click_merchant_id",), ("click_secret_key",)),
    "uzum": (("uzum_service_id",), ("uzum_username",), ("uzum_password",)),
}
"""What a gateway needs of the secrets: of each group one."""


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
    """Return the kinds of the gateways that have all they need to be called; Payme may have its test key alone."""
    secrets = settings.secrets
    return tuple(
        kind
        for kind, groups in NEEDED.items()
        if all(any(getattr(secrets, name) for name in group) for group in groups)
    )


def live(settings: Settings) -> tuple[str, ...]:
    """Return the kinds of the gateways that take real money here."""
    return tuple(kind for kind in configured(settings) if kind != "payme" or settings.secrets.payme_key is not None)


def has_test_key(settings: Settings) -> bool:
    """Tell whether Payme's sandbox can be tried here."""
    return settings.secrets.payme_test_key is not None and "payme" in configured(settings)


def is_test_mode(settings: Settings) -> bool:
    """Tell whether this installation is under test: there is Payme's test key, and no gateway takes real money.

    Only then does what a test key pays give a plan: the cards of Payme's sandbox are known to everybody.
    """
    return has_test_key(settings) and not live(settings)


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""
