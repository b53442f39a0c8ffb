"""``/knowledge``, and a document sent at any time: which bot, one progress message, questions to try."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from aiogram import F, Router
from aiogram.filters import Command
from aiogram.types import CallbackQuery, Message

from db import models
from handlers import bots as bots_menu
from handlers import keyboards, newbot, team
from handlers.callbacks import BotMenu, DocMenu, PutFile, Turn
from handlers.files import take
from handlers.filters import WRITTEN
from handlers.keyboards import button
from handlers.progress import again_key, share_key, state_text
from handlers.states import Editing, forget_file, go_to, keep_file, leave, note_told, take_file, was_told
from handlers.talk import Page, Talk, bold, lines, page, sure
from services import bots
from services.errors import Invalid, TooLarge
from services.i18n import T, Translator, translator
from services.knowledge import documents
from services.knowledge.reading import is_picture, sniff
from services.questions import open_count
from services.text import one_line

router = Router(name="knowledge")
_NAME_CHARS = 60
_MARKS = {"ready": "✅", "failed": "⚠️"}


async def knowledge_page(talk: Talk, bot_id: str, number: int = 0) -> Page:
    """Return part ``number`` of the documents of a bot; raises ``NotFound`` for another's."""
    _ = talk.gettext
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, bot_id)
        known = await documents.list_for(session, bot)
        unanswered = await open_count(session, bot)
    shown, turns = keyboards.part(known, Turn(of="files", number=number, bot=bot.id))
    rows = [
        [button(f"{_MARKS.get(each.status, '⏳')} {each.name}", DocMenu(do="open", bot=bot.id, doc=each.id))]
        for each in shown
    ]
    return page(
        bold(_("Documents of “{name}”", name=bot.name)),
        _("Documents: {n}", n=len(known)) if known else _("No documents yet: the bot has nothing to answer from."),
        _(
            "To add a document, send me a file: PDF, Word (.docx), CSV or text, or a picture with a few words on what it shows. "
            "A file with the same name replaces the old one."
        ),
        keyboard=keyboards.inline(
            *rows,
            turns,
            [button("❓ " + _("Unanswered questions: {n}", n=unanswered), BotMenu(do="asked", bot=bot.id))],
            keyboards.back(_, BotMenu(do="open", bot=bot.id)),
        ),
    )


@router.message(Command("knowledge"))
async def command(message: Message, talk: Talk, _: Translator) -> None:
    """``/knowledge``: straight to the documents where there is one bot."""
    async with talk.core.db.read() as session:
        own = await bots.list_for(session, talk.user)
    if len(own) == 1:
        await talk.show(await knowledge_page(talk, own[0].id))
    else:
        await talk.show(await bots_menu.list_page(talk.core, talk.user, _, do="docs"))


@router.callback_query(BotMenu.filter(F.do == "docs"))
async def show_documents(callback: CallbackQuery, callback_data: BotMenu, talk: Talk) -> None:
    """The documents of a bot."""
    await talk.show(await knowledge_page(talk, callback_data.bot))


@router.callback_query(Turn.filter(F.of == "files"))
async def turn_documents(callback: CallbackQuery, callback_data: Turn, talk: Talk) -> None:
    """Another part of a long list of documents."""
    await talk.show(await knowledge_page(talk, callback_data.bot, callback_data.number))


@router.callback_query(BotMenu.filter(F.do == "send"))
async def how_to_send(callback: CallbackQuery, callback_data: BotMenu, talk: Talk, _: Translator) -> None:
    """Say how a document is sent."""
    async with talk.core.db.read() as session:
        await bots.get(session, talk.user, callback_data.bot)
    await talk.toast()
    await talk.say(
        "📎 " + _("Tap the paper clip, choose File and send the document here."),
        _("PDF, Word (.docx), CSV or text, up to {n} MB.", n=talk.core.settings.knowledge.max_file_mib),
    )


# One document


@router.callback_query(DocMenu.filter(F.do.in_({"open", "delete"})))
async def show_document(callback: CallbackQuery, callback_data: DocMenu, talk: Talk, _: Translator) -> None:
    """One document and what can be done with it; deleting asks first."""
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        document = await documents.get(session, bot, callback_data.doc)
    ids = {"bot": bot.id, "doc": document.id}
    if callback_data.do == "delete":
        screen = sure(
            _,
            _("Delete “{name}”?", name=document.name),
            _("The bot will no longer answer from it."),
            "🗑 " + _("Yes, delete"),
            DocMenu(do="gone", **ids),
            DocMenu(do="open", **ids),
        )
    else:
        screen = document_page(document, talk.user.language)
    await talk.show(screen)


def document_page(document: models.Document, language: str) -> Page:
    """Return the screen of one document."""
    _ = translator(language)
    ids = {"bot": document.bot_id, "doc": document.id}
    sent = _("Customers may receive this file.") if document.shared else _("Customers do not receive this file.")
    return page(
        lines(bold(document.name), state_text(document, language)),
        document.caption,
        ("📎 " if document.shared else "🔒 ") + sent,
        keyboard=keyboards.inline(
            [again_key(document, _)],
            [share_key(document, _)],
            [button("✏️ " + _("What it shows"), DocMenu(do="words", **ids))],
            [button("🗑 " + _("Delete"), DocMenu(do="delete", **ids), style="danger")],
            keyboards.back(_, BotMenu(do="docs", bot=document.bot_id)),
        ),
    )


@router.callback_query(DocMenu.filter(F.do.in_({"share", "keep"})))
async def share_document(callback: CallbackQuery, callback_data: DocMenu, talk: Talk, _: Translator) -> None:
    """Let customers receive a document, or no more."""
    shared = callback_data.do == "share"
    document = await _share(talk, callback_data.bot, callback_data.doc, shared=shared)
    said = (
        _("Saved. The bot may send this file to customers.")
        if shared
        else _("Saved. Customers do not receive this file.")
    )
    await talk.toast(said)
    await talk.show(document_page(document, talk.user.language))


async def _share(
    talk: Talk, bot_id: str, document_id: str, *, shared: bool | None = None, caption: str | None = None
) -> models.Document:
    async with talk.core.db.write() as session:
        bot = await bots.get(session, talk.user, bot_id)
        document = await documents.get(session, bot, document_id)
        document = await documents.share(session, bot, document, shared=shared, caption=caption)
    talk.core.bell.ring("jobs")
    return document


@router.callback_query(DocMenu.filter(F.do == "words"))
async def describe_document(callback: CallbackQuery, callback_data: DocMenu, talk: Talk, _: Translator) -> None:
    """Ask what a document shows; what is written next is that."""
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        document = await documents.get(session, bot, callback_data.doc)
    go_to(talk.dialog, Editing.caption, bot=bot.id, doc=document.id)
    await talk.show(
        page(
            bold(document.name),
            document.caption,
            _("Write in a few words what this file shows, for example “Price list of the summer”."),
            keyboard=keyboards.inline(keyboards.back(_, DocMenu(do="open", bot=bot.id, doc=document.id))),
        )
    )


@router.message(Editing.caption, WRITTEN)
async def caption_sent(message: Message, talk: Talk, _: Translator) -> None:
    """Keep what a document shows; one that is too long is refused and asked for again."""
    data = talk.dialog.data
    document = await _share(talk, str(data.get("bot")), str(data.get("doc")), caption=message.text or "")
    leave(talk.dialog)
    await talk.show(document_page(document, talk.user.language))


@router.callback_query(DocMenu.filter(F.do == "gone"))
async def delete_document(callback: CallbackQuery, callback_data: DocMenu, talk: Talk, _: Translator) -> None:
    """Delete a document."""
    core = talk.core
    async with core.db.write() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        document = await documents.get(session, bot, callback_data.doc)
        await documents.delete(session, bot, document)
    core.bell.ring("jobs")
    await talk.toast(_("“{name}” was deleted.", name=document.name))
    await talk.show(await knowledge_page(talk, bot.id))


@router.callback_query(DocMenu.filter(F.do == "retry"))
async def retry_document(callback: CallbackQuery, callback_data: DocMenu, talk: Talk) -> None:
    """Read a failed document once more, and show how the reading goes; one that is being read again is only shown."""
    core = talk.core
    async with core.db.write() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        document = await documents.get(session, bot, callback_data.doc)
        if document.status == "failed":
            await documents.retry(session, bot, document)
    core.bell.ring("jobs")
    await talk.toast("🔁")
    await talk.drop_buttons()
    await talk.progress.follow(talk, bot, document)


# A document that is sent


@router.message(F.document)
async def document_sent(message: Message, talk: Talk, _: Translator) -> None:
    """Check what can be checked before downloading, find the bot, take the document in. A picture needs a caption."""
    if message.document is None:
        return
    name = message.document.file_name or "document"
    limits = talk.core.settings.knowledge
    sniff(documents.title_of(name), b"?")
    if (message.document.file_size or 0) > limits.max_file_bytes:
        raise TooLarge(T("The file is larger than {n} MB. Split it or send a smaller one.", n=limits.max_file_mib))
    if message.document.file_size == 0:
        raise Invalid(T("The file is empty."), code="empty", field="file")
    file: dict[str, Any] = {"id": message.document.file_id, "name": name}
    if is_picture(documents.title_of(name)):
        await _picture(message, talk, file)
    else:
        await _received(talk, message.message_id, file)


@router.message(F.photo)
async def photo_sent(message: Message, talk: Talk) -> None:
    """A picture for customers: its caption says what it shows, and names it."""
    if message.photo:
        await _picture(message, talk, {"id": max(message.photo, key=lambda size: size.width).file_id})


async def _picture(message: Message, talk: Talk, file: dict[str, Any]) -> None:
    _ = talk.gettext
    if caption := documents.caption_of(message.caption or ""):
        await _received(talk, message.message_id, _named(file, caption))
        return
    if message.media_group_id or talk.dialog.state not in (None, Editing.picture.state):
        # Which of several the next words are about nobody could tell, nor whether they are about this at all.
        once = f"album:{message.media_group_id or message.message_id}"
        if not was_told(talk.dialog, once):
            note_told(talk.dialog, once)
            text = _("Please send pictures one by one, each with a few words under it on what it shows.")
            await talk.say("🖼 " + text)
        return
    go_to(talk.dialog, Editing.picture, file=file, message=message.message_id)
    await talk.say(
        "🖼 " + _("What does the picture show? Write it in a few words: the bot finds it by them."),
        _("For example “Menu of the summer terrace”. /cancel leaves it out."),
    )


def _named(file: dict[str, Any], caption: str) -> dict[str, Any]:
    """Return a picture with its caption; one that came without a name is called by it."""
    title = re.sub(r"[\\/%\s]+", " ", caption)[:_NAME_CHARS].strip()
    return {**file, "name": file.get("name") or f"{title}.jpg", "caption": caption}


@router.message(Editing.picture, WRITTEN)
async def picture_described(message: Message, talk: Talk, _: Translator) -> None:
    """What a picture shows was written: it can be taken in."""
    data = talk.dialog.data
    caption = documents.caption_of(message.text or "")
    if not any(map(str.isalnum, caption)):
        await talk.say(_("Write it in words, please."))
        return
    file, number = dict(data.get("file") or {}), int(data.get("message") or 0)
    leave(talk.dialog)
    await _received(talk, number, _named(file, caption))


async def _received(talk: Talk, message_id: int, file: dict[str, Any]) -> None:
    """Find the bot of a file and take it in."""
    _, name = talk.gettext, str(file["name"])
    async with talk.core.db.read() as session:
        own = await bots.list_for(session, talk.user)
    if len(own) == 1:
        await take(talk, own[0], file)
        return
    if not own and (answering := await team.answering_page(talk.core, talk.user, _)) is not None:
        await talk.show(answering)
        return
    keep_file(talk.dialog, message_id, file)
    if not own:
        await talk.say(
            "📄 " + _("“{name}” is saved for your bot. First, the bot itself:", name=_shown(name)),
        )
        await newbot.begin(talk)
        return
    await talk.show(_which_bot(_, own, name, Turn(of="put", number=0, file=message_id)))


def _shown(name: str) -> str:
    return one_line(documents.title_of(name), 100)


def _which_bot(_: Translator, own: Sequence[models.Bot], name: str, at: Turn) -> Page:
    shown, turns = keyboards.part(own, at)
    rows = [[button(f"🤖 {bot.name}", PutFile(bot=bot.id, file=at.file))] for bot in shown]
    question = bold(_("Which bot is “{name}” for?", name=_shown(name)))
    return page(question, keyboard=keyboards.inline(*rows, turns))


@router.callback_query(Turn.filter(F.of == "put"))
async def turn_bots(callback: CallbackQuery, callback_data: Turn, talk: Talk, _: Translator) -> None:
    """More bots to choose from for a document."""
    async with talk.core.db.read() as session:
        own = await bots.list_for(session, talk.user)
    file = take_file(talk.dialog, callback_data.file)
    if file is None:
        await _file_is_gone(talk)
        return
    await talk.show(_which_bot(_, own, file["name"], callback_data))


async def _file_is_gone(talk: Talk) -> None:
    _ = talk.gettext
    await talk.toast(_("This menu is out of date. Please send the file again."), alert=True)
    await talk.drop_buttons()


@router.callback_query(PutFile.filter())
async def bot_chosen(callback: CallbackQuery, callback_data: PutFile, talk: Talk, _: Translator) -> None:
    """The bot of a document was chosen."""
    async with talk.core.db.read() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
    file = take_file(talk.dialog, callback_data.file)
    if file is None:
        await _file_is_gone(talk)
        return
    await talk.show(page("📄 " + _("Adding “{name}” to “{bot}”.", name=_shown(file["name"]), bot=bot.name)))
    await take(talk, bot, file)
    forget_file(talk.dialog, callback_data.file)
