"""Office hours and the return of the bot: the form on a bot's page, and the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from db import models
from services import manner
from tests.web.panel import Site, open_site

FORM = {"mon_from": "09:00", "mon_to": "18:00", "sat_from": "10:00", "sat_to": "14:00", "return_after_min": "240"}


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Site]:
    """The product with its panel."""
    async with open_site(tmp_path, sqlite_url) as made:
        yield made


async def _kept(site: Site, user_bot: str) -> manner.Manner:
    async with site.core.db.read() as session:
        found = await session.get(models.Bot, user_bot)
        assert found is not None
        return manner.manner_of(found.settings)


async def test_hours_are_kept_and_shown(site: Site) -> None:
    user = await site.person("Soatlar", language="en")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    page = await browser.get(f"/bots/{bot.id}")
    assert "Office hours, Tashkent time" in page.text and "Wednesday" in page.text
    saved = await browser.post(f"/bots/{bot.id}/people", **FORM)
    assert saved.location == f"/bots/{bot.id}?done=saved&undo={bot.id}.1"
    kept = await _kept(site, bot.id)
    assert manner.shown(kept) == {"mon": ["09:00", "18:00"], "sat": ["10:00", "14:00"]}
    assert kept.return_after_min == 240
    page = await browser.get(f"/bots/{bot.id}")
    assert 'name="mon_from" value="09:00"' in page.text and 'value="240" selected' in page.text
    assert (await browser.post(f"/bots/{bot.id}/people", return_after_min="0")).status == 303
    kept = await _kept(site, bot.id)
    assert kept.hours == () and kept.return_after_min == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mon_to": ""}, "Write both times"),
        ({"mon_from": "9 o’clock"}, "Write both times"),
        ({"sat_from": "14:00"}, "Write both times"),
        ({"return_after_min": ""}, "Choose one of the times"),
        ({"return_after_min": "-5"}, "Choose one of the times"),
        ({"return_after_min": "99999"}, "Choose a time between"),
    ],
)
async def test_what_makes_no_sense_is_said_and_stays_in_the_form(site: Site, change: dict[str, str], said: str) -> None:
    user = await site.person("Xato", language="en")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    refused = await browser.post(f"/bots/{bot.id}/people", **(FORM | change))
    assert refused.status == 400 and said in refused.visible()
    assert f'name="sat_to" value="{FORM["sat_to"]}"' in refused.text
    assert await _kept(site, bot.id) == manner.Manner()
