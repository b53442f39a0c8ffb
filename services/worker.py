"""The workers: take lanes from inbox, outbox and jobs and see them through.

One loop a queue claims what fits into the free places; each lane is then a task of its own. A claim is handed to the writer
together with whatever is being stored at that moment, so an update is often accepted and claimed by the same commit. That
commit also stores what a customer wrote and reads the talk, unless something of it was tried before.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Connection, select

from db import models
from db.base import utcnow
from db.engine import DatabaseUnavailable
from services import accounts, drafts, jobs, lanes, metrics, notices, outbox
from services.channels.base import Channel, Inbound, Outgoing, Sender
from services.conversations import persons, profiles, returning, rules
from services.conversations.albums import Gathering
from services.conversations.joining import JOIN, Join, Joined
from services.conversations.records import (
    FAIL,
    HAND_BACK,
    RECEIVE,
    RESTORED,
    SETTLE,
    Apology,
    Failed,
    HandBack,
    Incoming,
    LostLane,
    Outcome,
    Reply,
    Talk,
    store,
)
from services.errors import Temporary
from services.i18n import DEFAULT_LANGUAGE, translate
from services.lanes import INBOX, JOBS, OUTBOX, Claimed, Line, QueueKind
from services.pauses import backoff_s, database_pause_s, jitter, until_available
from services.writer import Operation, Scope

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

_HAND_BACK_S = 3.0
_NETWORK_PAUSES_S = (5.0, 300.0)
"""The first and the longest pause of what the network keeps from being handled."""
_TYPING_AT_MOST_S = 60.0
_NETWORK_PATIENCE_S = 3600.0
"""For so long that costs no attempt; what comes after it must not wait for ever."""
_FACTORY_PAUSE_S = 2.0
_JOIN_PAUSE_S = (0.8, 0.3, 1.5)


Receive = Callable[[Connection, Sequence[Claimed]], Mapping[str, Talk]]
"""Stores what claimed lanes brought, in the claim's own transaction; returns the talks by lane."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for lanes of one queue. Without ``look`` only for those that its own transaction fills."""

    queue: QueueKind
    look: bool
    slots: int
    lease_s: float
    load: lanes.Load
    deaths: lanes.Deaths | None
    suspects: int
    in_hand: frozenset[str]
    receive: Receive | None


@dataclass(frozen=True, slots=True)
class _Taken:
    claims: list[Claimed]
    passed: set[str]
    channels: Mapping[str, outbox.ChannelKeys] = field(default_factory=dict)
    talks: Mapping[str, Talk] = field(default_factory=dict)


def _offer(scope: Scope, ask: Ask) -> None:
    """Let what this transaction fills be taken at once, where nothing else can be waiting."""
    kind, places = ask.queue.name, scope.places
    if not ask.look and kind not in places.left:
        places.offers[kind] = lanes.Offer(ask.queue, scope.holder, ask.lease_s, ask.slots, ask.load.copy(), ask.in_hand)


def _claim(connection: Connection, scope: Scope, items: Sequence[Ask]) -> list[_Taken | Exception]:
    results: list[_Taken | Exception] = []
    for ask in items:
        offer = scope.places.offers.get(ask.queue.name)
        claims, passed = (offer.taken, offer.passed) if offer is not None else _look(connection, scope, ask)
        channels: Mapping[str, outbox.ChannelKeys] = {}
        if claims and ask.queue.items is OUTBOX:
            channels = outbox.channel_keys(connection, [claim.items[0]["channel_id"] for claim in claims])
        talks: Mapping[str, Talk] = ask.receive(connection, claims) if claims and ask.receive else {}
        results.append(_Taken(claims, passed, channels, talks))
    return results


def _look(connection: Connection, scope: Scope, ask: Ask) -> tuple[list[Claimed], set[str]]:
    scope.places.looked.add(ask.queue.name)
    return lanes.claim(
        connection,
        ask.queue,
        scope.now,
        holder=scope.holder,
        slots=ask.slots,
        lease_s=ask.lease_s,
        load=ask.load,
        deaths=ask.deaths,
        suspects=ask.suspects,
        in_hand=ask.in_hand,
    )


CLAIM: Operation[Ask, _Taken] = Operation("claim", 90, _claim, prepare=_offer)


@dataclass(frozen=True, slots=True)
class _Renewal:
    claims: list[Claimed]
    lease_s: float

    def touched(self) -> dict[str, Line]:
        """Return the claims' lanes as the group locks them."""
        return {claim.key: claim.line for claim in self.claims}


def _renew(connection: Connection, scope: Scope, items: Sequence[_Renewal]) -> list[Exception | None]:
    for item in items:
        lanes.renew(connection, scope.holder, item.claims, item.lease_s, scope.now)
    return [None] * len(items)


RENEW: Operation[_Renewal, None] = Operation("renew", 80, _renew, _Renewal.touched)


def _let_go(connection: Connection, scope: Scope, items: Sequence[tuple[Claimed, float]]) -> list[Exception | None]:
    lanes.release(connection, scope.holder, [lanes.Release(claim, 0, delay_s) for claim, delay_s in items], scope.now)
    return [None] * len(items)


LET_GO: Operation[tuple[Claimed, float], None] = Operation("let_go", 47, _let_go, lambda item: lanes.touched(item[0]))


class Worker:
    """One queue's loop. ``handle`` sees a claimed lane through and never leaves it held.

    It returns whether more waits in the lane: only then, or where a place became free for what had to wait, would another
    claim find something.
    """

    def __init__(
        self,
        core: Core,
        queue: QueueKind,
        *,
        slots: int,
        per_owner: int,
        handle: Callable[[Claimed, _Taken], Awaitable[bool]],
        deaths: lanes.Deaths | None = None,
        receive: Receive | None = None,
    ) -> None:
        self._core, self.queue, self._slots = core, queue, slots
        self._handle, self._deaths, self._receive = handle, deaths, receive
        self._bell = asyncio.Event()
        self._look = True
        self._load = lanes.Load(per_owner)
        self._passed: set[str] = set()
        self._suspects = 0
        self._count = 0
        self._stopping = False
        self._lanes: set[asyncio.Task[Any]] = set()
        self._in_work = metrics.IN_WORK.labels(queue.name)
        self.in_hand: dict[str, Claimed] = {}
        """The claims that are being worked on, by their lanes' keys."""
        self.ended = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()

    def wake(self) -> None:
        """There may be something to do."""
        self._look = True
        self._bell.set()

    def wake_for_new(self) -> None:
        """What was just handed to the writer may be something to do; nothing else is known of."""
        self._bell.set()

    def stop(self) -> None:
        """Claim nothing more; what is in hand goes on."""
        self._stopping = True
        self._bell.set()

    async def cancel(self) -> None:
        """Interrupt what is in hand; each lane is given back where nothing has left us."""
        lanes_in_hand = list(self._lanes)
        for task in lanes_in_hand:
            task.cancel()
        if lanes_in_hand:
            await asyncio.wait(lanes_in_hand, timeout=_HAND_BACK_S)

    async def run(self) -> None:
        """Claim and start lanes until stopped."""
        try:
            await self._claim_on()
        finally:
            self.ended.set()

    async def _claim_on(self) -> None:
        settings = self._core.settings.queue
        more = away = alone = False
        looked = 0.0
        while not self._stopping:
            if not more:
                try:
                    async with asyncio.timeout(settings.idle_poll_s):
                        await self._bell.wait()
                except TimeoutError:
                    pass
            if self._stopping:
                return
            self._bell.clear()
            free = self._slots - self._count
            if free <= 0:
                more = False
                continue
            # Time alone makes lanes ready too: those to be tried later, those of a process that died.
            look = more or self._look or time.monotonic() - looked >= settings.idle_poll_s
            if look:
                self._look, looked = False, time.monotonic()
            ask = Ask(
                self.queue,
                look,
                free,
                settings.lease_s,
                self._load.copy(),
                self._deaths,
                self._suspects,
                frozenset(self.in_hand),
                None if alone else self._receive,
            )
            try:
                if away:
                    # Our leases may have run out meanwhile: renewed first, or what is in hand would be taken a second time.
                    await self.renew()
                    away = False
                taken = await self._core.writer.submit(CLAIM, ask)
            except DatabaseUnavailable:
                away = True
                await asyncio.sleep(database_pause_s())
                more = False
                # What rang the bell is still there.
                self.wake()
                continue
            except Exception as error:
                if ask.receive is None:
                    raise
                # One of them cannot be stored: claimed only, each is received alone and the bad one is set aside.
                log.error("claim_failed", queue=self.queue.name, exc_info=error)
                alone = self._look = more = True
                continue
            alone = False
            for claim in taken.claims:
                self._begin(claim, taken)
            # What was ready while it was still in hand is looked at again when it is not.
            self._passed |= taken.passed & self.in_hand.keys()
            if not taken.passed <= self.in_hand.keys():
                self.wake()
            # A full helping means that there is probably more.
            more = bool(taken.claims) and len(taken.claims) >= free

    async def renew(self) -> None:
        """Prolong the leases of what is in hand. Raises :class:`DatabaseUnavailable`."""
        renewal = _Renewal(list(self.in_hand.values()), self._core.settings.queue.lease_s)
        await self._core.writer.submit(RENEW, renewal)

    def _begin(self, claim: Claimed, taken: _Taken) -> None:
        deaths = self._deaths
        suspect = deaths is not None and deaths.of(claim.items[0]) >= deaths.suspect
        self._count += 1
        self._suspects += suspect
        self._load.add(claim.line)
        self.in_hand[claim.key] = claim
        self.idle.clear()
        self._in_work.set(self._count)
        task = self._core.tasks.start(self._see_through(claim, taken, suspect), name=f"{self.queue.name}:{claim.key}")
        self._lanes.add(task)
        task.add_done_callback(self._lanes.discard)

    async def _see_through(self, claim: Claimed, taken: _Taken, suspect: bool) -> None:
        first = claim.items[0]
        told = first["payload"] if isinstance(first["payload"], dict) else {}
        request_id = first.get("request_id") or told.get("request_id") or ""
        structlog.contextvars.bind_contextvars(request_id=request_id)
        more = True
        try:
            more = await self._handle(claim, taken)
        except LostLane:
            log.warning("lane_lost", queue=self.queue.name)
        except Exception as error:
            # Even noting what became of it failed. The lease is renewed as long as the process lives, so the lane must be let go.
            log.error("lane_failed", queue=self.queue.name, exc_info=error)
            await persist(self._core, LET_GO, (claim, self._core.settings.queue.lease_s))
        finally:
            was_full = self._count >= self._slots or self._load.full(claim.line.owner_id)
            self._count -= 1
            self._suspects -= suspect
            self._load.add(claim.line, -1)
            del self.in_hand[claim.key]
            if not self._count:
                self.idle.set()
            self._in_work.set(self._count)
            if was_full or suspect or more or claim.key in self._passed:
                self._passed.discard(claim.key)
                self.wake()


async def persist(
    core: Core, operation: Operation[Any, Any], item: Any, *, submitted: Callable[[], None] = lambda: None
) -> Any:
    """Submit a result until the database takes it: work that is done must not be lost because the disk was full for a while.

    ``submitted`` is called when it is handed over: claims made then see its effect, by the same commit. Ends with
    :class:`LostLane` when the lease is gone by then.
    """

    async def write() -> Any:
        future = core.writer.submit(operation, item)
        submitted()
        return await future

    return await until_available(write, lambda: _open(core))


def _open(core: Core) -> None:
    """Raise :class:`LostLane` when nothing can be written any more."""
    if core.writer.closed:
        raise LostLane("the process ends")


async def _ended(workers: Sequence[Worker], timeout_s: float) -> None:
    """Wait until workers have nothing in hand; after ``timeout_s`` interrupt what they have."""
    try:
        async with asyncio.timeout(max(0.1, timeout_s)):
            for worker in workers:
                # A claim may still be on its way: only when the loop has ended nothing more can begin.
                await worker.ended.wait()
                await worker.idle.wait()
    except TimeoutError:
        log.warning("drain_incomplete", queues=[worker.queue.name for worker in workers])
    await asyncio.gather(*(worker.cancel() for worker in workers))


class Conveyor:
    """All workers of a process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        settings = core.settings.queue
        # As the only suspect it may be tried as often as what fails: one who stops or kills the process from outside, as
        # often as he may, hardly hits the same suspect each time.
        suspect = max(1, settings.max_attempts - 1)
        self._deaths = lanes.Deaths(suspect, suspect + settings.max_attempts)
        self.inbox = Worker(
            core,
            QueueKind("inbox", INBOX, ("new",), settings.max_answer_batch),
            slots=settings.conversations,
            per_owner=settings.conversations_per_owner,
            handle=self._talk,
            deaths=self._deaths,
            receive=self._receive,
        )
        self.outbox = Worker(
            core,
            QueueKind("outbox", OUTBOX, ("queued", "sending"), 1),
            slots=settings.sends,
            per_owner=settings.sends_per_owner,
            handle=self._send,
        )
        self.bulk = Worker(
            core,
            QueueKind("bulk", OUTBOX, ("queued", "sending"), 1),
            slots=max(1, settings.sends // 4),
            per_owner=max(1, settings.sends_per_owner // 4),
            handle=self._send,
        )
        self.jobs = Worker(
            core,
            QueueKind("jobs", JOBS, ("new",), 1),
            slots=settings.jobs,
            per_owner=settings.jobs,
            handle=self._job,
            deaths=self._deaths,
        )
        self._sender = outbox.Sender(core)
        self.workers = (self.inbox, self.outbox, self.bulk, self.jobs)

    def start(self) -> None:
        """Begin to work."""
        for worker in self.workers:
            self._core.tasks.start(worker.run(), name=f"worker:{worker.queue.name}", vital=True)
        self._core.tasks.start(self._keep_leases(), name="leases", vital=True)
        self._core.tasks.start(self._listen(), name="bell:workers", vital=True)

    async def drain(self, timeout_s: float) -> None:
        """Stop claiming; let what is in hand end within ``timeout_s``, then interrupt it so that it is handed back.

        Answers and jobs are interrupted first, since nothing of them has left us; a message that is being sent gets the rest of
        the time: interrupted, it would have to be sent again without knowing whether it arrived.
        """
        for worker in self.workers:
            worker.stop()
        ends = time.monotonic() + timeout_s
        await _ended((self.inbox, self.jobs), timeout_s * 0.7)
        await _ended((self.outbox, self.bulk), ends - time.monotonic())

    async def _listen(self) -> None:
        names = {worker.queue.name: worker for worker in self.workers}

        async def follow(topic: str, worker: Worker) -> None:
            async with self._core.bell.listen(topic, limit=1) as queue:
                while True:
                    await queue.get()
                    worker.wake()

        await asyncio.gather(*(follow(topic, worker) for topic, worker in names.items()))

    async def _keep_leases(self) -> None:
        """Renew what we hold. Where that fails for too long others take over, and our late results count for nothing."""
        lease_s = self._core.settings.queue.lease_s
        renewed = time.monotonic()
        pause_s = lease_s / 3
        while True:
            await asyncio.sleep(pause_s)
            try:
                await asyncio.gather(*(worker.renew() for worker in self.workers))
                renewed, pause_s = time.monotonic(), lease_s / 3
            except DatabaseUnavailable:
                log.warning("leases_not_renewed", since_s=round(time.monotonic() - renewed, 1))
                pause_s = min(lease_s / 3, 1.0)

    # One conversation

    def _receive(self, connection: Connection, claims: Sequence[Claimed]) -> Mapping[str, Talk]:
        """Receive what is being claimed for the first time, in the same transaction.

        An attempt must be counted before anything is handled that may end the process. Reading an update is not: its JSON was
        parsed before it was accepted.
        """
        incoming = []
        for claim in claims:
            card = self._core.cards.known(claim.items[0]["channel_id"])
            if card is not None and card.kind != "factory" and not any(row["attempts"] for row in claim.items):
                incoming.append(self._incoming(claim, card.kind))
        talks = store(connection, incoming, {item.claim.key for item in incoming}) if incoming else ()
        return {talk.claim.key: talk for talk in talks if isinstance(talk, Talk)}

    def _incoming(self, claim: Claimed, kind: str) -> Incoming:
        events = tuple((row, _parse(self._core, kind, row)) for row in claim.items)
        channel_id = claim.items[0]["channel_id"]
        recipient = persons.recipient_of(claim.key, kind, channel_id, events[0][1])
        return Incoming(claim, channel_id, recipient, persons.apart(events), self._core.allowances)

    async def _talk(self, claim: Claimed, taken: _Taken) -> bool:
        first = claim.items[0]
        core = self._core
        settings = core.settings.queue
        if self._deaths.of(first) >= self._deaths.guilty:
            await self._failed(claim, None, "it stopped the program each time it was handled", guilty=True)
            return True
        talk = taken.talks.get(claim.key)
        untouched: Sequence[Mapping[str, Any]] = ()
        try:
            if talk is None:
                card = await core.cards.get(core, first["channel_id"])
                if card is not None and card.kind == "factory":
                    untouched = claim.items[1:]
                    await self._factory(claim)
                    return True
                kind = card.kind if card is not None else "telegram"
                talk = await persist(core, RECEIVE, self._incoming(claim, kind))
            if talk.channel_kind not in ("telegram", "web"):
                core.tasks.start(profiles.learn(core, talk), name="profile")
            await core.pause("received")
            if talk.bot is not None and talk.bot.listened:
                core.bell.ring("endpoints")
            if talk.same is not None:
                return await self._join(talk, talk.same)
            async with asyncio.timeout(settings.handling_timeout_s):
                outcome = await self._respond(talk)
            received = {row["id"] for _, row, _ in talk.messages}
            outcome.returned += [row["id"] for row in claim.items if row["id"] not in received]
            await core.pause("answered")
            # The commit that stores an answer may also claim it for sending.
            more: bool = await persist(core, SETTLE, outcome, submitted=self.outbox.wake_for_new)
        except asyncio.CancelledError:
            await asyncio.shield(persist(core, HAND_BACK, HandBack(claim, usage=_spent(talk))))
            raise
        except LostLane:
            raise
        except DatabaseUnavailable:
            # Not the message's fault: it waits without losing an attempt.
            await persist(core, HAND_BACK, HandBack(claim, database_pause_s(), _spent(talk)))
            return True
        except Gathering as album:
            await persist(core, HAND_BACK, HandBack(claim, album.delay_s, _spent(talk)))
            return True
        except Exception as error:
            waited_s = (utcnow() - first["received_at"]).total_seconds()
            if isinstance(error, Temporary) and waited_s < _NETWORK_PATIENCE_S:
                # The network is away, which is nobody's fault here: later, without losing an attempt.
                log.warning("handling_postponed", lane=claim.key, reason=str(error))
                pause_s = error.retry_after_s or min(_NETWORK_PAUSES_S[1], max(_NETWORK_PAUSES_S[0], waited_s / 4))
                await persist(core, HAND_BACK, HandBack(claim, pause_s, _spent(talk)))
                return True
            log.error("message_not_handled", lane=claim.key, failure=first["failures"] + 1, exc_info=error)
            await self._failed(claim, talk, f"{type(error).__name__}: {error}", untouched)
            return True
        self._settled(talk, outcome)
        await core.prove_keys(talk.usage)
        return more

    async def _join(self, talk: Talk, same: persons.Same) -> bool:
        """Make one of the conversations of a person; what came with it is received anew then."""
        core, claim = self._core, talk.claim
        joined: Joined | None = await persist(core, JOIN, Join(claim, talk.channel_id, same))
        await core.pause("joined")
        if joined is None:
            # Another lane of the person is at work. Two that wait for each other must not wait equally long.
            await persist(core, HAND_BACK, HandBack(claim, jitter(*_JOIN_PAUSE_S)))
            return True
        core.backlog.add(claim.line.owner_id, -joined.closed)
        for topic in ("inbox", "outbox", "jobs", "notices"):
            core.bell.ring(topic)
        for conversation_id in filter(None, (joined.kept, *joined.former)):
            core.ring_talk(claim.line.share_id, conversation_id)
        return True

    async def _respond(self, talk: Talk) -> Outcome:
        core = self._core
        listener = None
        if talk.channel_kind == "web":
            listener = rules.Listener(
                core.bell.ring, [f"ask:{talk.channel_id}:{row['external_id']}" for _, row, _ in talk.messages]
            )
        last = next((event for _, _, event in reversed(talk.messages) if event.reply and event.type != "comment"), None)
        adapter = core.channels.get(talk.channel_kind)
        if adapter is None or not adapter.typing_s or last is None or talk.unread:
            return await rules.respond(core, talk, listener)
        signs = [core.tasks.start(self._typing(talk, adapter, last.message_id), name="typing")]
        if drafts.fits(core, talk):
            listener = draft = drafts.Draft(core, talk)
            signs.append(core.tasks.start(draft.show(), name="draft"))
        try:
            return await rules.respond(core, talk, listener)
        finally:
            for sign in signs:
                sign.cancel()

    async def _typing(self, talk: Talk, adapter: Channel, message_id: str) -> None:
        """Show that an answer is being written, if it takes longer than a moment, and again before the sign is gone."""
        core = self._core
        if talk.credentials is None or talk.status == "human":
            return
        credentials = core.credentials(talk.credentials)
        if talk.channel_kind == "telegram":
            await asyncio.sleep(core.settings.telegram.typing_after_ms / 1000)
        else:
            # Elsewhere the sign is the mark of having read as well: it goes out however soon there is an answer.
            core.tasks.start(adapter.typing(credentials, talk.recipient, message_id), name="read")
            await asyncio.sleep(adapter.typing_s * 0.8)
        ends = time.monotonic() + _TYPING_AT_MOST_S
        while time.monotonic() < ends:
            await adapter.typing(credentials, talk.recipient, message_id)
            await asyncio.sleep(adapter.typing_s * 0.8)

    def _settled(self, talk: Talk, outcome: Outcome) -> None:
        core = self._core
        if talk.bot is not None:
            core.backlog.add(talk.bot.owner_id, -len(outcome.closed))
        now = utcnow()
        for _, row, event in talk.messages:
            if event.reply:
                metrics.ANSWER_SECONDS.observe((now - row["received_at"]).total_seconds())
        if any(reply.outgoing for reply in outcome.replies):
            core.bell.ring_elsewhere("outbox")
        if outcome.notices or talk.told:
            core.bell.ring("notices")
        if talk.channel_kind == "web":
            ids = [reply.id for reply in outcome.replies]
            for _, row, _ in talk.messages:
                core.bell.ring(f"ask:{talk.channel_id}:{row['external_id']}", {"kind": "done", "messages": ids})
        if talk.bot is not None and talk.conversation_id:
            core.ring_talk(talk.bot.id, talk.conversation_id)
            if talk.bot.listened:
                core.bell.ring("endpoints")

    async def _failed(
        self,
        claim: Claimed,
        talk: Talk | None,
        reason: str,
        untouched: Sequence[Mapping[str, Any]] = (),
        *,
        guilty: bool = False,
    ) -> None:
        core = self._core
        first = claim.items[0]
        failures = first["failures"] + 1
        dead = guilty or failures >= core.settings.queue.max_attempts
        apology = await self._apology(claim, talk, reason) if dead else None
        returned = [row["id"] for row in untouched]
        failed = Failed(claim, reason, dead, backoff_s(failures, most=30.0), apology, returned, _spent(talk))
        await persist(core, FAIL, failed, submitted=self.outbox.wake_for_new)
        if not dead:
            return
        metrics.SET_ASIDE.labels("inbox").inc()
        core.backlog.add(claim.line.owner_id, -1)
        core.bell.ring("notices")
        if not claim.line.owner_id:
            await self._apologise_to_owner(claim)
            return
        core.bell.ring_elsewhere("outbox")
        if apology is not None and apology.conversation_id is not None:
            for notice in apology.notices:
                core.ring_talk(notice.bot_id or "", apology.conversation_id)
        core.bell.ring(f"ask:{first['channel_id']}:{first['external_id']}", {"kind": "failed"})

    async def _apology(self, claim: Claimed, talk: Talk | None, reason: str) -> Apology | None:
        """What is stored together with setting a message aside: the owner sees it, the customer is not left in silence."""
        return await until_available(lambda: self._find_apology(claim, talk, reason), lambda: _open(self._core))

    async def _find_apology(self, claim: Claimed, talk: Talk | None, reason: str) -> Apology | None:
        core = self._core
        card = await core.cards.get(core, claim.items[0]["channel_id"])
        if card is not None and card.kind == "factory":
            async with core.db.read() as session:
                people = await accounts.administrators(session)
            params = {"reason": reason.partition(":")[0]}
            key = f"message:{claim.items[0]['id']}"
            told = [notices.Occurrence(id_, "factory_failed", key, None, params) for id_ in people]
            return Apology(told, card.id, "", None, None)
        if card is None or not card.owner_id:
            return None
        # The chat is the end of the lane's key: what stopped the program is not looked into again.
        recipient = claim.key.removeprefix(f"in:{card.id}:")
        async with core.db.read() as session:
            bot = await session.get(models.Bot, card.bot_id)
            known = (
                await session.execute(
                    select(models.Conversation.id, models.Conversation.status, models.Contact.language)
                    .join(models.Contact, models.Contact.id == models.Conversation.contact_id)
                    .where(models.Contact.channel_id == card.id, models.Contact.external_id == recipient)
                )
            ).one_or_none()
        if bot is None:
            return None
        reply = None
        # Where a person leads, the person sees it.
        if known is not None and known.status != "human":
            language = known.language or bot.languages[0]
            if talk is not None and talk.bot is not None:
                language = rules.first_language(talk, talk.bot, talk.messages[0][2])
            text = translate(
                language, "Sorry, I could not handle your message 🙏 A person will look at it. You can write again."
            )
            outgoing = () if card.kind == "web" else (Outgoing(text),)
            reply = Reply(text, "system", outgoing, {"language": language})
        conversation_id = known.id if known is not None else None
        params = {"bot": bot.name, "conversation": conversation_id or ""}
        notice = notices.Occurrence(card.owner_id, "message_failed", f"message:{claim.items[0]['id']}", bot.id, params)
        return Apology([notice], card.id, recipient, conversation_id, reply)

    # The factory bot

    async def _apologise_to_owner(self, claim: Claimed) -> None:
        """Tell somebody who wrote to the factory bot that their message is set aside."""
        core = self._core
        chat = claim.key.rpartition(":")[2]
        if core.factory is None or not chat.isdigit():
            return
        async with core.db.read() as session:
            language = await session.scalar(select(models.User.language).where(models.User.telegram_id == int(chat)))
        text = translate(
            language or DEFAULT_LANGUAGE,
            "Sorry, something went wrong with your last message 🙏 Please try again; /cancel begins anew.",
        )
        await core.factory.notify(int(chat), text)

    async def _factory(self, claim: Claimed) -> None:
        """Give the oldest stored update to the factory bot; it is done when its handler has returned.

        The others go back at once, so that one that fails is tried again alone.
        """
        core = self._core
        if core.factory is None:
            # It is still starting, or Telegram is away, or another process has it: the update waits.
            await persist(core, HAND_BACK, HandBack(claim, _FACTORY_PAUSE_S))
            return
        first, *others = claim.items
        async with asyncio.timeout(core.settings.queue.handling_timeout_s):
            await core.factory.handle(json.loads(first["payload"]))
        outcome = Outcome(
            Talk(claim, first["channel_id"], "factory", None, None, ""),
            [first["id"]],
            returned=[row["id"] for row in others],
        )
        await persist(core, SETTLE, outcome)

    # One message to send

    async def _send(self, claim: Claimed, taken: _Taken) -> bool:
        core = self._core
        channel = taken.channels.get(claim.items[0]["channel_id"])
        await core.pause("claimed_send")
        try:
            result = await self._sender.send(claim, channel)
        except outbox.NotBegun:
            await asyncio.shield(persist(core, outbox.GIVE_BACK, claim))
            raise
        except asyncio.CancelledError:
            # Whether it left us is not known; the next start tries it once more, marked unsure.
            raise
        except LostLane:
            raise
        except Exception as error:
            log.error("send_failed", lane=claim.key, exc_info=error)
            result = outbox.Sent(claim, "failed", error=type(error).__name__)
        await core.pause("sent")
        result = outbox.with_notice(result, channel)
        more: bool = await persist(core, outbox.MARK, result)
        outbox.report(core, result)
        return more

    # One job

    async def _job(self, claim: Claimed, _taken: _Taken) -> bool:
        core = self._core
        row = claim.items[0]
        handler = core.job_handlers.get(row["kind"])
        done = jobs.JobDone(claim)
        try:
            if handler is None:
                done = jobs.JobDone(claim, "dead", f"unknown kind {row['kind']}")
            elif self._deaths.of(row) >= self._deaths.guilty:
                done = jobs.JobDone(claim, "dead", "it stopped the program each time it was run")
            else:
                with jobs.holding(core.writer.holder, claim):
                    await handler(row["payload"])
        except LostLane:
            raise
        except asyncio.CancelledError:
            await asyncio.shield(persist(core, jobs.FINISH, jobs.JobDone(claim, "new", counts=False)))
            raise
        except jobs.TryLater as later:
            done = jobs.JobDone(claim, "new", str(later), later.delay_s, counts=False)
        except Exception as error:
            log.error("job_failed", kind=row["kind"], failure=row["failures"] + 1, exc_info=error)
            away = isinstance(error, DatabaseUnavailable)
            dead = row["failures"] + 1 >= core.settings.queue.max_attempts and not away
            delay = backoff_s(row["failures"] + 1, first=2.0)
            done = jobs.JobDone(
                claim, "dead" if dead else "new", f"{type(error).__name__}: {error}", delay, counts=not away
            )
        if done.status == "dead" and (abandon := core.job_abandoners.get(row["kind"])) is not None:
            # Before the job is closed: if this fails or is cut off, the job is still there and it is done again.
            await abandon(row["payload"])
        await persist(core, jobs.FINISH, done)
        if done.status == "dead":
            metrics.SET_ASIDE.labels("jobs").inc()
        return True


def _spent(talk: Talk | None) -> Sequence[Mapping[str, Any]]:
    return talk.usage if talk is not None else ()


def _parse(core: Core, kind: str, row: Mapping[str, Any]) -> Inbound:
    """Read a stored update; one that cannot be read is kept as unsupported, so that the talk goes on."""
    update = json.loads(row["payload"])
    if kind != "factory" and (event := returning.read(update)) is not None:
        return event
    try:
        event = core.channels[kind].parse(update)
        return replace(event, extra={**event.extra, "late": True}) if row["request_id"] == RESTORED else event
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        log.warning("update_not_understood", kind=kind, error=type(error).__name__)
        chat, _ = core.channels[kind].identify(update)
        return Inbound("unsupported", chat, Sender(chat), type="malformed", reply=False)
