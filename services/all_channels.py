"""Channels and webhooks of all owners, for administrators: what does not work first.

A channel's trouble is known from its state and from the notices that are open about it; neither asks a network. No secret is
ever among what is returned here for a page: of a webhook only the host, since its address may hold one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.engine import Database
from services import access, bots, endpoints, health, naming, paging, sheets
from services.channel_names import CHANNEL_NAMES, channel_name
from services.channels.base import Inspectable
from services.errors import Conflict, Invalid, NotFound, TooMany
from services.i18n import T, Text
from services.paging import Page
from services.sheets import Cell
from services.text import clean

if TYPE_CHECKING:
    from services.core import Core

KINDS = tuple(CHANNEL_NAMES)
FAILING, SOON, WORKING = "failing", "soon", "active"
STATES: Mapping[str, Text] = {
    FAILING: T("Do not work"),
    SOON: T("Needs attention"),
    WORKING: T("Working"),
    "refused": T("Token refused"),
    "conflict": T("Read by another program"),
    "blocked": T("May not send"),
    "unreadable": T("Token unreadable"),
}
"""What channels may be filtered by: some states together, and each of a channel that does not work."""
TROUBLES: Mapping[str, Text] = {
    "token_expires": T("The token ends soon"),
    "token_expires_soon": T("The token ends within a day"),
    "quality_red": T("Low quality of the number"),
    "webhook_lost": T("Deliveries go elsewhere"),
    "webhook_failed": T("Deliveries fail"),
    "silent": T("Does not answer"),
}
"""What a channel that works may suffer from, by the last part of the key of the notice."""
HOOK_STATES: Mapping[str, Text] = {
    "failing": T("Does not answer"),
    "broken": T("Switched off after failures"),
    "off": T("Switched off"),
    "on": T("Working"),
}
"""As :func:`services.endpoints.state` has them."""
_OWNERS_AT_MOST = 200
_TEXT_CHARS = 100
_STATUSES = ("active", "stopped", *bots.BROKEN)
_channel, _bot, _user, _hook = models.Channel, models.Bot, models.User, models.Endpoint
_CONNECTED = and_(_channel.external_id.is_not(None), _channel.bot_id.is_not(None))
"""As the partial index says it. The main bot's own channel has no bot, a disconnected one or a deleted bot's no account."""
_BAD_HOOK = or_(_hook.failing_since.is_not(None), _hook.disabled_at.is_not(None))


@dataclass(frozen=True, slots=True)
class Filters:
    """What of the channels is shown; empty values filter nothing.

    ``owner``: an id or what names one. ``bot``: an id. ``state``: one of :data:`STATES`. ``q``: a part of the channel's name or
    of what it is called on its network, or the account's number there.
    """

    platform: str = ""
    owner: str = ""
    bot: str = ""
    state: str = ""
    q: str = ""

    def __post_init__(self) -> None:
        """Raise ``Invalid`` for what cannot be chosen."""
        for chosen, known, name in ((self.platform, KINDS, "platform"), (self.state, STATES, "state")):
            if chosen and chosen not in known:
                raise Invalid(T("Unknown choice: use one of {names}.", names=", ".join(known)), field=name)


@dataclass(frozen=True, slots=True)
class Listed:
    """A channel in the list, with what is known of it; ``troubles``: keys of :data:`TROUBLES`."""

    channel: models.Channel
    bot: models.Bot
    owner: models.User
    told: health.Health
    troubles: Sequence[str]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many channels of a kind are connected, and how many of these do not work."""

    all: int = 0
    failing: int = 0


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook in the list. ``waiting``: events that wait for it; ``last``: the last one that was tried, None: none yet."""

    endpoint: models.Endpoint
    owner: models.User
    waiting: int
    last: models.EndpointEvent | None


async def _troubles(session: AsyncSession) -> dict[str, list[str]]:
    """Return what is known to be wrong with channels, by their ids, from the notices that are open about it."""
    notice = models.Notice
    open_ = notice.resolved_at.is_(None), notice.key.like("channel:%")
    found: dict[str, list[str]] = {}
    for key in await session.scalars(select(notice.key).where(*open_).limit(paging.FEW)):
        _, channel_id, trouble = [*str(key).split(":"), "", ""][:3]
        found.setdefault(channel_id, []).append(trouble)
    return found


async def _conditions(session: AsyncSession, filters: Filters) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [_CONNECTED]
    if filters.owner or filters.bot:
        query = select(_bot.id).where(_bot.deleted_at.is_(None))
        if filters.owner:
            query = query.where(_bot.owner_id.in_(await naming.ids_called(session, filters.owner, _OWNERS_AT_MOST)))
        if filters.bot:
            query = query.where(_bot.id == clean(filters.bot, 64))
        of_bots = list(await session.scalars(query))
        found.append(_channel.bot_id.in_(of_bots))
    if filters.platform:
        # With all states the index over both is used.
        kind = filters.platform
        indexed = and_(_CONNECTED, _channel.status.in_(_STATUSES), _channel.kind == kind)
        found.append(await paging.few(session, _channel.id, indexed, _channel.kind.concat("") == kind))
    if asked := clean(filters.q, _TEXT_CHARS).strip().removeprefix("@"):
        names = [paging.holds(session, column, asked) for column in (_channel.title, _channel.username)]
        found.append(or_(*names, _channel.external_id == asked))
    return found


async def find(session: AsyncSession, filters: Filters, *, cursor: str = "", limit: int = paging.PAGE) -> Page[Listed]:
    """Return connected channels: first those that do not work, then those that need attention, of each the newest first.

    Raises ``Invalid`` for a malformed cursor.
    """
    wrong = await _troubles(session)
    query = select(_channel).where(*await _conditions(session, filters))
    broken, ill = _channel.status.in_(bots.BROKEN), _channel.id.in_(list(wrong))
    fine = _channel.status.concat("").not_in(bots.BROKEN)
    turns: dict[str, Select[models.Channel]] = {
        FAILING: query.where(broken),
        SOON: query.where(ill, fine),
        WORKING: query.where(fine, _channel.id.not_in(list(wrong))),
    }
    if filters.state in turns:
        chosen = [turns[filters.state]]
    elif filters.state:
        chosen = [query.where(_channel.status == filters.state)]
    else:
        chosen = list(turns.values())
    page: Page[models.Channel] = await paging.in_turn(session, chosen, _channel.id, cursor=cursor, limit=limit)
    rows = await session.execute(
        select(_bot, _user)
        .join(_user, _user.id == _bot.owner_id)
        .where(_bot.id.in_({each.bot_id for each in page.items}))
    )
    whose = {row[0].id: (row[0], row[1]) for row in rows}
    return Page(
        [
            Listed(each, *whose[each.bot_id or ""], health.known(each), _shown(each, wrong.get(each.id, ())))
            for each in page.items
        ],
        page.next,
    )


def _shown(channel: models.Channel, troubles: Sequence[str]) -> list[str]:
    return [] if channel.status in bots.BROKEN else [each for each in TROUBLES if each in troubles]


async def counts(session: AsyncSession) -> dict[str, Counts]:
    """Return how many channels of each of :data:`KINDS` are connected and do not work; one walk along an index."""
    rows = await session.execute(
        select(_channel.status, _channel.kind, func.count()).where(_CONNECTED).group_by(_channel.status, _channel.kind)
    )
    found = dict.fromkeys(KINDS, Counts())
    for status, kind, n in rows:
        before = found.get(kind, Counts())
        found[kind] = Counts(before.all + int(n), before.failing + (int(n) if status in bots.BROKEN else 0))
    return found


async def ill(session: AsyncSession) -> int:
    """Return how many channels need attention before they stop working, at most :data:`services.paging.FEW`."""
    ids = list(await _troubles(session))
    query = select(func.count()).select_from(_channel)
    of_these = _CONNECTED, _channel.id.in_(ids), _channel.status.concat("").not_in(bots.BROKEN)
    return int((await session.execute(query.where(*of_these))).scalar_one())


def can_check(core: Core, channel: models.Channel) -> bool:
    """Tell whether a network can be asked how a channel is."""
    return channel.credentials is not None and isinstance(core.channels.get(channel.kind), Inspectable)


async def check(core: Core, admin: models.User, channel_id: str) -> None:
    """Look at any owner's channel now; that somebody did is written down before the network is asked.

    Raises ``NotFound``, ``Conflict`` where there is nothing to ask, ``TooMany``, and what :func:`services.health.ask` raises.
    """
    async with core.db.read() as session:
        row = (
            await session.execute(
                select(_channel, _bot)
                .join(_bot, _bot.id == _channel.bot_id)
                .where(_channel.id == channel_id, _CONNECTED, _bot.deleted_at.is_(None))
            )
        ).one_or_none()
    if row is None:
        raise NotFound
    channel, bot = row
    if not can_check(core, channel):
        raise Conflict(T("This channel is our own page: there is no network to ask."), code="nothing_to_check")
    if not await core.limits.hit(f"check:{channel.id}", health.CHECKS_A_MINUTE, 60):
        raise TooMany(retry_after_s=60)
    async with core.db.write() as session:
        facts = {"owner": bot.owner_id, "bot": bot.name, "kind": channel.kind}
        await access.record(session, admin, "channel_checked", "channel", channel.id, **facts)
    await health.ask(core, channel)


# Webhooks


@dataclass(frozen=True, slots=True)
class HookFilters:
    """What of the webhooks is shown. ``owner``: an id or what names one. ``state``: one of :data:`HOOK_STATES`."""

    owner: str = ""
    state: str = ""

    def __post_init__(self) -> None:
        """Raise ``Invalid`` for what cannot be chosen."""
        if self.state and self.state not in HOOK_STATES:
            raise Invalid(T("Unknown choice: use one of {names}.", names=", ".join(HOOK_STATES)), field="state")


async def hooks(session: AsyncSession, filters: HookFilters, *, cursor: str = "") -> Page[Hook]:
    """Return owners' webhooks: first those that fail or are switched off; raises ``Invalid`` for a malformed cursor."""
    query = select(_hook)
    if filters.owner:
        query = query.where(_hook.owner_id.in_(await naming.ids_called(session, filters.owner, _OWNERS_AT_MOST)))
    fails, is_off = _hook.failing_since.is_not(None), _hook.disabled_at.is_not(None)
    by_state = {
        "failing": and_(_BAD_HOOK, fails, ~is_off),
        "broken": and_(_BAD_HOOK, fails, is_off),
        "off": and_(_BAD_HOOK, ~fails, is_off),
        "on": and_(~fails, ~is_off),
    }
    chosen = [by_state[filters.state]] if filters.state else [_BAD_HOOK, by_state["on"]]
    page: Page[models.Endpoint] = await paging.in_turn(
        session, [query.where(each) for each in chosen], _hook.id, cursor=cursor
    )
    ids = [each.id for each in page.items]
    known = {person.id: person for person in await session.scalars(_owners(page.items))}
    waiting = await endpoints.waiting(session, page.items)
    event = models.EndpointEvent
    last = (
        select(event.id)
        .where(event.endpoint_id == _hook.id, event.attempts > 0)
        .order_by(event.id.desc())
        .limit(1)
        .correlate(_hook)
        .scalar_subquery()
    )
    tried = await session.scalars(select(event).join(_hook, event.id == last).where(_hook.id.in_(ids)))
    by_hook = {each.endpoint_id: each for each in tried}
    return Page(
        [Hook(each, known[each.owner_id], waiting.get(each.id, 0), by_hook.get(each.id)) for each in page.items],
        page.next,
    )


def _owners(found: Sequence[models.Endpoint]) -> Select[models.User]:
    return select(_user).where(_user.id.in_({each.owner_id for each in found}))


async def bad_hooks(session: AsyncSession) -> int:
    """Return how many webhooks fail or are switched off, at most :data:`services.paging.FEW` and one."""
    some = select(_hook.id).where(_BAD_HOOK).limit(paging.FEW + 1).subquery()
    return int((await session.execute(select(func.count()).select_from(some))).scalar_one())


# Tables for other programs

_HEADINGS = (
    T("Channel"),
    T("Name"),
    T("Address"),
    T("Owner"),
    T("E-mail"),
    T("Phone"),
    T("Bot"),
    T("State"),
    T("Trouble"),
    T("Last error"),
    T("Token ends"),
    T("Last message received"),
    T("Last check"),
    T("Connected"),
    T("Id"),
)


async def table(db: Database, filters: Filters, language: str) -> AsyncIterator[list[list[Cell]]]:
    """Yield the table of the filtered channels in parts, its headings first; each part is read by itself."""
    yield [[heading.render(language) for heading in _HEADINGS]]
    cursor: str | None = ""
    while cursor is not None:
        async with db.read() as session:
            page = await find(session, filters, cursor=cursor, limit=sheets.ROWS_AT_ONCE)
        yield [
            [
                channel_name(each.channel.kind, language),
                each.channel.title,
                each.channel.username or each.channel.external_id or "",
                each.owner.full_name or "",
                each.owner.email or "",
                each.owner.phone or "",
                each.bot.name,
                _rendered(STATES, each.channel.status, language),
                ", ".join(_rendered(TROUBLES, trouble, language) for trouble in each.troubles),
                each.told.trouble.render(language) if each.told.trouble else "",
                sheets.moment(each.told.expires_at),
                sheets.moment(each.channel.last_update_at),
                sheets.moment(each.told.checked_at),
                sheets.moment(each.channel.created_at),
                each.channel.id,
            ]
            for each in page.items
        ]
        cursor = page.next


def _rendered(names: Mapping[str, Text], key: str, language: str) -> str:
    return names[key].render(language) if key in names else key
