"""``/panel`` and ``/admin``: a link that signs in once."""

from __future__ import annotations

from urllib.parse import quote

from aiogram import F, Router
from aiogram.dispatcher.event.bases import SkipHandler
from aiogram.filters import Command
from aiogram.types import CallbackQuery, Message

from handlers import keyboards
from handlers.callbacks import Menu
from handlers.talk import Talk, bold
from services import accounts, notices

router = Router(name="panel")


@router.message(Command("panel"))
async def command(message: Message, talk: Talk) -> None:
    """``/panel``."""
    await send_link(talk)


@router.message(Command("admin"))
async def administration(message: Message, talk: Talk) -> None:
    """``/admin``: the administrator's pages; for everybody else there is no such command."""
    if not talk.user.is_admin:
        raise SkipHandler
    await send_link(talk, "/admin")


@router.callback_query(Menu.filter(F.to == "panel"))
async def pressed(callback: CallbackQuery, talk: Talk) -> None:
    """The button of the menu."""
    await talk.toast()
    await send_link(talk)


async def send_link(talk: Talk, page: str = "") -> None:
    """Send a link that signs this person in once and goes on to ``page``."""
    _ = talk.gettext
    async with talk.core.db.write() as session:
        token = await accounts.login_link(session, talk.user)
    url = f"{talk.core.settings.public_url}/login/link?token={token}"
    if page:
        url += f"&next={quote(page, safe='/')}"
    open_it = keyboards.link("🖥 " + _("Open the panel"), url)
    await talk.say(
        bold(_("Your panel")),
        _("The link signs you in once and works for 10 minutes. Do not share it with anyone."),
        # Telegram takes no button for an address like http://localhost:8080.
        "" if open_it else url,
        _("The link opens only on the computer where the program runs.") if notices.opens_only_here(url) else "",
        keyboard=keyboards.inline([open_it]) if open_it else None,
    )
