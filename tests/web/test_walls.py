"""What everybody may have written or may send, on every page that there is: no text acts, no address fails, no answer leads away.

The pages come from the application itself: one that is added is walked too, or a test here says its name.
"""

from __future__ import annotations

import ast
import csv
import inspect
import io
import re
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import pytest
from sqlalchemy import Connection, String, Table, Text, literal, select, update
from yarl import URL

from db import models
from db.base import Base, JsonText, new_id, table_of, utcnow
from services import bots
from services.crypto import Crypto
from tests import leaks, servers
from tests.furnished import ADMIN_PAGES, OPEN_PAGES, OWNER_PAGES, furnish, pages
from tests.web.access_table import TABLE
from tests.web.panel import Browser, Page, Site, open_site, unguarded
from web.app import make_app

HOSTILE = '=zz{n}zz"\'><img src=x onerror=alert(1)>{{{{7*7}}}}{{0.__class__}}%(a)s${{x}};=1\n"@x\r\nX-Evil: 1'
"""A formula, a tag that ends any attribute, templates and formats of every kind, the end of a header; ``n`` says where from."""
CANARY = "CANARY"
_MARK = re.compile(r"zz(\d+)zz")
SHOWN = set(
    """
    access_requests.note announcements.texts api_tokens.name attachments.name attachments.transcript audit_log.action
    bots.name bots.system_prompt broadcasts.texts broadcasts.title canned_replies.text channels.last_error channels.title
    channels.username chunks.heading chunks.meta chunks.text contacts.name contacts.username conversations.last_text
    coupons.code coupons.note documents.caption documents.name endpoint_events.answer endpoints.url error_records.detail
    error_records.event inbox.error invitations.name jobs.error labels.name letter_texts.text letters.mail_error
    messages.model messages.sources messages.text notes.text notices.params payment_events.answer
    payment_transactions.details payments.note payments.refund_reason referral_entries.note remote_view_pages.path
    remote_views.reason subscriptions.revoked_reason support_messages.text support_talks.last_text test_questions.expected
    test_questions.question test_runs.results unanswered_questions.question users.email users.full_name
    """.split()
)
"""Columns whose text stands on some page, so that what is looked for there is really there."""
NUMBERS_ONLY = {"/admin/payments/days.{table}", "/billing/payments.{table}"}
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

OURS = {
    "key", "sha256", "mime", "payload", "secret", "credentials", "openai_key", "totp_secret", "password_hash", "stems", "grams",
    "lane", "folded", "source", "data", "visitor", "holder", "recipient",
}  # fmt: skip
"""Columns that no person writes and no page shows: keys, digests, what is encrypted, what the program keeps for itself."""
SHORT = 39
"""Shorter columns hold words of the program: a status, a kind, a language."""
WITHOUT_ROWS = {
    "dialog_states",
    "account_codes",
    "outbox",
    "overrides",
    "conversation_texts",
    "day_numbers",
    "forum_topics",
}
"""Tables of which no page shows a text."""


@dataclass
class House:
    """The product with one owner who has everything, every text of it hostile, and an administrator."""

    site: Site
    ids: dict[str, str]
    owner: Browser
    admin: Browser
    columns: list[str]

    def browser(self, route: str) -> Browser:
        """Return who may open a page."""
        return self.admin if route.startswith("/admin") else self.owner


def _texts(table: Table) -> Iterator[str]:
    """Yield the columns of a table that hold what somebody wrote."""
    for column in table.columns:
        kind = column.type
        is_key = column.primary_key or column.foreign_keys or column.name in OURS
        if is_key or column.name.endswith(("_id", "_hash", "_by")):
            continue
        if isinstance(kind, JsonText | Text) or (isinstance(kind, String) and (kind.length or 0) > SHORT):
            yield column.name


def _spoilt(value: Any, hostile: str) -> Any:
    """Put the text into every leaf of a document that is not one of the program's own words."""
    if isinstance(value, dict):
        return {key: _spoilt(each, hostile) for key, each in value.items()}
    if isinstance(value, list):
        return [_spoilt(each, hostile) for each in value]
    return (
        hostile if isinstance(value, str) and not re.fullmatch(r"[a-z_-]*|[0-9a-z]{26}|[0-9T:.+-]+", value) else value
    )


def _spoil(connection: Connection) -> list[str]:
    """Write the hostile text into every text of every row; return the columns by their number."""
    numbered: list[str] = []
    empty = []
    for table in Base.metadata.sorted_tables:
        names = list(_texts(table))
        if not names:
            continue
        rows = (
            connection.execute(select(*table.primary_key.columns, *(table.c[name] for name in names))).mappings().all()
        )
        if not rows and table.name not in WITHOUT_ROWS:
            empty.append(table.name)
        first = len(numbered)
        numbered += [f"{table.name}.{name}" for name in names]
        for n, row in enumerate(rows):
            changed: dict[str, Any] = {}
            for place, name in enumerate(names, first):
                text = HOSTILE.format(n=place)
                kind = table.c[name].type
                if isinstance(kind, JsonText):
                    changed[name] = _spoilt(row[name], text)
                else:
                    changed[name] = f"{text}{n}"
            where = [column == row[column.name] for column in table.primary_key.columns]
            connection.execute(update(table).where(*where).values(**changed))
    assert not empty, f"no row of {empty}: give furnish() or _more() one, so that its texts are looked at"
    return numbered


async def _more(site: Site, owner: models.User, ids: dict[str, str]) -> None:
    """Add what tests/furnished.py leaves out because it belongs to no page of its own."""
    async with site.core.db.write() as session:
        last = select(models.Message.id).where(models.Message.conversation_id == ids["talk"]).limit(1)
        message_id = str(await session.scalar(last))
        bot_id, missed = ids["bot"], f"announcement:{ids['announcement']}"
        payment_id = str(await session.scalar(select(models.Payment.id).where(models.Payment.number == ids["number"])))
        facts = {"payment_id": payment_id, "gateway": "payme", "amount_tiyin": 1, "provider_time": utcnow()}
        session.add_all(
            [
                models.ForumGroup(owner_id=owner.id, bot_id=bot_id, chat_id=-100, title="x"),
                models.LetterText(kind=ids["letter"], language="uz", part="subject", text="x"),
                models.PaymentEvent(payment_id=payment_id, gateway="payme", action="create", answer={"message": "X"}),
                models.PaymentTransaction(external_id="x", details={"card": "X"}, created_at=utcnow(), **facts),
                models.Letter(user_id=owner.id, kind="told", key="x", mail="failed"),
                models.Letter(user_id=owner.id, kind="announcement", key=missed, mail="failed", telegram="failed"),
                models.InboxItem(
                    lane="x", channel_id=new_id(), external_id="x", payload="{}", status="dead", error="x"
                ),
                models.Job(lane="x", kind="index", status="dead", error="x"),
                models.Attachment(
                    message_id=message_id, bot_id=bot_id, kind="document", name="x", mime="text/html", status="failed"
                ),
            ]
        )


def _hide(connection: Connection, crypto: Crypto) -> None:
    """Put a canary into every secret: whoever shows one, the watch of :mod:`tests.leaks` over pages finds it."""
    channel, bot, endpoint = table_of(models.Channel), table_of(models.Bot), table_of(models.Endpoint)
    user, token = table_of(models.User), table_of(models.ApiToken)
    keys = dict.fromkeys(("access_token", "app_secret", "verify_token", "token"), CANARY)
    # Telegram's own address would be asked with it.
    connection.execute(update(channel).where(channel.c.kind != "telegram").values(credentials=crypto.encrypt(keys)))
    # That of the others stands on the owner's page, to be pasted at Meta.
    by_us = channel.c.kind == "telegram"
    connection.execute(update(channel).where(by_us).values(secret=literal(CANARY) + channel.c.id))
    connection.execute(update(bot).values(openai_key=crypto.encrypt(f"sk-{CANARY}-0123456789")))
    connection.execute(update(endpoint).values(secret=crypto.encrypt({"secret": f"whsec_{CANARY}0123456789"})))
    connection.execute(update(token).values(token_hash=literal(CANARY) + token.c.id))
    proofs = {"password_hash": f"$argon2id${CANARY}", "totp_secret": crypto.encrypt(CANARY), "totp_at": utcnow()}
    connection.execute(update(user).values(proofs))


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("walls")
    async with open_site(folder, servers_run.new_sqlite(folder)) as site:
        user, boss = await site.person("Egasi", language="en"), await site.person("Boshliq", language="en")
        bot = await site.bot_of(user)
        async with site.core.db.write() as session:
            (await session.get_one(models.User, boss.id)).role = "admin"
            owner, of_bot = await session.get_one(models.User, user.id), await bots.get(session, user, bot.id)
            ids = await furnish(session, owner, of_bot, site.core.crypto)
        await _more(site, owner, ids)
        ids["public_id"] = bot.public_id
        at_owner, at_admin = await site.signed_in(user), await site.signed_in(boss)
        columns = await site.core.db.transact(_spoil)
        await site.core.db.transact(_hide, site.core.crypto)
        yield House(site, ids, at_owner, at_admin, columns)


class _Acting(HTMLParser):
    """Gathers what would act on a page: tags and attributes that our pages have nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script" and "src" not in given and given.get("type") != "application/json":
            self.found.append("a script in the page")
        if tag == "img" and given.get("src") == "x":
            self.found.append("a tag of somebody's text")
        for name, value in given.items():
            if name.startswith("on") or name == "style":
                self.found.append(f"{tag} {name}")
            if name in ("href", "src", "action", "formaction") and re.match(
                r"\s*(javascript|data|vbscript):", value or ""
            ):
                self.found.append(f"{tag} {name}={value}")


def _acts(page: Page) -> list[str]:
    """Return what of a text acts on a page, is evaluated or formatted."""
    parser = _Acting()
    parser.feed(page.text)
    found = parser.found
    found += [sign for sign in ("49{0", "<class", "<img src=x", "%(a)s$<") if sign in page.text]
    return found + [name for name in page.headers if name.lower() == "x-evil"]


async def test_no_text_acts_on_any_page(house: House) -> None:
    """Every text of every table on every page: shown as it was written, or not at all; no page believes its ``Host``."""
    shown: set[int] = set()
    wrong = {}
    listed = [
        *OPEN_PAGES,
        *OWNER_PAGES,
        *ADMIN_PAGES,
        "/chat/{public_id}",
        "/bots/{bot}/lines",
        "/bots/{bot}/documents/list",
    ]
    listed += [
        "/bots/{bot}/tests/results",
        "/notices",
        "/support/lines",
        "/inbox?q=zz",
        "/search?q=zz",
        "/admin/owners?q=zz",
    ]
    for path in pages(tuple(listed), house.ids):
        page = await house.browser(path).get(path, Host="evil.example", **{"X-Forwarded-Host": "evil.example"})
        found = [*_acts(page), *(["evil.example"] if "evil.example" in page.text else [])]
        if page.status not in (200, 303) or found:
            wrong[path] = (page.status, found)
        shown |= {int(number) for number in _MARK.findall(page.text)}
    assert wrong == {}
    seen = {house.columns[number] for number in shown}
    assert SHOWN - seen == set()


def _unpacked(data: bytes) -> str:
    """Return all that stands in a file, also where it is packed."""
    if not data.startswith(b"PK"):
        return data.decode("utf-8-sig")
    book = zipfile.ZipFile(io.BytesIO(data))
    return "\n".join(book.read(name).decode() for name in book.namelist())


async def test_tables_hold_no_formula(house: House) -> None:
    """Every file for other programs: text in it stays text, whatever it begins with."""
    files = [route for method, route in TABLE if method == "GET" and re.search(r"\.(\{table\}|csv)$", route)]
    places = {**house.ids, "conversation": house.ids["talk"], "numbers": "owners"}
    told = set()
    for route in sorted(files):
        for kind in ("csv", "xlsx") if "{table}" in route else ("csv",):
            path = route.format_map({**places, "table": kind})
            async with house.browser(route).http.get(house.site.base + path) as answer:
                data = await answer.read()
                assert answer.status == 200, path
                assert re.fullmatch(r'attachment; filename="[\w.-]+"', answer.headers["Content-Disposition"]), path
            assert (leak := leaks.on_page(_unpacked(data))) is None, f"{path} shows {leak}"
            if kind == "csv":
                rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
                # Spreadsheets of this part of the world divide by semicolons, also what was divided by commas.
                others = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=";")
                cells = [cell for row in (*rows, *others) for cell in row]
                assert [cell for cell in cells if cell.strip(' "').startswith(FORMULA)] == [], path
                if any(cell.startswith("'=zz") for row in rows for cell in row):
                    told.add(route)
            else:
                sheet = zipfile.ZipFile(io.BytesIO(data)).read("xl/worksheets/sheet1.xml").decode()
                assert "<f>" not in sheet and "<f " not in sheet, path
    # The others hold numbers alone.
    assert set(files) - told == NUMBERS_ONLY


ODD = (
    "\0",
    "²",
    "-1",
    "9" * 30,
    "0001-01-01",
    "9999-12-31",
    "0" * 26,
    "1-" + "z" * 26,
    "9999999999999999-" + "0" * 26,
    "'\"*%_\\NEAR(a OR",
    "//evil.example/x",
    "a" * 5000,
    "%ff%ed%a0%80",
)
"""What addresses may hold instead of what belongs there; the last stands as octets that are no text."""
STREAMS = re.compile(r"/events$|^/static/|^/metrics$|^/api/|\.pdf$")


def _asked_by(handler: Any) -> list[str]:
    """Return the names that the module of a page reads from addresses: given one by one to ``get``, or listed in a tuple."""
    module = inspect.getmodule(inspect.unwrap(handler))
    assert module is not None
    names: dict[str, None] = {}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        given: Sequence[ast.expr] = ()
        if isinstance(node, ast.Tuple):
            given = node.elts
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            given = node.args[:1]
        words = [each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if words and len(words) == len(given) and all(re.fullmatch(r"[a-z_]{1,20}", word) for word in words):
            names |= dict.fromkeys(words)
    return list(names)


def _pages_of(site: Site) -> list[tuple[str, Any]]:
    """Return every address of the application that is read, with who answers it."""
    routes = make_app(site.core).router.routes()
    found = [(each.resource.canonical, each.handler) for each in routes if each.method == "GET" and each.resource]
    return sorted(((path, handler) for path, handler in found if not STREAMS.search(path)), key=lambda each: each[0])


def _address(base: str, path: str, query: dict[str, str]) -> URL:
    """Return an address whose odd values stand in it as they are."""
    quoted = "&".join(f"{name}={_quoted(value)}" for name, value in query.items())
    return URL(f"{base}{path}?{quoted}", encoded=True)


def _quoted(value: str) -> str:
    return value if value.startswith("%ff") else "".join(f"%{octet:02X}" for octet in value.encode())


async def _fails(browser: Browser, address: URL) -> str:
    """Return what is wrong with the answer to an odd address; nothing where it is refused or read as well as it can be."""
    async with browser.http.get(address, allow_redirects=False) as answer:
        await answer.read()
        if wrong := unguarded(address.path, answer.headers):
            return f"{wrong} {address}"
        to = answer.headers.get("Location", "/")
    if answer.status not in (200, 204, 303, 400, 403, 404, 409, 429):
        return f"{answer.status} {address}"
    return "" if re.match(r"/(?![/\\])", to) else f"leads to {to}: {address}"


@pytest.mark.timeout(500)
async def test_odd_addresses_are_refused_in_words(house: House) -> None:
    """Every page with every name that it may read: something, nothing or a refusal, never a failure and no way out of here."""
    places = {**house.ids, "conversation": house.ids["talk"], "language": "uz", "table": "csv", "kind": "svg"}
    places |= {"numbers": "owners", "page": "first-bot", "picture": "none.webp", "name": "css/app.css", "version": "1"}
    wrong, count = [], 0
    for at, (route, handler) in enumerate(_pages_of(house.site)):
        names = _asked_by(handler)
        browser = house.browser(route)
        path = re.sub(r"\{(\w+)\}", lambda place: places.get(place[1], "none"), route)
        # Every name with something, every page with some for all of them at once: which, goes round.
        queries = [{name: ODD[(at + n) % len(ODD)]} for n, name in enumerate(names)]
        queries += [dict.fromkeys(names, ODD[(at + n) % len(ODD)]) for n in (0, 5, 9)]
        asked = [_address(house.site.base, path, query) for query in queries if query]
        if "{" in route:
            odd = [ODD[n] for n in (0, 1, 3, 6, 9, 12)]
            asked += [
                URL(house.site.base + _quoted(each).join(re.split(r"\{\w+\}", route)), encoded=True) for each in odd
            ]
        wrong += [await _fails(browser, address) for address in asked]
        count += len(asked)
    assert [each for each in wrong if each] == []
    assert count > 1000
