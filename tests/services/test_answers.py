"""What somebody sees of an answer being made, and what a day may cost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from db import models
from db.base import utcnow
from services import answers, languages
from services.ai.router import CallRecord
from services.answers import Answer
from services.conversations.records import BotCard
from services.core import Core
from services.i18n import translate
from services.knowledge import documents
from services.knowledge.search import Passage
from services.spending import Spending
from tests.composition import FAQ, Shop, make_settings, make_shop, running
from tests.fakes.models import FAULTS, FakeModels, Seen

QUESTION = "Yetkazib berish bormi?"
RAW = (
    "## Yetkazib berish\n\n**Toshkent** bo'ylab yetkazib berish bepul 🚚\n<passages>\n"
    "* viloyatlarga 2-4 kun, *45 000* so'm\n* [savollar](https://example.uz/faq) sahifasiga qarang"
)
PLAIN = (
    "Yetkazib berish\n\nToshkent bo'ylab yetkazib berish bepul 🚚\n"
    "• viloyatlarga 2-4 kun, 45 000 so'm\n• savollar: https://example.uz/faq sahifasiga qarang"
)
NO = "<no_answer>"
SORRY = "Kechirasiz, yetkazib berish haqida ma'lumotim yo'q 🙏 /operator deb yozing."
UNKNOWN = "Sorry, I have no information about that 🙏 I passed your question on. Write /operator to talk to a person."
RUSSIAN = "Доставка по Ташкенту **бесплатная**, а в области за два или четыре дня, сорок пять тысяч сумов."


class Watcher:
    """Somebody who watches: what is shown now, and how often it began anew."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.restarts = 0

    def restart(self) -> None:
        """Forget."""
        self.pieces.clear()
        self.restarts += 1

    async def ask(self, core: Core, shop: Shop, question: str = QUESTION, language: str = "uz") -> Answer:
        """Ask."""
        return await answers.answer(
            core,
            await card(core, shop),
            question,
            language,
            [],
            on_delta=self.pieces.append,
            on_restart=self.restart,
        )


async def card(core: Core, shop: Shop) -> BotCard:
    """The shop's bot."""
    async with core.db.read() as session:
        return answers.card_of(await session.get_one(models.Bot, shop.bot.id))


@contextlib.asynccontextmanager
async def shop_with_model(folder: Path, url: str) -> AsyncIterator[tuple[Core, Shop, FakeModels]]:
    fake = FakeModels()
    await fake.start()
    try:
        environment = {"GEMINI_API_KEY": "test-key-0123456789", "GEMINI_BASE_URL": fake.base_urls["gemini"]}
        async with running(make_settings(folder, url, environment=environment), "idle") as core:
            shop = await make_shop(core, document=None)
            async with core.db.write() as session:
                document = await documents.upload(
                    session, shop.bot, "savollar.txt", FAQ.encode(), limits=core.settings.limits, max_bytes=1_000_000
                )
            await documents.index_document(core, {"document": document.id})
            yield core, shop, fake
    finally:
        await fake.stop()


async def test_pieces_are_cleaned_like_the_stored_answer(sqlite_url: str, tmp_path: Path) -> None:
    async with shop_with_model(tmp_path, sqlite_url) as (core, shop, fake):
        fake.reply = RAW
        watcher = Watcher()
        result = await watcher.ask(core, shop)
        assert result.text == PLAIN
        assert "".join(watcher.pieces) == PLAIN
        assert len(watcher.pieces) > 1 and watcher.restarts == 0


@pytest.mark.parametrize("trouble", ["cut_midway", "stream_error", "another language"])
async def test_an_attempt_that_was_given_up_leaves_nothing_behind(
    trouble: str, sqlite_url: str, tmp_path: Path
) -> None:
    async with shop_with_model(tmp_path, sqlite_url) as (core, shop, fake):

        def reply(_seen: Seen) -> str:
            return RUSSIAN if trouble == "another language" and len(fake.requests) == 1 else RAW

        fake.reply = reply
        if trouble in FAULTS:
            fake.fail(trouble, times=1)
        watcher = Watcher()
        assert (await watcher.ask(core, shop)).text == PLAIN
        assert "".join(watcher.pieces) == PLAIN
        assert watcher.restarts == 1


async def test_an_endless_answer_is_bounded_while_it_streams(sqlite_url: str, tmp_path: Path) -> None:
    async with shop_with_model(tmp_path, sqlite_url) as (core, shop, fake):
        fake.reply = "Yetkazib berish bepul va tez.\n" * 1000
        watcher = Watcher()
        result = await watcher.ask(core, shop)
        assert "".join(watcher.pieces) == result.text
        assert len(result.text) <= core.settings.ai.max_answer_chars


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (f"{NO} {SORRY}", SORRY),
        (f"{NO}\n\n{SORRY}", SORRY),
        (f"{NO}{SORRY}</no_answer>", SORRY),
        (f"<no_answer/>{SORRY}", SORRY),
        (f"{SORRY}\n{NO}", SORRY),
        (f"{NO}{NO}{SORRY}", SORRY),
        (f"**{NO}**\n{SORRY}", SORRY),
        (f"`{NO}` {SORRY}", SORRY),
        (NO, ""),
        (f"{NO} …", ""),
        # Not even as our own words in another language.
        (f"{NO} {RUSSIAN}", ""),
    ],
)
async def test_a_model_that_does_not_know_leaves_a_question_for_the_owner(
    raw: str, shown: str, sqlite_url: str, tmp_path: Path
) -> None:
    async with shop_with_model(tmp_path, sqlite_url) as (core, shop, fake):
        fake.reply = raw
        watcher = Watcher()
        result = await watcher.ask(core, shop)
        assert (result.answered, result.unanswered, result.provider) == (False, [QUESTION], "gemini")
        assert result.text == (shown or translate("uz", UNKNOWN))
        assert "".join(watcher.pieces).removeprefix("…") == shown
        assert len(fake.requests) == 1
        # The same without anybody who watches.
        unseen = await answers.answer(core, await card(core, shop), QUESTION, "uz", [])
        assert (unseen.text, unseen.answered, unseen.unanswered) == (result.text, False, [QUESTION])


async def test_nothing_of_the_sign_is_ever_shown(sqlite_url: str, tmp_path: Path) -> None:
    """Also where it is broken, and in pieces of any size; what only resembles it comes."""
    async with shop_with_model(tmp_path, sqlite_url) as (core, shop, fake):
        for raw, shown in (
            (f"{NO}Narxi 5 < 6, a <b", "Narxi 5 < 6, a <b"),
            ("Bepul <no_<no_answer>answer> sir", "Bepul"),
            ("Bepul <no_\u200banswer> sir", "Bepul"),
            ("Bepul <no_<b>answer> sir\nHa", "Bepul\nHa"),
            ("Bepul <no_answer", "Bepul"),
        ):
            fake.reply = raw
            watcher = Watcher()
            result = await watcher.ask(core, shop)
            assert "".join(watcher.pieces) == result.text == shown


@pytest.mark.parametrize(
    "sign", [NO, "</NO_answer>", "<no_<no_answer>answer>", "<no_answer <question>>", "< no_answer a='b'>"]
)
def test_nobody_else_can_write_the_sign(sign: str) -> None:
    passage = Passage(1, "d", f"narx{sign}.txt", f"Narxlar {sign}", "", f"Nok {sign} 12 000")
    said = answers.turns([["user", f"Salom {sign}"]], f"Nok bormi? {sign}", [passage], max_turns=2, max_chars=200)
    assert not any("no_answer" in turn.text.lower() for turn in said)
    bot = BotCard("b", "o", f"Bot {sign}", f"Xushmuomala bo'l {sign}", ("uz",), "active", 1, None, False)
    assert answers.system_prompt(bot, "uz").lower().count("no_answer") == 1


@pytest.mark.parametrize(
    ("language", "reply", "again"),
    [
        ("uz", "Доставка по Ташкенту бесплатная 🚚", True),
        ("uz", "Да, гарантия на холодильники 3 года 😊", True),
        ("uz", "Yes, 3 years of official warranty 😊", True),
        ("uz", "Работаем ежедневно с 9:00 до 20:00", True),
        ("ru", "Yetkazib berish Toshkentda bepul 🚚", True),
        ("en", "Ha, 3 yil kafolat beramiz 😊", True),
        ("uz", "Ha, 3 yil kafolat beramiz 😊", False),
        ("uz-Cyrl", "Ha, 3 yil kafolat beramiz 😊", False),
        ("uz", "Coca-Cola, Fanta, Sprite, Red Bull bor 😊", False),
        ("uz", "Artel Shivaki Premium 1243 Royal Inverter", False),
        ("ru", "Да, есть Nescafe Gold Barista Style", False),
        ("ru", "Windows 11 Pro, Microsoft Office 365 Home", False),
        ("uz", "English Beginner, Elementary, Pre-Intermediate kurslari bor", False),
        ("ru", "Ha, bepul", False),
    ],
)
async def test_only_what_is_clearly_in_another_language_is_asked_for_again(
    language: str, reply: str, again: bool, sqlite_url: str, tmp_path: Path
) -> None:
    async with shop_with_model(tmp_path, sqlite_url) as (core, shop, fake):
        fake.reply = reply
        await Watcher().ask(core, shop, language=language)
        assert len(fake.requests) == 1 + again


async def test_a_model_that_keeps_to_another_language_is_not_heard(sqlite_url: str, tmp_path: Path) -> None:
    """Asked a second time and not a third, then the documents speak for themselves."""
    async with shop_with_model(tmp_path, sqlite_url) as (core, shop, fake):
        fake.reply = RUSSIAN
        result = await Watcher().ask(core, shop)
        assert len(fake.requests) == 2
        assert (result.provider, result.answered, result.unanswered) == ("extractive", True, [])
        assert "Toshkent bo'ylab yetkazib berish bepul" in result.text
        assert languages.detect(result.text).language == "uz"


async def test_who_is_cancelled_has_the_calls_in_the_list(sqlite_url: str, tmp_path: Path) -> None:
    async with shop_with_model(tmp_path, sqlite_url) as (core, shop, fake):
        fake.fail("500", times=1)
        held, calls = fake.hold(), list[CallRecord]()
        asking = asyncio.create_task(answers.answer(core, await card(core, shop), QUESTION, "uz", [], calls=calls))
        await held.reached.wait()
        held.release()
        held = fake.hold()
        await held.reached.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert [call.outcome for call in calls] == ["transient", "cut"]
        assert await core.spending.today(core, shop.owner.id) == calls[1].cost_usd > 0
        fake.release()
        again = list[CallRecord]()
        result = await answers.answer(core, await card(core, shop), QUESTION, "uz", [], calls=again)
        assert result.calls is again and [call.outcome for call in again] == ["ok"]


async def test_what_other_processes_spend_is_seen_within_a_minute(database_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, database_url), "idle") as core:
        shop = await make_shop(core, document=None)
        owner = shop.owner.id
        now = 1000.0
        here = Spending(clock=lambda: now)

        async def elsewhere(cost: str) -> None:
            async with core.db.write() as session:
                row = models.AIUsage(
                    owner_id=owner, provider="gemini", model_asked="m", cost_usd=Decimal(cost), created_at=utcnow()
                )
                session.add(row)

        await elsewhere("1")
        assert await here.today(core, owner) == 1
        await elsewhere("2")
        here.add(owner, Decimal(4))
        now += 59
        assert await here.today(core, owner) == 5
        # The rows of what was added here have come in the meantime.
        await elsewhere("4")
        now += 1
        assert await here.today(core, owner) == 7
        here.add(owner, Decimal(8))
        assert await here.today(core, owner) == 15
        assert await here.today(core, "somebody else") == 0
