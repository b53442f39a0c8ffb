"""Files that operators send to customers, by every network: what arrives, what is refused, what is never repeated."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select, update

from db import models
from db.base import utcnow
from services import conversations, outfiles
from services.conversations.files import NewFile
from services.errors import AppError, Conflict, Invalid, TooLarge, TooMany
from services.sniffing import mime_of
from tests.composition import Shop, make_shop
from tests.conveyor import lines
from tests.conveyor.harness import Floor, Tenant, floor, settings_for
from tests.conveyor.nursery import Nursery
from tests.fakes.graph import FakeGraph
from tests.fakes.instagram import FakeInstagram
from tests.fakes.meta import Meta, add_number
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser
from tests.services.test_pictures import encoded

Fakes = tuple[FakeTelegram, FakeModels]
PDF = b"%PDF-1.4 narxlar"
VOICE = b"OggS\x00\x02" + b"\x00" * 8 + b"opus"
MP3 = b"ID3\x04\x00\x00sound"
MP4 = b"\x00\x00\x00\x18ftypisom" + b"\x00" * 16
ZIP = b"PK\x03\x04" + b"\x00" * 40
XLSX = ZIP + b"[Content_Types].xml" + b"xl/workbook.xml"


@pytest.fixture
async def place(tmp_path: Path, database_url: str, fakes: Fakes) -> AsyncIterator[Floor]:
    async with floor(tmp_path, database_url, *fakes) as started:
        yield started


async def _talk_id(place: Floor, shop: Shop) -> str:
    found: str = await place.one(select(models.Conversation.id).where(models.Conversation.bot_id == shop.bot.id))
    return found


async def _send(place: Floor, shop: Shop, name: str, data: bytes, text: str = "", **more: Any) -> models.Message:
    """Send a file as the owner does in the panel."""
    talk_id = await _talk_id(place, shop)
    async with place.core.db.read() as session:
        kind = (await conversations.get(session, shop.owner, talk_id)).channel.kind
    file = await outfiles.prepare(place.core, kind, talk_id, name, data, **more)
    return await _reply(place, shop, text, file)


async def _reply(place: Floor, shop: Shop, text: str, file: NewFile) -> models.Message:
    talk_id = await _talk_id(place, shop)
    async with place.core.db.write() as session:
        row = await conversations.get(session, shop.owner, talk_id)
        message = await conversations.operator_reply(session, row, text, author=shop.owner, file=file)
    place.core.bell.ring("outbox")
    return message


async def _status(place: Floor, message: models.Message, wanted: str) -> None:
    query = select(models.Message.status).where(models.Message.id == message.id)

    async def reached() -> bool:
        return bool(await place.one(query) == wanted)

    await place.until(reached)


async def _met(place: Floor) -> tuple[Tenant, FakeUser]:
    """Return a bot and somebody who has written to it."""
    shop = await place.tenant()
    person = shop.person()
    await shop.answered([shop.ask(person)])
    return shop, person


async def test_telegram_gets_each_file_as_what_it_is(place: Floor) -> None:
    shop, person = await _met(place)
    wanted = [
        ("rasm.png", encoded("PNG"), "", "sendPhoto", "rasm.jpg"),
        ("ovoz.ogg", VOICE, "voice", "sendVoice", "ovoz.ogg"),
        ("qo‘shiq.mp3", MP3, "", "sendAudio", "qo‘shiq.mp3"),
        ("video.mp4", MP4, "", "sendVideo", "video.mp4"),
        ("narxlar.pdf", PDF, "", "sendDocument", "narxlar.pdf"),
        ("jadval.xlsx", XLSX, "", "sendDocument", "jadval.xlsx"),
    ]
    for number, (name, data, kind, method, shown) in enumerate(wanted):
        message = await _send(place, shop.shop, name, data, f"Mana {number}", kind=kind)
        sent = await place.fake.wait_message(person.id, f"Mana {number}", bot=shop.bot)
        assert (sent.method, sent.file and sent.file.name) == (method, shown)
        await _status(place, message, "sent")
    payloads = [row[0] for row in await place.rows(select(models.OutboxItem.payload))]
    files = [json.loads(each)["file"] for each in payloads if "file" in json.loads(each)]
    # The outbox holds what it is and no byte of it.
    assert len(files) == len(wanted) and max(map(len, payloads)) < 500
    assert files[0][1:3] == ["photo", "image/jpeg"]
    talk = await place.one(select(models.Conversation))
    assert talk.status == "human" and talk.last_text.startswith("📎 jadval.xlsx")


async def test_a_text_that_does_not_fit_under_a_file_comes_after_it(place: Floor) -> None:
    shop, person = await _met(place)
    await _send(place, shop.shop, "narxlar.pdf", PDF, "oxiri " + "ж" * 1018 + "!")
    await place.fake.wait_message(person.id, lambda one: one.text.endswith("ж!"), bot=shop.bot)
    file, text = place.fake.messages(person.id, shop.bot)[-2:]
    assert (file.method, file.text, text.method) == ("sendDocument", "", "sendMessage")
    await _send(place, shop.shop, "narxlar.pdf", PDF, "ж" * 1024)
    sent = await place.fake.wait_message(person.id, "ж" * 1024, bot=shop.bot)
    assert sent.method == "sendDocument"


async def test_what_telegram_takes_not_as_a_picture_goes_as_a_document(place: Floor) -> None:
    shop, person = await _met(place)
    place.fake.fail(400, "Bad Request: PHOTO_INVALID_DIMENSIONS", method="sendPhoto", times=1)
    message = await _send(place, shop.shop, "uzun.jpg", encoded(), "Mana")
    sent = await place.fake.wait_message(person.id, "Mana", bot=shop.bot)
    assert sent.method == "sendDocument"
    await _status(place, message, "sent")


async def test_what_is_not_sent_is_said_and_leaves_nothing(place: Floor) -> None:
    shop, _ = await _met(place)
    cases: list[tuple[str, bytes, type[AppError], str]] = [
        ("bo‘sh.pdf", b"", Invalid, "empty"),
        ("narx.pdf", b"<!doctype html><script>alert(1)</script>", Invalid, "cannot be sent"),
        ("rasm.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', Invalid, "cannot be sent"),
        ("narx.pdf", b"MZ\x90\x00", Invalid, "cannot be sent"),
        ("buzilgan.jpg", b"\xff\xd8\xff\xe0broken", Invalid, "cannot be sent"),
        ("katta.pdf", PDF + b"x" * (10 * 2**20), TooLarge, "at most 10 MB"),
    ]
    for name, data, expected, words in cases:
        with pytest.raises(expected) as raised:
            await _send(place, shop.shop, name, data)
        assert words in raised.value.text.render("en"), name
    assert not await place.one(select(func.count()).select_from(models.Attachment))
    talk_id = await _talk_id(place, shop.shop)
    for _ in range(place.settings.media.files_per_hour):
        if not await place.core.limits.hit(f"files-out:{talk_id}", place.settings.media.files_per_hour, 3600):
            break
    with pytest.raises(TooMany):
        await _send(place, shop.shop, "narx.pdf", PDF)


async def test_twice_the_same_form_writes_once_and_another_file_goes(place: Floor) -> None:
    shop, person = await _met(place)
    talk_id = await _talk_id(place, shop.shop)
    seen = await place.one(select(func.max(models.Message.id)))
    ids = []
    for data in (PDF, PDF, PDF + b" 2"):
        file = await outfiles.prepare(place.core, "telegram", talk_id, "narxlar.pdf", data)
        async with place.core.db.write() as session:
            row = await conversations.get(session, shop.shop.owner, talk_id)
            written = await conversations.operator_reply(
                session, row, "Mana", author=shop.shop.owner, file=file, seen=seen
            )
        ids.append(written.id)
    async with place.core.db.write() as session:
        row = await conversations.get(session, shop.shop.owner, talk_id)
        words = await conversations.operator_reply(session, row, "Mana", author=shop.shop.owner, seen=seen)
    place.core.bell.ring("outbox")
    assert ids[0] == ids[1] != ids[2] and words.id not in ids
    await _status(place, words, "sent")
    methods = [one.method for one in place.fake.messages(person.id, shop.bot)][-3:]
    assert methods == ["sendDocument", "sendDocument", "sendMessage"]


async def test_another_owners_file_never_leaves(place: Floor) -> None:
    """Whatever stands in the outbox: a file goes with its own message, by its own bot."""
    shop, person = await _met(place)
    other, stranger = await _met(place)
    await _send(place, other.shop, "sir.pdf", PDF, "Sizga")
    await place.fake.wait_message(stranger.id, "Sizga", bot=other.bot)
    foreign = await place.one(select(models.Attachment.id))
    async with place.core.db.write() as session:
        row = await conversations.get(session, shop.shop.owner, await _talk_id(place, shop.shop))
        await conversations.operator_reply(session, row, "Hujjat", author=shop.shop.owner)
        await session.execute(
            update(models.OutboxItem)
            .where(models.OutboxItem.status == "queued")
            .values(payload=json.dumps({"text": "Hujjat", "file": [foreign, "document", "application/pdf", "sir.pdf"]}))
        )
    message = await place.one(
        select(models.Message).where(models.Message.text == "Hujjat", models.Message.author == "operator")
    )
    place.core.bell.ring("outbox")
    await _status(place, message, "failed")
    assert not [one for one in place.fake.messages(person.id, shop.bot) if one.file is not None]


async def test_killed_before_it_is_sent_it_is_sent_once(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    settings = settings_for(tmp_path, database_url, fake, fake_models)
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop, person = await _met(place)

        async def idle() -> bool:
            return not await place.one(select(func.sum(models.Lane.pending)))

        await place.until(idle)
    async with floor(tmp_path, database_url, fake, fake_models, role="web") as place:
        await _send(place, shop.shop, "narxlar.pdf", PDF, "Mana narxlar")
    child = await children.start(settings, point="claimed_send")
    await child.hears("paused")
    await child.kill()
    child = await children.start(settings)
    sent = await fake.wait_message(person.id, "Mana narxlar", bot=shop.bot, timeout=30)
    assert sent.file is not None and sent.file.content == PDF
    await child.stop()
    assert len([one for one in fake.messages(person.id, shop.bot) if one.file is not None]) == 1


async def test_an_answer_that_is_lost_is_not_repeated(place: Floor) -> None:
    shop, person = await _met(place)
    place.fake.cut("after", method="sendDocument")
    message = await _send(place, shop.shop, "narxlar.pdf", PDF, "Mana")
    await _status(place, message, "unknown")
    calls = [call for call in place.fake.calls if call.method == "sendDocument"]
    assert len(calls) == 1 and person.id


# WhatsApp


@pytest.fixture
async def line(sqlite_url: str, tmp_path: Path, fakes: Fakes) -> AsyncIterator[lines.WhatsAppLine]:
    async with FakeGraph() as graph:
        number = add_number(graph)
        async with lines.running_whatsapp(tmp_path, sqlite_url, graph, fakes) as (place, session):
            shop = await make_shop(place.core)
            assert (await lines.connect_whatsapp(place.core, session, shop))[0] == 201
            line = lines.WhatsAppLine(place, shop, session, graph, number)
            await line.ask(1)
            await number.wait_sent(1)
            yield line


async def test_whatsapp_gets_files(line: lines.WhatsAppLine) -> None:
    for name, data, text in (
        ("rasm.png", encoded("PNG"), "Mana rasm"),
        ("narx.pdf", PDF, "Mana narx"),
        ("v.mp4", MP4, ""),
    ):
        await _send(line.place, line.shop, name, data, text)
    sent = (await line.number.wait_sent(4))[1:]
    assert [one["type"] for one in sent] == ["image", "document", "video"]
    assert sent[0]["image"]["caption"] == "Mana rasm"
    assert (sent[1]["document"]["caption"], sent[1]["document"]["filename"]) == ("Mana narx", "narx.pdf")
    contents = [media.content for media in line.number.uploads]
    assert contents[0].startswith(b"\xff\xd8\xff") and contents[1:] == [PDF, MP4]
    # Nothing stands under sound there.
    message = await _send(line.place, line.shop, "m.mp3", MP3, "Eshiting")
    sound, words = (await line.number.wait_sent(6))[4:]
    assert (sound["type"], "caption" in sound["audio"]) == ("audio", False)
    assert words["text"]["body"] == "Eshiting"
    await _status(line.place, message, "sent")


async def test_whatsapp_brings_a_file_again_and_sends_it_once(line: lines.WhatsAppLine) -> None:
    line.graph.cut(on="upload")
    message = await _send(line.place, line.shop, "narx.pdf", PDF, "Mana")
    await line.number.wait_sent(2)
    await _status(line.place, message, "sent")
    assert [one["type"] for one in line.number.sent] == ["text", "document"]


async def test_what_whatsapp_does_not_take_is_said_before(line: lines.WhatsAppLine) -> None:
    with pytest.raises(Invalid) as raised:
        await _send(line.place, line.shop, "arxiv.zip", ZIP)
    assert "WhatsApp does not take files of this kind" in raised.value.text.render("en")
    async with line.place.core.db.write() as session:
        old = utcnow() - dt.timedelta(hours=25)
        await session.execute(update(models.Conversation).values(last_inbound_at=old))
    with pytest.raises(Conflict) as closed:
        await _send(line.place, line.shop, "narx.pdf", PDF)
    assert closed.value.code == "window_closed"
    assert not await line.place.one(select(func.count()).select_from(models.AttachmentContent))


# Instagram


@pytest.mark.parametrize("public", ["", "https://bots.example.uz"])
async def test_instagram_fetches_files_from_a_public_address(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, public: str
) -> None:
    server: dict[str, Any] = {"server": {"public_url": public}} if public else {}
    async with FakeInstagram() as own, FakeInstagram(pages=True) as pages:
        meta = Meta(own, pages)
        async with lines.instagram_line(tmp_path, sqlite_url, meta, fakes, **server) as line:
            await line.ask(1)
            await line.account.wait_sent(1)
            if not public:
                with pytest.raises(Invalid) as raised:
                    await _send(line.place, line.shop, "rasm.jpg", encoded())
                assert "public https address" in raised.value.text.render("en")
                return
            with pytest.raises(Invalid):
                await _send(line.place, line.shop, "arxiv.zip", ZIP)
            message = await _send(line.place, line.shop, "rasm.jpg", encoded(), "Mana rasm")
            picture, words = (await line.account.wait_sent(3))[1:]
            attachment = picture["message"]["attachment"]
            assert attachment["type"] == "image" and "text" not in picture["message"]
            assert attachment["payload"]["url"].startswith(f"{public}/files/")
            assert words["message"]["text"] == "Mana rasm"
            await _status(line.place, message, "sent")
            # What Meta would get there.
            local = line.webhook.removesuffix("/instagram/webhook") + attachment["payload"]["url"].removeprefix(public)
            async with aiohttp.ClientSession() as http, http.get(local) as answer:
                assert (answer.status, answer.content_type) == (200, "image/jpeg")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://bots.example.uz", True),
        ("http://bots.example.uz", False),
        ("https://localhost:8080", False),
        ("https://127.0.0.1", False),
        ("https://192.168.1.5", False),
        ("https://server", False),
        ("https://server.local", False),
        ("https://[::1]", False),
        ("https://8.8.8.8", True),
        ("", False),
    ],
)
def test_public_addresses(address: str, expected: bool) -> None:
    assert outfiles.is_public(address) is expected


def test_tables_are_known_by_their_content() -> None:
    assert mime_of(XLSX).endswith("spreadsheetml.sheet") and mime_of(ZIP) == "application/zip"
