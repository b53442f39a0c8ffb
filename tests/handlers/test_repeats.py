"""An update that comes again, since Telegram or the process failed meanwhile, changes and says nothing twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from db import models
from services import accounts
from services.knowledge import documents
from tests.composition import FAQ
from tests.conveyor.nursery import nursery
from tests.fakes.telegram_bots import Fault
from tests.fakes.telegram_format import ApiError
from tests.handlers.conftest import TENANT, Person, Product, Start, language_name

CONNECTED = "@{username} is connected and working: it is now “{name}”."
CONTACT = "one’s own contact"
CREATE = "Let’s create your bot."
DROPPED = "Creating a bot was cancelled."
NOT_CONNECTED = "Connecting a bot was cancelled."
NOTHING = "There is nothing to cancel."
SKIP = "You can skip this."
pytestmark = pytest.mark.usefixtures("hurry")
STEP = "1. Open @BotFather and send it /newbot."


def fail_after(product: Product, person: Person, passing: int, times: int | None = 2) -> Fault:
    """Let Telegram fail ``times`` times (None: for good) when so many more messages have reached a person."""
    there = len(product.fake.messages(person.user.id)) + passing

    def error() -> ApiError | None:
        arrived = len(product.fake.messages(person.user.id))
        return ApiError(502, "Bad Gateway") if arrived == there else None

    fault = Fault(method="sendMessage", chat_id=person.user.id, times=times, error=error)
    product.fake.faults.append(fault)
    return fault


async def asked_for_phone(product: Product, number: int) -> Person:
    """Return a new person in the step that asks for the phone."""
    person = product.person(number, "en")
    person.user.start(product.factory)
    await person.presses(await person.hears(), language_name("en"))
    await person.hears(person.text(SKIP))
    return person


async def asked_for_name(product: Product, number: int) -> Person:
    """Return a person whom the name of a new bot is asked."""
    person = await product.owner(number, "en")
    await person.says("/newbot", person.text(CREATE))
    return person


async def asked_for_instructions(product: Product, number: int) -> Person:
    """Return a person whom the instructions of a bot are asked."""
    person = await product.owner(number, "en")
    tenant = await product.make_bot(person)
    menu = await person.says("/bots")
    await person.presses(menu, tenant.name)
    await person.presses(menu, person.text("Instructions"))
    return person


@pytest.mark.parametrize(
    ("begin", "act", "answers", "after"),
    [
        (asked_for_phone, "Skip", [CREATE], DROPPED),
        (asked_for_phone, "+998 90 765 43 21", [CREATE], DROPPED),
        (asked_for_phone, CONTACT, [CREATE], DROPPED),
        (asked_for_name, "Nur Stom", [STEP], NOT_CONNECTED),
        (asked_for_name, "/cancel", [DROPPED], NOTHING),
        (asked_for_instructions, "Address people politely", ["Instructions saved.", "Chinor Stom"], NOTHING),
    ],
)
async def test_an_answer_that_telegram_refuses_once_is_given_in_the_same_step(
    product: Product, begin: Callable[[Product, int], Awaitable[Person]], act: str, answers: list[str], after: str
) -> None:
    person = await begin(product, 900000601)
    before = len(product.fake.messages(person.user.id))
    product.fake.fail(502, method="sendMessage", chat_id=person.user.id)
    if act == CONTACT:
        person.user.share_contact(product.factory)
    else:
        person.user.send(product.factory, act)
    for answer in answers:
        await person.hears(answer)
    # What is dropped now shows where the dialog stands.
    await person.says("/cancel", after)
    said = product.fake.messages(person.user.id)[before:]
    assert all(expected in message.text for expected, message in zip([*answers, after], said, strict=True))
    assert [bot.name for bot in await product.bots_of(person)] == (["Chinor Stom"] if len(answers) > 1 else [])


async def test_what_was_said_before_an_error_is_not_said_again(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot", name="Chinor")
    owner = await product.owner(900000602, "en")
    user = await product.account(owner)
    owner.user.send_document(product.factory, "savollar.txt", FAQ.encode())
    await owner.hears(CREATE)
    before = len(product.fake.messages(owner.user.id))
    refused = [fail_after(product, owner, passing) for passing in (1, 2)]
    owner.user.send(product.factory, TENANT)
    reading = await owner.hears(lambda sent: sent.text.startswith("savollar.txt"))
    await product.fake.wait_edit(reading, "✅")
    await owner.settled()
    assert [fault.hits for fault in refused] == [2, 2]
    texts = [message.text for message in product.fake.messages(owner.user.id)[before:]]
    assert len(texts) == 4, "the connection, what comes next, the document, and that there is nothing to cancel"
    assert owner.text(CONNECTED, username="chinor_bot", name="Chinor") in texts[0]
    assert owner.text("I read PDF, Word (.docx), CSV and text files.") in texts[1]
    (tenant,) = await product.bots_of(owner)
    async with product.core.db.read() as session:
        assert len(await documents.list_for(session, tenant)) == 1
        log = models.AuditLog
        actions = list(await session.scalars(select(log.action).where(log.actor_id == user.id)))
    assert actions[0] == "channel_connected"


async def test_accounts_are_joined_though_telegram_fails(product: Product) -> None:
    owner = await product.owner(900000603, "en")
    async with product.core.db.write() as session:
        account = await accounts.register_owner(session, email="panel@example.uz", full_name="Nodira", language="en")
        token = await accounts.login_link(session, account)
    owner.user.start(product.factory, f"in_{token}")
    question = await owner.hears("Nodira")
    product.fake.fail(502, method="editMessageText", chat_id=owner.user.id)
    await owner.presses(
        question, owner.text("Connect"), owner.text("This Telegram account is now connected to the panel.")
    )
    assert (await product.account(owner)).id == account.id


async def test_a_document_that_is_read_again_is_shown_though_telegram_fails(product: Product) -> None:
    owner = await product.owner(900000604, "en")
    tenant = await product.make_bot(owner)
    async with product.core.db.write() as session:
        failed = models.Document(
            bot_id=tenant.id, name="savollar.txt", kind="txt", status="failed", error_code="timeout"
        )
        session.add(failed)
        await session.flush()
        session.add(models.DocumentContent(document_id=failed.id, content=FAQ.encode()))
    menu = await owner.says("/knowledge")
    await owner.presses(menu, "savollar.txt", "savollar.txt")
    product.fake.fail(502, method="sendMessage", chat_id=owner.user.id)
    owner.user.press(menu, owner.text("Try again"))
    reading = await owner.hears(lambda sent: sent.text.startswith("savollar.txt") and sent is not menu)
    await product.fake.wait_edit(reading, "✅")


async def test_a_process_that_is_killed_has_said_things_once(start: Start, tmp_path: Path) -> None:
    async with start() as product:
        product.fake.add_bot(TENANT, "chinor_bot", name="Chinor")
        first, second = await asked_for_phone(product, 900000605), await product.owner(900000606, "en")
        settings = product.core.settings
    fake = product.fake
    async with nursery(tmp_path) as children:
        # One update has been handled to its end, but the inbox does not know; of the other the first half was said.
        child = await children.start(settings, point="dialog_closed")
        refused = fail_after(product, second, 1, times=None)
        second.user.send(second.factory, TENANT)
        await fake.wait_until(lambda: refused.hits)
        first.user.send(first.factory, first.text("Skip"))
        await child.hears("paused")
        await child.kill()
    fake.clear_faults()
    async with start() as product:
        await first.says("/cancel", first.text(DROPPED))
        await second.hears(second.text("I read PDF, Word (.docx), CSV and text files."))
        await second.settled()
        assert [bot.name for bot in await product.bots_of(second)] == ["Chinor"]
        assert not await product.bots_of(first)
    for person, text in ((first, CREATE), (second, second.text(CONNECTED, username="chinor_bot", name="Chinor"))):
        assert sum(text in message.text for message in fake.messages(person.user.id)) == 1
