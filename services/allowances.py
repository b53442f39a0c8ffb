"""What plans allow. Every limit of a plan is looked up and enforced here; ``/billing`` is where an owner gets more.

Counts are taken under the owner's row lock, so that two at once never pass the last one. Nothing that exists is deleted when a
plan allows less: it stays, and what is over the limit is silent. Messages of a month: :mod:`services.quotas`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import direct, models
from db.base import table_of, utcnow
from services import plans, subscriptions, team
from services.channel_names import CHANNEL_NAMES
from services.errors import Conflict
from services.i18n import CATALOGS, LANGUAGE_NAMES, T, Text, Words
from services.plans import Span, Standing, Timeline
from services.settings import PlanFacts, Settings

_MIB = 1_048_576
_MOST_KNOWN = 20_000
OVER, BOTS, CHANNEL, MESSAGES = "over", "bots", "channel", "messages"
"""Why a bot is silent by its owner's plan: there is none any more, it allows fewer bots, not this kind of channel, or no more
messages this month."""
_SUBSCRIPTION = table_of(models.Subscription)
_SPANS = (
    select(
        _SUBSCRIPTION.c.id,
        _SUBSCRIPTION.c.user_id,
        _SUBSCRIPTION.c.plan,
        _SUBSCRIPTION.c.period,
        _SUBSCRIPTION.c.starts_at,
        _SUBSCRIPTION.c.ends_at,
        _SUBSCRIPTION.c.value_tiyin,
    )
    .where(_SUBSCRIPTION.c.user_id.in_(bindparam("p_ids", expanding=True)), _SUBSCRIPTION.c.revoked_at.is_(None))
    .order_by(_SUBSCRIPTION.c.starts_at)
)
_BOT = table_of(models.Bot)
_OLDER = _BOT.alias("older")
BOTS_BEFORE = (
    select(func.count())
    .select_from(_OLDER)
    .where(
        _OLDER.c.owner_id == _BOT.c.owner_id,
        _OLDER.c.deleted_at.is_(None),
        _OLDER.c.status == "active",
        _OLDER.c.id < _BOT.c.id,
    )
    .correlate(_BOT)
    .scalar_subquery()
)
"""How many bots of the same owner that are not stopped were made before a bot."""
_OWN = models.Bot.owner_id == bindparam("p_owner"), models.Bot.deleted_at.is_(None)
_BOTS_OF = select(func.count()).select_from(models.Bot).where(*_OWN)
_BYTES_OF = (
    select(func.sum(models.Document.size))
    .join(models.Bot, models.Bot.id == models.Document.bot_id)
    .where(*_OWN, models.Document.deleted_at.is_(None))
)
_MESSAGES_OF = select(models.MessageQuota.used).where(
    models.MessageQuota.user_id == bindparam("p_owner"), models.MessageQuota.month == bindparam("p_month")
)
_USED = select(*(query.scalar_subquery() for query in (_MESSAGES_OF, _BOTS_OF, _BYTES_OF, team.PEOPLE)))
"""What an owner uses: messages of a month, bots, bytes of knowledge, people."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an owner's plan means to the talks of this moment; ``version``: of what the owner has; ``line``: what follows it.

    ``messages``: how many may be answered in ``month``, None without a limit. ``title``: of the plan, empty where there is none.
    """

    standing: Standing
    month: str
    version: int
    line: Timeline

    @property
    def messages(self) -> int | None:
        """See above; none where there is no plan."""
        facts = self.standing.facts
        if facts is not None:
            return facts.messages
        return None if self.standing.status == "unlimited" else 0

    @property
    def title(self) -> Words:
        """See above."""
        return self.standing.facts.title if self.standing.facts is not None else Words.of("")

    def silences(self, kind: str, bots_before: int) -> str:
        """Return why a bot is silent in a channel of this kind, empty where it answers; ``bots_before``: :data:`BOTS_BEFORE`."""
        facts = self.standing.facts
        if not self.standing.allows:
            return OVER
        if facts is None:
            return ""
        if bots_before >= facts.bots:
            return BOTS
        return CHANNEL if kind not in facts.channels else ""

    def languages(self, chosen: Sequence[str]) -> tuple[str, ...]:
        """Return in which of a bot's languages it answers: those of the plan, or the plan's own where it has none of them."""
        facts = self.standing.facts
        if facts is None:
            return tuple(chosen)
        return tuple(code for code in chosen if code in facts.languages) or facts.languages


@dataclass(frozen=True, slots=True)
class Measure:
    """How much of something is used; ``limit``: None where there is none. Knowledge is in bytes."""

    used: int
    limit: int | None

    @property
    def percent(self) -> int:
        """How much of the limit is used, 100 at most."""
        return 0 if self.limit is None else 100 if self.used >= self.limit else self.used * 100 // self.limit


@dataclass(frozen=True, slots=True)
class Usage:
    """What an owner has and uses. ``messages``: of ``month``, which ends at ``month_ends_at``.

    ``channels`` and ``languages``: what the plan allows; all of them without a limit.
    """

    standing: Standing
    month: str
    month_ends_at: dt.datetime
    messages: Measure
    bots: Measure
    knowledge: Measure
    operators: Measure
    channels: tuple[str, ...]
    languages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quiet:
    """What a plan keeps a bot that was not stopped from doing.

    ``why``: why it answers nothing (:data:`OVER`, :data:`BOTS`, :data:`MESSAGES`), empty where it answers; ``channels``: the
    kinds of its channels, and ``languages`` those of its languages, that the plan does not include.
    """

    why: str = ""
    channels: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    @property
    def lines(self) -> list[Text]:
        """What is told of it to whoever looks after the bot, a sentence each; none where the plan allows everything."""
        if self.why:
            return [_WHY[self.why]]
        said = []
        if self.channels:
            names = ", ".join(CHANNEL_NAMES[kind] for kind in self.channels)
            said.append(T("The bot is silent on {channels}: the plan does not include it.", channels=names))
        if self.languages:
            names = ", ".join(LANGUAGE_NAMES[code] for code in self.languages)
            said.append(
                T("The bot does not answer in these languages, which the plan does not include: {names}.", names=names)
            )
        return said


_WHY: Mapping[str, Text] = {
    OVER: T("The plan has ended, so the bot is silent. Customers who write wait for a person."),
    BOTS: T(
        "The plan allows fewer bots, and the oldest answer: this one is silent. Stop another one, or choose a larger plan."
    ),
    MESSAGES: T("All messages of this month are used, so the bot is silent until the next month or a larger plan."),
}


async def usage(session: AsyncSession, settings: Settings, user: models.User, now: dt.datetime) -> Usage:
    """Return what an owner's plan allows and how much of it is used at ``now``."""
    standing = (await subscriptions.timeline(session, settings, user)).at(now)
    facts, month = standing.facts, plans.month_of(now)
    values = {"p_owner": user.id, "p_month": month, "p_now": utcnow()}
    messages, bots, knowledge, operators = (int(number or 0) for number in (await session.execute(_USED, values)).one())

    def measure(used: int, limit: int) -> Measure:
        return Measure(used, None if standing.status == "unlimited" else limit)

    return Usage(
        standing,
        month,
        plans.month_ends_at(now),
        messages=measure(messages, facts.messages if facts is not None else 0),
        bots=measure(bots, facts.bots if facts is not None else 0),
        knowledge=measure(knowledge, facts.knowledge_mib * _MIB if facts is not None else 0),
        operators=measure(operators, facts.operators if facts is not None else 0),
        channels=facts.channels if facts is not None else tuple(CHANNEL_NAMES) if standing.allows else (),
        languages=facts.languages if facts is not None else tuple(CATALOGS) if standing.allows else (),
    )


def seats_of(standing: Standing) -> int | None:
    """Return for how many people a team has room, None without a limit; none where there is no plan any more."""
    if standing.facts is not None:
        return standing.facts.operators
    return None if standing.allows else 0


async def _bots(session: AsyncSession, owner_id: str) -> int:
    return int(await session.scalar(_BOTS_OF, {"p_owner": owner_id}) or 0)


async def _people(session: AsyncSession, owner_id: str) -> int:
    return int(await session.scalar(team.PEOPLE, {"p_owner": owner_id, "p_now": utcnow()}) or 0)


async def _bytes(session: AsyncSession, owner_id: str) -> int:
    return int(await session.scalar(_BYTES_OF, {"p_owner": owner_id}) or 0)


class Allowances:
    """The limits of plans at the moment that ``now`` tells. Administrators' own accounts have none."""

    def __init__(self, settings: Settings, now: Callable[[], dt.datetime]) -> None:
        self._settings, self._now = settings, now
        self._spans: dict[str, tuple[int, tuple[Span, ...]]] = {}

    @property
    def address(self) -> str:
        """Where an owner chooses a plan."""
        return f"{self._settings.public_url}/billing"

    # What somebody wants to add

    async def terms_for(self, session: AsyncSession, owner: models.User) -> Terms:
        """Return what the plan of an owner means now who has just been read."""
        facts = {
            "owner_id": owner.id,
            "role": owner.role,
            "owner_since": owner.created_at,
            "trial_at": owner.trial_at,
            "subscription_version": owner.subscription_version,
        }
        connection = await session.connection()
        return (await connection.run_sync(self.terms, [facts]))[owner.id]

    async def terms_of(self, session: AsyncSession, owner_id: str) -> Terms:
        """Return what an owner's plan means now."""
        user = models.User
        facts = user.role, user.created_at.label("owner_since"), user.trial_at, user.subscription_version
        row = (await session.execute(select(user.id.label("owner_id"), *facts).where(user.id == owner_id))).one()
        connection = await session.connection()
        return (await connection.run_sync(self.terms, [row._asdict()]))[owner_id]

    async def quiet(
        self,
        session: AsyncSession,
        of: Sequence[models.Bot],
        *,
        person: models.User | None = None,
        connected: Iterable[tuple[str | None, str]] | None = None,
    ) -> dict[str, Quiet]:
        """Return what plans keep these bots from doing, by their ids; without those that may do everything, or are stopped.

        ``person``: where these are all bots over which this person has a right, and so all of each owner's. ``connected``: the
        bots and kinds of connected channels, where they are known.
        """
        found: dict[str, Quiet] = {}
        bot, channel, quota = models.Bot, models.Channel, models.MessageQuota
        running = {each.id: each for each in of if each.status == "active"}
        kinds: dict[str | None, set[str]] = {}
        if connected is None:
            known = select(channel.bot_id, channel.kind)
            known = known.where(channel.bot_id.in_(running), channel.external_id.is_not(None))
            connected = [(bot_id, kind) for bot_id, kind in await session.execute(known)]
        for bot_id, kind in connected:
            kinds.setdefault(bot_id, set()).add(kind)
        for owner_id in sorted({each.owner_id for each in running.values()}):
            if person is not None and person.id == owner_id:
                terms = await self.terms_for(session, person)
            else:
                terms = await self.terms_of(session, owner_id)
            facts = terms.standing.facts
            if person is not None:
                ids = sorted(each.id for each in running.values() if each.owner_id == owner_id)
            else:
                own = bot.owner_id == owner_id, bot.deleted_at.is_(None), bot.status == "active"
                ids = list(await session.scalars(select(bot.id).where(*own).order_by(bot.id)))
            row = await session.get(quota, (owner_id, terms.month)) if terms.messages is not None else None
            used_up = terms.messages is not None and (row.used if row is not None else 0) >= terms.messages
            for number, bot_id in enumerate(ids):
                if (each := running.get(bot_id)) is None:
                    continue
                if not terms.standing.allows:
                    found[bot_id] = Quiet(OVER)
                elif facts is not None and number >= facts.bots:
                    found[bot_id] = Quiet(BOTS)
                elif used_up:
                    found[bot_id] = Quiet(MESSAGES)
                elif facts is not None:
                    left = tuple(sorted(kinds.get(bot_id, set()) - set(facts.channels)))
                    unspoken = tuple(code for code in each.languages if code not in facts.languages)
                    if left or unspoken:
                        found[bot_id] = Quiet("", left, unspoken)
        return found

    async def languages(self, session: AsyncSession, bot: models.Bot) -> tuple[str, ...]:
        """Return in which languages a bot answers: see :meth:`Terms.languages`."""
        return (await self.terms_of(session, bot.owner_id)).languages(bot.languages)

    async def most_bots(self, session: AsyncSession, owner: models.User) -> int | None:
        """Return how many bots an owner may have, as pages show it; None without a limit, or without a plan."""
        facts = (await self.terms_of(session, owner.id)).standing.facts
        return None if facts is None else min(facts.bots, self._settings.limits.bots_per_owner)

    async def most_people(self, session: AsyncSession, owner: models.User) -> int:
        """Return how many people an owner's team may have, as pages show it."""
        seats, most = (
            seats_of((await self.terms_of(session, owner.id)).standing),
            self._settings.limits.members_per_owner,
        )
        return most if seats is None else min(seats, most)

    async def ensure(self, session: AsyncSession, bot: models.Bot) -> None:
        """Raise ``Conflict`` where the owner of a bot has no plan any more: its answers are not even tried."""
        await self._plan(session, bot.owner_id)

    async def _plan(self, session: AsyncSession, owner_id: str) -> PlanFacts | None:
        """Return what an owner's plan allows, None without a limit; raises ``Conflict`` where there is none any more."""
        standing = (await self.terms_of(session, owner_id)).standing
        if not standing.allows:
            text = T("Your plan has ended. Choose one to go on: {address}", address=self.address)
            raise Conflict(text, code="plan")
        return standing.facts

    async def room_for_bot(self, session: AsyncSession, owner: models.User, *, hold: bool = True) -> None:
        """Raise ``Conflict`` where the plan has no room for one more bot. ``hold``: until the end of the transaction."""
        if hold:
            await _hold(session, owner.id)
        facts = await self._plan(session, owner.id)
        if facts is not None and await _bots(session, owner.id) >= facts.bots:
            text = T(
                "Bots that the plan “{plan}” allows: {n}. Delete one, or choose a larger plan: {address}",
                plan=facts.title,
                n=facts.bots,
                address=self.address,
            )
            raise Conflict(text, code="limit")

    async def room_for_person(self, session: AsyncSession, owner: models.User) -> None:
        """Raise ``Conflict`` where the plan has no room for one more member or open invitation."""
        await _hold(session, owner.id)
        facts = await self._plan(session, owner.id)
        if facts is not None and await _people(session, owner.id) >= facts.operators:
            text = T(
                "People that the plan “{plan}” allows in a team, open invitations included: {n}. Withdraw one, remove somebody, "
                "or choose a larger plan: {address}",
                plan=facts.title,
                n=facts.operators,
                address=self.address,
            )
            raise Conflict(text, code="limit")

    async def seats(self, session: AsyncSession, owner_id: str) -> int | None:
        """Return for how many members an owner's plan has room, held until the transaction ends: see :func:`seats_of`."""
        await _hold(session, owner_id)
        return seats_of((await self.terms_of(session, owner_id)).standing)

    async def channel(self, session: AsyncSession, bot: models.Bot, kind: str) -> None:
        """Raise ``Conflict`` where the plan of a bot's owner has no channels of this kind."""
        facts = await self._plan(session, bot.owner_id)
        if facts is not None and kind not in facts.channels:
            text = T(
                "The plan “{plan}” does not include {channel}. Choose a larger plan: {address}",
                plan=facts.title,
                channel=CHANNEL_NAMES[kind],
                address=self.address,
            )
            raise Conflict(text, code="plan")

    async def room_for_bytes(self, session: AsyncSession, bot: models.Bot) -> int | None:
        """Return how many bytes of documents and answers the plan of a bot's owner leaves room for.

        They are held until the transaction ends.
        None without a limit; below 0 where a smaller plan came later.
        """
        await _hold(session, bot.owner_id)
        facts = await self._plan(session, bot.owner_id)
        return None if facts is None else facts.knowledge_mib * _MIB - await _bytes(session, bot.owner_id)

    async def knowledge(self, session: AsyncSession, bot: models.Bot) -> Measure:
        """Return how much documents and answers of the bot's owner take, and may take, in bytes."""
        facts = (await self.terms_of(session, bot.owner_id)).standing.facts
        return Measure(await _bytes(session, bot.owner_id), None if facts is None else facts.knowledge_mib * _MIB)

    async def no_room(self, session: AsyncSession, bot: models.Bot) -> Conflict:
        """Return what is said where a document does not fit any more."""
        facts = await self._plan(session, bot.owner_id)
        return Conflict(
            T(
                "The documents and taught answers of all your bots may have {n} MB together in the plan “{plan}”. Delete some, "
                "or choose a larger plan: {address}",
                n=facts.knowledge_mib if facts is not None else 0,
                plan=facts.title if facts is not None else "",
                address=self.address,
            ),
            code="limit",
        )

    # What comes in

    def terms(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Terms]:
        """Return what plans mean to the talks of some channels, by owner.

        ``rows``: ``owner_id``, ``role``, ``owner_since``, ``trial_at``, ``subscription_version``. The spans of an owner are read
        again when the version has changed, so what is bought holds from the next message on.
        """
        owners = {row["owner_id"]: row for row in rows if row["owner_id"]}
        if len(self._spans) > _MOST_KNOWN:
            self._spans = {}
        unknown = [
            id_
            for id_, row in owners.items()
            if (known := self._spans.get(id_)) is None or known[0] != row["subscription_version"]
        ]
        if unknown:
            self._read(connection, {id_: owners[id_]["subscription_version"] for id_ in unknown})
        now = self._now()
        month, settings = plans.month_of(now), self._settings
        found: dict[str, Terms] = {}
        for id_, row in owners.items():
            began, unlimited = row["trial_at"] or row["owner_since"], row["role"] == "admin"
            line = Timeline(settings, began, self._spans[id_][1], unlimited=unlimited)
            found[id_] = Terms(line.at(now), month, row["subscription_version"], line)
        return found

    def _read(self, connection: Connection, versions: Mapping[str, int]) -> None:
        spans: dict[str, list[Span]] = {id_: [] for id_ in versions}
        for row in direct.rows(connection, _SPANS, {"p_ids": sorted(versions)}):
            spans[row.user_id].append(Span(row.id, row.plan, row.period, row.starts_at, row.ends_at, row.value_tiyin))
        for id_, version in versions.items():
            self._spans[id_] = version, tuple(spans[id_])


async def _hold(session: AsyncSession, owner_id: str) -> None:
    """Let those who add something of one owner's come one after the other; SQLite has one writer anyway."""
    await session.execute(select(models.User.id).where(models.User.id == owner_id).with_for_update(key_share=True))
