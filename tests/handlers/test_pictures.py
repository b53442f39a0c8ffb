"""Pictures for customers, and what they may receive, in the factory bot."""

from __future__ import annotations

import pytest

from db import models
from services.i18n import LANGUAGES
from services.knowledge import documents
from tests.composition import FAQ
from tests.handlers.conftest import Person, Product
from tests.services.test_pictures import encoded

PICTURE = encoded("JPEG", (800, 600))
ASKED = "What does the picture show? Write it in a few words: the bot finds it by them."


async def known(product: Product, owner: Person) -> list[models.Document]:
    """Return the documents of the person's bots."""
    found = []
    for tenant in await product.bots_of(owner):
        async with product.core.db.read() as session:
            found += await documents.list_for(session, tenant)
    return found


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_photo_with_its_caption_is_taken_and_sent_to_customers(product: Product, language: str) -> None:
    owner = await product.owner(900000601, language)
    await product.make_bot(owner)
    owner.user.send_photo(product.factory, PICTURE, caption="Yozgi menyu/ayvon")
    message = await owner.hears("Yozgi menyu ayvon.jpg")
    await product.fake.wait_edit(message, "✅")
    (document,) = await known(product, owner)
    assert (document.caption, document.shared, document.status) == ("Yozgi menyu/ayvon", False, "ready")
    await owner.presses(message, owner.text("Send to customers"), owner.text("Customers may receive this file."))
    assert (await known(product, owner))[0].shared
    await owner.presses(
        message, owner.text("Do not send to customers"), owner.text("Customers do not receive this file.")
    )
    assert not (await known(product, owner))[0].shared


async def test_a_picture_without_words_is_asked_about(product: Product) -> None:
    owner = await product.owner(900000602)
    await product.make_bot(owner)
    owner.user.send_document(product.factory, "xona.png", encoded("PNG"))
    await owner.hears(owner.text(ASKED))
    owner.user.send(product.factory, "…")
    await owner.hears(owner.text("Write it in words, please."))
    owner.user.send(product.factory, "ж" * 301)
    await owner.hears(owner.text("This is too long: at most {n} characters.", n=300))
    owner.user.send(product.factory, "Oilaviy xona")
    message = await owner.hears("xona.png")
    await product.fake.wait_edit(message, "✅")
    assert [(one.name, one.caption) for one in await known(product, owner)] == [("xona.png", "Oilaviy xona")]
    owner.user.send_photo(product.factory, PICTURE)
    await owner.hears(owner.text(ASKED))
    await owner.says("/cancel", owner.text("The picture was not added."))
    assert len(await known(product, owner)) == 1


async def test_of_an_album_only_what_has_words_is_taken(product: Product) -> None:
    owner = await product.owner(900000603)
    await product.make_bot(owner)
    owner.user.send_photo(product.factory, PICTURE, caption="Birinchi zal", group_id="7")
    owner.user.send_photo(product.factory, PICTURE, group_id="7")
    owner.user.send_photo(product.factory, PICTURE, group_id="7")
    message = await owner.hears("Birinchi zal.jpg")
    await product.fake.wait_edit(message, "✅")
    await owner.settled()
    said = owner.text("Please send pictures one by one, each with a few words under it on what it shows.")
    assert len([one for one in product.fake.messages(owner.user.id) if said in one.text]) == 1
    assert [one.caption for one in await known(product, owner)] == ["Birinchi zal"]


async def test_with_several_bots_the_picture_finds_its_own(product: Product) -> None:
    owner = await product.owner(900000604)
    await product.make_bot(owner, "Chinor")
    second = await product.make_bot(owner, "Nur")
    owner.user.send_photo(product.factory, PICTURE, caption="Menyu")
    question = await owner.hears("Menyu.jpg")
    owner.user.press(question, "Nur")
    message = await owner.hears(lambda sent: sent.text.startswith("Menyu.jpg"))
    await product.fake.wait_edit(message, "✅")
    assert [(one.bot_id, one.caption) for one in await known(product, owner)] == [(second.id, "Menyu")]


async def test_what_is_no_picture_says_so(product: Product) -> None:
    owner = await product.owner(900000605)
    await product.make_bot(owner)
    owner.user.send_document(product.factory, "rasm.png", b"<svg/>", caption="Menyu")
    bad = owner.text("The picture cannot be opened. Save it again as JPEG or PNG and upload it once more.")
    await owner.hears(bad)
    owner.user.send_document(product.factory, "kesilgan.jpg", PICTURE[:-200], caption="Menyu")
    message = await owner.hears("kesilgan.jpg")
    await product.fake.wait_edit(message, bad)
    assert [one.status for one in await known(product, owner)] == ["failed"]


async def test_the_words_of_a_document_are_written_in_the_chat(product: Product) -> None:
    owner = await product.owner(900000606)
    tenant = await product.make_bot(owner)
    owner.user.send_document(product.factory, "savollar.txt", FAQ.encode())
    await product.fake.wait_edit(await owner.hears("savollar.txt"), "✅")
    menu = await owner.says("/knowledge", owner.text("Documents of “{name}”", name=tenant.name))
    await owner.presses(menu, "savollar.txt", owner.text("Customers do not receive this file."))
    await owner.presses(menu, owner.text("What it shows"), "savollar.txt")
    owner.user.send(product.factory, "Ko‘p so‘raladigan savollar")
    shown = await owner.hears(lambda sent: "Ko‘p so‘raladigan savollar" in sent.text)
    assert [one.caption for one in await known(product, owner)] == ["Ko‘p so‘raladigan savollar"]
    await owner.presses(shown, owner.text("Send to customers"), owner.text("Customers may receive this file."))
    assert (await known(product, owner))[0].shared
