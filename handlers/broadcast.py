"""``/broadcast``: one message to a bot's customers, written, tried, sent and followed; whom it is for is finer in the panel."""

from __future__ import annotations

from aiogram import F, Router
from aiogram.dispatcher.event.bases import SkipHandler
from aiogram.filters import Command
from aiogram.types import CallbackQuery, InlineKeyboardButton, Message

from db import models
from db.base import utcnow
from handlers import keyboards
from handlers.callbacks import Menu, News, Turn
from handlers.filters import WRITTEN
from handlers.keyboards import button
from handlers.states import Broadcasting, go_to, leave
from handlers.talk import Page, Talk, bold, lines, page, sure
from services import bots, broadcasts, languages
from services.broadcasts import Audience, Draft
from services.errors import Conflict
from services.i18n import Translator, translate_plural
from services.text import one_line

router = Router(name="broadcast")
_LISTED = 8
_SHOWN = 900
_MARKS = {"draft": "📝", "scheduled": "🕒", "sending": "📤", "paused": "⏸", "stopped": "⏹", "done": "✅"}
_OTHER = F.photo | F.document | F.voice | F.audio | F.video | F.video_note | F.animation | F.sticker | F.location


@router.message(Broadcasting.text, F.text.startswith("/"))
@router.callback_query(Broadcasting.text)
async def went_elsewhere(event: Message | CallbackQuery, talk: Talk) -> None:
    """Whoever turns to something else writes no broadcast any more."""
    leave(talk.dialog)
    raise SkipHandler


async def bots_page(talk: Talk, number: int = 0) -> Page:
    """Return part ``number`` of the bots to choose from; of only one, its broadcasts."""
    _ = talk.gettext
    async with talk.core.db.read() as session:
        own = await bots.list_for(session, talk.user)
    if len(own) == 1:
        return await bot_page(talk, own[0].id)
    shown, turns = keyboards.part(own, Turn(of="news", number=number))
    rows = [[button(f"🤖 {bot.name}", News(do="bot", bot=bot.id))] for bot in shown]
    return page(
        bold(_("Broadcasts")),
        _("Whose customers do you want to write to?") if own else _("You have no bot yet: /newbot creates one."),
        keyboard=keyboards.inline(*rows, turns, [button("✖️ " + _("Close"), Menu(to="close"))]),
    )


async def bot_page(talk: Talk, bot_id: str) -> Page:
    """Return a bot's latest broadcasts; raises ``NotFound`` for another's."""
    _ = talk.gettext
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, bot_id)
        found = (await broadcasts.list_for(session, bot)).items[:_LISTED]
    rows = [
        [button(f"{_MARKS[each.status]} {each.title}", News(do="open", bot=bot.id, news=each.id))] for each in found
    ]
    return page(
        bold(_("Broadcasts of “{name}”", name=bot.name)),
        _("One message to everybody who has written to the bot. Whoever does not want broadcasts gets none."),
        keyboard=keyboards.inline(
            [button("✍️ " + _("New broadcast"), News(do="new", bot=bot.id))],
            *rows,
            keyboards.back(_, Menu(to="news")),
        ),
    )


async def one_page(talk: Talk, bot_id: str, broadcast_id: str) -> Page:
    """Return a broadcast: what it says, who gets it or what became of it, and what can be done."""
    _, language = talk.gettext, talk.user.language
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, bot_id)
        found = await broadcasts.get(session, bot, broadcast_id)
        begun = found.started_at is not None
        report = await broadcasts.report(session, found) if begun else None
        count = None if begun else await _count(talk, bot, found)
        ways = count.ways(Audience.of(found)) if count else {}
    text, _own = broadcasts.text_for(found.texts, bot.languages[0], bot.languages)
    state = broadcasts.STATES[found.status].render(language)
    told: list[str] = []
    if report is not None:
        told = [_("{done} of {total}", done=report.over, total=report.total)]
        told += [f"{broadcasts.FATES[fate].render(language)}: {n}" for fate, n in report.fates.items()]
    elif count is not None:
        told = [_gets(talk, count.total)]
        told += [f"– {n}: {broadcasts.REASONS[why].render(language)}" for why, n in count.left_out.items()]
        told += dict.fromkeys("👉 " + way.render(language) for way in ways.values())
    why = broadcasts.PAUSES[found.reason].render(language) if found.reason else ""

    def key(label: str, do: str, *states: str, style: str | None = None) -> InlineKeyboardButton | None:
        there = found.status in states
        return button(label, News(do=do, bot=bot.id, news=found.id), style=style) if there else None

    return page(
        lines(bold(f"📣 {found.title}"), f"{_MARKS[found.status]} {state}", why),
        one_line(text, _SHOWN),
        lines(*told),
        keyboard=keyboards.inline(
            [key("👁 " + _("Send a test to me"), "test", "draft")],
            [
                None if ways else key("📣 " + _("Send …"), "send", "draft", style="success"),
                key("🗑 " + _("Delete"), "drop", "draft"),
            ],
            [key("↩️ " + _("Take it back"), "recall", "scheduled")],
            [
                key("⏸ " + _("Pause"), "pause", "sending"),
                key("▶️ " + _("Resume"), "resume", "paused"),
                key("⏹ " + _("Stop for good"), "stop", "sending", "paused", style="danger"),
            ],
            [key("🔄 " + _("Progress now"), "open", "scheduled", "sending", "paused")],
            keyboards.back(_, News(do="bot", bot=bot.id)),
        ),
    )


async def _count(talk: Talk, bot: models.Bot, found: models.Broadcast) -> broadcasts.Count:
    async with talk.core.db.read() as session:
        return await broadcasts.count(
            session, talk.core, bot, Audience.of(found), has_template=found.template is not None
        )


def _gets(talk: Talk, n: int) -> str:
    return translate_plural(talk.user.language, "{n} customer gets it", "{n} customers get it", n)


@router.message(Command("broadcast"))
async def command(message: Message, talk: Talk) -> None:
    """``/broadcast``."""
    await talk.show(await bots_page(talk))


@router.callback_query(Menu.filter(F.to == "news"))
async def pressed(callback: CallbackQuery, talk: Talk) -> None:
    """The way back to the bots."""
    await talk.show(await bots_page(talk))


@router.callback_query(Turn.filter(F.of == "news"))
async def turn(callback: CallbackQuery, callback_data: Turn, talk: Talk) -> None:
    """Another part of the bots."""
    await talk.show(await bots_page(talk, callback_data.number))


@router.callback_query(News.filter(F.do == "bot"))
async def open_bot(callback: CallbackQuery, callback_data: News, talk: Talk) -> None:
    """The broadcasts of a bot."""
    await talk.show(await bot_page(talk, callback_data.bot))


@router.callback_query(News.filter(F.do == "open"))
async def open_one(callback: CallbackQuery, callback_data: News, talk: Talk) -> None:
    """One broadcast as it is now."""
    await talk.show(await one_page(talk, callback_data.bot, callback_data.news))


@router.callback_query(News.filter(F.do == "new"))
async def begin(callback: CallbackQuery, callback_data: News, talk: Talk, _: Translator) -> None:
    """Ask for the text."""
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
    go_to(talk.dialog, Broadcasting.text, bot=bot.id)
    await talk.toast()
    await talk.say(
        "✍️ " + bold(_("Write to the customers of “{name}”", name=bot.name)),
        _(
            "Send the text as a message. Nothing goes out yet: you see who gets it and can send it to yourself first. "
            "/cancel: write nothing."
        ),
    )


@router.message(Broadcasting.text, WRITTEN)
async def written(message: Message, talk: Talk) -> None:
    """Keep the text as a draft, in the language of the bot that it is written in."""
    text = message.text or ""
    async with talk.core.db.write() as session:
        bot = await bots.get(session, talk.user, str(talk.dialog.data.get("bot")))
        detected = (languages.detect(text).language or "").removesuffix("-Cyrl")
        code = detected if detected in bot.languages else bot.languages[0]
        made = await broadcasts.create(session, bot, Draft({code: text}), talk.user)
    leave(talk.dialog)
    await talk.show(await one_page(talk, bot.id, made.id))


@router.message(Broadcasting.text, _OTHER)
async def other_sent(message: Message, talk: Talk, _: Translator) -> None:
    """What is no text goes to nobody."""
    await talk.say("⚠️ " + _("A broadcast is text only. Nothing was kept."))


@router.callback_query(News.filter(F.do == "test"))
async def try_out(callback: CallbackQuery, callback_data: News, talk: Talk, _: Translator) -> None:
    """Send it to the owner alone."""
    core = talk.core
    async with core.db.write() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        found = await broadcasts.get(session, bot, callback_data.news)
        kind, talk_id = await broadcasts.try_out(session, bot, found, talk.user, bot.languages[0])
    core.bell.ring("outbox")
    core.ring_talk(bot.id, talk_id)
    told = _("Sent to you alone: your bot writes to you now.")
    if kind != "telegram":
        told = _("Sent to you alone: it stands in the panel, in your test conversation.")
    await talk.toast(told, alert=True)


@router.callback_query(News.filter(F.do == "send"))
async def ask(callback: CallbackQuery, callback_data: News, talk: Talk, _: Translator) -> None:
    """Ask whether it shall really go out."""
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        found = await broadcasts.get(session, bot, callback_data.news)
    counted = await _count(talk, bot, found)
    for way in counted.ways(Audience.of(found)).values():
        # Pressed on an old menu.
        await talk.toast(way.render(talk.user.language), alert=True)
        await talk.show(await one_page(talk, bot.id, found.id))
        return
    n = broadcasts.minutes(talk.core.settings, counted)
    told = [_gets(talk, counted.total) + "."]
    told.append(
        translate_plural(talk.user.language, "Sending takes about {n} minute.", "Sending takes about {n} minutes.", n)
    )
    if broadcasts.is_quiet(talk.core.settings, utcnow()):
        told.append("🌙 " + _("It is night in Tashkent now, and a message wakes people up."))
    yes = translate_plural(talk.user.language, "Send to {n} customer", "Send to {n} customers", counted.total)
    await talk.show(
        sure(
            _,
            f"📣 {found.title}",
            " ".join(told),
            yes,
            News(do="sure", bot=bot.id, news=found.id),
            News(do="open", bot=bot.id, news=found.id),
        )
    )


@router.callback_query(News.filter(F.do.in_({"sure", "pause", "resume", "stop", "recall"})))
async def act(callback: CallbackQuery, callback_data: News, talk: Talk, _: Translator) -> None:
    """Send it, interrupt it, go on with it, end it, or make a draft of it again."""
    core, id_ = talk.core, callback_data.news
    try:
        async with core.db.write() as session:
            bot = await bots.get(session, talk.user, callback_data.bot)
            version = (await broadcasts.get(session, bot, id_)).version
            if callback_data.do == "sure":
                await broadcasts.launch(session, core, bot, id_, version, talk.user)
            elif callback_data.do == "resume":
                await broadcasts.resume(session, core, bot, id_, version, talk.user)
            else:
                turns = {"pause": broadcasts.pause, "stop": broadcasts.stop, "recall": broadcasts.recall}
                await turns[callback_data.do](session, bot, id_, version, talk.user)
    except Conflict as error:
        # Pressed on an old menu, or the bot may not speak: said, and shown as it is.
        await talk.toast(error.text.render(talk.user.language), alert=True)
    else:
        core.bell.ring("broadcasts")
        core.bell.ring(f"bot:{callback_data.bot}", {"broadcast": id_})
        told = {
            "sure": _("It goes out now. You will hear when it is done."),
            "pause": _("Paused. The few messages that were on their way still go."),
            "resume": _("It goes on where it was."),
            "stop": _("Stopped. Who has not got it gets nothing."),
        }.get(callback_data.do, _("It is a draft again."))
        await talk.toast(told)
    await talk.show(await one_page(talk, callback_data.bot, id_))


@router.callback_query(News.filter(F.do == "drop"))
async def ask_drop(callback: CallbackQuery, callback_data: News, talk: Talk, _: Translator) -> None:
    """Ask before a draft is deleted."""
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        found = await broadcasts.get(session, bot, callback_data.news)
    await talk.show(
        sure(
            _,
            _("Delete the draft “{title}”?", title=found.title),
            one_line(broadcasts.text_for(found.texts, bot.languages[0], bot.languages)[0], _SHOWN),
            "🗑 " + _("Yes, delete"),
            News(do="gone", bot=bot.id, news=found.id),
            News(do="open", bot=bot.id, news=found.id),
        )
    )


@router.callback_query(News.filter(F.do == "gone"))
async def drop(callback: CallbackQuery, callback_data: News, talk: Talk, _: Translator) -> None:
    """Delete a draft."""
    async with talk.core.db.write() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        found = await broadcasts.get(session, bot, callback_data.news)
        await broadcasts.delete(session, bot, found.id, found.version, talk.user)
    await talk.toast(_("Deleted."))
    await talk.show(await bot_page(talk, bot.id))
