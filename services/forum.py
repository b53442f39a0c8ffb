"""A Telegram group with topics as the inbox of an owner's operators: every conversation, of any channel, is a topic.

What is said in a conversation is copied into its topic by the factory bot; what an operator writes there goes to the customer.
Rows are the truth: a topic knows how new its conversation was when it was last shown, so nothing is lost by a restart.

Facts: core.telegram.org/bots/api (createForumTopic, editForumTopic, setMessageReaction), checked 2026-11-22.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import id_of, utcnow
from db.engine import DatabaseUnavailable
from services import access, accounts, attachments, bots, conversations, jobs, notices, outfiles, team
from services.channel_names import CHANNEL_NAMES
from services.channels import carries_caption
from services.channels.base import FileTooLarge, Moved, Refused, RemoteFile, TokenRefused, Unreachable
from services.channels.telegram import place_of
from services.conversations import ConversationRow, desk, marks, reasons
from services.conversations.files import NewFile
from services.errors import AppError, Conflict, Invalid, NotFound, Permanent, Temporary
from services.i18n import DEFAULT_LANGUAGE, T, Text, translate
from services.pauses import backoff_s
from services.text import clean, one_line, split_text, utf16_length

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0
_IDLE_S = 10.0
_REST = 20.0
"""After all conversations were compared only those of late are looked at, for so many times as long as that took."""
_BACK = dt.timedelta(minutes=2)
"""So far back: clocks and commits of other processes may be late."""
_AT_ONCE = 200
_FIRST_MESSAGES = 10
_MESSAGES = 50
_POST_CHARS = 3500
_NAME_CHARS = 120
_TRIES = 5
CORRECT_JOB = "correct_message"
_MARKS = {"bot": "🤖", "human": "👤", "closed": "✅"}
_AUTHORS = {"customer": "👤", "bot": "🤖", "operator": "🧑‍💼", "system": "⚙️"}
_AS = {"image": ("photo", "sendPhoto"), "audio": ("audio", "sendAudio")}
"""The field and the method for a file by the first half of its type."""
_DOCUMENT = ("document", "sendDocument")
_CAPTION_CHARS = 1000
_DOWNLOAD_BYTES = 20 * 1024 * 1024
"""So much Telegram lets a bot download: core.telegram.org/bots/api#getfile."""
_FILES_WAIT = dt.timedelta(minutes=2)
_GONE_TOPIC = ("thread not found", "topic_deleted", "topic_id_invalid", "topic deleted")
_NO_RIGHTS = ("not enough rights", "chat_admin_required", "not a forum", "have no rights", "need administrator rights")
_UNCHANGED = "not_modified"


class GroupLost(Exception):
    """The factory bot cannot work in the group any more."""


# Connecting


async def of_chat(session: AsyncSession, chat_id: int) -> models.ForumGroup | None:
    """Return the group that a Telegram chat serves as, None where it is not in use."""
    return await session.scalar(
        select(models.ForumGroup).where(models.ForumGroup.chat_id == chat_id, models.ForumGroup.status == "active")
    )


async def language_of(session: AsyncSession, chat_id: int) -> str:
    """Return the language of the owner whom a group serves."""
    found = await session.scalar(
        select(models.User.language)
        .join(models.ForumGroup, models.ForumGroup.owner_id == models.User.id)
        .where(models.ForumGroup.chat_id == chat_id)
    )
    return found or DEFAULT_LANGUAGE


async def connect(
    session: AsyncSession, user: models.User, chat_id: int, title: str, bot_id: str | None = None
) -> models.ForumGroup:
    """Make a group the inbox of a bot, or of all of a person's own bots. Raises ``NotFound`` for a bot of others, ``Conflict``
    for a group that serves somebody else."""
    owner_id = user.id
    if bot_id is not None:
        # What a group shows no role can take back: only the owner decides it.
        owner_id = (await bots.get(session, user, bot_id, "own")).owner_id
    group = await session.scalar(select(models.ForumGroup).where(models.ForumGroup.chat_id == chat_id))
    if group is not None and group.status == "active" and group.owner_id != owner_id:
        raise Conflict(T("This group already serves somebody else’s bots."))
    if group is not None and group.owner_id != owner_id:
        # Its topics were about other customers.
        await session.delete(group)
        await session.flush()
        group = None
    if group is None:
        group = models.ForumGroup(owner_id=owner_id, chat_id=chat_id)
    group.bot_id, group.title, group.status = bot_id, one_line(title, 128), "active"
    session.add(group)
    await session.flush()
    await notices.solve(session, _key(group))
    await access.record(session, user, "forum_connected", "forum_group", group.id)
    return group


async def disconnect(session: AsyncSession, chat_id: int, telegram_id: int) -> bool:
    """Note that a chat serves no longer; return whether it did. Its owner hears of it, unless ``telegram_id`` is theirs."""
    group = await of_chat(session, chat_id)
    if group is None:
        return False
    owner = await session.get_one(models.User, group.owner_id)
    await _lose(session, group, told=owner.telegram_id != telegram_id)
    return True


async def _lose(session: AsyncSession, group: models.ForumGroup, *, told: bool = True) -> None:
    group.status = "lost"
    session.add(group)
    if told:
        params = {"group": group.title}
        await notices.open_notice(
            session, group.owner_id, "forum_lost", key=_key(group), bot_id=group.bot_id, params=params
        )


async def moved(session: AsyncSession, chat_id: int, moved_to: int) -> None:
    """Follow a group to its new number."""
    group = await of_chat(session, chat_id)
    if group is not None:
        group.chat_id = moved_to
        session.add(group)


def _key(group: models.ForumGroup) -> str:
    return f"forum:{group.id}"


# What an operator writes in a topic


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of a message in a topic. ``text``: what to answer there; None: a sign of having understood is enough."""

    text: str | None = None


_COMMANDS = {"bot": "bot", "close": "closed", "human": "human", "take": "human"}


async def heard(
    core: Core,
    chat_id: int,
    thread_id: int,
    telegram_id: int,
    message_id: int,
    text: str,
    *,
    at: dt.datetime,
    other: bool = False,
    file: RemoteFile | None = None,
) -> Heard | None:
    """Take what somebody wrote in a topic: it goes to the customer, or is a note or a command where it begins with "/".

    The right to it is asked for each message. ``at``: when it was written. ``file``: what was sent, with ``text`` under it.
    ``other``: it is neither. Raises
    ``Temporary`` where the file cannot be fetched now. Returns None where nothing is to be said: the group is not in use, the
    message is in no conversation's topic, or it was taken before.
    """
    async with core.db.read() as session:
        found = await _topic(session, chat_id, thread_id)
        if found is None:
            return None
        group, talk_id, language = found
        person = await accounts.by_telegram(session, telegram_id)
        role = await team.role_of(session, group.owner_id, person.id) if person is not None else None
        paused = await team.paused_for(session, person) if person is not None and role is None else []
        known = await session.get(models.ForumMessage, (group.id, message_id))
    if known is not None:
        return None
    if person is not None and person.banned_at is None and group.owner_id in {owner.id for owner in paused}:
        return Heard(
            translate(
                person.language,
                "Your work is paused: the owner’s plan has no room for you in the team. This was not sent to the customer.",
            )
        )
    if person is None or role is None or person.banned_at is not None:
        return Heard(
            translate(language, "You are not one of this business’s operators, so this was not sent to the customer.")
        )
    language = person.language
    text = clean(text).strip()
    if other:
        return Heard(translate(language, "I cannot pass this on. It was not sent to the customer."))
    if file is not None and text.startswith("/"):
        return Heard(translate(language, "A note or a command carries no file. This was not sent to the customer."))
    try:
        if text.startswith("/"):
            return await _command(core, person, talk_id, text, id_of(f"{group.id}:{message_id}", at, message_id))
        sent = await _fetched(core, person, talk_id, file) if file is not None else None
        async with core.db.write() as session:
            row = await conversations.get(session, person, talk_id)
            message = await conversations.operator_reply(session, row, text, author=person, file=sent)
            session.add(models.ForumMessage(group_id=group.id, telegram_id=message_id, message_id=message.id))
        _ring(core, row)
    except AppError as error:
        return Heard(f"⚠️ {error.text.render(language)}")
    return Heard()


async def _fetched(core: Core, person: models.User, talk_id: str, file: RemoteFile) -> NewFile:
    """Fetch a file that an operator sent to a topic; raises what :func:`services.outfiles.prepare` does."""
    async with core.db.read() as session:
        row = await conversations.get(session, person, talk_id)
    token, gone = core.settings.secrets.telegram_bot_token, T("The file could not be fetched. Please send it again.")
    too_large = outfiles.too_large(_DOWNLOAD_BYTES // 1024**2)
    if file.size > _DOWNLOAD_BYTES:
        raise Invalid(too_large)
    if token is None:
        raise Invalid(gone)
    try:
        data = await core.telegram.download(token.get_secret_value(), file.ref["file_id"], _DOWNLOAD_BYTES)
    except FileTooLarge:
        raise Invalid(too_large) from None
    except (Permanent, TimeoutError) as error:
        log.warning("forum_file_not_fetched", reason=type(error).__name__)
        raise Invalid(gone) from None
    return await outfiles.prepare(core, row.channel.kind, talk_id, file.name, data, kind=file.kind)


async def _topic(session: AsyncSession, chat_id: int, thread_id: int) -> tuple[models.ForumGroup, str, str] | None:
    """Return the group, the conversation of a topic in it, and the owner's language."""
    row = (
        await session.execute(
            select(models.ForumGroup, models.ForumTopic.conversation_id, models.User.language)
            .join(models.ForumTopic, models.ForumTopic.group_id == models.ForumGroup.id)
            .join(models.User, models.User.id == models.ForumGroup.owner_id)
            .where(
                models.ForumGroup.chat_id == chat_id,
                models.ForumGroup.status == "active",
                models.ForumTopic.thread_id == thread_id,
            )
        )
    ).one_or_none()
    return (row[0], row[1], row[2]) if row is not None else None


async def _command(core: Core, person: models.User, talk_id: str, text: str, note_id: str) -> Heard:
    word, _, rest = text[1:].partition(" ")
    word = word.partition("@")[0].lower()
    async with core.db.write() as session:
        row = await conversations.get(session, person, talk_id)
        if word in _COMMANDS:
            await conversations.set_status(session, row, _COMMANDS[word], actor=person)
        elif word == "assign":
            await desk.assign(session, row, await _assignee(session, row, person, rest.strip()), person)
        else:
            note = rest.strip() if word == "note" else text[1:].strip()
            if not note:
                raise Invalid(T("Write the note after the slash."))
            await marks.add_note(session, row, person, note, note_id=note_id)
    _ring(core, row)
    return Heard()


async def _assignee(session: AsyncSession, row: ConversationRow, person: models.User, wanted: str) -> str | None:
    """Return whom a conversation is given to: oneself, nobody ("-"), or a colleague by name."""
    if wanted == "-":
        return None
    if not wanted or wanted.lower() in ("me", "men", "я"):
        return person.id
    people = await desk.people(session, [row.bot.owner_id])
    found = [each for each in people if each.full_name.lower().startswith(wanted.lower().removeprefix("@"))]
    if len(found) != 1:
        raise NotFound(T("There is no single operator with this name. Write /assign and the name, or /assign alone."))
    return found[0].id


def _ring(core: Core, row: ConversationRow) -> None:
    for topic in ("outbox", "inbox", "notices"):
        core.bell.ring(topic)
    core.ring_talk(row.bot.id, row.conversation.id)


async def edited(core: Core, chat_id: int, telegram_id: int, message_id: int, text: str) -> Heard | None:
    """An operator changed a message in a topic: the customer's changes too where the network can do that."""
    text = clean(text).strip()
    async with core.db.write() as session:
        group = await of_chat(session, chat_id)
        known = await session.get(models.ForumMessage, (group.id, message_id)) if group is not None else None
        person = await accounts.by_telegram(session, telegram_id)
        if group is None or known is None or person is None or person.banned_at is not None:
            return None
        message = await session.get_one(models.Message, known.message_id)
        try:
            row = await conversations.get(session, person, message.conversation_id)
        except NotFound:
            return None
        if not text or text == message.text:
            return None
        if text.startswith("/"):
            return Heard(
                translate(
                    person.language,
                    "What begins with / never goes to a customer. The customer still sees the first text.",
                )
            )
        if row.channel.kind not in ("telegram", "web"):
            return Heard(
                translate(
                    person.language, "This network cannot change what was sent. The customer sees the first text."
                )
            )
        file = (await attachments.of_messages(session, [message.id])).get(message.id, [None])[0]
        under = file is not None and carries_caption("telegram", file.mime, message.text)
        if under and row.channel.kind == "telegram" and not carries_caption("telegram", "", text):
            return Heard(
                translate(
                    person.language, "The text under a file is too long for Telegram. The customer sees the first one."
                )
            )
        message.text, message.edited_at = text[:4096], utcnow()
        session.add(message)
        if row.channel.kind == "telegram":
            payload = {"message": message.id, "under": under}
            lane = f"correct:{row.conversation.id}"
            await jobs.add(session, CORRECT_JOB, payload, lane=lane, owner_id=row.bot.owner_id, bot_id=row.bot.id)
    core.bell.ring("jobs")
    core.ring_talk(row.bot.id, row.conversation.id)
    return Heard()


async def correct(core: Core, payload: Any) -> None:
    """Change the text of a message that was sent by Telegram, once it was."""
    async with core.db.read() as session:
        found = (
            await session.execute(
                select(models.Message, models.Channel, models.Contact.external_id)
                .join(models.Conversation, models.Conversation.id == models.Message.conversation_id)
                .join(models.Channel, models.Channel.id == models.Conversation.channel_id)
                .join(models.Contact, models.Contact.id == models.Conversation.contact_id)
                .where(models.Message.id == payload["message"])
            )
        ).one_or_none()
    if found is None or found[1].credentials is None:
        return
    message, channel, recipient = found
    if message.status == "queued":
        raise jobs.TryLater(2.0)
    if message.external_id is None:
        return
    changed: dict[str, Any] = {"caption" if payload.get("under") else "text": message.text}
    place: dict[str, Any] = {"chat_id": place_of(recipient).chat}
    if connection := place_of(recipient).connection:
        place["business_connection_id"] = connection
    try:
        await core.telegram.call(
            core.credentials(channel.credentials)["token"],
            "editMessageCaption" if payload.get("under") else "editMessageText",
            message_id=int(message.external_id),
            **changed,
            **place,
        )
    except Temporary as error:
        raise jobs.TryLater(error.retry_after_s or 10.0) from None
    except Permanent as error:
        log.info("message_not_corrected", reason=str(error))


async def close_topic(core: Core, payload: Any) -> None:
    """Say in a topic where its conversation goes on, which was joined with another of the same customer, and close it."""
    group, topic = models.ForumGroup, models.ForumTopic
    async with core.db.read() as session:
        found = await session.get(group, payload["group"])
        if found is None or found.status != "active":
            return
        other = await session.scalar(
            select(topic.thread_id).where(topic.group_id == found.id, topic.conversation_id == payload["conversation"])
        )
        language = await language_of(session, found.chat_id)
    token = core.settings.secrets.telegram_bot_token
    if token is None:
        return
    text = translate(language, "This is the same customer as in another topic. The conversation goes on there.")
    if other is not None:
        text += f"\nhttps://t.me/c/{str(found.chat_id).removeprefix('-100')}/{other}"
    place = {"chat_id": found.chat_id, "message_thread_id": payload["thread"]}
    try:
        await core.telegram.call(token.get_secret_value(), "sendMessage", text=text, **place)
        await core.telegram.call(token.get_secret_value(), "closeForumTopic", **place)
    except Temporary as error:
        raise jobs.TryLater(error.retry_after_s or 10.0) from None
    except Permanent as error:
        log.info("topic_not_closed", reason=str(error))


# Copying conversations into topics


async def run(core: Core) -> None:
    """Show conversations in the groups' topics until cancelled; for one process of the installation."""
    desk = _Desk(core)
    try:
        await desk.run()
    finally:
        desk.stop()


class _Desk:
    """Looks for conversations that are newer than their topics; each group has a task that shows its own in turn."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._token = core.settings.secrets.telegram_bot_token
        self._waiting: dict[str, dict[str, None]] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._edits_shown: dict[str, dt.datetime] = {}

    async def run(self) -> None:
        whole_at, loop = 0.0, asyncio.get_running_loop()
        async with self._core.bell.listen("forum", limit=1) as bell:
            while True:
                pause = _IDLE_S
                began = loop.time()
                try:
                    found, any_group = await self._look(None if began >= whole_at else utcnow() - _BACK)
                    if began >= whole_at and len(found) < _AT_ONCE:
                        whole_at = loop.time() + _REST * (loop.time() - began)
                    pause = LOOK_EVERY_S if any_group else _IDLE_S
                    for group_id, talk_id in found:
                        self._put(group_id, talk_id)
                except DatabaseUnavailable:
                    log.warning("forum_not_looked_at")
                try:
                    async with asyncio.timeout(pause):
                        await bell.get()
                        whole_at = 0.0
                except TimeoutError:
                    pass

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def _look(self, since: dt.datetime | None) -> tuple[Sequence[tuple[str, str]], bool]:
        """Return what is to be shown, as (group, conversation), and whether there is any group at all.

        ``since``: only conversations in which something was said since then, which their index finds; else all are compared.
        """
        group, talk, topic, bot = models.ForumGroup, models.Conversation, models.ForumTopic, models.Bot
        async with self._core.db.read() as session:
            if await session.scalar(select(group.id).where(group.status == "active").limit(1)) is None:
                return (), False
            query = (
                select(group.id, talk.id, talk.last_message_at, group.created_at)
                .join(bot, and_(bot.owner_id == group.owner_id, or_(group.bot_id.is_(None), group.bot_id == bot.id)))
                .join(talk, talk.bot_id == bot.id)
                .outerjoin(topic, and_(topic.group_id == group.id, topic.conversation_id == talk.id))
                .where(
                    group.status == "active",
                    bot.deleted_at.is_(None),
                    # One bound only: of two SQLite may take the older one for its index.
                    talk.last_message_at > (group.created_at if since is None else since),
                    or_(topic.shown_at.is_(None), talk.last_message_at > topic.shown_at, topic.status != talk.status),
                )
                .order_by(talk.last_message_at)
                .limit(_AT_ONCE)
            )
            return [(row[0], row[1]) for row in await session.execute(query) if row[2] > row[3]], True

    def _put(self, group_id: str, talk_id: str) -> None:
        self._waiting.setdefault(group_id, {})[talk_id] = None
        task = self._tasks.get(group_id)
        if task is None or task.done():
            self._tasks[group_id] = self._core.tasks.start(self._serve(group_id), name=f"forum:{group_id}")

    async def _serve(self, group_id: str) -> None:
        """Show what waits for a group, one after the other, at Telegram's pace for groups."""
        waiting, failures = self._waiting[group_id], 0
        while waiting:
            talk_id = next(iter(waiting))
            try:
                await self._show(group_id, talk_id)
            except Temporary as error:
                failures += 1
                if failures >= _TRIES:
                    waiting.clear()
                    return
                await asyncio.sleep(error.retry_after_s or backoff_s(failures, first=2.0, most=60.0))
                continue
            except (GroupLost, TokenRefused, Unreachable) as error:
                waiting.clear()
                await self._lost(group_id, str(error))
                return
            except DatabaseUnavailable:
                waiting.clear()
                return
            except Permanent as error:
                log.warning("forum_refused", group=group_id, reason=str(error))
            failures = 0
            waiting.pop(talk_id, None)

    async def _lost(self, group_id: str, reason: str) -> None:
        log.warning("forum_lost", group=group_id, reason=reason)
        async with self._core.db.write() as session:
            group = await session.get(models.ForumGroup, group_id)
            if group is None or group.status != "active":
                return
            await _lose(session, group)
        self._core.bell.ring("notices")

    async def _show(self, group_id: str, talk_id: str) -> None:
        """Bring one topic up to date."""
        async with self._core.db.read() as session:
            group = await session.get(models.ForumGroup, group_id)
            row = await _talk(session, talk_id)
            if group is None or group.status != "active" or row is None:
                return
            owner = await session.get_one(models.User, group.owner_id)
            topic = await session.scalar(
                select(models.ForumTopic).where(
                    models.ForumTopic.group_id == group_id, models.ForumTopic.conversation_id == talk_id
                )
            )
            looked = utcnow()
            shown = self._edits_shown.get(topic.id) if topic is not None else None
            messages, seen, whole = await _unseen(session, topic, talk_id, shown)
            files = await attachments.of_messages(session, [each.id for each in messages])
        if topic is None:
            topic = await self._new_topic(group, row, owner.language)
        name = _name(row, owner.language)
        try:
            posts = _posts(messages, files, owner.language)
            for number, post in enumerate(posts, 1):
                await self._post(group, topic.thread_id, post.content, owner.language)
                if post.upto:
                    # What follows may fail or be cut off: this is not shown a second time.
                    changes = any(later.upto and later.upto <= topic.seen for later in posts[number:])
                    await self._passed(topic.id, post.upto, None if changes else looked)
            if (topic.name, topic.status) != (name, row.conversation.status):
                await self._rename(group, topic.thread_id, name)
        except Refused as error:
            if not _is_gone(error):
                raise
            # Somebody deleted the topic: the next thing that is said makes a new one.
            async with self._core.db.write() as session:
                if (gone := await session.get(models.ForumTopic, topic.id)) is not None:
                    await session.delete(gone)
            return
        async with self._core.db.write() as session:
            kept = await session.get(models.ForumTopic, topic.id)
            if kept is not None:
                kept.name, kept.status = name, row.conversation.status
                # What was left out keeps the topic due, but for changes that are shown.
                if whole:
                    self._edits_shown.pop(topic.id, None)
                else:
                    self._edits_shown[topic.id] = looked
                kept.shown_at = row.conversation.last_message_at if whole else kept.shown_at
                kept.seen = seen
                session.add(kept)

    async def _passed(self, topic_id: str, seen: str, edits_shown: dt.datetime | None) -> None:
        """Note up to which message a topic shows its conversation, and with ``edits_shown`` the changes of earlier ones."""
        if edits_shown is not None:
            self._edits_shown[topic_id] = edits_shown
        async with self._core.db.write() as session:
            kept = await session.get(models.ForumTopic, topic_id)
            if kept is not None:
                kept.seen = max(kept.seen, seen)
                session.add(kept)

    async def _post(
        self, group: models.ForumGroup, thread_id: int, content: str | models.Attachment, language: str
    ) -> None:
        """Show one thing; what Telegram does not take is left out and, for a file, that is said. Raises what ``_call`` does."""
        try:
            if isinstance(content, str):
                await self._call(group, "sendMessage", message_thread_id=thread_id, text=content)
            else:
                await self._send_file(group, thread_id, content)
        except Refused as error:
            if _is_gone(error):
                raise
            log.warning("forum_post_refused", group=group.id, reason=str(error))
            if not isinstance(content, str):
                text = "⚠️ " + translate(language, "Telegram does not take this file. It is in the panel.")
                await self._call(group, "sendMessage", message_thread_id=thread_id, text=text)

    async def _rename(self, group: models.ForumGroup, thread_id: int, name: str) -> None:
        """Let a topic's name tell the state; a name that Telegram does not take is not tried again."""
        try:
            await self._call(group, "editForumTopic", message_thread_id=thread_id, name=name)
        except Refused as error:
            if _is_gone(error):
                raise
            log.warning("forum_topic_not_renamed", group=group.id, reason=str(error))

    async def _new_topic(self, group: models.ForumGroup, row: ConversationRow, language: str) -> models.ForumTopic:
        name = _name(row, language)
        made = await self._call(group, "createForumTopic", name=name)
        topic = models.ForumTopic(
            group_id=group.id,
            conversation_id=row.conversation.id,
            thread_id=int(made["message_thread_id"]),
            name=name,
            status=row.conversation.status,
        )
        async with self._core.db.write() as session:
            session.add(topic)
        return topic

    async def _send_file(self, group: models.ForumGroup, thread_id: int, file: models.Attachment) -> None:
        """Show a file; where Telegram does not take it as what it is, as a document."""
        async with self._core.db.read() as session:
            query = attachments.with_content(select(attachments.CONTENT).select_from(models.Attachment))
            content = await session.scalar(query.where(models.Attachment.id == file.id))
        if content is None:
            return
        name = file.name or f"{file.kind}.{file.mime.rpartition('/')[2] or 'bin'}"
        about = {"message_thread_id": thread_id, "caption": (file.transcript or "")[:_CAPTION_CHARS]}
        field, method = _AS.get(file.mime.partition("/")[0], _DOCUMENT)
        try:
            await self._call(group, method, file=(field, content, name), **about)
        except Refused as error:
            if (field, method) == _DOCUMENT or _is_gone(error):
                raise
            await self._call(group, _DOCUMENT[1], file=(_DOCUMENT[0], content, name), **about)

    async def _call(
        self, group: models.ForumGroup, method: str, *, file: tuple[str, bytes, str] | None = None, **parameters: Any
    ) -> Any:
        """Call Telegram in a group, again where it is away or asks to wait. ``file``: field, content and name.

        Raises ``Temporary``, ``GroupLost`` or a ``Permanent``.
        """
        core, share = self._core, self._core.settings.telegram.group_messages_per_minute
        if self._token is None:
            raise GroupLost("there is no factory bot")
        burst = min(core.settings.telegram.chat_burst, share / 2)
        token, attempt = self._token.get_secret_value(), 0
        while True:
            attempt += 1
            await core.limits.pace(f"group:forum:{group.chat_id}", (share - burst) / 60, burst)
            try:
                if file is not None:
                    return await core.telegram.upload(token, method, *file, chat_id=group.chat_id, **parameters)
                return await core.telegram.call(token, method, chat_id=group.chat_id, **parameters)
            except Moved as error:
                async with core.db.write() as session:
                    await moved(session, group.chat_id, int(error.recipient))
                raise Temporary("the group moved", retry_after_s=0.1) from None
            except Temporary as error:
                # Here and not from the beginning of what is shown: that would be there twice.
                if error.sent or attempt >= _TRIES:
                    raise
                await asyncio.sleep(error.retry_after_s or backoff_s(attempt, first=2.0, most=60.0))
            except Refused as error:
                reason = str(error).lower()
                if _UNCHANGED in reason:
                    return True
                if any(words in reason for words in _NO_RIGHTS):
                    raise GroupLost(str(error)) from None
                raise


def _is_gone(error: Refused) -> bool:
    """Whether a topic is no more."""
    return any(words in str(error).lower() for words in _GONE_TOPIC)


async def _talk(session: AsyncSession, talk_id: str) -> ConversationRow | None:
    row = (
        await session.execute(
            select(models.Conversation, models.Contact, models.Channel, models.Bot)
            .join(models.Contact, models.Contact.id == models.Conversation.contact_id)
            .join(models.Channel, models.Channel.id == models.Conversation.channel_id)
            .join(models.Bot, models.Bot.id == models.Conversation.bot_id)
            .where(models.Conversation.id == talk_id)
        )
    ).one_or_none()
    return ConversationRow(*row) if row is not None else None


async def _unseen(
    session: AsyncSession, topic: models.ForumTopic | None, talk_id: str, edits_shown: dt.datetime | None
) -> tuple[list[models.Message], str, bool]:
    """Return what a topic does not show yet, oldest first (of a long talk without a topic the end), the last message that was
    looked at, and whether that is all: a message whose file is still on its way waits for it a while."""
    message = models.Message
    query = select(message).where(message.conversation_id == talk_id)
    if topic is None or not topic.seen:
        found = list(await session.scalars(query.order_by(message.id.desc()).limit(_FIRST_MESSAGES)))[::-1]
    else:
        changed = message.id > topic.seen
        if (since := max(filter(None, (topic.shown_at, edits_shown)), default=None)) is not None:
            # A place that moves is told again and again.
            changed = or_(changed, and_(message.edited_at > since, message.kind.not_in(("location", "venue"))))
        found = list(await session.scalars(query.where(changed).order_by(message.id).limit(_MESSAGES)))
    pending = select(models.Attachment.message_id).where(
        models.Attachment.message_id.in_([each.id for each in found]),
        models.Attachment.status == "waiting",
        models.Attachment.created_at > utcnow() - _FILES_WAIT,
    )
    waits = min(await session.scalars(pending), default="")
    count = len(found)
    found = [each for each in found if not waits or each.id < waits]
    whole = len(found) == count < _MESSAGES
    # What was written in the group stands there already.
    written = select(models.ForumMessage.message_id).where(
        models.ForumMessage.message_id.in_([each.id for each in found])
    )
    own = set(await session.scalars(written))
    seen = max([each.id for each in found] + ([topic.seen] if topic is not None else []), default="")
    return [each for each in found if each.id not in own], seen, whole


def _name(row: ConversationRow, language: str) -> str:
    who = row.contact.name or row.contact.username or translate(language, "Customer")
    waits = row.conversation.status == "waiting"
    mark = reasons.mark(row.conversation) if waits else _MARKS.get(row.conversation.status, "")
    return one_line(f"{mark} {who} · {CHANNEL_NAMES.get(row.channel.kind, row.channel.kind)}", _NAME_CHARS)


@dataclass(slots=True)
class _Post:
    """A text or a file; ``upto``: the last message that is whole with it, empty where none is."""

    content: str | models.Attachment
    upto: str = ""


def _posts(
    messages: Sequence[models.Message], files: Mapping[str, Sequence[models.Attachment]], language: str
) -> list[_Post]:
    """Return messages as posts, several texts in one where they fit; each kept file is a post of its own."""
    posts: list[_Post] = []
    for message in messages:
        for part in split_text(shown_line(message, language), _POST_CHARS):
            last = posts[-1].content if posts else None
            if isinstance(last, str) and utf16_length(last) + utf16_length(part) + 2 <= _POST_CHARS:
                posts[-1].content = f"{last}\n\n{part}"
            else:
                posts.append(_Post(part))
        posts += [_Post(file) for file in files.get(message.id, ()) if file.status == "stored"]
        posts[-1].upto = message.id
    return posts


_KINDS: dict[str, Text] = {
    "photo": T("picture"),
    "image": T("picture"),
    "voice": T("voice message"),
    "audio": T("audio"),
    "video": T("video"),
    "document": T("file"),
    "sticker": T("sticker"),
    "location": T("place"),
    "contact": T("contact"),
}


def shown_line(message: models.Message, language: str) -> str:
    """Return a message as operators see it in Telegram: who wrote it, by a sign, what it is, and its text."""
    mark = _AUTHORS.get(message.author, "")
    if message.deleted_at is not None:
        return f"🗑 {mark} " + translate(language, "The customer deleted a message.")
    kind = _KINDS.get(message.kind)
    text = f"[{kind.render(language)}] {message.text}".strip() if kind else message.text
    return f"{'✏️ ' if message.edited_at else ''}{mark} {text or '…'}"
