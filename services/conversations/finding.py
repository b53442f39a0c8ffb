"""What conversations are found by: who the customer is and the words that were said, folded to one spelling.

Triggers note what changed; here the words are read within a minute, many at a time and with no transaction open, so that a
message costs its sender nothing but the note. Whoever searches has what is noted read first.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import structlog
from sqlalchemy import ColumnElement, and_, bindparam, delete, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from db import fulltext, models
from db.base import insert_for, table_of
from db.engine import Database, DatabaseUnavailable
from services.knowledge.analysis import keys

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

EVERY_S = 60.0
_AT_ONCE = 300
_PREPARING_S = 1.0
_READ_AT_ONCE = 500
_WORD_CHARS = 32
_MOST_WORDS = 20_000
"""So many different words of a conversation are found."""
_PART_CHARS = 3
"""Names and phone numbers are found by parts of so many letters."""
_PHONE_DIGITS = 4
_NO_PHONE = re.compile(r"[^\d\s+()-]")
FEW = 1000
"""So many conversations that were found are looked up by themselves; of more the newest are walked along."""

_due, _text, _message = models.ConversationDue, models.ConversationText, models.Message
_TEXT = table_of(_text).c
_KEPT = (_TEXT.id, _TEXT.conversation_id, _TEXT.who, _TEXT.words)


class Note(NamedTuple):
    """A row of :class:`db.models.ConversationDue`."""

    id: int
    conversation_id: str
    message_id: str | None
    whole: bool


class Kept(NamedTuple):
    """What a conversation is found by, as it is stored (``id``) or is to be."""

    id: int | None
    conversation_id: str
    who: str
    words: str
    bot_id: str = ""


def wanted(q: str) -> list[str]:
    """Return what to look for: the words of ``q`` as they are kept, or the digits of a part of a phone number."""
    digits = re.sub(r"\D", "", q)
    if len(digits) >= _PHONE_DIGITS and not _NO_PHONE.search(q):
        return [digits[:_WORD_CHARS]]
    return list(dict.fromkeys(word[:_WORD_CHARS] for word in keys(q)))


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked for: ``words``; ``few``: the ids of what was found, None where they are many."""

    sqlite: bool
    words: tuple[str, ...]
    few: list[str] | None

    def among(self, conversation_id: InstrumentedAttribute[str], bot_ids: Sequence[str] | None) -> ColumnElement[bool]:
        """Return the condition that a conversation of these bots (None: of all) was found."""
        if self.few is not None:
            return conversation_id.in_(self.few)
        return fulltext.says(conversation_id, bot_ids, self.words, sqlite=self.sqlite)


async def find(session: AsyncSession, bot_ids: Sequence[str] | None, words: Sequence[str]) -> Finding:
    """Look for conversations of these bots (None: of all) in which each of ``words`` begins a word or a part of a name."""
    sqlite = session.get_bind().dialect.name == "sqlite"
    return Finding(sqlite, tuple(words), await fulltext.conversations(session, bot_ids, words, FEW))


def _parts(word: str) -> list[str]:
    """Return a word and its ends, each of which begins a part of it."""
    return [word[place:] for place in range(max(1, len(word) - _PART_CHARS + 1))]


def _who(name: str, username: str, phone: str) -> str:
    words = [word[:_WORD_CHARS] for word in (*keys(name), *keys(username))]
    words.append(re.sub(r"\D", "", phone))
    return " ".join(dict.fromkeys(part for word in words if word for part in _parts(word)))


def _add(words: dict[str, None], text: str) -> None:
    for word in keys(text):
        if len(words) >= _MOST_WORDS:
            return
        words[word[:_WORD_CHARS]] = None


async def _said(db: Database, which: ColumnElement[bool], words: Mapping[str, dict[str, None]]) -> None:
    """Add the words of these messages to those of their conversations, some at a time."""
    here = table_of(_message).c
    after: tuple[str, str] | None = None
    while True:
        query = select(here.conversation_id, here.id, here.text).where(which, here.conversation_id.in_(list(words)))
        if after is not None:
            later = and_(here.conversation_id == after[0], here.id > after[1])
            query = query.where(or_(here.conversation_id > after[0], later))
        async with db.read() as session:
            rows = (await session.execute(query.order_by(here.conversation_id, here.id).limit(_READ_AT_ONCE))).all()
        for conversation_id, _, text in rows:
            _add(words[conversation_id], text)
        if len(rows) < _READ_AT_ONCE:
            return
        after = rows[-1][0], rows[-1][1]
        await asyncio.sleep(0)


async def catch_up(db: Database) -> int:
    """Read some of what is noted, the latest first; return how many notes are done with. Raises ``DatabaseUnavailable``."""
    due, talk, contact = (table_of(each).c for each in (_due, models.Conversation, models.Contact))
    async with db.read() as session:
        newest = select(due.id, due.conversation_id, due.message_id, due.whole).order_by(due.id.desc()).limit(_AT_ONCE)
        notes = [Note(*row) for row in await session.execute(newest)]
        if not notes:
            return 0
        talks = sorted({note.conversation_id for note in notes})
        rows = await session.execute(select(*_KEPT).where(_TEXT.conversation_id.in_(talks)))
        kept = {row[1]: Kept(*row) for row in rows}
        people = select(talk.id, talk.bot_id, contact.name, contact.username, contact.phone)
        people = people.join_from(
            table_of(models.Conversation), table_of(models.Contact), contact.id == talk.contact_id
        )
        found = (await session.execute(people.where(talk.id.in_(talks)))).all()
    anew = {note.conversation_id for note in notes if note.whole or note.conversation_id not in kept}
    words = {row.id: dict.fromkeys([] if row.id in anew else kept[row.id].words.split()) for row in found}
    ids = [note.message_id for note in notes if note.message_id is not None and note.conversation_id not in anew]
    if whole := {id_: words[id_] for id_ in words if id_ in anew}:
        await _said(db, true(), whole)
    if ids:
        await _said(db, table_of(_message).c.id.in_(ids), words)
    made = [
        Kept(None, row.id, _who(row.name, row.username, row.phone or ""), " ".join(words[row.id]), row.bot_id)
        for row in found
    ]
    return await store(db, notes, kept, made)


async def store(db: Database, notes: Sequence[Note], kept: Mapping[str, Kept], made: Sequence[Kept]) -> int:
    """Store what was made of notes; where another process was quicker than ``kept``, they stay for the next time.

    Returns how many notes are done with.
    """
    late: set[str] = set()
    async with db.write() as session:
        before = select(*_KEPT).with_for_update()
        talks = [each.conversation_id for each in made]
        rows = await session.execute(before.where(_TEXT.conversation_id.in_(talks)))
        now = {row[1]: Kept(*row) for row in rows}
        late = {talk for talk in talks if now.get(talk) != kept.get(talk)}
        changed = [
            {"at": old.id, "to_who": each.who, "to_words": each.words}
            for each in made
            if (old := now.get(each.conversation_id)) is not None
            and each.conversation_id not in late
            and (old.who, old.words) != (each.who, each.words)
        ]
        if changed:
            connection = await session.connection()
            await connection.execute(_CHANGE, changed)
        if new := [each for each in made if each.conversation_id not in now and each.conversation_id not in late]:
            late |= await _insert(session, new)
        done = [note.id for note in notes if note.conversation_id not in late]
        await session.execute(delete(_due).where(_due.id.in_(done)))
    return len(done)


_CHANGE = (
    update(table_of(_text))
    .where(_TEXT.id == bindparam("at"))
    .values(who=bindparam("to_who"), words=bindparam("to_words"))
)


async def _insert(session: AsyncSession, new: Sequence[Kept]) -> set[str]:
    """Store conversations for the first time; return those that another process has stored meanwhile."""
    talk = models.Conversation
    there = select(talk.id).where(talk.id.in_([each.conversation_id for each in new]))
    # Not those that were deleted meanwhile, and none is before this has ended.
    ids = set(await session.scalars(there.with_for_update(read=True, key_share=True)))
    rows = [
        {"conversation_id": each.conversation_id, "bot_id": each.bot_id, "who": each.who, "words": each.words}
        for each in new
        if each.conversation_id in ids
    ]
    if not rows:
        return set()
    insert = insert_for(session.get_bind().dialect.name, _text).on_conflict_do_nothing(
        index_elements=["conversation_id"]
    )
    return ids - set(await session.scalars(insert.returning(_text.conversation_id), rows))


class _Turn:
    """Whose turn it is to read what is noted; ``begun``: when that was last begun and done to the end."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.begun = float("-inf")


_turns: WeakKeyDictionary[Database, _Turn] = WeakKeyDictionary()


async def prepare(core: Core) -> None:
    """Have what is noted read before somebody searches, as far as that is done within a second.

    Of several who search at once one reads for all: each by themselves would write the same and hold up what customers wait for.
    """
    turn, loop = _turns.setdefault(core.db, _Turn()), asyncio.get_running_loop()
    asked = loop.time()
    try:
        async with asyncio.timeout_at(asked + _PREPARING_S):
            await turn.lock.acquire()
    except TimeoutError:
        return
    try:
        if turn.begun >= asked:
            return
        begun, done = loop.time(), _AT_ONCE
        while done >= _AT_ONCE and loop.time() < asked + _PREPARING_S:
            done = await catch_up(core.db)
        if done < _AT_ONCE:
            turn.begun = begun
    except DatabaseUnavailable:
        log.warning("search_not_caught_up")
    finally:
        turn.lock.release()


async def watch(core: Core) -> None:
    """Read what is noted every few seconds until cancelled; a long list of it takes half of the time at most."""
    loop = asyncio.get_running_loop()
    pause_s = EVERY_S
    while True:
        await asyncio.sleep(pause_s)
        begun = loop.time()
        try:
            more = await catch_up(core.db) >= _AT_ONCE
        except DatabaseUnavailable:
            log.warning("search_not_caught_up")
            more = False
        pause_s = loop.time() - begun if more else EVERY_S
