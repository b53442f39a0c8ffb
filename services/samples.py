"""A ready-made example: a bot with two sample documents, for whoever wants to see the product before writing anything.

Nothing about it is special to the rest of the program: the files of ``templates/samples`` are taken in like an upload, and the
bot is renamed and deleted like any other. It is known again by the bytes of its documents, whatever it is called by then, until
it is made one's own: with a document of one's own, or connected to Telegram.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import bots
from services.allowances import Allowances
from services.i18n import CATALOGS, DEFAULT_LANGUAGE, T, Text
from services.knowledge import documents
from services.knowledge.base import ANSWERS
from services.settings import Limits

_FOLDER = Path(__file__).resolve().parent.parent / "templates" / "samples"
_NAME = T("Sample shop")


@dataclass(frozen=True, slots=True)
class _Sample:
    """One file in each language, the name it is shown by, and questions that it answers."""

    file: str
    title: Text
    questions: tuple[Text, ...]

    def shown_as(self, language: str) -> str:
        return self.title.render(language) + Path(self.file).suffix


_SAMPLES = (
    _Sample("prices.csv", T("Price list"), (T("How much is a 7 kg washing machine?"),)),
    _Sample(
        "answers.txt",
        T("Questions and answers"),
        (T("Do you deliver to Samarkand?"), T("Are you open on Sunday?")),
    ),
)


def _written_in(language: str) -> str:
    """Return the language of the files for a reader: there is one set for both Uzbek scripts."""
    language = language.partition("-")[0]
    return language if language in CATALOGS else DEFAULT_LANGUAGE


@cache
def _bytes(language: str, file: str) -> bytes:
    return (_FOLDER / language / file).read_bytes()


@cache
def _known() -> dict[str, tuple[str, _Sample]]:
    """Return what each sample file is, by the sum of its bytes."""
    return {
        hashlib.sha256(_bytes(language, sample.file)).hexdigest(): (language, sample)
        for language in CATALOGS
        for sample in _SAMPLES
    }


async def open_example(
    session: AsyncSession,
    owner: models.User,
    language: str,
    *,
    limits: Limits,
    max_bytes: int,
    plan: Allowances | None = None,
) -> models.Bot:
    """Return the person's example in a language; the first request makes it, a second one of the same moment finds it.

    Raises ``Conflict`` with code ``limit`` where there is no room for one more bot.
    """
    # Two presses at once queue up here on PostgreSQL; SQLite has one writer anyway.
    await session.get(models.User, owner.id, with_for_update={"key_share": True})
    bot = await find(session, owner, language)
    if bot is not None:
        return bot
    written = _written_in(language)
    bot = await bots.create(
        session,
        owner,
        _NAME.render(language),
        languages=[written, *(other for other in CATALOGS if other != written)],
        limits=limits,
        plan=plan,
    )
    for sample in _SAMPLES:
        await documents.upload(
            session,
            bot,
            sample.shown_as(language),
            _bytes(written, sample.file),
            limits=limits,
            max_bytes=max_bytes,
            plan=plan,
        )
    return bot


async def find(session: AsyncSession, owner: models.User, language: str) -> models.Bot | None:
    """Return the person's example in a language, if there is one."""
    written = _written_in(language)
    sums = [known for known, (of, _) in _known().items() if of == written]
    return (await session.scalars(_holding(owner, sums))).first()


async def examples(session: AsyncSession, owner: models.User) -> frozenset[str]:
    """Return the ids of those of a person's bots that are examples."""
    return frozenset(bot.id for bot in await session.scalars(_holding(owner, list(_known()))))


def _holding(owner: models.User, sums: Sequence[str]) -> Select[models.Bot]:
    """Choose a person's bots that hold a document with one of these sums and nothing of their own, oldest first."""
    document, channel, bot = models.Document, models.Channel, models.Bot
    # The owner's bots are asked first: they are few, and what belongs to a bot is found by its id.
    kept = select(document.id).where(document.bot_id == bot.id, document.deleted_at.is_(None))
    other = kept.where(document.sha256.not_in(list(_known())), document.kind != ANSWERS)
    telegram = select(channel.id).where(
        channel.bot_id == bot.id, channel.kind == "telegram", channel.external_id.is_not(None)
    )
    return (
        select(bot)
        .where(bot.owner_id == owner.id, bot.deleted_at.is_(None))
        .where(kept.where(document.sha256.in_(sums)).exists(), ~other.exists(), ~telegram.exists())
        .order_by(bot.id)
    )


def questions(files: Sequence[models.Document], language: str) -> list[str]:
    """Return what to ask a bot with these documents: nothing where none of them is a sample.

    The questions are in the language of the documents that answer them, and in the reader's script.
    """
    held = {file.sha256 for file in files}
    asked = []
    for known, (written, sample) in _known().items():
        if known in held:
            reader = language if _written_in(language) == written else written
            asked += [question.render(reader) for question in sample.questions]
    return asked
