"""What notices of model keys say, when they are news, and what putting one away means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from db.engine import Database
from services import accounts, bots, notices
from services.core import Core
from services.letters import rendering
from services.settings import Settings
from tests.composition import Shop, ask, make_settings, make_shop, running
from tests.conveyor.harness import until
from tests.fakes.models import FakeModels

KEY, OWN_KEY = "test-key-0123456789", "sk-CANARY-own-key-0123456789"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeModels]:
    """Fake model providers of the test's own."""
    made = FakeModels()
    await made.start()
    yield made
    await made.stop()


def _settings(folder: Path, url: str, upstream: FakeModels, key: str) -> Settings:
    given = {"OPENAI_API_KEY": key, "OPENAI_BASE_URL": upstream.base_urls["openai"]}
    ai = {"roles": {"fast": ["openai:first"], "balanced": ["openai:first"]}}
    return make_settings(folder, url, environment=given, overrides={"ai": ai})


async def _own_key(core: Core, shop: Shop) -> None:
    async with core.db.write() as session:
        await bots.set_openai_key(session, await bots.get(session, shop.owner, shop.bot.id), OWN_KEY, core.crypto)


async def _said(core: Core) -> dict[str, str]:
    """Return what open notices say in English, by the person who hears of it."""
    async with core.db.read() as session:
        found = await session.scalars(select(models.Notice).where(models.Notice.resolved_at.is_(None)))
        return {notice.user_id: notices.text(notice, "en") for notice in found}


@pytest.mark.parametrize(("fault", "trouble"), [("key_revoked", "does not accept"), ("insufficient_quota", "money")])
@pytest.mark.parametrize("own", [False, True])
async def test_what_is_wrong_with_a_key_is_said_to_whoever_can_mend_it(
    tmp_path: Path, sqlite_url: str, upstream: FakeModels, fault: str, trouble: str, own: bool
) -> None:
    """A refused key and an empty account are two things; an own key is named by its bot. No other model answers here."""
    upstream.fail(fault, key=OWN_KEY if own else None)
    async with running(_settings(tmp_path, sqlite_url, upstream, "" if own else KEY)) as core:
        shop = await make_shop(core)
        if own:
            await _own_key(core, shop)
        assert (await ask(core, shop))["provider"] == "extractive"
        said = await _said(core)
        async with core.db.read() as session:
            people = [shop.owner.id] if own else await accounts.administrators(session)
        assert list(said) == people
        (text,) = said.values()
        assert trouble in text and "OpenAI" in text and "{" not in text
        assert ("“Texno Savdo”" in text) == own
        async with core.db.write() as session:
            await session.execute(update(models.Notice).values(told_at=utcnow()))
            await notices.solve(session, f"key:openai:{shop.bot.id}" if own else "key:openai")
        over = "“Texno Savdo”: the trouble with its own OpenAI key is over." if own else "OpenAI answers again."
        assert list((await _said(core)).values()) == [over]


async def test_an_own_key_needs_attention_until_it_has_answered(
    tmp_path: Path, sqlite_url: str, upstream: FakeModels
) -> None:
    upstream.fail("insufficient_quota", key=OWN_KEY)

    async def in_use() -> bool:
        async with core.db.read() as session:
            return not await notices.own_key_trouble(session, shop.bot)

    async with running(_settings(tmp_path, sqlite_url, upstream, KEY)) as core:
        shop = await make_shop(core)
        await _own_key(core, shop)
        # The installation's own key answers meanwhile.
        assert (await ask(core, shop))["provider"] == "openai"
        assert not await in_use()
    upstream.heal()
    async with running(_settings(tmp_path, sqlite_url, upstream, KEY)) as core:
        assert not await in_use()
        await ask(core, shop)
        # Noted after the answer, which nobody has to wait for.
        await until(in_use)


async def test_another_trouble_with_the_same_key_is_news(database_url: str) -> None:
    db = Database(database_url, pool_size=1)

    async def happens(kind: str) -> list[str]:
        """Return the kinds of what is shown and not told after something has happened."""
        async with db.write() as session:
            await notices.open_notice(session, owner.id, kind, key="key:openai", params={"provider": "OpenAI"})
        async with db.read() as session:
            return [notice.kind for notice in await notices.open_for(session, owner) if notice.told_at is None]

    try:
        async with db.write() as session:
            owner = await accounts.register_owner(session, email="owner@example.uz")
        assert await happens("key_refused") == ["key_refused"]
        async with db.write() as session:
            (notice,) = await notices.open_for(session, owner)
            notice.told_at = utcnow()
            await notices.dismiss(session, owner, notice.id)
        # Put away and not over: the same again, from the next start, is no news. What the new key meets is.
        assert await happens("key_refused") == []
        assert await happens("key_no_money") == ["key_no_money"]
        async with db.read() as session:
            assert len(list(await session.scalars(select(models.Notice)))) == 1
    finally:
        await db.close()


async def test_who_has_no_telegram_is_written_that_the_messages_are_used_up(tmp_path: Path, sqlite_url: str) -> None:
    """By mail, once, with or without a factory bot; where there is no address there is nothing to write to."""
    async with running(
        make_settings(tmp_path, sqlite_url, environment={"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": "9"})
    ) as core:
        async with core.db.write() as session:
            known = models.User(email="egasi@example.uz", full_name="Ega")
            nobody = models.User(full_name="Manzilsiz", telegram_id=5)
            session.add_all([known, nobody])
            await session.flush()
            for user in (known, nobody):
                params = {"plan": "Basic", "n": {"count": 3000}, "used": {"count": 3000}}
                await notices.open_notice(
                    session, user.id, "messages_out", key="messages_out:2026-11:3000", params=params
                )
                await notices.open_notice(session, user.id, "document_failed", key="d", params={"document": "x"})
        for _ in range(2):
            await notices.mail(core)
        async with core.db.read() as session:
            (letter,) = await session.scalars(select(models.Letter))
        assert (letter.user_id, letter.kind, letter.telegram) == (known.id, "messages_out", "none")
        assert letter.params["path"] == "/billing" and letter.mail != "none"
        async with core.db.read() as session:
            told = await notices.open_for(session, known)
        [notice] = [one for one in told if one.kind == "messages_out"]
        for language, number in (
            ("en", "3,000"),
            ("ru", "3\N{NO-BREAK SPACE}000"),
            ("uz-Cyrl", "3\N{NO-BREAK SPACE}000"),
        ):
            assert number in notices.text(notice, language)
            assert rendering.shown(letter.params["n"], language) == number
