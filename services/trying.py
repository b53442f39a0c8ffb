"""The owner's test chat beside the settings: words that are not saved yet are tried at once.

An answer is made as for a customer, but belongs to no talk: nothing that is said is stored, nothing goes to a network, no
question comes to the list of open ones. Only what the models cost is accounted for.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from db import models
from db.base import utcnow
from services import answers, languages, lines, manner
from services.conversations.rules import asks_for_person
from services.errors import Invalid
from services.i18n import LANGUAGE_NAMES, T, translate
from services.text import clean

if TYPE_CHECKING:
    from services.ai.router import CallRecord
    from services.conversations.records import BotCard
    from services.core import Core

FEATURE = "try"
"""What the calls of a try are accounted as."""
TURNS = 10
_TURN_CHARS = 2000
_COMMAND = re.compile(r"/(start|help|language|operator)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Tried:
    """An answer and what it was made of. ``usage``: as the API shows it; ``took_ms``: from the question to the whole answer."""

    text: str
    language: str
    answered: bool
    provider: str
    model: str | None
    sources: list[dict[str, Any]]
    usage: Mapping[str, Any]
    took_ms: int
    files: Sequence[str] = ()


def turns_of(given: Any) -> list[list[str]]:
    """Return what a browser says was said before, as the model gets it; what is malformed is left out."""
    if not isinstance(given, list):
        return []
    return [
        [turn[0], clean(turn[1], _TURN_CHARS)]
        for turn in given[-TURNS:]
        if isinstance(turn, list) and len(turn) == 2 and turn[0] in ("user", "assistant") and isinstance(turn[1], str)
    ]


async def answer(
    core: Core,
    bot: models.Bot,
    words: Mapping[str, Any],
    question: str,
    recent: Sequence[Sequence[str]],
    *,
    before: str = "",
    speaks: str = "",
    on_event: Callable[[str, Any], None],
) -> Tried:
    """Answer a question with ``words`` (as :func:`services.bots.draft_of` returns them) in the place of the published ones.

    ``before``: the language of the answer before; ``speaks``: that of the person who tries. ``on_event``: as for
    :func:`services.chat.ask`. No session may be open. Raises ``Invalid`` for an unusable question, ``Conflict`` where the
    bot's owner has no plan any more.
    """
    begun = time.monotonic()
    limit = core.settings.limits.message_chars
    question = clean(question).strip()
    if not question:
        raise Invalid(T("Write a message first."), field="text")
    if len(question) > limit:
        raise Invalid(T("A message may have at most {n} characters.", n=limit), field="text")
    async with core.db.read() as session:
        await core.allowances.ensure(session, bot)
        allowed = (await core.allowances.terms_of(session, bot.owner_id)).languages(words["languages"])
    card = replace(
        answers.card_of(bot),
        name=words["name"],
        system_prompt=words["system_prompt"],
        languages=allowed,
        settings={**(bot.settings or {}), "lines": words["lines"]},
    )
    detected = languages.detect(question).language
    spoken = [code for code in LANGUAGE_NAMES if code.split("-")[0] in allowed]
    language = next((code for code in (detected, before, speaks) if code in spoken), None) or (
        allowed[0] if allowed[0] in spoken else spoken[0]
    )
    if fixed := _fixed(card, question, language):
        return Tried(fixed, language, True, "", None, [], {}, _ms(begun))
    calls: list[CallRecord] = []
    try:
        made = await answers.answer(
            core,
            card,
            question,
            language,
            recent,
            detected=detected,
            on_delta=lambda text: on_event("delta", {"text": text}),
            on_restart=lambda: on_event("restart", {}),
            calls=calls,
            fits=lambda file: True,
        )
    finally:
        await asyncio.shield(_keep_usage(core, card, calls))
    return Tried(
        made.text,
        made.language,
        made.answered,
        made.provider,
        made.model,
        answers.sources_json(made.sources),
        made.usage(),
        _ms(begun),
        [file.name for file in made.files],
    )


def _ms(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)


async def _keep_usage(core: Core, card: BotCard, calls: Sequence[CallRecord]) -> None:
    if calls:
        async with core.db.write() as session:
            answers.add_usage(session, card, calls, FEATURE)


def _fixed(card: BotCard, text: str, language: str) -> str:
    """Return what the bot says word for word to a command, or to whoever wants a person; empty for a question."""
    found = _COMMAND.match(text)
    command = found[1].lower() if found else "operator" if asks_for_person(text) else ""
    if command == "start":
        return lines.said(card.settings, "greeting", language, name=card.name)
    if command == "help":
        return translate(
            language,
            "Write your question and I will answer at once. /language – choose the language, "
            "/operator – talk to a person.",
        )
    if command == "language":
        return translate(language, "Choose the language 👇") if len(card.languages) > 1 else ""
    if command != "operator":
        return ""
    called = lines.said(card.settings, "handed_over", language)
    moment = utcnow()
    opening = manner.manner_of(card.settings).next_opening(moment)
    if opening is None:
        return called
    opens = manner.when(opening, moment).render(language)
    return f"{called}\n\n{lines.said(card.settings, 'closed_hours', language, when=opens)}"
