"""Messages of an owner to many customers: who gets one, what it says, and what became of it.

:mod:`services.broadcasting` sends them. A message of a broadcast is an ordinary one of its conversation, by the author
``system``: the bot remembers having said it, no plan counts it, and lists of conversations keep their order.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, String, and_, case, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import new_id, table_of, utcnow
from services import access, bots, days, notices, paging, testers
from services.allowances import BOTS_BEFORE
from services.channels import WINDOWS, split_for
from services.channels.base import Outgoing
from services.conversations import optouts, put_in_outbox
from services.conversations.records import Reply, outbox_rows
from services.days import TASHKENT
from services.errors import Conflict, Invalid, NotFound
from services.i18n import CATALOGS, T, Text, in_cyrillic, translate
from services.keeping import Kept
from services.lanes import Line
from services.paging import Page, malformed
from services.templates import Template
from services.text import clean, one_line

if TYPE_CHECKING:
    from services.core import Core
    from services.settings import Settings

TEXT_CHARS = 3000
TITLE_CHARS = 100
MOST_DAYS = 3650
_AHEAD_AT_MOST = dt.timedelta(days=366)
KINDS = ("telegram", "web", "whatsapp", "instagram")
SEEN = ("", "within", "before")
"""Customers of any time, those who wrote within so many days, those who have not written for so many days."""
_MANY = 5000
_TELLING = ("whatsapp", "instagram")
"""Networks that tell what became of a message after it was sent."""

CONTACT, TALK, CHANNEL = (
    table_of(models.Contact),
    table_of(models.Conversation),
    table_of(models.Channel),
)
BROADCAST, DELIVERY = table_of(models.Broadcast), table_of(models.BroadcastDelivery)
MESSAGE = table_of(models.Message)
_LABELLED = table_of(models.ConversationLabel)
_BOT = table_of(models.Bot)

STATES: Mapping[str, Text] = {
    "draft": T("Draft"),
    "scheduled": T("Scheduled"),
    "sending": T("Being sent"),
    "paused": T("Paused"),
    "stopped": T("Stopped"),
    "done": T("Sent"),
}
FATES: Mapping[str, Text] = {
    "waiting": T("Waiting"),
    "queued": T("On its way"),
    "sent": T("Sent"),
    "delivered": T("Delivered"),
    "read": T("Read"),
    "failed": T("Not delivered"),
    "unknown": T("Not known whether it arrived"),
    "skipped": T("Left out"),
}
"""What became of it for one customer."""
REASONS: Mapping[str, Text] = {
    "group": T("groups: a broadcast is for people"),
    "business": T("private chats of your own Telegram account"),
    "silent": T("have never written themselves"),
    "opted_out": T("do not want broadcasts"),
    "unreachable": T("have blocked the bot or are gone"),
    "person": T("a person of yours is talking with them"),
    "plan": T("the channel is not in your plan"),
    "channel": T("the channel does not work or was disconnected"),
    "window": T("have not written for 24 hours, and the network allows no free text then"),
    "refused": T("the network refused the message"),
    "interrupted": T("the program was interrupted while sending"),
    "deleted": T("the message was deleted"),
}
"""Why somebody is left out, or a message failed."""
_BY_WRITING = T("Who writes to the bot themselves gets the next one: share its link.")
WAYS: Mapping[str, Text] = {
    "none": T("Nobody has written to this bot yet, and a broadcast goes to those who have. Share its link first."),
    "choice": T("No customer fits what you chose: choose others."),
    "group": _BY_WRITING,
    "business": _BY_WRITING,
    "silent": _BY_WRITING,
    "opted_out": T("They get none until they allow it again. You can answer each of them in their conversation."),
    "unreachable": T("They get broadcasts again once they have written to the bot."),
    "person": T("Give these conversations back to the bot first."),
    "plan": T("Choose a plan that includes the channel."),
    "channel": T("Mend the channel first."),
    "window": T(
        "In WhatsApp an approved template may go out at any time: choose one. In Instagram wait until they write again."
    ),
}
"""What an owner can do where a broadcast reaches nobody; all but the first two by the reason of :data:`REASONS`."""
PAUSES: Mapping[str, Text] = {
    "bot": T("The bot was stopped. Start it, then press “Resume”."),
    "plan": T("Your plan does not let this bot answer now. Choose a plan, then press “Resume”."),
    "channel": T("A channel stopped working. Mend it on the channels page, then press “Resume”."),
    "banned": T("The account was blocked."),
    "restored": T(
        "The data was restored from a backup. Customers may have got the message already, so it is not sent again."
    ),
}
"""Why a broadcast was interrupted where nobody pressed a button."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Who is meant; what is empty leaves nobody out. ``seen``: see :data:`SEEN`, with ``days``."""

    channels: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    seen: str = ""
    days: int = 0

    @classmethod
    def of(cls, broadcast: models.Broadcast | Mapping[str, Any]) -> Audience:
        """Read what a broadcast keeps."""
        kept = (broadcast if isinstance(broadcast, Mapping) else broadcast.audience) or {}
        lists = {name: tuple(kept.get(name) or ()) for name in ("channels", "languages", "labels")}
        return cls(**lists, seen=kept.get("seen") or "", days=int(kept.get("days") or 0))


@dataclass(frozen=True, slots=True)
class Draft:
    """What an owner writes down."""

    texts: Mapping[str, str]
    audience: Audience = Audience()
    title: str = ""
    template: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """How many would get a broadcast now, by kind of channel, and how many would not, by reason."""

    by_channel: Mapping[str, int]
    left_out: Mapping[str, int]

    @property
    def total(self) -> int:
        """How many would get it."""
        return sum(self.by_channel.values())

    def ways(self, audience: Audience) -> dict[str, Text]:
        """Return what can be done where nobody would get it, see :data:`WAYS`, the reason of most first; else nothing."""
        if self.total:
            return {}
        if not self.left_out:
            return {key: WAYS[key] for key in ["none" if audience == Audience() else "choice"]}
        return {why: WAYS[why] for why in sorted(self.left_out, key=lambda why: -self.left_out[why])}


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a broadcast: how many by fate, and of those left out or failed how many by reason."""

    fates: Mapping[str, int]
    reasons: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many it was for, those left out not counted."""
        return sum(n for fate, n in self.fates.items() if fate != "skipped")

    @property
    def arrived(self) -> int:
        """How many it was sent to."""
        return sum(self.fates.get(fate, 0) for fate in ("sent", "delivered", "read"))

    @property
    def over(self) -> int:
        """How many it is settled of."""
        return self.total - self.fates.get("waiting", 0) - self.fates.get("queued", 0)


@dataclass(frozen=True, slots=True)
class Receiver:
    """What became of it for one customer. ``error``: in the network's words."""

    contact: models.Contact
    kind: str
    conversation_id: str
    fate: str
    reason: str
    error: str
    at: dt.datetime


_kept: Kept[Count] = Kept(60, 200)
_reports: Kept[Report] = Kept(60, 200)


# Who gets it


def in_audience(bot_id: str, audience: Audience, first_language: str, now: dt.datetime) -> list[ColumnElement[bool]]:
    """Return the conditions on contacts with their conversations and channels that they are meant."""
    found: list[ColumnElement[bool]] = [
        CONTACT.c.bot_id == bot_id,
        CONTACT.c.external_id.not_like(f"{testers.PREFIX}%"),
    ]
    if audience.channels:
        found.append(CHANNEL.c.kind.in_(audience.channels))
    if audience.languages:
        codes = [*audience.languages, *(["uz-Cyrl"] if "uz" in audience.languages else [])]
        speaks = CONTACT.c.language.in_(codes)
        found.append(or_(speaks, CONTACT.c.language.is_(None)) if first_language in codes else speaks)
    if audience.labels:
        labelled = select(_LABELLED.c.conversation_id).where(_LABELLED.c.label_id.in_(audience.labels))
        found.append(TALK.c.id.in_(labelled))
    if audience.seen:
        since = now - dt.timedelta(days=audience.days)
        wrote = TALK.c.last_inbound_at
        found.append(wrote >= since if audience.seen == "within" else or_(wrote < since, wrote.is_(None)))
    return found


def left_out(kinds: Sequence[str], *, has_template: bool, now: dt.datetime) -> ColumnElement[str]:
    """Return why somebody who is meant does not get it, empty for who does. ``kinds``: the channels that the plan includes."""
    wrote, kind, place = TALK.c.last_inbound_at, CHANNEL.c.kind, CONTACT.c.external_id
    closed = [
        and_(kind == network, wrote < now - window)
        for network, window in WINDOWS.items()
        if not (network == "whatsapp" and has_template)
    ]
    return case(
        (and_(kind == "telegram", or_(place.like("-%"), place.like("%/-%"))), "group"),
        (and_(kind == "telegram", place.like("%/%")), "business"),
        (wrote.is_(None), "silent"),
        (CONTACT.c.opted_out_at.is_not(None), "opted_out"),
        (CONTACT.c.unreachable_since.is_not(None), "unreachable"),
        (TALK.c.status == "human", "person"),
        (kind.not_in(list(kinds)), "plan"),
        (or_(CHANNEL.c.status != "active", CHANNEL.c.external_id.is_(None)), "channel"),
        *[(condition, "window") for condition in closed],
        else_=literal("", String()),
    )


def everybody() -> Any:
    """Return contacts joined with their conversations and channels."""
    return CONTACT.join(TALK, TALK.c.contact_id == CONTACT.c.id).join(CHANNEL, CHANNEL.c.id == CONTACT.c.channel_id)


async def plan_kinds(session: AsyncSession, core: Core, bot: models.Bot) -> tuple[str, ...]:
    """Return the kinds of channel through which the plan of a bot's owner lets it speak now."""
    terms = await core.allowances.terms_of(session, bot.owner_id)
    before = await session.scalar(select(BOTS_BEFORE).select_from(_BOT).where(_BOT.c.id == bot.id)) or 0
    return tuple(kind for kind in KINDS if not terms.silences(kind, before))


async def count(
    session: AsyncSession, core: Core, bot: models.Bot, audience: Audience, *, has_template: bool = False
) -> Count:
    """Return how many would get a broadcast now and how many are left out why."""
    now = utcnow()
    why = left_out(await plan_kinds(session, core, bot), has_template=has_template, now=now).label("why")
    rows = await session.execute(
        select(CHANNEL.c.kind, why, func.count())
        .select_from(everybody())
        .where(*in_audience(bot.id, audience, bot.languages[0], now))
        .group_by(CHANNEL.c.kind, why)
    )
    by_channel: dict[str, int] = {}
    without: dict[str, int] = {}
    for kind, reason, n in rows:
        if reason:
            without[reason] = without.get(reason, 0) + n
        else:
            by_channel[kind] = by_channel.get(kind, 0) + n
    order = list(REASONS)
    return Count(by_channel, dict(sorted(without.items(), key=lambda item: order.index(item[0]))))


async def counted(
    session: AsyncSession, core: Core, bot: models.Bot, audience: Audience, *, has_template: bool = False
) -> Count:
    """Return what :func:`count` does; of very many it may be a minute old."""
    key = bot.id, audience, has_template
    known = _kept.get(key)
    if known is None:
        known = await count(session, core, bot, audience, has_template=has_template)
        if known.total + sum(known.left_out.values()) >= _MANY:
            _kept.put(key, known)
    return known


def minutes(settings: Settings, counted: Count) -> int:
    """Return about how many minutes sending takes: channels go side by side, each within its network's limits."""
    telegram, meta = settings.telegram, settings.meta
    rates = {"telegram": telegram.messages_per_second * telegram.bulk_share}
    rates |= dict.fromkeys(_TELLING, meta.messages_per_second * meta.bulk_share)
    longest = max((n / rates[kind] for kind, n in counted.by_channel.items() if kind in rates), default=0.0)
    return max(1, round(longest / 60))


def is_quiet(settings: Settings, moment: dt.datetime) -> bool:
    """Whether people sleep in Tashkent at a moment, as the settings have it."""
    begin, end, hour = settings.broadcasts.quiet_from, settings.broadcasts.quiet_until, moment.astimezone(TASHKENT).hour
    return begin <= hour or hour < end if begin > end else begin <= hour < end


# What it says


def language_of(language: str | None, languages: Sequence[str]) -> str:
    """Return the language of texts for a customer: their own where the bot speaks it, else the bot's first."""
    base = "uz" if language == "uz-Cyrl" else language
    return str(language) if base in languages else languages[0]


def text_for(texts: Mapping[str, str], language: str, languages: Sequence[str]) -> tuple[str, str]:
    """Return the text for a customer of a language, and the language that it is in."""
    base = "uz" if language == "uz-Cyrl" else language
    if texts.get(base):
        return (in_cyrillic(texts[base]) if language == "uz-Cyrl" else texts[base]), language
    other = next(code for code in (*languages, *CATALOGS) if texts.get(code))
    return texts[other], other


def shown(texts: Mapping[str, str], language: str, languages: Sequence[str]) -> tuple[str, str]:
    """Return a whole message for a customer of a language, with the way out of broadcasts under it, and its language."""
    text, language = text_for(texts, language, languages)
    return f"{text}\n\n{translate(language, optouts.LINE.msgid)}", language


def outgoing(kind: str, text: str, language: str) -> tuple[Outgoing, ...]:
    """Return the parts of a message as a channel of this kind takes them; nothing leaves for the web."""
    if kind == "web":
        return ()
    parts = split_for(kind, text)
    return tuple(
        Outgoing(part, *((optouts.buttons(language), translate(language, "Choose")) if part is parts[-1] else ()))
        for part in parts
    )


def kept_template(template: Template, values: Mapping[str, str]) -> dict[str, Any]:
    """Return a template with its places filled as a broadcast keeps it; raises ``Invalid`` for a place left empty."""
    return {
        "name": template.name,
        "language": template.language,
        "payload": template.payload(values),
        "text": template.preview(values),
        "values": dict(values),
    }


# What owners do


def _checked(bot: models.Bot, draft: Draft, labels: set[str]) -> dict[str, Any]:
    texts = {code: clean(draft.texts.get(code, "")).strip() for code in CATALOGS}
    texts = {code: text for code, text in texts.items() if text}
    for code, text in texts.items():
        if len(text) > TEXT_CHARS:
            raise Invalid(T("A message may have at most {n} characters.", n=TEXT_CHARS), field=f"text_{code}")
    if not texts:
        raise Invalid(T("Write a message first."), field=f"text_{bot.languages[0]}")
    asked = draft.audience
    if asked.seen not in SEEN or (asked.seen and not 1 <= asked.days <= MOST_DAYS):
        raise Invalid(T("Write a number of days, from 1 to {n}.", n=MOST_DAYS), field="days")
    audience = Audience(
        tuple(kind for kind in KINDS if kind in asked.channels),
        tuple(code for code in CATALOGS if code in asked.languages),
        tuple(label for label in asked.labels if label in labels),
        asked.seen,
        asked.days if asked.seen else 0,
    )
    title = one_line(draft.title, TITLE_CHARS) or one_line(next(iter(texts.values())), 60)
    return {"title": title, "texts": texts, "audience": asdict(audience), "template": draft.template}


async def _labels(session: AsyncSession, bot: models.Bot) -> set[str]:
    return set(await session.scalars(select(models.Label.id).where(models.Label.owner_id == bot.owner_id)))


async def create(session: AsyncSession, bot: models.Bot, draft: Draft, actor: models.User) -> models.Broadcast:
    """Keep a draft. Raises ``Invalid`` naming the field."""
    values = _checked(bot, draft, await _labels(session, bot))
    made = models.Broadcast(id=new_id(), bot_id=bot.id, author_id=actor.id, **values)
    session.add(made)
    await session.flush()
    await access.record(session, actor, "broadcast_made", "broadcast", made.id)
    return made


async def get(session: AsyncSession, bot: models.Bot, broadcast_id: str) -> models.Broadcast:
    """Return a bot's broadcast; raises ``NotFound``."""
    found = await session.get(models.Broadcast, broadcast_id)
    if found is None or found.bot_id != bot.id:
        raise NotFound()
    return found


async def list_for(session: AsyncSession, bot: models.Bot, *, cursor: str | None = None) -> Page[models.Broadcast]:
    """Return a bot's broadcasts, the latest first."""
    one = models.Broadcast
    return await paging.newest_first(session, select(one).where(one.bot_id == bot.id), one.id, cursor=cursor)


async def _held(
    session: AsyncSession, bot: models.Bot, broadcast_id: str, version: int, states: Sequence[str]
) -> models.Broadcast:
    """Return a broadcast to be changed, held until the transaction ends; raises ``Conflict`` where others were faster."""
    found = await session.get(models.Broadcast, broadcast_id, with_for_update=True, populate_existing=True)
    if found is None or found.bot_id != bot.id:
        raise NotFound()
    if found.version != version or found.status not in states:
        raise Conflict(
            T("This broadcast has changed meanwhile. Look at it as it is now, then press again if it is still needed."),
            code="changed",
        )
    found.version += 1
    session.add(found)
    return found


async def change(
    session: AsyncSession, bot: models.Bot, broadcast_id: str, version: int, draft: Draft
) -> models.Broadcast:
    """Change a draft. Raises ``Invalid`` naming the field, ``Conflict`` where it changed meanwhile or is no draft any more."""
    values = _checked(bot, draft, await _labels(session, bot))
    found = await _held(session, bot, broadcast_id, version, ("draft",))
    for name, value in values.items():
        setattr(found, name, value)
    await session.flush()
    return found


async def put_template(
    session: AsyncSession, bot: models.Bot, broadcast_id: str, version: int, template: Mapping[str, Any] | None
) -> None:
    """Let a draft have a WhatsApp template, see :func:`kept_template`, or none."""
    found = await _held(session, bot, broadcast_id, version, ("draft",))
    found.template = template
    await session.flush()


async def delete(session: AsyncSession, bot: models.Bot, broadcast_id: str, version: int, actor: models.User) -> None:
    """Delete a draft; what was sent stays to be looked up."""
    found = await _held(session, bot, broadcast_id, version, ("draft",))
    await session.delete(found)
    await access.record(session, actor, "broadcast_deleted", "broadcast", broadcast_id)


def moment_of(day_and_time: str) -> dt.datetime:
    """Read ``2026-11-22T10:30`` of Tashkent; raises ``Invalid`` for what is no moment, or not within a year from now."""
    moment, now = days.moment_of(day_and_time, "at"), utcnow()
    if not now < moment <= now + _AHEAD_AT_MOST:
        raise Invalid(T("Choose a time from now on, within a year."), field="at")
    return moment


def paused_key(broadcast_id: str) -> str:
    """Return the key of notices that a broadcast waits for somebody to mend something."""
    return f"broadcast:{broadcast_id}:paused"


async def _may_speak(session: AsyncSession, core: Core, bot: models.Bot) -> None:
    if bot.status != "active":
        raise Conflict(T("The bot is stopped: start it first."), code="stopped")
    await core.allowances.ensure(session, bot)
    if not await plan_kinds(session, core, bot):
        raise Conflict(T("Your plan does not let this bot answer now. Choose a larger plan."), code="plan")


async def launch(
    session: AsyncSession,
    core: Core,
    bot: models.Bot,
    broadcast_id: str,
    version: int,
    actor: models.User,
    *,
    at: dt.datetime | None = None,
) -> models.Broadcast:
    """Send a draft, now or at a moment; ring "broadcasts" after the commit.

    Raises ``Conflict`` where the bot or its plan does not speak, nobody would get it, or it changed meanwhile.
    """
    await _may_speak(session, core, bot)
    found = await _held(session, bot, broadcast_id, version, ("draft",))
    counted = await count(session, core, bot, Audience.of(found), has_template=found.template is not None)
    if ways := counted.ways(Audience.of(found)):
        raise Conflict(T("Nobody would get it. {way}", way=next(iter(ways.values()))), code="nobody")
    found.status, found.reason, found.run_at = "scheduled", "", at or utcnow()
    await session.flush()
    when = found.run_at.isoformat(timespec="minutes")
    await access.record(
        session, actor, "broadcast_launched", "broadcast", found.id, receivers=str(counted.total), at=when
    )
    return found


async def recall(
    session: AsyncSession, bot: models.Bot, broadcast_id: str, version: int, actor: models.User
) -> models.Broadcast:
    """Make a draft again of what has not begun."""
    found = await _held(session, bot, broadcast_id, version, ("scheduled",))
    found.status, found.run_at = "draft", None
    await access.record(session, actor, "broadcast_recalled", "broadcast", found.id)
    return found


async def pause(
    session: AsyncSession, bot: models.Bot, broadcast_id: str, version: int, actor: models.User
) -> models.Broadcast:
    """Interrupt sending; the few that are on their way still go."""
    found = await _held(session, bot, broadcast_id, version, ("sending",))
    found.status, found.reason = "paused", ""
    await access.record(session, actor, "broadcast_paused", "broadcast", found.id)
    return found


async def resume(
    session: AsyncSession, core: Core, bot: models.Bot, broadcast_id: str, version: int, actor: models.User
) -> models.Broadcast:
    """Go on where it was interrupted; ring "broadcasts" after the commit. Another one of the bot's ends first."""
    await _may_speak(session, core, bot)
    found = await _held(session, bot, broadcast_id, version, ("paused",))
    found.status, found.reason, found.run_at = ("sending" if found.started_at else "scheduled"), "", utcnow()
    await notices.solve(session, paused_key(found.id))
    await access.record(session, actor, "broadcast_resumed", "broadcast", found.id)
    return found


async def stop(
    session: AsyncSession, bot: models.Bot, broadcast_id: str, version: int, actor: models.User
) -> models.Broadcast:
    """End it for good; who has not got it gets nothing."""
    found = await _held(session, bot, broadcast_id, version, ("scheduled", "sending", "paused"))
    found.status, found.reason, found.finished_at = "stopped", "", utcnow()
    await notices.solve(session, paused_key(found.id))
    await access.record(session, actor, "broadcast_stopped", "broadcast", found.id)
    return found


async def _own_place(
    session: AsyncSession, bot: models.Bot, user: models.User
) -> tuple[models.Channel, models.Contact, models.Conversation] | None:
    """Return where a person gets a test: the talk with the bot on Telegram, else the test conversation of the panel."""
    there = {channel.kind: channel for channel in await bots.channels(session, bot) if channel.status == "active"}
    contact, talk = models.Contact, models.Conversation
    for kind, external_id in (("telegram", str(user.telegram_id or "")), ("web", testers.contact_of(user.id))):
        if (channel := there.get(kind)) is None:
            continue
        known = (
            await session.execute(
                select(contact, talk)
                .join(talk, talk.contact_id == contact.id)
                .where(
                    contact.channel_id == channel.id,
                    contact.external_id == external_id,
                    contact.unreachable_since.is_(None),
                )
            )
        ).one_or_none()
        if known is not None:
            return channel, known[0], known[1]
        if kind == "web":
            made = contact(bot_id=bot.id, channel_id=channel.id, external_id=external_id)
            session.add(made)
            await session.flush()
            begun = talk(bot_id=bot.id, channel_id=channel.id, contact_id=made.id)
            session.add(begun)
            await session.flush()
            return channel, made, begun
    return None


async def try_out(
    session: AsyncSession, bot: models.Bot, found: models.Broadcast, user: models.User, language: str
) -> tuple[str, str]:
    """Send it to the person who asks alone, as customers of a language see it: in Telegram where they have written to the bot,
    else into the test conversation of the panel.

    Return the kind of channel and the conversation; ring "outbox" after the commit. Raises ``Conflict`` where there is neither.
    """
    row = await _own_place(session, bot, user)
    if row is None:
        raise Conflict(
            T("Write /start to your bot in Telegram first, then press again: the test comes there."), code="no_test"
        )
    channel, contact, talk = row
    text, language = shown(found.texts, language, bot.languages)
    reply = Reply(text, "system", outgoing(channel.kind, text, language))
    moment = utcnow()
    session.add(
        models.Message(
            id=reply.id,
            conversation_id=talk.id,
            author="system",
            text=text,
            language=language,
            status="queued" if reply.outgoing else "sent",
            extra={"broadcast": found.id},
            created_at=moment,
        )
    )
    await session.flush()
    if reply.outgoing:
        rows = outbox_rows(channel.id, contact.external_id, reply, talk.id, "", moment)
        await put_in_outbox(session, rows, Line("outbox", bot.owner_id, bot.id))
    return channel.kind, talk.id


# What became of it


_TOLD = ("delivered", "read", "played", "failed")
"""What networks tell of a message after it was sent."""


def _fate() -> ColumnElement[str]:
    """What became of a delivery, its message joined: it tells more, and earlier than the next step notes it."""
    sent = DELIVERY.c.status.in_(("sent", "queued"))
    return case(
        (and_(sent, MESSAGE.c.status == "played"), "read"),
        (and_(sent, MESSAGE.c.status.is_not(None)), MESSAGE.c.status),
        else_=DELIVERY.c.status,
    )


async def _is_told(session: AsyncSession, found: models.Broadcast) -> bool:
    """Whether a network may tell more of a broadcast after it was sent."""
    channels = Audience.of(found).channels
    meant = [kind for kind in _TELLING if not channels or kind in channels]
    telling = select(CHANNEL.c.id).where(CHANNEL.c.bot_id == found.bot_id, CHANNEL.c.kind.in_(meant))
    return bool(meant) and await session.scalar(telling.limit(1)) is not None


async def report(session: AsyncSession, found: models.Broadcast) -> Report:
    """Return what became of a broadcast so far; of one to very many that is over it may be a minute old.

    What networks tell later is read from the messages, and only where there is such a network: of 100,000 receivers that takes a
    fifth of a second, the rest an index of a few milliseconds.
    """
    key = found.id, found.status, found.version
    if (known := _reports.get(key)) is not None:
        return known
    made = await _report(session, found)
    if found.status in ("stopped", "done") and found.chosen >= _MANY:
        _reports.put(key, made)
    return made


async def _report(session: AsyncSession, found: models.Broadcast) -> Report:
    mine = DELIVERY.c.broadcast_id == found.id
    counts = await session.execute(select(DELIVERY.c.status, func.count()).where(mine).group_by(DELIVERY.c.status))
    fates: dict[str, int] = {row[0]: row[1] for row in counts}
    why = await session.execute(
        select(DELIVERY.c.status, DELIVERY.c.reason, func.count())
        .where(mine, DELIVERY.c.status.in_(("skipped", "failed", "unknown")))
        .group_by(DELIVERY.c.status, DELIVERY.c.reason)
    )
    reasons = {(status, reason): n for status, reason, n in why if reason}
    asked = [("queued", MESSAGE.c.status != "queued")] if fates.get("queued") else []
    if fates.get("sent") and await _is_told(session, found):
        asked.append(("sent", MESSAGE.c.status.in_(_TOLD)))
    for status, changed in asked:
        fate = _fate().label("fate")
        rows = await session.execute(
            select(fate, func.count())
            .select_from(DELIVERY.join(MESSAGE, MESSAGE.c.id == DELIVERY.c.message_id))
            .where(mine, DELIVERY.c.status == status, changed)
            .group_by(fate)
        )
        for later, n in rows:
            fates[status] -= n
            fates[later] = fates.get(later, 0) + n
            if later == "failed":
                reasons["failed", "refused"] = reasons.get(("failed", "refused"), 0) + n
    return Report({fate: n for fate, n in fates.items() if n}, reasons)


async def receivers(
    session: AsyncSession,
    found: models.Broadcast,
    *,
    fate: str = "",
    cursor: str | None = None,
    limit: int = paging.PAGE,
) -> Page[Receiver]:
    """Return whom a broadcast was for, or those of one fate, in an order that stays.

    Raises ``Invalid`` for a malformed cursor.
    """
    what = _fate().label("fate")
    query = (
        select(
            models.Contact,
            CHANNEL.c.kind,
            TALK.c.id.label("talk_id"),
            what,
            DELIVERY.c.reason,
            MESSAGE.c.error,
            DELIVERY.c.changed_at,
        )
        .join(DELIVERY, DELIVERY.c.contact_id == models.Contact.id)
        .join(TALK, TALK.c.contact_id == models.Contact.id)
        .join(CHANNEL, CHANNEL.c.id == models.Contact.channel_id)
        .outerjoin(MESSAGE, MESSAGE.c.id == DELIVERY.c.message_id)
        .where(DELIVERY.c.broadcast_id == found.id)
        .order_by(DELIVERY.c.contact_id)
        .limit(limit + 1)
    )
    if fate in ("waiting", "skipped"):
        query = query.where(DELIVERY.c.status == fate)
    elif fate:
        before = {"queued", fate} - {"delivered", "read"}
        if fate != "unknown" and (fate == "sent" or await _is_told(session, found)):
            before.add("sent")
        query = query.where(DELIVERY.c.status.in_(sorted(before)), what == fate)
    if cursor:
        if not paging.is_cursor(cursor):
            raise malformed()
        query = query.where(DELIVERY.c.contact_id > cursor)
    rows = (await session.execute(query)).all()
    items = [
        Receiver(contact, kind, talk_id, became, reason or ("refused" if became == "failed" else ""), error or "", at)
        for contact, kind, talk_id, became, reason, error, at in rows[:limit]
    ]
    return Page(items, items[-1].contact.id if len(rows) > limit else None)


async def kinds_of(session: AsyncSession, bot: models.Bot) -> list[str]:
    """Return the kinds of channel that a bot has, in the order of :data:`KINDS`."""
    there = {channel.kind for channel in await bots.channels(session, bot)}
    return [kind for kind in KINDS if kind in there]


async def channel_of(session: AsyncSession, bot: models.Bot, kind: str) -> models.Channel:
    """Return a bot's channel of a kind; raises ``NotFound``."""
    found = next((channel for channel in await bots.channels(session, bot) if channel.kind == kind), None)
    if found is None:
        raise NotFound()
    return found


def bot_languages(bot: models.Bot) -> list[str]:
    """Return the languages that texts are written in, the bot's first one first; Cyrillic is made of Uzbek."""
    return list(dict.fromkeys(code for code in (bot.languages or ["uz"]) if code in CATALOGS))
