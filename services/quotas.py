"""How many messages an owner's bots answer in a month: counted before a model is asked, given back where no answer came of it.

The count lies in ``message_quotas``; a customer's message carries the month that it was counted in (``messages.quota_month``),
so it is counted once, however often it is delivered or tried. What came in is counted by the transaction that stores it. Where
that cannot be done at once (the month's first message, the last ones, a row that another process holds) it is done alone,
before the answer is made. What was answered is settled by the transaction that stores the answer: of that the owner is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, select, text, update

from db import direct, models
from db.base import insert_for, table_of
from services import notices, stats
from services.notices import Occurrence

if TYPE_CHECKING:
    from services.allowances import Terms
    from services.conversations.records import Talk
    from services.core import Core

_QUOTA = table_of(models.MessageQuota)
_MESSAGE = table_of(models.Message)
_USER = table_of(models.User)
_WARN_AT = 80
"""Percent of a month's messages at which the owner is told."""
_CALM_BELOW = 50
"""Percent below which a larger plan has made room, so that the owner is told again."""


@dataclass(slots=True)
class Given:
    """What was answered of an owner's messages: the month that each was counted in. ``terms``: the latest known."""

    terms: Terms
    months: list[str] = field(default_factory=list)


_TAKE_ONE = (
    update(_QUOTA)
    .where(
        _QUOTA.c.user_id == bindparam("p_user"),
        _QUOTA.c.month == bindparam("p_month"),
        _QUOTA.c.used + bindparam("p_n", type_=_QUOTA.c.used.type) <= bindparam("p_most", type_=_QUOTA.c.used.type),
    )
    .values(used=_QUOTA.c.used + bindparam("p_n", type_=_QUOTA.c.used.type))
    .returning(_QUOTA.c.user_id)
)
# Many owners at once. A row that somebody holds is passed over: a group of many talks must not wait for one owner's.
_TAKE_MANY = text("""
UPDATE message_quotas AS quota SET used = quota.used + wanted.n
FROM (
  SELECT held.user_id, held.month, given.n
  FROM unnest(CAST(:users AS text[]), CAST(:months AS text[]), CAST(:counts AS bigint[]), CAST(:mosts AS bigint[]))
    AS given (user_id, month, n, most)
  JOIN message_quotas AS held ON held.user_id = given.user_id AND held.month = given.month
  WHERE held.used + given.n <= given.most
  FOR UPDATE OF held SKIP LOCKED
) AS wanted
WHERE quota.user_id = wanted.user_id AND quota.month = wanted.month
RETURNING quota.user_id
""")
_MARK = update(_MESSAGE).where(_MESSAGE.c.id == bindparam("p_id")).values(quota_month=bindparam("p_month"))
_SETTLE_ONE = (
    update(_QUOTA)
    .where(_QUOTA.c.user_id == bindparam("p_user"), _QUOTA.c.month == bindparam("p_month"))
    .values(
        used=_QUOTA.c.used - bindparam("p_back", type_=_QUOTA.c.used.type),
        settled=_QUOTA.c.settled + bindparam("p_given", type_=_QUOTA.c.settled.type),
    )
    .returning(_QUOTA.c.user_id, _QUOTA.c.month, _QUOTA.c.settled, _QUOTA.c.told)
)
# Locked in one order, so that two groups do not wait for each other.
_SETTLE_MANY = text("""
UPDATE message_quotas AS quota SET used = quota.used - done.back, settled = quota.settled + done.given
FROM (
  SELECT held.user_id, held.month, wanted.back, wanted.given
  FROM unnest(CAST(:users AS text[]), CAST(:months AS text[]), CAST(:backs AS bigint[]), CAST(:givens AS bigint[]))
    AS wanted (user_id, month, back, given)
  JOIN message_quotas AS held ON held.user_id = wanted.user_id AND held.month = wanted.month
  ORDER BY held.user_id, held.month
  FOR UPDATE OF held
) AS done
WHERE quota.user_id = done.user_id AND quota.month = done.month
RETURNING quota.user_id, quota.month, quota.settled, quota.told
""")
_VERSION = select(_USER.c.subscription_version).where(_USER.c.id == bindparam("p_user"))
_TOLD = (
    update(_QUOTA)
    .where(_QUOTA.c.user_id == bindparam("p_user"), _QUOTA.c.month == bindparam("p_month"))
    .values(told=bindparam("p_told", type_=_QUOTA.c.told.type))
)


def take_many(connection: Connection, wanted: Mapping[str, tuple[int, Terms]]) -> set[str]:
    """Count so many messages for each owner where all of them fit; return the owners that it was done for."""
    if not wanted:
        return set()
    most = {owner: (n, terms.month, terms.messages or 0) for owner, (n, terms) in sorted(wanted.items())}
    if connection.dialect.name == "sqlite":
        sets = [
            {"p_user": owner, "p_month": month, "p_n": n, "p_most": limit} for owner, (n, month, limit) in most.items()
        ]
        rows = direct.change_returning(connection, _TAKE_ONE, sets)
    else:
        counts, months, limits = zip(*most.values(), strict=True)
        given = {"users": list(most), "months": list(months), "counts": list(counts), "mosts": list(limits)}
        rows = list(connection.execute(_TAKE_MANY, given).all())
    return {row.user_id for row in rows}


def take_one(connection: Connection, owner_id: str, terms: Terms, message_id: str) -> tuple[bool, bool]:
    """Count one message, which is marked so; return whether it fits, and whether the owner is told of what is left."""
    fresh = connection.execute(
        insert_for(connection.dialect.name, _QUOTA)
        .values(user_id=owner_id, month=terms.month, used=0, told=0)
        .on_conflict_do_nothing(index_elements=["user_id", "month"])
        .returning(_QUOTA.c.user_id)
    ).all()
    if fresh:
        # A month began: what was said of the one before is over.
        notices.close_in(connection, owner_id, notices.MESSAGES)
    given = {"p_user": owner_id, "p_month": terms.month, "p_n": 1, "p_most": terms.messages or 0}
    row = connection.execute(_TAKE_ONE, given).one_or_none()
    if row is not None:
        connection.execute(_MARK, {"p_id": message_id, "p_month": terms.month})
        return True, False
    known = connection.execute(
        select(_QUOTA.c.settled, _QUOTA.c.told)
        .where(_QUOTA.c.user_id == owner_id, _QUOTA.c.month == terms.month)
        .with_for_update()
    ).one()
    return False, _announce(connection, owner_id, terms, known.settled, known.told)


def _announce(connection: Connection, owner_id: str, terms: Terms, used: int, told: int) -> bool:
    """Tell the owner once when most of a month's messages are used, and once when all are; return whether that was now.

    ``used``: those that were answered. What is in hand may yet be given back. The row is locked.
    """
    later = select(_QUOTA.c.month).where(_QUOTA.c.user_id == owner_id, _QUOTA.c.month > terms.month).limit(1)
    most = terms.messages or 0
    share = 100 if used >= most else _WARN_AT if used * 100 >= most * _WARN_AT else 0
    if told and used * 100 < most * _CALM_BELOW:
        share, told = 0, 0
    elif share <= told:
        return False
    if connection.execute(_VERSION, {"p_user": owner_id}).scalar_one() != terms.version:
        # Another plan came while the answer was made: the next answer tells of that.
        return False
    connection.execute(_TOLD, {"p_user": owner_id, "p_month": terms.month, "p_told": share})
    if share <= told or connection.execute(later).first() is not None:
        # Of a month that is over, while the next one has begun, there is nothing to tell.
        return False
    kind = "messages_out" if share == 100 else "messages_few"
    params = {"plan": terms.title.kept(), "n": {"count": most}, "used": {"count": used}}
    notices.open_in(connection, [Occurrence(owner_id, kind, f"{kind}:{terms.month}:{most}", None, params)])
    return True


def settle(connection: Connection, backs: Iterable[tuple[str, str, str]], given: Mapping[str, Given]) -> set[str]:
    """Uncount messages, and settle those that were answered; return the owners who are told of what is left.

    ``backs``: ``(owner, message, month it was counted in)``; ``given``: what was answered, by owner.
    """
    marks: list[dict[str, str | None]] = []
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for owner_id, message_id, month in backs:
        marks.append({"p_id": message_id, "p_month": None})
        counts[owner_id, month][0] += 1
    for owner_id, one in given.items():
        for month in one.months:
            counts[owner_id, month][1] += 1
    if marks:
        direct.change(connection, _MARK, marks)
    if not counts:
        return set()
    keys = sorted(counts)
    if connection.dialect.name == "sqlite":
        sets = [
            {"p_user": key[0], "p_month": key[1], "p_back": counts[key][0], "p_given": counts[key][1]} for key in keys
        ]
        rows = direct.change_returning(connection, _SETTLE_ONE, sets)
    else:
        users, months = zip(*keys, strict=True)
        numbers = [counts[key] for key in keys]
        wanted = {"backs": [back for back, _ in numbers], "givens": [n for _, n in numbers]}
        rows = list(connection.execute(_SETTLE_MANY, {"users": list(users), "months": list(months), **wanted}).all())
    told: set[str] = set()
    for row in sorted(rows, key=lambda each: (each.user_id, each.month)):
        terms = given[row.user_id].terms if counts[row.user_id, row.month][1] else None
        if (
            terms is not None
            and terms.month == row.month
            and terms.messages is not None
            and _announce(connection, row.user_id, terms, row.settled, row.told)
        ):
            told.add(row.user_id)
    return told


def is_free(talk: Talk) -> bool:
    """Whether answers in a talk are not counted: an administrator's bot, or somebody of the bot's own people trying it."""
    return talk.terms is None or talk.terms.messages is None or stats.is_test(talk.recipient)


async def hold(core: Core, talk: Talk, message_id: str | None) -> bool:
    """Whether one more answer may be made in a talk; then it is counted already, or is free."""
    terms = talk.terms
    if is_free(talk) or message_id is None or terms is None or talk.bot is None or talk.reserved.keys() - talk.counted:
        return True
    if talk.refused:
        return False
    owner_id = talk.bot.owner_id
    async with core.db.write() as session:
        connection = await session.connection()
        fits, told = await connection.run_sync(take_one, owner_id, terms, message_id)
    if told:
        core.bell.ring("notices")
    if fits:
        talk.reserved[message_id] = terms.month
    else:
        talk.refused = True
    return fits


def count(talk: Talk) -> None:
    """An answer was given: one of those that were counted for the talk stays counted."""
    if spare := sorted(talk.reserved.keys() - talk.counted):
        talk.counted.add(spare[0])
