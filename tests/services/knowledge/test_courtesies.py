"""Greetings, thanks and numbering around a question change nothing about what is found."""

from __future__ import annotations

import functools

import pytest

from services.knowledge.analysis import analyze_question
from services.knowledge.search import greets, subject
from tests.services.knowledge.cutting import RETRIEVAL, Base, load, questions

QUESTIONS = questions(RETRIEVAL / "questions_dev.jsonl")


@functools.cache
def _base(name: str) -> Base:
    return load(RETRIEVAL / "kb" / name)


def _wrongly_refused(around: str) -> float:
    asked = [q for q in QUESTIONS if q["answerable"]]
    refused = 0
    for question in asked:
        query = analyze_question(subject(around.format(question["question"])))
        refused += not _base(question["tenant"]).index.search(query).found
    return refused / len(asked)


AROUND = (
    "{} №17",
    "#3 {}",
    "2. {}",
    "1️⃣ {}!!! 🔥",
    "Assalomu alaykum! Yaxshimisizlar? {} Rahmat",
    "Салом. {}\nкатта раҳмат",
    "Добрый вечер, у меня вопрос: {} Спасибо большое 🙏",
    "ok, good morning {} thank you very much",
    "Tushunarli. Xo‘p, {}",
)


@pytest.mark.parametrize("around", AROUND, ids=ascii)
def test_what_stands_around_a_question_is_not_looked_for(around: str) -> None:
    assert _wrongly_refused(around) <= _wrongly_refused("{}") + 0.01


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Salom! Kafolat bormi?", "Kafolat bormi?"),
        ("Katta rahmat!", ""),
        ("ОК 👍", ""),
        ("Здравствуйте", ""),
        ("yaxshi kitob bormi", "yaxshi kitob bormi"),
        ("Yaxshi. Kitob bormi", "Kitob bormi"),
        ("okno narxi", "okno narxi"),
        ("Hi-tech kafolat", "Hi-tech kafolat"),
        ("12 500", "12 500"),
        ("2 kg gilos bormi", "2 kg gilos bormi"),
        ("+998901234567", "+998901234567"),
        ("Buyurtma № 123 qayerda?", "Buyurtma №123 qayerda?"),
        ("вопросы доставки", "вопросы доставки"),
    ],
)
def test_the_subject_of_a_message(text: str, left: str) -> None:
    assert subject(text) == left


def test_hello_is_told_from_thanks() -> None:
    assert greets("Assalomu alaykum") and greets("добрый день") and greets("rahmat va salom")
    assert not greets("rahmat") and not greets("salomatlik")


@pytest.mark.parametrize(
    "unit", ["rahmat katta ", "salom", "va ", "№ ", "1) ", "\n", "savol bor ", "- ", "  ", "assalom "]
)
def test_hostile_courtesy_takes_no_time(unit: str) -> None:
    """Minutes, and so the suite's time limit, where a pattern backtracks."""
    for _ in range(20):
        subject(unit * 5000 + "x")
        greets(unit * 5000 + "x")
