"""``/bots``: one menu message for each talk, edited in place. What a button carries is enough to answer it at any time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from aiogram import F, Router
from aiogram.filters import Command
from aiogram.types import CallbackQuery, InlineKeyboardMarkup, Message

from db import models
from handlers import keyboards, team
from handlers.callbacks import BotMenu, Connect, Menu, Period, Turn
from handlers.filters import WRITTEN
from handlers.keyboards import button
from handlers.states import Editing, go_to, leave
from handlers.talk import Page, Talk, bold, lines, page, sure
from services import bots, connecting, health, notices
from services.allowances import Quiet
from services.core import Core
from services.days import TASHKENT
from services.i18n import CATALOGS, LANGUAGE_NAMES, Translator
from services.knowledge import documents

router = Router(name="bots")
_PROMPT_SHOWN = 1500


async def list_page(core: Core, user: models.User, _: Translator, *, do: str = "open", number: int = 0) -> Page:
    """Return the person's bots to choose from; ``do`` is what choosing one does, ``number`` the part of a long list."""
    async with core.db.read() as session:
        own = await bots.list_for(session, user)
        broken = await bots.broken_channels(session, user)
        quiet = await core.allowances.quiet(session, own)
    new = button("➕ " + _("New bot"), Menu(to="new"))
    if not own and (answering := await team.answering_page(core, user, _)) is not None:
        return answering
    if not own:
        return page(
            bold(_("You have no bots yet.")),
            _("It takes two minutes: press the button."),
            keyboard=keyboards.inline([new], [button("✖️ " + _("Close"), Menu(to="close"))]),
        )
    shown, turns = keyboards.part(own, Turn(of=do, number=number))
    rows = [
        [
            button(
                f"{_mark(bot, bot.id in broken, bot.id in quiet and bool(quiet[bot.id].why))} {bot.name}",
                BotMenu(do=do, bot=bot.id),
            )
        ]
        for bot in shown
    ]
    title = _("Your bots") if do == "open" else _("Which bot?")
    close = button("✖️ " + _("Close"), Menu(to="close"))
    return page(bold(title), keyboard=keyboards.inline(*rows, turns, [new], [close]))


def _mark(bot: models.Bot, broken: bool, silent: bool) -> str:
    """Return the sign of a bot's state; ``broken``: a channel of it waits for its owner; ``silent``: its owner's plan says so."""
    if broken:
        return "🔴"
    if silent:
        return "🟡"
    return "🟢" if bot.status == "active" else "⏸"


def trouble_of(channel: models.Channel | None, _: Translator) -> str:
    """Return in words what is wrong with a Telegram connection and what to do; empty where all is well."""
    return {
        "refused": _("Telegram no longer accepts its token: send me a new one from BotFather."),
        "unreadable": _("I can no longer read its token: send it to me again."),
        "conflict": _("Another program is reading its messages: stop that program, then start the bot here."),
    }.get(channel.status if channel else "", "")


def whatsapp_trouble(channel: models.Channel | None, _: Translator) -> str:
    """Return in words what is wrong with a WhatsApp number and what to do; empty where all is well."""
    return {
        "refused": _("WhatsApp no longer accepts its token: enter a new one under “Channels”."),
        "unreadable": _("I can no longer read its token: enter it again under “Channels”."),
        "blocked": _("Meta does not let the number send: see to it in WhatsApp Manager, then start the bot here."),
    }.get(channel.status if channel else "", "")


def health_lines(channel: models.Channel | None, _: Translator) -> list[str]:
    """Return what is known of how a channel is, a line each; none where there is no channel."""
    if channel is None:
        return []
    told = health.known(channel)
    said = []
    if channel.last_update_at is not None:
        said.append(_("Last message: {moment}", moment=_exact(channel.last_update_at)))
    if told.pending:
        said.append(_("Waiting to be delivered: {n}", n=told.pending))
    if told.webhook in ("foreign", "missing"):
        said.append("⚠️ " + _("Messages from customers do not come here: press “Check now”."))
    if told.expires_at is not None:
        said.append("⏳ " + _("The access token ends: {moment}", moment=_exact(told.expires_at)))
    if told.quality == "red":
        said.append("⚠️ " + _("Meta rates the quality of the number as low."))
    if told.trouble is not None and channel.status == "active":
        said.append(_("Last error: {reason}", reason=_(told.trouble.msgid)))
    if told.checked_at is not None:
        said.append(_("Checked: {moment}", moment=_exact(told.checked_at)))
    return said


def _exact(moment: dt.datetime) -> str:
    """Return the time in Tashkent."""
    return f"{moment.astimezone(TASHKENT):%d.%m.%Y %H:%M}"


def instagram_trouble(channel: models.Channel | None, _: Translator) -> str:
    """Return in words what is wrong with an Instagram account and what to do; empty where all is well."""
    return {
        "refused": _("Instagram no longer accepts its token: enter a new one under “Channels”."),
        "unreadable": _("I can no longer read its token: enter it again under “Channels”."),
        "blocked": _("Meta does not let the Instagram account send: see to it there, then start the bot here."),
    }.get(channel.status if channel else "", "")


def _halted(channels: Sequence[models.Channel]) -> bool:
    """Whether a channel stands still until its owner starts it, though no credential of it has to be renewed."""
    return any(each.status in ("conflict", "blocked") for each in channels)


async def menu_page(talk: Talk, bot_id: str) -> Page:
    """Return the menu of one bot; raises ``NotFound`` for another's."""
    _ = talk.gettext
    core = talk.core
    async with core.db.read() as session:
        bot = await bots.get(session, talk.user, bot_id)
        own = bot.owner_id == talk.user.id
        channels = await bots.channels(session, bot)
        count = len(await documents.list_for(session, bot))
        quiet = (await core.allowances.quiet(session, [bot])).get(bot.id, Quiet())
    telegram = bots.of_kind(channels, "telegram")
    running = bot.status == "active"
    trouble = trouble_of(telegram, _) or whatsapp_trouble(bots.of_kind(channels, "whatsapp"), _)
    trouble = trouble or instagram_trouble(bots.of_kind(channels, "instagram"), _)
    state = _("Needs attention") if trouble else _("Working") if running else _("Stopped")
    if quiet.why and not trouble:
        state = _("Silent")
    begin = button("▶️ " + _("Start"), BotMenu(do="start", bot=bot.id))
    toggle = button("⏹ " + _("Stop"), BotMenu(do="stop", bot=bot.id)) if running else begin
    address = f"{core.settings.public_url}/chat/{bot.public_id}"
    if telegram is not None and telegram.username:
        address = keyboards.telegram_link(telegram.username)
    return page(
        bold(bot.name),
        lines(
            f"{_mark(bot, bool(trouble), bool(quiet.why))} {state}",
            f"@{telegram.username}" if telegram else _("Not connected to Telegram"),
            _("Documents: {n}", n=count),
            _("Languages: {languages}", languages=", ".join(LANGUAGE_NAMES[code] for code in bot.languages)),
        ),
        "⚠️ " + trouble if trouble else "",
        *("⏳ " + line.render(talk.user.language) for line in quiet.lines),
        keyboard=keyboards.inline(
            [button("💳 " + _("Plans"), Menu(to="plan")) if own and quiet.lines else None],
            # What was stopped from outside is started here, though the bot itself never stopped.
            [begin if running and _halted(channels) else None],
            [toggle, keyboards.link("💬 " + _("Try it"), address)],
            [
                button("📚 " + _("Knowledge"), BotMenu(do="docs", bot=bot.id)),
                button("📊 " + _("Statistics"), Period(bot=bot.id, days=7)),
            ],
            [
                button("✍️ " + _("Instructions"), BotMenu(do="prompt", bot=bot.id)),
                button("🌐 " + _("Languages"), BotMenu(do="langs", bot=bot.id)),
            ],
            [button("🔗 " + _("Channels"), BotMenu(do="channels", bot=bot.id))],
            [button("🗑 " + _("Delete"), BotMenu(do="delete", bot=bot.id), style="danger") if own else None],
            keyboards.back(_, Menu(to="bots")),
        ),
    )


@router.message(Command("bots"))
async def command(message: Message, talk: Talk, _: Translator) -> None:
    """``/bots``."""
    screen = await list_page(talk.core, talk.user, _)
    await talk.show(screen)


@router.callback_query(Menu.filter(F.to == "bots"))
async def show_list(callback: CallbackQuery, talk: Talk, _: Translator) -> None:
    """Back to the list."""
    leave(talk.dialog)
    await talk.show(await list_page(talk.core, talk.user, _))


@router.callback_query(Turn.filter(F.of.in_({"open", "docs", "channels"})))
async def turn_list(callback: CallbackQuery, callback_data: Turn, talk: Talk, _: Translator) -> None:
    """Another part of a long list of bots."""
    await talk.show(await list_page(talk.core, talk.user, _, do=callback_data.of, number=callback_data.number))


@router.callback_query(Menu.filter(F.to == "close"))
async def close(callback: CallbackQuery, talk: Talk) -> None:
    """Put the menu away: the text stays, the buttons go."""
    await talk.toast()
    leave(talk.dialog)
    await talk.drop_buttons()


@router.callback_query(BotMenu.filter(F.do == "open"))
async def open_menu(callback: CallbackQuery, callback_data: BotMenu, talk: Talk) -> None:
    """One bot's menu; also the way back from a question, which is dropped."""
    screen = await menu_page(talk, callback_data.bot)
    leave(talk.dialog)
    await talk.show(screen)


@router.callback_query(BotMenu.filter(F.do.in_({"start", "stop"})))
async def toggle(callback: CallbackQuery, callback_data: BotMenu, talk: Talk, _: Translator) -> None:
    """Start or stop; the button says which, so pressing it twice changes nothing."""
    core = talk.core
    async with core.db.write() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        if callback_data.do == "start":
            await bots.start(session, bot)
        else:
            await bots.stop(session, bot)
    core.bell.ring("channels")
    await talk.toast(_("The bot is working.") if callback_data.do == "start" else _("The bot is stopped."))
    await talk.show(await menu_page(talk, callback_data.bot))


# Instructions


@router.callback_query(BotMenu.filter(F.do == "prompt"))
async def ask_prompt(callback: CallbackQuery, callback_data: BotMenu, talk: Talk, _: Translator) -> None:
    """Show the instructions and ask for new ones."""
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
    go_to(talk.dialog, Editing.prompt, bot=bot.id)
    present = bot.system_prompt[:_PROMPT_SHOWN] + ("…" if len(bot.system_prompt) > _PROMPT_SHOWN else "")
    clear = button("🧹 " + _("Remove the instructions"), BotMenu(do="clear", bot=bot.id), style="danger")
    await talk.show(
        page(
            bold(_("Instructions of “{name}”", name=bot.name)),
            present or _("No instructions yet."),
            _(
                "Send new ones as a message, {n} characters at most. Example: Address people politely, always offer to "
                "book a visit.",
                n=talk.core.settings.limits.prompt_chars,
            ),
            keyboard=keyboards.inline(
                [clear if bot.system_prompt else None], keyboards.back(_, BotMenu(do="open", bot=bot.id))
            ),
        )
    )


@router.message(Editing.prompt, WRITTEN)
async def prompt_sent(message: Message, talk: Talk, _: Translator) -> None:
    """Keep the new instructions; one that is too long is refused and asked for again."""
    bot_id = str(talk.dialog.data.get("bot"))
    await _set_prompt(talk, bot_id, message.text or "")
    leave(talk.dialog)
    await talk.say("✅ " + _("Instructions saved. They apply from the next question on."))
    await talk.show(await menu_page(talk, bot_id))


@router.callback_query(BotMenu.filter(F.do == "clear"))
async def clear_prompt(callback: CallbackQuery, callback_data: BotMenu, talk: Talk, _: Translator) -> None:
    """Remove the instructions."""
    await _set_prompt(talk, callback_data.bot, "")
    leave(talk.dialog)
    await talk.toast(_("Instructions removed."))
    await talk.show(await menu_page(talk, callback_data.bot))


async def _set_prompt(talk: Talk, bot_id: str, text: str) -> None:
    async with talk.core.db.write() as session:
        bot = await bots.get(session, talk.user, bot_id)
        await bots.update(session, bot, system_prompt=text, limits=talk.core.settings.limits, actor=talk.user)


# Languages


def _languages_keyboard(_: Translator, bot: models.Bot) -> InlineKeyboardMarkup:
    rows = []
    for code in CATALOGS:
        on = code in bot.languages
        label = f"{'✅' if on else '▫️'} {LANGUAGE_NAMES[code]}"
        rows.append([button(label, BotMenu(do="lang", bot=bot.id, arg=("-" if on else "+") + code))])
    return keyboards.inline(*rows, keyboards.back(_, BotMenu(do="open", bot=bot.id)))


def _languages_page(_: Translator, bot: models.Bot) -> Page:
    return page(
        bold(_("Languages of “{name}”", name=bot.name)),
        _("The bot answers in these languages. If a customer’s language is not known, it starts with the first one."),
        ", ".join(LANGUAGE_NAMES[code] for code in bot.languages),
        keyboard=_languages_keyboard(_, bot),
    )


@router.callback_query(BotMenu.filter(F.do == "langs"))
async def show_languages(callback: CallbackQuery, callback_data: BotMenu, talk: Talk, _: Translator) -> None:
    """The languages of a bot, each to switch."""
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
    await talk.show(_languages_page(_, bot))


@router.callback_query(BotMenu.filter(F.do == "lang"))
async def switch_language(callback: CallbackQuery, callback_data: BotMenu, talk: Talk, _: Translator) -> None:
    """Switch one language on (``+ru``) or off (``-ru``); the last one stays."""
    on, code = callback_data.arg[:1] == "+", callback_data.arg[1:]
    async with talk.core.db.write() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        chosen = [language for language in bot.languages if language != code] + ([code] if on else [])
        if chosen:
            await bots.update(session, bot, languages=chosen, limits=talk.core.settings.limits, actor=talk.user)
    if not chosen:
        await talk.toast(_("Keep at least one language."), alert=True)
        return
    await talk.toast("✅")
    await talk.show(_languages_page(_, bot))


# Channels


async def channels_page(talk: Talk, bot_id: str) -> Page:
    """Return where a bot is reached and how these places are; raises ``NotFound`` for another's."""
    _ = talk.gettext
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, bot_id)
        connected = await bots.channels(session, bot)
    telegram = bots.of_kind(connected, "telegram")
    web = bots.of_kind(connected, "web") is not None
    whatsapp = bots.of_kind(connected, "whatsapp")
    whatsapp_state = whatsapp_trouble(whatsapp, _)
    instagram = bots.of_kind(connected, "instagram")
    instagram_state = instagram_trouble(instagram, _)
    address = f"{talk.core.settings.public_url}/chat/{bot.public_id}"
    trouble = trouble_of(telegram, _)
    guided = []
    for kind, guide in connecting.GUIDES.items():
        known = bots.of_kind(connected, kind) is not None
        title = guide.title if known else _("Connect {channel}", channel=guide.title)
        guided.append(button("🔗 " + title, Connect(do="one" if known else "begin", bot=bot.id, kind=kind)))
    check = None
    if telegram is None:
        state = _("Not connected to Telegram")
        keys = [button("🔗 " + _("Connect to Telegram"), BotMenu(do="link", bot=bot.id))]
    else:
        running = bot.status == "active"
        state = "⚠️ " + trouble if trouble else ("🟢 " + _("Working")) if running else ("⏸ " + _("Stopped"))
        keys = [
            button("🔑 " + _("New token"), BotMenu(do="token", bot=bot.id)),
            button("✂️ " + _("Disconnect"), BotMenu(do="cut", bot=bot.id), style="danger"),
        ]
        check = button("🔄 " + _("Check now"), Connect(do="check", bot=bot.id, kind="telegram"))
    only_here = _(
        "This address opens only on the computer where the program runs. For customers, whoever runs the program sets its "
        "public address: public_url in config.toml."
    )
    again = button("▶️ " + _("Start"), BotMenu(do="start", bot=bot.id))
    page_key = keyboards.link("🌐 " + _("Open the page"), address)
    if not web:
        page_key = button("🌐 " + _("Connect the page"), BotMenu(do="page", bot=bot.id))
    return page(
        bold(_("Channels of “{name}”", name=bot.name)),
        lines(f"Telegram: @{telegram.username}" if telegram else "", state, *health_lines(telegram, _)),
        lines(
            f"WhatsApp: {whatsapp.username}",
            "⚠️ " + whatsapp_state if whatsapp_state else "🟢 " + _("Connected"),
            *health_lines(whatsapp, _),
        )
        if whatsapp
        else "",
        lines(
            f"Instagram: @{instagram.username}",
            "⚠️ " + instagram_state if instagram_state else "🟢 " + _("Connected"),
            *health_lines(instagram, _),
        )
        if instagram
        else "",
        lines(
            _("Web page:"),
            address if web else _("Disconnected: its link does not work."),
            "⚠️ " + only_here if web and notices.opens_only_here(address) else "",
        ),
        keyboard=keyboards.inline(
            keys,
            [check, button("📣 " + _("Share"), Connect(do="share", bot=bot.id, kind="web"))],
            *keyboards.pairs(guided),
            [again if _halted(connected) else None, page_key],
            keyboards.back(_, BotMenu(do="open", bot=bot.id)),
        ),
    )


@router.callback_query(BotMenu.filter(F.do == "channels"))
async def show_channels(callback: CallbackQuery, callback_data: BotMenu, talk: Talk) -> None:
    """The channels of a bot."""
    await talk.show(await channels_page(talk, callback_data.bot))


@router.callback_query(BotMenu.filter(F.do == "page"))
async def open_web_page(callback: CallbackQuery, callback_data: BotMenu, talk: Talk, _: Translator) -> None:
    """Connect the bot's own page again."""
    async with talk.core.db.write() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        await bots.connect_web(session, bot, actor=talk.user, plan=talk.core.allowances)
    talk.core.bell.ring("channels")
    await talk.toast(_("The bot’s page is open again."))
    await talk.show(await channels_page(talk, callback_data.bot))


@router.callback_query(BotMenu.filter(F.do == "cut"))
async def ask_disconnect(callback: CallbackQuery, callback_data: BotMenu, talk: Talk, _: Translator) -> None:
    """Ask before disconnecting Telegram; one that is gone already is only shown so."""
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        telegram = bots.of_kind(await bots.channels(session, bot), "telegram")
    if telegram is None:
        await talk.show(await channels_page(talk, bot.id))
        return
    await talk.show(
        sure(
            _,
            _("Disconnect @{username}?", username=telegram.username),
            _("Customers there will get no more answers. You can still read the conversations."),
            "✂️ " + _("Yes, disconnect"),
            BotMenu(do="off", bot=bot.id, arg=telegram.id),
            BotMenu(do="channels", bot=bot.id),
        )
    )


@router.callback_query(BotMenu.filter(F.do == "off"))
async def disconnect(callback: CallbackQuery, callback_data: BotMenu, talk: Talk, _: Translator) -> None:
    """Disconnect the account that was asked about; where another one is connected by now, or none, only show so."""
    core = talk.core
    async with core.db.write() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        telegram = bots.of_kind(await bots.channels(session, bot), "telegram")
        if telegram is not None and telegram.id != callback_data.arg:
            telegram = None
        if telegram is not None:
            await bots.disconnect(session, bot, telegram.id, actor=talk.user)
    if telegram is not None:
        core.bell.ring("channels")
        core.bell.ring("jobs")
        await talk.toast(_("@{username} is disconnected.", username=telegram.username))
    await talk.show(await channels_page(talk, bot.id))


# Deleting


@router.callback_query(BotMenu.filter(F.do == "delete"))
async def ask_delete(callback: CallbackQuery, callback_data: BotMenu, talk: Talk, _: Translator) -> None:
    """Ask before deleting."""
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, callback_data.bot, "own")
    await talk.show(
        sure(
            _,
            _("Delete “{name}”?", name=bot.name),
            _("Its documents and conversations will be deleted too. This cannot be undone."),
            "🗑 " + _("Yes, delete"),
            BotMenu(do="gone", bot=bot.id),
            BotMenu(do="open", bot=bot.id),
        )
    )


@router.callback_query(BotMenu.filter(F.do == "gone"))
async def delete(callback: CallbackQuery, callback_data: BotMenu, talk: Talk, _: Translator) -> None:
    """Delete the bot."""
    core = talk.core
    async with core.db.write() as session:
        bot = await bots.get(session, talk.user, callback_data.bot, "own")
        await bots.delete(session, bot, actor=talk.user)
    core.bell.ring("channels")
    core.bell.ring("jobs")
    await talk.toast(_("“{name}” was deleted.", name=bot.name))
    await talk.show(await list_page(core, talk.user, _))
