"""Long polls in trouble: nothing is confirmed that is not stored, and one update, menu or proxy does not silence a bot."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from db import models
from services import metrics
from tests.composition import make_shop
from tests.conveyor.harness import Floor, Tenant, floor, new_token
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]

FUNCTION = (
    "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{}'; END $$"
    " LANGUAGE plpgsql"
)
TRIGGER = "CREATE TRIGGER refuse BEFORE INSERT ON inbox FOR EACH ROW WHEN ({}) EXECUTE FUNCTION refuse()"
ONE = "NEW.payload LIKE '%№{}%' OR NEW.payload LIKE '%u2116{}%'"
REFUSES_ONE = {
    "sqlite": [
        "CREATE TRIGGER refuse BEFORE INSERT ON inbox WHEN {one} BEGIN SELECT RAISE(ABORT, 'no'); END",
    ],
    "postgresql": [FUNCTION.format("check_violation"), TRIGGER.format("{one}")],
    # A data error, for which the driver's dialect has no class.
    "postgresql-data": [FUNCTION.format("22021"), TRIGGER.format("{one}")],
}
# What is wrong is the database's, not the update's: a search index whose own tables are damaged, a trigger that fails.
FAILS = {
    "sqlite": [
        "CREATE VIRTUAL TABLE damaged USING fts5(words)",
        "DELETE FROM damaged_data",
        "CREATE TRIGGER refuse BEFORE INSERT ON inbox BEGIN INSERT INTO damaged VALUES ('a'); END",
    ],
    "postgresql": [FUNCTION.format("P0001"), TRIGGER.format("true")],
}
MENDS = {"sqlite": "DROP TRIGGER refuse", "postgresql": "DROP TRIGGER refuse ON inbox"}


async def _run(place: Floor, *statements: str) -> None:
    async with place.core.db.write() as session:
        for statement in statements:
            await session.execute(text(statement.replace(":", "\\:")))


def _offsets(tenant: Tenant) -> list[Any]:
    return [call.params.get("offset") for call in tenant.fake.called("getUpdates", tenant.bot)]


async def test_what_the_database_cannot_store_is_not_confirmed(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    async with floor(tmp_path, database_url, *fakes, refused=True) as place:
        shop = await place.tenant()
        person = shop.person()
        await shop.answered([shop.ask(person)])
        await _run(place, *FAILS[place.core.db.dialect])
        polls = len(_offsets(shop))
        numbers = [shop.ask(person)]
        # Asked again and again for the same update.
        await place.fake.wait_call("getUpdates", bot=shop.bot, times=polls + 2)
        assert len(shop.bot.pending) == 1
        assert not place.core.tasks.failed.done()
        await _run(place, MENDS[place.core.db.dialect])
        times = await shop.answered([*numbers, shop.ask(person)])
        assert set(times.values()) == {1}
        assert shop.in_order()
        assert not await place.notices(shop)


@pytest.mark.parametrize(
    ("database_url", "kind"),
    [("sqlite", "as-it-is"), ("postgresql", "as-it-is"), ("postgresql", "data")],
    indirect=["database_url"],
)
async def test_an_update_that_the_database_refuses_is_passed_over_in_the_end(
    tmp_path: Path, database_url: str, fakes: Fakes, kind: str
) -> None:
    def set_aside() -> float:
        return metrics.REGISTRY.get_sample_value("botfactory_set_aside_total", {"queue": "accept"}) or 0.0

    async with floor(tmp_path, database_url, *fakes, refused=True) as place:
        dialect = place.core.db.dialect
        statements = REFUSES_ONE.get(f"{dialect}-{kind}", REFUSES_ONE[dialect])
        shop, other = await place.tenant(), await place.tenant()
        person = shop.person()
        before, counted = shop.ask(person), set_aside()
        await shop.answered([before])
        bad, update_id = before + 1, shop.bot.next_update_id
        await _run(place, *(one.replace("{one}", ONE.format(bad, bad)) for one in statements))
        assert shop.ask(person) == bad
        after = [shop.ask(person), shop.ask(shop.person())]
        elsewhere = other.ask(other.person())
        notice = await place.noticed(shop, "message_failed")
        assert notice.params["bot"] == shop.shop.bot.name
        # It was fetched three times before it was given up; what came with it was stored at once, and once.
        asked = [offset for offset in _offsets(shop) if offset == update_id]
        assert len(asked) >= 3
        times = await shop.answered([*after, shop.ask(person)])
        assert times[bad] == 0 and set(times.values()) == {1}
        assert (await other.answered([elsewhere]))[elsewhere] == 1
        assert not await place.notices(other)
        assert set_aside() == counted + 1
        assert len(await place.notices(shop)) == 1


async def test_what_is_no_update_does_not_hold_the_others_back(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        shop = await place.tenant()
        person, other = shop.person(), shop.person()
        await shop.answered([shop.ask(person)])
        number, update_id = 970_001, shop.bot.next_update_id + 1
        shop.asked[number] = other
        shop.bot.chats.add(other.id)
        message = {"message_id": 77, "from": other.user(), "chat": other.chat(), "date": int(time.time())}
        message["text"] = f"Muzlatgichlarga kafolat bormi №{number}"
        good = {"update_id": update_id, "message": message}
        strange: list[Any] = [None, [], "x", {"message": message}, {"update_id": None}, {"update_id": "x"}]
        fake.answer_with(200, {"ok": True, "result": [*strange, good]}, bot=shop.bot, method="getUpdates", times=1)
        # Ends the poll that waits; the next one gets the batch.
        await shop.answered([shop.ask(person), number])
        await fake.wait_until(lambda: update_id + 1 in _offsets(shop))
        # A batch without a single number confirms nothing, and the bot goes on.
        shop.bot.next_update_id = update_id + 1
        fake.answer_with(200, {"ok": True, "result": [None]}, bot=shop.bot, method="getUpdates", times=1)
        await shop.answered([shop.ask(person)])
        times = await shop.answered([shop.ask(person)])
        assert set(times.values()) == {1}


REFUSED_MENUS: dict[str, tuple[int, dict[str, Any]]] = {
    "limited": (429, {"parameters": {"retry_after": 3600}}),
    "refused": (400, {"description": "Bad Request: BOT_COMMANDS_INVALID"}),
}


@pytest.mark.parametrize("case", sorted(REFUSED_MENUS))
async def test_a_bot_receives_whatever_becomes_of_its_menus(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, case: str
) -> None:
    fake, _ = fakes
    status, more = REFUSED_MENUS[case]
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        bot = fake.add_bot(new_token())
        answer = {"ok": False, "error_code": status, **more}
        menus = fake.answer_with(status, answer, bot=bot, method="setMyCommands", times=None)
        shop = Tenant(fake, bot, await make_shop(place.core, email="menus@example.uz", telegram=bot.token))
        await menus.reached.wait()
        person = shop.person()
        for _ in range(2):
            await shop.answered([shop.ask(person)])
        assert len(fake.called("setMyCommands", bot)) == 1
        assert not await place.notices(shop)


async def test_menus_that_were_limited_are_set_later(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        bot = fake.add_bot(new_token())
        fake.fail(429, bot=bot, method="setMyCommands", times=1, retry_after=1)
        shop = Tenant(fake, bot, await make_shop(place.core, email="later@example.uz", telegram=bot.token))
        await shop.answered([shop.ask(shop.person())])

        async def noted() -> bool:
            settings = await place.one(select(models.Channel.settings).where(models.Channel.id == shop.shop.channel.id))
            return "commands" in (settings or {})

        await place.until(noted)
        languages = [call.params.get("language_code") or "" for call in fake.called("setMyCommands", bot)]
        assert sorted(set(languages)) == ["", "en", "ru", "uz"]


async def test_a_page_of_a_proxy_says_nothing_about_the_bot(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        # Side by side: each of them waits before it asks again.
        await asyncio.gather(*(_meets_a_page(place, status) for status in (401, 403, 404, 409)))
        assert set(await place.rows(select(models.Channel.status))) == {("active",)}
        gone = select(models.Contact.id).where(models.Contact.unreachable_since.is_not(None))
        assert not await place.rows(gone)


async def _meets_a_page(place: Floor, status: int) -> None:
    fake = place.fake
    shop = await place.tenant(f"Texno {status}")
    person = shop.person()
    await shop.answered([shop.ask(person)])
    page = b"<html>no route</html>"
    polls = fake.answer_with(status, page, bot=shop.bot, method="getUpdates", times=2, content_type="text/html")
    sends = fake.answer_with(status, page, bot=shop.bot, method="sendMessage", times=1, content_type="text/html")
    numbers = [shop.ask(person)]
    await fake.wait_until(lambda: polls.hits == 2 and sends.hits == 1)
    times = await shop.answered([*numbers, shop.ask(person)])
    assert set(times.values()) == {1}, status
    assert not await place.notices(shop), status
