"""A bot's documents: taking them in, reading them in the background, replacing and deleting them.

An upload is acknowledged when the row, its bytes and the job are committed together. Reading writes passages in small
transactions beside the ones that serve; one short transaction at the end makes the new document serve and the old one of the
same name stop. Whatever dies in between, the old knowledge stays and the job starts over.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import structlog
from sqlalchemy import ColumnElement, func, insert, or_, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from db import models
from db.base import utcnow
from services import jobs, metrics, notices, pictures, versions
from services.allowances import Allowances
from services.errors import Conflict, Invalid, NotFound, Temporary, TooLarge, Unavailable
from services.i18n import T, Text
from services.knowledge import embedding, shelf
from services.knowledge.analysis import analyze_passage, question_key
from services.knowledge.base import ANSWERS, CAPTION, CODES, PICTURES, ReadError
from services.knowledge.reading import IndexedPassage, ReadLimits, is_picture, read_document, sniff, suffix_of
from services.paging import number_of
from services.settings import Limits
from services.shown import mark_of
from services.sniffing import mime_of
from services.text import clean, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.core import Core

log = structlog.get_logger(__name__)

INDEX_JOB = "index_document"
PURGE_JOB = "purge_documents"
UNDO_S = 60.0
"""So long a deleted document can be brought back."""
_SLICE = 200
_TITLE_MAX = 255
CAPTION_CHARS = 300
PASSAGES_SHOWN = 30
ANSWERS_SHOWN = 50
_PICTURE_TYPES = frozenset({"image/jpeg", "image/png", "image/webp"})
_READER_RESTS_S = 30.0
_WHOLE_KEY = 300
"""A key of :func:`question_key` that is shorter was not cut off."""
_SIGNS = re.compile(r"(?<=\w)[+#]+")
# A file name as some programs send it: neither a blank nor a % stands for itself.
_ESCAPED = re.compile("(?:[!-$&-~]|%[0-9A-Fa-f]{2})+")


async def upload(
    session: AsyncSession,
    bot: models.Bot,
    name: str,
    data: bytes,
    *,
    limits: Limits,
    max_bytes: int,
    watched: bool = False,
    shared: bool | None = None,
    caption: str | None = None,
    plan: Allowances | None = None,
) -> models.Document:
    """Take a document in; reading follows in the background. ``watched``: somebody shows its progress, so no notice is due.

    An older one of its name, see :func:`_called`, that still waits, or could not be read, is gone with that; one that serves
    goes on until the new one does. ``shared``: customers may receive the file; ``caption``: what it shows, all that is known of a
    picture. None: as the older one of its name has it. ``plan``: what the owner's plan allows all bots' documents together.
    Raises ``TooLarge``, ``Invalid`` (empty, not a kind we read, a picture without a caption) or ``Conflict`` (too many, no room).
    """
    if len(data) > max_bytes:
        raise TooLarge(
            T("The file is larger than {n} MB. Split it or send a smaller one.", n=max_bytes // 1_048_576), field="file"
        )
    title = title_of(name)
    sniff(title, data)
    if is_picture(title) and mime_of(data) not in _PICTURE_TYPES:
        # A drawing, or a telephone's own format, under another name.
        raise Invalid(ReadError("bad_picture").text, code="unsupported_type", field="file")
    # The owner before the bot, in every transaction.
    room = await plan.room_for_bytes(session, bot) if plan is not None else None
    await _hold(session, bot.id)
    same = await _called(session, bot.id, title)
    if plan is not None and room is not None and len(data) > room + await _size_of(session, same):
        raise await plan.no_room(session, bot)
    before = await session.get(models.Document, max(same)) if same else None
    caption = caption_of(caption if caption is not None else before.caption if before else "")
    if is_picture(title):
        _say_what_it_shows(caption)
    others = await session.scalar(
        select(func.count()).where(
            models.Document.bot_id == bot.id,
            models.Document.deleted_at.is_(None),
            models.Document.id.not_in(same),
            models.Document.kind != ANSWERS,
        )
    )
    if int(others or 0) >= limits.documents_per_bot:
        raise Conflict(
            T("This bot already has {n} documents, which is the limit. Delete some first.", n=limits.documents_per_bot),
            code="limit",
        )
    await _drop_unread(session, bot, same)
    document = models.Document(
        bot_id=bot.id,
        name=title,
        kind=title.rpartition(".")[2].lower()[:16],
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        status="queued",
        progress=0,
        serving=False,
        shared=shared if shared is not None else before is not None and before.shared,
        caption=caption,
        chunk_count=0,
        created_at=utcnow(),
    )
    session.add(document)
    await session.flush()
    session.add(models.DocumentContent(document_id=document.id, content=data))
    await _queue(session, bot, document, watched)
    return document


def caption_of(text: str) -> str:
    """Return what an owner says of a file as it is kept: one line. Raises ``Invalid`` for one that is too long."""
    caption = " ".join(clean(text).split())
    if len(caption) > CAPTION_CHARS:
        raise Invalid(T("This is too long: at most {n} characters.", n=CAPTION_CHARS), field="caption")
    return caption


def _say_what_it_shows(caption: str) -> None:
    if not any(map(str.isalnum, caption)):
        raise Invalid(
            T(
                "Say in a few words what the picture shows: the bot finds it by them, for example “Menu of the summer terrace”."
            ),
            field="caption",
        )


async def share(
    session: AsyncSession,
    bot: models.Bot,
    document: models.Document,
    *,
    shared: bool | None = None,
    caption: str | None = None,
) -> models.Document:
    """Say whether customers may receive a document, and what it shows; None leaves that as it is. Returns it as it is then.

    It holds for every version of its name and from the next message on: what was not sent by then is not sent any more.
    Raises ``NotFound`` where it is gone, ``Invalid`` for a caption that is too long, or for a picture without one.
    """
    document = await _hold_document(session, bot, document)
    wanted = caption_of(caption) if caption is not None else document.caption
    if document.kind in PICTURES:
        _say_what_it_shows(wanted)
    for id_ in await _called(session, bot.id, document.name):
        version = await session.get_one(models.Document, id_)
        version.shared = document.shared if shared is None else shared
        version.caption = wanted
        if version.serving:
            await _describe(session, version)
    await session.flush()
    await _bump(session, bot.id)
    await embedding.enqueue(session, bot.id, bot.owner_id)
    return document


async def _describe(session: AsyncSession, document: models.Document) -> None:
    """Let a serving document's caption be found as a passage of it: a picture's always, another's where it may be sent."""
    chunk = models.Chunk
    await session.execute(sql_delete(chunk).where(chunk.document_id == document.id, chunk.locus == CAPTION))
    if document.kind not in PICTURES and not document.shared:
        return
    terms = analyze_passage(shelf.describe(document.name, document.caption))
    session.add(
        chunk(
            bot_id=document.bot_id,
            document_id=document.id,
            position=-1,
            locus=CAPTION,
            text=document.caption or document.name,
            stems=terms.stems_text,
            grams=terms.grams_text,
        )
    )
    await session.flush()


def title_of(name: str) -> str:
    """Return what a document is called: the last part of its file name, shortened to what a row holds before the suffix.

    Letters are composed as Windows and Linux write them: macOS sends ``й`` as two characters.
    """
    last = PurePath(_unescaped(name).replace("\\", "/")).name
    title = unicodedata.normalize("NFC", one_line(last, len(last))) or "document"
    too_long = len(title) - _TITLE_MAX
    if too_long <= 0:
        return title
    suffix = suffix_of(title)
    return title[: -len(suffix) - too_long].rstrip() + suffix


def _unescaped(name: str) -> str:
    """Return a file name that came as in an address, ``%D0%9D%D0%B0%D1%80%D1%85.csv``, as it is read; others unchanged."""
    if not _ESCAPED.fullmatch(name):
        return name
    try:
        return unquote(name, errors="strict")
    except UnicodeDecodeError:
        return name


async def _called(session: AsyncSession, bot_id: str, name: str) -> list[str]:
    """Return the ids of a bot's documents of a name, whatever their letter case and however their letters are composed.

    They are compared here: the databases do not agree on what a small letter is. A bot has a few hundred at most.
    """
    document = models.Document
    known = await session.execute(
        select(document.id, document.name).where(
            document.bot_id == bot_id, document.deleted_at.is_(None), document.kind != ANSWERS
        )
    )
    wanted = _caseless(name)
    return [id_ for id_, title in known if _caseless(title) == wanted]


async def _size_of(session: AsyncSession, ids: Sequence[str]) -> int:
    """Return how many bytes documents have together that a new one is about to take the place of."""
    size = await session.scalar(select(func.sum(models.Document.size)).where(models.Document.id.in_(ids)))
    return int(size or 0)


def _caseless(name: str) -> str:
    """Return the form in which two names are the same: Unicode's canonical caseless matching."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


async def _hold(session: AsyncSession, bot_id: str) -> None:
    """Wait for who else changes this bot's documents; always before a document is touched. SQLite has one writer anyway."""
    await session.execute(select(models.Bot.id).where(models.Bot.id == bot_id).with_for_update(key_share=True))


async def _hold_document(session: AsyncSession, bot: models.Bot, document: models.Document) -> models.Document:
    """Return a document as it is when nobody else changes this bot's; raises ``NotFound``."""
    await _hold(session, bot.id)
    current = await session.get(models.Document, document.id, populate_existing=True)
    if current is None or current.deleted_at is not None:
        raise NotFound()
    return current


async def _drop_unread(session: AsyncSession, bot: models.Bot, ids: Sequence[str]) -> None:
    """Remove those of a bot's documents that wait to be read or could not be read, with their bytes and jobs."""
    document = models.Document
    gone = set(
        await session.scalars(
            sql_delete(document)
            .where(
                document.id.in_(ids),
                document.status.in_(("queued", "failed")),
                document.deleted_at.is_(None),
            )
            .returning(document.id)
        )
    )
    if gone:
        await jobs.drop(
            session, INDEX_JOB, lambda payload: payload["document"] in gone, lane=_lane(bot), owner_id=bot.owner_id
        )


def _lane(bot: models.Bot) -> str:
    # One lane an owner: a person with a hundred files does not take every reader.
    return f"documents:{bot.owner_id}"


async def _queue(session: AsyncSession, bot: models.Bot, document: models.Document, watched: bool = False) -> None:
    payload: dict[str, Any] = {"document": document.id, "watched": watched}
    # What is logged while it is read can then be told to belong to this upload.
    if request_id := structlog.contextvars.get_contextvars().get("request_id"):
        payload["request_id"] = str(request_id)
    await jobs.add(session, INDEX_JOB, payload, lane=_lane(bot), owner_id=bot.owner_id)


async def list_for(session: AsyncSession, bot: models.Bot) -> list[models.Document]:
    """Return a bot's documents, the latest first; the owner's own answers are not among them."""
    return list(
        await session.scalars(
            select(models.Document)
            .where(models.Document.bot_id == bot.id, *_files())
            .order_by(models.Document.id.desc())
        )
    )


async def counts(session: AsyncSession, of: Sequence[models.Bot]) -> Mapping[str, int]:
    """Return how many documents each of these bots has, see :func:`list_for`, by its id."""
    document, known = models.Document, dict.fromkeys((bot.id for bot in of), 0)
    rows = await session.execute(
        select(document.bot_id, func.count()).where(document.bot_id.in_(known), *_files()).group_by(document.bot_id)
    )
    return {**known, **{bot_id: int(count) for bot_id, count in rows}}


def _files() -> tuple[ColumnElement[bool], ...]:
    """The conditions of what its owner uploaded and did not delete."""
    return (models.Document.deleted_at.is_(None), models.Document.kind != ANSWERS)


async def get(session: AsyncSession, bot: models.Bot, document_id: str) -> models.Document:
    """Return one document of this bot; raises ``NotFound``, also for what keeps the owner's answers: see :func:`answers_page`."""
    document = await session.get(models.Document, document_id)
    if document is None or document.bot_id != bot.id or document.deleted_at is not None or document.kind == ANSWERS:
        raise NotFound()
    return document


async def delete(session: AsyncSession, bot: models.Bot, document: models.Document) -> None:
    """Remove a document: it serves no question from this transaction on; what it held goes in :data:`UNDO_S` seconds.

    Until then :func:`restore` brings it back. Raises ``NotFound`` where it is gone already, and for what keeps the owner's
    answers: they are deleted one by one.
    """
    if document.kind == ANSWERS:
        raise NotFound()
    document = await _hold_document(session, bot, document)
    document.deleted_at = utcnow()
    document.serving = document.shared = False
    await session.flush()
    await _bump(session, bot.id)
    await jobs.add(
        session,
        PURGE_JOB,
        {"bot": bot.id, "document": document.id},
        # Not the readers' lane: an upload must not wait until nothing can be undone any more.
        lane=f"forget:{bot.id}",
        owner_id=bot.owner_id,
        delay_s=UNDO_S,
    )


async def restore(
    session: AsyncSession,
    bot: models.Bot,
    document_id: str,
    *,
    shared: bool = False,
    limits: Limits,
    plan: Allowances | None = None,
) -> models.Document:
    """Bring a deleted document back, as long as what it held is still there. ``shared``: customers could receive it.

    Raises ``NotFound`` where it is gone for good, ``Conflict`` where one of its name, or others, took its room meanwhile.
    """
    room = await plan.room_for_bytes(session, bot) if plan is not None else None
    await _hold(session, bot.id)
    document = await session.get(models.Document, document_id, with_for_update=True, populate_existing=True)
    if document is None or document.bot_id != bot.id or document.kind == ANSWERS:
        raise NotFound()
    if document.deleted_at is None:
        return document
    if utcnow() - document.deleted_at >= dt.timedelta(seconds=UNDO_S):
        raise NotFound()
    if await _called(session, bot.id, document.name):
        raise Conflict(T("There is another document of this name now. Delete it first."), code="exists")
    others = await list_for(session, bot)
    if len(others) >= limits.documents_per_bot:
        raise Conflict(
            T("This bot already has {n} documents, which is the limit. Delete some first.", n=limits.documents_per_bot),
            code="limit",
        )
    if plan is not None and room is not None and document.size > room:
        raise await plan.no_room(session, bot)
    document.deleted_at = None
    document.shared = shared
    document.serving = document.status == "ready"
    if document.status in ("queued", "processing"):
        document.status, document.progress = "queued", 0
        await _queue(session, bot, document)
    await session.flush()
    await _bump(session, bot.id)
    return document


def received(document_id: ColumnElement[str] | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Return the condition that a conversation shows a document's file as sent."""
    file = models.Attachment
    return select(file.id).where(file.document_id == document_id, file.status == "stored").exists()


async def retry(session: AsyncSession, bot: models.Bot, document: models.Document) -> None:
    """Read a failed document once more; raises ``Conflict`` when it did not fail, ``NotFound`` where it is gone."""
    document = await _hold_document(session, bot, document)
    if document.status != "failed":
        raise Conflict(T("You can retry only a document that could not be read."))
    document.status, document.progress, document.error_code = "queued", 0, None
    await _queue(session, bot, document)


async def passages(
    session: AsyncSession, document: models.Document, *, cursor: str = "", limit: int = PASSAGES_SHOWN
) -> tuple[list[models.Chunk], str]:
    """Return what was understood of a document, passage by passage, and the cursor of what follows, empty at the end.

    What its owner says that it shows is not among them. Raises ``Invalid`` for a malformed cursor.
    """
    chunk = models.Chunk
    query = select(chunk).where(chunk.document_id == document.id, chunk.locus != CAPTION)
    if cursor:
        query = query.where(chunk.id > number_of(cursor))
    found = list(await session.scalars(query.order_by(chunk.id).limit(limit + 1)))
    return found[:limit], str(found[limit - 1].id) if len(found) > limit else ""


def error_text(document: models.Document) -> Text | None:
    """Return why a document could not be read, in words that say what to do."""
    code = next((code for code in CODES if code == document.error_code), None)
    return ReadError(code).text if code else None


# What the owner teaches


@dataclass(frozen=True, slots=True)
class TaughtAnswer:
    """An answer that the owner taught. ``id`` is opaque; ``created``: when it was taught first."""

    id: str
    question: str
    text: str
    created: dt.datetime

    @property
    def mark(self) -> str:
        """What tells whether it still is as somebody saw it."""
        return mark_of([self.question, self.text])


async def answers_page(
    session: AsyncSession,
    bot: models.Bot,
    *,
    cursor: str = "",
    limit: int = ANSWERS_SHOWN,
    oldest_first: bool = False,
) -> tuple[list[TaughtAnswer], str]:
    """Return part of what the owner taught a bot, the latest first, and the cursor of what follows, empty at the end.

    Raises ``Invalid`` for a malformed cursor.
    """
    chunk, document = models.Chunk, models.Document
    query = select(chunk, document.created_at).join(document, document.id == chunk.document_id).where(*_taught(bot))
    if cursor:
        last = number_of(cursor)
        query = query.where(chunk.id > last if oldest_first else chunk.id < last)
    order = chunk.id if oldest_first else chunk.id.desc()
    rows = (await session.execute(query.order_by(order).limit(limit + 1))).all()
    following = str(rows[limit - 1][0].id) if len(rows) > limit else ""
    return [_shown(row, since) for row, since in rows[:limit]], following


async def one_answer(session: AsyncSession, bot: models.Bot, answer_id: str) -> TaughtAnswer:
    """Return an answer that a bot was taught; raises ``NotFound``."""
    return _shown(*await _find_taught(session, bot, answer_id))


async def add_answer(
    session: AsyncSession, bot: models.Bot, question: str, answer: str, *, plan: Allowances | None = None
) -> TaughtAnswer:
    """Teach the bot one answer: it knows it from the next message on, and the question leaves the unanswered list.

    A question that it was taught before, however it is spelt, keeps its id and gets the new answer. ``plan``: what the owner's
    plan allows documents and answers together. Raises ``Invalid`` when either is empty, ``Conflict`` where there is no room.
    """
    question, answer = _written(question, answer)
    # The owner before the bot, in every transaction.
    room = await plan.room_for_bytes(session, bot) if plan is not None else None
    await _hold(session, bot.id)
    known = await _taught_to(session, bot, question)
    if known:
        chunk, since = known[0]
        more = await _rewrite(session, bot, chunk, since, question, answer)
        await _fits(session, bot, plan, room, more)
        return _shown(chunk, since)
    document = await session.scalar(
        select(models.Document)
        .where(models.Document.bot_id == bot.id, models.Document.kind == ANSWERS, models.Document.deleted_at.is_(None))
        .order_by(models.Document.id)
        .limit(1)
    )
    if document is None:
        document = models.Document(
            bot_id=bot.id,
            name=ANSWERS,
            kind=ANSWERS,
            status="ready",
            progress=100,
            serving=True,
            chunk_count=0,
            size=0,
            sha256="",
            created_at=utcnow(),
        )
        session.add(document)
        await session.flush()
    last = await session.scalar(select(func.max(models.Chunk.position)).where(models.Chunk.document_id == document.id))
    chunk = models.Chunk(bot_id=bot.id, document_id=document.id, position=0 if last is None else last + 1)
    now = utcnow()
    _write(chunk, question, answer, now)
    await _fits(session, bot, plan, room, _size(chunk))
    session.add(chunk)
    await session.flush()
    await _count(session, document.id, 1, _size(chunk))
    await _taught_now(session, bot, question)
    return _shown(chunk, now)


async def update_answer(
    session: AsyncSession,
    bot: models.Bot,
    answer_id: str,
    question: str,
    text: str,
    *,
    seen: str = "",
    plan: Allowances | None = None,
) -> TaughtAnswer:
    """Correct a taught answer that was ``seen`` (its mark, empty for any); the next message gets the new one.

    Another answer to the question that it now has is forgotten. ``plan``: as for :func:`add_answer`; what gets shorter always
    fits. Raises ``NotFound``, ``Invalid``, or ``Conflict``: with the code ``changed`` where somebody else was faster.
    """
    room = await plan.room_for_bytes(session, bot) if plan is not None else None
    await _hold(session, bot.id)
    chunk, since = await _find_taught(session, bot, answer_id)
    question, text = _written(question, text)
    known = _shown(chunk, since)
    if seen not in ("", known.mark) and (question, text) != (known.question, known.text):
        raise Conflict(versions.OVERTAKEN, code="changed", field="answer")
    more = await _rewrite(session, bot, chunk, since, question, text)
    await _fits(session, bot, plan, room, more)
    return _shown(chunk, since)


async def _fits(session: AsyncSession, bot: models.Bot, plan: Allowances | None, room: int | None, more: int) -> None:
    """Raise ``Conflict`` where ``more`` bytes are more than the ``room`` that the plan leaves."""
    if plan is not None and room is not None and more > max(0, room):
        raise await plan.no_room(session, bot)


def _size(chunk: models.Chunk) -> int:
    """Return how many bytes of the plan's room a taught answer takes."""
    return len(chunk.text.encode())


async def _rewrite(
    session: AsyncSession, bot: models.Bot, chunk: models.Chunk, since: dt.datetime, question: str, text: str
) -> int:
    """Give a taught answer other words; return how many bytes all answers have grown by that."""
    more = -_size(chunk)
    _write(chunk, question, text, _shown(chunk, since).created)
    # The row first: who is storing a vector of the old text then waits for it, and finds that the text has changed.
    await session.flush()
    await session.execute(sql_delete(models.ChunkVector).where(models.ChunkVector.chunk_id == chunk.id))
    more += _size(chunk)
    await _count(session, chunk.document_id, 0, more)
    for other, _ in await _taught_to(session, bot, question):
        if other.id != chunk.id:
            more -= _size(other)
            await _forget(session, other)
    await _taught_now(session, bot, question)
    return more


async def delete_answer(session: AsyncSession, bot: models.Bot, answer_id: str) -> None:
    """Let a bot forget a taught answer from the next message on; raises ``NotFound``."""
    await _hold(session, bot.id)
    chunk, _ = await _find_taught(session, bot, answer_id)
    await _forget(session, chunk)
    await _bump(session, bot.id)


async def _forget(session: AsyncSession, chunk: models.Chunk) -> None:
    await session.delete(chunk)
    await session.flush()
    await _count(session, chunk.document_id, -1, -_size(chunk))


def _taught(bot: models.Bot) -> tuple[ColumnElement[bool], ...]:
    document = models.Document
    return (document.bot_id == bot.id, document.kind == ANSWERS, document.deleted_at.is_(None))


async def _taught_to(session: AsyncSession, bot: models.Bot, question: str) -> list[tuple[models.Chunk, dt.datetime]]:
    """Return what a bot was taught to a question, however it is spelt, the oldest first; each with its document's time.

    There is more than one only where they were taught before the program kept one answer to a question.
    """
    chunk, document = models.Chunk, models.Document
    rows = await session.execute(
        select(chunk, document.created_at)
        .join(document, document.id == chunk.document_id)
        # Those from before marks were kept are compared one by one.
        .where(*_taught(bot), chunk.locus.in_((_mark_of(question), "")))
        .order_by(chunk.id)
    )
    spelling = _spelling(question)
    return [(row, since) for row, since in rows if _spelling(_shown(row, since).question) == spelling]


def _spelling(question: str) -> str:
    """Return what is the same for two spellings of a question; one that is longer than a key stands for itself.

    A key has no signs, but a course of C++ is none of C#.
    """
    key = question_key(question)
    return " ".join((key, *_SIGNS.findall(question))) if len(key) < _WHOLE_KEY else question


def _mark_of(question: str) -> str:
    """Return the ``locus`` of a taught answer, by which its question is found again."""
    return "question:" + hashlib.sha256(_spelling(question).encode()).hexdigest()[:32]


async def _find_taught(session: AsyncSession, bot: models.Bot, answer_id: str) -> tuple[models.Chunk, dt.datetime]:
    chunk, document = models.Chunk, models.Document
    # What cannot be an id of ours must not reach the database, which would refuse a larger number.
    if not (answer_id.isascii() and answer_id.isdigit() and len(answer_id) <= 18):
        raise NotFound()
    row = (
        await session.execute(
            select(chunk, document.created_at)
            .join(document, document.id == chunk.document_id)
            .where(chunk.id == int(answer_id), *_taught(bot))
        )
    ).one_or_none()
    if row is None:
        raise NotFound()
    return row[0], row[1]


def _written(question: str, answer: str) -> tuple[str, str]:
    question, answer = clean(question, 1000).strip(), clean(answer, 4000).strip()
    if not question:
        raise Invalid(T("Write the question."), field="question")
    if not answer:
        raise Invalid(T("Write the answer."), field="answer")
    return question, answer


def _write(chunk: models.Chunk, question: str, answer: str, created: dt.datetime) -> None:
    # One line of question: what is quoted to a customer begins after it.
    text = f"{one_line(question, 1000)}\n{answer}"
    terms = analyze_passage(text, "")
    chunk.heading, chunk.text, chunk.locus = one_line(question, 500), text, _mark_of(question)
    chunk.stems, chunk.grams = terms.stems_text, terms.grams_text
    chunk.meta = {"question": question, "answer": answer, "created": created.isoformat()}


def _shown(chunk: models.Chunk, since: dt.datetime) -> TaughtAnswer:
    meta = chunk.meta
    if not meta:  # taught before the two were kept apart
        question, _, answer = chunk.text.partition("\n")
        return TaughtAnswer(str(chunk.id), question, answer, since)
    return TaughtAnswer(str(chunk.id), meta["question"], meta["answer"], dt.datetime.fromisoformat(meta["created"]))


async def _count(session: AsyncSession, document_id: str, more: int, more_bytes: int) -> None:
    document = models.Document
    await session.execute(
        update(document)
        .where(document.id == document_id)
        .values(chunk_count=document.chunk_count + more, size=document.size + more_bytes)
    )


async def _taught_now(session: AsyncSession, bot: models.Bot, question: str) -> None:
    """A bot knows more: the question, however it is spelt, leaves the list, and the passage gets its vector."""
    asked = models.UnansweredQuestion
    await session.execute(
        update(asked)
        .where(
            asked.bot_id == bot.id,
            or_(asked.folded == question_key(question), asked.question == question),
            asked.answered_at.is_(None),
        )
        .values(answered_at=utcnow())
    )
    await _bump(session, bot.id)
    await embedding.enqueue(session, bot.id, bot.owner_id)


async def _bump(session: AsyncSession, bot_id: str) -> None:
    await session.execute(
        update(models.Bot).where(models.Bot.id == bot_id).values(knowledge_version=models.Bot.knowledge_version + 1)
    )


# Background work


async def index_document(core: Core, payload: Mapping[str, Any]) -> None:
    """Read one queued document and let it serve. Runs as a job; safe to repeat from the start at any point."""
    document_id = str(payload["document"])
    async with core.db.read() as session:
        row = (
            await session.execute(
                select(models.Document, models.Bot, models.DocumentContent.content)
                .join(models.Bot, models.Bot.id == models.Document.bot_id)
                .join(models.DocumentContent, models.DocumentContent.document_id == models.Document.id)
                .where(models.Document.id == document_id)
            )
        ).one_or_none()
    if (
        row is None
        or row[0].deleted_at is not None
        or row[1].deleted_at is not None
        or row[0].status in ("ready", "failed")
    ):
        return
    document, bot, content = row
    if not await _mark(core, document, bot, status="processing", progress=1):
        return
    await _drop_passages(core, document.id)
    settings = core.settings.knowledge
    limits = ReadLimits(wall_s=settings.reader_seconds, memory_mib=settings.reader_memory_mib)
    shown = 1

    async def on_progress(percent: int) -> None:
        nonlocal shown
        # Reading is the larger part; writing the passages fills the rest of the bar.
        percent = max(1, min(90, percent * 9 // 10))
        if percent >= shown + 5:
            shown = percent
            await _mark(core, document, bot, status="processing", progress=percent)

    picture: bytes | None = None
    passages: list[IndexedPassage] = []
    try:
        if document.kind in PICTURES:
            picture = await _anew(core, content)
        else:
            passages = await read_document(document.name, content, limits=limits, on_progress=on_progress)
    except (Unavailable, Temporary) as error:
        # This machine is at fault, not the document: the attempt does not count.
        raise jobs.TryLater(_READER_RESTS_S) from error
    except ReadError as error:
        metrics.DOCUMENTS.labels(error.code).inc()
        log.info("document_not_read", document=document.id, reason=error.code)
        await _mark(
            core,
            document,
            bot,
            status="failed",
            progress=0,
            error_code=error.code,
            finished=True,
            tell=not payload.get("watched"),
        )
        return
    for start in range(0, len(passages), _SLICE):
        rows = [
            {
                "bot_id": bot.id,
                "document_id": document.id,
                "position": start + offset,
                "heading": one_line(passage.heading, 500),
                "locus": passage.locus[:64],
                "text": clean(passage.text),
                "stems": passage.stems,
                "grams": passage.grams,
            }
            for offset, passage in enumerate(passages[start : start + _SLICE])
        ]
        async with core.db.write() as session:
            await jobs.still_ours(session)
            await session.execute(insert(models.Chunk), rows)
    embedded = core.embedder is None or await core.embedder.embed_document(core, bot, document.id)
    await core.pause("ingest")
    await _serve(core, bot, document, len(passages) or 1, embedded=embedded, picture=picture)
    metrics.DOCUMENTS.labels("ready").inc()
    log.info("document_ready", document=document.id, passages=len(passages))


async def _anew(core: Core, content: bytes) -> bytes:
    """Return a picture made anew, without what else its file held. Raises ``ReadError``, or ``Temporary``."""
    media = core.settings.media
    try:
        return await pictures.anew(content, pixels=media.megapixels * 1_000_000, side=media.picture_side)
    except pictures.BadPicture as error:
        large = error.code in ("pixels", "memory", "timeout")
        raise ReadError("large_picture" if large else "bad_picture", error.code) from error


async def _serve(
    core: Core, bot: models.Bot, document: models.Document, count: int, *, embedded: bool, picture: bytes | None
) -> None:
    """Let the new document serve and every older one of its name stop, in one transaction.

    ``picture``: what is kept of one instead of what was uploaded.
    """
    async with core.db.write() as session:
        await _hold(session, bot.id)
        await jobs.still_ours(session)
        current = await session.get(models.Document, document.id, with_for_update=True)
        if current is None or current.deleted_at is not None:
            return
        older = models.Document
        same = await _called(session, bot.id, document.name)
        replaced = list(
            await session.scalars(
                update(older)
                .where(
                    older.id.in_(same),
                    older.id < document.id,
                    older.deleted_at.is_(None),
                )
                .values(serving=False, deleted_at=utcnow())
                .returning(older.id)
            )
        )
        current.status, current.progress, current.serving = "ready", 100, True
        current.chunk_count, current.error_code, current.finished_at = count, None, utcnow()
        if picture is not None:
            kept = await session.get_one(models.DocumentContent, current.id)
            kept.content, current.size = picture, len(picture)
        await _describe(session, current)
        await _bump(session, bot.id)
        if replaced:
            payload = {"bot": bot.id, "documents": replaced}
            await jobs.add(session, PURGE_JOB, payload, lane=_lane(bot), owner_id=bot.owner_id)
        if not embedded or current.shared or picture is not None:
            await embedding.enqueue(session, bot.id, bot.owner_id)
    core.bell.ring(f"bot:{bot.id}", {"document": document.id, "status": "ready", "progress": 100})
    core.bell.ring("jobs")


async def _mark(
    core: Core,
    document: models.Document,
    bot: models.Bot,
    *,
    status: str,
    progress: int,
    error_code: str | None = None,
    finished: bool = False,
    tell: bool = True,
) -> bool:
    """Say how far reading has come; return False, and say nothing, for what was read, given up or deleted meanwhile."""
    async with core.db.write() as session:
        await jobs.still_ours(session)
        marked = await session.scalar(
            update(models.Document)
            .where(
                models.Document.id == document.id,
                models.Document.deleted_at.is_(None),
                models.Document.status.in_(("queued", "processing")),
            )
            .values(status=status, progress=progress, error_code=error_code, finished_at=utcnow() if finished else None)
            .returning(models.Document.id)
        )
        if marked is None:
            return False
        if error_code and tell:
            await notices.open_notice(
                session,
                bot.owner_id,
                "document_failed",
                key=f"document:{document.id}",
                bot_id=bot.id,
                params={"document": document.name, "reason": error_code, "bot": bot.name},
            )
    if error_code:
        await _drop_passages(core, document.id)
        core.bell.ring("notices")
    core.bell.ring(f"bot:{bot.id}", {"document": document.id, "status": status, "progress": progress})
    return True


async def _drop_passages(core: Core, document_id: str) -> None:
    """Delete a document's passages in small transactions."""
    await core.db.delete_in_slices(
        models.Chunk.id, models.Chunk.document_id == document_id, at_once=_SLICE, check=jobs.still_ours
    )


async def purge_documents(core: Core, payload: Mapping[str, Any]) -> None:
    """Remove the passages, bytes and rows of documents that others took the place of, or of one that its owner deleted.

    Runs as a job. ``payload["document"]``: the one that was deleted, which can be brought back for a while.
    """
    document = models.Document
    one = str(payload.get("document", ""))
    which = document.id == one if one else document.id.in_(map(str, payload.get("documents", ())))
    async with core.db.read() as session:
        found = await session.execute(
            select(document.id, document.deleted_at).where(
                document.bot_id == str(payload["bot"]), document.deleted_at.is_not(None), which
            )
        )
        gone = {row[0]: row[1] for row in found}
    for document_id, deleted_at in gone.items():
        left = UNDO_S - (utcnow() - deleted_at).total_seconds() if one and deleted_at is not None else 0.0
        if left > 0:
            raise jobs.TryLater(left)
        await _drop_passages(core, document_id)
        async with core.db.write() as session:
            # What a conversation shows stays without serving, until that is too old to be kept.
            await session.execute(
                sql_delete(models.Document).where(models.Document.id == document_id, ~received(models.Document.id))
            )


async def abandon(core: Core, payload: Mapping[str, Any]) -> None:
    """A reading job was given up after several attempts: a document it had not read has failed, and its owner is told."""
    async with core.db.read() as session:
        row = (
            await session.execute(
                select(models.Document, models.Bot)
                .join(models.Bot, models.Bot.id == models.Document.bot_id)
                .where(models.Document.id == str(payload["document"]))
            )
        ).one_or_none()
    if row is not None:
        await _mark(
            core,
            row[0],
            row[1],
            status="failed",
            progress=0,
            error_code="crashed",
            finished=True,
            tell=not payload.get("watched"),
        )
