"""How many messages an owner's bots answer in a month: counted before a model is asked, given back where no answer came of it.

The count lies in ``message_quotas``; a customer's message carries the month that it was counted in (``messages.quota_month``),
so it is counted once, however often it is delivered or tried. What came in is counted by the transaction that stores it. Where
that cannot be done at once (the month's first message, the last ones, a row that another process holds) it is done alone,
before the answer is made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
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
_WARN_AT = 80
"""Percent of a month's messages at which the owner is told."""
_CALM_BELOW = 50
"""Percent below which a larger plan has made room, so that the owner is told again."""

_TAKE_ONE = (
    update(_QUOTA)
    .where(
        _QUOTA.c.user_id == bindparam("p_user"),
        _QUOTA.c.month == bindparam("p_month"),
        _QUOTA.c.used + bindparam("p_n", type_=_QUOTA.c.used.type) <= bindparam("p_most", type_=_QUOTA.c.used.type),
    )
    .values(used=_QUOTA.c.used + bindparam("p_n", type_=_QUOTA.c.used.type))
    .returning(_QUOTA.c.user_id, _QUOTA.c.used, _QUOTA.c.told)
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
RETURNING quota.user_id, quota.used, quota.told
""")
_MARK = update(_MESSAGE).where(_MESSAGE.c.id == bindparam("p_id")).values(quota_month=bindparam("p_month"))
_GIVE_BACK = (
    update(_QUOTA)
    .where(_QUOTA.c.user_id == bindparam("p_user"), _QUOTA.c.month == bindparam("p_month"))
    .values(used=_QUOTA.c.used - bindparam("p_n", type_=_QUOTA.c.used.type))
)
_TOLD = (
    update(_QUOTA)
    .where(_QUOTA.c.user_id == bindparam("p_user"), _QUOTA.c.month == bindparam("p_month"))
    .values(told=bindparam("p_told", type_=_QUOTA.c.told.type))
)


def take_many(connection: Connection, wanted: Mapping[str, tuple[int, Terms]]) -> dict[str, bool]:
    """Count so many messages for each owner where all of them fit; return the owners that it was done for.

    True where the owner is told that few or none are left.
    """
    if not wanted:
        return {}
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
    return {row.user_id: _announce(connection, row.user_id, wanted[row.user_id][1], row.used, row.told) for row in rows}


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
        return True, _announce(connection, owner_id, terms, row.used, row.told)
    known = connection.execute(
        select(_QUOTA.c.used, _QUOTA.c.told).where(_QUOTA.c.user_id == owner_id, _QUOTA.c.month == terms.month)
    ).one()
    return False, _announce(connection, owner_id, terms, known.used, known.told)


def _announce(connection: Connection, owner_id: str, terms: Terms, used: int, told: int) -> bool:
    """Tell the owner once when most of a month's messages are used, and once when all are; return whether that was now."""
    most = terms.messages or 0
    share = 100 if used >= most else _WARN_AT if used * 100 >= most * _WARN_AT else 0
    if told and used * 100 < most * _CALM_BELOW:
        share, told = 0, 0
    elif share <= told:
        return False
    connection.execute(_TOLD, {"p_user": owner_id, "p_month": terms.month, "p_told": share})
    if share <= told:
        return False
    kind = "messages_out" if share == 100 else "messages_few"
    params = {"plan": terms.title, "n": most, "used": used}
    notices.open_in(connection, [Occurrence(owner_id, kind, f"{kind}:{terms.month}:{most}", None, params)])
    return True


def give_back(connection: Connection, backs: Iterable[tuple[str, str, str]]) -> None:
    """Uncount messages: ``(owner, message, month it was counted in)``."""
    marks: list[dict[str, str | None]] = []
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for owner_id, message_id, month in backs:
        marks.append({"p_id": message_id, "p_month": None})
        counts[owner_id, month] += 1
    if marks:
        direct.change(connection, _MARK, marks)
        sets = [{"p_user": owner, "p_month": month, "p_n": n} for (owner, month), n in sorted(counts.items())]
        direct.change(connection, _GIVE_BACK, sets)


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
