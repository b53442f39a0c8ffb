"""The first page: prices of the plans, what search engines read, and the demo chat that answers from the product's own texts."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select

from db.base import Base
from services import demo
from services.i18n import LANGUAGES
from services.settings import Settings
from tests import servers
from tests.web.panel import Site, open_site

QUESTIONS = {
    "uz": ("Bot qaysi tillarda javob beradi?", "rus va ingliz"),
    "uz-Cyrl": ("Бот қайси тилларда жавоб беради?", "рус ва инглиз"),
    "ru": ("На каких языках отвечает бот?", "русском и английском"),
    "en": ("Which languages does the bot speak?", "Russian and English"),
}


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product without any key of a model."""
    folder = tmp_path_factory.mktemp("landing")
    async with open_site(
        folder, servers_run.new_sqlite(folder), overrides={"limits": {"demo_answers_per_day": 15}}
    ) as made:
        yield made


async def _rows(site: Site) -> dict[str, int]:
    async with site.core.db.read() as session:
        return {
            table.name: await session.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }


async def test_the_page_says_what_it_costs_and_where_its_languages_are(site: Site) -> None:
    stranger = site.browser()
    page = await stranger.get("/?lang=en")
    assert page.status == 200 and "noindex" not in page.text
    for key, facts in Settings().plans.items():
        assert (f'id="price-{key}"' in page.text) is bool(facts.price_uzs)
    assert "290\u00a0000\u00a0UZS" in page.text
    yearly = await stranger.get("/?period=annual&lang=en")
    assert f"{290_000 * 12 * 85 // 100:,}".replace(",", "\u00a0") in yearly.text and "−15%" in yearly.text
    public = site.core.settings.public_url
    for code in LANGUAGES:
        assert f'hreflang="{code}" href="{public}/?lang={code}"' in page.text
        assert f'<html lang="{code}"' in (await stranger.get(f"/?lang={code}")).text
    assert f'<link rel="canonical" href="{public}/?lang=en">' in page.text
    spoofed = await stranger.get("/?lang=en", **{"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert spoofed.status == 200 and "evil.example" not in spoofed.text
    # The language of the address is that of this page alone.
    assert '<html lang="en"' not in (await stranger.get("/?lang=xx", **{"Accept-Language": "ru"})).text
    assert "Allow: /?lang=" in (await stranger.get("/robots.txt")).text
    # Everything that a phone loads for it, as it is sent.
    size = 0
    static: list[str] = re.findall(r'(?:href|src)="(/static/[^"#]+)', page.text)
    modules = [f"/static/{static[0].split('/')[2]}/js/{name}.js" for name in ("forms", "live", "toast", "demo")]
    for path in {*static, *modules, "/?lang=en"}:
        async with stranger.http.get(
            f"{site.base}{path}", headers={"Accept-Encoding": "gzip"}, auto_decompress=False
        ) as got:
            assert got.status == 200, path
            size += len(await got.read())
    assert size <= 100 * 1024, size


async def test_the_demo_answers_and_keeps_nothing(site: Site) -> None:
    stranger = site.browser()
    await stranger.get("/")
    before = await _rows(site)
    for language, (asked, told) in QUESTIONS.items():
        answer = await stranger.request(
            "POST",
            f"/demo?lang={language}",
            data={"csrf": stranger.csrf, "text": asked},
            headers={"Accept": "application/json"},
        )
        assert answer.status == 200 and told in json.loads(answer.text)["text"], answer.text
    # Without script the page comes back with question and answer; what is typed is text.
    page = await stranger.post("/demo?lang=en", text="<b>Which documents</b> can I upload?")
    assert page.status == 200 and "PDF, Word" in page.text and "&lt;b&gt;Which documents" in page.text
    priced = await stranger.post("/demo?lang=en", text="How much does it cost?")
    assert "290\u00a0000" in priced.visible().split("Prices")[0]
    unknown = await stranger.post("/demo?lang=en", text="What is the weather in Paris today?")
    assert unknown.status == 200 and "I do not know that" in unknown.text
    assert await _rows(site) == before


@pytest.mark.parametrize(("text", "why"), [("  ", "Write a message first"), ("x" * (demo.TEXT_CHARS + 1), "at most")])
async def test_what_cannot_be_asked_is_said(site: Site, text: str, why: str) -> None:
    stranger = site.browser()
    await stranger.get("/")
    page = await stranger.post("/demo?lang=en", text=text)
    assert page.status == 400 and why in page.text


async def test_the_demo_ends_with_the_day_s_number(site: Site) -> None:
    stranger = site.browser()
    await stranger.get("/")
    last = [await stranger.post("/demo?lang=en", text="What is BotFactory?") for _ in range(16)][-1]
    assert last.status == 429 and "Register, and your own bot answers you" in last.text
