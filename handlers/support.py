"""``/support``: an owner writes to those who run the installation; administrators answer by replying to what they are told."""

from __future__ import annotations

from aiogram import F, Router
from aiogram.dispatcher.event.bases import SkipHandler
from aiogram.filters import Command
from aiogram.types import CallbackQuery, InlineKeyboardButton, Message

from handlers import keyboards
from handlers.callbacks import Menu
from handlers.filters import WRITTEN
from handlers.states import Supporting, go_to, leave
from handlers.talk import Talk, bold
from services import support
from services.errors import Invalid, NotFound, TooMany
from services.i18n import Translator

router = Router(name="support")
_OTHER = F.photo | F.document | F.voice | F.audio | F.video | F.video_note | F.animation | F.sticker | F.location


def _source(message: Message) -> str:
    return f"telegram:{message.chat.id}:{message.message_id}"


@router.message(F.reply_to_message)
async def replied(message: Message, talk: Talk, _: Translator) -> None:
    """An administrator replies to what an owner wrote: that goes to the owner."""
    answered, text = message.reply_to_message, message.text or ""
    if not talk.user.is_admin or answered is None or text.startswith("/"):
        raise SkipHandler
    async with talk.core.db.read() as session:
        owner_id = await support.replied_to(session, talk.user, answered.message_id)
    if owner_id is None:
        raise SkipHandler
    if not text:
        await talk.say("⚠️ " + _("Only text goes to the owner. This was not sent."))
        return
    try:
        async with talk.core.db.write() as session:
            await support.answer(session, talk.user, owner_id, text, source=_source(message), now=talk.core.now())
    except NotFound:
        await talk.say("⚠️ " + _("This account is deleted. Nothing was sent."))
        return
    support.ring(talk.core, owner_id)
    await talk.say("✅ " + _("Your answer goes to the owner."))


@router.message(Supporting.text, F.text.startswith("/"))
@router.callback_query(Supporting.text)
async def went_elsewhere(event: Message | CallbackQuery, talk: Talk) -> None:
    """Whoever turns to something else writes to support no more."""
    leave(talk.dialog)
    raise SkipHandler


@router.message(Command("support"))
async def command(message: Message, talk: Talk) -> None:
    """``/support``."""
    await _begin(talk)


@router.callback_query(Menu.filter(F.to == "support"))
async def pressed(callback: CallbackQuery, talk: Talk) -> None:
    """The same by a button."""
    await talk.toast()
    await _begin(talk)


async def _begin(talk: Talk) -> None:
    _ = talk.gettext
    if talk.user.is_admin:
        await talk.say(
            _("You run this installation: owners write to you. Reply to their messages here, or in the panel: /panel")
        )
        return
    go_to(talk.dialog, Supporting.text)
    await talk.say(
        bold("💬 " + _("Write to support")),
        _(
            "What you write next goes to the people who run this service, and their answers come here. /cancel: stop writing."
        ),
    )


@router.message(Supporting.text, WRITTEN)
async def written(message: Message, talk: Talk, _: Translator) -> None:
    """Pass a line on; the same update once more adds nothing."""
    try:
        async with talk.core.db.write() as session:
            await support.ask(session, talk.user, message.text or "", source=_source(message), now=talk.core.now())
    except (Invalid, TooMany) as error:
        await talk.say("⚠️ " + error.text.render(talk.user.language))
        return
    support.ring(talk.core, talk.user.id)
    await talk.say(
        "✅ " + _("Sent to support. The answer comes here; you can write more. /cancel: stop writing."),
        keyboard=keyboards.inline([_panel_link(talk)]),
    )


def _panel_link(talk: Talk) -> InlineKeyboardButton | None:
    _ = talk.gettext
    return keyboards.link("🖥 " + _("Open in the panel"), f"{talk.core.settings.public_url}/support")


@router.message(Supporting.text, _OTHER)
async def other(message: Message, talk: Talk, _: Translator) -> None:
    """Pictures and recordings are not passed on, and are no bot's documents here either."""
    await talk.say(
        "🙂 " + _("Support reads text only. Please describe in words what you see; for a document send /cancel first.")
    )
