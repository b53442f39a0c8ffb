"""Every route by every kind of person, against the written table; and that refused requests change nothing."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import inspect
import json
import re
import secrets
import sqlite3
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from sqlalchemy import (
    BindParameter,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Text,
    bindparam,
    cast,
    delete,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import sqlite

from db import models
from db.base import ID_LENGTH, Base, JsonText, UtcTime, new_id, utcnow
from services import accounts, bots, endpoints
from services.crypto import digest
from services.knowledge import documents
from tests import servers
from tests.composition import PLENTY
from tests.web.access_table import BODIES, TABLE, line
from tests.web.panel import Browser, Site, open_site, unguarded
from web.app import make_app

IDENTITIES = ("nobody", "owner A", "owner B", "banned A", "administrator", "manager of A", "operator of A")
MEMBERS = {"manager of A": "manager", "operator of A": "operator"}
NAMES = (
    "Piyola",
    "piyola",
    "Gulbahor",
    "Somsa",
    "Qazi",
    "Yetkazish",
    "Osh ellik",
    "Mehribon",
    "ownera@example.uz",
    "another device",
)
"""What stands in the objects of the walk, and nowhere else."""
HELPER = "Gulbahor Yordamchi"
OWNED = {"bots", "channels", "documents", "document_contents", "contacts", "conversations", "chunks", "notices"}
"""Some of the tables in which these objects have rows."""
OWN_WORK = {each.__tablename__ for each in (models.Lane, models.ConversationDue, models.ConversationText)}
"""Tables that the program keeps by itself meanwhile."""
_HASH_LENGTH = 64
# Who may act comes last and finds fresh objects each; what the others are refused must still be there.
MAY_ACT = ("operator of A", "manager of A", "owner A")
ORDER = ("nobody", "banned A", "owner B", "administrator", *MAY_ACT)


@dataclass
class People:
    """Everybody of the walk, with their API tokens."""

    site: Site
    users: dict[str, models.User]
    tokens: dict[str, str]
    watch: sqlite3.Connection
    """Somebody else who reads the database's file."""

    browsers: dict[str, Browser] = field(default_factory=dict)
    handlers: dict[tuple[str, str], Any] = field(default_factory=dict)

    async def browser(self, identity: str, *, fresh: bool = False) -> Browser:
        """Return this person's browser, signed in as far as that is possible; ``fresh``: a new one."""
        if fresh or identity not in self.browsers:
            self.browsers[identity] = await self._open(identity)
        return self.browsers[identity]

    async def _open(self, identity: str) -> Browser:
        if identity == "nobody":
            return self.site.browser()
        user = self.users[identity]
        if identity != "banned A":
            return await self.site.signed_in(user)
        # Banned while signed in: the cookie stays in the browser.
        async with self.site.core.db.write() as session:
            (await session.get_one(models.User, user.id)).banned_at = None
        browser = await self.site.signed_in(user)
        async with self.site.core.db.write() as session:
            await accounts.ban(session, await session.get_one(models.User, user.id))
        return browser


@pytest.fixture(scope="module")
async def people(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[People]:
    """The product with the seven identities."""
    folder = tmp_path_factory.mktemp("access")
    limits = {"api_requests_per_minute": 9999, "bots_per_owner": 5000, "login_attempts_per_15_min": 500}
    # The walk buys plans and is given some: whichever an owner has then, there is room for what comes next.
    prices = {"starter": 149_000, "basic": 290_000, "premium": 590_000}
    sold = {name: {**PLENTY, "title": name.title(), "price_uzs": price} for name, price in prices.items()}
    generous: dict[str, dict[str, Any]] = {"limits": limits, "plans": sold}
    async with open_site(folder, servers_run.new_sqlite(folder), overrides=generous) as site:
        users = {name: await site.person(name.replace(" ", "")) for name in IDENTITIES[1:]}
        tokens = {"nobody": "bf_wrong"}
        async with site.core.db.write() as session:
            admin = await session.get_one(models.User, users["administrator"].id)
            admin.role = "admin"
            for name, user in users.items():
                _, tokens[name] = await accounts.new_api_token(session, user, "walk")
        with contextlib.closing(sqlite3.connect(folder / "botfactory.db", isolation_level=None)) as watch:
            everybody = People(site, users, tokens, watch)
            await everybody.browser("banned A")
            yield everybody


_OWNER: BindParameter[str] = bindparam("owner")
_LEFT = (
    delete(models.Bot).where(models.Bot.owner_id == _OWNER),
    delete(models.User).where(models.User.full_name == HELPER),
    delete(models.Coupon).where(models.Coupon.code.startswith("PIYOLA-")),
    *map(delete, (models.Announcement, models.ErrorRecord, models.Notice, models.Member, models.Invitation)),
    *(delete(own).where(own.owner_id == _OWNER) for own in (models.Endpoint, models.CannedReply, models.RemoteView)),
    *(delete(own).where(own.user_id == _OWNER) for own in (models.Payment, models.AccessRequest, models.Subscription)),
    delete(models.ReferralEntry).where(models.ReferralEntry.partner_id == _OWNER),
    delete(models.ApiToken).where(models.ApiToken.name == "object"),
    delete(models.PanelSession).where(models.PanelSession.user_agent == "another device"),
)
"""What the walk ended begins anew, and what it leaves goes: with each route the owner would have more of everything."""


def _clear(connection: Connection, owner: str) -> None:
    for statement in _LEFT:
        connection.execute(statement, {"owner": owner})


async def _objects(people: People, route: str = "") -> dict[str, str]:
    """Make fresh objects of owner A and return what fills the places of an address."""
    owner = people.users["owner A"]
    core = people.site.core
    await core.db.transact(_clear, owner.id)
    async with core.db.write() as session:
        working = {
            name: models.Member(owner_id=owner.id, user_id=people.users[name].id, role=role)
            for name, role in MEMBERS.items()
        }
        helper = models.User(full_name=HELPER)
        session.add_all([helper, *working.values()])
        await session.flush()
        colleague = models.Member(owner_id=owner.id, user_id=helper.id, role="operator")
        invitation = models.Invitation(
            token_hash=digest(new_id()),
            owner_id=owner.id,
            role="operator",
            name="Gulbahor",
            expires_at=utcnow() + dt.timedelta(days=1),
        )
        session.add_all([colleague, invitation])
        bot = await bots.create(session, owner, "Piyola choyxonasi", limits=core.settings.limits)
        web = await bots.connect_web(session, bot)
        document = models.Document(
            bot_id=bot.id, name="narxnoma-piyola.txt", kind="txt", status="failed", error_code="damaged"
        )
        contact = models.Contact(bot_id=bot.id, channel_id=web.id, external_id="c1", name="Gulbahor Mijozova")
        question = models.UnansweredQuestion(bot_id=bot.id, question="Somsa bormi?", folded="somsa bormi")
        notice = models.Notice(
            user_id=owner.id, kind="over_limit", key="walk:" + bot.id, params={"bot": "Piyola choyxonasi"}
        )
        test = models.TestQuestion(bot_id=bot.id, question="Somsa nechi pul?", expected="Somsa")
        broadcast = models.Broadcast(bot_id=bot.id, title="Somsa bayrami", texts={"uz": "Somsa arzon."})
        session.add_all([document, contact, question, notice, test, broadcast])
        await session.flush()
        session.add(models.DocumentContent(document_id=document.id, content=b"text"))
        talk = models.Conversation(bot_id=bot.id, channel_id=web.id, contact_id=contact.id)
        # One at a time: an owner may have only so many.
        label = await session.scalar(select(models.Label).where(models.Label.owner_id == owner.id))
        label = label or models.Label(owner_id=owner.id, name="Yetkazish")
        reply = models.CannedReply(owner_id=owner.id, shortcut=bot.id[-12:], text="Osh ellik ming.")
        session.add_all([talk, label, reply])
        await session.flush()
        note = models.Note(conversation_id=talk.id, author_id=owner.id, text="Mehribon odam.")
        session.add(note)
        token = models.ApiToken(
            user_id=owner.id,
            name="object",
            token_hash=new_id(),
            last4="0000",
            revoked_at=None if "{token}" in route else utcnow(),
        )
        end = utcnow() + dt.timedelta(days=1)
        device = models.PanelSession(id=new_id(), user_id=owner.id, user_agent="another device", expires_at=end)
        # A number of its own each time: an address that names a payment is walked by several.
        facts = {"gateway": "payme", "price_tiyin": 29_000_000, "amount_tiyin": 29_000_000, "expires_at": end}
        number = str(10**8 + secrets.randbelow(9 * 10**8))
        payment = models.Payment(
            number=number, user_id=owner.id, plan="basic", period="monthly", note="Mehribon", **facts
        )
        hook = models.Endpoint(
            owner_id=owner.id,
            url="https://piyola.example.uz/hook",
            secret=core.crypto.encrypt({"secret": endpoints.new_secret()}),
        )
        session.add_all([token, device, payment, hook])
        await session.flush()
        told = models.EndpointEvent(endpoint_id=hook.id, event="test", payload="{}", status="delivered")
        session.add(told)
        await documents.add_answer(session, bot, "Qazi necha pul?", "Qazi yuz ming.")
        request = models.AccessRequest(user_id=owner.id, plan="basic", period="monthly", note="Qazi bilan ellik")
        coupon = models.Coupon(code=f"PIYOLA-{bot.id[-12:].upper()}", percent=10)
        now = core.now()
        span = models.Subscription(
            user_id=owner.id,
            plan="basic",
            period="monthly",
            source="grant",
            starts_at=now - dt.timedelta(days=1),
            ends_at=now + dt.timedelta(days=29),
        )
        earned = models.ReferralEntry(
            partner_id=owner.id, kind="commission", amount_tiyin=100_000_00, available_at=now - dt.timedelta(days=1)
        )
        error = models.ErrorRecord(fingerprint=digest(new_id()), level="error", event="job_failed")
        each = {"title": "Yangilik", "text": "Yangi"}
        announcement = models.Announcement(
            texts={"uz": each, "ru": each, "en": each},
            audience={"plan": "expired", "languages": ["en"], "service": False},
            by_mail=True,
        )
        session.add_all([request, coupon, span, earned, error, announcement])
        payout = models.ReferralEntry(
            partner_id=owner.id, kind="payout", amount_tiyin=-100, available_at=now, created_at=now
        )
        looked = models.RemoteView(
            owner_id=owner.id, reason="Qazi haqida", asked_at=utcnow(), expires_at=utcnow() + dt.timedelta(minutes=15)
        )
        session.add(looked)
        if "{payout}" in route:
            session.add(payout)
        # Letters to the owner come back where an administrator may let them go again.
        refused = now if route == "/admin/owners/{owner}/mail" else None
        (await session.get_one(models.User, owner.id)).mail_refused_at = refused
        await session.flush()
        taught = (await documents.answers_page(session, bot))[0][0].id
    return {
        "bot": bot.id,
        "bot_id": bot.id,
        "public_id": bot.public_id,
        "channel": web.id,
        "channel_id": web.id,
        "document": document.id,
        "document_id": document.id,
        "conversation": talk.id,
        "contact": talk.contact_id,
        "conversation_id": talk.id,
        "note": note.id,
        "label": label.id,
        "reply": reply.id,
        "question": question.id,
        "test": test.id,
        "broadcast": broadcast.id,
        "step": "pause",
        "answer": taught,
        "answer_id": taught,
        "member": colleague.id,
        "membership": working["operator of A"].id,
        "invitation": invitation.token_hash,
        "notice": notice.id,
        "token": token.id,
        "session": device.id,
        "request": request.id,
        "coupon": coupon.id,
        "payout": payout.id or "none",
        "view": looked.id,
        "span": span.id,
        "owner": owner.id,
        "endpoint": hook.id,
        "event": told.id,
        "number": payment.number,
        "kind": "svg",
        "section": "bots",
        "table": "csv",
        "numbers": "owners",
        "payment": payment.id,
        "letter": "offer_night",
        "saying": "token_refused",
        "language": "uz",
        "page": "first-bot",
        "picture": "none.webp",
        "state": "looking",
        "error": error.fingerprint,
        "change": "hide",
        "what": "answering",
        "announcement": announcement.id,
        "item": "0",
        "job": "0",
        "backup": "botfactory-20260101-000000.zip",
        "version": "old",
        "name": "css/app.css",
        "path": "v1/nothing",
    }


def _questions() -> dict[str, str]:
    """Return a query a table for every row that names one of the ids in a JSON array."""
    found = {}
    for table in Base.metadata.sorted_tables:
        texts = [column.name for column in table.columns if isinstance(column.type, String)]
        if texts and table.name not in OWN_WORK:
            named = " OR ".join(f'"{column}" IN (SELECT value FROM json_each(:ids))' for column in texts)
            found[table.name] = f'SELECT * FROM "{table.name}" WHERE {named}'
    return found


_QUESTIONS = _questions()
"""Written once: the walk asks them two thousand times."""


def _rows(connection: Connection, ids: Collection[str]) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table that names one of these ids, but for what the program writes by itself meanwhile."""
    given = {"ids": json.dumps(sorted(ids))}
    return {
        table: sorted((tuple(row) for row in connection.exec_driver_sql(question, given)), key=repr)
        for table, question in _QUESTIONS.items()
    }


def _path(route: str, objects: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: objects[match[1]], route)


@dataclass(frozen=True)
class State:
    """The rows of objects, and SQLite's number of the file as it was then: another commit gives another number."""

    rows: dict[str, list[tuple[object, ...]]]
    version: int = field(compare=False)


async def _state(people: People, objects: dict[str, str], before: State | None = None) -> State:
    """Return the rows that name the objects. Where nothing was committed since ``before``, they are those."""
    (version,) = people.watch.execute("PRAGMA data_version").fetchone()
    if before is not None and version == before.version:
        return before
    # Not the owner, whom whatever the owner does names.
    ids = {value for name, value in objects.items() if name != "owner" and len(value) in (ID_LENGTH, _HASH_LENGTH)}
    return State(await people.site.core.db.transact(_rows, ids), version)


async def _answer(people: People, identity: str, method: str, route: str, path: str) -> tuple[int, str]:
    """Make one request as somebody; return status and body, which of the endless stream of events is left unread."""
    body = BODIES.get((method, route))
    sent = "GET" if method == "*" else method
    if route.startswith("/api/"):
        browser = people.site.browser()
        token = people.tokens[identity]
        page = await browser.request(
            sent, path, json=body if body is not None else None, headers={"Authorization": f"Bearer {token}"}
        )
        return page.status, page.text
    browser = await people.browser(identity)
    if route == "/events":
        async with browser.http.get(people.site.base + path, allow_redirects=False) as answer:
            assert unguarded(path, answer.headers) == []
            return answer.status, ""
    if sent in ("GET", "OPTIONS"):
        page = await browser.request(sent, path)
        return page.status, page.text
    page = await browser.post(path, **{name: str(value) for name, value in (body or {}).items()})
    if route == "/logout":
        await people.browser(identity, fresh=True)
    return page.status, page.text


async def test_every_route_has_a_line(people: People) -> None:
    """A new route must be thought about before it passes."""
    app = make_app(people.site.core)
    routes = {(r.method, r.resource.canonical) for r in app.router.routes() if r.method != "HEAD" and r.resource}
    assert sorted(routes ^ set(TABLE)) == []


@pytest.mark.parametrize(("method", "route"), sorted(TABLE))
async def test_walk(people: People, method: str, route: str) -> None:
    """Each identity gets the status that the table says.

    The body of a refusal names nothing of the owner's, and no row that is part of it or points to it has changed.
    """
    expected = line(TABLE[method, route]).of()
    # Who has the address of a bot's own page may read its name there.
    private = [name for name in NAMES if name != "Piyola" or not route.startswith("/chat/")]
    happened = {}
    objects: dict[str, str] = {}
    untouched = False
    for identity in ORDER:
        may_act = identity in MAY_ACT or (identity == "administrator" and route.startswith("/admin"))
        if not objects or (may_act and not untouched):
            objects = await _objects(people, route)
            path = _path(route, objects)
            before = await _state(people, objects)
            assert {table for table, rows in before.rows.items() if rows} >= OWNED
        status, body = await _answer(people, identity, method, route, path)
        if (
            method == "GET"
            and status == 200
            and body.lstrip().startswith("<")
            and not body.startswith(("<svg", "<?xml"))
        ):
            assert body.lstrip()[:9].lower() == "<!doctype", "a part of a page, opened in a browser"
        happened[identity] = status
        # Whoever works for the owner may know the names of the bots, but not what was refused.
        seen = identity == "owner A" or (identity == "administrator" and route.startswith("/admin"))
        if not seen and (status >= 300 if identity not in MEMBERS else status == 404):
            assert [name for name in private if name in body] == [], identity
        after = await _state(people, objects, before)
        if not may_act or status >= 400:
            assert after.rows == before.rows, identity
        # Who only looked, or was refused, leaves them fresh for the next.
        untouched = (method == "GET" or status >= 400) and after.rows == before.rows
        before = State(before.rows, after.version) if after.rows == before.rows else before
    assert happened == expected


MISSING, MISSING_HASH, MISSING_NUMBER = "01aaaaaaaaaaaaaaaaaaaaaaaa", "a" * _HASH_LENGTH, "999999999"


def _missing(name: str, value: str) -> str:
    """Return what looks like an id of an object, and is none's."""
    if name == "number":
        return MISSING_NUMBER
    return {ID_LENGTH: MISSING, _HASH_LENGTH: MISSING_HASH}.get(len(value), value)


FOREIGN = sorted(
    (method, route)
    for method, route in TABLE
    if "{" in route and line(TABLE[method, route]).five[2] == 404 and not route.startswith("/admin/")
)


async def test_foreign_is_missing(people: People) -> None:
    """Another's object and one that never was get the same answer from every address, but for the code of the request."""
    objects = await _objects(people)
    missing = {name: _missing(name, value) for name, value in objects.items()}

    def bare(text: str, path: str) -> str:
        # A page also repeats its own address.
        return re.sub(r"[0-9a-f]{8,}", "", text.replace(path, "").replace(quote(path, safe=""), ""))

    different = {}
    for method, route in FOREIGN:
        seen = []
        for given in (objects, missing):
            path = _path(route, given)
            status, text = await _answer(people, "owner B", method, route, path)
            seen.append((status, bare(text, path)))
        if seen[0] != seen[1] or seen[0][0] != 404:
            different[method, route] = [status for status, _ in seen]
    assert different == {}
    assert len(FOREIGN) > 100


LOOKED = ("audit_log", "panel_sessions.last_seen_at", "api_tokens.last_used_at")
"""What may be noted of somebody who looks: that it was looked."""


@pytest.mark.parametrize("identity", ["owner A", "administrator"])
async def test_opening_a_page_changes_nothing(people: People, identity: str) -> None:
    """No address that is only read does anything: a link or a picture on another site's page could open it."""
    changed: dict[str, set[str]] = {}
    objects = await _objects(people)
    browser = await people.browser(identity)

    def rows(connection: Connection) -> dict[str, dict[tuple[object, ...], dict[str, object]]]:
        return {
            table.name: {
                tuple(row[key.name] for key in table.primary_key): dict(row)
                for row in connection.execute(select(table)).mappings()
            }
            for table in Base.metadata.sorted_tables
            if table.name not in {*OWN_WORK, "jobs"}
        }

    before = await people.site.core.db.transact(rows)
    for method, route in sorted(TABLE):
        if method != "GET" or route == "/events":
            continue
        (version,) = people.watch.execute("PRAGMA data_version").fetchone()
        if route.startswith("/api/"):
            await _answer(people, identity, method, route, _path(route, objects))
        else:
            await browser.request("GET", _path(route, objects))
        if people.watch.execute("PRAGMA data_version").fetchone() == (version,):
            continue
        after = await people.site.core.db.transact(rows)
        for table, known in after.items():
            for key in known.keys() | before[table].keys():
                old, new = before[table].get(key, {}), known.get(key, {})
                if old != new:
                    columns = {f"{table}.{name}" for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
                    changed.setdefault(route, set()).update(each for each in columns if not each.startswith(LOOKED))
        before = after
    assert not (found := {f"{route}: {sorted(columns)}" for route, columns in changed.items() if columns}), found


async def test_foreign_id_inside_own_bot(people: People) -> None:
    """An own bot in the address opens no foreign object behind it."""
    theirs = await _objects(people)
    stranger = people.users["owner B"]
    own = await people.site.bot_of(stranger)
    browser = await people.browser("owner B")
    for path in (
        f"/bots/{own.id}/documents/{theirs['document']}/delete",
        f"/bots/{own.id}/documents/{theirs['document']}/retry",
        f"/bots/{own.id}/unanswered/{theirs['question']}/dismiss",
        f"/bots/{own.id}/channels/{theirs['channel']}/disconnect",
        f"/bots/{own.id}/answers/{theirs['answer']}/delete",
        f"/bots/{own.id}/tests/{theirs['test']}/delete",
        f"/bots/{own.id}/tests/{theirs['test']}",
    ):
        assert (await browser.post(path)).status == 404
    change = {"question": "Mening savolim?", "answer": "Mening javobim."}
    assert (await browser.post(f"/bots/{own.id}/answers/{theirs['answer']}", **change)).status == 404
    talk = f"/inbox/{theirs['conversation']}"
    assert (await browser.post(f"{talk}/status", status="human")).status == 404
    assert (await browser.get(f"{talk}?bot={own.id}")).status == 404
    assert (await browser.get(f"/bots/{own.id}/conversations/{theirs['conversation']}")).status == 404
    assert (await browser.post(f"/notices/{theirs['notice']}/dismiss")).status == 303
    async with people.site.core.db.read() as session:
        assert (await session.get_one(models.Notice, theirs["notice"])).seen_at is None
        assert (await session.get_one(models.Document, theirs["document"])).deleted_at is None
        assert (await session.get_one(models.UnansweredQuestion, theirs["question"])).answered_at is None
        assert (await session.get_one(models.Channel, theirs["channel"])).external_id is not None
        assert (await session.get_one(models.Conversation, theirs["conversation"])).status == "bot"
        known = (await documents.answers_page(session, await session.get_one(models.Bot, theirs["bot"])))[0]
        assert [(row.question, row.text) for row in known] == [("Qazi necha pul?", "Qazi yuz ming.")]
        await session.rollback()
    async with people.site.core.db.write() as session:
        await bots.delete(session, await bots.get(session, stranger, own.id))


EXEMPT = (
    "/api/",
    "/telegram/webhook/",
    "/whatsapp/webhook",
    "/instagram/webhook",
    "/payments/",
    "/chat/",
    "/widget/",
    "/unsubscribe/",
)
"""What carries no cookie of the panel: programs with tokens and signatures, a visitor's own secret, the link of a letter."""
POSTS = sorted(route for method, route in TABLE if method == "POST" and not route.startswith(EXEMPT))


def _poster(route: str) -> str:
    """Return who may send a form."""
    if route.startswith("/admin/"):
        return "administrator"
    return "nobody" if len(set(line(TABLE["POST", route]).five)) == 1 else "owner A"


@pytest.fixture(scope="module")
async def forms(people: People) -> dict[str, dict[str, str]]:
    """The forms of every page, as they stand there: the route that each goes to, its fields and what is in them."""
    # Of addresses that fit, the one with the fewest places is meant.
    few = sorted(POSTS, key=lambda route: route.count("{"))
    patterns = [(route, re.compile(re.sub(r"\{\w+\}", "[^/]+", route))) for route in few]
    found: dict[str, dict[str, str]] = {route: {} for route in POSTS}
    objects = await _objects(people)
    for method, route in TABLE:
        if method != "GET" or route == "/events" or route.startswith(("/api/", "/static/")):
            continue
        status, text = await _answer(people, _poster_of_page(route), method, route, _path(route, objects))
        if status != 200:
            continue
        reader = FormReader()
        reader.feed(text)
        for action, fields in reader.forms:
            path = action.partition("?")[0] or _path(route, objects)
            target = next((route for route, pattern in patterns if pattern.fullmatch(path)), None)
            if target is not None:
                found[target] |= fields
    return found


def _poster_of_page(route: str) -> str:
    if route.startswith("/admin"):
        return "administrator"
    return "nobody" if line(TABLE["GET", route]).five[0] == 200 else "owner A"


class FormReader(HTMLParser):
    """Reads the forms of a page: where each goes, and its fields with what stands in them."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str]]] = []
        self._in: dict[str, str] | None = None
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name = given.get("name", "")
        if tag == "form":
            self._in = {}
            if given.get("method", "").lower() == "post":
                self.forms.append((given.get("action", ""), self._in))
        elif self._in is None:
            return
        elif tag == "select":
            self._select = name
            self._in.setdefault(name, "")
        elif tag == "option":
            if self._select and ("selected" in given or not self._in[self._select]):
                self._in[self._select] = given.get("value", "")
        elif tag in ("input", "textarea", "button") and name not in ("", "csrf", "ask"):
            if given.get("type") in ("checkbox", "radio", "submit") and "checked" not in given:
                self._in.setdefault(name, given.get("value", ""))
            elif given.get("type") != "file":
                self._in[name] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._in = None
        elif tag == "select":
            self._select = ""


async def test_every_form_asks_where_it_comes_from(people: People) -> None:
    """No token, an invented or another's one, another site's page with the right one, JSON as plain text: nothing changes."""
    objects = await _objects(people)
    stranger = await people.browser("owner B")
    before = await _state(people, objects)
    passed = []
    for route in POSTS:
        path = _path(route, objects)
        browser = await people.browser(_poster(route))
        await browser.get("/login" if _poster(route) == "nobody" else "/settings")
        body = {name: str(value) for name, value in BODIES.get(("POST", route), {}).items()}
        right = {**body, "csrf": browser.csrf}
        for sent in (
            {"data": body},
            {"data": {**body, "csrf": "0" * 128}},
            {"data": {**body, "csrf": stranger.csrf}},
            {"data": right, "headers": {"Origin": "https://evil.example"}},
            {"data": right, "headers": {"Sec-Fetch-Site": "cross-site"}},
            {"data": json.dumps(right), "headers": {"Content-Type": "text/plain"}},
        ):
            answer = await browser.request("POST", path, **sent)
            if answer.status != 403 or "frame-ancestors 'none'" not in answer.headers["Content-Security-Policy"]:
                passed.append((route, answer.status, sent))
    assert passed == []
    assert await _state(people, objects) == before


async def _too_long(people: People, path: str) -> int:
    """Announce a body that is larger than any form, send none of it, and return the status of the answer."""
    reader, writer = await asyncio.open_connection(*people.site.core.address)
    head = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Length: 99999999",
    ]
    writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
    async with asyncio.timeout(30):
        status = int((await reader.readline()).split()[1])
    writer.close()
    return status


ODD = (
    ("utf-8", "\0\u202e<b>"),
    # Python's own encodings make halves of characters, which no database stores.
    ("unicode_escape", r"\ud800x"),
    ("utf-8", "9" * 30),
    ("utf-8", "²"),
    ("utf-8", "//evil.example/x"),
    ("utf-8", "x" * 100_000),
)
"""What fields may hold instead of what belongs there, and how the browser says it is written."""


@pytest.mark.parametrize("route", POSTS)
async def test_odd_fields_are_refused_in_words(people: People, forms: dict[str, dict[str, str]], route: str) -> None:
    """Every field of every form: taken as it is or refused, never a failure and no way out of here; nor too large a body."""
    identity = _poster(route)
    fields = {**forms[route], **{name: str(value) for name, value in BODIES.get(("POST", route), {}).items()}}
    objects = await _objects(people, route)
    assert await _too_long(people, _path(route, objects)) == 413
    source = inspect.getsource(_handler(people, "POST", route))
    named = re.findall(r'\.(?:text|get|secret|all|upload|uploads)\(\s*"(\w+)"', source)
    wrong = []
    browser = await people.browser(identity)
    if not browser.csrf:
        await browser.get("/login")
    for n, name in enumerate(dict.fromkeys((*fields, *named))):
        # Two of them each, going round.
        for charset, odd in (ODD[n % len(ODD)], ODD[(n + 3) % len(ODD)]):
            pairs = {**fields, "csrf": browser.csrf, name: odd}
            body = "&".join(
                f"{key}={quote(each) if charset == 'utf-8' or key != name else each}" for key, each in pairs.items()
            )
            kind = f"application/x-www-form-urlencoded; charset={charset}"
            headers = {"Content-Type": kind, "Referer": "https://evil.example/x", "Sec-Fetch-Site": "same-origin"}
            answer = await browser.request("POST", _path(route, objects), data=body.encode(), headers=headers)
            if answer.status == 500 or not re.match(r"/(?![/\\])", answer.location or "/"):
                wrong.append((name, odd[:40], answer.status, answer.location))
            if answer.status < 400:
                objects = await _objects(people, route)
                browser = await people.browser(identity, fresh=identity == "nobody")
                await browser.get("/settings" if identity != "nobody" else "/login")
    files = aiohttp.FormData(default_to_multipart=True)
    for name in {*fields, *named}:
        files.add_field(name, b"\xff\xfe\x00", filename="x\"'<b>.txt", content_type="application/octet-stream")
    token = {"X-CSRF-Token": browser.csrf}
    answer = await browser.request("POST", _path(route, objects), data=files, headers=token)
    if answer.status == 500:
        wrong.append(("files", "", answer.status, ""))
    await people.browser(identity, fresh=True)
    assert wrong == []


MASSED, MASSED_ID, MASSED_NUMBER = "massed", "0massassigned0000000000000", 987_654_321
MASSED_MOMENT = dt.datetime(2099, 12, 31, 1, 2, 3, tzinfo=dt.UTC)


FILLED = {
    "full_name": "Aziza Rahimova",
    "email": "aziza@example.uz",
    "password": "a-long-password",
    "phone": "+998 90 765 43 21",
    "name": "Piyola choyxonasi",
    "text": "Salom",
    "message": "Salom",
    "title": "Bahor",
    "question": "Somsa bormi?",
    "answer": "Ha, bor.",
    "reason": "Egasi so‘radi",
    "url": "https://piyola.example.uz/other",
    "shortcut": "salom",
    "days": "3",
    "price": "100",
}
"""What fields that stand empty are filled with, so that forms are taken."""


def _given(column: Column[Any], theirs: dict[str, str]) -> Any:
    """Return what a form sends for a column that it has no field for."""
    if column.name in theirs:
        return theirs[column.name]
    if column.name == "role":
        return "admin"
    if isinstance(column.type, JsonText):
        return json.dumps({MASSED: MASSED})
    if isinstance(column.type, UtcTime):
        return MASSED_MOMENT.isoformat()
    if isinstance(column.type, Boolean):
        return "1"
    if isinstance(column.type, Integer | Numeric | Float):
        return MASSED_NUMBER
    return MASSED_ID if isinstance(column.type, String) and column.type.length == ID_LENGTH else MASSED


def _searches() -> dict[str, tuple[str, list[str]]]:
    """Return a query a table that tells of each of these columns whether it holds what only fields beside a form have brought."""
    found = {}
    for table in Base.metadata.sorted_tables:
        columns = [column for column in table.columns if not isinstance(column.type, LargeBinary)]
        told = []
        for column in columns:
            if isinstance(column.type, UtcTime):
                is_there: Any = column == literal(MASSED_MOMENT, column.type)
            elif isinstance(column.type, Integer | Numeric | Float):
                is_there = column == MASSED_NUMBER
            else:
                is_there = cast(column, Text).like(f"%{MASSED}%") | (cast(column, Text) == MASSED_ID)
            told.append(func.max(is_there))
        query = select(*told).compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        found[table.name] = (str(query).replace("%%", "%"), [str(column) for column in columns])
    return found


_SEARCHES = _searches()


def _massed(connection: Connection) -> list[str]:
    """Return the columns in which something stands that only fields beside a form have brought."""
    found = []
    for question, columns in _SEARCHES.values():
        (told,) = connection.exec_driver_sql(question)
        found += [column for column, is_there in zip(columns, told, strict=True) if is_there]
    return found


def _administrators(connection: Connection) -> list[str]:
    """Return who is administrator."""
    return list(connection.scalars(select(models.User.id).where(models.User.role == "admin").order_by(models.User.id)))


@pytest.mark.parametrize(
    ("method", "route"),
    sorted(
        each
        for each in TABLE
        if (each[0] == "POST" and each[1] in POSTS) or (each[1].startswith("/api/v1") and each[0] in ("POST", "PATCH"))
    ),
)
async def test_what_a_form_does_not_have_changes_nothing(
    people: People, forms: dict[str, dict[str, str]], method: str, route: str
) -> None:
    """Every form and call with every column of the database as a field beside its own, among them another owner's ids."""
    stranger = people.users["owner B"]
    objects = await _objects(people, route)
    bot = await people.site.bot_of(stranger)
    theirs = dict.fromkeys(("user_id", "owner_id", "partner_id", "author_id", "assignee_id", "actor_id"), stranger.id)
    theirs |= {"bot_id": bot.id}
    handler = _handler(people, method, route)
    module = inspect.getsource(inspect.getmodule(handler) or handler)
    body = dict(BODIES.get((method, route), {}))
    known = {*forms.get(route, ()), *body, *re.findall(r'["\'](\w+)["\']', inspect.getsource(handler)), "csrf", "ask"}
    # What the same module reads elsewhere may be its own field under another roof; rights never are.
    beside = set(re.findall(r'"(\w+)"', module)) - {"id", "role", "owner_id", "user_id", "bot_id"}
    extra = {
        column.name: _given(column, theirs)
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if column.name not in known | beside
    } | {"is_admin": "1"}
    assert {"id", "owner_id", "user_id", "banned_at", "ends_at"} <= set(extra) | known
    before = await people.site.core.db.transact(_rows, {stranger.id, bot.id})
    administrators = await people.site.core.db.transact(_administrators)
    path = _path(route, objects)
    if route.startswith("/api/"):
        token = {"Authorization": f"Bearer {people.tokens['owner A']}"}
        for sent in (
            body | extra,
            *({**body, name: value} for name, value in extra.items() if name in ("owner_id", "id")),
        ):
            answer = await people.site.browser().request(method, path, json=sent, headers=token)
            assert answer.status < 500
    else:
        browser = await people.browser(_poster(route))
        own = {name: value or FILLED.get(name, "") for name, value in forms[route].items()}
        # A form of more than 200 fields is refused as a whole.
        beside_it = sorted(extra)
        for at in (0, 150):
            part = beside_it[at : at + 150]
            assert len(own) + len(body) + len(part) < 200
            fields = {**own, **body, **{name: extra[name] for name in part}}
            answer = await browser.post(path, **{name: str(value) for name, value in fields.items()})
            assert answer.status != 500, answer.visible()
            if answer.status < 400 and at == 0:
                browser = await people.browser(_poster(route), fresh=True)
                path = _path(route, await _objects(people, route))
    if route in ("/logout", "/settings/sessions/end-others", "/settings/password"):
        await people.browser(_poster(route), fresh=True)
    assert await people.site.core.db.transact(_massed) == []
    assert await people.site.core.db.transact(_administrators) == administrators
    after = await people.site.core.db.transact(_rows, {stranger.id, bot.id})
    assert {table: rows for table, rows in after.items() if rows != before[table]} == {}


def _handler(people: People, method: str, route: str) -> Any:
    """Return the function of ours that answers."""
    if not people.handlers:
        routes = make_app(people.site.core).router.routes()
        people.handlers |= {(r.method, r.resource.canonical): r.handler for r in routes if r.resource}
    found = people.handlers[method, route]
    # A call of the API is an object that holds its function.
    return inspect.unwrap(getattr(getattr(found, "__self__", None), "handler", found))
