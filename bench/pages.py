"""How long the server takes for each page of the panel with much in every list: ``python -m bench.pages [--rows 100000]``.

The installation of :mod:`bench.many`, in this process, on SQLite on disk. Every address of owners and administrators that needs
no secret is asked for on loopback, one at a time, its list's filters and searches too; what is not asked for, and why, stands
in :data:`LEFT_OUT`, and an address that is in neither list ends the run. Printed are, slowest first, p50 and p95 of the time
until the answer was there, p50 of the processor time that this process used meanwhile (both include asking: about 1 ms), the
statements, and the size as a browser gets it. To be reached: 50 ms for 95 of 100. Where other programs take their share, the
processor time is the number to look at.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import event

from bench.many import Many, fill
from bench.product import NotMeasurable
from bench.product import sign_in as use_link
from db import migrate, models
from services import accounts, logs
from services.core import Core
from services.settings import ROOT
from tests.composition import address, make_settings, running
from web.app import make_app

TIMES = 20
LIMIT_MS = 50.0

OWNERS: dict[str, Sequence[str]] = {
    "/dashboard": ("?period=today", "?period=7", "", "?period=90"),
    "/bots": ("",),
    "/bots/new": ("",),
    "/bots/{bot}": ("",),
    "/bots/{bot}/setup": ("",),
    "/bots/{bot}/lines": ("",),
    "/bots/{bot}/versions": ("",),
    "/bots/{bot}/documents": ("", "?q=rentgen narxi"),
    "/bots/{bot}/documents/list": ("",),
    "/bots/{bot}/documents/{document}": ("",),
    "/bots/{bot}/tests": ("",),
    "/bots/{bot}/tests/results": ("",),
    "/bots/{bot}/channels": ("",),
    "/bots/{bot}/widget": ("",),
    "/bots/{bot}/broadcasts": ("",),
    "/bots/{bot}/broadcasts/new": ("",),
    "/bots/{bot}/broadcasts/{broadcast}": ("",),
    "/bots/{bot}/broadcasts/{broadcast}/edit": ("",),
    "/bots/{bot}/broadcasts/{broadcast}/send": ("",),
    "/bots/{bot}/broadcasts/{sent_broadcast}": ("",),
    "/bots/{bot}/broadcasts/{sent_broadcast}/receivers": ("", "?fate=failed", "?fate=skipped"),
    "/contacts/{contact}": ("",),
    "/inbox": (
        "",
        "?q=rentgen",
        "?q=gulbahor",
        "?q=bahor",
        "?q=9000123",
        "?q=yoqbundaysoz",
        "?status=waiting",
        "?status=closed",
        "?status=human",
        "?unanswered=1",
        "?snoozed=1",
        "?assignee=me",
        "?assignee=nobody",
        "?language=ru",
        "?language=en",
        "?channel=web",
        "?channel=telegram",
        "?label={label}",
        "?bot={bot}",
        "?since=2020-01-01&until=2020-02-01",
        "?status=closed&language=ru",
    ),
    "/inbox/{conversation}": ("",),
    "/inbox/labels": ("",),
    "/inbox/replies": ("",),
    "/search": ("", "?q=rentgen", "?q=gulbahor", "?q=narxlar"),
    "/billing": ("",),
    "/billing/request": ("",),
    "/billing/referrals": ("",),
    "/billing/payments/{own_number}": ("",),
    "/team": ("",),
    "/support": ("",),
    "/guide/en": ("",),
    "/guide/en/first-bot": ("",),
    "/settings": ("",),
    "/settings/delete": ("",),
    "/settings/email": ("",),
    "/settings/two-step": ("",),
    "/settings/views": ("",),
    "/settings/views/{view}": ("",),
    "/settings/webhooks": ("",),
    "/settings/webhooks/guide": ("",),
    "/settings/api": ("",),
    "/settings/api/{section}": ("",),
    "/settings/webhooks/{endpoint}": ("", "?state=failed", "?state=delivered", "?state=waiting"),
    "/settings/webhooks/{endpoint}/events/{event}": ("",),
}
ADMINISTRATORS: dict[str, Sequence[str]] = {
    "/admin/statistics": ("", "?period=365"),
    "/admin/owners": (
        "",
        "?q=gulbahor",
        "?q=bahor",
        "?q=ega77777",
        "?q=9077777",
        "?q=al",
        "?q=k",
        "?q=qz",
        "?q=yoqbundayodam",
        "?q=Нодира Юсупов",
        "?q=@yoqbunday_bot",
        "?state=paid",
        "?state=trial",
        "?state=free",
        "?state=expired",
        "?state=banned",
        "?state=banned&q=gulbahor",
        "?plan=premium",
        "?bots=yes",
        "?bots=no",
        "?since=2020-01-01&until=2020-02-01",
    ),
    "/admin/owners/{owner}": ("",),
    "/admin/owners/{owner}/plan": ("",),
    "/admin/files": ("", "?q=yoqbundayhujjat", "?state=failed", "?order=size"),
    "/admin/files/sent": ("", "?q=yoqbundayhujjat", "?order=size"),
    "/admin/channels": ("", "?q=yoqbundaykanal", "?platform=telegram"),
    "/admin/channels/webhooks": ("",),
    "/admin/conversations": (
        "",
        "?q=gulbahor",
        "?q=bahor",
        "?q=yoqbundaymijoz",
        "?q=rentgen",
        "?q=%2B998930000123",
        "?q=k",
        "?platform=web",
        "?platform=telegram",
        "?state=waiting",
        "?state=closed",
        "?state=closed&platform=web",
        "?owner=egasi@example.uz",
        "?owner=egasi@example.uz&q=rentgen",
        "?owner=gulbahor",
        "?bot={bot}",
        "?since=2020-01-01&until=2020-02-01",
    ),
    "/admin/conversations/{conversation}": ("",),
    "/admin/support": ("", "?state=waiting"),
    "/admin/support/{owner}": ("",),
    "/admin/requests": ("",),
    "/admin/payments": (
        "",
        "?state=paid",
        "?state=refunded",
        "?state=waiting",
        "?gateway=uzum",
        "?gateway=balance",
        "?gateway=uzum&state=refunded",
        "?owner=gulbahor",
        "?owner=ega77777@example.uz",
        "?owner=yoqbundayodam",
        "?number=100000077",
        "?since=2020-01-01&until=2020-02-01",
    ),
    "/admin/payments/new": ("",),
    "/admin/payments/days": ("",),
    "/admin/payments/{number}": ("",),
    "/admin/coupons": ("", "?q=CHINOR-0777", "?q=rgazma", "?q=yoqbunday", "?state=open", "?state=closed"),
    "/admin/coupons/{coupon}": ("",),
    "/admin/payouts": ("",),
    "/admin/announcements": ("",),
    "/admin/announcements/new": ("",),
    "/admin/announcements/{announcement}": ("",),
    "/admin/announcements/{announcement}/missed": ("",),
    "/admin/texts": ("",),
    "/admin/texts/{letter}/{language}": ("",),
    "/admin/texts/notices": ("",),
    "/admin/texts/notices/{saying}/{language}": ("",),
    "/admin/texts/{letter}/{language}/preview": ("",),
    "/admin/models": ("",),
    "/admin/system": ("",),
    "/admin/system/errors": ("", "?hidden=1"),
    "/admin/system/backups": ("",),
    "/admin/audit": (
        "",
        "?actor=gulbahor",
        "?actor=admin@example.uz",
        "?actor=yoqbundayodam",
        "?admins=1",
        "?action=view_begun",
        "?action=bot_created&admins=1",
        "?object={owner}",
        "?since=2020-01-01&until=2020-02-01",
    ),
    "/search": ("?q=gulbahor", "?q=yoqbunday", "?q=al"),
    "/dashboard": ("",),
    "/inbox": ("",),
}
PARTS = ("/lines", "/documents/list", "/tests/results", "/system/backups")
"""Parts of pages, which are given to the pages' scripts only."""
LEFT_OUT: dict[str, str] = {
    r".*\.(\{table\}|csv|pdf|\{kind\})": "files: they are as long as what is in them",
    r"/(admin|bots/\{bot\}/conversations.*|support/lines|admin/support/\{owner\}/lines)": "leads on to another page",
    r"/bots/\{bot\}/broadcasts/\{broadcast\}/(progress|template)|/billing/payments/\{number\}/state|/notices": "parts of pages",
    r"/billing/order": "a form that is opened with a plan and a gateway",
    r"/events": "a stream",
    r"/guide|/guide/\{language\}.*": "asked for in English; its pictures are files",
    r"/(login|register|password|email|team/join|unsubscribe|files|chat|widget|favicon|robots|static)\b.*|/": "of strangers",
    r"/(healthz|readyz|metrics|api|whatsapp|instagram|telegram|payments)\b.*": "for machines",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One address: sorted times and processor times in ms, statements of one answer, KB over the wire."""

    path: str
    times: list[float]
    cpu: list[float]
    statements: int
    size: float

    @property
    def p95(self) -> float:
        """Of 20 times the last but one."""
        return self.times[int(len(self.times) * 0.95) - 1]


def unlisted(core: Core) -> list[str]:
    """Return addresses that can be opened and are neither measured nor left out for a reason."""
    routes = {r.resource.canonical for r in make_app(core).router.routes() if r.method == "GET" and r.resource}
    # The same page with another thing in its place.
    known = {*OWNERS, *ADMINISTRATORS}
    known |= {path.replace("{sent_broadcast}", "{broadcast}").replace("{own_number}", "{number}") for path in known}
    return sorted(path for path in routes - known if not any(re.fullmatch(pattern, path) for pattern in LEFT_OUT))


async def sign_in(core: Core, person: models.User) -> aiohttp.CookieJar:
    """Use a one-time link up as a browser does; return the browser's cookies."""
    async with core.db.write() as session:
        token = await accounts.login_link(session, person)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        await use_link(session, address(core), token)
    return jar


async def measure(session: aiohttp.ClientSession, core: Core, path: str, times: int) -> Measured:
    """Ask for one page so many times, after twice that do not count. Raises :class:`NotMeasurable` where there is none."""
    taken, cpu, seen, size = [], [], [0], 0

    def note(*_: Any) -> None:
        seen[0] += 1

    engine = core.db.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        for number in range(times + 2):
            seen[0], begun, used = 0, time.perf_counter(), time.process_time()
            headers = {"HX-Request": "true"} if path.endswith(PARTS) else {}
            async with session.get(address(core) + path, headers=headers, allow_redirects=False) as response:
                size = len(await response.read())
                if response.status != 200:
                    raise NotMeasurable(f"{path}: {response.status} {response.headers.get('Location', '')}")
            if number > 1:
                taken.append((time.perf_counter() - begun) * 1000)
                cpu.append((time.process_time() - used) * 1000)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return Measured(path, sorted(taken), sorted(cpu), seen[0], size / 1000)


async def walk(core: Core, many: Many, times: int, only: str) -> list[Measured]:
    """Ask for every page as who it is for."""
    places = {**many.places, "letter": "offer_night", "saying": "conflict", "language": "uz", "section": "bots"}
    found: list[Measured] = []
    for person, pages in ((many.owner, OWNERS), (many.admin, ADMINISTRATORS)):
        jar = await sign_in(core, person)
        headers = {"Accept-Encoding": "gzip"}
        async with aiohttp.ClientSession(cookie_jar=jar, auto_decompress=False, headers=headers) as session:
            wanted = [path + ending for path, endings in pages.items() for ending in endings if only in path + ending]
            found += [await measure(session, core, path.format(**places), times) for path in wanted]
    return found


def shown(found: Sequence[Measured], many: Many) -> str:
    """Return the table for people, slowest first."""
    lines = [f"  {'':64} {'p50':>7} {'p95':>7} ms  CPU p50 {'longest':>9}  statements      KB"]
    for one in sorted(found, key=lambda each: each.p95, reverse=True):
        path = one.path
        for name, value in many.places.items():
            path = path.replace(value, f"{{{name}}}") if len(value) > 20 else path
        mark = "✓" if one.p95 <= LIMIT_MS else "✗"
        lines.append(
            f"{mark} {path:64} {statistics.median(one.times):7.1f} {one.p95:7.1f}     {statistics.median(one.cpu):7.1f} "
            f"{one.times[-1]:9.1f}  {one.statements:10} {one.size:7.1f}"
        )
    return "\n".join(lines)


async def run(url: str, rows: int, messages: int, times: int, only: str, folder: Path) -> bool:
    """Fill, measure, print; return whether everything was reached."""
    logs.set_up("error")
    settings = make_settings(folder, url, as_sold=True)
    await migrate.upgrade(settings.database_url)
    async with running(settings) as core:
        if missing := unlisted(core):
            raise NotMeasurable(f"not measured, and no reason is given: {', '.join(missing)}")
        begun = time.perf_counter()
        many = await fill(core, rows, messages)
        print(f"Filled in {time.perf_counter() - begun:.0f} s", flush=True)
        found = await walk(core, many, times, only)
    print(shown(found, many))
    slow = [one for one in found if one.p95 > LIMIT_MS]
    print(f"{len(found)} pages, {len(slow)} over {LIMIT_MS:.0f} ms")
    return not slow


def main() -> int:
    """Read the arguments, measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description="Measure the panel's pages.")
    parser.add_argument("--rows", type=int, default=100_000, help="in every list")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=TIMES, help="that each page is asked for")
    parser.add_argument("--only", default="", help="pages whose address has this in it")
    parser.add_argument("--database", default="", help="an empty database of PostgreSQL instead of a file")
    given = parser.parse_args()
    (ROOT / "data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "data") as folder:
        url = given.database or f"sqlite:///{Path(folder) / 'pages.db'}"
        try:
            fine = asyncio.run(run(url, given.rows, given.messages, given.times, given.only, Path(folder)))
        except NotMeasurable as error:
            print(f"✗ {error}", file=sys.stderr)
            return 1
        return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
