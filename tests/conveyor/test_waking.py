"""Whatever becomes ready is taken at once: nobody waits for the next look at the queues, which is a minute away here."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from sqlalchemy import select

from db.engine import Database
from db.models import InboxItem, Lane
from services.inbox import ACCEPT, Accept
from services.lanes import INBOX, Line, Load, QueueKind
from services.tasks import TaskGroup
from services.worker import CLAIM, Ask
from services.writer import Writer
from tests.conveyor.harness import floor
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]
SELDOM = {"idle_poll_s": 60}


@pytest.mark.parametrize(
    "places",
    [
        pytest.param({}, id="plenty"),
        pytest.param({"conversations": 3, "conversations_per_owner": 2, "sends": 2, "sends_per_owner": 1}, id="few"),
    ],
)
async def test_no_message_waits_for_a_look_at_the_queues(
    places: dict[str, int], tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    chance = random.Random(7)
    async with floor(tmp_path, database_url, *fakes, queue={**SELDOM, **places}) as place:
        shops = [await place.tenant() for _ in range(2)]
        people = [(shop, shop.person()) for shop in shops for _ in range(12)]
        for _ in range(72):
            shop, person = chance.choice(people)
            shop.ask(person)
            await asyncio.sleep(chance.choice((0, 0, 0.002, 0.02)))
        for shop in shops:
            assert set((await shop.answered()).values()) == {1}
            assert shop.in_order()


async def test_a_claim_that_looks_for_nothing_finds_what_was_left(tmp_path: Path, database_url: str) -> None:
    """A lane that was filled by a commit of its own is not taken by it; the next claim has to find it with its own."""
    db = Database(database_url)
    writer = Writer(db, "here")
    tasks = TaskGroup()
    tasks.start(writer.run(), name="writer")
    queue = QueueKind("inbox", INBOX, ("new",), 10)

    def accept(number: int, chat: str) -> Accept:
        line = Line("inbox", "o" * 26, "b" * 26)
        return Accept("c" * 26, line, f"in:c:{chat}", str(number), "{}", "")

    passed: list[set[str]] = []

    async def claim(look: bool, in_hand: frozenset[str] = frozenset()) -> dict[str, list[str]]:
        ask = Ask(queue, look, 10, 60.0, Load(10), None, 0, in_hand, None)
        taken = await writer.submit(CLAIM, ask)
        passed.append(taken.passed)
        return {claim.key: [row["external_id"] for row in claim.items] for claim in taken.claims}

    try:
        assert await claim(look=True) == {}
        # Together: taken at once, both of them.
        both = [writer.submit(ACCEPT, accept(1, "a")), writer.submit(ACCEPT, accept(2, "a"))]
        assert await claim(look=False) == {"in:c:a": ["1", "2"]}
        assert await asyncio.gather(*both) == [True, True]
        # Alone, then another one with a claim: both are found, and the lane in hand is not.
        assert await writer.submit(ACCEPT, accept(3, "b"))
        assert await writer.submit(ACCEPT, accept(4, "a"))
        fifth = writer.submit(ACCEPT, accept(5, "d"))
        assert await claim(look=False, in_hand=frozenset({"in:c:a"})) == {"in:c:b": ["3"], "in:c:d": ["5"]}
        assert await fifth
        assert not any(passed)
        # In hand when the claim was made, and given back by the same commit at the latest: another claim is due.
        sixth = writer.submit(ACCEPT, accept(6, "e"))
        assert await claim(look=False, in_hand=frozenset({"in:c:e"})) == {}
        assert await sixth and passed[-1] == {"in:c:e"}
        assert await claim(look=False) == {"in:c:e": ["6"]}
        # A second delivery fills nothing.
        again = writer.submit(ACCEPT, accept(5, "d"))
        assert await claim(look=False) == {}
        assert not await again
        async with db.read() as session:
            rows = (await session.execute(select(Lane.key, Lane.pending, Lane.holder).order_by(Lane.key))).all()
            tried = (await session.scalars(select(InboxItem.attempts).order_by(InboxItem.external_id))).all()
        assert rows == [("in:c:a", 3, "here"), ("in:c:b", 1, "here"), ("in:c:d", 1, "here"), ("in:c:e", 1, "here")]
        assert tried == [1, 1, 1, 0, 1, 1]
    finally:
        writer.close()
        await tasks.cancel()
        await db.close()
