"""Model output as plain text, whole and in pieces."""

from __future__ import annotations

import random

import pytest

from services.ai.output import Cleaner, clean, is_empty

MARKDOWN = """# Narxlar

**Nok** — 12 000 so`m, o`g`il *arzon* narx. `kod` va @my_shop_bot
- bir
* ikki [sayt](https://a.uz/x_y_z)
+ [ ] uch
> iqtibos
| Tovar | Narx |
|---|---|
| Nok | 12000 |
```python
print(2*3*4)
```
---
1. birinchi


~~eski~~ __kuchli__ 2 * 3 * 4
"""
PLAIN = """Narxlar

Nok — 12 000 so`m, o`g`il arzon narx. kod va @my_shop_bot
• bir
• ikki sayt: https://a.uz/x_y_z
• uch
iqtibos
Tovar — Narx
Nok — 12000
print(2*3*4)
1. birinchi

eski kuchli 2 * 3 * 4"""


def test_markdown_becomes_plain_text() -> None:
    assert clean(MARKDOWN) == PLAIN


@pytest.mark.parametrize("seed", range(60))
def test_pieces_give_the_same_text(seed: int) -> None:
    dice, cleaner, shown, at = random.Random(seed), Cleaner(), "", 0
    while at < len(MARKDOWN):
        step = dice.randint(1, 12)
        shown += cleaner.feed(MARKDOWN[at : at + step])
        at += step
    assert (shown + cleaner.finish()).strip() == PLAIN


def test_plain_words_are_shown_at_once() -> None:
    cleaner = Cleaner()
    assert cleaner.feed("Salom, nok ") + cleaner.feed("narxi 12 000 so‘m") == "Salom, nok narxi 12 000"


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("Salom! 😊 Narxi 5 000 so'm", "Salom! 😊 Narxi 5 000 so'm"),
        ("so`m va o`n", "so`m va o`n"),
        ("snake_case_name @my_shop_bot_1", "snake_case_name @my_shop_bot_1"),
        ("https://a.uz/a_b_c?x=_y_", "https://a.uz/a_b_c?x=_y_"),
        ("5 * 3 * 2 = 30", "5 * 3 * 2 = 30"),
        ("harorat -5 daraja", "harorat -5 daraja"),
        ("[x](javascript:alert(1))", "x"),
        ("![rasm](https://evil.example/p.png?data=1)", "rasm"),
        ("[https://a.uz](https://a.uz)", "https://a.uz"),
        ("<script>alert(1)</script>Salom", "Salom"),
        ("<script>\nalert(1)\n</script>\nSalom", "Salom"),
        ("<b>Nok</b> 5 &lt; 6<br>yana", "Nok 5 < 6\nyana"),
        ("yashirin\U000e0041\U000e0042 matn\u202e!", "yashirin matn!"),
        ("bir\r\nikki\x00", "bir\nikki"),
        ("oila 👨‍👩‍👧", "oila 👨‍👩‍👧"),
        ("1\\. bir \\*yulduz\\*", "1. bir *yulduz*"),
        ("***Juda*** muhim", "Juda muhim"),
        ("\ud83d yarim", " yarim".strip()),
        ("**tugallanmagan gap", "tugallanmagan gap"),
        ("- **Narxi: 5 000", "• Narxi: 5 000"),
        ("**5 000 so'm", "5 000 so'm"),
        ("**🚚 Yetkazib berish", "🚚 Yetkazib berish"),
        ("**Bir** ikki **uch\nto'rt** besh", "Bir ikki uch\nto'rt besh"),
        ("**Ro'yxat:\n* bir\n* ikki** uch", "Ro'yxat:\n• bir\n• ikki uch"),
        (
            "[Sayt][1] va [bot][2]\n\n[1]: https://a.uz\n[2]: <https://b.uz>",
            "Sayt va bot\n\nhttps://a.uz\nhttps://b.uz",
        ),
        ("<details><summary>Ko'proq</summary>matn</details>", "Ko'proq\nmatn"),
        ("<details>\n<summary>Ko'proq</summary>\nmatn\n</details>", "Ko'proq\nmatn"),
        ("12 m<sup>2</sup>", "12 m2"),
    ],
)
def test_single_cases(raw: str, plain: str) -> None:
    assert clean(raw) == plain


@pytest.mark.parametrize(
    "text",
    [
        "2 ** 3 = 8",
        "2**3 = 8, 10**6 va 10**9",
        "x**2 + y**2",
        "5*5 = 25",
        "Narxi 5 000* so'm, 6 000** so'm",
        "** bo'lib to'lashga",
        "*chegirma bilan",
        "Mehmonxona 4** yoki ****",
        "Karta 8600 **** **** 1234, ****5678",
        "+998 90 *** ** 67, 123-**-67",
        "narxlar_2026_yil.pdf va __",
        "Ism: ______ Sana: ____",
        "O'lchamlar: [S][M][L]",
        "[1] va [2], jadval[0][1]",
        "[1]: kafolat varaqasi bilan",
        "1 < 2 > 0, <ism> yozing",
    ],
)
def test_what_only_looks_like_markup_stays(text: str) -> None:
    assert clean(text) == text


def test_our_markers_do_not_leak() -> None:
    text = "Salom\n<<<QOIDALAR>>> sen botsan\nNok bor"
    assert clean(text, markers=("<<<QOIDALAR>>>",)) == "Salom\nNok bor"


def test_length_is_bounded() -> None:
    for text in ("so‘z " * 2000, "**so‘z** " * 2000, "x" * 9000):
        short = clean(text, limit=500)
        assert 400 < len(short) <= 500
        assert short.endswith("…")
    cleaner = Cleaner(limit=100)
    assert len("".join(cleaner.feed("so‘z ") for _ in range(100)) + cleaner.finish()) <= 100


@pytest.mark.parametrize("text", ["", "  \n ", "**", "---", "```\n```", "<b></b>", "\u200b", "..."])
def test_nothing_said(text: str) -> None:
    assert is_empty(clean(text))


def test_an_emoji_is_something() -> None:
    assert not is_empty(clean("👍"))


@pytest.mark.parametrize("unit", ["*", "[", "](", "**a ", "<script ", "_a ", "`a ", "<b ", "| ", "[a](b ", "&lt;"])
def test_hostile_markup_takes_no_time(unit: str) -> None:
    """Minutes, and so the suite's time limit, where a pattern backtracks."""
    clean(unit * 20_000)
    cleaner = Cleaner()
    for _ in range(20_000):
        cleaner.feed(unit)
    assert len(cleaner.finish()) < 20_000
