"""Connecting Instagram in the factory bot, value by value, with either of Meta's logins."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from db import models
from handlers.callbacks import Connect
from services.i18n import LANGUAGES, translate
from tests.fakes.meta import ACCOUNT, PAGE, SECRET, Meta
from tests.fakes.meta import INSTAGRAM_TOKEN as TOKEN
from tests.fakes.telegram import Sent
from tests.handlers.conftest import Person, Product, Start
from tests.handlers.test_connecting import deleted, stored_states
from tests.handlers.test_menus import OLD_MENU

NO_PAGE = "There is no Page: Instagram Login"


@pytest.fixture
async def product(start: Start, meta: Meta) -> AsyncIterator[Product]:
    """The product with Meta's addresses."""
    async with start(**meta.environment) as running:
        yield running


async def channel(product: Product) -> models.Channel | None:
    """Return the Instagram channel that there is."""
    async with product.core.db.read() as session:
        found: models.Channel | None = await session.scalar(
            select(models.Channel).where(models.Channel.kind == "instagram", models.Channel.external_id.is_not(None))
        )
        return found


async def begin(owner: Person) -> Sent:
    """Start connecting; return the question for the first value."""
    menu = await owner.says("/channels")
    owner.user.press(menu, translate(owner.language, "Connect {channel}", channel="Instagram"))
    return await owner.hears("17841400000000000")


@pytest.mark.parametrize("language", LANGUAGES)
async def test_instagram_is_connected_value_by_value(product: Product, meta: Meta, language: str) -> None:
    account = meta.add()
    owner = await product.owner(900000751, language)
    await product.make_bot(owner)
    await begin(owner)
    page = await owner.says(ACCOUNT, owner.text("Page id (only with Facebook Login)"))
    owner.user.press(page, translate(language, NO_PAGE))
    await owner.hears(owner.text("Access token"))
    await owner.says(TOKEN, "@texnosavdo")
    await owner.hears(owner.text("App secret"))
    assert not account.subscribed, "looked at, not taken"
    second = await owner.says(SECRET, owner.text("Meta app secret (if there is a second one)"))
    # The button of another step leaves nothing out.
    press = owner.user.press(
        page, Connect(do="skip2", bot=(await product.bots_of(owner))[0].id, kind="instagram").pack(), stale=True
    )
    await product.fake.wait_until(lambda: press.answered)
    assert press.text == owner.text(OLD_MENU) and await channel(product) is None
    assert TOKEN not in await stored_states(product)
    owner.user.press(second, translate(language, "There is only one"))
    done = await owner.hears("🎉")
    found = await channel(product)
    assert found is not None and (found.status, found.username) == ("active", "texnosavdo")
    assert found.secret in done.text and "/instagram/webhook" in done.text and "messages" in account.subscribed
    secrets = product.core.crypto.decrypt(found.credentials or "")
    assert secrets == {"access_token": TOKEN, "account_id": ACCOUNT, "app_secret": SECRET}
    texts = {sent.text: str(sent.message_id) for sent in product.fake.messages(owner.user.id)}
    assert not any(TOKEN in text or SECRET in text for text in texts) and len(deleted(product)) == 2
    # It is looked at as the others are.
    await owner.presses(done, owner.text("Check now"), owner.text("Connected"))
    again = await owner.says("/channels", owner.text("Channels of “{name}”", name="Chinor Stom"))
    await owner.presses(again, "Instagram", found.secret)


async def test_behind_a_page_and_with_wrong_values(product: Product, meta: Meta) -> None:
    meta.add(PAGE)
    owner = await product.owner(900000752, "en")
    await product.make_bot(owner)
    await begin(owner)
    await owner.says("@texnosavdo", "not the username")
    await owner.hears("Account id")
    await owner.says(ACCOUNT, "Page id")
    await owner.says("my page", "The Page id is a number")
    await owner.hears("Page id (only")
    await owner.says("300000000000399", "Access token")
    await owner.says("short", "Copy it whole")
    await owner.hears("Access token")
    await owner.says(TOKEN, "App secret")
    await owner.says(SECRET, "does not lead from this Page")
    # The ids are asked for again, what depends on them too.
    await owner.hears("Page id (only")
    await owner.says(PAGE, "Access token")
    await owner.says(TOKEN, "App secret")
    await owner.says("another-secret-of-an-app", "does not belong to the app")
    await owner.hears("App secret")
    meta.pages.fail(2, http=500, on="number")
    await owner.says(SECRET, "Meta is not responding")
    await owner.says(SECRET, "Meta app secret")
    await owner.says("CANARY_second_secret_of_meta", "🎉")
    found = await channel(product)
    assert found is not None and found.parent_id == PAGE
    kept = product.core.crypto.decrypt(found.credentials or "")
    assert kept["meta_app_secret"] == "CANARY_second_secret_of_meta" and kept["page_id"] == PAGE


async def test_a_token_of_another_account_and_cancel(product: Product, meta: Meta) -> None:
    meta.add()
    owner = await product.owner(900000753, "en")
    await product.make_bot(owner)
    await begin(owner)
    page = await owner.says("17840000000000777", "Page id")
    owner.user.press(page, NO_PAGE)
    await owner.hears("Access token")
    await owner.says(TOKEN, "not of the account with this id")
    await owner.hears("Account id")
    await owner.says("/cancel", "What you had entered is forgotten.")
    assert await channel(product) is None and not meta.own.called("subscribe")
