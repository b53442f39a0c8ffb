"""Lanes: how items move through inbox, outbox and jobs.

A lane is one row that stands for a line of items worked in order by one worker at a time. Everything here is plain
synchronous SQLAlchemy Core over a connection inside one write transaction (see ``Database.transact``), and every function
takes many lanes at once so that commits can be grouped.

Rules that keep it right:

* the lane row is locked before its items are numbered, so numbers inside a lane commit in order;
* whether a lane is ready follows from ``pending`` in the lane row itself, never from looking for open items;
* attempts are raised and committed by the claim, before anything is handled;
* a result counts only while the lane is still held with the same ``claim_no``;
* claims are fair between owners, and between the bots of one owner: who has least in hand is served first.

Statements are built once and kept: putting one together costs several times what SQLite needs to run it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Double,
    Executable,
    Table,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from db import direct, models
from db.base import insert_for, table_of
from db.engine import Moment, clock

LANES = table_of(models.Lane)
INBOX = table_of(models.InboxItem)
OUTBOX = table_of(models.OutboxItem)
JOBS = table_of(models.Job)

SUSPECT_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Deaths:
    """How many deaths of a process an item may have been in hand at: with ``suspect`` of them it may be what causes them,
    and with ``guilty`` it is given up. Between the two it is tried without another suspect, so its neighbours lose nothing.
    """

    suspect: int
    guilty: int

    @staticmethod
    def of(item: Mapping[str, Any]) -> int:
        """Return at how many an inbox item or a job was in hand, before the try that is being made."""
        return int(item["attempts"] - item["failures"])


@dataclass(frozen=True, slots=True)
class QueueKind:
    """One of the queues: its items' table, which states are open, and how many items a claim takes."""

    name: str
    items: Table
    open_states: tuple[str, ...]
    take: int


class Line(NamedTuple):
    """Which queue a lane belongs to and whom it serves: an owner (``""``: the product itself), and of what is his a share.

    ``share_id``: the bot, or the owner again where it is for all his bots.
    """

    kind: str
    owner_id: str
    share_id: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A lane that is ours until its lease ends, with the items taken, oldest first."""

    key: str
    line: Line
    claim_no: int
    items: list[Mapping[str, Any]] = field(compare=False)


@dataclass(slots=True)
class Load:
    """How many lanes are in hand by owner, at most ``per_owner`` each, and by share."""

    per_owner: int
    owners: Counter[str] = field(default_factory=Counter)
    shares: Counter[str] = field(default_factory=Counter)

    def add(self, line: Line, n: int = 1) -> None:
        """Count lanes that were taken, or with a negative number given back."""
        for counter, key in ((self.owners, line.owner_id), (self.shares, line.share_id)):
            counter[key] += n
            if not counter[key]:
                del counter[key]

    def full(self, owner_id: str) -> bool:
        """Return whether this owner must wait."""
        return self.owners[owner_id] >= self.per_owner

    def copy(self) -> Load:
        """Return what may be counted on separately."""
        return Load(self.per_owner, self.owners.copy(), self.shares.copy())


@dataclass(slots=True)
class Offer:
    """A claim that looks for nothing but what its own transaction fills: see :func:`fill`.

    ``slots`` places are left beside the ``load``; lanes ``in_hand`` are not taken. ``taken``: what was; ``passed``: what was
    filled but is in hand, or was when the claim was made.
    """

    queue: QueueKind
    holder: str
    lease_s: float
    slots: int
    load: Load
    in_hand: Collection[str]
    taken: list[Claimed] = field(default_factory=list)
    passed: set[str] = field(default_factory=set)

    def reserve(self, key: str, line: Line) -> bool:
        """Keep a place for a lane if there is one."""
        if key in self.in_hand:
            self.passed.add(key)
            return False
        if self.slots <= 0 or self.load.full(line.owner_id):
            return False
        self.slots -= 1
        self.load.add(line)
        return True

    def give_back(self, line: Line) -> None:
        """Free a place that was kept."""
        self.slots += 1
        self.load.add(line, -1)


@dataclass(slots=True)
class Places:
    """What the operations of one transaction know of claims.

    ``left``: the queues in which earlier transactions made lanes ready that nobody has taken, so that a claim has to look.
    ``offers`` by queue. ``filled``: queues in which this one leaves such lanes; ``looked``: where a claim has looked.
    """

    left: frozenset[str] = frozenset()
    offers: dict[str, Offer] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)
    looked: set[str] = field(default_factory=set)

    def still_left(self) -> frozenset[str]:
        """Return what is left when this transaction is durable; claims come last in it."""
        return (self.left | self.filled) - self.looked


def touched(claim: Claimed) -> dict[str, Line]:
    """Return a claimed lane as :func:`lock` takes it."""
    return {claim.key: claim.line}


def lock(connection: Connection, lines: Mapping[str, Line]) -> None:
    """Make and lock the lanes with these keys, in key order so that two processes cannot wait for each other.

    SQLite has one writer at a time: there the transaction is the lock.
    """
    if connection.dialect.name == "sqlite":
        return
    _add(connection, [(key, line, 0, 0.0) for key, line in sorted(lines.items())], literal_column("0"))


def add(
    connection: Connection,
    counts: Mapping[str, int],
    lines: Mapping[str, Line],
    now: Moment,
    *,
    delay_s: float = 0.0,
) -> None:
    """Count ``counts[key]`` new items into their lanes.

    A lane that was empty is not taken before ``delay_s`` have passed.
    """
    _add(connection, [(key, lines[key], n, delay_s) for key, n in sorted(counts.items()) if n], now)


def fill(
    connection: Connection,
    places: Places,
    kind: str,
    items: Mapping[str, Sequence[Mapping[str, Any]]],
    lines: Mapping[str, Line],
    now: Moment,
) -> None:
    """Count rows that were just stored, by lane and oldest first, into lanes of one queue.

    Where a claim of the same transaction offers a place, a lane that was empty and free is taken at once, with the first
    of its items: the claim need not look for it.
    """
    offer = places.offers.get(kind)
    wanted = [key for key in sorted(items) if offer is not None and offer.reserve(key, lines[key])]
    rest = [(key, lines[key], len(items[key]), 0.0) for key in sorted(items) if key not in wanted]
    if rest:
        _add(connection, rest, now)
        places.filled.add(kind)
    if offer is None or not wanted:
        return
    given = {"p_holder": offer.holder, "p_lease": offer.lease_s, "p_clock": _seconds(connection, now), **_at(now)}
    sets = [{**given, **_named(key, lines[key]), "p_n": len(items[key])} for key in wanted]
    for row in direct.change_returning(connection, _counting_in_and_taking(connection.dialect.name), sets):
        if row.holder == offer.holder and row.pending == len(items[row.key]):
            first = list(items[row.key][: offer.queue.take])
            offer.taken.append(Claimed(row.key, lines[row.key], row.claim_no, first))
        else:
            offer.give_back(lines[row.key])
            places.filled.add(kind)
    if taken := [item["id"] for claim in offer.taken if claim.key in items for item in claim.items]:
        direct.change(connection, _raising(offer.queue.items), [{"p_ids": taken}])


def _named(key: str, line: Line) -> dict[str, Any]:
    return {"p_key": key, "p_kind": line.kind, "p_owner": line.owner_id, "p_share": line.share_id}


def _add(connection: Connection, rows: Sequence[tuple[str, Line, int, float]], now: Moment) -> None:
    if not rows:
        return
    clock = _seconds(connection, now) if any(row[2] for row in rows) else 0.0
    direct.change(
        connection,
        _counting_in(connection.dialect.name),
        [
            {**_named(key, line), "p_n": n, "p_clock": clock, "p_run_at": clock + delay_s if delay_s else 0.0}
            for key, line, n, delay_s in rows
        ],
    )


def _new_lane(dialect: str, **values: Any) -> sqlite.Insert | postgresql.Insert:
    return insert_for(dialect, LANES).values(
        key=bindparam("p_key"),
        kind=bindparam("p_kind"),
        owner_id=bindparam("p_owner"),
        share_id=bindparam("p_share"),
        pending=bindparam("p_n"),
        waiting_since=bindparam("p_clock"),
        **values,
    )


@cache
def _counting_in(dialect: str) -> Executable:
    statement = _new_lane(dialect, run_at=bindparam("p_run_at"), holder=None, lease_until=0.0, claim_no=0)
    was_empty = and_(LANES.c.pending == 0, statement.excluded.pending > 0)
    return statement.on_conflict_do_update(
        index_elements=[LANES.c.key],
        set_={
            # A program of before may have made the lane, which knew no shares.
            "share_id": statement.excluded.share_id,
            "pending": LANES.c.pending + statement.excluded.pending,
            "waiting_since": case((was_empty, statement.excluded.waiting_since), else_=LANES.c.waiting_since),
            "run_at": case((was_empty, statement.excluded.run_at), else_=LANES.c.run_at),
        },
    )


@cache
def _counting_in_and_taking(dialect: str) -> Executable:
    """The same for lanes that are to be ours if they were empty and free."""
    lease_until = _now(dialect) + bindparam("p_lease", type_=Double())
    statement = _new_lane(dialect, run_at=0.0, holder=bindparam("p_holder"), lease_until=lease_until, claim_no=1)
    was_empty = LANES.c.pending == 0
    was_free = and_(was_empty, LANES.c.holder.is_(None))
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[LANES.c.key],
        set_={
            "share_id": new.share_id,
            "pending": LANES.c.pending + new.pending,
            "waiting_since": case((was_empty, new.waiting_since), else_=LANES.c.waiting_since),
            "run_at": case((was_empty, 0.0), else_=LANES.c.run_at),
            "holder": case((was_free, new.holder), else_=LANES.c.holder),
            "lease_until": case((was_free, new.lease_until), else_=LANES.c.lease_until),
            "claim_no": LANES.c.claim_no + case((was_free, 1), else_=0),
        },
    ).returning(LANES.c.key, LANES.c.pending, LANES.c.holder, LANES.c.claim_no)


def _seconds(connection: Connection, now: Moment) -> float:
    """Return a moment as a number."""
    return float(connection.scalar(select(now)) or 0.0) if isinstance(now, ColumnElement) else now


def _now(dialect: str) -> ColumnElement[float]:
    """Return the clock for a statement that is kept: on SQLite a parameter that :func:`_at` fills."""
    at = clock(dialect)
    return at if isinstance(at, ColumnElement) else bindparam("p_now", type_=Double())


def _at(now: Moment) -> dict[str, Any]:
    return {} if isinstance(now, ColumnElement) else {"p_now": now}


@cache
def _looking(dialect: str, *, of_one_share: bool) -> Executable:
    """Ready lanes of a queue: any, or one bot's in the order of their waiting."""
    now = _now(dialect)
    statement = select(LANES.c.key, LANES.c.owner_id, LANES.c.share_id, LANES.c.claim_no, LANES.c.waiting_since).where(
        LANES.c.kind == bindparam("p_kind"), LANES.c.pending > 0, LANES.c.lease_until < now, LANES.c.run_at <= now
    )
    if of_one_share:
        statement = statement.where(LANES.c.share_id == bindparam("p_share")).order_by(LANES.c.waiting_since)
    return statement.limit(bindparam("p_most"))


def _waiting(
    connection: Connection, kind: str, now: Moment, slots: int, load: Load, in_hand: Collection[str]
) -> tuple[list[Any], set[str]]:
    """Return up to ``slots`` lanes to take, and the ready ones that are ``in_hand``.

    Few ready lanes are ranked here. Of many, the bots are found by hopping through the index (two seeks a bot, not one step a
    lane) and each gives its first lanes, so one bot's backlog of 100,000 costs the same as one of ten.
    """
    dialect, wanted = connection.dialect.name, {"p_kind": kind, **_at(now)}
    few = slots * 2 + 16 + len(in_hand)
    rows = direct.rows(connection, _looking(dialect, of_one_share=False), {**wanted, "p_most": few + 1})
    if len(rows) > few:
        first = _looking(dialect, of_one_share=True)
        chosen = _in_turn(connection.execute(_shares(dialect), wanted).all(), load)[:slots]
        shares = Counter(row.owner_id for row in chosen)
        rows = []
        for row in chosen:
            # Together as many of each owner as a fair choice may need.
            most = -(-slots // len(shares) // shares[row.owner_id])
            rows += connection.execute(first, {**wanted, "p_share": row.share_id, "p_most": most}).all()
    passed = {row.key for row in rows if row.key in in_hand}
    return _in_turn([row for row in rows if row.key not in passed], load)[:slots], passed


def _in_turn(rows: Sequence[Any], load: Load) -> list[Any]:
    """Return lanes in the order in which they are to be taken: again and again, of the owner who is served least then, of his
    least-served bot, the one that waits longest. Without those of owners for whom there is no place."""
    shares, owners = load.shares.copy(), load.owners.copy()
    of_share = []
    for row in sorted(rows, key=lambda row: row.waiting_since):
        of_share.append((shares[row.share_id], row.waiting_since, row.key, row))
        shares[row.share_id] += 1
    of_owner = []
    for _, since, key, row in sorted(of_share):
        if owners[row.owner_id] < load.per_owner:
            of_owner.append((owners[row.owner_id], since, key, row))
            owners[row.owner_id] += 1
    return [row for *_, row in sorted(of_owner)]


@cache
def _shares(dialect: str) -> Executable:
    """The ready lane that waits longest of every bot, or other share, in a queue."""
    now, kind = _now(dialect), bindparam("p_kind", type_=LANES.c.kind.type)
    step, ready = LANES.alias("step"), LANES.alias("ready")
    hop = (
        select(func.min(LANES.c.share_id).label("share_id"))
        .where(LANES.c.kind == kind, LANES.c.pending > 0)
        .cte("hop", recursive=True)
    )
    following = (
        select(func.min(step.c.share_id))
        .where(step.c.kind == kind, step.c.pending > 0, step.c.share_id > hop.c.share_id)
        .scalar_subquery()
    )
    hop = hop.union_all(select(following).where(hop.c.share_id.is_not(None)))
    first = (
        select(ready.c.key)
        .where(
            ready.c.kind == kind,
            ready.c.share_id == hop.c.share_id,
            ready.c.pending > 0,
            ready.c.lease_until < now,
            ready.c.run_at <= now,
        )
        .order_by(ready.c.waiting_since)
        .limit(1)
        .scalar_subquery()
    )
    columns = LANES.c.key, LANES.c.owner_id, LANES.c.share_id, LANES.c.waiting_since
    return select(*columns).select_from(hop.join(LANES, LANES.c.key == first))


@cache
def _taking(dialect: str) -> Executable:
    return (
        update(LANES)
        .where(LANES.c.key.in_(bindparam("p_keys", expanding=True)))
        .values(
            holder=bindparam("p_holder"),
            lease_until=_now(dialect) + bindparam("p_lease", type_=Double()),
            claim_no=LANES.c.claim_no + 1,
        )
    )


@cache
def _first_items(queue: QueueKind, dialect: str) -> Executable:
    """The first open items of lanes. A lane of 50,000 items costs as much as one of ten: each is cut in the index."""
    items, lanes = queue.items, LANES.c.key.in_(bindparam("p_keys", expanding=True))
    # Word for word what the partial indexes say, or SQLite does not take them.
    states = queue.open_states
    is_open = items.c.status.in_(states) if len(states) > 1 else items.c.status == states[0]
    first = (
        select(items)
        .where(items.c.lane == LANES.c.key, is_open)
        .order_by(items.c.id)
        .limit(queue.take)
        .correlate(LANES)
    )
    if dialect == "sqlite":
        ids = first.with_only_columns(items.c.id)
        return select(items).select_from(LANES.join(items, items.c.id.in_(ids))).where(lanes).order_by(items.c.id)
    each = first.lateral()
    return select(each).select_from(LANES.join(each, true())).where(lanes).order_by(each.c.id)


@cache
def _raising(items: Table) -> Executable:
    values: dict[str, Any] = {"attempts": items.c.attempts + 1}
    if items is OUTBOX:
        values["status"] = "sending"
        # Taken while it was being sent: a process died with it. Noted now, or a second death would not know of the first.
        values["unsure"] = or_(items.c.unsure, items.c.status == "sending")
    return update(items).where(items.c.id.in_(bindparam("p_ids", expanding=True))).values(**values)


def claim(
    connection: Connection,
    queue: QueueKind,
    now: Moment,
    *,
    holder: str,
    slots: int,
    lease_s: float,
    load: Load,
    deaths: Deaths | None = None,
    suspects: int = 0,
    in_hand: Collection[str] = (),
) -> tuple[list[Claimed], set[str]]:
    """Take up to ``slots`` ready lanes and the first open items of each, with ``attempts`` raised.

    Returns also the ready lanes that were passed over because they are ``in_hand``: another claim is due when they no longer are.

    Of the lanes that begin with an item suspected of killing the process, if ``deaths`` are counted here, only one is taken,
    and none while ``suspects`` of them are in hand.

    ``in_hand``: lanes that this process works on. They are not taken even if their lease has run out: where a clock is set
    forward that means nothing, and a message being sent would be sent a second time.
    """
    wanted, passed = _waiting(connection, queue.name, now, slots, load, in_hand)
    if wanted and connection.dialect.name != "sqlite":
        free = set(
            connection.scalars(
                select(LANES.c.key)
                .where(LANES.c.key.in_([lane.key for lane in wanted]), LANES.c.lease_until < now, LANES.c.pending > 0)
                .with_for_update(skip_locked=True)
            )
        )
        wanted = [lane for lane in wanted if lane.key in free]
    if not wanted:
        return [], passed
    keys = [lane.key for lane in wanted]
    taken = {"p_keys": keys, "p_holder": holder, "p_lease": lease_s, **_at(now)}
    direct.change(connection, _taking(connection.dialect.name), [taken])
    # The number may have moved between looking and locking on PostgreSQL, so it is read back.
    numbers = (
        {lane.key: lane.claim_no + 1 for lane in wanted}
        if connection.dialect.name == "sqlite"
        else dict(connection.execute(select(LANES.c.key, LANES.c.claim_no).where(LANES.c.key.in_(keys))).all())
    )
    lines: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for found in direct.rows(connection, _first_items(queue, connection.dialect.name), {"p_keys": keys}):
        row = found._asdict()
        line = lines[row["lane"]]
        # What failed before is tried alone: together with others nobody could tell which one is the poison.
        if line and (row["attempts"] or line[0]["attempts"]):
            continue
        line.append(row)
    later: list[str] = []
    if deaths:
        # The least suspected first: what is innocent is done before the one that kills has its next turn.
        suspected = [key for key, line in lines.items() if deaths.of(line[0]) >= deaths.suspect]
        suspected.sort(key=lambda key: deaths.of(lines[key][0]))
        later = suspected if suspects else suspected[1:]
        for key in later:
            del lines[key]
    if later:
        connection.execute(
            update(LANES)
            .where(LANES.c.key.in_(later))
            .values(holder=None, lease_until=0.0, run_at=now + SUSPECT_PAUSE_S)
        )
    raised = [row["id"] for line in lines.values() for row in line]
    if raised:
        direct.change(connection, _raising(queue.items), [{"p_ids": raised}])
    empty = [key for key in keys if key not in lines and key not in later]
    if empty:
        # Nothing open although counted: rows were removed by hand. The count is set right, the lane rests.
        connection.execute(update(LANES).where(LANES.c.key.in_(empty)).values(pending=0, holder=None, lease_until=0.0))
    claims = [
        Claimed(lane.key, Line(queue.name, lane.owner_id, lane.share_id), numbers[lane.key], lines[lane.key])
        for lane in wanted
        if lane.key in lines
    ]
    return claims, passed


@cache
def _held(dialect: str) -> Executable:
    statement = (
        select(LANES.c.key, LANES.c.claim_no, LANES.c.pending)
        .where(LANES.c.key.in_(bindparam("p_keys", expanding=True)), LANES.c.holder == bindparam("p_holder"))
        .order_by(LANES.c.key)
    )
    return statement if dialect == "sqlite" else statement.with_for_update()


def ours(connection: Connection, holder: str, claims: Iterable[Claimed]) -> dict[str, int]:
    """Return those lanes that are still held with the same claim number, with their open items, and lock them."""
    numbers = {claim.key: claim.claim_no for claim in claims}
    rows = direct.rows(connection, _held(connection.dialect.name), {"p_keys": sorted(numbers), "p_holder": holder})
    return {key: pending for key, number, pending in rows if numbers[key] == number}


@dataclass(frozen=True, slots=True)
class Release:
    """Give a lane back: ``closed`` items are finished; not to be taken again before ``delay_s`` have passed."""

    claim: Claimed
    closed: int
    delay_s: float = 0.0


_RELEASING = (
    update(LANES)
    .where(
        LANES.c.key == bindparam("p_key"),
        LANES.c.holder == bindparam("p_holder"),
        LANES.c.claim_no == bindparam("p_claim_no"),
    )
    .values(
        pending=case((LANES.c.pending > bindparam("p_n"), LANES.c.pending - bindparam("p_n")), else_=0),
        holder=None,
        lease_until=0.0,
        run_at=bindparam("p_run_at"),
        waiting_since=bindparam("p_clock"),
    )
)


_RELEASING_ONE = _RELEASING.returning(LANES.c.key, LANES.c.pending)


def release(connection: Connection, holder: str, releases: Sequence[Release], now: Moment) -> dict[str, int]:
    """Give lanes back that are still held with the same claim number; return these, with the items left open in each.

    The other lanes are lost: what was done under those claims does not count.
    """
    if not releases:
        return {}
    clock = _seconds(connection, now)
    sets = [
        {
            "p_key": item.claim.key,
            "p_holder": holder,
            "p_claim_no": item.claim.claim_no,
            "p_n": item.closed,
            "p_clock": clock,
            "p_run_at": clock + item.delay_s if item.delay_s else 0.0,
        }
        for item in sorted(releases, key=lambda item: item.claim.key)
    ]
    if connection.dialect.name == "sqlite":
        return {row.key: row.pending for row in direct.change_returning(connection, _RELEASING_ONE, sets)}
    # An UPDATE with RETURNING cannot be run for many sets at once there.
    held = ours(connection, holder, [item.claim for item in releases])
    if held:
        direct.change(connection, _RELEASING, [one for one in sets if one["p_key"] in held])
    return {item.claim.key: max(0, held[item.claim.key] - item.closed) for item in releases if item.claim.key in held}


@cache
def _renewing(dialect: str) -> Executable:
    held = tuple_(LANES.c.key, LANES.c.claim_no).in_(bindparam("p_claims", expanding=True))
    return (
        update(LANES)
        .where(held, LANES.c.holder == bindparam("p_holder"))
        .values(lease_until=_now(dialect) + bindparam("p_lease", type_=Double()))
    )


def renew(connection: Connection, holder: str, claims: Iterable[Claimed], lease_s: float, now: Moment) -> None:
    """Prolong the leases of claims that are in hand.

    Not of all that ``holder`` holds: of a claim whose commit was not heard of nobody here knows, and its lease must end.
    """
    if known := sorted((claim.key, claim.claim_no) for claim in claims):
        values = {"p_claims": known, "p_holder": holder, "p_lease": lease_s, **_at(now)}
        direct.change(connection, _renewing(connection.dialect.name), [values])


def free_all(connection: Connection, holder: str | None) -> int:
    """Free the lanes that an earlier life of ``holder`` held (all lanes with None); return how many."""
    condition = LANES.c.holder.is_not(None) if holder is None else LANES.c.holder == holder
    result = connection.execute(update(LANES).where(condition).values(holder=None, lease_until=0.0))
    return int(result.rowcount)


def forget(connection: Connection, key_prefixes: Sequence[str]) -> None:
    """Remove lanes and open items whose keys begin with one of the prefixes (a deleted bot's), which end with a colon."""
    if connection.dialect.name != "sqlite":
        # The lanes first and in key order, as everybody locks them: else a worker and this wait for each other.
        mine = _begins(connection, LANES.c.key, key_prefixes)
        connection.execute(select(LANES.c.key).where(mine).order_by(LANES.c.key).with_for_update())
    for table, column in ((INBOX, INBOX.c.lane), (OUTBOX, OUTBOX.c.lane), (JOBS, JOBS.c.lane), (LANES, LANES.c.key)):
        connection.execute(table.delete().where(_begins(connection, column, key_prefixes)))


def _begins(connection: Connection, column: Column[str], prefixes: Sequence[str]) -> ColumnElement[bool]:
    """Whether a column begins with one of the prefixes; SQLite's index serves a range, but no LIKE."""
    if connection.dialect.name == "sqlite":
        following = chr(ord(":") + 1)
        return or_(*[and_(column >= prefix, column < prefix[:-1] + following) for prefix in prefixes])
    return or_(*[column.startswith(prefix, autoescape=True) for prefix in prefixes])
