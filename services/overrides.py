"""What administrators chose in the panel instead of ``config.toml``: chains of models, prices, budgets, keys that rest.

A choice is a row and holds in every process within half a minute, at once where the bell is heard. It is checked as the file is;
one that does not fit the file any more is passed over.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import ValidationError
from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import insert_for
from db.engine import DatabaseUnavailable
from services import access, accounts, budgets, notice_texts, notices
from services.ai import PROVIDERS
from services.days import midnight, today
from services.errors import Conflict, Invalid, NotFound
from services.i18n import T
from services.settings import AI, Settings
from services.settings import Limits as LimitFacts
from services.shown import mark_of
from services.statistics.counting import ANSWERED

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

BELL = "overrides"
ROLE, CHAIN, PRICE, KEYS_OFF, OWNER_BUDGET = "ai.role", "ai.roles.", "ai.prices.", "ai.keys_off", "limits.owner_cost"
_LOOK_EVERY_S = 30.0
_MOST_IN_CHAIN = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,99}")
_DEAREST = Decimal(10_000)
_DAYS = 30


@dataclass(frozen=True, slots=True)
class Health:
    """What a provider's calls on the installation's key were. ``last_error``: the outcome of the last failed one of today."""

    calls: int = 0
    failed: int = 0
    cost_usd: Decimal = Decimal(0)
    month_usd: Decimal = Decimal(0)
    last_error: str = ""
    last_error_at: dt.datetime | None = None
    trouble: str = ""


# In the processes


def effective(configured: Settings, chosen: Mapping[str, Any]) -> tuple[Settings, frozenset[str]]:
    """Return the settings with what was chosen, and the providers whose keys rest."""
    ai = configured.ai.model_dump()
    limits = configured.limits.model_dump()
    for key, value in chosen.items():
        if key.startswith(CHAIN) and key.removeprefix(CHAIN) in ai["roles"]:
            ai = _tried(ai, key, roles={**ai["roles"], key.removeprefix(CHAIN): value})
        elif key == ROLE:
            ai = _tried(ai, key, role=value)
        elif key.startswith(PRICE):
            name = key.removeprefix(PRICE)
            facts = {
                **ai["models"].get(name, {}),
                **{f"price_{part}": value.get(part) for part in ("in", "out", "cached")},
            }
            ai = _tried(ai, key, models={**ai["models"], name: facts})
        elif key == OWNER_BUDGET:
            limits["owner_cost_usd_per_day"] = Decimal(value)
    settings = configured.model_copy(update={"ai": AI.model_validate(ai), "limits": LimitFacts.model_validate(limits)})
    return settings, frozenset(chosen.get(KEYS_OFF) or ()) & frozenset(PROVIDERS)


def _tried(ai: dict[str, Any], key: str, **change: Any) -> dict[str, Any]:
    """Return the section with a change, or as it was where the change does not fit."""
    try:
        AI.model_validate({**ai, **change})
    except ValidationError:
        log.warning("override_does_not_fit", key=key)
        return ai
    return {**ai, **change}


async def all_of(session: AsyncSession) -> dict[str, Any]:
    """Return what was chosen, by key."""
    row = models.Override
    found = await session.execute(select(row.key, row.value).order_by(row.key))
    return {each.key: each.value for each in found}


async def take_effect(core: Core) -> None:
    """Let what is chosen hold in this process."""
    from services.core import router_settings

    async with core.db.read() as session:
        chosen = await all_of(session)
        core.notice_texts = await notice_texts.kept(session)
    before = core.unasked
    await core.budgets.look(core, chosen, core.now())
    if chosen == core.chosen and core.unasked == before:
        return
    core.settings, core.keys_off = effective(core.configured, chosen)
    core.router.change(router_settings(core.settings, core.unasked))
    core.chosen = chosen
    log.info("overrides_taken", keys=sorted(chosen), budgets_out=sorted(core.budgets.out))


async def follow(core: Core) -> None:
    """Take over what is chosen when the bell rings and every half minute, until cancelled."""
    async with core.bell.listen(BELL, limit=1) as bell:
        while True:
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await bell.get()
            except TimeoutError:
                pass
            try:
                await take_effect(core)
            except DatabaseUnavailable:
                log.warning("overrides_not_read")


# What administrators choose


def mark(chosen: Mapping[str, Any], key: str) -> str:
    """Return what tells whether a choice is still the one that a form showed: it carries this back as ``seen``."""
    return mark_of(chosen.get(key))


async def _unchanged(session: AsyncSession, key: str, seen: str, field: str | None = None) -> None:
    if not seen:
        return
    row = await session.get(models.Override, key, with_for_update=True, populate_existing=True)
    value = row.value if row is not None else None
    if seen != mark({key: value}, key):
        raise _overtaken(_words(value), field)


def _overtaken(value: str, field: str | None) -> Conflict:
    said = T(
        "Another administrator has changed this meanwhile: {value}. Look whether yours is still right, then save again.",
        value=value,
    )
    return Conflict(said, code="changed", field=field)


def _words(value: Any) -> str:
    if value is None:
        return "config.toml"
    if isinstance(value, dict):
        return " / ".join(str(value.get(part) or "–") for part in ("in", "cached", "out"))
    return " → ".join(value) if isinstance(value, list) else str(value)


async def _keep(
    session: AsyncSession, person: models.User, key: str, value: Any, *, now: dt.datetime, said: str
) -> None:
    row = models.Override
    values = {"value": value, "changed_by": person.id, "changed_at": now}
    await session.execute(
        insert_for(session.get_bind().dialect.name, row)
        .values(key=key, **values)
        .on_conflict_do_update(index_elements=["key"], set_=values)
    )
    await access.record(session, person, "override_changed", "override", key[:64], value=said[:300])


async def back(session: AsyncSession, person: models.User, key: str, *, seen: str = "") -> None:
    """Let ``config.toml`` hold again instead of what was ``seen`` (:func:`mark`, empty for any); raises ``Conflict``."""
    await _unchanged(session, key, seen)
    row = models.Override
    if await session.scalar(delete(row).where(row.key == key).returning(row.key)) is not None:
        await access.record(session, person, "override_ended", "override", key[:64])


async def choose_chain(
    session: AsyncSession,
    person: models.User,
    settings: Settings,
    role: str,
    text: str,
    *,
    now: dt.datetime,
    seen: str = "",
) -> None:
    """Let a role ask these models, one ``provider:model`` a line, the first first.

    Raises ``NotFound``, ``Invalid``, and ``Conflict`` where the choice is not the one that was ``seen`` any more (:func:`mark`,
    empty for any), as all of these.
    """
    if role not in settings.ai.roles:
        raise NotFound
    field, chain = f"chain-{role}", [line.strip() for line in text.splitlines() if line.strip()]
    for entry in chain:
        provider, _, name = entry.partition(":")
        if provider not in PROVIDERS or not _NAME.fullmatch(name):
            raise Invalid(
                T(
                    "“{entry}” is not written provider:model. Providers: {list}.",
                    entry=entry[:60],
                    list=", ".join(PROVIDERS),
                ),
                field=field,
            )
    if len(set(chain)) < len(chain):
        raise Invalid(T("A model stands there twice."), field=field)
    if len(chain) > _MOST_IN_CHAIN:
        raise Invalid(T("At most {n} models.", n=_MOST_IN_CHAIN), field=field)
    if not chain and role == settings.ai.role:
        raise Invalid(T("This role answers customers: it needs a model."), field=field)
    await _unchanged(session, f"{CHAIN}{role}", seen, field)
    await _keep(session, person, f"{CHAIN}{role}", chain, now=now, said=" → ".join(chain))
    for gone in set(settings.ai.roles[role]) - set(chain):
        provider, _, name = gone.partition(":")
        if not any(gone in other for key, other in settings.ai.roles.items() if key != role):
            await notices.solve(session, f"model:{provider}:{name}")


async def choose_role(
    session: AsyncSession, person: models.User, settings: Settings, role: str, *, now: dt.datetime, seen: str = ""
) -> None:
    """Let the models of this role answer customers; raises ``Invalid``."""
    if not settings.ai.roles.get(role):
        raise Invalid(T("Choose a role that has models."), field="role")
    await _unchanged(session, ROLE, seen, "role")
    await _keep(session, person, ROLE, role, now=now, said=role)


def money(text: str, field: str, *, empty: bool = False) -> Decimal | None:
    """Return US dollars as typed, with point or comma; None for nothing where that may be. Raises ``Invalid``."""
    typed = "".join(text.split()).replace(",", ".").removeprefix("$")
    if not typed and empty:
        return None
    try:
        amount = Decimal(typed)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount <= _DEAREST or amount != round(amount, 6):
        raise Invalid(T("Enter US dollars, for example 0.25."), field=field)
    return amount


async def choose_price(
    session: AsyncSession,
    person: models.User,
    settings: Settings,
    model: str,
    given: Mapping[str, str],
    *,
    now: dt.datetime,
    seen: str = "",
) -> None:
    """Let a model cost this, in US dollars for a million tokens: ``in``, ``out``, and ``cached``, which may be empty."""
    if model not in dict(in_use(settings)):
        raise NotFound
    price = {
        part: money(given.get(part, ""), f"{part}-{model}", empty=part == "cached") for part in ("in", "out", "cached")
    }
    await _unchanged(session, f"{PRICE}{model}", seen, f"in-{model}")
    kept = {part: None if amount is None else str(amount) for part, amount in price.items()}
    await _keep(session, person, f"{PRICE}{model}", kept, now=now, said=f"{kept['in']} / {kept['out']}")


async def choose_budget(
    session: AsyncSession, person: models.User, text: str, *, now: dt.datetime, seen: str = ""
) -> None:
    """Let an owner's model calls on the installation's keys cost this a day, in US dollars."""
    amount = money(text, "owner_budget")
    await _unchanged(session, OWNER_BUDGET, seen, "owner_budget")
    await _keep(session, person, OWNER_BUDGET, str(amount), now=now, said=str(amount))


async def choose_budgets(
    session: AsyncSession,
    person: models.User,
    typed: Mapping[str, str],
    *,
    now: dt.datetime,
    was: Mapping[str, str] | None = None,
) -> None:
    """Let calls on the installation's keys cost this: US dollars by :func:`services.budgets.key`, nothing for no budget.

    ``was``: what the form showed; a budget that was left so stays what another made of it meanwhile. Raises ``Invalid`` and
    ``Conflict`` with the field.
    """
    chosen = await all_of(session)
    for name in (budgets.key(span, provider) for provider in budgets.NAMED for span in budgets.SPANS):
        amount = money(typed.get(name, ""), name, empty=True)
        before = Decimal(chosen[name]) if name in chosen else None
        if was is not None and name in was:
            shown = money(was[name], name, empty=True)
            if amount == shown:
                continue
            if before not in (shown, amount):
                raise _overtaken("–" if before is None else f"${before}", name)
        if amount is None:
            await back(session, person, name)
        elif amount != before:
            await _keep(session, person, name, str(amount), now=now, said=str(amount))


async def switch_key(session: AsyncSession, person: models.User, provider: str, *, on: bool, now: dt.datetime) -> None:
    """Let the installation's key of a provider rest, or be used again; raises ``NotFound``."""
    if provider not in PROVIDERS:
        raise NotFound
    row = models.Override
    made = insert_for(session.get_bind().dialect.name, row).values(
        key=KEYS_OFF, value=[], changed_by=person.id, changed_at=now
    )
    await session.execute(made.on_conflict_do_nothing(index_elements=["key"]))
    # One after the other: two who press at once must not undo each other.
    kept = await session.get_one(row, KEYS_OFF, with_for_update=True, populate_existing=True)
    off = set(kept.value or ())
    off = off - {provider} if on else off | {provider}
    await _keep(session, person, KEYS_OFF, sorted(off), now=now, said=", ".join(sorted(off)) or "-")


def in_use(settings: Settings) -> list[tuple[str, str]]:
    """Return model and provider of all that may be asked, in the order of the chains."""
    entries = [entry.partition(":") for chain in settings.ai.roles.values() for entry in chain]
    found = {name: provider for provider, _, name in entries}
    found.setdefault(settings.ai.own_key.model, "openai")
    kind = settings.knowledge.embedding
    if kind != "none":
        found.setdefault(getattr(settings.knowledge, f"embedding_model_{kind}"), kind)
    return list(found.items())


# What it cost


async def health(session: AsyncSession, now: dt.datetime) -> dict[str, Health]:
    """Return how each provider's calls on the installation's keys went: today, and what thirty days cost."""
    last = today(now)
    row = models.AIUsage
    mine = row.own_key.is_(False)
    since = row.created_at >= midnight(last)
    # A model that would not answer works; what was cut off was given up by this program.
    failed = row.outcome.not_in((*ANSWERED, "cut"))
    sums = await session.execute(
        select(
            row.provider,
            func.count(),
            func.count().filter(failed),
            func.sum(row.cost_usd),
            func.max(row.id).filter(failed),
        )
        .where(since, mine)
        .group_by(row.provider)
    )
    counted: dict[str, tuple[Any, ...]] = {each[0]: tuple(each) for each in sums}
    failures = [each[4] for each in counted.values() if each[4] is not None]
    errors = {found.provider: found for found in await session.scalars(select(row).where(row.id.in_(failures)))}
    month = await costs(session, [last - dt.timedelta(days=n) for n in range(_DAYS)])
    notice = models.Notice
    open_ones = set(
        await session.scalars(
            select(notice.key).where(
                notice.user_id.in_(await accounts.administrators(session)),
                notice.key.in_([f"key:{kind}" for kind in PROVIDERS]),
                notice.resolved_at.is_(None),
            )
        )
    )
    found: dict[str, Health] = {}
    for kind in PROVIDERS:
        _, calls, lost, cost, _ = counted.get(kind, (kind, 0, 0, None, None))
        error = errors.get(kind)
        found[kind] = Health(
            calls=int(calls),
            failed=int(lost),
            cost_usd=cost or Decimal(0),
            month_usd=month.get(kind, Decimal(0)),
            last_error=error.outcome if error else "",
            last_error_at=error.created_at if error else None,
            trouble="key refused" if f"key:{kind}" in open_ones else "",
        )
    return found


async def costs(session: AsyncSession, days: Sequence[dt.date]) -> dict[str, Decimal]:
    """Return what each provider cost on these days: those that are counted by their sums, the others call by call."""
    if not days:
        return {}
    counted_day, sum_of_day, row = models.CountedDay.day, models.DayCosts, models.AIUsage
    names = [day.isoformat() for day in days]
    known = set(await session.scalars(select(counted_day).where(counted_day.in_(names))))
    total: dict[str, Decimal] = {}
    if known:
        sums = await session.execute(
            select(sum_of_day.provider, func.sum(sum_of_day.cost_usd))
            .where(sum_of_day.day.in_(sorted(known)), sum_of_day.own_key.is_(False))
            .group_by(sum_of_day.provider)
        )
        total = {provider: cost or Decimal(0) for provider, cost in sums}
    spans = _spans([day for day in days if day.isoformat() not in known])
    calls = await session.execute(
        select(row.provider, func.sum(row.cost_usd))
        .where(
            row.own_key.is_(False),
            or_(*(and_(row.created_at >= midnight(a), row.created_at < midnight(b)) for a, b in spans)),
        )
        .group_by(row.provider)
    )
    for provider, cost in calls:
        total[provider] = total.get(provider, Decimal(0)) + (cost or Decimal(0))
    return total


def _spans(days: Sequence[dt.date]) -> list[tuple[dt.date, dt.date]]:
    """Return days as spans from a first to the day after the last."""
    spans: list[tuple[dt.date, dt.date]] = []
    for day in sorted(days):
        after = day + dt.timedelta(days=1)
        if spans and spans[-1][1] == day:
            spans[-1] = (spans[-1][0], after)
        else:
            spans.append((day, after))
    return spans
