"""Files of all owners, for administrators: what bots know and what conversations hold, found, added up, as tables.

What stands in a file is not shown here: a document's text is its owner's, and a file of a conversation is opened with that.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import first_id
from db.engine import Database
from services import access, naming, paging, sheets
from services.days import midnight
from services.errors import Invalid, NotFound
from services.i18n import T, Text
from services.knowledge import READERS, documents
from services.knowledge.base import ANSWERS, PICTURES
from services.paging import Page
from services.sheets import Cell
from services.text import clean

ORDERS: Mapping[str, Text] = {"failed": T("Failed first"), "size": T("Largest first")}
"""Orders besides the newest first."""
COUNTED = 5_000
"""So many files are added up; of more it is said that there are more."""
_OWNERS_AT_MOST = 200
_NAME_CHARS = 200
_bot, _document, _file = models.Bot, models.Document, models.Attachment
File = models.Document | models.Attachment


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """One of the two lists. ``states``: all of them, ``failed``: those in which something went wrong, ``kinds`` of files.

    ``held``: the condition that a row's bytes are kept for it; ``listed``: what of the table is on the list at all.
    """

    model: type[models.Document] | type[models.Attachment]
    states: Mapping[str, Text]
    failed: tuple[str, ...]
    kinds: Mapping[str, Text | str]
    held: ColumnElement[bool] = field(default_factory=true)
    listed: tuple[ColumnElement[bool], ...] = ()


KNOWLEDGE = Shelf(
    models.Document,
    {
        "failed": T("Could not be read"),
        "queued": T("Waiting to be read"),
        "processing": T("Being read"),
        "ready": T("Ready"),
    },
    ("failed",),
    {kind: kind.upper() for kind in (*(suffix[1:] for suffix in READERS), *sorted(PICTURES))},
    listed=(_document.deleted_at.is_(None), _document.kind != ANSWERS),
)
"""Documents that bots answer from."""
SENT = Shelf(
    models.Attachment,
    {
        "stored": T("Kept"),
        "waiting": T("Not fetched yet"),
        "failed": T("Could not be fetched"),
        "too_large": T("Too large"),
        "refused": T("Not accepted"),
        "no_room": T("No room left"),
        "gone": T("No longer there"),
    },
    ("failed", "too_large", "refused", "no_room"),
    {
        "photo": T("Photo"),
        "voice": T("Voice message"),
        "audio": T("Audio"),
        "video": T("Video"),
        "document": T("File"),
        "sticker": T("Sticker"),
    },
    # The bytes of a document that was sent are counted as the document's.
    held=and_(_file.status == "stored", _file.document_id.is_(None)),
)
"""Files of messages, of customers' and of those that were sent to them."""
AUTHORS: Mapping[str, Text] = {
    "customer": T("Customer"),
    "operator": T("Operator"),
    "bot": T("Bot"),
    "system": T("The program"),
}


@dataclass(frozen=True, slots=True)
class Filters:
    """What of a shelf is shown; empty values filter nothing.

    ``owner``: an id or what names one. ``bot``: an id. ``name``: a part of the file's. ``since`` and ``until``: days of Tashkent,
    both included. ``order``: one of :data:`ORDERS`, empty: the newest first.
    """

    owner: str = ""
    bot: str = ""
    state: str = ""
    kind: str = ""
    name: str = ""
    since: dt.date | None = None
    until: dt.date | None = None
    order: str = ""

    def checked(self, shelf: Shelf) -> Filters:
        """Return these; raises ``Invalid`` for what cannot be chosen."""
        for chosen, known, name in (
            (self.state, shelf.states, "state"),
            (self.kind, shelf.kinds, "kind"),
            (self.order, ORDERS, "order"),
        ):
            if chosen and chosen not in known:
                raise Invalid(T("Unknown choice: use one of {names}.", names=", ".join(known)), field=name)
        if self.since and self.until and self.until < self.since:
            raise Invalid(T("The last day is before the first."), field="until")
        return self


@dataclass(frozen=True, slots=True)
class Total:
    """How many files there are and how many bytes are kept of them; ``more``: these are only the first :data:`COUNTED`."""

    files: int
    size: int
    more: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file of a conversation belongs: the channel's kind, who sent it (one of :data:`AUTHORS`), the conversation."""

    channel: str
    author: str
    conversation_id: str


def _listed(shelf: Shelf) -> list[ColumnElement[bool]]:
    return [*shelf.listed, select(_bot.id).where(_bot.id == shelf.model.bot_id, _bot.deleted_at.is_(None)).exists()]


async def _conditions(session: AsyncSession, shelf: Shelf, filters: Filters) -> list[ColumnElement[bool]]:
    model = shelf.model
    found = _listed(shelf)
    if filters.owner or filters.bot:
        query = select(_bot.id).where(_bot.deleted_at.is_(None))
        if filters.owner:
            owners = await naming.ids_called(session, filters.owner, _OWNERS_AT_MOST)
            query = query.where(_bot.owner_id.in_(owners))
        if filters.bot:
            query = query.where(_bot.id == clean(filters.bot, 64))
        bots = list(await session.scalars(query))
        found.append(
            await paging.few(session, model.id, model.bot_id.in_(bots), model.bot_id.concat("").in_(bots))
            if bots
            else model.id.in_([])
        )
    if filters.state or filters.kind:
        # With all states the index over both is used, whatever the kind.
        indexed = model.status == filters.state if filters.state else model.status.in_(list(shelf.states))
        walked: list[ColumnElement[bool]] = []
        if filters.state:
            walked.append(model.status.concat("") == filters.state)
        if filters.kind:
            indexed = and_(indexed, model.kind == filters.kind)
            walked.append(model.kind.concat("") == filters.kind)
        found.append(await paging.few(session, model.id, indexed, and_(*walked)))
    if named := clean(filters.name, _NAME_CHARS).strip():
        found.append(paging.holds(session, model.name, named))
    # Rows are never written later than they are made, so that their identifiers are moments too.
    if filters.since:
        found.append(model.id >= first_id(midnight(filters.since)))
    if filters.until:
        found.append(model.id < first_id(midnight(filters.until + dt.timedelta(days=1))))
    return found


async def find(
    session: AsyncSession, shelf: Shelf, filters: Filters, *, cursor: str = "", limit: int = paging.PAGE
) -> Page[File]:
    """Return a part of a shelf in the order of the filters; raises ``Invalid`` for a malformed cursor."""
    model = shelf.model
    query: Select[Any] = select(model).where(*await _conditions(session, shelf, filters))
    found: Page[File]
    if filters.order == "size":
        found = await paging.largest_first(session, query, model.size, model.id, cursor=cursor, limit=limit)
    elif filters.order == "failed":
        turns = [query.where(model.status.in_(shelf.failed)), query.where(model.status.not_in(shelf.failed))]
        found = await paging.in_turn(session, turns, model.id, cursor=cursor, limit=limit)
    else:
        found = await paging.newest_first(session, query, model.id, cursor=cursor, limit=limit)
    return found


async def total(session: AsyncSession, shelf: Shelf, filters: Filters) -> Total:
    """Return how much the filters leave, of at most :data:`COUNTED` files: adding up a million would take seconds."""
    conditions = await _conditions(session, shelf, filters)
    sizes = select(shelf.model.size, shelf.held.label("held")).where(*conditions).limit(COUNTED + 1).subquery()
    kept = func.coalesce(func.sum(sizes.c.size).filter(sizes.c.held), 0)
    count, size = (await session.execute(select(func.count(), kept).select_from(sizes))).one()
    return Total(min(int(count), COUNTED), int(size), int(count) > COUNTED)


async def failures(session: AsyncSession, shelf: Shelf) -> int:
    """Return in how many files something went wrong, at most :data:`services.paging.FEW` and one."""
    model = shelf.model
    some = select(model.id).where(model.status.in_(shelf.failed), *_listed(shelf)).limit(paging.FEW + 1).subquery()
    return int((await session.execute(select(func.count()).select_from(some))).scalar_one())


async def owners(session: AsyncSession, files: Sequence[File]) -> dict[str, tuple[models.Bot, models.User]]:
    """Return the bot and the owner of each of these files, by the id of the bot."""
    rows = await session.execute(
        select(_bot, models.User)
        .join(models.User, models.User.id == _bot.owner_id)
        .where(_bot.id.in_({each.bot_id for each in files}))
    )
    return {row[0].id: (row[0], row[1]) for row in rows}


async def places(session: AsyncSession, files: Sequence[File]) -> dict[str, Place]:
    """Return where files of conversations belong, by the id of their message."""
    message, talk = models.Message, models.Conversation
    ids = {each.message_id for each in files if isinstance(each, models.Attachment)}
    rows = await session.execute(
        select(message.id, models.Channel.kind, message.author, talk.id)
        .join(talk, talk.id == message.conversation_id)
        .join(models.Channel, models.Channel.id == talk.channel_id)
        .where(message.id.in_(ids))
    )
    return {id_: Place(kind, author, talk_id) for id_, kind, author, talk_id in rows}


def deleted_on(file: models.Attachment, keep_days: int) -> dt.datetime | None:
    """Return when the bytes of a file of a conversation are deleted, None where there are none."""
    return file.created_at + dt.timedelta(days=keep_days) if file.status == "stored" else None


async def read_again(session: AsyncSession, admin: models.User, document_id: str) -> models.Document:
    """Let any owner's failed document be read once more; ring "jobs" after the commit.

    Raises ``NotFound``, and ``Conflict`` as :func:`services.knowledge.documents.retry` does.
    """
    row = (
        await session.execute(
            select(_document, _bot)
            .join(_bot, _bot.id == _document.bot_id)
            .where(_document.id == document_id, _bot.deleted_at.is_(None), *KNOWLEDGE.listed)
        )
    ).one_or_none()
    if row is None:
        raise NotFound
    document, bot = row
    await documents.retry(session, bot, document)
    facts = {"owner": bot.owner_id, "bot": bot.name, "name": document.name}
    await access.record(session, admin, "document_retried", "document", document.id, **facts)
    return document


# Tables for other programs

_BEGIN = (T("Time"), T("Owner"), T("E-mail"), T("Phone"), T("Bot"))
_HEADINGS: Mapping[str, tuple[Text, ...]] = {
    "documents": (
        *_BEGIN,
        T("Name"),
        T("Kind"),
        T("Bytes"),
        T("State"),
        T("Reason"),
        T("Passages"),
        T("Read on"),
        T("Id"),
    ),
    "attachments": (
        *_BEGIN,
        T("Channel"),
        T("Sent by"),
        T("Name"),
        T("Kind"),
        T("Type"),
        T("Bytes"),
        T("State"),
        T("Deleted on"),
        T("Conversation"),
        T("Id"),
    ),
}


async def table(
    db: Database, shelf: Shelf, filters: Filters, language: str, *, keep_days: int
) -> AsyncIterator[list[list[Cell]]]:
    """Yield the table of the filtered files in parts, its headings first; each part is read by itself."""
    yield [[heading.render(language) for heading in _HEADINGS[shelf.model.__tablename__]]]
    cursor: str | None = ""
    while cursor is not None:
        async with db.read() as session:
            page = await find(session, shelf, filters, cursor=cursor, limit=sheets.ROWS_AT_ONCE)
            whose = await owners(session, page.items)
            where = await places(session, page.items) if shelf is SENT else {}
        yield [
            [
                sheets.moment(each.created_at),
                *(person.full_name or "", person.email or "", person.phone or "", bot.name),
                *(
                    _document_cells(each, language)
                    if isinstance(each, models.Document)
                    else _sent_cells(each, where.get(each.message_id), language, keep_days)
                ),
                each.id,
            ]
            for each in page.items
            for bot, person in (whose[each.bot_id],)
        ]
        cursor = page.next


def kind_name(shelf: Shelf, kind: str, language: str) -> str:
    """Return what a kind of file is called."""
    name = shelf.kinds.get(kind, kind)
    return name if isinstance(name, str) else name.render(language)


def state_name(shelf: Shelf, state: str, language: str) -> str:
    """Return what a state of a file is called."""
    return shelf.states[state].render(language) if state in shelf.states else state


def _document_cells(document: models.Document, language: str) -> list[Cell]:
    reason = documents.error_text(document)
    return [
        document.name,
        kind_name(KNOWLEDGE, document.kind, language),
        document.size,
        state_name(KNOWLEDGE, document.status, language),
        reason.render(language) if reason else "",
        document.chunk_count,
        sheets.moment(document.finished_at),
    ]


def _sent_cells(file: models.Attachment, place: Place | None, language: str, keep_days: int) -> list[Cell]:
    author = AUTHORS.get(place.author) if place else None
    return [
        place.channel if place else "",
        author.render(language) if author else "",
        file.name,
        kind_name(SENT, file.kind, language),
        file.mime,
        file.size,
        state_name(SENT, file.status, language),
        sheets.moment(deleted_on(file, keep_days)),
        place.conversation_id if place else "",
    ]
