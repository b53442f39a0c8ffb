"""Who wants a person is heard in every language and script; who asks something about one is a customer with a question."""

from __future__ import annotations

import pytest

from services.conversations.rules import asks_for_person


@pytest.mark.parametrize(
    "text",
    [
        "operator",
        "Operator kerak!",
        "operator bilan gaplashmoqchiman",
        "Assalomu alaykum, menga operator kerak",
        "menejer bilan bog'lang",
        "Menejerga ulab bering iltimos",
        "jonli odam bilan gaplashsam bo‘ladimi?",
        "odam bilan gaplashmoqchi edim",
        "operatorni chaqiring",
        "operatorga bogʻlab bera olasizmi",
        "operator bormi?",
        "bot emas, odam kerak",
        "оператор керак",
        "одам билан гаплашмоқчиман",
        "менежер билан боғланг илтимос",
        "жонли одам борми",
        "операторни чақиринг",
        "Оператор",
        "хочу поговорить с человеком",
        "можно оператора?",
        "позовите оператора",
        "Здравствуйте! Соедините меня с менеджером, пожалуйста.",
        "я хочу поговорить с живым человеком",
        "нужен живой человек",
        "переключите на оператора",
        "не хочу говорить с ботом, дайте человека",
        "можно с кем-нибудь поговорить?",
        "pozovite operatora",
        "с кем можно связаться?",
        "админ керак",
        "I want to talk to a human",
        "Can I speak to a manager, please?",
        "human",
        "connect me to an operator",
        "is there a real person here?",
        "I don't want a bot, give me an agent",
    ],
)
def test_a_person_is_wanted(text: str) -> None:
    assert asks_for_person(text)


@pytest.mark.parametrize(
    "text",
    [
        "operator narxi qancha",
        "сколько стоит услуга оператора крана",
        "mobil operator bormi",
        "operator raqami qanday?",
        "номер оператора",
        "операторы работают в воскресенье?",
        "men operatorman",
        "я менеджер",
        "operator kerak emas",
        "не нужен оператор",
        "I don't need a human",
        "нужен менеджер по продажам?",
        "operator bo‘lib ishlamoqchiman",
        "odam boshiga qancha?",
        "стол на 5 человек",
        "человек",
        "кто нужен?",
        "a table for one person",
        "Is this a bot?",
        "ваш менеджер сказал, что доставка бесплатная",
        "оператор Beeline",
        "2 kishi uchun xona bormi",
        "",
        "🙂",
        "operator " * 20,
    ],
)
def test_it_is_a_question(text: str) -> None:
    assert not asks_for_person(text)
