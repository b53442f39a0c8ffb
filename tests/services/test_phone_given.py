"""A customer who leaves a telephone number instead of a question is thanked, and the owner hears of him."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from db import models
from services.conversations.rules import gives_phone
from services.i18n import translate
from tests.composition import address, make_settings, make_shop, running

THANKS = "Thank you! 📞 I have passed your number on. Meanwhile you can go on asking me."


@pytest.mark.parametrize(
    "text",
    [
        *("+998901112233", "90 111 22 33", "901112233", "998 90 111-22-33", "8 (903) 123-45-67", "+7 903 123 45 67"),
        *(
            "Мой номер: +998 90 111 22 33",
            "tel: 901112233, qo‘ng‘iroq qiling",
            "my number is +1 202 555 0101",
            "📞 +998 (90) 111 22 33",
        ),
    ],
)
def test_a_number_is_given(text: str) -> None:
    assert gives_phone(text)


@pytest.mark.parametrize(
    "text",
    [
        *("100 000 000", "450000000", "123456789", "12345", "8600 1234 5678 9012", "2026-11-21", "", "🙂"),
        *("90 111 22 33 bu kimniki?", "+998901112233?", "Buyurtma 901112233", "901112233 va 905556677", "1" * 300),
    ],
)
def test_it_is_something_else(text: str) -> None:
    assert not gives_phone(text)


async def test_the_owner_hears_of_a_number_and_finds_it_in_no_list_of_questions(tmp_path: Path) -> None:
    async with running(make_settings(tmp_path)) as core:
        shop = await make_shop(core)
        headers = {"Authorization": f"Bearer {shop.token}"}
        async with aiohttp.ClientSession(f"{address(core)}/", headers=headers) as http:

            async def ask(text: str) -> dict[str, Any]:
                said = {"contact": "c1", "text": text}
                async with http.post(f"api/v1/bots/{shop.bot.id}/chat", json=said) as answer:
                    return dict(await answer.json())

            assert "3 yil" in (await ask("Muzlatgichga kafolat bormi?"))["text"]
            assert (await ask("+998 90 111 22 33"))["text"] == translate("uz", THANKS)
            # The bot goes on answering meanwhile.
            assert "45 000" in (await ask("Yetkazib berish bormi?"))["text"]
        async with core.db.read() as session:
            assert (await session.scalars(select(models.Conversation.status))).all() == ["waiting"]
            assert (await session.scalars(select(models.Notice.kind))).all() == ["operator_wanted"]
            assert (await session.scalars(select(models.UnansweredQuestion))).all() == []
