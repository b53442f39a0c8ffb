"""People are found by what they are called, however many there are."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import delete, insert, select, update

from db import models
from db.base import new_id
from db.engine import Database
from services import naming

KARIM, AZIZA, NODIRA, OLIM = "k" * 26, "a" * 26, "n" * 26, "0" * 26


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, pool_size=2)
    async with opened.write() as session:
        session.add_all(
            [
                models.User(id=KARIM, full_name="Karim O‘ktamov", email="karim.o@example.uz", phone="+998901234567"),
                models.User(id=AZIZA, full_name="AZIZA Al-Xorazmiy", telegram_id=7_123_456_789),
                models.User(id=NODIRA, full_name="Нодира Юсупова", email="n.yusupova@example.uz"),
                models.User(id=OLIM, full_name='Olim "100%" Qo\'chqorov_1', phone="+998935550011"),
            ]
        )
    yield opened
    await opened.close()


async def _found(db: Database, asked: str) -> set[str]:
    """Look for people both ways."""
    async with db.read() as session:
        listed = set(await session.scalars(select(models.User.id).where(await naming.called(session, asked))))
        assert set(await naming.ids_called(session, asked, 50)) == listed
    return listed


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("karim", {KARIM}),
        ("KARIM", {KARIM}),
        ("tamov", {KARIM}),
        ("rim O‘k", {KARIM}),
        ("aziza al", {AZIZA}),
        ("xoraz", {AZIZA}),
        ("юсуп", {NODIRA}),
        ("НОДИРА ю", {NODIRA}),
        ("yusupova@", {NODIRA}),
        ("example.uz", {KARIM, NODIRA}),
        # Of one letter or two words begin so.
        ("ka", {KARIM}),
        ("ю", {NODIRA}),
        ("ar", set()),
        ("al", {AZIZA}),
        ("az", {AZIZA}),
        # Parts of numbers, however they are written.
        ("90 123", {KARIM}),
        ("+998 93", {OLIM}),
        ("5550011", {OLIM}),
        ("7123456789", {AZIZA}),
        # What stands for something in a query language stands for itself.
        ('"100%"', {OLIM}),
        ("%", set()),
        ("100_", set()),
        ("v_1", {OLIM}),
        ("o'ch", {OLIM}),
        ('" OR who : "', set()),
        (KARIM, {KARIM}),
        ("yoqbunday", set()),
        ("", set()),
        ("  ", set()),
    ],
)
async def test_people_are_found_by_parts_of_what_they_are_called(db: Database, asked: str, meant: set[str]) -> None:
    assert await _found(db, asked) == meant


async def test_who_is_called_otherwise_or_gone_is_not_found_any_more(db: Database) -> None:
    async with db.write() as session:
        await session.execute(update(models.User).where(models.User.id == KARIM).values(full_name="Botir", phone=None))
        (await session.get_one(models.User, AZIZA)).full_name = "Aziza Karimova"
        await session.execute(delete(models.User).where(models.User.id == OLIM))
    assert await _found(db, "karim") == {KARIM, AZIZA}, "the e-mail is still so"
    assert await _found(db, "botir") == {KARIM}
    assert await _found(db, "o‘ktamov") == await _found(db, "1234567") == await _found(db, "olim") == set()


async def test_of_very_many_some_are_found(db: Database) -> None:
    """Where an index would name more than a thousand, whoever lists them walks along, by the same rule."""
    rows = [
        {"id": new_id(), "full_name": f"Zafar {n}", "email": f"z{n}@example.uz", "phone": f"+99877{n:07}"}
        for n in range(naming.FEW + 50)
    ]
    async with db.write() as session:
        await session.execute(insert(models.User), rows)
    everybody = {row["id"] for row in rows}
    async with db.read() as session:
        for asked in ("zafar", "ZAF", "za", "+998 77", "afar"):
            query = select(models.User.id).where(await naming.called(session, asked))
            assert set(await session.scalars(query)) == everybody, asked
            assert len(await naming.ids_called(session, asked, 7)) == 7
        assert set(await session.scalars(select(models.User.id).where(await naming.called(session, "afar 1049")))) == {
            rows[1049]["id"]
        }
