"""The demo chat of the first page: a bot of the installation itself that answers from the product's own description.

Its knowledge is ``templates/demo``, a text in each language, and the prices of the plans; it is made in memory and answered by
the same code as every bot's. What a visitor asks is stored nowhere; only what model calls cost is, like everybody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from db import models
from services import answers, languages, money, plans
from services.ai.router import CallRecord
from services.channel_names import channel_name
from services.conversations.records import BotCard
from services.errors import Invalid, TooMany
from services.i18n import CATALOGS, DEFAULT_LANGUAGE, LANGUAGES, T, Text, translate
from services.knowledge.analysis import analyze_passage
from services.knowledge.base import Block
from services.knowledge.cutting import cut
from services.knowledge.search import Passage
from services.knowledge.txt import READER
from services.settings import Settings
from services.spending import NOBODY
from services.text import clean

if TYPE_CHECKING:
    from services.core import Core

BRAND = "BotFactory"
TEXT_CHARS = 300
QUESTIONS: Sequence[Text] = (
    T("How much does it cost?"),
    T("Where does the bot work?"),
    T("Does the bot make answers up?"),
)
"""What the page offers to ask."""
_FOLDER = Path(__file__).resolve().parent.parent / "templates" / "demo"
_AN_HOUR = 20
_making = asyncio.Lock()


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the demo chat; ``answered``: the description holds it."""

    text: str
    language: str
    answered: bool


def _prices(settings: Settings, language: str) -> list[Block]:
    """Return what the plans cost, as a document would say it."""
    heading = translate(language, "How much does it cost? Prices of the plans")
    found = []
    for key, facts in plans.for_sale(settings).items():
        places = ", ".join(channel_name(kind, language) for kind in facts.channels)
        price = money.text(plans.price_tiyin(settings, key, "monthly"), language)
        text = translate(
            language,
            "Plan “{plan}”: {price} a month, {messages} messages a month, bots: {bots}, channels: {channels}.",
            plan=facts.title.called(language),
            price=price,
            messages=facts.messages,
            bots=facts.bots,
            channels=places,
        )
        found.append(text)
    percent = settings.subscriptions.annual.discount_percent
    if percent:
        found.append(translate(language, "Who pays for a year saves {percent}%.", percent=percent))
    return [Block("\n".join(found), heading=(heading,))] if found else []


def _written(settings: Settings, language: str) -> list[tuple[Passage, str, str]]:
    """Return the passages of the description in a language, each with its stems and grams."""
    blocks = [*_prices(settings, language), *READER.read((_FOLDER / f"{language}.txt").read_bytes())]
    made = []
    for number, passage in enumerate(cut(blocks)):
        terms = analyze_passage(passage.text, passage.heading)
        kept = Passage(number, f"demo-{language}", BRAND, passage.heading, passage.locus, passage.text)
        made.append((kept, " ".join(terms.stems), " ".join(terms.grams)))
    return made


def _card(language: str) -> BotCard:
    return BotCard(
        id=f"demo-{language}",
        owner_id=NOBODY,
        name=BRAND,
        system_prompt=(
            "You answer visitors of the website of BotFactory, who think about using it for their business. Never offer "
            "/operator: say that people answer after registration."
        ),
        languages=tuple(CATALOGS),
        status="active",
        knowledge_version=1,
        openai_key=None,
        deleted=False,
    )


async def ask(core: Core, address: str, text: str, page_language: str) -> Reply:
    """Answer a visitor at an ``address``; raises ``Invalid`` for an unusable text and ``TooMany`` beyond the limits."""
    text = clean(text).strip()
    if not text:
        raise Invalid(T("Write a message first."), field="text")
    if len(text) > TEXT_CHARS:
        raise Invalid(T("A message may have at most {n} characters.", n=TEXT_CHARS), field="text")
    most = core.settings.limits.demo_answers_per_day
    if not await core.limits.hit(f"demo:{address}", _AN_HOUR, 3600) or not await core.limits.hit("demo", most, 86_400):
        raise TooMany(
            T("The demo chat has answered a lot for now. Register, and your own bot answers you."), retry_after_s=3600
        )
    detected = languages.detect(text).language
    language = str(detected) if detected in LANGUAGES else page_language
    written = language.partition("-")[0]
    written = written if written in CATALOGS else DEFAULT_LANGUAGE
    card = _card(written)
    async with _making:
        if not core.search.is_held(card.id):
            core.search.hold(card.id, await asyncio.to_thread(_written, core.settings, written))
    calls: list[CallRecord] = []
    try:
        made = await answers.answer(core, card, text, language, [], detected=detected, calls=calls)
    finally:
        await asyncio.shield(_keep(core, card, calls))
    if not made.answered:
        unknown = translate(
            language,
            "I do not know that. Register for free and ask our people: they answer in the panel and in Telegram.",
        )
        return Reply(unknown, language, False)
    return Reply(made.text, made.language, True)


async def _keep(core: Core, card: BotCard, calls: Sequence[CallRecord]) -> None:
    if not calls:
        return
    async with core.db.write() as session:
        rows = (answers.usage_values(call, card.owner_id, card.id, "", "demo") for call in calls)
        session.add_all(models.AIUsage(**{**row, "bot_id": None}) for row in rows)


def is_on(settings: Settings) -> bool:
    """Whether the first page has the demo chat."""
    return settings.limits.demo_answers_per_day > 0
