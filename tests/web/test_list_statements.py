"""Every list by cursor: a page asks the database the same whether there are 3 rows or 120, and the ways on lead through all of
them, each once."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import new_id, utcnow
from services import endpoints
from tests import servers
from tests.composition import asked_of
from tests.web.panel import Browser, Site, open_site, web_talk

FEW, MANY = 3, 120
SECOND = dt.timedelta(seconds=1)
END = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
_NEXT = re.compile(r'<a[^>]*\brel="next"[^>]*\bhref="([^"]+)"')


@dataclass
class Place:
    """The product with an owner, a bot of theirs, and an administrator."""

    site: Site
    owner: models.User
    admin: models.User
    bot: models.Bot
    at_owner: Browser
    at_admin: Browser


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("lists")
    limits = {"limits": {"documents_per_bot": 500, "bots_per_owner": 100}}
    async with open_site(folder, servers_run.new_sqlite(folder), overrides=limits) as site:
        owner, admin = await site.person("Egasi"), await site.person("Boshliq")
        async with site.core.db.write() as session:
            (await session.get_one(models.User, admin.id)).role = "admin"
        bot = await site.bot_of(owner, "Chinor")
        yield Place(site, owner, admin, bot, await site.signed_in(owner), await site.signed_in(admin))


Make = Callable[[Place, AsyncSession, int, str], Any]


@dataclass(frozen=True)
class Listed:
    """A list: its address, what makes row ``n`` of it (named ``word``), and what its rows are known by on the page.

    ``way``: stands in the address of the following page where a page has several lists. ``ready``: what is there before the
    rows; returns what fills ``{}`` of the address.
    """

    path: str
    make: Make
    admin: bool = False
    mark: str = r"belgi-\d{3}"
    way: str = ""
    ready: Callable[[Place, AsyncSession], Any] | None = None
    pages: bool = True


def _at(n: int) -> dt.datetime:
    return utcnow() - dt.timedelta(days=1) + n * SECOND


async def _person(session: AsyncSession, word: str, n: int) -> models.User:
    person = models.User(full_name=word, email=f"{new_id()}@example.uz", created_at=_at(n))
    session.add(person)
    await session.flush()
    return person


async def _talk(place: Place, session: AsyncSession, n: int, word: str) -> None:
    await web_talk(session, place.bot, word, last_message_at=_at(n), last_inbound_at=_at(n))


async def _owner(place: Place, session: AsyncSession, n: int, word: str) -> None:
    await _person(session, word, n)


async def _logged(place: Place, session: AsyncSession, n: int, word: str) -> None:
    session.add(models.AuditLog(actor_id=place.admin.id, action="owner_written", details={"reason": word}))


async def _payment(place: Place, session: AsyncSession, n: int, word: str) -> None:
    money = {"plan": "basic", "period": "monthly", "gateway": "payme", "price_tiyin": 100, "amount_tiyin": 100}
    session.add(
        models.Payment(number=f"900000{n:03}", user_id=place.owner.id, status="cancelled", expires_at=END, **money)
    )


async def _request(place: Place, session: AsyncSession, n: int, word: str, status: str = "pending") -> None:
    person = await _person(session, word, n)
    row = models.AccessRequest(user_id=person.id, plan="basic", period="monthly", status=status)
    row.decided_at = None if status == "pending" else utcnow()
    session.add(row)


async def _decided(place: Place, session: AsyncSession, n: int, word: str) -> None:
    await _request(place, session, n, word, "declined")


async def _coupon(place: Place, session: AsyncSession, n: int, word: str) -> None:
    session.add(models.Coupon(code=word.upper(), percent=10))


async def _earned(place: Place, session: AsyncSession, n: int, word: str, kind: str = "commission") -> None:
    person = await _person(session, word, n)
    # Some are due as much as others.
    session.add(models.ReferralEntry(partner_id=person.id, kind=kind, amount_tiyin=100 + n // 10, available_at=_at(n)))


async def _entry(place: Place, session: AsyncSession, n: int, word: str) -> None:
    row = {"kind": "payout", "amount_tiyin": -100, "note": word}
    session.add(models.ReferralEntry(partner_id=place.owner.id, available_at=_at(n), **row))


async def _error(place: Place, session: AsyncSession, n: int, word: str) -> None:
    # Two in each moment: the fingerprint tells which comes first.
    moment = _at(n // 2)
    session.add(models.ErrorRecord(fingerprint=f"{n:064x}", level="error", event=word, first_at=moment, last_at=moment))


async def _poison(place: Place, session: AsyncSession, n: int, word: str) -> None:
    item = models.InboxItem(lane=word, channel_id=new_id(), external_id=word, payload="{}", status="dead", error=word)
    session.add(item)


async def _dead_job(place: Place, session: AsyncSession, n: int, word: str) -> None:
    session.add(models.Job(lane=word, kind="index", status="dead", error=word))


async def _broadcast(place: Place, session: AsyncSession, n: int, word: str) -> None:
    session.add(models.Broadcast(bot_id=place.bot.id, title=word, texts={"uz": "Aksiya"}))


async def _sent(place: Place, session: AsyncSession) -> tuple[str, str]:
    found = models.Broadcast(bot_id=place.bot.id, title="Hammaga", texts={"uz": "Aksiya"}, status="done")
    found.started_at = found.finished_at = utcnow()
    session.add(found)
    await session.flush()
    return place.bot.id, found.id


async def _delivery(place: Place, session: AsyncSession, n: int, word: str) -> None:
    talk = await web_talk(session, place.bot, f"y{word}", last_message_at=_at(n))
    contact = await session.get_one(models.Contact, talk.contact_id)
    contact.name = word
    newest = select(models.Broadcast.id).where(models.Broadcast.title == "Hammaga")
    row = models.BroadcastDelivery(broadcast_id=str(await session.scalar(newest)), contact_id=contact.id, status="sent")
    session.add(row)


async def _document(place: Place, session: AsyncSession, n: int, word: str) -> None:
    facts = {"kind": "txt", "status": "ready", "progress": 100, "serving": True}
    session.add(models.Document(bot_id=place.bot.id, name=f"{word}.txt", **facts))


async def _read(place: Place, session: AsyncSession) -> tuple[str, str]:
    document = models.Document(bot_id=place.bot.id, name="katta.txt", kind="txt", status="ready", serving=True)
    session.add(document)
    await session.flush()
    return place.bot.id, document.id


async def _passage(place: Place, session: AsyncSession, n: int, word: str) -> None:
    newest = select(models.Document.id).where(models.Document.name == "katta.txt")
    words = {"text": word, "stems": word, "grams": "", "position": n}
    session.add(models.Chunk(bot_id=place.bot.id, document_id=str(await session.scalar(newest)), **words))


async def _question(place: Place, session: AsyncSession, n: int, word: str) -> None:
    # Questions that are alike stand in one group: each is about something else.
    text = f"{word} {''.join(chr(97 + int(digit)) * 9 for digit in f'{n:03}')} bormi?"
    session.add(models.UnansweredQuestion(bot_id=place.bot.id, question=text, folded=text))


async def _version(place: Place, session: AsyncSession, n: int, word: str) -> str:
    content = {"name": word, "system_prompt": "", "languages": ["uz"], "settings": {}}
    session.add(models.BotVersion(bot_id=place.bot.id, number=n + 1, content=content))
    return str(n + 1)


async def _hook(place: Place, session: AsyncSession) -> tuple[str]:
    secret = place.site.core.crypto.encrypt({"secret": endpoints.new_secret()})
    row = models.Endpoint(owner_id=place.owner.id, url="https://chinor.example.uz/x", secret=secret, disabled_at=_at(0))
    session.add(row)
    await session.flush()
    return (row.id,)


async def _event(place: Place, session: AsyncSession, n: int, word: str) -> str:
    hook = str(await session.scalar(select(models.Endpoint.id).where(models.Endpoint.owner_id == place.owner.id)))
    row = models.EndpointEvent(endpoint_id=hook, event="test", payload="{}", status="delivered")
    session.add(row)
    await session.flush()
    return f"events/{row.id}"


async def _announcement(place: Place, session: AsyncSession, n: int, word: str) -> None:
    each = {"title": word, "text": "Yangi"}
    audience = {"plan": "", "languages": ["uz"], "service": False}
    session.add(models.Announcement(texts=dict.fromkeys(("uz", "ru", "en"), each), audience=audience, by_mail=True))


async def _told(place: Place, session: AsyncSession) -> tuple[str]:
    each = {"title": "Yangi", "text": "Yangi"}
    audience = {"plan": "all", "languages": [], "service": True}
    texts = dict.fromkeys(("uz", "ru", "en"), each)
    told = models.Announcement(texts=texts, audience=audience, by_mail=True, status="done", run_at=utcnow())
    session.add(told)
    await session.flush()
    return (told.id,)


async def _missed(place: Place, session: AsyncSession, n: int, word: str) -> None:
    person = await _person(session, word, n)
    told = await session.scalar(select(models.Announcement.id).where(models.Announcement.status == "done"))
    key = f"announcement:{told}"
    session.add(models.Letter(user_id=person.id, kind="announcement", key=key))


async def _asked(place: Place, session: AsyncSession, n: int, word: str) -> None:
    person = await _person(session, word, n)
    waits = _at(n) if n % 2 else None
    session.add(models.SupportTalk(owner_id=person.id, last_text="Salom", last_message_at=_at(n), waiting_since=waits))


async def _own_talk(place: Place, session: AsyncSession) -> tuple[str]:
    session.add(models.SupportTalk(owner_id=place.owner.id, last_text="Salom"))
    return (place.owner.id,)


async def _line(place: Place, session: AsyncSession, n: int, word: str) -> None:
    session.add(models.SupportMessage(owner_id=place.owner.id, author_id=place.owner.id, text=word))


async def _view(place: Place, session: AsyncSession, n: int, word: str) -> None:
    row = {"owner_id": place.owner.id, "admin_id": place.admin.id, "reason": word, "expires_at": _at(n)}
    session.add(models.RemoteView(**row))


async def _viewed(place: Place, session: AsyncSession) -> tuple[str]:
    row = models.RemoteView(owner_id=place.owner.id, admin_id=place.admin.id, reason="Sahifalar", expires_at=_at(0))
    session.add(row)
    await session.flush()
    return (row.id,)


async def _opened(place: Place, session: AsyncSession, n: int, word: str) -> None:
    view = await session.scalar(select(models.RemoteView.id).where(models.RemoteView.reason == "Sahifalar"))
    session.add(models.RemoteViewPage(view_id=str(view), method="GET", path=f"/{word}", status=200))


async def _long(place: Place, session: AsyncSession) -> tuple[str]:
    return ((await web_talk(session, place.bot, "uzun", last_text="uzun suhbat", last_message_at=_at(0))).id,)


async def _said(place: Place, session: AsyncSession, n: int, word: str) -> None:
    talk = select(models.Conversation.id).where(models.Conversation.last_text == "uzun suhbat")
    session.add(models.Message(conversation_id=str(await session.scalar(talk)), author="customer", text=word))


async def _device(place: Place, session: AsyncSession, n: int, word: str) -> str:
    # Two in each moment, as after a restart.
    row = models.PanelSession(id=f"{n:064x}", user_id=place.owner.id, expires_at=END, last_seen_at=_at(n // 2 * 2))
    session.add(row)
    return f"sessions/{row.id}/"


async def _spent(place: Place, session: AsyncSession, n: int, word: str) -> None:
    person = await _person(session, word, n)
    call = {"provider": "openai", "model_asked": "gpt", "cost_usd": Decimal(n // 10), "created_at": utcnow()}
    session.add(models.AIUsage(owner_id=person.id, **call))


async def _another_bot(place: Place, session: AsyncSession, n: int, word: str) -> None:
    bot = models.Bot(owner_id=place.owner.id, name=word)
    session.add(bot)
    await session.flush()
    session.add(models.Channel(bot_id=bot.id, kind="web", external_id=bot.public_id, status="active"))
    session.add(models.Document(bot_id=bot.id, name="narxlar.txt", kind="txt", status="ready", serving=True))


LISTS: dict[str, Listed] = {
    "bots": Listed("/bots", _another_bot, pages=False),
    "inbox": Listed("/inbox", _talk),
    "all conversations": Listed("/admin/conversations", _talk, admin=True),
    "a conversation": Listed("/inbox/{}", _said, ready=_long, way="before="),
    "a conversation for administrators": Listed("/admin/conversations/{}", _said, admin=True, ready=_long),
    "owners": Listed("/admin/owners", _owner, admin=True),
    "owners of a name": Listed("/admin/owners?q=belgi", _owner, admin=True),
    "audit": Listed("/admin/audit", _logged, admin=True),
    "payments": Listed("/admin/payments", _payment, admin=True, mark=r"\b900000\d{3}\b"),
    "own payments": Listed("/billing", _payment, mark=r"\b900000\d{3}\b"),
    "requests": Listed("/admin/requests", _request, admin=True, way="cursor="),
    "decided requests": Listed("/admin/requests", _decided, admin=True, way="before="),
    "coupons": Listed("/admin/coupons", _coupon, admin=True, mark=r"BELGI-\d{3}"),
    "partners": Listed("/admin/payouts", _earned, admin=True, way="cursor="),
    "payouts": Listed("/admin/payouts", _entry, admin=True, way="before="),
    "own account": Listed("/billing/referrals", _entry),
    "errors": Listed("/admin/system/errors", _error, admin=True),
    "poison messages": Listed("/admin/system", _poison, admin=True, way="messages="),
    "dead jobs": Listed("/admin/system", _dead_job, admin=True, way="jobs="),
    "broadcasts": Listed("/bots/{}/broadcasts", _broadcast, ready=lambda place, _: (place.bot.id,)),
    "deliveries": Listed("/bots/{}/broadcasts/{}/receivers", _delivery, ready=_sent),
    "documents": Listed("/bots/{}/documents", _document, ready=lambda place, _: (place.bot.id,), pages=False),
    "passages": Listed("/bots/{}/documents/{}", _passage, ready=_read),
    "unanswered questions": Listed(
        "/bots/{}/documents", _question, ready=lambda place, _: (place.bot.id,), way="from="
    ),
    "versions": Listed(
        "/bots/{}/versions", _version, ready=lambda place, _: (place.bot.id,), mark=r'<b class="row-title">[^<]*?(\d+)'
    ),
    "webhooks log": Listed("/settings/webhooks/{}", _event, ready=_hook, mark=r"events/[0-9a-z]{26}"),
    "announcements": Listed("/admin/announcements", _announcement, admin=True),
    "missed by an announcement": Listed("/admin/announcements/{}/missed", _missed, admin=True, ready=_told),
    "support talks": Listed("/admin/support", _asked, admin=True),
    "a support talk": Listed("/admin/support/{}", _line, admin=True, ready=_own_talk),
    "own support talk": Listed("/support", _line, ready=_own_talk),
    "devices": Listed("/settings", _device, mark=r"sessions/[0-9a-f]{64}/"),
    "remote views": Listed("/settings/views", _view),
    "pages of a view": Listed("/settings/views/{}", _opened, ready=_viewed),
    "margins": Listed("/admin/statistics", _spent, admin=True),
}


# The reader's own account, bot and browser; talks that were begun; what stands below a list that is never hidden.
NEVER_EMPTY = {"bots", "owners", "devices", "a conversation", "a support talk", "own support talk", "decided requests"}
_SAYS = re.compile(r'class="empty(?: [^"]*)?">(?:(?!</div>).)*?<p[^>]*>[^<]{12,}', re.DOTALL)


@pytest.mark.parametrize("name", LISTS)
async def test_a_page_asks_the_same_of_many_rows_and_leads_through_all(place: Place, name: str) -> None:
    listed = LISTS[name]
    site, browser = place.site, place.at_admin if listed.admin else place.at_owner
    await _forget(site, place)
    path, marks = listed.path, set[str]()

    async def more(first: int, last: int) -> None:
        async with site.core.db.write() as session:
            for n in range(first, last):
                word = f"belgi-{n:03}"
                told = await listed.make(place, session, n, word)
                await session.flush()
                marks.add(told or (f"900000{n:03}" if "900000" in listed.mark else word))

    async def opened(address: str) -> tuple[set[str], list[str], int]:
        with asked_of(site.core) as asked:
            page = await browser.get(address)
        assert page.status == 200, page.visible()[:500]
        on = [unescape(way) for way in _NEXT.findall(page.text)]
        found = {each.lower() for each in re.findall(listed.mark, page.text)}
        return found, [way for way in on if listed.way in way], len([each for each in asked if each.by_request])

    if listed.ready is not None:
        async with site.core.db.write() as session:
            places = listed.ready(place, session)
            path = path.format(*(places if isinstance(places, tuple) else await places))
    if name in NEVER_EMPTY:
        await more(0, FEW)
    else:
        # Where nothing is yet, it says what comes there; no longer where something is.
        says = len(_SAYS.findall((await browser.get(path)).text))
        await more(0, FEW)
        assert len(_SAYS.findall((await browser.get(path)).text)) < says
    await opened(path)
    found, ways, few = await opened(path)
    assert found == marks and not ways
    assert few > 3
    await more(FEW, MANY)
    await opened(path)
    found, ways, many = await opened(path)
    assert many <= few
    parts = 1
    while ways:
        assert len(ways) == 1
        part, ways, asked = await opened(path + ways[0] if ways[0].startswith("?") else ways[0])
        assert part and not part & found, "each row once"
        assert asked <= few + 1
        found |= part
        parts += 1
    assert found == marks
    assert parts > 2 or not listed.pages


async def _forget(site: Site, place: Place) -> None:
    """Delete what an earlier list left."""
    async with site.core.db.write() as session:
        for model in (
            models.Conversation,
            models.AuditLog,
            models.Payment,
            models.AccessRequest,
            models.Coupon,
            models.ReferralEntry,
            models.ErrorRecord,
            models.InboxItem,
            models.Job,
            models.Broadcast,
            models.Document,
            models.UnansweredQuestion,
            models.BotVersion,
            models.Endpoint,
            models.Announcement,
            models.SupportTalk,
            models.RemoteView,
            models.AIUsage,
            models.Contact,
        ):
            await session.execute(delete(model))
        await session.execute(delete(models.Bot).where(models.Bot.id != place.bot.id))
        kept = models.User.id.not_in((place.owner.id, place.admin.id))
        await session.execute(delete(models.User).where(kept))
