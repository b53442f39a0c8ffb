"""The limits of plans where something is added: bots, channels, people, documents; and what is shown of them."""

from __future__ import annotations

import ast
import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from db import models
from db.base import utcnow
from services import accounts, allowances, bots, notices, plans, samples, seats, subscriptions, team
from services.core import Core
from services.errors import Conflict, Forbidden
from services.i18n import CATALOGS
from services.knowledge import documents
from services.settings import ROOT
from tests.composition import make_settings, running

_MIB = 1_048_576
_DAY = dt.timedelta(days=1)


@dataclass
class _Place:
    core: Core
    owner: models.User

    async def bot(self, name: str = "Chinor") -> models.Bot:
        core = self.core
        async with core.db.write() as session:
            return await bots.create(session, self.owner, name, limits=core.settings.limits, plan=core.allowances)

    async def upload(self, bot: models.Bot, name: str, size: int) -> models.Document:
        core = self.core
        async with core.db.write() as session:
            return await documents.upload(
                session,
                bot,
                name,
                b"narx\n" + b"1" * (size - 5),
                limits=core.settings.limits,
                max_bytes=100 * _MIB,
                plan=core.allowances,
            )

    async def invite(self) -> str:
        core = self.core
        async with core.db.write() as session:
            return await team.invite(session, self.owner, "operator", "Nodira", most=20, plan=core.allowances)

    async def joins(self, token: str, name: str) -> models.User:
        core = self.core
        async with core.db.write() as session:
            user = await accounts.register_owner(session, full_name=name, email=f"{name.lower()}@team.example.uz")
            await team.accept(session, token, user, plan=core.allowances)
        return user

    async def teach(self, bot: models.Bot, question: str, size: int) -> documents.TaughtAnswer:
        core = self.core
        async with core.db.write() as session:
            return await documents.add_answer(session, bot, question, "h" * size, plan=core.allowances)

    async def may_answer(self, bot: models.Bot, *people: models.User) -> list[bool]:
        """Tell of each whether they may answer for a bot; who is paused is told so."""
        found = []
        async with self.core.db.read() as session:
            for person in people:
                try:
                    await bots.get(session, person, bot.id, "talk")
                except Forbidden as refused:
                    assert refused.code == "paused" and "Aziz" in refused.text.render("en")
                    assert await bots.list_for(session, person, "talk") == []
                    assert await team.role_of(session, self.owner.id, person.id) is None
                    found.append(False)
                else:
                    found.append(True)
        return found

    async def told(self, person: models.User) -> list[str]:
        async with self.core.db.read() as session:
            return sorted(notice.kind for notice in await notices.open_for(session, person))

    async def buys(self, plan: str) -> None:
        core = self.core
        async with core.db.write() as session:
            await subscriptions.grant(
                session,
                core.settings,
                self.owner.id,
                plan,
                "monthly",
                now=core.now(),
                source="grant",
                value_tiyin=0,
            )

    async def becomes(self, plan: str) -> None:
        """Let what was bought be another plan, as if a smaller one had begun."""
        core = self.core
        async with core.db.write() as session:
            await subscriptions.change_plan(session, core.settings, self.owner.id, plan, now=core.now())

    async def usage(self) -> allowances.Usage:
        core = self.core
        async with core.db.read() as session:
            return await allowances.usage(session, core.settings, self.owner, core.now())

    def later(self, days: float) -> None:
        then = utcnow() + days * _DAY
        self.core.now = lambda: then


@asynccontextmanager
async def _place(folder: Path, url: str) -> AsyncIterator[_Place]:
    """Plans as they are sold; an owner who registers now."""
    async with running(make_settings(folder, url, as_sold=True), "idle") as core:
        async with core.db.write() as session:
            owner = await accounts.register_owner(session, full_name="Aziz", email="aziz@example.uz")
        yield _Place(core, owner)


async def _at_once(what: Callable[[], Awaitable[Any]], times: int) -> list[Any]:
    return await asyncio.gather(*(what() for _ in range(times)), return_exceptions=True)


def _refused(results: list[Any], code: str = "limit") -> int:
    for result in results:
        if isinstance(result, BaseException):
            assert isinstance(result, Conflict) and result.code == code, result
            assert "/billing" in result.text.render("uz")
    return sum(isinstance(result, Conflict) for result in results)


async def test_the_last_bot_is_given_once(tmp_path: Path, database_url: str) -> None:
    """Six presses at once make one bot; a larger plan has room for four more."""
    async with _place(tmp_path, database_url) as place:
        assert _refused(await _at_once(place.bot, 6)) == 5
        await place.buys("premium")
        assert _refused(await _at_once(place.bot, 6)) == 2
        usage = await place.usage()
        assert (usage.bots.used, usage.bots.limit, usage.bots.percent) == (5, 5, 100)


async def test_the_last_place_in_the_team_is_given_once(tmp_path: Path, database_url: str) -> None:
    """Open invitations count like members."""
    async with _place(tmp_path, database_url) as place:
        assert _refused(await _at_once(place.invite, 6)) == 3
        usage = await place.usage()
        assert (usage.operators.used, usage.operators.limit) == (3, 3)


async def test_an_invitation_of_a_larger_plan_waits_for_room(tmp_path: Path, database_url: str) -> None:
    """Three follow their links at once where one place is left: one is in, the links of the others work with a larger plan."""
    async with _place(tmp_path, database_url) as place:
        await place.buys("premium")
        links = [await place.invite() for _ in range(3)]
        await place.becomes("starter")
        names = ("Nodira", "Olim", "Pari")
        results = await asyncio.gather(
            *(place.joins(link, name) for link, name in zip(links, names, strict=True)), return_exceptions=True
        )
        refused = [n for n, result in enumerate(results) if isinstance(result, Conflict) and result.code == "limit"]
        assert len(refused) == 2
        await place.becomes("premium")
        for n in refused:
            await place.joins(links[n], names[n])
        assert (await place.usage()).operators.used == 3


async def test_who_is_over_the_plan_is_paused_and_comes_back(tmp_path: Path, database_url: str) -> None:
    """Who joined last sees nothing and is told why; room by somebody who leaves, or by a plan, lets them work again."""
    async with _place(tmp_path, database_url) as place:
        await place.buys("premium")
        bot = await place.bot()
        first, second, third = [await place.joins(await place.invite(), name) for name in ("Nodira", "Olim", "Pari")]
        await seats.settle(place.core)
        assert await place.may_answer(bot, first, second, third) == [True, True, True]
        await place.becomes("starter")
        for _ in range(2):
            await seats.settle(place.core)
            assert await place.may_answer(bot, first, second, third) == [True, False, False]
            assert await place.told(second) == await place.told(third) == ["work_paused"]
            assert await place.told(first) == []
            assert (await place.told(place.owner)).count("team_paused") == 1
        async with place.core.db.write() as session:
            member = next(each.member for each in await team.members(session, place.owner) if each.user.id == first.id)
            await team.remove(session, place.owner, member.id)
        await seats.settle(place.core)
        assert await place.may_answer(bot, second, third) == [True, False]
        assert await place.told(second) == []
        # The plan ends: the owner is alone until another comes.
        place.later(100)
        await seats.settle(place.core)
        assert await place.may_answer(bot, second, third) == [False, False]
        await place.buys("premium")
        await seats.settle(place.core)
        assert await place.may_answer(bot, second, third) == [True, True]
        assert "team_paused" not in await place.told(place.owner)


async def test_taught_answers_share_the_room_of_documents(tmp_path: Path, database_url: str) -> None:
    """Of ten at once two have room; a shorter one always fits, and what is forgotten makes room."""
    async with _place(tmp_path, database_url) as place:
        bot = await place.bot()
        await place.upload(bot, "narx.txt", 50 * _MIB - 8200)
        results = await asyncio.gather(
            *(place.teach(bot, f"Savol {n}?", 4000) for n in range(6)), return_exceptions=True
        )
        assert _refused(results) == 4
        kept = [result for result in results if isinstance(result, documents.TaughtAnswer)]
        used = (await place.usage()).knowledge
        assert used.used == 50 * _MIB - 8200 + 2 * (4000 + len("Savol 0?\n"))
        with pytest.raises(Conflict):
            await place.teach(bot, "Yana bir savol?", 300)
        # The same question again is a change of what is there; another room is not asked for.
        await place.teach(bot, kept[0].question, 3000)
        await place.teach(bot, "Yana bir savol?", 300)
        core = place.core
        async with core.db.write() as session:
            with pytest.raises(Conflict):
                await documents.update_answer(
                    session, bot, kept[0].id, kept[0].question, "h" * 4000, plan=core.allowances
                )
            await session.rollback()
        async with core.db.write() as session:
            # Two become one.
            await documents.update_answer(session, bot, kept[1].id, kept[0].question, "Ha", plan=core.allowances)
        async with core.db.write() as session:
            await documents.delete_answer(session, bot, kept[1].id)
        left = 300 + len("Yana bir savol?\n")
        assert (await place.usage()).knowledge.used == 50 * _MIB - 8200 + left


async def test_what_a_plan_keeps_bots_from_doing_is_told(tmp_path: Path, sqlite_url: str) -> None:
    """By the same rules by which they are silent; with what to do in every language."""
    async with _place(tmp_path, sqlite_url) as place:
        await place.buys("premium")
        first, second = await place.bot("Bir"), await place.bot("Ikki")
        async with place.core.db.write() as session:
            session.add(models.Channel(bot_id=first.id, kind="whatsapp", external_id="1", status="active"))

        async def quiet() -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
            async with place.core.db.read() as session:
                found = await place.core.allowances.quiet(session, [first, second])
            assert all(line.render(code) for one in found.values() for line in one.lines for code in CATALOGS)
            states = [found.get(bot.id, allowances.Quiet()) for bot in (first, second)]
            return [(one.why, one.channels, one.languages) for one in states]

        free = ("", (), ())
        assert await quiet() == [free, free]
        await place.becomes("starter")
        assert await quiet() == [("", ("whatsapp",), ()), ("bots", (), ())]
        async with place.core.db.write() as session:
            (await session.get_one(models.Bot, first.id)).status = "stopped"
        first.status = "stopped"
        assert await quiet() == [free, free]
        async with place.core.db.write() as session:
            month = plans.month_of(place.core.now())
            session.add(models.MessageQuota(user_id=place.owner.id, month=month, used=1000, settled=1000))
        assert await quiet() == [free, ("messages", (), ())]
        place.later(100)
        assert await quiet() == [free, ("over", (), ())]


async def test_documents_of_all_bots_share_the_room(tmp_path: Path, database_url: str) -> None:
    """Fifty megabytes: of six times ten at once five stay. One of the same name takes the place of the one before."""
    async with _place(tmp_path, database_url) as place:
        await place.buys("premium")
        bot, other = await place.bot("Bir"), await place.bot("Ikki")
        async with place.core.db.write() as session:
            span, owner = models.Subscription.user_id == place.owner.id, models.User
            await session.execute(update(models.Subscription).where(span).values(plan="starter"))
            await session.execute(
                update(owner)
                .where(owner.id == place.owner.id)
                .values(subscription_version=owner.subscription_version + 1)
            )
        wanted = [(bot if n % 2 else other, f"narx{n}.txt") for n in range(6)]
        results = await asyncio.gather(
            *(place.upload(of, name, 10 * _MIB) for of, name in wanted), return_exceptions=True
        )
        assert _refused(results) == 1
        assert (await place.usage()).knowledge == allowances.Measure(50 * _MIB, 50 * _MIB)
        kept = next(result for result in results if isinstance(result, models.Document))
        async with place.core.db.write() as session:
            await session.execute(
                update(models.Document).where(models.Document.id == kept.id).values(status="ready", serving=True)
            )
        owner_of = bot if kept.bot_id == bot.id else other
        await place.upload(owner_of, kept.name, 9 * _MIB)
        with pytest.raises(Conflict):
            await place.upload(owner_of, "yana.txt", 10 * _MIB)


@pytest.mark.parametrize("days", [4, 13])
async def test_a_kind_of_channel_that_the_plan_lacks_is_not_connected(
    tmp_path: Path, sqlite_url: str, days: int
) -> None:
    """In the days of test WhatsApp is refused before Meta is asked; what is there may be renewed."""
    async with _place(tmp_path, sqlite_url) as place:
        bot = await place.bot()
        place.later(days)
        async with place.core.db.write() as session:
            for kind in ("whatsapp", "instagram"):
                with pytest.raises(Conflict) as refused:
                    await place.core.allowances.channel(session, bot, kind)
                assert refused.value.code == "plan" and "/billing" in refused.value.text.render("ru")
            for kind in ("telegram", "web"):
                await place.core.allowances.channel(session, bot, kind)
        await place.buys("basic")
        async with place.core.db.read() as session:
            await place.core.allowances.channel(session, bot, "whatsapp")


async def test_without_a_plan_nothing_is_added_and_nothing_is_lost(tmp_path: Path, sqlite_url: str) -> None:
    """Everything is refused in words that say where to go; with a plan all of it is possible again."""
    async with _place(tmp_path, sqlite_url) as place:
        bot = await place.bot()
        await place.upload(bot, "narx.txt", 1000)
        place.later(15)
        attempts = (place.bot, place.invite, lambda: place.upload(bot, "a.txt", 10))
        for attempt in attempts:
            assert _refused(await _at_once(attempt, 1), "plan") == 1
        usage = await place.usage()
        assert usage.standing.status == "expired" and usage.channels == usage.languages == ()
        assert (usage.bots, usage.knowledge) == (allowances.Measure(1, 0), allowances.Measure(1000, 0))
        await place.buys("premium")
        for attempt in attempts:
            assert _refused(await _at_once(attempt, 1)) == 0


async def test_a_smaller_plan_deletes_nothing_and_adds_nothing(tmp_path: Path, sqlite_url: str) -> None:
    """What is over the limit stays and is shown as used up."""
    async with _place(tmp_path, sqlite_url) as place:
        await place.buys("premium")
        for number in range(3):
            await place.bot(f"Bot {number}")
        place.later(40)
        await place.buys("starter")
        usage = await place.usage()
        assert (usage.bots.used, usage.bots.limit, usage.bots.percent) == (3, 1, 100)
        assert usage.channels == ("telegram", "web")
        assert _refused(await _at_once(place.bot, 1)) == 1


async def test_an_administrator_has_no_limits(tmp_path: Path, sqlite_url: str) -> None:
    """Also long after the free days."""
    async with _place(tmp_path, sqlite_url) as place:
        async with place.core.db.write() as session:
            (await session.get_one(models.User, place.owner.id)).role = "admin"
            place.owner.role = "admin"
        place.later(100)
        for number in range(8):
            bot = await place.bot(f"Bot {number}")
        await place.upload(bot, "narx.txt", 60 * _MIB)
        usage = await place.usage()
        assert usage.standing.status == "unlimited"
        assert (usage.bots, usage.messages) == (allowances.Measure(8, None), allowances.Measure(0, None))
        assert usage.bots.percent == 0 and "instagram" in usage.channels


async def test_the_example_counts_as_a_bot(tmp_path: Path, sqlite_url: str) -> None:
    """Whoever has one bot already is told where more are."""
    async with _place(tmp_path, sqlite_url) as place:
        await place.bot()
        core = place.core

        async def example() -> models.Bot:
            async with core.db.write() as session:
                return await samples.open_example(
                    session, place.owner, "uz", limits=core.settings.limits, max_bytes=_MIB, plan=core.allowances
                )

        assert _refused(await _at_once(example, 1)) == 1


async def test_the_words_of_a_limit_name_the_plan_and_the_way(tmp_path: Path, sqlite_url: str) -> None:
    """In English as it is written."""
    async with _place(tmp_path, sqlite_url) as place:
        await place.bot()
        [refused] = await _at_once(place.bot, 1)
        address = f"{place.core.settings.public_url}/billing"
        said = f"Bots that the plan “Trial” allows: 1. Delete one, or choose a larger plan: {address}"
        assert refused.text.render("en") == said


async def test_usage_follows_the_clock_of_tashkent(tmp_path: Path, sqlite_url: str) -> None:
    """Messages are of the month that it is there."""
    async with _place(tmp_path, sqlite_url) as place:
        now = place.core.now()
        async with place.core.db.write() as session:
            session.add(models.MessageQuota(user_id=place.owner.id, month=plans.month_of(now), used=75))
        usage = await place.usage()
        assert (usage.messages.used, usage.messages.limit, usage.messages.percent) == (75, 300, 25)
        end = usage.month_ends_at
        place.core.now = lambda: end
        assert (await place.usage()).messages.used == 0


_NEEDS_A_PLAN = {
    ("bots", "create"),
    ("bots", "connect_telegram"),
    ("bots", "connect_whatsapp"),
    ("bots", "connect_web"),
    ("instagram", "connect"),
    ("documents", "upload"),
    ("documents", "add_answer"),
    ("documents", "update_answer"),
    ("questions", "teach"),
    ("samples", "open_example"),
    ("team", "invite"),
    ("team", "accept"),
}


def test_whatever_adds_something_of_an_owner_asks_the_plan() -> None:
    """The services take the plan as an argument; pages, API and the factory bot always give it."""
    seen: set[tuple[str, str]] = set()
    for folder in ("web", "handlers", "services"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                if not isinstance(node.func.value, ast.Name):
                    continue
                name = (node.func.value.id, node.func.attr)
                if name in _NEEDS_A_PLAN:
                    seen.add(name)
                    assert "plan" in {word.arg for word in node.keywords}, f"{file}:{node.lineno}"
    assert seen == _NEEDS_A_PLAN
