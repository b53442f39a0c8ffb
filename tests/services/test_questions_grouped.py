"""Open questions are grouped by what they ask, and one answer closes a group."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path

from sqlalchemy import select

from db import models
from db.base import new_id, utcnow
from services import questions
from services.core import Core
from services.knowledge import alike
from services.knowledge.analysis import question_key
from services.settings import ROOT
from tests.composition import Shop, make_settings, make_shop, running

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)


def _labelled() -> list[tuple[str, str]]:
    rows = []
    for line in (ROOT / "tests" / "data" / "questions_alike.tsv").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            group, question = line.split("\t")
            rows.append((group, question))
    return rows


def _row(number: int, question: str, count: int = 1, language: str | None = None) -> questions.Open:
    return questions.Open(f"{number:026d}", question, count, language, None, NOW, NOW + dt.timedelta(minutes=number))


def test_wordings_of_one_question_join_and_different_questions_do_not() -> None:
    labelled = _labelled()
    groups = questions.grouped([_row(number, text) for number, (_, text) in enumerate(labelled)])
    place = {id_: group.id for group in groups for id_ in group.ids}
    joined = wanted = 0
    for (one, (group, _)), (other, (another, _)) in itertools.combinations(enumerate(labelled), 2):
        together = place[f"{one:026d}"] == place[f"{other:026d}"]
        if group == another:
            wanted += 1
            joined += together
        else:
            assert not together, (labelled[one][1], labelled[other][1])
    assert joined / wanted >= 0.8


def test_a_group_tells_how_often_in_which_words_and_languages() -> None:
    rows = [
        _row(1, "Parkovka bormi?", 2, "uz"),
        _row(2, "Samarqandga yetkazib berasizlarmi?", 4, "uz"),
        _row(3, "Парковка есть?", 5, "ru"),
        _row(4, "Is there parking?", 1, "en"),
    ]
    first, second = questions.grouped(rows)
    assert (first.id, first.question, first.count) == (rows[0].id, "Парковка есть?", 8)
    assert first.examples == ("Parkovka bormi?", "Is there parking?")
    assert (first.languages, first.last_asked_at) == (("ru", "uz", "en"), rows[3].last_asked_at)
    assert second.ids == (rows[1].id,)
    assert questions.grouped(rows[::-1]) == [first, second]


def test_what_has_no_words_stands_for_itself() -> None:
    rows = [_row(n, text) for n, text in enumerate(["?!", "…", "مرحبا", "كم السعر؟", "/x", "😀", "Rahmat"])]
    assert len(questions.grouped(rows)) == len(rows)


def test_numbers_and_signs_make_another_question() -> None:
    for one, other in (
        ("iPhone 15 narxi qancha?", "iPhone 14 narxi qancha?"),
        ("Muzlatgich narxi qancha?", "Muzlatgich 256 narxi qancha?"),
        ("Narxi qancha?", "Muzlatgich narxi qancha?"),
    ):
        assert alike.likeness(alike.asked(one), alike.asked(other)) < alike.SAME, (one, other)


def test_among_thousands_the_same_question_is_found() -> None:
    index: alike.Index[int] = alike.Index()
    for number in range(2000):
        index.add(number, alike.asked(f"Mahsulot{number:04d}x narxi qancha"))
    found = index.nearest(alike.asked("Mahsulot1234x narxi qancha?"))
    assert found == (1234, 1.0)


async def _ask(core: Core, shop: Shop, *asked: str) -> None:
    async with core.db.write() as session:
        for question in asked:
            session.add(
                models.UnansweredQuestion(
                    id=new_id(), bot_id=shop.bot.id, question=question, folded=question_key(question), language="uz"
                )
            )


async def _open(core: Core, shop: Shop) -> list[str]:
    row = models.UnansweredQuestion
    async with core.db.read() as session:
        found = select(row.question).where(row.bot_id == shop.bot.id, row.answered_at.is_(None)).order_by(row.id)
        return list(await session.scalars(found))


async def test_one_answer_closes_the_group_of_this_bot_alone(database_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, database_url), "worker") as core:
        shop = await make_shop(core)
        other = await make_shop(core, "Nur", email="other@example.uz")
        asked = ("Parkovka bormi?", "Парковка есть?", "parkofka bormi", "Velosiped ijarasi qancha?")
        await _ask(core, shop, *asked)
        await _ask(core, other, *asked)
        also = await questions.same_as(core, shop.bot, "Парковка борми?")
        async with core.db.write() as session:
            await questions.teach(session, shop.bot, "Парковка борми?", "Ha, hovlida.", also)
        assert await _open(core, shop) == ["Velosiped ijarasi qancha?"]
        assert await _open(core, other) == list(asked)
        # What another owner's bot was asked cannot be closed by its id either.
        async with core.db.read() as session:
            theirs = list(await session.scalars(select(models.UnansweredQuestion.id)))
        async with core.db.write() as session:
            await questions.close(session, shop.bot, theirs)
        assert await _open(core, other) == list(asked)


async def test_groups_follow_every_change_of_the_list(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core, document=None)
        await _ask(core, shop, "Parkovka bormi?")
        assert [group.count for group in await questions.open_groups(core, shop.bot)] == [1]
        await _ask(core, shop, "Парковка есть?")
        (group,) = await questions.open_groups(core, shop.bot)
        assert group.count == 2
        async with core.db.write() as session:
            row = await session.get_one(models.UnansweredQuestion, group.id)
            row.count, row.last_asked_at = 7, utcnow()
        assert [group.count for group in await questions.open_groups(core, shop.bot)] == [8]
