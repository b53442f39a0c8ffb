"""Models, keys, prices and budgets as an administrator chooses them: they hold at once, and config.toml holds again."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text

from db import models
from db.base import utcnow
from db.engine import Database
from services import accounts, budgets, overrides
from services.days import TASHKENT
from tests import servers
from tests.composition import Shop, ask, make_shop
from tests.conveyor.harness import QUICK, until
from tests.fakes.models import FakeModels
from tests.web.panel import Browser, Page, Site, open_site

KEYS = {"GEMINI_API_KEY": "test-key-gemini-01234567", "OPENAI_API_KEY": "test-key-openai-89abcdef"}


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[FakeModels]:
    fake = FakeModels()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture(scope="module")
async def site(
    tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run, upstream: FakeModels
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("models")
    addresses = {"GEMINI_BASE_URL": upstream.url, "OPENAI_BASE_URL": upstream.url}
    async with open_site(
        folder, servers_run.new_sqlite(folder), environment={**KEYS, **addresses}, overrides=QUICK
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
async def shop(site: Site) -> Shop:
    return await make_shop(site.core)


@pytest.fixture(scope="module")
async def boss(site: Site) -> Browser:
    return await site.administrator()


def said(page: Page) -> str:
    return " ".join(page.visible().split())


async def last_call(site: Site) -> models.AIUsage:
    async with site.core.db.read() as session:
        return (await session.scalars(select(models.AIUsage).order_by(models.AIUsage.id.desc()).limit(1))).one()


async def chosen(site: Site) -> dict[str, Any]:
    async with site.core.db.read() as session:
        return await overrides.all_of(session)


async def test_another_chain_answers_from_the_next_question_on_and_back(site: Site, shop: Shop, boss: Browser) -> None:
    assert (await ask(site.core, shop))["provider"] == "gemini"
    page = await boss.get("/admin/models")
    assert page.status == 200 and "Key …4567" in said(page) and KEYS["GEMINI_API_KEY"] not in page.text
    fast = "openai:gpt-6-luna\ngemini:gemini-3.5-flash-lite"
    assert (await boss.post("/admin/models/chain", role="fast", chain=fast)).status == 303
    assert (await ask(site.core, shop))["provider"] == "openai"
    assert "chosen here" in said(await boss.get("/admin/models"))
    assert (await boss.post("/admin/models/answering", role="balanced")).status == 303
    assert (await ask(site.core, shop))["model"] == "gemini-3.8-flash"
    await boss.post("/admin/models/chain", role="fast", back="1")
    await boss.post("/admin/models/answering", back="1")
    assert (await ask(site.core, shop))["provider"] == "gemini" and not await chosen(site)
    async with site.core.db.read() as session:
        log = models.AuditLog
        found = await session.scalars(select(log.action).where(log.object_kind == "override").order_by(log.id))
        assert list(found) == ["override_changed", "override_changed", "override_ended", "override_ended"]


@pytest.mark.parametrize(
    ("what", "fields", "words"),
    [
        ("chain", {"role": "fast", "chain": "gpt-6-luna"}, "is not written provider:model"),
        ("chain", {"role": "fast", "chain": "openai:a\nopenai:a"}, "stands there twice"),
        ("chain", {"role": "fast", "chain": " "}, "it needs a model"),
        ("chain", {"role": "fast", "chain": "openai:<b>x</b>"}, "is not written provider:model"),
        ("answering", {"role": "dearest"}, "Choose a role"),
        ("price", {"model": "gpt-6-luna", "in": "free", "out": "2"}, "Enter US dollars"),
        ("price", {"model": "gpt-6-luna", "in": "1", "out": "-2"}, "Enter US dollars"),
        ("price", {"model": "gpt-6-luna", "in": "NaN", "out": "2"}, "Enter US dollars"),
        ("price", {"model": "gpt-6-luna", "in": "1", "out": ""}, "Enter US dollars"),
        ("budget", {"owner": "1e9"}, "Enter US dollars"),
    ],
)
async def test_what_makes_no_sense_is_not_taken(
    site: Site, boss: Browser, what: str, fields: dict[str, str], words: str
) -> None:
    page = await boss.post(f"/admin/models/{what}", **fields)
    assert page.status == 400 and words in said(page) and "<b>x" not in page.text
    assert not await chosen(site)


async def test_unknown_roles_models_and_providers_are_not_there(boss: Browser) -> None:
    assert (await boss.post("/admin/models/chain", role="nobody", chain="openai:x")).status == 404
    assert (await boss.post("/admin/models/price", model="nobody", **{"in": "1", "out": "1"})).status == 404
    assert (await boss.post("/admin/models/key", provider="nobody", on="0")).status == 404


async def test_a_price_is_what_the_next_call_costs(site: Site, shop: Shop, boss: Browser) -> None:
    price = {"model": "gemini-3.5-flash-lite", "in": "1000", "out": "2 000,5", "cached": ""}
    assert (await boss.post("/admin/models/price", **price)).status == 303
    await ask(site.core, shop)
    call = await last_call(site)
    assert call.price_source == "override"
    assert call.cost_usd == pytest.approx(
        (Decimal(1000) * call.input_tokens + Decimal("2000.5") * call.output_tokens) / 1_000_000, abs=Decimal("1e-6")
    )
    assert "$1,000.00" in said(await boss.get("/admin/models"))
    await boss.post("/admin/models/price", model="gemini-3.5-flash-lite", back="1")
    await ask(site.core, shop)
    assert (await last_call(site)).cost_usd < call.cost_usd


async def test_a_key_that_rests_is_not_asked(site: Site, shop: Shop, boss: Browser, upstream: FakeModels) -> None:
    await boss.post("/admin/models/key", provider="gemini", on="0")
    assert (await ask(site.core, shop))["provider"] == "openai"
    await boss.post("/admin/models/key", provider="openai", on="0")
    before = len(upstream.requests)
    assert (await ask(site.core, shop))["provider"] == "extractive" and len(upstream.requests) == before
    assert "Rests" in said(await boss.get("/admin/models"))
    for provider in ("gemini", "openai"):
        await boss.post("/admin/models/key", provider=provider, on="1")
    assert (await ask(site.core, shop))["provider"] == "gemini"


async def test_a_budget_that_is_used_up_ends_the_calls_of_a_day(site: Site, shop: Shop, boss: Browser) -> None:
    assert (await boss.post("/admin/models/budget", owner="0")).status == 303
    assert (await ask(site.core, shop))["provider"] == "extractive"
    await boss.post("/admin/models/budget", back="1")
    assert (await ask(site.core, shop))["provider"] == "gemini"


async def test_a_provider_is_asked_no_more_when_its_budget_is_used_up(
    site: Site, shop: Shop, boss: Browser, upstream: FakeModels
) -> None:
    """The next model answers; without one passages are quoted; administrators are told once, and a larger budget ends it."""
    core = site.core

    async def notices() -> list[tuple[str, str]]:
        async with core.db.read() as session:
            row = models.Notice
            kinds = "budget_near", "budget_out"
            found = await session.execute(select(row.kind, row.user_id).where(row.kind.in_(kinds)))
            return [(kind, user_id) for kind, user_id in found]

    assert (await ask(core, shop))["provider"] == "gemini"
    once = (await last_call(site)).cost_usd
    async with core.db.read() as session:
        spent = (await overrides.health(session, core.now()))["gemini"].cost_usd
    assert once > 0
    limit = str(round(spent + once * Decimal("1.5"), 6))
    wrong = await boss.post("/admin/models/budgets", **{"ai.budget.day.gemini": "much", "ai.budget.month.all": "9"})
    assert wrong.status == 400 and 'value="much"' in wrong.text and "Enter US dollars" in said(wrong)
    assert not {key for key in await chosen(site) if key.startswith("ai.budget.")}
    assert (await boss.post("/admin/models/budgets", **{"ai.budget.day.gemini": limit})).status == 303
    assert (await ask(core, shop))["provider"] == "gemini" and core.budgets.out == frozenset()
    assert (await ask(core, shop))["provider"] == "gemini"

    async def used_up() -> bool:
        return core.unasked == {"gemini"} and any(kind == "budget_out" for kind, _ in await notices())

    await until(used_up)
    assert (await ask(core, shop))["provider"] == "openai"
    page = said(await boss.get("/admin/models"))
    assert "Budget used up" in page and "used up" in page
    assert "The budget “Gemini, a day” of $" in said(await boss.get("/dashboard"))
    told = await notices()
    await overrides.take_effect(core)
    assert await notices() == told and len(set(told)) == len(told) and len({kind for kind, _ in told}) == 2
    tiny = {"ai.budget.day.gemini": limit, "ai.budget.month.all": "0.000001"}
    await boss.post("/admin/models/budgets", **tiny)
    before = len(upstream.requests)
    assert (await ask(core, shop))["provider"] == "extractive" and len(upstream.requests) == before
    await boss.post("/admin/models/budgets", **{"ai.budget.day.gemini": "", "ai.budget.month.all": ""})
    assert (await ask(core, shop))["provider"] == "gemini"
    audit = said(await boss.get("/admin/audit?action=override_changed"))
    assert "Budget: All providers, a month" in audit and "Value: $0.000001" in audit


def form(page: Page, action: str, mark: str = "") -> dict[str, str]:
    """Return what the fields of a form hold, hidden ones too; ``mark``: what stands in the one that is meant."""
    forms = re.findall(rf'<form[^>]*action="{action}".*?</form>', page.text, re.DOTALL)
    [found] = [each for each in forms if mark in each][:1]
    fields = dict(re.findall(r'<input[^>]*name="([^"]+)"[^>]*?value="([^"]*)"', found))
    fields.pop("csrf", None)
    return {**fields, **dict(re.findall(r'<textarea[^>]*name="([^"]+)"[^>]*>([^<]*)</textarea>', found))}


async def test_two_administrators_do_not_undo_each_other(site: Site, boss: Browser) -> None:
    """Who saves an old page changes what they touched and nothing else, and what another chose only after seeing it."""
    other, action = await site.administrator("Sherik"), "/admin/models/budgets"
    old = form(await boss.get("/admin/models"), action)
    gemini, openai = "ai.budget.day.gemini", "ai.budget.month.openai"
    await other.get("/admin/models")
    assert (await other.post(action, **{**old, gemini: "5"})).status == 303
    assert (await boss.post(action, **{**old, openai: "9"})).status == 303
    kept = await chosen(site)
    assert (kept[gemini], kept[openai]) == ("5", "9")
    page = await boss.post(action, **{**old, gemini: "7"})
    assert page.status == 409 and "meanwhile: $5." in said(page)
    again = form(page, action)
    assert (again[gemini], again[openai]) == ("7", "9") and (await chosen(site))[gemini] == "5"
    assert (await boss.post(action, **again)).status == 303
    kept = await chosen(site)
    assert (kept[gemini], kept[openai]) == ("7", "9")
    assert (
        await boss.post(action, **{**form(await boss.get("/admin/models"), action), gemini: "", openai: ""})
    ).status == 303

    action, mine, theirs = "/admin/models/chain", "openai:gpt-6-luna", "gemini:gemini-3.5-flash-lite"
    old = form(await boss.get("/admin/models"), action, 'value="fast"')
    assert (await other.post(action, **{**old, "chain": theirs})).status == 303
    page = await boss.post(action, **{**old, "chain": mine})
    assert page.status == 409 and f"meanwhile: {theirs}." in said(page)
    again = form(page, action, 'value="fast"')
    assert again["chain"] == mine and (await chosen(site))["ai.roles.fast"] == [theirs]
    assert (await boss.post(action, **again)).status == 303 and (await chosen(site))["ai.roles.fast"] == [mine]
    assert (await boss.post(action, role="fast", back="1", seen=old["seen"])).status == 409
    assert (await boss.post(action, role="fast", back="1")).status == 303
    assert not {gemini, openai, "ai.roles.fast"} & set(await chosen(site))


async def test_what_another_process_chose_holds_here_too_and_what_does_not_fit_is_passed_over(site: Site) -> None:
    async with site.core.db.write() as session:
        session.add_all(
            [
                models.Override(key="ai.role", value="strong"),
                models.Override(key="ai.roles.fast", value=["nonsense"]),
                models.Override(key="ai.roles.gone", value=["openai:x"]),
            ]
        )
    site.core.bell.ring(overrides.BELL)

    async def taken() -> bool:
        return site.core.settings.ai.role == "strong"

    await until(taken)
    assert site.core.settings.ai.roles == site.core.configured.ai.roles
    async with site.core.db.write() as session:
        for key in ("ai.role", "ai.roles.fast", "ai.roles.gone"):
            await session.delete(await session.get_one(models.Override, key))
    await overrides.take_effect(site.core)
    assert site.core.settings.ai.role == "fast"


async def test_thirty_days_are_counted_once(site: Site, shop: Shop, boss: Browser) -> None:
    """Days whose sums are made go by them, the others by their calls; owners' own keys cost the installation nothing."""
    today = utcnow().astimezone(TASHKENT).date()
    noon = dt.datetime.combine(today - dt.timedelta(days=3), dt.time(12), TASHKENT)
    facts = {"owner_id": shop.owner.id, "provider": "anthropic", "model_asked": "claude"}

    def total(page: Page) -> list[Decimal]:
        found = re.search(r"Today \$([\d.,]+), in 30 days \$([\d.,]+)", said(page))
        assert found is not None
        return [Decimal(each.replace(",", "")) for each in found.groups()]

    before = total(await boss.get("/admin/models"))
    async with site.core.db.write() as session:
        for days, cost, own in (
            (0, "5", False),
            (3, "7", False),
            (5, "11", False),
            (5, "100", True),
            (40, "1000", False),
        ):
            at = noon + dt.timedelta(days=3 - days)
            at = min(at, utcnow())
            session.add(models.AIUsage(**facts, cost_usd=Decimal(cost), own_key=own, created_at=at))
        day = (today - dt.timedelta(days=3)).isoformat()
        session.add(models.CountedDay(day=day))
        session.add(
            models.DayCosts(
                owner_id=shop.owner.id, day=day, feature="answer", provider="anthropic", model="c", cost_usd=Decimal(7)
            )
        )
    async with site.core.db.read() as session:
        found = (await overrides.health(session, utcnow()))["anthropic"]
    assert (found.cost_usd, found.month_usd, found.calls) == (Decimal(5), Decimal(23), 1)
    page = await boss.get("/admin/models")
    # As people read them, small amounts are rounded.
    for now, then, more in zip(total(page), before, (5, 23), strict=True):
        assert abs(now - then - more) < Decimal("0.02")
    async with site.core.db.write() as session:
        call = {**facts, "provider": "gemini", "cost_usd": Decimal(3000), "created_at": utcnow() - dt.timedelta(days=1)}
        session.add_all(
            (models.AIUsage(**call), models.AIUsage(**{**call, "cost_usd": Decimal(70), "created_at": utcnow()}))
        )
    shown = said(await boss.get("/admin/models"))
    assert re.search(
        r"Gemini Set up Key …\w+ · \d+ calls? today[^$]* today \$7\d\.\d+ · in 30 days \$3,07\d\.", shown
    ), shown


async def test_what_failed_last_stands_at_its_key(site: Site, shop: Shop, boss: Browser, upstream: FakeModels) -> None:
    upstream.fail("bad_parameter", provider="gemini", times=1)
    assert (await ask(site.core, shop))["provider"] == "openai"
    shown = said(await boss.get("/admin/models"))
    assert "1 failed" in shown and "the request was not accepted" in shown


async def test_two_keys_that_are_told_to_rest_at_once_both_rest(postgres_url: str) -> None:
    db = Database(postgres_url, pool_size=5)
    try:
        async with db.write() as session:
            person = await accounts.register_owner(session, email="boss@example.uz", full_name="Boss")

        async def rest(provider: str) -> None:
            async with db.write() as session:
                await overrides.switch_key(session, person, provider, on=False, now=utcnow())

        async def waits() -> bool:
            wish = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            async with db.read() as session:
                return bool(await session.scalar(text(wish)))

        async with db.write() as session:
            await overrides.switch_key(session, person, "gemini", on=False, now=utcnow())
            other = asyncio.create_task(rest("openai"))
            await until(waits)
        await other
        async with db.read() as session:
            assert await session.scalar(select(models.Override.value)) == ["gemini", "openai"]
    finally:
        await db.close()


async def test_a_key_is_checked_now(site: Site, boss: Browser, upstream: FakeModels) -> None:
    """A short real call, also while the key rests: what came of it stands at the provider, in the log, and in the costs."""
    await boss.post("/admin/models/key", provider="openai", on="0")
    before = len(upstream.requests)
    assert (await boss.post("/admin/models/check", provider="openai")).status == 303
    asked = upstream.requests[before:]
    assert [each.key for each in asked] == [KEYS["OPENAI_API_KEY"]]
    assert "Last check: answers," in said(await boss.get("/admin/models"))
    assert (await last_call(site)).feature == "check"
    upstream.fail("key_revoked", provider="openai", times=1)
    assert (await boss.post("/admin/models/check", provider="openai")).status == 303
    page = await boss.get("/admin/models")
    assert "Last check: the key was refused," in said(page)
    assert not [key for key in KEYS.values() if key in page.text]
    assert (await boss.post("/admin/models/check", provider="openai")).status == 303
    assert "Last check: answers," in said(await boss.get("/admin/models"))
    assert (await boss.post("/admin/models/check", provider="openai")).status == 429
    for provider in ("anthropic", "nobody"):
        assert (await boss.post("/admin/models/check", provider=provider)).status == 404
    audit = said(await boss.get("/admin/audit?action=key_checked"))
    assert audit.count("Result: answers") == 2 and "Result: the key was refused" in audit
    assert "Key of a provider OpenAI" in audit and "test-key" not in audit
    await boss.post("/admin/models/key", provider="openai", on="1")


async def test_a_budget_of_a_month_sees_what_other_processes_spend(site: Site, shop: Shop) -> None:
    """As soon as one of a day does; days before today, summed up or not, count as well."""
    found, now = budgets.Budgets(), dt.datetime(2031, 5, 20, 7, tzinfo=dt.UTC)
    facts = {"owner_id": shop.owner.id, "provider": "anthropic", "model_asked": "claude"}

    async def spend(at: dt.datetime, cost: str) -> None:
        async with site.core.db.write() as session:
            session.add(models.AIUsage(**facts, cost_usd=Decimal(cost), created_at=at))

    async def out(at: dt.datetime) -> frozenset[str]:
        await found.look(site.core, {"ai.budget.month.anthropic": "10"}, at)
        return found.out

    async with site.core.db.write() as session:
        session.add(models.CountedDay(day="2031-05-02"))
        summed = {"owner_id": shop.owner.id, "feature": "answer", "provider": "anthropic", "model": "c"}
        session.add(models.DayCosts(**summed, day="2031-05-02", cost_usd=Decimal(3)))
    await spend(now - dt.timedelta(days=1), "3")
    await spend(now - dt.timedelta(days=30), "100")
    assert not await out(now)
    await spend(now, "4")
    assert await out(now + dt.timedelta(seconds=30)) == {"anthropic"}
    assert not await out(dt.datetime(2031, 6, 1, 7, tzinfo=dt.UTC))
