"""A document sent at any time."""

from __future__ import annotations

import asyncio
import unicodedata

import pytest
from sqlalchemy import select

from db import models
from handlers import progress
from handlers.storage import Watch, all_watches, keep_watch
from services.i18n import LANGUAGES, translate_plural
from services.knowledge import documents
from tests.composition import FAQ
from tests.conveyor.clock import due, waits
from tests.conveyor.harness import until
from tests.handlers.conftest import TENANT, Person, Product, Start


async def known(product: Product, owner: Person) -> list[str]:
    """Return the names of the documents of the person's bots."""
    names = []
    for tenant in await product.bots_of(owner):
        async with product.core.db.read() as session:
            names += [document.name for document in await documents.list_for(session, tenant)]
    return names


@pytest.mark.parametrize("language", LANGUAGES)
async def test_one_message_tells_how_the_reading_goes(product: Product, language: str) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000301, language)
    await product.make_bot(owner, token=TENANT)
    owner.user.send_document(product.factory, "savollar.txt", FAQ.encode())
    message = await owner.hears("savollar.txt")
    await product.fake.wait_edit(message, "✅")
    async with product.core.db.read() as session:
        (document,) = await documents.list_for(session, (await product.bots_of(owner))[0])
    count = document.chunk_count
    assert count
    assert translate_plural(language, "Ready: {n} passage", "Ready: {n} passages", count) in message.text
    links = [button["url"] for button in message.buttons]
    assert links[-1] == "https://t.me/chinor_bot"
    assert all(link.startswith("https://t.me/chinor_bot?text=") for link in links[:-1])
    assert 2 <= len(links) <= 4, "questions that the document answers, and the bot"
    assert len(product.fake.messages(owner.user.id)) == 1


async def test_a_file_that_cannot_be_read_says_why(product: Product) -> None:
    owner = await product.owner(900000302)
    await product.make_bot(owner)
    owner.user.send_document(product.factory, "narxlar.pdf", b"%PDF-1.7 this is not one")
    message = await owner.hears(lambda sent: sent.text.startswith("narxlar.pdf"))
    await product.fake.wait_edit(message, "⚠️")
    assert not message.buttons, "the same bytes would be refused again"


async def test_what_may_be_over_is_tried_again(product: Product) -> None:
    owner = await product.owner(900000314)
    tenant = await product.make_bot(owner)
    async with product.core.db.write() as session:
        for name, code in (("savollar.txt", "timeout"), ("yopiq.txt", "encrypted")):
            failed = models.Document(bot_id=tenant.id, name=name, kind="txt", status="failed", error_code=code)
            session.add(failed)
            await session.flush()
            session.add(models.DocumentContent(document_id=failed.id, content=FAQ.encode()))
    menu = await owner.says("/knowledge", owner.text("Documents of “{name}”", name="Chinor Stom"))
    await owner.presses(menu, "yopiq.txt", "yopiq.txt")
    assert not any(owner.text("Try again") in key["text"] for key in menu.buttons)
    await owner.presses(menu, owner.text("Back"))
    await owner.presses(menu, "savollar.txt", "savollar.txt")
    owner.user.press(menu, owner.text("Try again"))
    again = await owner.hears(lambda sent: sent.text.startswith("savollar.txt") and sent is not menu)
    await product.fake.wait_edit(again, "✅")


@pytest.mark.parametrize(
    "name", ["photo.heic", "drawing.svg", "archive.zip", "table.xlsx", "noname", ".env", "a.pdf.exe"]
)
async def test_other_kinds_of_files_are_refused_before_the_download(product: Product, name: str) -> None:
    owner = await product.owner(900000303)
    await product.make_bot(owner)
    owner.user.send_document(product.factory, name, b"something")
    kind = (
        "This kind of file cannot be read. Upload a PDF, Word (.docx), CSV or text (.txt) file, or a picture (JPEG, PNG, "
        "WebP)."
    )
    # Most price lists are kept in Excel: what to do with one is said.
    table = "This is a spreadsheet. Save it in Excel as “CSV UTF-8” and add that file."
    await owner.hears(owner.text(table if name == "table.xlsx" else kind))
    assert not product.fake.called("getFile", product.factory)


async def test_a_file_over_the_limit_is_refused_before_the_download(product: Product) -> None:
    owner = await product.owner(900000304)
    await product.make_bot(owner)
    owner.user.send_document(product.factory, "katta.pdf", b"%PDF", size=10 * 1_048_576 + 1)
    await owner.hears(owner.text("The file is larger than {n} MB. Split it or send a smaller one.", n=10))
    assert not product.fake.called("getFile", product.factory)


async def test_a_hostile_name_is_only_a_title(product: Product) -> None:
    owner = await product.owner(900000305)
    await product.make_bot(owner)
    owner.user.send_document(product.factory, "../../<b>etc</b>\u202e&amp;.txt", FAQ.encode())
    message = await owner.hears(lambda sent: ".txt" in sent.text)
    await product.fake.wait_edit(message, "✅")
    (name,) = await known(product, owner)
    assert "/" not in name and name in message.text


async def test_with_several_bots_the_owner_is_asked(start: Start) -> None:
    async with start() as product:
        owner = await product.owner(900000306)
        await product.make_bot(owner, "Chinor")
        second = await product.make_bot(owner, "Nur")
        owner.user.send_document(product.factory, "savollar.txt", FAQ.encode())
        question = await owner.hears("savollar.txt")
    # The question is answered after a restart.
    async with start() as product:
        owner.user.press(question, "Nur")
        message = await owner.hears(lambda sent: sent.text.startswith("savollar.txt"))
        await product.fake.wait_edit(message, "✅")
        async with product.core.db.read() as session:
            assert len(await documents.list_for(session, second)) == 1
        assert await known(product, owner) == ["savollar.txt"]
        # Pressed once more: the file has gone where it belongs.
        press = owner.user.press(question, question_data(owner, product), stale=True)
        await product.fake.wait_until(lambda: press.answered)
        assert press.text == owner.text("This menu is out of date. Please send the file again.")


def question_data(owner: Person, product: Product) -> str:
    """Return the data of the last button that put a file somewhere."""
    return next(press.data for press in product.factory.presses.values() if press.user is owner.user)


async def test_a_file_sent_before_the_first_bot_waits_for_it(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000307)
    owner.user.send_document(product.factory, "savollar.txt", FAQ.encode())
    await owner.hears("savollar.txt")
    await owner.hears(owner.text("Let’s create your bot."))
    await owner.says(TENANT, "@chinor_bot")
    message = await owner.hears(lambda sent: sent.text.startswith("savollar.txt"))
    await product.fake.wait_edit(message, "✅")
    assert await known(product, owner) == ["savollar.txt"]


async def test_the_end_is_told_after_a_restart(start: Start) -> None:
    # The edit that is held back below must not hold the stop for long.
    async with start(overrides={"server": {"shutdown_timeout_s": 2}}) as product:
        owner = await product.owner(900000308)
        await product.make_bot(owner)
        held = product.fake.hold(method="editMessageText", chat_id=owner.user.id)
        owner.user.send_document(product.factory, "savollar.txt", FAQ.encode())
        message = await owner.hears("savollar.txt")
        async with asyncio.timeout(20):
            await held.reached.wait()
    held.times = 0
    held.release()
    async with start() as product:
        await product.fake.wait_edit(message, "✅")


async def test_the_same_file_again_replaces_the_old_one(product: Product) -> None:
    owner = await product.owner(900000309)
    await product.make_bot(owner)
    for text in (FAQ, FAQ + "\nSavol: Bolalar uchunmi?\nJavob: Ha, albatta.\n"):
        owner.user.send_document(product.factory, "savollar.txt", text.encode())
        message = await owner.hears("savollar.txt")
        await product.fake.wait_edit(message, "✅")
    assert await known(product, owner) == ["savollar.txt"]


async def test_the_same_file_from_a_mac_replaces_the_old_one(product: Product) -> None:
    owner = await product.owner(900000316)
    await product.make_bot(owner)
    name = "Прайс-Йил.txt"
    for sent, text in ((name, FAQ), (unicodedata.normalize("NFD", name).upper(), FAQ + "\nDam olish kuni yo'q.\n")):
        owner.user.send_document(product.factory, sent, text.encode())
        message = await owner.hears(unicodedata.normalize("NFC", sent))
        await product.fake.wait_edit(message, "✅")
    assert await known(product, owner) == [name.upper()]


async def test_the_question_which_bot_names_the_file_as_people_write_it(product: Product) -> None:
    owner = await product.owner(900000317)
    await product.make_bot(owner, "Chinor")
    await product.make_bot(owner, "Nur")
    owner.user.send_document(product.factory, "%D0%9F%D1%80%D0%B0%D0%B8%CC%86%D1%81.txt", FAQ.encode())
    question = await owner.hears("Прайс.txt")
    owner.user.press(question, "Nur")
    message = await owner.hears(lambda sent: sent.text.startswith("Прайс.txt"))
    await product.fake.wait_edit(message, "✅")
    assert await known(product, owner) == ["Прайс.txt"]


async def test_a_file_sent_again_under_its_right_name_is_taken_in(product: Product) -> None:
    owner = await product.owner(900000316)
    tenant = await product.make_bot(owner)
    old, new = "Muzlatgich Artel: 4 000 000 so'm.", "Muzlatgich Artel: 5 500 000 so'm."
    for name, text in (("narxlar.txt", old), ("narxlar (1).txt", new), ("narxlar.txt", new)):
        owner.user.send_document(product.factory, name, text.encode())
        message = await owner.hears(name)
        await product.fake.wait_edit(message, "✅")
    async with product.core.db.read() as session:
        passages = await session.execute(
            select(models.Document.name, models.Chunk.text)
            .join(models.Chunk, models.Chunk.document_id == models.Document.id)
            .where(models.Document.bot_id == tenant.id, models.Document.serving)
        )
    serving = {row.name: row.text for row in passages}
    assert serving.keys() == {"narxlar.txt", "narxlar (1).txt"}
    assert all("5 500 000" in text for text in serving.values())


async def test_a_promise_of_a_process_that_ended_is_kept_by_one_that_runs(product: Product) -> None:
    owner = await product.owner(900000317)
    tenant = await product.make_bot(owner)
    core = product.core
    async with core.db.write() as session:
        failed = models.Document(
            bot_id=tenant.id, name="yopiq.pdf", kind="pdf", status="failed", error_code="encrypted"
        )
        session.add(failed)
    message = await owner.says("/help")
    promise = Watch(failed.id, tenant.id, owner.user.id, message.message_id, "uz", holder="another")
    await keep_watch(core.db, promise, 3600)
    await due("promises")
    await waits("promises")
    assert [watch.holder for watch in await all_watches(core.db)] == ["another"]
    assert not product.fake.called("editMessageText")
    # It was killed: nobody renews what it held.
    await keep_watch(core.db, promise, -1)
    await due("promises")
    await product.fake.wait_edit(message, "yopiq.pdf\n⚠️")

    async def kept() -> bool:
        return not await all_watches(core.db)

    await until(kept)


async def test_a_file_replaced_before_it_is_read_says_so(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LOOK_EVERY_S", 0.05)
    owner = await product.owner(900000315)
    await product.make_bot(owner)
    go_on = asyncio.Event()

    async def pause(point: str) -> None:
        if point == "ingest":
            await go_on.wait()

    monkeypatch.setattr(product.core, "pause", pause)
    owner.user.send_document(product.factory, "boshqa.txt", b"Bizda velosiped ijarasi bor.")
    read = await owner.hears("boshqa.txt")
    owner.user.send_document(product.factory, "savollar.txt", b"Salom, bu birinchi matn.")
    replaced = await owner.hears("savollar.txt")
    owner.user.send_document(product.factory, "savollar.txt", FAQ.encode())
    newer = await owner.hears(lambda sent: sent.text.startswith("savollar.txt") and sent is not replaced)
    await product.fake.wait_edit(replaced, owner.text("This document was replaced or deleted."))
    go_on.set()
    for message in (read, newer):
        await product.fake.wait_edit(message, "✅")
    assert await known(product, owner) == ["savollar.txt", "boshqa.txt"]


async def test_a_repeated_update_stores_the_file_once(product: Product) -> None:
    owner = await product.owner(900000310)
    await product.make_bot(owner)
    sent = owner.user.send_document(product.factory, "savollar.txt", FAQ.encode())
    message = await owner.hears("savollar.txt")
    assert product.core.factory is not None
    # As after a crash: the same message in an update that this process has not seen.
    await product.core.factory.handle({"update_id": 5, "message": sent})
    await product.fake.wait_edit(message, "✅")
    assert await known(product, owner) == ["savollar.txt"]


async def test_documents_are_listed_and_deleted(product: Product) -> None:
    owner = await product.owner(900000311)
    await product.make_bot(owner)
    owner.user.send_document(product.factory, "savollar.txt", FAQ.encode())
    message = await owner.hears("savollar.txt")
    await product.fake.wait_edit(message, "✅")
    page = await owner.says("/knowledge", owner.text("Documents of “{name}”", name="Chinor Stom"))
    await owner.presses(page, "savollar.txt", "✅")
    await owner.presses(page, owner.text("Delete"), owner.text("The bot will no longer answer from it."))
    await owner.presses(page, owner.text("Yes, delete"))
    assert await known(product, owner) == []


async def test_a_failed_download_is_tried_again(product: Product) -> None:
    owner = await product.owner(900000312)
    await product.make_bot(owner)
    product.fake.fail(502, method="getFile", times=1)
    owner.user.send_document(product.factory, "savollar.txt", FAQ.encode())
    message = await owner.hears("savollar.txt")
    await product.fake.wait_edit(message, "✅")
    assert await known(product, owner) == ["savollar.txt"]
