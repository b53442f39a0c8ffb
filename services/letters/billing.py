"""Letters about payments and what they give."""

from __future__ import annotations

from collections.abc import Mapping

from services.i18n import T
from services.letters.base import Kind

_PAYMENT = (("plan", "Basic"), ("amount", {"tiyin": 29_000_000}), ("number", "204815937"), ("path", "/billing"))

_MONTH = (("plan", "Basic"), ("n", {"count": 3000}), ("used", {"count": 2400}), ("path", "/billing"))

KINDS: Mapping[str, Kind] = {
    "paid": Kind(
        subject=T("Payment received: {plan}"),
        text=T(
            "Thank you! Your payment {number} has arrived: {amount}.\n\n"
            "The plan “{plan}” is yours until {until}. You find the receipt and all your payments in the panel."
        ),
        telegram=T("✅ Payment {number} has arrived: {amount}. The plan “{plan}” is yours until {until}."),
        button=T("Open the payment"),
        receipt=True,
        example=(*_PAYMENT, ("until", {"day": "2026-12-21T12:00:00+00:00"})),
    ),
    "refunded": Kind(
        subject=T("Payment {number} was refunded"),
        text=T(
            "Your payment {number} of {amount} was refunded, and the plan “{plan}” that it paid for was taken back.\n\n"
            "The money returns the way it came; how soon depends on your bank. If you did not ask for this, write to us."
        ),
        telegram=T("Payment {number} of {amount} was refunded; the plan “{plan}” that it paid for was taken back."),
        button=T("Open the payment"),
        example=_PAYMENT,
    ),
    "messages_few": Kind(
        subject=T("Most messages of this month are used"),
        text=T(
            "The plan “{plan}” gives {n} answers a month, and {used} are used.\n\n"
            "When all are used, your bots give no answers until the next month: customers get your polite line, and their "
            "conversations wait for a person. A larger plan begins at once."
        ),
        button=T("Choose a larger plan"),
        example=_MONTH,
    ),
    "messages_out": Kind(
        subject=T("All messages of this month are used"),
        text=T(
            "The plan “{plan}” gives {n} answers a month, and all are used.\n\n"
            "Until the next month your bots give no answers: customers get your polite line, and their conversations wait for a "
            "person in the panel. With a larger plan they answer again at once."
        ),
        button=T("Choose a larger plan"),
        example=_MONTH,
    ),
}
