"""What is expected to go wrong is told to the person in their language; the rest is the inbox's business (try again)."""

from __future__ import annotations

import structlog
from aiogram.exceptions import TelegramBadRequest, TelegramForbiddenError

from handlers import bots
from handlers.talk import Talk
from services.errors import AppError, NotFound, Unavailable

log = structlog.get_logger(__name__)

_HARMLESS = (
    "message is not modified",
    "message to delete not found",
    "message to edit not found",
    "query is too old",
    "message can't be",
)
_GONE = ("chat not found", "peer_id_invalid")


async def handled(error: Exception, talk: Talk) -> bool:
    """Tell the person what went wrong. Returns False for what must be tried again or looked at."""
    if isinstance(error, AppError) and not isinstance(error, Unavailable):
        try:
            await _tell(error, talk)
        except (TelegramBadRequest, TelegramForbiddenError) as second:
            return _unimportant(second)
        return True
    if isinstance(error, TelegramBadRequest | TelegramForbiddenError):
        if _unimportant(error):
            return True
        # A request of ours is wrong; the same request again would be as wrong.
        log.error("request_refused", method=type(error.method).__name__, reason=error.message[:200])
        try:
            await talk.say(AppError.default.render(talk.user.language))
        except (TelegramBadRequest, TelegramForbiddenError) as second:
            return _unimportant(second)
        return True
    return False


async def _tell(error: AppError, talk: Talk) -> None:
    log.info("refused", code=error.code)
    if isinstance(error, NotFound):
        await old_menu(talk)
        return
    text = error.text.render(talk.user.language)
    if not await talk.toast(text, alert=True):
        await talk.say("⚠️ " + text)


async def old_menu(talk: Talk) -> None:
    """Say that a button leads nowhere (any more), in the same words for what is gone and what is another's."""
    _ = talk.gettext
    text = _("This menu is out of date or is not yours. Here is a fresh one.")
    if await talk.toast(text, alert=True):
        await talk.drop_buttons()
    screen = await bots.list_page(talk.core, talk.user, _)
    await talk.send(screen.text, screen.keyboard)


def _unimportant(error: TelegramBadRequest | TelegramForbiddenError) -> bool:
    reason = error.message.lower()
    if isinstance(error, TelegramForbiddenError) or any(part in reason for part in _GONE):
        log.info("person_unreachable", reason=reason[:80])
        return True
    return any(part in reason for part in _HARMLESS)
