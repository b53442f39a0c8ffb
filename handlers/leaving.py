"""``/delete_account``: the same as in the panel, for whoever has only Telegram."""

from __future__ import annotations

from aiogram import F, Router
from aiogram.filters import Command
from aiogram.types import CallbackQuery, Message

from handlers import keyboards
from handlers.callbacks import Menu
from handlers.talk import Page, Talk, bold, page, sure
from services import accounts, leaving
from services.bell import session_topic
from services.days import TASHKENT
from services.i18n import Translator

router = Router(name="leaving")


@router.message(Command("delete_account"))
async def command(message: Message, talk: Talk, _: Translator) -> None:
    """Ask before, or offer to take it back."""
    if talk.user.delete_at is not None:
        await talk.show(keep_page(talk))
        return
    text = _(
        "Your bots stop at once. For {n} days you can take it back; then bots, documents, conversations and customers go for "
        "good. In the panel you can download everything before: /panel",
        n=leaving.WITHIN.days,
    )
    yes = "🗑 " + _("Delete my account")
    await talk.show(sure(_, _("Delete the account?"), text, yes, Menu(to="leave"), Menu(to="close")))


def keep_page(talk: Talk) -> Page:
    """Return what is said while an account waits to be deleted: when, and the way back."""
    _ = talk.gettext
    at = talk.user.delete_at
    day = f"{at.astimezone(TASHKENT):%d.%m.%Y}" if at else "—"
    return page(
        bold(_("This account will be deleted on {day}.", day=day)),
        _("Until then your bots rest and nothing is lost."),
        keyboard=keyboards.inline([keyboards.button("✅ " + _("Keep my account"), Menu(to="stay"), style="success")]),
    )


@router.callback_query(Menu.filter(F.to == "leave"))
async def ask(callback: CallbackQuery, talk: Talk) -> None:
    """Have the account deleted; the panel's sessions end."""
    async with talk.core.db.write() as session:
        ended = await leaving.ask(session, talk.user, now=talk.core.now())
    for topic in ("letters", "channels", *map(session_topic, ended)):
        talk.core.bell.ring(topic)
    await _again(talk)
    await talk.show(keep_page(talk))


@router.callback_query(Menu.filter(F.to == "stay"))
async def keep(callback: CallbackQuery, talk: Talk, _: Translator) -> None:
    """Take it back."""
    async with talk.core.db.write() as session:
        await leaving.keep(session, talk.user)
    talk.core.bell.ring("channels")
    await talk.show(page("✅ " + _("Your account stays. The bots that answered before answer again.")))


async def _again(talk: Talk) -> None:
    async with talk.core.db.read() as session:
        talk.user = await accounts.by_id(session, talk.user.id) or talk.user
