"""Connecting a channel in the factory bot, value by value, and looking at it there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from db import models
from handlers.callbacks import Connect, Cut
from services.i18n import LANGUAGES, translate
from tests.fakes.graph import FakeGraph, FakeNumber
from tests.fakes.telegram import Sent
from tests.handlers.conftest import TENANT, Person, Product, Start

TOKEN = "EAACANARY_token_in_the_dialog_0123456789"
SECRET = "CANARY_app_secret_in_the_dialog_01"
NUMBER = "100000000000101"
PHONE = "+998 90 123 45 67"
OLD_MENU = "This menu is out of date or is not yours. Here is a fresh one."


def said(person: Person, msgid: str, /, **params: object) -> str:
    """Return a text in the person's language."""
    return translate(person.language, msgid, **params)


@pytest.fixture
async def graph() -> AsyncIterator[FakeGraph]:
    """Meta, with one number."""
    async with FakeGraph() as started:
        yield started


def add_number(graph: FakeGraph) -> FakeNumber:
    """Return the number that the tests connect."""
    return graph.add_number(
        NUMBER,
        token=TOKEN,
        app_secret=SECRET,
        waba_id="200000000000201",
        display_phone_number=PHONE,
        verified_name="Chinor Stom",
    )


@pytest.fixture
async def product(start: Start, graph: FakeGraph) -> AsyncIterator[Product]:
    """The product with Meta's address."""
    async with start(META_GRAPH_BASE=graph.base_url) as running:
        yield running


async def whatsapp(product: Product) -> models.Channel | None:
    """Return the WhatsApp channel that there is."""
    async with product.core.db.read() as session:
        found: models.Channel | None = await session.scalar(
            select(models.Channel).where(models.Channel.kind == "whatsapp", models.Channel.external_id.is_not(None))
        )
        return found


async def stored_states(product: Product) -> str:
    """Return all that is kept of dialogs."""
    async with product.core.db.read() as session:
        return "\n".join(await session.scalars(select(models.DialogState.data)))


def deleted(product: Product) -> set[str]:
    """Return the numbers of the messages that were deleted from chats."""
    return {str(call.params["message_id"]) for call in product.fake.called("deleteMessage", product.factory)}


async def begin(owner: Person) -> Sent:
    """Start connecting WhatsApp; return the question for the first value."""
    menu = await owner.says("/channels")
    owner.user.press(menu, said(owner, "Connect {channel}", channel="WhatsApp"))
    return await owner.hears(said(owner, "Phone number id"))


@pytest.mark.parametrize("language", LANGUAGES)
async def test_whatsapp_is_connected_value_by_value(product: Product, graph: FakeGraph, language: str) -> None:
    number = add_number(graph)
    owner = await product.owner(900000701, language)
    bot = await product.make_bot(owner)
    first = await begin(owner)
    assert said(owner, "WhatsApp → API setup. It is not the phone number itself.") in first.text
    token_step = said(owner, "Access token")
    owner.user.send(product.factory, f" {NUMBER} ")
    ask = await owner.hears(lambda sent: token_step in sent.text and "EAAG…" in sent.text)
    assert said(owner, "I will delete your message right away.") in ask.text
    with_token = owner.user.send(product.factory, TOKEN)
    # The live network answers at once with whose number it is.
    await owner.hears("Chinor Stom, " + PHONE)
    await owner.hears(lambda sent: said(owner, "App secret") in sent.text and "0123456789abcdef…" in sent.text)
    kept = await stored_states(product)
    assert "kept" in kept and TOKEN not in kept and NUMBER not in kept
    with_secret = owner.user.send(product.factory, SECRET)
    done = await owner.hears(said(owner, "{channel} is connected: {name}.", channel="WhatsApp", name=PHONE))
    channel = await whatsapp(product)
    assert channel is not None and channel.bot_id == bot.id and channel.status == "active" and number.subscribed
    # What is left to enter at Meta is there to copy.
    for shown in (f"{product.core.settings.public_url}/whatsapp/webhook", channel.secret, "4. "):
        assert shown in done.text
    codes = [done.text] if "<code>" in done.text else [str(done.params["text"])]
    assert f"<code>{channel.secret}</code>" in codes[0]
    assert {str(with_token["message_id"]), str(with_secret["message_id"])} <= deleted(product)
    assert all(TOKEN not in sent.text and SECRET not in sent.text for sent in product.fake.messages(owner.user.id))
    await owner.settled()
    after = await stored_states(product)
    assert "kept" not in after and SECRET not in after
    # From here to its state, and back to the list.
    await owner.presses(done, said(owner, "Check now"), said(owner, "Connected"))
    await owner.presses(done, said(owner, "Back"), said(owner, "Channels of “{name}”", name="Chinor Stom"))


async def test_what_is_wrong_is_said_and_asked_for_again(product: Product, graph: FakeGraph) -> None:
    add_number(graph)
    owner = await product.owner(900000702, "en")
    await product.make_bot(owner)
    await begin(owner)
    await owner.says(PHONE, "It is not the phone number itself.")
    await owner.hears("Step 1 of 3")
    # An id that the token does not lead to is found out with the token: that is asked for again, not the token alone.
    await owner.says("100000000000999")
    await owner.hears("Step 2 of 3")
    bad = owner.user.send(product.factory, "with a blank")
    await owner.hears("without spaces")
    await owner.hears("Step 2 of 3")
    await owner.says("EAAnobody_knows_this_one", "does not accept this access token")
    await owner.hears("Step 2 of 3")
    await owner.says(TOKEN, "does not lead to this phone number id")
    await owner.hears("Step 1 of 3")
    await owner.says(NUMBER)
    await owner.hears("Step 2 of 3")
    graph.answer_raw(502, "<html>", on="number")
    await owner.says(TOKEN, "Meta is not responding right now.")
    await owner.says(TOKEN, "Chinor Stom")
    await owner.hears("Step 3 of 3")
    await owner.says("of-another-app-0001", "does not belong to the app")
    await owner.hears("Step 3 of 3")
    await owner.says(SECRET, "WhatsApp is connected")
    # Also what was wrong may have been somebody's secret.
    assert str(bad["message_id"]) in deleted(product)
    assert await whatsapp(product) is not None


async def test_cancel_says_what_was_dropped_and_nothing_stays(product: Product, graph: FakeGraph) -> None:
    add_number(graph)
    owner = await product.owner(900000703, "en")
    await product.make_bot(owner)
    await begin(owner)
    await owner.says(NUMBER)
    await owner.hears("Step 2 of 3")
    await owner.says("/cancel", "Connecting the channel was cancelled. What you had entered is forgotten.")
    await owner.says("/cancel", "There is nothing to cancel.")
    assert "kept" not in await stored_states(product)
    await owner.says(TOKEN, "I create and look after bots")
    assert await whatsapp(product) is None


async def test_a_number_of_another_bot_is_refused(product: Product, graph: FakeGraph) -> None:
    add_number(graph)
    first, second = await product.owner(900000704, "en"), await product.owner(900000705, "en", name="Botir")
    await product.make_bot(first)
    await product.make_bot(second, "Boshqa")
    for owner, answer in ((first, "WhatsApp is connected"), (second, "already connected to another bot")):
        await begin(owner)
        await owner.says(NUMBER)
        await owner.hears("Step 2 of 3")
        await owner.says(TOKEN)
        await owner.hears("Step 3 of 3")
        await owner.says(SECRET, answer)
    channel = await whatsapp(product)
    assert channel is not None
    # Buttons of the other's bot are old menus, whatever they carry.
    (mine,) = await product.bots_of(first)
    for data in (
        *(Connect(do=do, bot=mine.id, kind="whatsapp") for do in ("one", "begin", "skip", "check", "cut", "share")),
        Cut(bot=mine.id, channel=channel.id),
        Connect(do="begin", bot=mine.id, kind="fax"),
    ):
        assert await pressed(second, data.pack()) == second.text(OLD_MENU), data
    assert (await whatsapp(product)) is not None


async def pressed(person: Person, data: str) -> str:
    """Press a button of a changed client; return what is answered to the press."""
    menu = await person.says("/bots")
    press = person.user.press(menu, data, stale=True)
    await person.fake.wait_until(lambda: press.answered)
    return press.text


async def test_one_of_several_bots_is_chosen(product: Product) -> None:
    owner = await product.owner(900000706, "en")
    assert (await owner.says("/channels")).text.startswith("You have no bots yet.")
    for name in ("Bir", "Ikki"):
        await product.make_bot(owner, name)
    menu = await owner.says("/channels", "Which bot?")
    await owner.presses(menu, "Ikki", "Channels of “Ikki”")


async def test_a_channel_is_looked_at_and_disconnected(product: Product, graph: FakeGraph) -> None:
    number = add_number(graph)
    owner = await product.owner(900000707, "en")
    await product.make_bot(owner)
    await begin(owner)
    for value, answer in ((NUMBER, "Step 2 of 3"), (TOKEN, "Step 3 of 3"), (SECRET, "WhatsApp is connected")):
        owner.user.send(product.factory, value)
        await owner.hears(answer)
    menu = await owner.says("/channels", f"WhatsApp: {PHONE}")
    await owner.presses(menu, "WhatsApp", "Callback URL")
    number.quality_rating = "RED"
    await owner.presses(menu, "Check now", "Meta rates the quality of the number as low.")
    number.token = "EAAnot_the_same_token_0123456789"
    await owner.presses(menu, "Check now", "WhatsApp no longer accepts its token")
    graph.answer_raw(502, "<html>", on="number")
    press = owner.user.press(menu, "Check now")
    await owner.fake.wait_until(lambda: press.answered)
    assert press.alert and "not responding" in press.text
    await owner.presses(menu, "Disconnect", "Customers there will get no more answers.")
    await owner.presses(menu, "Back", "Callback URL")
    await owner.presses(menu, "Disconnect", "Customers there will get no more answers.")
    await owner.presses(menu, "Yes, disconnect", "Channels of “Chinor Stom”")
    assert await whatsapp(product) is None
    assert menu.button("Connect WhatsApp")


async def test_telegram_is_looked_at(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000708, "en")
    await product.make_bot(owner, token=TENANT)
    menu = await owner.says("/channels", "@chinor_bot")
    press = owner.user.press(menu, "Check now")
    await owner.fake.wait_until(lambda: press.answered)
    assert press.text == "Checked."
    assert product.fake.called("getWebhookInfo", product.fake.bots[TENANT])


async def test_the_qr_code_comes_as_a_picture(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000709, "en")
    bot = await product.make_bot(owner)
    menu = await owner.says("/channels")
    owner.user.press(menu, "Share")
    photo = await owner.hears("QR code of")
    assert photo.method == "sendPhoto" and f"/chat/{bot.public_id}" in photo.text
    assert photo.file is not None and photo.file.content.startswith(b"\x89PNG")
    # Connected to Telegram it leads there.
    other = await product.owner(900000711, "en")
    await product.make_bot(other, token=TENANT)
    menu = await other.says("/channels", "@chinor_bot")
    other.user.press(menu, "Share")
    assert "/chat/" not in (await other.hears("https://t.me/chinor_bot")).text


async def test_the_app_of_the_service_needs_no_secret_of_the_owner(start: Start, graph: FakeGraph) -> None:
    add_number(graph)
    environment = {"WHATSAPP_APP_SECRET": SECRET, "WHATSAPP_VERIFY_TOKEN": "word-of-the-service"}
    async with start(META_GRAPH_BASE=graph.base_url, **environment) as product:
        owner = await product.owner(900000710, "en")
        await product.make_bot(owner)
        await begin(owner)
        await owner.says(NUMBER)
        await owner.hears("Step 2 of 3")
        await owner.says(TOKEN)
        step = await owner.hears("Step 3 of 3")
        owner.user.press(step, "The token is of this service’s app")
        await owner.hears("There is nothing left to enter at Meta")
        channel = await whatsapp(product)
        assert channel is not None
        assert product.core.credentials(channel.credentials)["app_secret"] == ""
        # The button of a dialog that is over does nothing more.
        await owner.settled()
        with contextlib.suppress(LookupError):
            owner.user.press(step, Connect(do="skip", bot=channel.bot_id or "", kind="whatsapp").pack(), stale=True)
        await owner.hears("Your bots")
