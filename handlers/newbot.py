"""Making a bot: by Telegram's own dialog where the factory bot may manage bots, else with a token from BotFather.

A token is understood at any time. Every step may be repeated: what exists already is found by the Telegram bot's number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from aiogram import F, Router
from aiogram.exceptions import TelegramAPIError
from aiogram.filters import Command
from aiogram.types import CallbackQuery, ManagedBotUpdated, Message
from aiogram.types import User as Account

from db import models
from handlers import bots as bots_menu
from handlers import files, keyboards
from handlers.callbacks import BotMenu, Menu
from handlers.filters import WRITTEN, has_token
from handlers.states import NewBot, go_to, leave, note_told, was_told
from handlers.talk import Talk, bold, lines
from services import bots
from services.channels.base import TokenRefused
from services.errors import Conflict, Permanent, Temporary
from services.i18n import T, Translator
from services.text import one_line

tokens = Router(name="tokens")
"""Asked before all others: a token is nothing else in any dialog, and must not stay in the chat."""
router = Router(name="newbot")
log = structlog.get_logger(__name__)


async def can_manage(talk: Talk) -> bool:
    """Whether the factory bot may make bots for people now: the right is switched in BotFather at any time."""
    try:
        return bool((await talk.bot.get_me()).can_manage_bots)
    except (TelegramAPIError, Temporary):
        return False


async def begin(talk: Talk) -> None:
    """Start making a bot; a reached limit is said before anything is asked."""
    _ = talk.gettext
    async with talk.core.db.read() as session:
        own = await bots.list_for(session, talk.user)
    most = talk.core.settings.limits.bots_per_owner
    if len(own) >= most and not talk.user.is_admin:
        raise Conflict(T("You already have {n} bots, which is the limit.", n=most), code="limit")
    async with talk.core.db.read() as session:
        await talk.core.allowances.room_for_bot(session, talk.user, hold=False)
    if await can_manage(talk):
        go_to(talk.dialog, NewBot.managed)
        await talk.say(
            bold(_("Let’s create your bot.")),
            _("Press the button below: Telegram will ask for a name and create the bot."),
            _("Already have a bot? Send me its token from BotFather."),
            keyboard=keyboards.managed(_),
        )
        return
    go_to(talk.dialog, NewBot.name)
    await talk.say(
        bold(_("Let’s create your bot.")),
        _("What is your business called? The bot will have this name. Example: Chinor Stom"),
        keyboard=keyboards.NO_KEYS,
    )


@router.message(Command("newbot"))
async def command(message: Message, talk: Talk) -> None:
    """``/newbot``."""
    await begin(talk)


@router.callback_query(Menu.filter(F.to == "new"))
async def pressed(callback: CallbackQuery, talk: Talk) -> None:
    """The button of the menus."""
    await talk.toast()
    await begin(talk)


@tokens.message(has_token)
async def token_sent(message: Message, token: str, talk: Talk, _: Translator) -> None:
    """Connect the bot of a token; the message that holds it is deleted first, the stored update is enough to repeat."""
    await talk.delete(message.message_id)
    if token.partition(":")[0] == str(talk.bot.id):
        await talk.say("⚠️ " + _("This is my own token, not your bot’s. Create a bot in BotFather and send its token."))
        return
    try:
        identity = await talk.core.telegram.get_me(token)
    except TokenRefused:
        await talk.say(
            "⚠️ " + _("Telegram does not accept this token."),
            _("Copy the whole token from BotFather and send it again. I have deleted your message for safety."),
        )
        return
    except (Temporary, Permanent) as error:
        log.warning("token_not_checked", reason=type(error).__name__)
        await talk.say(
            "⚠️ " + _("Telegram did not answer, so the token could not be checked. Please send it again in a minute.")
        )
        return
    data = talk.dialog.data if talk.dialog.state == NewBot.token.state else {}
    await connect(talk, identity, token, name=str(data.get("name") or ""), bot_id=data.get("bot"))


@router.message(NewBot.name, WRITTEN)
async def name_sent(message: Message, talk: Talk, _: Translator) -> None:
    """Keep the name and ask for the token."""
    most = talk.core.settings.limits.name_chars
    name = one_line(message.text or "", most + 1)
    if not name:
        await talk.say("⚠️ " + _("Give the bot a name."))
        return
    if len(name) > most:
        await talk.say("⚠️ " + _("The name may have at most {n} characters.", n=most), _("Send a shorter one."))
        return
    await ask_token(talk, name=name)


async def ask_token(talk: Talk, *, name: str = "", bot: models.Bot | None = None, username: str = "") -> None:
    """Ask for the token of a new bot called ``name``, or of the Telegram account for ``bot``.

    ``username``: the account is connected already, only its token is renewed.
    """
    _ = talk.gettext
    go_to(talk.dialog, NewBot.token, name=name, bot=bot.id if bot else None)
    title = _("“{name}”: now let’s connect Telegram", name=bot.name if bot else name)
    first = _("1. Open @BotFather and send it /newbot.")
    second = _("2. Give the bot a name and a username that ends in “bot”.")
    if username:
        title = _("A new token for @{username}", username=username)
        first = _("1. Open @BotFather and send it /token, or /revoke if someone else may have seen the old token.")
        second = _("2. Choose @{username}.", username=username)
    await talk.say(
        bold(title),
        lines(first, second, _("3. Forward its reply, the message with the token, to me.")),
        _("The token looks like this: 123456789:AAE… I will delete your message right away."),
        keyboard=keyboards.inline([keyboards.link(_("Open BotFather"), "https://t.me/BotFather")]),
    )


@router.message(NewBot.token, WRITTEN)
async def no_token(message: Message, talk: Talk, _: Translator) -> None:
    """A text without a token where one is expected."""
    await talk.say(
        _("There is no token in this message."),
        _("It looks like this: 123456789:AAE… Forward BotFather’s message to me, or /cancel."),
    )


@router.message(NewBot.managed, WRITTEN)
async def no_dialog(message: Message, talk: Talk, _: Translator) -> None:
    """A text where Telegram's dialog is expected."""
    await talk.say(
        _("Press the button below to create the bot, or send the token of a bot you already have."),
        keyboard=keyboards.managed(_),
    )


@router.managed_bot()
async def managed_update(event: ManagedBotUpdated, talk: Talk) -> None:
    """A managed bot was made, or its owner or token changed."""
    await _connect_managed(talk, event.bot_user, changed=True)


@router.message(F.managed_bot_created)
async def managed_message(message: Message, talk: Talk) -> None:
    """The message about a new managed bot: the twin of the update, either may come first."""
    if message.managed_bot_created is not None:
        await _connect_managed(talk, message.managed_bot_created.bot_user, changed=False)


async def _connect_managed(talk: Talk, account: Account, *, changed: bool) -> None:
    told = was_told(talk.dialog, f"connected:{account.id}")
    if told and not changed:
        return
    token = await talk.bot.get_managed_bot_token(user_id=account.id)
    identity = await talk.core.telegram.get_me(token)
    if not told:
        await connect(talk, identity, token)
        return
    # The token may be a new one; the person knows already that the bot works.
    core = talk.core
    async with core.db.write() as session:
        bot, _channel = await bots.own_connection(session, talk.user, "telegram", str(account.id))
        if bot is not None:
            await bots.connect_telegram(
                session,
                bot,
                identity=identity,
                token=token,
                crypto=core.crypto,
                actor=talk.user,
                plan=core.allowances,
            )
    core.bell.ring("channels")


async def connect(
    talk: Talk, identity: Mapping[str, Any], token: str, *, name: str = "", bot_id: str | None = None
) -> None:
    """Connect a Telegram account to the bot it has here, to ``bot_id``, or to a new bot; then say what comes next.

    Raises ``Conflict`` when another bot has that account, or the person has as many bots as they may have.
    """
    _ = talk.gettext
    core, number = talk.core, int(identity["id"])
    limits = core.settings.limits
    async with core.db.read() as session:
        _bot, known = await bots.own_connection(session, talk.user, "telegram", str(number))
    # Connected by this very update, whose answer was lost, is as new; connected otherwise, the token is only renewed.
    renewed = not await talk.dialog.first("new", known is None)
    async with core.db.write() as session:
        bot, _known = await bots.own_connection(session, talk.user, "telegram", str(number))
        if bot is None and bot_id is not None:
            bot = await bots.get(session, talk.user, bot_id)
        if bot is None:
            title = name or str(identity.get("first_name") or identity.get("username") or "")
            title = one_line(title, limits.name_chars)
            bot = await bots.create(session, talk.user, title, limits=limits, plan=core.allowances)
        channel = await bots.connect_telegram(
            session,
            bot,
            identity=identity,
            token=token,
            crypto=core.crypto,
            actor=talk.user,
            plan=core.allowances,
        )
    core.bell.ring("channels")
    leave(talk.dialog)
    about = {"name": bot.name, "username": channel.username}
    if renewed or bot.status != "active":
        text = _("@{username} is connected to “{name}”, but the bot is stopped: press Start.", **about)
        if renewed:
            text = _("@{username} was already connected to “{name}”; its token has been updated.", **about)
        kept_name = _(
            "The name “{given}” was not used: this Telegram bot belongs to “{name}”, which keeps its name. You can rename it "
            "in the panel: /panel",
            given=name,
            name=bot.name,
        )
        await talk.say("✅ " + text, kept_name if name and name != bot.name else "", keyboard=keyboards.NO_KEYS)
        await talk.show(await bots_menu.menu_page(talk, bot.id))
    else:
        text = _("@{username} is connected and working: it is now “{name}”.", **about)
        await talk.say("🎉 " + text, keyboard=keyboards.NO_KEYS)
        await talk.say(
            _(
                "Now send me a price list, answers to frequent questions or any other document: the bot will answer from it."
            ),
            _("I read PDF, Word (.docx), CSV and text files."),
            keyboard=keyboards.next_steps(_, bot, channel.username),
        )
    note_told(talk.dialog, f"connected:{number}")
    await files.take_waiting(talk, bot)


@router.callback_query(BotMenu.filter(F.do.in_({"link", "token"})))
async def link(callback: CallbackQuery, callback_data: BotMenu, talk: Talk) -> None:
    """Connect a bot that has no Telegram account yet, or renew the token of the one it has."""
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        telegram = bots.of_kind(await bots.channels(session, bot), "telegram")
    await talk.toast()
    await ask_token(talk, bot=bot, username=telegram.username if telegram else "")
