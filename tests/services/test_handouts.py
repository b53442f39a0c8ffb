"""The sign by which a model sends a file: understood however it is written, never seen wherever a stream is cut."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from db import models
from services import answers, handouts
from services.ai import output
from services.knowledge import documents, shelf
from services.knowledge.shelf import Handout
from tests.fakes.models import Seen
from tests.services.test_answers import QUESTION, Watcher, card, shop_with_model

FILES = (
    Handout("a" * 26, "Narxlar 2026.pdf", "pdf", "Narxlar ro‘yxati", 1000),
    Handout("b" * 26, "menu.png", "png", "Меню летней террасы", 1000),
    Handout("c" * 26, "shartnoma.docx", "docx", "", 1000),
)
SAID = "Mana 👇"
LIMIT = 3500
# What a model wrote, which files it means, and what the customer reads.
WRITTEN: list[tuple[str, list[int], str]] = [
    (f"{SAID}\n[[file 1]]", [1], SAID),
    (f"{SAID}\n\n[[file 2]]\n[[file 1]]\n", [2, 1], SAID),
    (f"[[file 3]]\n{SAID}", [3], SAID),
    (f"{SAID} [[file 1]] Yana savol bormi?", [1], f"{SAID}  Yana savol bormi?"),
    (f"{SAID}\n**[[file 2]]**", [2], SAID),
    (f"{SAID}\n`[[file 2]]`", [2], SAID),
    (f"{SAID}\n- [[file 1]]\n- [[file 2]]", [1, 2], SAID),
    (f"{SAID}\n(📎 [[file 1]])", [1], SAID),
    (f"{SAID}\n[[FILE: 2]]", [2], SAID),
    (f"{SAID}\n[[ file #2 ]]", [2], SAID),
    (f"{SAID}\n[[file2]]", [2], SAID),
    (f"{SAID}\n[[2]]", [2], SAID),
    (f"{SAID}\n[[fayl 2]] [[файл 1]]", [2, 1], SAID),
    (f"{SAID}\n[[file 1, 2]]", [1, 2], SAID),
    (f"{SAID}\n[file 2]", [2], SAID),
    (f"{SAID}\n[[file 2]", [2], SAID),
    (f"{SAID}\n\\[\\[file 2\\]\\]", [2], SAID),
    (f"{SAID}\n【file 2】", [2], SAID),
    (f"{SAID}\n[[menu.png]]", [2], SAID),
    (f"{SAID}\n[[narxlar 2026.pdf]]", [1], SAID),
    (f"{SAID}\n[[file 1]]\n[[file 2]]\n[[file 3]]", [1, 2], SAID),
    (f"{SAID}\n[[file 1]]\n[[file 1]]", [1], SAID),
    # Not in the list, or no file at all.
    (f"{SAID}\n[[file 0]]\n[[file 4]]\n[[file 999]]", [], SAID),
    (f"{SAID}\n[[file]]", [], SAID),
    (f"{SAID}\n[[file N]]", [], SAID),
    (f"{SAID}\n[[boshqa.pdf]]", [], SAID),
    (f"{SAID}\n[[file one]]", [], SAID),
    (f"{SAID}\n[[file " + "1" * 90 + "]]", [], SAID),
    # Cut off by the model's own limit, wherever.
    *((f"{SAID}\n[[file 1]]"[: len(SAID) + 1 + n], [], SAID) for n in range(9)),
    (f"{SAID}\n[[file 1\nYana savol bormi?", [], f"{SAID}\nYana savol bormi?"),
    ("[[file 2]]", [2], ""),
    # Nothing of ours.
    ("Savollar: [sahifa](https://a.uz/b) va a[1] yoki [x].", [], "Savollar: sahifa: https://a.uz/b va a[1] yoki [x]."),
    ("1. Nok\n2. Olma *arzon* — (yangi)", [], "1. Nok\n2. Olma arzon — (yangi)"),
]


def whole(raw: str) -> str:
    return output.clean(handouts.without_signs(raw), limit=LIMIT, markers=(*answers.MARKERS, *handouts.MARKERS))


@pytest.mark.parametrize(("raw", "numbers", "shown"), WRITTEN)
def test_what_is_written_is_understood_and_not_shown(raw: str, numbers: list[int], shown: str) -> None:
    assert [FILES.index(one) + 1 for one in handouts.chosen(raw, FILES)] == numbers
    assert whole(raw) == shown
    assert not handouts.chosen(raw, ())


@pytest.mark.parametrize("raw", [row[0] for row in WRITTEN])
def test_wherever_a_stream_is_cut_it_shows_the_same(raw: str) -> None:
    expected = whole(raw)
    places = range(len(raw) + 1)
    cuts = [*([place] for place in places), *map(list, itertools.combinations(places, 2)), list(places)]
    for cut in cuts[:1500] + cuts[-1:]:
        signs = handouts.Signs()
        cleaner = output.Cleaner(limit=LIMIT, markers=(*answers.MARKERS, *handouts.MARKERS))
        shown = ""
        for start, end in itertools.pairwise([0, *cut, len(raw)]):
            shown += cleaner.feed(signs.feed(raw[start:end]))
            assert expected.startswith(shown), (cut, shown)
        shown += cleaner.feed(signs.finish()) + cleaner.finish()
        assert shown == expected, cut


@pytest.mark.parametrize("raw", [row[0] for row in WRITTEN[:12]])
async def test_who_watches_sees_what_is_stored(raw: str, sqlite_url: str, tmp_path: Path) -> None:
    async with shop_with_model(tmp_path, sqlite_url) as (core, shop, fake):
        async with core.db.write() as session:
            bot = await session.get_one(models.Bot, shop.bot.id)
            (document,) = await documents.list_for(session, bot)
            await documents.share(session, bot, document, shared=True, caption="Savol-javoblar")

        def reply(_seen: Seen) -> str:
            return raw

        fake.reply = reply
        watcher = Watcher()
        result = await answers.answer(
            core, await card(core, shop), QUESTION, "uz", [], on_delta=watcher.pieces.append, fits=lambda _file: True
        )
        assert "".join(watcher.pieces) == result.text and "[" not in result.text and "file" not in result.text


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ("narxlar faylini yuboring", ["Narxlar 2026.pdf"]),
        ("Нархлар файлини ташланг", ["Narxlar 2026.pdf"]),
        ("прайс скиньте", ["Narxlar 2026.pdf"]),
        ("send me the price list please", ["Narxlar 2026.pdf"]),
        ("Меню пришлите пожалуйста", ["menu.png"]),
        ("menyuni ko'rsating", ["menu.png"]),
        ("menyu rasmi bormi", ["menu.png"]),
        ("shartnomani jo‘nating", ["shartnoma.docx"]),
        ("rasm yuboring", ["menu.png"]),
        ("faylni yuboring", []),
        ("avtobus jadvalini yuboring", []),
    ],
)
def test_a_wish_names_a_file(question: str, named: list[str]) -> None:
    assert shelf.wants_file(question)
    assert [one.name for one in shelf.make(FILES).asked_for(question)] == named


@pytest.mark.parametrize(
    "question",
    [
        "Kafolat necha yil?",
        "Скидка есть?",
        "Yetkazib berish bormi?",
        "How much is the fridge?",
        "Qachon ochiq?",
        "Daftar bormi",
    ],
)
def test_other_questions_wish_for_no_file(question: str) -> None:
    assert not shelf.wants_file(question)
