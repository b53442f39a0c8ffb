"""Letters to partners: who came by their link, what they earned, and what they were paid."""

from __future__ import annotations

from collections.abc import Mapping

from services.i18n import T
from services.letters.base import Kind

_OPEN = T("Open “Invite and earn”")
_AMOUNT = (("amount", {"tiyin": 15_000_000}), ("balance", {"tiyin": 21_800_000}))

KINDS: Mapping[str, Kind] = {
    "partner_joined": Kind(
        subject=T("Registered by your link: {n}"),
        text=T(
            "New businesses that registered by your link: {n}. Altogether there are {total} now.\n\n"
            "As soon as one of them pays for a plan, you earn a part of it."
        ),
        telegram=T("🤝 New businesses that registered by your link: {n}. Altogether there are {total} now."),
        button=_OPEN,
        example=(("n", 3), ("total", 12)),
    ),
    "commission_due": Kind(
        subject=T("You have earned {amount}"),
        text=T(
            "Your commissions of {amount} can be used from now on. On your balance: {balance}.\n\n"
            "Pay your own plan with it, or ask the administrator for a payout from {least} on."
        ),
        telegram=T("💰 Your commissions of {amount} can be used from now on. On your balance: {balance}."),
        button=_OPEN,
        example=(*_AMOUNT, ("least", {"tiyin": 10_000_000})),
    ),
    "commission_back": Kind(
        subject=T("A commission of {amount} was taken back"),
        text=T(
            "A payment of a business that you brought was refunded, so its commission of {amount} was taken back.\n\n"
            "On your balance: {balance}."
        ),
        telegram=T(
            "↩️ A payment of a business that you brought was refunded, so its commission of {amount} was taken back. On your "
            "balance: {balance}."
        ),
        button=_OPEN,
        example=_AMOUNT,
    ),
    "payout_made": Kind(
        subject=T("Paid out to you: {amount}"),
        text=T(
            "We have paid you {amount}.\n\n{note}\n\nOn your balance: {balance}. If the money has not arrived within three "
            "working days, write to us."
        ),
        telegram=T("💸 We have paid you {amount}. On your balance: {balance}.\n\n{note}"),
        button=_OPEN,
        example=(*_AMOUNT, ("note", "8600 **** 1234")),
    ),
    "payout_undone": Kind(
        subject=T("The payout of {amount} was taken back"),
        text=T(
            "The payout of {amount} had been noted by mistake and was taken back.\n\n{note}\n\n"
            "The amount is on your balance again: {balance}."
        ),
        telegram=T(
            "↩️ The payout of {amount} had been noted by mistake and was taken back. On your balance: {balance}.\n\n{note}"
        ),
        button=_OPEN,
        example=(*_AMOUNT, ("note", T("The transfer has not arrived."))),
    ),
}
