"""Joining a team by the factory bot, and what it offers to whoever answers customers for others."""

from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy import update

from db import models
from db.base import utcnow
from handlers.callbacks import BotMenu, Period
from services import bots, notices, seats, team
from services.errors import NotFound
from tests.composition import FAQ
from tests.fakes.telegram_bots import Press
from tests.handlers.conftest import Person, Product
from tests.handlers.test_menus import OLD_MENU, labels, open_menu

_GONE = "This invitation has been used or withdrawn, or has expired. Ask for a new one."
_JOINED = "You are in the team of {name}."


async def _link(product: Product, owner: Person, role: str) -> str:
    account = await product.account(owner)
    async with product.core.db.write() as session:
        return f"team_{await team.invite(session, account, role, 'Nodira', most=20)}"


async def _joins(product: Product, owner: Person, number: int, role: str) -> Person:
    """Let somebody whom the factory bot has never seen join by a link."""
    person = product.person(number, "en", "Nodira")
    word = await _link(product, owner, role)
    person.user.start(person.factory, word)
    offer = await person.hears("Aziza invites you to the team")
    await person.presses(offer, "Join", person.text(_JOINED, name="Aziza"))
    return person


async def _removed(product: Product, owner: Person, person: Person) -> None:
    account, theirs = await product.account(owner), await product.account(person)
    async with product.core.db.write() as session:
        members = await team.members(session, account)
        await team.remove(session, account, next(each.member.id for each in members if each.user.id == theirs.id))


async def _refused(person: Person, press: Press) -> None:
    """Wait for the answer to a press: that its menu is not this person's."""
    await person.fake.wait_until(lambda: press.answered)
    assert press.text == person.text(OLD_MENU), press.data


async def test_an_operator_joins_by_the_link_and_sees_no_bots(product: Product) -> None:
    """The link works once; the operator has the panel and no menu of anything else, whatever is sent or pressed."""
    owner = await product.owner(900000801, "en")
    tenant = await product.make_bot(owner)
    word = await _link(product, owner, "operator")
    person = product.person(900000802, "en", "Nodira")
    person.user.start(person.factory, word)
    offer = await person.hears("Chinor Stom")
    assert "Operator" in offer.text
    # Shown is not accepted.
    with pytest.raises(NotFound):
        async with product.core.db.read() as session:
            await bots.get(session, await product.account(person), tenant.id, "talk")
    await person.presses(offer, "Join", person.text(_JOINED, name="Aziza"))
    async with product.core.db.read() as session:
        assert (await bots.get(session, await product.account(person), tenant.id, "talk")).id == tenant.id
    for said in ("/bots", "/knowledge", "/stats", "/start", "/help", "nima gap"):
        answer = await person.says(said, "You answer customers for Aziza")
        assert labels(answer) == ["💬 Conversations", "🖥 Panel"], said
    person.user.send_document(person.factory, "narxlar.txt", FAQ.encode())
    await person.hears("You answer customers for Aziza")
    async with product.core.db.read() as session:
        assert await bots.list_for(session, await product.account(person)) == []
    # The buttons of the owner's own menu, pressed by an operator whose program was changed.
    menu = await open_menu(owner, "Chinor Stom")
    for data in (
        *(
            BotMenu(do=do, bot=tenant.id)
            for do in ("open", "stop", "docs", "prompt", "channels", "token", "delete", "gone")
        ),
        Period(bot=tenant.id, days=7),
    ):
        press = person.user.press(menu, data.pack(), stale=True)
        await _refused(person, press)
    assert (await product.bots_of(owner))[0].status == "active"
    other = product.person(900000803, "en", "Begona")
    other.user.start(other.factory, word)
    await other.hears(other.text(_GONE))


async def test_a_manager_looks_after_the_bot_but_does_not_delete_it(product: Product) -> None:
    """Stops and starts it; Delete is not there and does nothing when forged; after removal the menus refuse."""
    owner = await product.owner(900000811, "en")
    tenant = await product.make_bot(owner)
    person = await _joins(product, owner, 900000812, "manager")
    menu = await open_menu(person, "Chinor Stom")
    assert "🗑 Delete" not in labels(menu) and "🗑 Delete" in labels(await open_menu(owner, "Chinor Stom"))
    await person.presses(menu, "Stop", "Stopped")
    assert (await product.bots_of(owner))[0].status == "stopped"
    await person.presses(menu, "Start", "Working")
    for do in ("delete", "gone"):
        press = person.user.press(menu, BotMenu(do=do, bot=tenant.id).pack(), stale=True)
        await _refused(person, press)
    menu = await open_menu(person, "Chinor Stom")
    await _removed(product, owner, person)
    press = person.user.press(menu, "Stop")
    await product.fake.wait_until(lambda: press.answered)
    assert press.text == person.text(OLD_MENU)
    assert [bot.status for bot in await product.bots_of(owner)] == ["active"]
    await person.says("/bots", "You have no bots yet.")


async def test_pressed_twice_and_too_late(product: Product) -> None:
    """A second press of the same person changes nothing; an offer that has ended meanwhile says so."""
    owner = await product.owner(900000821, "en")
    await product.make_bot(owner)
    person = product.person(900000822, "en", "Nodira")
    person.user.start(person.factory, await _link(product, owner, "operator"))
    offer = await person.hears("invites you")
    await product.fake.wait_until(lambda: offer.buttons)
    join = offer.button("Join")["callback_data"]
    await person.presses(offer, "Join", person.text(_JOINED, name="Aziza"))
    press = person.user.press(offer, join, stale=True)
    await product.fake.wait_until(lambda: press.answered)
    assert not press.text
    late = product.person(900000823, "en", "Kech")
    late.user.start(late.factory, await _link(product, owner, "operator"))
    offer = await late.hears("invites you")
    async with product.core.db.write() as session:
        await session.execute(update(models.Invitation).values(expires_at=utcnow() - dt.timedelta(seconds=1)))
    press = late.user.press(offer, "Join")
    await product.fake.wait_until(lambda: press.answered)
    assert press.text == late.text(_GONE)
    account = await product.account(owner)
    async with product.core.db.read() as session:
        assert len(await team.members(session, account)) == 1


async def test_operators_hear_in_telegram_that_a_customer_waits(product: Product) -> None:
    """The owner and the operator are told; who was removed is not, although it was about to be said."""
    owner = await product.owner(900000831, "en")
    tenant = await product.make_bot(owner)
    stays = await _joins(product, owner, 900000832, "operator")
    goes = await _joins(product, owner, 900000833, "operator")
    await owner.hears("Nodira has joined your team")

    async def waits(key: str) -> None:
        params = {"bot": tenant.name, "name": "Gulbahor"}
        wanted = notices.Occurrence(tenant.owner_id, "operator_wanted", notices.talk_key(key), tenant.id, params)
        await product.core.db.transact(notices.open_in, [wanted])

    await waits("a" * 26)
    await notices.deliver(product.core)
    for person in (owner, stays, goes):
        await person.hears("a customer asks for a person: Gulbahor")
    await waits("b" * 26)
    await _removed(product, owner, goes)
    async with product.core.db.write() as session:
        long_ago = utcnow() - 2 * notices.REMIND_AFTER
        await session.execute(update(models.Notice).where(models.Notice.told_at.is_not(None)).values(told_at=long_ago))
    before = len(product.fake.messages(goes.user.id))
    await notices.deliver(product.core)
    for person in (owner, stays):
        await person.hears("a customer asks for a person: Gulbahor")
    assert len(product.fake.messages(goes.user.id)) == before


async def test_who_is_paused_is_told_why_and_reaches_nothing(product: Product) -> None:
    """The plan of the owner is over: nothing of theirs is there, and the bot says so."""
    owner = await product.owner(900000871, "en")
    tenant = await product.make_bot(owner)
    person = await _joins(product, owner, 900000872, "manager")
    started = utcnow()
    product.core.now = lambda: started + dt.timedelta(days=500)
    try:
        await seats.settle(product.core)
        said = await person.says("/bots", "Your work is paused")
        assert "Your work for Aziza is paused" in said.text and tenant.name not in said.text
    finally:
        product.core.now = utcnow
