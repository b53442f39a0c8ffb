"""The words for payments: the same in the panel, in Telegram, on receipts and in tables."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from services.i18n import T, Text, translate
from services.payments import TITLES
from services.plans import Standing, Timeline
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
STEPS: Mapping[str, Text] = {
    "order": T("Ordered"),
    "complete": T("Paid without a gateway"),
    "cancel": T("Cancelled"),
    "expire": T("Its time was over"),
    "refund": T("Marked as refunded"),
    "reversal": T("Money asked back from Click"),
}
"""What people and we ourselves do with a payment."""
CALLS: Mapping[str, Text] = {
    **dict.fromkeys(("CheckPerformTransaction", "check"), T("Asked whether it can be paid")),
    **dict.fromkeys(("CreateTransaction", "prepare", "create"), T("Transaction begun")),
    **dict.fromkeys(("PerformTransaction", "complete", "confirm"), T("Transaction performed")),
    **dict.fromkeys(("CancelTransaction", "reverse"), T("Transaction cancelled")),
    **dict.fromkeys(("CheckTransaction", "status"), T("Asked for the state")),
    "SetFiscalData": T("Fiscal receipt"),
}
"""What gateways call us for."""
METHODS: Mapping[str, Text] = {
    "cash": T("Cash"),
    "bank": T("Bank transfer"),
}
"""How people pay without a gateway."""
_BEGINNINGS: Mapping[str, Text] = {
    "new": T("It begins as soon as it is paid."),
    "renewal": T("Its days are added to the end of what you have."),
    "upgrade": T("It begins as soon as it is paid. What is left of your present plan is taken off the price."),
    "downgrade": T("It begins when what you have paid for is over."),
}
_NO_GATEWAY: Mapping[str, Text] = {
    "manual": T("Cash or bank transfer"),
    "balance": T("Referral balance"),
}


def gateway(kind: str | None, language: str) -> str:
    """Return the name of a gateway, or of the way something was paid without one."""
    if kind is not None and kind in _NO_GATEWAY:
        return _NO_GATEWAY[kind].render(language)
    return TITLES.get(kind or "", kind or "—")


def state(status: str, language: str) -> str:
    """Return the name of a payment's status."""
    return STATES[status].render(language)


def action(key: str, gateway: str, language: str) -> str:
    """Return what a step of a payment's life is called; a gateway's call is named in the gateway's own words, too."""
    if gateway and key in CALLS:
        return f"{CALLS[key].render(language)} ({key})"
    return STEPS[key].render(language) if key in STEPS else key


def period(key: str, language: str) -> str:
    """Return the name of a period; the key itself of one that is not known any more."""
    return PERIODS[key].render(language) if key in PERIODS else key


def plan(settings: Settings, key: str, language: str) -> str:
    """Return a plan's title; the key itself of one that is not in the configuration any more."""
    facts = settings.plans.get(key)
    return facts.title.called(language) if facts else key


def plan_kept(settings: Settings, key: str) -> Any:
    """Return a plan's title as a letter holds it, which is written in its reader's language."""
    facts = settings.plans.get(key)
    return facts.title.kept() if facts else key


def by_hand(method: str, reason: str) -> str:
    """Return the note of a payment without a gateway, as it is kept; ``method``: of :data:`METHODS`."""
    return f"{method}: {reason}"


def note(kept: str, language: str) -> str:
    """Return a note for people; what :func:`by_hand` wrote names the method in ``language``."""
    method, colon, reason = kept.partition(": ")
    return f"{METHODS[method].render(language)}: {reason}" if colon and method in METHODS else kept


def standing(
    settings: Settings, line: Timeline, now: dt.datetime, language: str, when: Callable[[dt.datetime], str]
) -> list[str]:
    """Return in words what an owner has and what follows, a sentence each; ``when`` writes a moment."""
    has = line.at(now)
    title = plan(settings, has.plan or "", language)
    if has.ends_at is None:
        return _without_end(has, language)
    until = when(has.ends_at)
    if has.status == "grace":
        return [
            translate(language, "Your plan {plan} has ended.", plan=title),
            translate(
                language, "Bots still answer until {moment}. Pay before then, and nothing changes.", moment=until
            ),
        ]
    if has.status == "test":
        return [
            translate(language, "You are on the plan {plan} until {moment}.", plan=title, moment=until),
            translate(language, "After that bots stop answering until you choose a plan. Nothing is deleted."),
        ]
    lines = [translate(language, "You are on the plan {plan} until {moment}.", plan=title, moment=until)]
    following = line.at(has.ends_at)
    if following.status in ("active", "trial", "test") and following.ends_at is not None:
        more = plan(settings, following.plan or "", language)
        then = translate(
            language, "Then the plan {plan} follows, until {moment}.", plan=more, moment=when(following.ends_at)
        )
        lines.append(then)
    elif following.status == "grace" and following.ends_at is not None:
        last = translate(
            language,
            "If it is not renewed, bots stop answering on {moment}. Nothing is deleted.",
            moment=when(following.ends_at),
        )
        lines.append(last)
    else:
        lines.append(translate(language, "After that bots stop answering until you choose a plan. Nothing is deleted."))
    return lines


def _without_end(has: Standing, language: str) -> list[str]:
    if has.status == "unlimited":
        return [translate(language, "Your account has no limits and pays nothing.")]
    return [
        translate(language, "You have no plan now: your bots do not answer."),
        translate(language, "Nothing was deleted. Choose a plan, and they answer again at once."),
    ]


def beginning(kind: str, language: str) -> str:
    """Return in words when what is bought begins; ``kind``: of a payment."""
    return _BEGINNINGS[kind].render(language)
