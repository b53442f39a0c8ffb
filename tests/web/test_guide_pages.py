"""The user's guide as pages: each in every language, every link leads somewhere, and the panel's pages lead to it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import pytest
from PIL import Image

from services.i18n import LANGUAGES
from tests import servers
from tests.web.panel import Browser, Page, Site, open_site
from web import guide

ROOT = Path(__file__).resolve().parent.parent.parent
WITHOUT_HELP = {
    "pages/guide.html",
    "pages/search.html",
    "pages/support.html",
    "pages/webhooks_guide.html",
    "pages/email.html",
    "pages/two_step.html",
    "pages/delete.html",
}
"""Pages of the panel that need no explaining: guides, and those that say in their few lines what to do."""


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product."""
    folder = tmp_path_factory.mktemp("guide")
    async with open_site(folder, servers_run.new_sqlite(folder)) as made:
        yield made


def _ids(page: Page) -> set[str]:
    return set(re.findall(r' id="([^"]+)"', page.text))


async def _walk(browser: Browser, pages: dict[str, Page]) -> None:
    """Open every link and picture of the pages of the guide; whatever leads back into it leads to an anchor that is there."""
    opened: dict[str, int] = {}
    for path, page in pages.items():
        main = page.text[page.text.index("<main") : page.text.index("</main>")]
        for target in re.findall(r'(?:href|src)="([^"]+)"', main):
            address = unescape(target)
            if address.startswith(("https://", "http://")):
                continue
            where, _, anchor = urljoin(path, address).partition("#")
            if where in pages:
                assert not anchor or anchor in _ids(pages[where]), f"{path}: {target}"
            elif where not in opened:
                opened[where] = (await browser.get(where)).status
                assert opened[where] == 200, f"{path}: {target}"
    assert opened


async def test_every_page_opens_in_every_language_and_its_links_lead_somewhere(site: Site) -> None:
    stranger, public = site.browser(), site.core.settings.public_url
    pages = {
        guide.address(language, name): await stranger.get(guide.address(language, name))
        for language in LANGUAGES
        for name in (guide.LIST, *guide.NAMES)
    }
    for path, page in pages.items():
        language, name = path.split("/")[2], "/".join(path.split("/")[3:])
        assert page.status == 200, path
        assert f'<html lang="{language}"' in page.text and "noindex" not in page.text
        assert f'<link rel="canonical" href="{public}{path}">' in page.text
        assert all(f'href="{public}{guide.address(code, name)}"' in page.text for code in LANGUAGES)
        description = re.search(r'<meta name="description" content="([^"]{30,260})">', page.text)
        assert description, path
        # Headings have the same anchors in all languages.
        assert _ids(page) == _ids(pages[guide.address("en", name)]), path
        assert page.text.count('aria-current="page"') == 1
    assert "Билимлар" in pages["/guide/uz-Cyrl/knowledge"].visible()
    assert "<code>/operator</code>" in pages["/guide/uz-Cyrl/inbox"].text
    await _walk(stranger, pages)


async def test_help_leads_to_what_is_there(site: Site) -> None:
    templates = {
        f"{folder}/{path.name}"
        for folder in ("pages", "admin")
        for path in (ROOT / "templates" / folder).glob("*.html")
        if path.read_text("utf-8").startswith('{% extends "app.html" %}')
    }
    assert set(guide.HELP) <= templates
    assert templates - set(guide.HELP) == WITHOUT_HELP
    stranger = site.browser()
    for template in sorted(templates - WITHOUT_HELP):
        for language in LANGUAGES:
            path, _, anchor = guide.help_for(template, language).partition("#")
            page = await stranger.get(path)
            assert page.status == 200, template
            assert not anchor or anchor in _ids(page), f"{template}: {path}#{anchor}"


async def test_the_panel_and_the_first_page_lead_to_the_guide(site: Site) -> None:
    stranger, owner = site.browser(), await site.person("Kitobxon", language="ru")
    assert 'href="/guide/en"' in (await stranger.get("/?lang=en")).text
    russian = {"Accept-Language": "ru"}
    assert (await stranger.get("/guide", **russian)).location == "/guide/ru"
    assert (await stranger.get("/guide?page=inbox", **russian)).location == "/guide/ru/inbox"
    assert (await stranger.get("/guide?page=//evil.example", **russian)).location == "/guide/ru"
    assert "Allow: /guide" in (await stranger.get("/robots.txt")).text
    # The switch of languages keeps the page.
    assert 'name="next" value="/guide?page=billing"' in (await stranger.get("/guide/uz/billing")).text

    signed_in = await site.signed_in(owner)
    assert 'rel="help"' in (await signed_in.get("/billing")).text
    assert f'href="{guide.help_for("pages/billing.html", "ru")}"' in (await signed_in.get("/billing")).text
    assert 'href="/guide/ru"' in (await signed_in.get("/support")).text
    inside = await signed_in.get("/guide/ru/billing")
    assert 'class="side"' in inside.text and 'action="/logout"' in inside.text
    async with site.core.db.write() as session:
        (await session.merge(owner)).role = "admin"
    assert 'href="/guide/ru"' in (await signed_in.get("/settings")).text


@pytest.mark.parametrize(
    "path",
    [
        "/guide/uz/README",
        "/guide/de/inbox",
        "/guide/uz/..%2Fru%2Finbox",
        "/guide/uz%2F..%2Fru/inbox",
        "/guide/..%2F..%2F..%2Fetc/passwd",
        "/guide/uz/%2e%2e%2f%2e%2e%2foperations",
        "/guide/uz/inbox.md",
        "/guide/uz/pictures/..%2F..%2Fguide%2Fuz%2Finbox.md",
        "/guide/uz/pictures/%2e%2e%2f%2e%2e%2f%2e%2e%2f.env",
        "/guide/pictures/pictures/landing.webp",
    ],
)
async def test_no_other_file_is_reached(site: Site, path: str) -> None:
    page = await site.browser().get(path)
    assert page.status == 404
    assert "Traceback" not in page.text and "bot.py" not in page.visible()


async def test_what_a_text_holds_becomes_the_product_s(tmp_path: Path) -> None:
    """A guide with everything in it that may go wrong: HTML, links and pictures that lead nowhere, other letters."""
    for language, title in (("uz", "Sinov sahifasi"), ("ru", "Проба"), ("en", "A trial")):
        folder, shots = tmp_path / "guide" / language, tmp_path / "screenshots" / language
        folder.mkdir(parents=True)
        shots.mkdir(parents=True)
        Image.new("RGB", (40, 30), "white").save(shots / "one.webp")
        head = f"# {title}\n\n{title} <b onclick='x()'>a</b>.\n\n"
        second = {"uz": "Jamoa", "ru": "Команда", "en": "Team"}[language]
        shown = "".join(f"![{title}](../../screenshots/{language}/{name}.webp)\n\n" for name in ("one", "none"))
        links = f"[a](#{second.lower()}) [b](inbox.md) [c](../../operations.md) [d](https://example.uz/x) [e](../x/inbox.md)"
        text = f"{head}## {second}\n\n{shown}{links}\n\n| a |\n| --- |\n| b |\n"
        for name in ("README", *guide.NAMES):
            (folder / f"{name}.md").write_text(text if name == "billing" else head, "utf-8")
    book = guide.Guide(tmp_path)
    page = await book.load("uz-Cyrl", "billing")
    assert (page.title, page.sections) == ("Синов саҳифаси", [("team", "Жамоа")])
    assert "&lt;b onclick=" in page.html and "<b onclick" not in page.html
    assert '<h2 id="team">Жамоа</h2>' in page.html
    found = re.findall(r'<a href="([^"]+)"', page.html)
    picture, *others = found
    assert others == ["/guide/uz-Cyrl/billing#team", "/guide/uz-Cyrl/inbox", "https://example.uz/x"]
    assert re.fullmatch(r"/guide/uz-Cyrl/pictures/one.webp\?v=[0-9a-f]{12}", picture)
    assert page.html.count("<img") == 1
    assert re.search(
        r'<img src="/guide/uz-Cyrl/pictures/one.webp\?v=[0-9a-f]{12}" alt="Синов саҳифаси" width="40" height="30" loading="lazy"',
        page.html,
    )
    with pytest.raises(KeyError):
        await book.load("uz", "../ru/billing")
    assert book.picture("uz", "../../guide/uz/billing.md") is None


async def test_pictures_are_kept_by_browsers(site: Site) -> None:
    stranger = site.browser()
    page = await stranger.get("/guide/uz/numbers")
    found = re.search(r'<img src="(/guide/[^"]+)"', page.text)
    assert found
    named = await stranger.get(unescape(found[1]))
    assert named.status == 200 and named.headers["Content-Type"] == "image/webp"
    assert "immutable" in named.headers["Cache-Control"]
    # An address without the version, or with an old one, is asked for again each time.
    old = await stranger.get(unescape(found[1]).partition("?")[0])
    assert old.status == 200 and old.headers["Cache-Control"] == "no-cache"
    mark = {name.lower(): value for name, value in old.headers.items()}["etag"]
    again = await stranger.get(old.url.path, **{"If-None-Match": mark})
    assert again.status == 304
