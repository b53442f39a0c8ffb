"""Files of the knowledge base that go with the bot's answers, by every network; what is not shared never leaves."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select, update

from db import models
from db.base import utcnow
from services import attachments, upkeep
from services.core import Core
from services.errors import AppError, Invalid, NotFound
from services.knowledge import documents
from services.settings import Settings
from tests.composition import Shop, make_shop, running
from tests.conveyor import test_business as business
from tests.conveyor.harness import Floor, floor, settings_for
from tests.conveyor.lines import WhatsAppLine, instagram_line, whatsapp_line
from tests.conveyor.nursery import Nursery
from tests.fakes.graph import FakeGraph
from tests.fakes.instagram import FakeInstagram
from tests.fakes.meta import INSTAGRAM_ASKER, WHATSAPP_ASKER, Meta
from tests.fakes.models import FakeModels, Seen
from tests.fakes.telegram import FakeTelegram, Sent
from tests.services.test_pictures import animated, bomb, encoded

Fakes = tuple[FakeTelegram, FakeModels]
PRICES = "Muzlatgich narxi: 4 500 000 so'm\n\nKonditsioner narxi: 6 200 000 so'm\n"
TEXT = "Mana narxlar 👇"
WISH = "Narxlar faylini yuboring"


def sends(*numbers: int, text: str = TEXT) -> Callable[[Seen], str]:
    """Return a model that answers with files, whatever it is asked."""
    return lambda _seen: "\n".join([text, *(f"[[file {number}]]" for number in numbers)])


def offered(seen: Seen) -> list[dict[str, Any]]:
    """Return the files that a model was offered."""
    text = str(seen.body["contents"][-1]["parts"][0]["text"])
    if "<files>\n" not in text:
        return []
    return [json.loads(line) for line in text.partition("<files>\n")[2].partition("\n</files>")[0].splitlines()]


@pytest.fixture
async def place(tmp_path: Path, database_url: str, fakes: Fakes) -> AsyncIterator[Floor]:
    async with floor(tmp_path, database_url, *fakes) as started:
        yield started


@pytest.fixture
async def small(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> AsyncIterator[Floor]:
    """The same, where nothing depends on the database."""
    async with floor(tmp_path, sqlite_url, *fakes) as started:
        yield started


async def put(
    core: Core,
    shop: Shop,
    name: str = "narxlar.txt",
    data: bytes = PRICES.encode(),
    caption: str | None = "Narxlar ro‘yxati",
    shared: bool | None = True,
) -> models.Document:
    """Give a bot a document, and wait until it is read."""
    async with core.bell.listen(f"bot:{shop.bot.id}", limit=1000) as events, asyncio.timeout(60):
        async with core.db.write() as session:
            bot = await session.get_one(models.Bot, shop.bot.id)
            document = await documents.upload(
                session, bot, name, data, limits=core.settings.limits, max_bytes=10**7, shared=shared, caption=caption
            )
        core.bell.ring("jobs")
        while True:
            event = await events.get()
            if event.get("document") == document.id and event["status"] in ("ready", "failed"):
                break
    async with core.db.read() as session:
        return await session.get_one(models.Document, document.id)


async def share(core: Core, shop: Shop, document: models.Document, **what: Any) -> models.Document:
    """Change what customers may receive, as the owner does."""
    async with core.db.write() as session:
        bot = await session.get_one(models.Bot, shop.bot.id)
        return await documents.share(session, bot, document, **what)


async def delete(core: Core, shop: Shop, document: models.Document) -> None:
    """Delete a document, as the owner does."""
    async with core.db.write() as session:
        bot = await session.get_one(models.Bot, shop.bot.id)
        await documents.delete(session, bot, await documents.get(session, bot, document.id))
    core.bell.ring("jobs")


async def undo_is_over(core: Core) -> None:
    """Let the time pass in which what was deleted can be brought back."""
    async with core.db.write() as session:
        late = utcnow() - dt.timedelta(seconds=documents.UNDO_S + 1)
        deleted = models.Document.deleted_at.is_not(None)
        await session.execute(update(models.Document).where(deleted).values(deleted_at=late))
        await session.execute(update(models.Lane).where(models.Lane.key.like("job:forget:%")).values(run_at=0.0))
    core.bell.ring("jobs")


def files_of(sent: list[Sent]) -> list[tuple[str, bytes]]:
    return [(one.file.name, one.file.content) for one in sent if one.file is not None]


# Telegram


async def test_telegram_gets_the_text_and_then_the_files(place: Floor) -> None:
    tenant = await place.tenant()
    document = await put(place.core, tenant.shop)
    picture = await put(place.core, tenant.shop, "menyu.png", encoded("PNG"), "Yozgi menyu")
    assert (picture.status, picture.chunk_count) == ("ready", 1)
    place.models.reply = sends(1, 2)
    person = tenant.person()
    person.send(tenant.bot, "Muzlatgich narxi faylini va menyuni yuboring")
    await place.fake.wait_until(lambda: len(place.fake.messages(person.id, tenant.bot)) == 3)
    text, *files = place.fake.messages(person.id, tenant.bot)
    assert (text.method, text.text) == ("sendMessage", TEXT)
    assert {one.method for one in files} == {"sendDocument", "sendPhoto"}
    got = dict(files_of(files))
    assert got["narxlar.txt"] == PRICES.encode() and got["menyu.jpg"].startswith(b"\xff\xd8\xff")
    message = await place.one(select(models.Message).where(models.Message.author == "bot"))
    assert message.text == TEXT
    kept = await place.rows(select(models.Attachment))
    assert {row[0].document_id for row in kept} == {document.id, picture.id}
    assert {(row[0].message_id, row[0].status) for row in kept} == {(message.id, "stored")}
    # Not a byte of them is copied.
    assert not await place.one(select(func.count()).select_from(models.AttachmentContent))
    assert max(map(len, [row[0] for row in await place.rows(select(models.OutboxItem.payload))])) < 500
    talk = await place.one(select(models.Conversation))
    assert "[[file" not in json.dumps(talk.recent) and talk.last_text == TEXT


async def test_in_a_group_the_file_comes_too(small: Floor) -> None:
    tenant = await small.tenant()
    await put(small.core, tenant.shop)
    small.models.reply = sends(1)
    group, person = small.fake.group(-1_004_000_000_077), tenant.person()
    person.send(tenant.bot, f"@{tenant.bot.username} {WISH}", group=group)
    await small.fake.wait_until(lambda: len(small.fake.messages(group.id, tenant.bot)) == 2)
    assert files_of(small.fake.messages(group.id, tenant.bot)) == [("narxlar.txt", PRICES.encode())]


async def test_in_the_owners_own_chats_the_file_comes_too(small: Floor) -> None:
    tenant = await small.tenant()
    await put(small.core, tenant.shop)
    small.models.reply = sends(1)
    owner, connection = await business.connected(small, tenant)
    customer = tenant.person()
    customer.write_to(owner, tenant.bot, connection, WISH)
    await small.fake.wait_until(lambda: len(small.fake.messages(customer.id, tenant.bot)) == 2)
    text, file = small.fake.messages(customer.id, tenant.bot)
    assert (text.text, files_of([file])) == (TEXT, [("narxlar.txt", PRICES.encode())])
    assert file.params["business_connection_id"] in (connection["id"], str(connection["id"]))


async def test_a_bot_without_such_files_asks_its_model_nothing_new(small: Floor) -> None:
    tenant = await small.tenant()
    person = tenant.person()
    await tenant.answered([tenant.ask(person)])
    before = small.models.requests[-1].body
    document = await put(small.core, tenant.shop, shared=False)
    await tenant.answered([tenant.ask(person, WISH)])
    seen = small.models.requests[-1]
    assert seen.body["systemInstruction"] == before["systemInstruction"] and not offered(seen)
    await share(small.core, tenant.shop, document, shared=True)
    await tenant.answered([tenant.ask(person, WISH)])
    seen = small.models.requests[-1]
    assert offered(seen) == [{"file": 1, "name": "narxlar.txt", "shows": "Narxlar ro‘yxati"}]
    assert "[[file N]]" in json.dumps(seen.body["systemInstruction"])


@pytest.mark.parametrize(
    "asked", ["Прайс скиньте пожалуйста", "send me the price list", "нархлар файлини юборинг", WISH]
)
async def test_a_wish_in_any_language_is_offered_the_file(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, asked: str
) -> None:
    async with floor(tmp_path, sqlite_url, *fakes, knowledge={"not_found_below": 0.28}) as place:
        tenant = await place.tenant()
        await put(place.core, tenant.shop, data=b"Nok: 12 000\n")
        place.models.reply = lambda seen: sends(*[one["file"] for one in offered(seen)])(seen)
        person = tenant.person("ru")
        person.send(tenant.bot, asked)
        await place.fake.wait_until(lambda: len(place.fake.messages(person.id, tenant.bot)) == 2)
        assert files_of(place.fake.messages(person.id, tenant.bot)) == [("narxlar.txt", b"Nok: 12 000\n")]


async def test_what_is_not_shared_never_leaves(place: Floor) -> None:
    """Whatever a model writes: numbers that were not offered, names, another owner's file."""
    tenant, other = await place.tenant(), await place.tenant()
    await put(place.core, tenant.shop, shared=False)
    await put(place.core, other.shop, "boshqa.txt", b"Boshqa narxlar: 1 so'm")
    await put(place.core, tenant.shop, "menyu.jpg", encoded(), "Menyu")
    for reply in (sends(1, 2, 9), lambda _seen: f"{TEXT}\n[[narxlar.txt]]\n[[boshqa.txt]]"):
        place.models.reply = reply
        person = tenant.person()
        # Nothing that may be sent is about this.
        person.send(tenant.bot, "Konditsioner necha pul?")
        sent = await place.fake.wait_message(person.id, bot=tenant.bot)
        assert (sent.text, sent.file) == (TEXT, None) and not offered(place.models.requests[-1])
    place.models.reply = sends(2, 7, 1)
    person = tenant.person()
    person.send(tenant.bot, "Menyu rasmini yuboring")
    await place.fake.wait_until(lambda: len(place.fake.messages(person.id, tenant.bot)) == 2)
    assert [name for name, _ in files_of(place.fake.messages(person.id, tenant.bot))] == ["menyu.jpg"]
    assert await place.one(select(func.count()).select_from(models.Attachment)) == 1


async def test_without_a_model_a_wish_is_answered_with_the_file(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    settings: Settings = settings_for(tmp_path, sqlite_url, *fakes, environment={"GEMINI_API_KEY": ""})
    async with running(settings, "worker") as core:
        place = Floor(core, fake, fakes[1], settings)
        tenant = await place.tenant()
        await put(core, tenant.shop)
        await put(core, tenant.shop, "menyu.webp", encoded("WEBP"), "Yozgi menyu")
        person = tenant.person()
        person.send(tenant.bot, WISH)
        await fake.wait_until(lambda: len(fake.messages(person.id, tenant.bot)) == 2)
        assert [name for name, _ in files_of(fake.messages(person.id, tenant.bot))] == ["narxlar.txt"]
        # A picture is all that is known of it; a question about prices is answered with prices and no file.
        person.send(tenant.bot, "Yozgi menyu bormi?")
        await fake.wait_until(lambda: len(fake.messages(person.id, tenant.bot)) == 4)
        text, file = fake.messages(person.id, tenant.bot)[2:]
        assert "Yozgi menyu" in text.text and file.file is not None and file.file.name == "menyu.jpg"
        person.send(tenant.bot, "Konditsioner necha pul?")
        sent = await fake.wait_message(person.id, lambda one: "6 200 000" in one.text, bot=tenant.bot)
        assert sent.file is None and fake.messages(person.id, tenant.bot)[-1] is sent


async def test_a_file_that_alone_is_the_answer_has_a_word_with_it(small: Floor) -> None:
    tenant = await small.tenant()
    await put(small.core, tenant.shop)
    small.models.reply = lambda _seen: "[[file 1]]"
    person = tenant.person()
    person.send(tenant.bot, WISH)
    await small.fake.wait_until(lambda: len(small.fake.messages(person.id, tenant.bot)) == 2)
    text, file = small.fake.messages(person.id, tenant.bot)
    assert text.text.endswith("👇") and file.file is not None
    assert await small.one(select(models.Message.answered).where(models.Message.author == "bot")) is True


async def test_drafts_never_show_the_sign(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    at_once = {"draft_after_s": 0, "drafts_per_second": 20, "group_messages_per_minute": 10_000}
    async with floor(tmp_path, sqlite_url, *fakes, telegram=at_once) as place:
        tenant = await place.tenant()
        await put(place.core, tenant.shop)
        place.models.reply = sends(1, text=" ".join(f"{n}-narx shu." for n in range(12)))
        place.models.pace_s, place.models.drip_octets = 0.004, 24
        place.models.fail("drip")
        person = tenant.person()
        person.send(tenant.bot, WISH)
        await place.fake.wait_until(lambda: len(place.fake.messages(person.id, tenant.bot)) == 2, 60)
        shown = [str(draft["text"]) for draft in tenant.bot.drafts]
        assert len(shown) > 1 and not any("[" in text or "file" in text for text in shown)


# Between the answer and the sending


@pytest.mark.parametrize("what", ["deleted", "withdrawn", "replaced"])
async def test_what_the_owner_takes_back_before_it_is_sent_stays_here(
    tmp_path: Path, database_url: str, fakes: Fakes, what: str
) -> None:
    reached, go_on, passed = asyncio.Event(), asyncio.Event(), 0

    async def pause(point: str) -> None:
        nonlocal passed
        passed += point == "claimed_send"
        if point == "claimed_send" and passed == 2:
            reached.set()
            await go_on.wait()

    async with floor(tmp_path, database_url, *fakes, pause=pause) as place:
        tenant = await place.tenant()
        document = await put(place.core, tenant.shop)
        place.models.reply = sends(1)
        person = tenant.person()
        person.send(tenant.bot, WISH)
        await asyncio.wait_for(reached.wait(), 30)
        if what == "deleted":
            await delete(place.core, tenant.shop, document)
        elif what == "withdrawn":
            await share(place.core, tenant.shop, document, shared=False)
        else:
            await put(place.core, tenant.shop, data=b"Yangi narx: 1 so'm", caption=None, shared=None)
        go_on.set()

        async def done() -> bool:
            # What a deleted document held goes later: until then it can be brought back.
            others = models.Lane.key.not_like("job:forget:%")
            return not await place.one(select(func.sum(models.Lane.pending)).where(others))

        await place.until(done)
        sent = place.fake.messages(person.id, tenant.bot)
        # What was replaced had been promised; it goes as it was.
        expected = [("narxlar.txt", PRICES.encode())] if what == "replaced" else []
        assert sent[0].text == TEXT and files_of(sent) == expected and len(sent) == 1 + len(expected)
        # The text has arrived, and the owner knows what became of the file: nothing is told as lost, or shown as sent.
        message = await place.one(select(models.Message.status).where(models.Message.author == "bot"))
        shown = await place.one(select(models.Attachment.status))
        assert (message, shown) == ("sent", "stored" if expected else "gone")
        assert not [one.kind for one in await place.notices(tenant) if one.kind == "send_failed"]


async def test_what_is_withdrawn_while_the_model_writes_is_not_noted(place: Floor) -> None:
    tenant = await place.tenant()
    document = await put(place.core, tenant.shop)
    loop = asyncio.get_running_loop()

    def reply(seen: Seen) -> str:
        withdrawn = share(place.core, tenant.shop, document, shared=False)
        tasks.append(loop.create_task(withdrawn))
        return sends(1)(seen)

    tasks: list[asyncio.Task[Any]] = []
    place.models.reply, place.models.pace_s, place.models.drip_octets = reply, 0.01, 24
    place.models.fail("drip")
    person = tenant.person()
    person.send(tenant.bot, WISH)
    assert (await place.fake.wait_message(person.id, bot=tenant.bot, timeout=60)).text == TEXT
    await asyncio.gather(*tasks)
    assert not await place.one(select(func.count()).select_from(models.Attachment))
    assert await place.one(select(models.Message.status).where(models.Message.author == "bot")) in ("queued", "sent")


async def test_killed_between_text_and_file_neither_is_lost_nor_doubled(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    settings = settings_for(tmp_path, database_url, fake, fake_models)
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        tenant = await place.tenant()
        await put(place.core, tenant.shop)
    fake_models.reply = sends(1)
    child = await children.start(settings, point="claimed_send", passing=1)
    person = tenant.person()
    person.send(tenant.bot, WISH)
    await child.hears("paused")
    await child.kill()
    assert [one.text for one in fake.messages(person.id, tenant.bot)] == [TEXT]
    child = await children.start(settings)
    await fake.wait_until(lambda: len(fake.messages(person.id, tenant.bot)) == 2)
    await child.stop()
    text, file = fake.messages(person.id, tenant.bot)
    assert (text.text, files_of([file])) == (TEXT, [("narxlar.txt", PRICES.encode())])


async def test_killed_before_the_answer_is_kept_it_is_made_once_more(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    settings = settings_for(tmp_path, sqlite_url, fake, fake_models)
    async with floor(tmp_path, sqlite_url, fake, fake_models) as place:
        tenant = await place.tenant()
        await put(place.core, tenant.shop)
    fake_models.reply = sends(1)
    child = await children.start(settings, point="answered")
    person = tenant.person()
    person.send(tenant.bot, WISH)
    await child.hears("paused")
    await child.kill()
    child = await children.start(settings)
    await fake.wait_until(lambda: len(fake.messages(person.id, tenant.bot)) == 2)
    await child.stop()
    assert len(files_of(fake.messages(person.id, tenant.bot))) == 1


# What stays in conversations


async def test_a_conversation_shows_what_was_sent_after_the_document_is_gone(place: Floor) -> None:
    tenant = await place.tenant()
    document = await put(place.core, tenant.shop)
    unsent = await put(place.core, tenant.shop, "ichki.txt", b"Ichki narx: 5 so'm", "Ichki")
    place.models.reply = sends(1)
    person = tenant.person()
    person.send(tenant.bot, WISH)
    await place.fake.wait_until(lambda: len(place.fake.messages(person.id, tenant.bot)) == 2)
    file = await place.one(select(models.Attachment))
    assert file.document_id == document.id
    for one in (document, unsent):
        await delete(place.core, tenant.shop, one)
    await undo_is_over(place.core)

    async def purged() -> bool:
        left = set(await place.rows(select(models.Document.name)))
        passages = await place.one(select(func.count()).where(models.Chunk.document_id == document.id))
        return left == {("narxlar.txt",), ("savollar.txt",)} and not passages

    await place.until(purged)
    token = attachments.link(place.core, file.id).removeprefix("/files/")
    assert (await attachments.opened(place.core, token))[1] == PRICES.encode()
    # Nobody is offered it any more, and the owner sees no such document.
    async with place.core.db.read() as session:
        bot = await session.get_one(models.Bot, tenant.shop.bot.id)
        assert [one.name for one in await documents.list_for(session, bot)] == ["savollar.txt"]
    person.send(tenant.bot, WISH)
    await place.fake.wait_until(lambda: len(place.fake.messages(person.id, tenant.bot)) == 3)
    assert not offered(place.models.requests[-1])
    # With the conversation its last trace goes.
    async with place.core.db.write() as session:
        await session.execute(update(models.Attachment).values(status="gone"))
    with pytest.raises(NotFound):
        await attachments.opened(place.core, token)


@pytest.mark.parametrize(("status", "left"), [("stored", 1), ("gone", 0)])
async def test_a_deleted_document_goes_when_no_conversation_shows_it(small: Floor, status: str, left: int) -> None:
    tenant = await small.tenant()
    document = await put(small.core, tenant.shop)
    small.models.reply = sends(1)
    person = tenant.person()
    person.send(tenant.bot, WISH)
    await small.fake.wait_until(lambda: len(small.fake.messages(person.id, tenant.bot)) == 2)
    await delete(small.core, tenant.shop, document)
    async with small.core.db.write() as session:
        long_ago = utcnow() - dt.timedelta(days=40)
        deleted = models.Document.deleted_at.is_not(None)
        await session.execute(update(models.Document).where(deleted).values(deleted_at=long_ago))
        await session.execute(update(models.Attachment).values(status=status))
    await upkeep.clean_up(small.core, {})
    kept = select(func.count()).select_from(models.DocumentContent)
    assert await small.one(kept.where(models.DocumentContent.document_id == document.id)) == left


async def test_a_large_base_has_its_files_too(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    async with floor(tmp_path, sqlite_url, *fakes, knowledge={"max_passages_in_memory": 10}) as place:
        tenant = await place.tenant()
        table = "nomi,narxi\n" + "".join(f"Mahsulot {n},{n} 000 so'm\n" for n in range(1, 40))
        await put(place.core, tenant.shop, "narxlar.csv", table.encode())
        place.models.reply = sends(1)
        person = tenant.person()
        person.send(tenant.bot, "Narxlar ro'yxati bormi?")
        await place.fake.wait_until(lambda: len(place.fake.messages(person.id, tenant.bot)) == 2)
        assert files_of(place.fake.messages(person.id, tenant.bot)) == [("narxlar.csv", table.encode())]


# The owner's side


async def test_a_new_version_is_shared_as_the_old_one_was(place: Floor) -> None:
    shop = await make_shop(place.core, document=None)
    first = await put(place.core, shop)
    second = await put(place.core, shop, "NARXLAR.txt", b"Yangi narx: 1 so'm", caption=None, shared=None)
    assert (second.shared, second.caption) == (True, "Narxlar ro‘yxati") and first.id != second.id
    captions = await place.rows(
        select(models.Chunk.document_id, models.Chunk.text).where(models.Chunk.locus == "caption")
    )
    assert (second.id, "Narxlar ro‘yxati") in captions
    await share(place.core, shop, second, shared=False, caption="Eski")
    third = await put(place.core, shop, "narxlar.txt", b"Yana narx: 2 so'm", caption=None, shared=None)
    assert (third.shared, third.caption) == (False, "Eski")
    # Not shared, a text has no passage but its own.
    assert not await place.rows(
        select(models.Chunk.id).where(models.Chunk.locus == "caption", models.Chunk.document_id == third.id)
    )


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("bomba.png", bomb(100_000, 100_000), "large_picture"),
        ("kesilgan.jpg", encoded("JPEG", (400, 400))[:-300], "bad_picture"),
        ("buzilgan.png", b"\x89PNG\r\n\x1a\nbroken", "bad_picture"),
    ],
)
async def test_a_picture_that_cannot_be_opened_says_why(small: Floor, name: str, data: bytes, reason: str) -> None:
    shop = await make_shop(small.core, document=None)
    document = await put(small.core, shop, name, data, "Menyu")
    assert (document.status, document.error_code, document.serving) == ("failed", reason, False)
    assert documents.error_text(document) is not None


@pytest.mark.parametrize(
    ("name", "data", "caption", "field"),
    [
        ("rasm.heic", b"\x00\x00\x00\x18ftypheic", "Menyu", "file"),
        ("rasm.svg", b"<svg/>", "Menyu", "file"),
        ("rasm.gif", animated(2), "Menyu", "file"),
        ("rasm.jpg", b"\x00\x00\x00\x18ftypheic" + b"\0" * 20, "Menyu", "file"),
        ("rasm.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "Menyu", "file"),
        ("rasm.webp", animated(2), "Menyu", "file"),
        ("rasm.jpg", encoded("JPEG"), "", "caption"),
        ("rasm.jpg", encoded("JPEG"), " …!", "caption"),
        ("rasm.jpg", encoded("JPEG"), "ж" * 301, "caption"),
        ("narx.txt", b"narx", "ж" * 301, "caption"),
        ("rasm.jpg", b"", "Menyu", "file"),
    ],
)
async def test_what_is_no_picture_for_customers_is_refused_at_once(
    small: Floor, name: str, data: bytes, caption: str, field: str
) -> None:
    shop = await make_shop(small.core, document=None)
    with pytest.raises(Invalid) as raised:
        await put(small.core, shop, name, data, caption)
    assert raised.value.field == field
    assert not await small.one(select(func.count()).select_from(models.Document))


async def test_a_picture_keeps_nothing_of_the_file_and_its_words_can_change(small: Floor) -> None:
    tenant = await small.tenant(document=None)
    secret = encoded("JPEG", exif=b"Exif\0\0KANAREYKA")
    document = await put(small.core, tenant.shop, "xona.jpg", secret + b"KANAREYKA", "Qizil  xona\n")
    content = await small.one(select(models.DocumentContent.content))
    assert b"KANAREYKA" not in content and content.startswith(b"\xff\xd8\xff") and document.size == len(content)
    assert document.caption == "Qizil xona"
    with pytest.raises(Invalid):
        await share(small.core, tenant.shop, document, caption="  ")
    await share(small.core, tenant.shop, document, caption="Ko‘k xona")
    small.models.reply = sends(1)
    person = tenant.person()
    person.send(tenant.bot, "Ko'k xona qanaqa?")
    await small.fake.wait_until(lambda: len(small.fake.messages(person.id, tenant.bot)) == 2)
    assert [row[0] for row in await small.rows(select(models.Chunk.text))] == ["Ko‘k xona"]


async def test_another_owners_document_cannot_be_shared(small: Floor) -> None:
    shop, other = await make_shop(small.core), await make_shop(small.core, email="b@example.uz")
    document = await put(small.core, other, shared=False)
    with pytest.raises(AppError):
        async with small.core.db.write() as session:
            bot = await session.get_one(models.Bot, shop.bot.id)
            await documents.share(session, bot, await documents.get(session, bot, document.id), shared=True)
    assert not await small.one(select(models.Document.shared).where(models.Document.id == document.id))


# WhatsApp, Instagram


@pytest.fixture
async def line(database_url: str, tmp_path: Path, fakes: Fakes) -> AsyncIterator[WhatsAppLine]:
    async with FakeGraph() as graph, whatsapp_line(tmp_path, database_url, graph, fakes) as connected:
        yield connected


async def test_whatsapp_gets_the_text_and_then_the_files(line: WhatsAppLine) -> None:
    await put(line.place.core, line.shop)
    await put(line.place.core, line.shop, "menyu.png", encoded("PNG"), "Yozgi menyu")
    line.place.models.reply = sends(1, 2)
    assert await line.deliver(line.number.message(WHATSAPP_ASKER, "Narxlar faylini va yozgi menyuni yuboring")) == 200
    text, *files = await line.number.wait_sent(3)
    assert text["text"]["body"] == TEXT and {one["type"] for one in files} == {"document", "image"}
    document = next(one["document"] for one in files if one["type"] == "document")
    assert document["filename"] == "narxlar.txt"
    assert PRICES.encode() in [media.content for media in line.number.uploads]


@pytest.mark.parametrize("public", ["", "https://bots.example.uz"])
async def test_instagram_gets_pictures_and_the_address_of_other_files(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, public: str
) -> None:
    server: dict[str, Any] = {"server": {"public_url": public}} if public else {}
    async with FakeInstagram() as own, FakeInstagram(pages=True) as pages:
        meta = Meta(own, pages)
        async with instagram_line(tmp_path, sqlite_url, meta, fakes, **server) as line:
            await put(line.place.core, line.shop)
            await put(line.place.core, line.shop, "menyu.png", encoded("PNG"), "Yozgi menyu")
            line.place.models.reply = lambda seen: sends(*[one["file"] for one in offered(seen)])(seen)
            await line.deliver(line.account.message(INSTAGRAM_ASKER, "Narxlar faylini va yozgi menyu rasmini yuboring"))
            if not public:
                # Instagram could fetch nothing from here: nothing is offered.
                (text,) = await line.account.wait_sent(1)
                assert text["message"]["text"] == TEXT and not offered(line.place.models.requests[-1])
                return
            text, *files = [one["message"] for one in await line.account.wait_sent(3)]
            assert text["text"] == TEXT
            link = next(one["text"] for one in files if "text" in one)
            picture = next(one["attachment"] for one in files if "attachment" in one)
            assert picture["type"] == "image" and link.startswith("📄 narxlar.txt\n")
            for address, content in ((picture["payload"]["url"], b"\xff\xd8\xff"), (link.split()[-1], PRICES.encode())):
                local = line.webhook.removesuffix("/instagram/webhook") + address.removeprefix(public)
                async with aiohttp.ClientSession() as http, http.get(local) as answer:
                    assert answer.status == 200 and (await answer.read()).startswith(content)


async def test_what_is_too_large_for_a_network_is_not_offered(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        tenant = await place.tenant()
        document = await put(place.core, tenant.shop)
        async with place.core.db.write() as session:
            await session.execute(
                update(models.Document).where(models.Document.id == document.id).values(size=51 * 2**20)
            )
            await session.execute(update(models.Bot).values(knowledge_version=models.Bot.knowledge_version + 1))
        place.models.reply = sends(1)
        person = tenant.person()
        person.send(tenant.bot, WISH)
        sent = await place.fake.wait_message(person.id, bot=tenant.bot)
        assert (sent.text, sent.file) == (TEXT, None) and not offered(place.models.requests[-1])
