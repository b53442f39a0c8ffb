"""A bot's own test questions: asked again after a change, judged, and compared with the time before.

Each question goes the way of a customer's, through :mod:`services.answers`, but belongs to no talk: nothing is stored in
conversations or put on the list of open questions. A run is a job; each answer is kept as it comes, so a run that is cut off
goes on with the questions that are left.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from services import answers, jobs, languages, questions, testers
from services.ai.router import CallRecord
from services.allowances import Allowances
from services.errors import Conflict, Invalid, NotFound
from services.i18n import T
from services.knowledge.analysis import analyze_passage, analyze_question, fold, grams_of, question_key
from services.text import clean

if TYPE_CHECKING:
    from services.conversations.records import BotCard
    from services.core import Core

log = structlog.get_logger(__name__)

RUN_JOB = "test_questions"
FEATURE = "test"
"""What the calls of a run are accounted as."""
MOST = 100
RUNS_KEPT = 20
QUESTION_CHARS = 1000
EXPECTED_CHARS = 500
IMPORTED_AT_ONCE = 20
_ANSWER_CHARS = 4000
_ALIKE = 0.6
_LEAST_LETTERS = 4
_WORDS = re.compile(r"[ \t\n]+")
_ONE_NUMBER = re.compile(r"(?<=\d) (?=\d|(?:ming|минг|тыс|mln|млн|million|миллион)\w*)")
_LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class Compared:
    """A question of a run beside the same question of the run before.

    ``change``: ``better``, ``worse``, ``changed`` (another answer, judged the same), ``same``, ``new`` (there is nothing to
    compare), ``waiting``.
    """

    id: str
    now: Mapping[str, Any]
    before: Mapping[str, Any] | None
    change: str


@dataclass(frozen=True, slots=True)
class Report:
    """A run and how it compares with the one before; ``asked`` of ``total`` are answered, ``good`` of them as expected."""

    run: models.TestRun
    before: models.TestRun | None
    rows: tuple[Compared, ...]
    asked: int
    total: int
    good: int

    def count(self, change: str) -> int:
        """Return how many questions changed so."""
        return sum(row.change == change for row in self.rows)


# The questions


async def list_for(session: AsyncSession, bot: models.Bot) -> list[models.TestQuestion]:
    """Return a bot's test questions, the oldest first."""
    row = models.TestQuestion
    return list(await session.scalars(select(row).where(row.bot_id == bot.id).order_by(row.id)))


async def get(session: AsyncSession, bot: models.Bot, question_id: str) -> models.TestQuestion:
    """Return one test question of this bot; raises ``NotFound``."""
    row = await session.get(models.TestQuestion, question_id)
    if row is None or row.bot_id != bot.id:
        raise NotFound()
    return row


def _written(question: str, expected: str) -> tuple[str, str]:
    question, expected = clean(question, QUESTION_CHARS).strip(), clean(expected, EXPECTED_CHARS).strip()
    if not question:
        raise Invalid(T("Write the question."), field="question")
    return question, expected


async def _hold(session: AsyncSession, bot: models.Bot) -> None:
    """Wait for who else changes this bot's test questions or runs."""
    await session.execute(select(models.Bot.id).where(models.Bot.id == bot.id).with_for_update(key_share=True))


async def add(session: AsyncSession, bot: models.Bot, question: str, expected: str) -> models.TestQuestion:
    """Add a test question; the same question again gets the new expectation.

    Raises ``Invalid`` for an empty question, ``Conflict`` where the bot has as many as it may.
    """
    question, expected = _written(question, expected)
    await _hold(session, bot)
    known = await list_for(session, bot)
    for row in known:
        if question_key(row.question) == question_key(question):
            row.question, row.expected = question, expected
            return row
    if len(known) >= MOST:
        raise Conflict(T("A bot may have at most {n} test questions. Delete some first.", n=MOST), code="limit")
    row = models.TestQuestion(bot_id=bot.id, question=question, expected=expected)
    session.add(row)
    await session.flush()
    return row


async def change(session: AsyncSession, row: models.TestQuestion, question: str, expected: str) -> None:
    """Correct a test question. Raises ``Invalid``."""
    row.question, row.expected = _written(question, expected)
    session.add(row)
    await session.flush()


async def delete(session: AsyncSession, row: models.TestQuestion) -> None:
    """Delete a test question; the runs that asked it keep what was answered."""
    await session.delete(row)
    await session.flush()


async def asked_by_customers(session: AsyncSession, bot: models.Bot) -> list[str]:
    """Return what customers asked lately and got an answer to, the latest first, each question once."""
    message, talk, contact = models.Message, models.Conversation, models.Contact
    reply = models.Message.__table__.alias("reply")
    found = await session.scalars(
        select(message.text)
        .join(talk, talk.id == message.conversation_id)
        .join(contact, contact.id == talk.contact_id)
        .join(reply, reply.c.reply_to == message.id)
        .where(
            talk.bot_id == bot.id,
            contact.external_id != testers.contact_of(bot.owner_id),
            message.author == "customer",
            message.text != "",
            reply.c.conversation_id == message.conversation_id,
            reply.c.author == "bot",
            reply.c.answered.is_(True),
            reply.c.sources.is_not(None),
        )
        .order_by(message.id.desc())
        .limit(_LOOKED_AT)
    )
    # Longer ones tell of one person's matter, and may hold what only that person should be asked about.
    fitting = [text for text in found if len(text) <= 200 and len(analyze_question(text).words) > 0]
    return list({question_key(text): text for text in fitting}.values())


async def bring_in(session: AsyncSession, bot: models.Bot, asked: Sequence[str]) -> int:
    """Add questions that the bot has not, as far as there is room, at most twenty at once; return how many."""
    await _hold(session, bot)
    known = {question_key(row.question) for row in await list_for(session, bot)}
    room = min(MOST - len(known), IMPORTED_AT_ONCE)
    added = 0
    for question in asked:
        text = clean(question, QUESTION_CHARS).strip()
        if added >= room:
            break
        if text and question_key(text) not in known:
            known.add(question_key(text))
            session.add(models.TestQuestion(bot_id=bot.id, question=text))
            added += 1
    await session.flush()
    return added


async def open_questions(core: Core, bot: models.Bot) -> list[str]:
    """Return a bot's open questions to bring in, one of each group, the most asked first."""
    return [group.question for group in await questions.open_groups(core, bot)]


# Runs


def prompt_hash(bot: models.Bot) -> str:
    """Return what differs when a bot's name, instructions or languages do: they are all that a run depends on but knowledge."""
    told = "\0".join((bot.name, bot.system_prompt, ",".join(bot.languages)))
    return hashlib.sha256(told.encode()).hexdigest()


def outdated(run: models.TestRun | None, bot: models.Bot) -> bool:
    """Whether the bot was changed since a run: what it knows, or how it is told to answer."""
    return run is not None and (run.knowledge_version, run.prompt_hash) != (bot.knowledge_version, prompt_hash(bot))


async def runs(session: AsyncSession, bot: models.Bot) -> list[models.TestRun]:
    """Return a bot's runs, the latest first."""
    row = models.TestRun
    found = select(row).where(row.bot_id == bot.id).order_by(row.id.desc()).limit(RUNS_KEPT)
    return list(await session.scalars(found))


async def start(session: AsyncSession, bot: models.Bot, plan: Allowances | None = None) -> models.TestRun:
    """Begin a run with the questions as they are now. ``plan``: without any there is none.

    The answers do not count as messages of the month. Raises ``Invalid`` without questions, ``Conflict`` while one runs.
    """
    if plan is not None:
        await plan.ensure(session, bot)
    await _hold(session, bot)
    asked = await list_for(session, bot)
    if not asked:
        raise Invalid(T("Add a test question first."), code="empty")
    before = await runs(session, bot)
    if any(run.status in ("queued", "running") for run in before):
        raise Conflict(T("The test questions are being asked right now. Wait until they are answered."), code="running")
    run = models.TestRun(
        bot_id=bot.id,
        status="queued",
        prompt_hash=prompt_hash(bot),
        knowledge_version=bot.knowledge_version,
        results={row.id: {"question": row.question, "expected": row.expected, "state": "waiting"} for row in asked},
    )
    session.add(run)
    await session.flush()
    gone = [old.id for old in before[RUNS_KEPT - 1 :]]
    await session.execute(sql_delete(models.TestRun).where(models.TestRun.id.in_(gone)))
    await jobs.add(session, RUN_JOB, {"run": run.id}, lane=f"tests:{bot.id}", owner_id=bot.owner_id, bot_id=bot.id)
    return run


async def run_questions(core: Core, payload: Mapping[str, Any]) -> None:
    """Ask the questions of a run that were not asked yet. Runs as a job; may be cut off and run again at any point."""
    run_id = str(payload["run"])
    async with core.db.write() as session:
        await jobs.still_ours(session)
        found = await _load(session, run_id)
        if found is None or found[0].status in ("done", "failed"):
            return
        run, bot = found
        waiting = [key for key, result in run.results.items() if result["state"] == "waiting"]
        if run.status == "queued":
            run.status = "running"
            # Of what the answers are, should the bot have changed while the run waited for its turn.
            run.prompt_hash, run.knowledge_version = prompt_hash(bot), bot.knowledge_version
    _tell(core, bot.id)
    for key in waiting:
        async with core.db.read() as session:
            found = await _load(session, run_id)
        if found is None:
            return
        run, bot = found
        result, calls = await _ask(core, bot, run.results[key])
        await core.pause("test_asked")
        async with core.db.write() as session:
            await jobs.still_ours(session)
            current = await session.get(models.TestRun, run_id, with_for_update=True)
            if current is None:
                return
            current.results = {**current.results, key: result}
            answers.add_usage(session, answers.card_of(bot), calls, FEATURE)
        _tell(core, bot.id)
    async with core.db.write() as session:
        await jobs.still_ours(session)
        current = await session.get(models.TestRun, run_id, with_for_update=True)
        if current is not None:
            current.status, current.finished_at = "done", utcnow()
    _tell(core, bot.id)
    log.info("test_questions_asked", bot=bot.id, questions=len(waiting))


async def _load(session: AsyncSession, run_id: str) -> tuple[models.TestRun, models.Bot] | None:
    row = (
        await session.execute(
            select(models.TestRun, models.Bot)
            .join(models.Bot, models.Bot.id == models.TestRun.bot_id)
            .where(models.TestRun.id == run_id, models.Bot.deleted_at.is_(None))
        )
    ).one_or_none()
    return (row[0], row[1]) if row is not None else None


def _tell(core: Core, bot_id: str) -> None:
    core.bell.ring(f"bot:{bot_id}", {"tests": True})


async def _ask(core: Core, bot: models.Bot, asked: Mapping[str, Any]) -> tuple[dict[str, Any], list[CallRecord]]:
    """Ask one question as a customer would; what the calls cost is kept whatever becomes of it."""
    card = answers.card_of(bot)
    question = str(asked["question"])
    detected = languages.detect(question).language
    async with core.db.read() as session:
        allowed = await core.allowances.languages(session, bot)
    spoken = [code for code in ("uz", "uz-Cyrl", "ru", "en") if code.split("-")[0] in allowed]
    language = detected if detected in spoken else allowed[0]
    over_limit = not await core.spending.allowed(core, card)
    calls: list[CallRecord] = []
    try:
        made = await answers.answer(core, card, question, language, [], detected=detected, calls=calls)
    except BaseException:
        await asyncio.shield(_keep_usage(core, card, calls))
        raise
    text = made.text[:_ANSWER_CHARS]
    lacking = missing(str(asked["expected"]), text)
    refused = [call.outcome for call in calls if call.kind != "embed" and call.outcome != "ok"]
    note = ""
    if made.provider == "extractive" and (refused or over_limit):
        # What customers would get at this moment, but no judgement of the prompt.
        note = "over_limit" if over_limit and not refused else "model_away"
    return {
        "question": question,
        "expected": asked["expected"],
        "state": "good" if made.answered and not lacking else "bad",
        "answered": made.answered,
        "text": text,
        "missing": lacking,
        "language": made.language,
        "provider": made.provider,
        "model": made.model,
        "note": note,
        "sources": [{"name": source.document_name, "text": source.text[:300]} for source in made.sources[:3]],
    }, calls


async def _keep_usage(core: Core, card: BotCard, calls: Sequence[CallRecord]) -> None:
    if calls:
        async with core.db.write() as session:
            answers.add_usage(session, card, calls, FEATURE)


async def abandon(core: Core, payload: Mapping[str, Any]) -> None:
    """A run was given up after several attempts: it has failed, with the answers that it got."""
    async with core.db.write() as session:
        run = await session.get(models.TestRun, str(payload["run"]), with_for_update=True)
        if run is None or run.status == "done":
            return
        run.status, run.finished_at = "failed", utcnow()
    _tell(core, run.bot_id)


# Judging


def missing(expected: str, text: str) -> list[str]:
    """Return the words of ``expected`` that an answer does not say, in either script and in any form of the word."""
    said = set(analyze_passage(text).stems)
    grams = {stem: set(grams_of(stem)) for stem in said if not any(map(str.isdigit, stem))}
    plain = {fold(word) for word in text.split()}
    lacking = []
    # Word by word, so that what is missing is shown as it was written; "290 000" and "290 ming" are one.
    for word in _WORDS.split(_ONE_NUMBER.sub("\u00a0", expected.strip())):
        first, *more = [word.stems[0] for word in analyze_question(word).words] or [""]
        known = fold(word) in plain or not fold(word) or (first and _is_said(first, said, grams))
        if not known and not (more and all(stem in said for stem in more)):
            lacking.append(word.replace("\u00a0", " "))
    return lacking


def _is_said(stem: str, said: set[str], grams: Mapping[str, set[str]]) -> bool:
    if stem in said:
        return True
    if any(map(str.isdigit, stem)) or len(stem) < _LEAST_LETTERS:
        return False
    own = set(grams_of(stem))
    return any(2 * len(own & others) / (len(own) + len(others)) >= _ALIKE for others in grams.values())


def report(run: models.TestRun, before: models.TestRun | None) -> Report:
    """Return a run beside the one before: what became worse first, then what became better, then the rest."""
    old = before.results if before is not None else {}
    rows = [Compared(key, now, old.get(key), _change(now, old.get(key))) for key, now in run.results.items()]
    order = ("worse", "better", "changed", "new", "same", "waiting")
    rows.sort(key=lambda row: (order.index(row.change), row.now["state"] == "good", row.id))
    done = [row for row in rows if row.now["state"] != "waiting"]
    good = sum(row.now["state"] == "good" for row in done)
    return Report(run, before, tuple(rows), len(done), len(rows), good)


def _change(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    if now["state"] == "waiting":
        return "waiting"
    if before is None or before["state"] == "waiting" or _asked(now) != _asked(before):
        return "new"
    if _worth(now) != _worth(before):
        return "better" if _worth(now) > _worth(before) else "worse"
    # Of "I don't know" the closest passages say nothing.
    same = now["text"] == before["text"] and (not now["answered"] or now["sources"] == before["sources"])
    return "same" if same else "changed"


def _asked(result: Mapping[str, Any]) -> tuple[str, str]:
    return str(result["question"]), str(result["expected"])


def _worth(result: Mapping[str, Any]) -> tuple[bool, bool, int]:
    return result["state"] == "good", bool(result["answered"]), -len(result["missing"])


async def compared(
    session: AsyncSession, bot: models.Bot, run_id: str = ""
) -> tuple[Report | None, list[models.TestRun]]:
    """Return a run of a bot (the latest where none is named) beside the finished one before it, and all its runs.

    Raises ``NotFound`` for a run that the bot has not.
    """
    known = await runs(session, bot)
    if not known:
        if run_id:
            raise NotFound()
        return None, []
    place = next((i for i, run in enumerate(known) if run.id == run_id), None) if run_id else 0
    if place is None:
        raise NotFound()
    before = next((run for run in known[place + 1 :] if run.status == "done"), None)
    return report(known[place], before), known


async def count_for(session: AsyncSession, bot: models.Bot) -> int:
    """Return how many test questions a bot has."""
    row = models.TestQuestion
    return int(await session.scalar(select(func.count()).where(row.bot_id == bot.id)) or 0)
