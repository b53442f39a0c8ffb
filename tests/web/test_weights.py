"""What a first visit costs: every page with everything that it loads, as it goes over the wire."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from db import models
from tests import servers
from tests.furnished import ADMIN_PAGES, OPEN_PAGES, OWNER_PAGES, furnish, pages
from tests.web.access_table import TABLE, line
from tests.web.panel import Browser, Site, open_site
from web.view import STATIC_DIR

MOST = 100_000
# Who comes for the first time has nothing kept.
MOST_OF_A_DOOR = 60_000
FONTS = {
    "latin": r"[\x20-\u024f\u2000-\u22ff]",
    "cyrillic": r"[\u0401\u040e\u0410-\u044f\u0451\u045e\u2116]",
    "cyrillic-more": r"[\u0402-\u040d\u040f\u0452-\u045d\u045f]",
    "cyrillic-uz": r"[\u0490-\u04ff]",
}
"""Which letters bring which font: the ``unicode-range`` of ``css/app.css``."""
PARTS = (
    r"\.(\{table\}|csv|\{kind\})$",
    r"/(lines|list|results|preview|events|backups)$",
    r"^/(chat|widget|widget\.js|metrics|healthz|readyz|static|robots\.txt|api)\b",
)
"""Addresses that lead to no page: files, and parts that scripts fetch (two pages end alike and are listed)."""


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("weights")
    async with open_site(folder, servers_run.new_sqlite(folder)) as made:
        yield made


def _modules(text: str) -> set[str]:
    """Return the scripts that a page runs: what all pages start, and what ``app.js`` adds where it finds their mark."""
    scripts = {path.stem: path.read_text("utf-8") for path in (STATIC_DIR / "js").glob("*.js")}
    marks = re.findall(
        r'\[(data-[\w-]+)\]"\)(?:(?!querySelector).)*?import\("\./([\w-]+)\.js"', scripts["app"], re.DOTALL
    )
    assert len(marks) == scripts["app"].count("import("), marks
    wanted = {"app", *(name for mark, name in marks if re.search(rf"\s{mark}[\s=>]", text))}
    while (
        more := {name for each in wanted for name in re.findall(r'^import .*"\./([\w-]+)\.js"', scripts[each], re.M)}
        - wanted
    ):
        wanted |= more
    return {f"js/{name}.js" for name in wanted}


@dataclass
class Scales:
    """Asks for pages and files as a browser does that has nothing yet; a file is asked for once."""

    site: Site
    version: str = ""
    files: dict[str, int] = field(default_factory=dict)

    async def _sent(self, browser: Browser, path: str) -> tuple[int, bytes]:
        asked = {"Accept-Encoding": "gzip, deflate"}
        async with browser.http.get(self.site.base + path, headers=asked, auto_decompress=False) as answer:
            assert answer.status == 200, (path, answer.status)
            body = await answer.read()
            return len(body) + sum(len(name) + len(value) + 4 for name, value in answer.raw_headers), body

    async def weigh(self, browser: Browser, path: str) -> int:
        """Return the octets of a page's answer and of those of all that it loads, headers included."""
        text = (await browser.get(path)).text
        total, _ = await self._sent(browser, path)
        # Of the chat in the corner comes what its program asks for as well.
        for script, bot in re.findall(r'src="(/widget\.js)" data-bot="([\w-]+)"', text):
            for asked in (script, f"/widget/{bot}/config?language=ru"):
                total += (await self._sent(browser, asked))[0]
        found = re.findall(r'(?:src|href)="/static/(\w+)/([^"#]+)', text)
        self.version = found[0][0]
        names = {name for _version, name in found} | _modules(text)
        names |= {f"vendor/onest/onest-{name}.woff2" for name, letters in FONTS.items() if re.search(letters, text)}
        for name in names - self.files.keys():
            self.files[name], _ = await self._sent(browser, f"/static/{self.version}/{name}")
        return total + sum(self.files[name] for name in names)


async def test_every_page_is_light(site: Site) -> None:
    """With everything that a first visit loads; in Russian, which takes the most letters and two fonts."""
    user, admin = await site.person("Light", language="ru"), await site.person("Heavy", language="ru")
    bot = await site.bot_of(user)
    async with site.core.db.write() as session:
        (await session.get_one(models.User, admin.id)).role = "admin"
        owner, of_bot = await session.get_one(models.User, user.id), await session.get_one(models.Bot, bot.id)
        ids = await furnish(session, owner, of_bot, site.core.crypto)
    scales, weights = Scales(site), {}
    for person, patterns, most in (
        (None, OPEN_PAGES, MOST_OF_A_DOOR),
        (user, OWNER_PAGES, MOST),
        (admin, ADMIN_PAGES, MOST),
    ):
        browser = await site.signed_in(person) if person else site.browser()
        for path in pages(patterns, ids):
            # A text may be longer than a door; its pictures wait until somebody comes to them.
            weights[path] = (await scales.weigh(browser, path), MOST if path.startswith("/guide") else most)
    assert {path: weight for path, (weight, most) in weights.items() if weight > most} == {}, weights


def test_every_page_is_in_the_lists() -> None:
    """Those who look at all pages forget none: what an owner or an administrator gets by GET, and is no file and no part."""
    named = {"talk": "conversation", "draft": "broadcast"}

    def route(pattern: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda place: f"{{{named.get(place[1], place[1])}}}", pattern)

    listed = {re.sub("}/uz$", "}/{language}", route(pattern)) for pattern in (*OWNER_PAGES, *ADMIN_PAGES)}
    got = {
        path
        for (method, path), given in TABLE.items()
        if method == "GET"
        for five in [line(given).five]
        if 200 in (five[1], five[4])
    }
    read = {path: path.replace("{language}", "ru").replace("{page}", "installation") for path in got}
    known = {
        path
        for path in got
        if path in listed or read[path] in OPEN_PAGES or any(re.search(part, path) for part in PARTS)
    }
    assert got - known == set()
    assert listed - got == set()
