"""``/inbox``: customers who wait for a person, and those whom one leads; read and answered here."""

from __future__ import annotations

from aiogram import F, Router
from aiogram.dispatcher.event.bases import SkipHandler
from aiogram.filters import Command
from aiogram.types import CallbackQuery, InlineKeyboardButton, Message
from sqlalchemy.ext.asyncio import AsyncSession

from handlers import keyboards
from handlers.callbacks import Menu, TalkMenu, Turn
from handlers.filters import WRITTEN
from handlers.keyboards import button
from handlers.panel import send_link
from handlers.states import Answering, go_to, leave
from handlers.talk import Page, Talk, bold, lines, page
from services import bots, conversations, notices
from services.channel_names import channel_name
from services.conversations import ConversationRow, desk, reasons
from services.errors import Conflict, NotFound
from services.forum import shown_line
from services.i18n import Translator
from services.text import one_line

router = Router(name="inbox")
_LISTED = 100
_MESSAGES = 6
_MESSAGE_CHARS = 500
_OTHER = (
    F.photo | F.document | F.voice | F.audio | F.video | F.video_note | F.animation | F.sticker | F.location | F.contact
)


@router.message(Answering.text, F.text.startswith("/"))
@router.callback_query(Answering.text)
async def went_elsewhere(event: Message | CallbackQuery, talk: Talk) -> None:
    """Whoever turns to something else answers nobody any more: what they write there must not reach a customer."""
    leave(talk.dialog)
    raise SkipHandler


def _name(row: ConversationRow, _: Translator) -> str:
    return one_line(row.contact.name, 60) or _("Customer")


def _mark(row: ConversationRow) -> str:
    return reasons.mark(row.conversation) if row.conversation.status == "waiting" else "🧑‍💼"


async def list_page(talk: Talk, number: int = 0) -> Page:
    """Return part ``number`` of the conversations that wait for a person or are led by this one, the newest first."""
    _ = talk.gettext
    async with talk.core.db.read() as session:
        answered = await bots.list_for(session, talk.user, "talk")
        found = await desk.list_for(session, talk.user, answered, desk.Filters(attended=True), limit=_LISTED)
    shown, turns = keyboards.part(found.items, Turn(of="inbox", number=number))
    rows = [
        [
            button(
                " · ".join(
                    part
                    for part in (
                        f"{_mark(row)} {_name(row, _)}",
                        row.bot.name if len(answered) > 1 else "",
                        row.conversation.last_text,
                    )
                    if part
                ),
                TalkMenu(do="open", talk=row.conversation.id),
            )
        ]
        for row in shown
    ]
    return page(
        bold(_("Conversations that wait for you")),
        _("🔔 asked for a person, ❓ the bot knew no answer, ⚠️ a message failed, 🧑‍💼 you answer.")
        if rows
        else _("Nobody is waiting: the bots answer by themselves."),
        _("These are the latest {n}. The rest is in the panel.", n=_LISTED) if found.next else "",
        keyboard=keyboards.inline(*rows, turns, [button("✖️ " + _("Close"), Menu(to="close"))]),
    )


async def talk_page(talk: Talk, talk_id: str) -> Page:
    """Return one conversation: its last messages and what can be done; raises ``NotFound`` for another's."""
    _ = talk.gettext
    async with talk.core.db.read() as session:
        row = await conversations.get(session, talk.user, talk_id)
        said = (await conversations.messages(session, row.conversation, limit=_MESSAGES)).items
        leads = (await desk.names(session, [row.conversation.assignee_id])).get(row.conversation.assignee_id or "", "")
    status = row.conversation.status
    state = {
        "waiting": reasons.title(row.conversation).render(talk.user.language),
        "human": _("With a person"),
        "closed": _("Closed"),
    }.get(status, _("Bot answers"))
    mine = status == "human" and row.conversation.assignee_id == talk.user.id

    def key(text: str, do: str, there: bool = True) -> InlineKeyboardButton | None:
        return button(text, TalkMenu(do=do, talk=row.conversation.id)) if there else None

    public = talk.core.settings.public_url
    return page(
        lines(
            bold(_name(row, _)),
            f"{row.bot.name} · {channel_name(row.channel.kind, talk.user.language)}",
            f"{state}: {leads}" if leads and status == "human" else state,
        ),
        *(one_line(shown_line(message, talk.user.language), _MESSAGE_CHARS) for message in reversed(said)),
        keyboard=keyboards.inline(
            [key("✍️ " + _("Answer here"), "answer")],
            [
                key("🧑‍💼 " + _("Take over"), "human", not mine),
                key("🤖 " + _("Give back to the bot"), "bot", status != "bot"),
            ],
            [key("✅ " + _("Close the conversation"), "closed", status != "closed")],
            [
                key(
                    "🖥 " + _("Open in the panel"),
                    "panel",
                    keyboards.linkable(public) and not notices.opens_only_here(public),
                )
            ],
            keyboards.back(_, Menu(to="inbox")),
        ),
    )


def _ring(talk: Talk, row: ConversationRow) -> None:
    for topic in ("outbox", "inbox", "notices"):
        talk.core.bell.ring(topic)
    talk.core.ring_talk(row.bot.id, row.conversation.id)


@router.message(Command("inbox"))
async def command(message: Message, talk: Talk) -> None:
    """``/inbox``."""
    await talk.show(await list_page(talk))


@router.callback_query(Menu.filter(F.to == "inbox"))
async def pressed(callback: CallbackQuery, talk: Talk) -> None:
    """The way back from a conversation."""
    await talk.show(await list_page(talk))


@router.callback_query(Turn.filter(F.of == "inbox"))
async def turn(callback: CallbackQuery, callback_data: Turn, talk: Talk) -> None:
    """Another part of the list."""
    await talk.show(await list_page(talk, callback_data.number))


@router.callback_query(TalkMenu.filter(F.do == "open"))
async def open_talk(callback: CallbackQuery, callback_data: TalkMenu, talk: Talk) -> None:
    """One conversation."""
    await talk.show(await talk_page(talk, callback_data.talk))


@router.callback_query(TalkMenu.filter(F.do.in_(conversations.CHOICES)))
async def set_status(callback: CallbackQuery, callback_data: TalkMenu, talk: Talk, _: Translator) -> None:
    """Take a conversation over, give it back to the bot, or close it."""
    async with talk.core.db.write() as session:
        row = await conversations.get(session, talk.user, callback_data.talk)
        await conversations.set_status(session, row, callback_data.do, actor=talk.user)
    _ring(talk, row)
    await talk.toast(
        {
            "human": _("You have taken over this conversation. The bot stays silent in it."),
            "bot": _("The bot answers in this conversation again."),
        }.get(callback_data.do, _("The conversation is closed. When the customer writes again, the bot answers."))
    )
    await talk.show(await talk_page(talk, callback_data.talk))


@router.callback_query(TalkMenu.filter(F.do == "panel"))
async def open_in_panel(callback: CallbackQuery, callback_data: TalkMenu, talk: Talk) -> None:
    """Send a link that signs in once and leads to the conversation."""
    async with talk.core.db.read() as session:
        row = await conversations.get(session, talk.user, callback_data.talk)
    await talk.toast()
    await send_link(talk, f"/inbox/{row.conversation.id}")


@router.callback_query(TalkMenu.filter(F.do == "answer"))
async def begin_answer(callback: CallbackQuery, callback_data: TalkMenu, talk: Talk, _: Translator) -> None:
    """Ask for the text; where the network lets nobody write now, that is said before anything is typed."""
    async with talk.core.db.read() as session:
        row = await conversations.get(session, talk.user, callback_data.talk)
        seen = await _newest(session, row)
    conversations.check_window(row)
    go_to(talk.dialog, Answering.text, talk=row.conversation.id, seen=seen)
    await talk.toast()
    await talk.say(
        "✍️ " + bold(_("Write to {name}", name=_name(row, _))),
        _("Your next message goes to the customer as it is. /cancel: write nothing."),
    )


async def _newest(session: AsyncSession, row: ConversationRow) -> str:
    newest = (await conversations.messages(session, row.conversation, limit=1)).items
    return newest[0].id if newest else ""


@router.message(Answering.text, WRITTEN)
async def answer_sent(message: Message, talk: Talk, _: Translator) -> None:
    """Send the text to the customer; the same update once more writes nothing more."""
    talk_id, seen = str(talk.dialog.data.get("talk")), str(talk.dialog.data.get("seen"))
    try:
        async with talk.core.db.write() as session:
            row = await conversations.get(session, talk.user, talk_id)
            await conversations.operator_reply(session, row, message.text or "", seen=seen, author=talk.user)
    except NotFound:
        leave(talk.dialog)
        await talk.say(
            "⚠️ " + _("You may not answer in this conversation any more. Nothing was written to the customer.")
        )
        await talk.show(await list_page(talk))
        return
    except Conflict as error:
        if error.code == "answered_meanwhile":
            async with talk.core.db.read() as session:
                row = await conversations.get(session, talk.user, talk_id)
                newest = await _newest(session, row)
            talk.dialog.data["seen"] = newest
            await talk.show(await talk_page(talk, talk_id))
        else:
            leave(talk.dialog)
        raise
    leave(talk.dialog)
    _ring(talk, row)
    await talk.say(
        "✅ " + _("Your message goes to {name}.", name=_name(row, _)),
        keyboard=keyboards.inline(
            [
                button("✍️ " + _("Write more"), TalkMenu(do="answer", talk=talk_id)),
                button("💬 " + _("Show the conversation"), TalkMenu(do="open", talk=talk_id)),
            ]
        ),
    )


@router.message(Answering.text, _OTHER)
async def other_sent(message: Message, talk: Talk, _: Translator) -> None:
    """What is no text reaches nobody, and no bot's documents either."""
    await talk.say("⚠️ " + _("I can pass on text only. This was not sent to the customer."))
