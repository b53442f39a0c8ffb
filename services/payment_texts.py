"""The words for payments: the same in the panel, in Telegram, on receipts and in tables."""

from __future__ import annotations

from collections.abc import Mapping

from services.i18n import T, Text
from services.settings import Settings

STATES: Mapping[str, Text] = {
    "waiting": T("Waiting for payment"),
    "paid": T("Paid"),
    "cancelled": T("Cancelled"),
    "expired": T("Expired"),
    "refunded": T("Refunded"),
}
KINDS: Mapping[str, Text] = {
    "new": T("New plan"),
    "renewal": T("Renewal"),
    "upgrade": T("Larger plan"),
    "downgrade": T("Smaller plan"),
}
PERIODS: Mapping[str, Text] = {
    "monthly": T("Monthly"),
    "quarterly": T("Quarterly"),
    "annual": T("Annual"),
}
TRANSACTION_STATES: Mapping[str, Text] = {
    "waiting": T("Begun"),
    "performed": T("Performed"),
    "cancelled": T("Cancelled"),
    "reversed": T("Taken back"),
}
METHODS: Mapping[str, Text] = {
    "cash": T("Cash"),
    "bank": T("Bank transfer"),
}
"""How people pay without a gateway."""
# Names of companies are the same in every language.
_GATEWAYS: Mapping[str, str] = {"payme": "Payme", "click": "Click", "uzum": "Uzum Bank"}
_NO_GATEWAY: Mapping[str, Text] = {
    "manual": T("Cash or bank transfer"),
    "balance": T("Referral balance"),
}


def gateway(kind: str | None, language: str) -> str:
    """Return the name of a gateway, or of the way something was paid without one."""
    if kind in _NO_GATEWAY:
        return _NO_GATEWAY[kind].render(language)
    return _GATEWAYS.get(kind or "", kind or "—")


def state(status: str, language: str) -> str:
    """Return the name of a payment's status."""
    return STATES[status].render(language)


def period(key: str, language: str) -> str:
    """Return the name of a period; the key itself of one that is not known any more."""
    return PERIODS[key].render(language) if key in PERIODS else key


def plan(settings: Settings, key: str) -> str:
    """Return a plan's title; the key itself of one that is not in the configuration any more."""
    facts = settings.plans.get(key)
    return facts.title if facts else key
