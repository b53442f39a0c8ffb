"""A customer's card: what is known of a contact, corrected by hand, and deleted where the customer asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from services import access, bots, conversations, endpoints, lanes, notices, team, uploads
from services.accounts import clean_phone
from services.conversations import ConversationRow, desk, marks
from services.conversations.records import out_lane
from services.errors import Conflict, Invalid, NotFound
from services.i18n import LANGUAGES, T
from services.inbox import lane_of
from services.lanes import Line
from services.team import Right
from services.text import one_line

FILES_SHOWN = 24
NAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a contact besides its row. ``messages``: how many; ``files``: the newest, of ``files_count``."""

    messages: int
    labels: Sequence[models.Label]
    notes: Sequence[models.Note]
    files: Sequence[models.Attachment]
    files_count: int
    others: Sequence[ConversationRow]


async def get(session: AsyncSession, user: models.User, contact_id: str, right: Right = "talk") -> ConversationRow:
    """Return a contact with its conversation; raises ``NotFound``, or ``Forbidden`` for who is paused."""
    talk = models.Conversation
    found = await session.scalar(select(talk.id).where(talk.contact_id == contact_id))
    if found is None:
        raise NotFound()
    row = await conversations.get(session, user, found)
    if right != "talk":
        await bots.get(session, user, row.bot.id, right)
    return row


async def card(session: AsyncSession, row: ConversationRow, served: Sequence[models.Bot]) -> Card:
    """Return what is known of a customer; ``served``: the bots that the person who looks may answer for."""
    file, message = models.Attachment, models.Message
    known = await desk.card(session, row, served)
    here = message.conversation_id == row.conversation.id
    files = select(file).join(message, message.id == file.message_id).where(here)
    count = await session.scalar(select(func.count()).select_from(file).join(message).where(here))
    return Card(
        known.messages,
        (await marks.labels_of(session, [row.conversation.id])).get(row.conversation.id, []),
        await marks.notes(session, row.conversation),
        # Written so that not everybody's files are walked along for those of one talk.
        list(await session.scalars(files.order_by(file.id.concat("").desc()).limit(FILES_SHOWN))),
        int(count or 0),
        known.others,
    )


async def change(
    session: AsyncSession,
    row: ConversationRow,
    actor: models.User,
    *,
    name: str,
    phone: str,
    language: str,
    opted_out: bool,
) -> None:
    """Correct what is known of a customer. ``language``: in which the bot answers, empty: as the customer writes.

    Raises ``Invalid`` naming the field.
    """
    contact = row.contact
    name = one_line(name, NAME_CHARS + 1)
    if len(name) > NAME_CHARS:
        raise Invalid(T("The name may have at most {n} characters.", n=NAME_CHARS), field="name")
    number = clean_phone(phone, foreign=True) if phone.strip() else None
    if language and language not in LANGUAGES:
        raise Invalid(T("Choose one of the languages."), field="language")
    contact.name, contact.phone = name, number
    if language != (contact.language or "") or (language and not contact.language_chosen):
        contact.language, contact.language_chosen = language or None, bool(language)
    if opted_out != (contact.opted_out_at is not None):
        contact.opted_out_at = utcnow() if opted_out else None
    session.add(contact)
    await access.record(session, actor, "contact_changed", "contact", contact.id, bot=row.bot.id)


def title_of(contact: models.Contact) -> str:
    """Return what is typed to confirm that a contact is deleted: its name, else its phone, else its id on the network."""
    return contact.name or contact.phone or contact.external_id


async def delete(session: AsyncSession, row: ConversationRow, actor: models.User) -> None:
    """Delete a customer with everything that was said, written down and sent, in one transaction.

    Who writes again afterwards is somebody new. Raises ``Conflict`` while a message of the customer is being answered or sent.
    """
    contact, talk = row.contact, row.conversation
    known_as = [contact.external_id, *filter(None, [contact.alias])]
    lines: dict[str, Line] = {}
    for id_ in known_as:
        out = out_lane(row.channel.id, id_)
        for key, kind in (
            (lane_of(row.channel.id, id_), "inbox"),
            (out, "outbox"),
            (f"bulk{out.removeprefix('out')}", "bulk"),
        ):
            lines[key] = Line(kind, row.bot.owner_id, row.bot.id)
    keys, connection = list(lines), await session.connection()
    await connection.run_sync(lanes.lock, lines)
    lane = lanes.LANES.c
    if await session.scalar(select(lane.key).where(lane.key.in_(keys), lane.holder.is_not(None)).limit(1)):
        raise Conflict(T("A message of this customer is being answered right now. Please try again in a moment."))
    await session.refresh(talk, with_for_update=True)
    # What went into it when the customer turned out to be somebody known is named by the ids that it had.
    joined = models.JoinedConversation
    former = await session.scalars(select(joined.id).where(joined.conversation_id == talk.id))
    talks = [talk.id, *former]
    asked, item, sent = models.UnansweredQuestion, models.InboxItem, models.OutboxItem
    about = asked.bot_id == row.bot.id, asked.conversation_id == talk.id
    await session.execute(sql_delete(asked).where(*about, asked.count == 1))
    await session.execute(update(asked).where(*about).values(conversation_id=None))
    about_talks = models.Notice.key.in_([notices.talk_key(id_) for id_ in talks])
    await session.execute(sql_delete(models.Notice).where(about_talks))
    to_them = or_(sent.conversation_id.in_(talks), sent.recipient.in_(known_as))
    await session.execute(sql_delete(sent).where(sent.channel_id == row.channel.id, to_them))
    for state in ("'new'", "'dead'"):
        # Word for word as the partial indexes say it, or SQLite does not take them.
        await session.execute(sql_delete(item).where(item.lane.in_(keys), item.status == literal_column(state)))
    # What is done stays a while to know repeats, but not from whom it came.
    done = item.channel_id == row.channel.id, item.status == "done", item.lane.in_(keys)
    await session.execute(update(item).where(*done).values(lane=lane_of(row.channel.id, "")))
    told = endpoints.told_of(row.bot.owner_id, "conversation_id", talks)
    await session.execute(
        sql_delete(models.EndpointEvent).where(told), execution_options={"synchronize_session": False}
    )
    await session.execute(sql_delete(lanes.LANES).where(lane.key.in_(keys)))
    await uploads.forget(session, talk.id)
    await session.execute(sql_delete(models.Message).where(models.Message.conversation_id == talk.id))
    await session.execute(sql_delete(models.Conversation).where(models.Conversation.id == talk.id))
    await session.execute(sql_delete(models.Contact).where(models.Contact.id == contact.id))
    await access.record(
        session, actor, "contact_deleted", "contact", contact.id, bot=row.bot.id, channel=row.channel.kind
    )


async def may_manage(session: AsyncSession, user: models.User, bot: models.Bot) -> bool:
    """Whether a person may delete customers of a bot and take their words out as a table."""
    return await team.role_of(session, bot.owner_id, user.id) in ("owner", "manager")
