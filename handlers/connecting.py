"""``/channels``: connecting a channel value by value, looking at it, sharing the bot. No secret stays in the chat."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiogram import F, Router
from aiogram.filters import Command
from aiogram.types import BufferedInputFile, CallbackQuery, Message
from markupsafe import Markup

from db import models
from handlers import bots as bots_menu
from handlers import keyboards
from handlers.callbacks import BotMenu, Connect, Cut
from handlers.filters import WRITTEN
from handlers.keyboards import button
from handlers.states import Connecting, go_to, leave
from handlers.talk import Page, Talk, bold, html, lines, page, sure
from services import bots, connecting, health, notices, qr
from services.connecting import Field, Guide
from services.crypto import Undecryptable
from services.errors import Invalid, NotFound, TooMany, Unavailable
from services.i18n import Translator

router = Router(name="connecting")

_TRIES_IN_15_MIN = 20
_CHECKS_A_MINUTE = 6


def _code(text: str) -> Markup:
    """Return ``text`` escaped, to be copied by a tap."""
    return Markup("<code>{}</code>").format(text)


@router.message(Command("channels"))
async def command(message: Message, talk: Talk, _: Translator) -> None:
    """``/channels``: of the only bot, or of which."""
    async with talk.core.db.read() as session:
        own = await bots.list_for(session, talk.user)
    if len(own) == 1:
        await talk.show(await bots_menu.channels_page(talk, own[0].id))
        return
    await talk.show(await bots_menu.list_page(talk.core, talk.user, _, do="channels"))


def _guide(kind: str) -> Guide:
    """Return how a kind is connected; raises ``NotFound`` for a kind of another version."""
    found = connecting.GUIDES.get(kind)
    if found is None:
        raise NotFound
    return found


async def _found(talk: Talk, bot_id: str, kind: str) -> tuple[models.Bot, models.Channel | None]:
    """Return the person's bot and its channel of a kind; raises ``NotFound`` for another's."""
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, bot_id)
        return bot, bots.of_kind(await bots.channels(session, bot), kind)


# One channel


async def channel_page(talk: Talk, bot_id: str, kind: str) -> Page:
    """Return how a channel is and what can be done with it; the list of channels where it is not connected (any more)."""
    _, guide = talk.gettext, _guide(kind)
    bot, channel = await _found(talk, bot_id, kind)
    if channel is None:
        return await bots_menu.channels_page(talk, bot_id)
    trouble = bots_menu.instagram_trouble(channel, _)
    if kind == "whatsapp":
        trouble = bots_menu.whatsapp_trouble(channel, _)
    return page(
        bold(f"{guide.title}: {channel.title or channel.username}"),
        lines(
            channel.username if channel.title else "",
            "⚠️ " + trouble if trouble else "🟢 " + _("Connected"),
            *bots_menu.health_lines(channel, _),
        ),
        *_to_enter(talk, guide, channel),
        keyboard=keyboards.inline(
            [button("🔄 " + _("Check now"), Connect(do="check", bot=bot.id, kind=kind))],
            [
                button("🔑 " + _("Enter anew"), Connect(do="begin", bot=bot.id, kind=kind)),
                button("✂️ " + _("Disconnect"), Connect(do="cut", bot=bot.id, kind=kind), style="danger"),
            ],
            keyboards.back(_, BotMenu(do="channels", bot=bot.id)),
        ),
    )


def _to_enter(talk: Talk, guide: Guide, channel: models.Channel) -> list[str]:
    """Return what has to be entered with the network once the channel is connected."""
    _, core = talk.gettext, talk.core
    if not connecting.needs_setting_up(channel, core):
        return []
    address = health.webhook_address(core, channel)
    only_here = _(
        "Meta cannot reach this address: the program needs a public https address (public_url in config.toml)."
    )
    return [
        lines(_("Callback URL"), _code(address), "⚠️ " + only_here if notices.opens_only_here(address) else ""),
        lines(_("Verify token"), _code(channel.secret)),
        lines(*(f"{number}. {_(step.msgid)}" for number, step in enumerate(guide.after, 1))),
    ]


@router.callback_query(Connect.filter(F.do == "one"))
async def show(callback: CallbackQuery, callback_data: Connect, talk: Talk) -> None:
    """One channel."""
    leave(talk.dialog)
    await talk.show(await channel_page(talk, callback_data.bot, callback_data.kind))


@router.callback_query(Connect.filter(F.do == "check"))
async def check(callback: CallbackQuery, callback_data: Connect, talk: Talk, _: Translator) -> None:
    """Ask the network how a channel is, and show it."""
    core, kind = talk.core, callback_data.kind
    bot, channel = await _found(talk, callback_data.bot, kind)
    if channel is not None:
        if not await core.limits.hit(f"check:{channel.id}", _CHECKS_A_MINUTE, 60):
            raise TooMany(retry_after_s=60)
        try:
            await health.ask(core, channel)
        except Unavailable as error:
            # Said here and now: nobody would know to what a later try belongs.
            await talk.toast(error.text.render(talk.user.language), alert=True)
        else:
            await talk.toast(_("Checked."))
    if kind in connecting.GUIDES:
        await talk.show(await channel_page(talk, bot.id, kind))
    else:
        await talk.show(await bots_menu.channels_page(talk, bot.id))


@router.callback_query(Connect.filter(F.do == "cut"))
async def ask_disconnect(callback: CallbackQuery, callback_data: Connect, talk: Talk, _: Translator) -> None:
    """Ask before disconnecting; a channel that is gone already is only shown so."""
    kind = callback_data.kind
    guide = _guide(kind)
    bot, channel = await _found(talk, callback_data.bot, kind)
    if channel is None:
        await talk.show(await bots_menu.channels_page(talk, bot.id))
        return
    await talk.show(
        sure(
            _,
            _("Disconnect {channel}: {name}?", channel=guide.title, name=channel.username or channel.title),
            _("Customers there will get no more answers. You can still read the conversations."),
            "✂️ " + _("Yes, disconnect"),
            Cut(bot=bot.id, channel=channel.id),
            Connect(do="one", bot=bot.id, kind=kind),
        )
    )


@router.callback_query(Cut.filter())
async def disconnect(callback: CallbackQuery, callback_data: Cut, talk: Talk, _: Translator) -> None:
    """Disconnect the channel that was asked about; where it is gone by now, only show so."""
    core = talk.core
    async with core.db.write() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        there = {each.id for each in await bots.channels(session, bot)}
        if callback_data.channel in there:
            await bots.disconnect(session, bot, callback_data.channel, actor=talk.user)
    if callback_data.channel in there:
        core.cards.clear()
        core.bell.ring("channels")
        core.bell.ring("jobs")
        await talk.toast(_("Disconnected. You can still read the conversations."))
    await talk.show(await bots_menu.channels_page(talk, bot.id))


@router.callback_query(Connect.filter(F.do == "share"))
async def share(callback: CallbackQuery, callback_data: Connect, talk: Talk, _: Translator) -> None:
    """Send the bot's QR code, to show and to print, with the link that it holds."""
    core = talk.core
    async with core.db.read() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        telegram = bots.of_kind(await bots.channels(session, bot), "telegram")
    address = f"{core.settings.public_url}/chat/{bot.public_id}"
    if telegram is not None and telegram.username:
        address = keyboards.telegram_link(telegram.username)
    caption = html(
        bold(_("QR code of “{name}”", name=bot.name)),
        address,
        _("Print it for the door and the counter, or send it to customers: it opens the bot."),
    )
    await talk.toast()
    picture = await asyncio.to_thread(qr.png, address)

    async def send() -> int | None:
        sent = await talk.bot.send_photo(
            talk.chat_id, BufferedInputFile(picture, "bot-qr.png"), caption=caption, parse_mode="HTML"
        )
        return sent.message_id

    await talk.dialog.once(caption, send)


# The dialog


@router.callback_query(Connect.filter(F.do == "begin"))
async def begin(callback: CallbackQuery, callback_data: Connect, talk: Talk, _: Translator) -> None:
    """Start connecting: what to do at the network first, then the first value."""
    guide = _guide(callback_data.kind)
    bot, _channel = await _found(talk, callback_data.bot, guide.kind)
    _keep(talk, bot.id, guide, {})
    await talk.toast()
    await talk.say(
        bold(_("“{name}”: connecting {channel}", name=bot.name, channel=guide.title)),
        lines(*(f"{number}. {_(step.msgid)}" for number, step in enumerate(guide.before, 1))),
        _("Then send me what Meta shows, one thing at a time. /cancel stops at any moment."),
        keyboard=keyboards.inline([keyboards.link(guide.site_name, guide.site)]),
    )
    await _ask(talk, bot.id, guide, guide.fields[0])


def _keep(talk: Talk, bot_id: str, guide: Guide, values: dict[str, str]) -> None:
    """Wait for the next value; what was entered is kept encrypted."""
    go_to(
        talk.dialog,
        Connecting.value,
        bot=bot_id,
        kind=guide.kind,
        kept=talk.core.crypto.encrypt({"values": json.dumps(values)}),
    )


def _kept(talk: Talk) -> dict[str, str]:
    """Return what was entered so far; nothing where it was encrypted with a key that is gone."""
    try:
        found: dict[str, str] = json.loads(str(talk.core.crypto.decrypt(str(talk.dialog.data.get("kept")))["values"]))
    except (Undecryptable, KeyError, ValueError):
        return {}
    return found


async def _ask(talk: Talk, bot_id: str, guide: Guide, field: Field) -> None:
    _ = talk.gettext
    number = guide.fields.index(field) + 1
    skip = None
    if field.optional(guide.kind, talk.core.settings):
        label = _(field.skip.msgid) if field.skip else _("The token is of this service’s app")
        skip = button("⏭ " + label, Connect(do=f"skip{number}", bot=bot_id, kind=guide.kind))
    await talk.say(
        bold(_("Step {n} of {all}: {what}", n=number, all=len(guide.fields), what=_(field.label.msgid))),
        _("Where to find it: {where}", where=_(field.where.msgid)),
        lines(_("It looks like this:"), _code(field.example)),
        _("I will delete your message right away.") if field.secret else "",
        keyboard=keyboards.inline([skip]) if skip else None,
    )


def _next(guide: Guide, values: dict[str, str]) -> Field | None:
    return next((field for field in guide.fields if field.name not in values), None)


@router.message(Connecting.value, WRITTEN)
async def value_sent(message: Message, talk: Talk) -> None:
    """Take the value that was asked for; a message that holds a secret is deleted first."""
    guide = _guide(str(talk.dialog.data.get("kind")))
    field = _next(guide, _kept(talk)) or guide.fields[-1]
    if field.secret:
        await talk.delete(message.message_id)
    await _take(talk, guide, field, message.text or "")


@router.callback_query(Connect.filter(F.do.startswith("skip")))
async def skip(callback: CallbackQuery, callback_data: Connect, talk: Talk) -> None:
    """Leave a value out that is not needed; a button of another step or dialog, or of one that is over, does nothing."""
    waiting: dict[str, Any] = talk.dialog.data if talk.dialog.state == Connecting.value.state else {}
    guide = _guide(callback_data.kind)
    field = _next(guide, _kept(talk)) if waiting else None
    here = (waiting.get("bot"), waiting.get("kind")) == (callback_data.bot, guide.kind)
    here = here and field is not None and callback_data.do in ("skip", f"skip{guide.fields.index(field) + 1}")
    if field is None or not here or not field.optional(guide.kind, talk.core.settings):
        raise NotFound
    await talk.toast()
    await talk.drop_buttons()
    await _take(talk, guide, field, "")


async def _take(talk: Talk, guide: Guide, field: Field, text: str) -> None:
    """Check a value at once, ask for the next one, or connect with all of them."""
    _, core = talk.gettext, talk.core
    bot_id, values = str(talk.dialog.data.get("bot")), _kept(talk)
    if not await core.limits.hit(f"connect:{talk.user.id}", _TRIES_IN_15_MIN, 900):
        raise TooMany(retry_after_s=900)
    try:
        values[field.name] = connecting.checked(guide, field, text, core.settings)
        shown = await field.probe(core, values) if field.probe is not None else ""
        following = _next(guide, values)
        if following is None:
            channel = await connecting.connect(core, talk.user, bot_id, guide.kind, values)
    except Invalid as error:
        await _again(talk, bot_id, guide, values, field, error)
        return
    except Unavailable as error:
        await talk.say("⚠️ " + error.text.render(talk.user.language), _("Send it once more then, or /cancel."))
        return
    if following is not None:
        _keep(talk, bot_id, guide, values)
        await talk.say("✅ " + (shown or _("Looks right.")))
        await _ask(talk, bot_id, guide, following)
        return
    leave(talk.dialog)
    await talk.say(
        "🎉 " + _("{channel} is connected: {name}.", channel=guide.title, name=channel.username or channel.title),
        *_last_steps(talk, guide, channel),
        keyboard=keyboards.inline(
            [button("🔄 " + _("Check now"), Connect(do="check", bot=bot_id, kind=guide.kind))],
            [button("🔗 " + _("Channels"), BotMenu(do="channels", bot=bot_id))],
        ),
    )


def _last_steps(talk: Talk, guide: Guide, channel: models.Channel) -> list[str]:
    _ = talk.gettext
    entering = _to_enter(talk, guide, channel)
    if not entering:
        return [_("There is nothing left to enter at Meta: messages come through this service’s own app.")]
    return [_("One thing is left, at Meta. Tap to copy:"), *entering]


async def _again(talk: Talk, bot_id: str, guide: Guide, values: dict[str, str], field: Field, error: Invalid) -> None:
    """Say what is wrong and ask for it again: the value just sent, or an earlier one that turned out to be wrong."""
    names = [each.name for each in guide.fields]
    wrong = names.index(error.field) if error.field in names else names.index(field.name)
    _keep(talk, bot_id, guide, {name: values[name] for name in names[:wrong] if name in values})
    await talk.say("⚠️ " + error.text.render(talk.user.language))
    await _ask(talk, bot_id, guide, guide.fields[wrong])
