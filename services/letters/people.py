"""Letters of administrators to one owner: about being shut out, about looking at the panel, and in their own words."""

from __future__ import annotations

from collections.abc import Mapping

from services.i18n import T
from services.letters.base import Kind

_REASON = (("reason", T("Customers complained about messages they had not asked for.")),)
_VIEW = (
    ("administrator", "Jasur"),
    ("reason", T("You asked why the bot does not answer.")),
)

KINDS: Mapping[str, Kind] = {
    "banned": Kind(
        subject=T("Your account is blocked"),
        text=T(
            "Your account was blocked by the administrator.\n\nReason: {reason}\n\nYour bots do not answer, and you cannot sign "
            "in. Nothing was deleted. If you think this is a mistake, answer this letter."
        ),
        telegram=T(
            "⛔ Your account was blocked by the administrator.\n\nReason: {reason}\n\nYour bots do not answer. Nothing was "
            "deleted."
        ),
        example=_REASON,
    ),
    "unbanned": Kind(
        subject=T("Your account works again"),
        text=T("Your account is not blocked any more. You can sign in, and your bots answer as before."),
        telegram=T("✅ Your account is not blocked any more. Your bots answer as before."),
        button=T("Open the panel"),
    ),
    "from_administrator": Kind(
        subject=T("A message from the administrator"),
        text=T("The administrator writes to you:\n\n{message}"),
        telegram=T("✉️ The administrator writes to you:\n\n{message}"),
        button=T("Open the panel"),
        example=(("message", T("From tomorrow on WhatsApp asks for a new confirmation of the number.")),),
    ),
    "view_asked": Kind(
        subject=T("The administrator asks to change something in your panel"),
        text=T(
            "{administrator} is looking at your panel and asks whether they may change something there for you.\n\n"
            "Reason: {reason}\n\nThey cannot change anything before you agree, never see passwords and keys, and you can end it "
            "at any time."
        ),
        button=T("Agree or refuse"),
        example=_VIEW,
    ),
}
