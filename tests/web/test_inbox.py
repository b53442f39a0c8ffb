"""The inbox over HTTP: what is listed for whom, what people who answer do to a conversation, and what nobody else may."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncIterator
from html import unescape
from itertools import count
from typing import Any

import pytest
from sqlalchemy import select

from db import models
from db.base import new_id, utcnow
from services import bots, conversations, team
from services.conversations import desk, marks, ready
from services.days import TASHKENT
from services.presence import Presence
from tests import servers
from tests.composition import questions_put
from tests.web.panel import Browser, Page, Site, open_site, web_talk

_numbers = count(1)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run
) -> AsyncIterator[Site]:
    """The product with room for many bots, on both databases."""
    folder = tmp_path_factory.mktemp("inbox")
    generous = {"limits": {"bots_per_owner": 100, "login_attempts_per_15_min": 500}}
    with servers_run.database(request.param, folder) as url:
        async with open_site(folder, url, overrides=generous) as made:
            yield made


class Desk:
    """An owner with a bot, somebody who answers for them, and both their browsers."""

    def __init__(
        self, site: Site, owner: models.User, helper: models.User, bot: models.Bot, pages: list[Browser]
    ) -> None:
        self.site, self.owner, self.helper, self.bot = site, owner, helper, bot
        self.browser, self.helping = pages

    async def talk(self, name: str = "Aziza", **values: Any) -> models.Conversation:
        """Add a conversation."""
        async with self.site.core.db.write() as session:
            return await web_talk(session, self.bot, name, **values)

    async def say(
        self, talk: models.Conversation, text: str, author: str = "customer", **values: Any
    ) -> models.Message:
        """Add a message."""
        async with self.site.core.db.write() as session:
            message = models.Message(conversation_id=talk.id, author=author, text=text, **values)
            session.add(message)
        return message

    async def now(self, talk: models.Conversation) -> models.Conversation:
        """Return the conversation as it is."""
        async with self.site.core.db.read() as session:
            return await session.get_one(models.Conversation, talk.id)


async def _desk(site: Site, role: str = "operator") -> Desk:
    number = next(_numbers)
    owner, helper = await site.person(f"Owner{number}"), await site.person(f"Malika{number}")
    bot = await site.bot_of(owner, f"Chinor {number}")
    async with site.core.db.write() as session:
        session.add(models.Member(owner_id=owner.id, user_id=helper.id, role=role))
    pages = [await site.signed_in(owner), await site.signed_in(helper)]
    for page in pages:
        await page.post("/preferences", language="en", next="/dashboard")
    return Desk(site, owner, helper, bot, pages)


def _listed(page: Page) -> set[str]:
    """Return the names on the list."""
    return {unescape(name) for name in re.findall(r'class="talk-name">([^<]*)<', page.text)}


async def test_all_bots_of_all_employers_are_one_list(site: Site) -> None:
    """An operator sees the conversations of the owners they work for, and of nobody else; the owner only their own."""
    first, second, other = await _desk(site), await _desk(site), await _desk(site)
    async with site.core.db.write() as session:
        session.add(models.Member(owner_id=second.owner.id, user_id=first.helper.id, role="manager"))
        another = await bots.create(session, first.owner, "Ikkinchi", limits=site.core.settings.limits)
        await web_talk(session, another, "Botir")
    await first.talk("Aziza")
    await second.talk("Sevara")
    await other.talk("Begona")
    assert _listed(await first.helping.get("/inbox")) == {"Aziza", "Botir", "Sevara"}
    assert _listed(await first.browser.get("/inbox")) == {"Aziza", "Botir"}
    assert _listed(await first.helping.get(f"/inbox?bot={second.bot.id}")) == {"Sevara"}
    # Somebody else's bot in the address chooses nothing.
    assert _listed(await first.helping.get(f"/inbox?bot={other.bot.id}")) == {"Aziza", "Botir", "Sevara"}


async def test_the_address_of_a_conversation_that_was_joined_leads_on(site: Site) -> None:
    """Links, a page that is open, and a form in it reach the conversation that stayed; nobody else learns of it."""
    at, other = await _desk(site), await _desk(site)
    talk = await at.talk()
    former = new_id()
    async with site.core.db.write() as session:
        session.add(models.JoinedConversation(id=former, conversation_id=talk.id))
    assert (await at.helping.get(f"/inbox/{former}?q=a%20b")).location == f"/inbox/{talk.id}?q=a+b&former={former}"
    part = await at.helping.get(f"/inbox/{former}", **{"HX-Request": "true", "HX-Target": "talk"})
    assert part.headers["HX-Redirect"] == f"/inbox/{talk.id}?former={former}"
    sent = await at.helping.post(f"/inbox/{former}", text="Salom")
    assert sent.status == 303
    async with site.core.db.read() as session:
        written = await session.scalar(select(models.Message).where(models.Message.conversation_id == talk.id))
    assert written is not None and written.text == "Salom"
    assert (await at.helping.get(f"/bots/{at.bot.id}/conversations/{former}")).location == f"/inbox/{talk.id}"
    for path in (f"/inbox/{former}", f"/bots/{at.bot.id}/conversations/{former}"):
        assert (await other.browser.get(path)).status == 404


async def test_old_addresses_lead_to_the_inbox(site: Site) -> None:
    """Links in old messages still arrive, with their filters."""
    at = await _desk(site)
    talk = await at.talk()
    old = f"/bots/{at.bot.id}/conversations"
    assert (await at.browser.get(f"{old}?status=waiting")).location == f"/inbox?bot={at.bot.id}&status=waiting"
    assert (await at.helping.get(f"{old}/{talk.id}?q=a%20b")).location == f"/inbox/{talk.id}?q=a%20b"
    foreign = await (await _desk(site)).browser.get(f"{old}/{talk.id}")
    assert foreign.status == 404


async def test_filters(site: Site) -> None:
    """Each filter alone, and what tabs count."""
    at = await _desk(site)
    now = utcnow()
    waiting = await at.talk("Kutgan", status="waiting", unanswered_since=now)
    mine = await at.talk("Meniki", status="human", assignee_id=at.owner.id)
    await at.talk("Malikaniki", status="human", assignee_id=at.helper.id, unanswered_since=now)
    closed = await at.talk("Yopiq", status="closed", unanswered_since=now)
    async with site.core.db.write() as session:
        contact = await session.get_one(models.Contact, closed.contact_id)
        contact.phone, contact.language = "+998901234567", "ru"
        label = await marks.save_label(session, [at.owner.id], at.owner.id, "Shikoyat", 3)
        session.add(models.ConversationLabel(conversation_id=mine.id, label_id=label.id))
    await at.say(waiting, "Muzlatgich narxi 50% chegirma")
    everybody = {"Kutgan", "Meniki", "Malikaniki", "Yopiq"}
    for query, names in (
        ("", everybody),
        ("status=waiting", {"Kutgan"}),
        ("status=nonsense", everybody),
        ("assignee=me", {"Meniki"}),
        ("assignee=nobody", {"Kutgan", "Yopiq"}),
        (f"assignee={at.helper.id}", {"Malikaniki"}),
        ("assignee=x", set()),
        ("language=ru", {"Yopiq"}),
        ("channel=web", everybody),
        ("channel=telegram", set()),
        ("unanswered=1", {"Kutgan", "Malikaniki"}),
        (f"label={label.id}", {"Meniki"}),
        ("q=50%25", {"Kutgan"}),
        ("q=muzlatgich", {"Kutgan"}),
        ("q=90 123-45", {"Yopiq"}),
        ("q=_", set()),
        ("since=2020-01-01", everybody),
        ("since=2199-01-01", set()),
    ):
        page = await at.browser.get(f"/inbox?{query}")
        assert (page.status, _listed(page)) == (200, names), query
    page = await at.browser.get("/inbox")
    tabs = re.search(r"<nav class=\"desk-tabs\".*?</nav>", page.text, re.DOTALL)
    assert tabs is not None
    assert re.findall(r">([^<>]+) <b>(\d+)</b>", tabs[0]) == [
        ("Unanswered", "2"),
        ("Waiting for a person", "1"),
        ("Mine", "1"),
    ]
    assert "<title>(2) Conversations" in page.text
    assert (await at.browser.get("/inbox?after=x")).status == 400


async def test_what_a_number_of_the_dashboard_counts_is_listed_behind_it(site: Site) -> None:
    """Who was handed over stays so after the person gave the talk back; days bound when that was, not the last message."""
    at = await _desk(site)
    now, old = utcnow(), utcnow() - dt.timedelta(days=60)
    helped = await at.talk("Yordam olgan")
    await at.say(helped, "Operator kerak")
    await at.talk("Kutayotgan", status="waiting", created_at=old)
    await at.talk("Botniki")
    await at.talk("Doimiy", person_at=old, created_at=old, status="closed")
    await at.browser.get(f"/inbox/{helped.id}")
    assert (await at.browser.post(f"/inbox/{helped.id}", text="Keldim", seen="")).status == 303
    assert (await at.browser.post(f"/inbox/{helped.id}/status", status="bot")).status == 303
    home = await at.browser.get("/dashboard?period=7")
    cards = {
        name: unescape(href)
        for href, name in re.findall(
            r'<a class="number[^"]*" href="([^"]+)"><span class="number-name">([^<]+)<', home.text
        )
    }
    for name, names in (
        ("Handed over to people", {"Yordam olgan", "Kutayotgan"}),
        ("New customers", {"Yordam olgan", "Botniki"}),
        ("Customers waiting", {"Kutayotgan"}),
    ):
        page = await at.browser.get(cards[name])
        assert _listed(page) == names, cards[name]
        assert "<option value" in page.text and ("happened" not in cards[name] or f"selected>{name}<" in page.text)
    day = (now - dt.timedelta(days=30)).date().isoformat()
    assert _listed(await at.browser.get(f"/inbox?happened=handed&until={day}")) == {"Doimiy"}
    assert _listed(await at.browser.get(f"/inbox?happened=x&until={day}")) == set()
    table = await at.browser.get("/inbox/export.csv?happened=handed&since=2020-01-01")
    assert "Keldim" in table.text and "Botniki" not in table.text


async def test_why_a_conversation_waits(site: Site) -> None:
    """The list, the conversation and the API tell who asked for a person from what the bot did not know."""
    at = await _desk(site)
    said = {
        "asked": ("Asked for a person", "The customer is asking for a person."),
        "gave_up": ("The bot knew no answer", "The bot knew no answer to what the customer asked."),
        "error": ("A message failed", "could not be answered because of a fault"),
        None: ("Waiting for a person", "A person is wanted here."),
    }
    talks = {reason: await at.talk(f"R-{reason}", status="waiting", waiting_reason=reason) for reason in said}
    talks["bot"] = await at.talk("R-bot", status="bot")
    listed = await at.browser.get("/inbox?status=waiting")
    for reason, (title, sentence) in said.items():
        assert f'title="{title}"' in listed.text
        page = (await at.browser.get(f"/inbox/{talks[reason].id}")).text
        assert f'<span class="state state-warn">{title}</span>' in page and sentence in page
        assert not any(other in page for _, other in said.values() if other != sentence)
    assert "state-warn" not in (await at.browser.get(f"/inbox/{talks['bot'].id}")).text


async def test_pages_of_fifty(site: Site) -> None:
    """A page holds fifty and leads to the next, over several bots, without gap or repetition."""
    at = await _desk(site)
    async with site.core.db.write() as session:
        second = await bots.create(session, at.owner, "Ikkinchi", limits=site.core.settings.limits)
        since = utcnow() - dt.timedelta(days=1)
        for number in range(120):
            bot = second if number % 3 else at.bot
            # Two at each moment: the order within is by id.
            await web_talk(
                session, bot, f"Mijoz-{number:03}", last_message_at=since + dt.timedelta(minutes=number // 2)
            )
    path, found = "/inbox", []
    for size in (50, 50, 20):
        page = await at.browser.get(path)
        names = re.findall(r"Mijoz-\d{3}(?=</span><span class=\"talk-text\")", page.text)
        assert len(names) == size
        found += names
        path = unescape((re.findall(r'href="(/inbox\?after=[^"]*)"', page.text) or [""])[0])
    assert path == ""
    assert len(set(found)) == 120
    assert [int(name[-3:]) // 2 for name in found] == sorted((number // 2 for number in range(120)), reverse=True)


async def test_queries_do_not_grow_with_the_list(site: Site) -> None:
    """A page with fifty conversations asks the database as often as one with two."""
    at = await _desk(site)
    label: models.Label
    async with site.core.db.write() as session:
        label = await marks.save_label(session, [at.owner.id], at.owner.id, "Yorliq", 1)

    async def more(n: int) -> models.Conversation:
        for _ in range(n):
            talk = await at.talk(f"M{next(_numbers)}", status="human", assignee_id=at.helper.id)
            await at.say(talk, "Salom")
            async with site.core.db.write() as session:
                session.add(models.ConversationLabel(conversation_id=talk.id, label_id=label.id))
        return talk

    async def asked(path: str) -> int:
        # What the program asks by itself meanwhile only adds.
        return min([await once(path) for _ in range(6)])

    async def once(path: str) -> int:
        with questions_put(site.core) as put:
            page = await at.browser.get(path)
        assert page.status == 200
        return len(put)

    talk = await more(2)
    few = [await asked("/inbox"), await asked(f"/inbox/{talk.id}")]
    await more(48)
    many = [await asked("/inbox"), await asked(f"/inbox/{talk.id}")]
    assert many[0] <= few[0] and many[1] <= few[1], (few, many)
    assert few[0] <= 16 and few[1] <= 25, few


async def test_who_answers(site: Site) -> None:
    """Taking over makes a talk one's own, answering too where it is nobody's; closing makes it nobody's; all is written down."""
    at = await _desk(site)
    talk = await at.talk(status="waiting", unanswered_since=utcnow())
    path = f"/inbox/{talk.id}"
    await at.helping.get(path)
    assert (await at.helping.post(path, text="Salom, men Malika")).status == 303
    row = await at.now(talk)
    assert (row.status, row.assignee_id, row.unanswered_since) == ("human", at.helper.id, None)
    assert row.person_at is not None
    async with site.core.db.read() as session:
        said = await conversations.messages(session, row)
    assert [(one.author, one.author_id) for one in said.items] == [("operator", at.helper.id)]
    assert f"{at.helper.full_name} answers here" in (await at.browser.get(path)).visible()
    # An answer of another does not take it away; taking over does.
    await at.browser.post(path, text="Men ham shu yerdaman")
    assert (await at.now(talk)).assignee_id == at.helper.id
    await at.browser.post(f"{path}/status", status="human")
    assert (await at.now(talk)).assignee_id == at.owner.id
    assert (await at.browser.post(f"{path}/assign", assignee=at.helper.id)).location == f"{path}?done=talk_assigned"
    assert (await at.now(talk)).assignee_id == at.helper.id
    stranger = await _desk(site)
    for wrong in (stranger.helper.id, stranger.owner.id, "x" * 26):
        assert (await at.browser.post(f"{path}/assign", assignee=wrong)).status == 400
    assert (await at.now(talk)).assignee_id == at.helper.id
    await at.browser.post(f"{path}/assign", assignee="")
    assert (await at.now(talk)).assignee_id is None
    await at.browser.post(f"{path}/status", status="human")
    await at.browser.post(f"{path}/status", status="closed")
    row = await at.now(talk)
    assert (row.status, row.assignee_id) == ("closed", None)
    async with site.core.db.read() as session:
        log = models.AuditLog
        rows = await session.scalars(select(log).where(log.object_id == talk.id).order_by(log.id))
        written = [(one.action, one.actor_id, one.details.get("to")) for one in rows]
    assert written == [
        ("conversation_taken", at.owner.id, None),
        ("conversation_assigned", at.owner.id, at.helper.id),
        ("conversation_assigned", at.owner.id, "nobody"),
        ("conversation_taken", at.owner.id, None),
        ("conversation_closed", at.owner.id, None),
    ]


async def test_another_answered_meanwhile(site: Site) -> None:
    """Who writes after another's answer that they have not seen is told once; the text stays, and the second press sends it."""
    at = await _desk(site)
    talk = await at.talk(status="human")
    path = f"/inbox/{talk.id}"
    first = await at.say(talk, "Narxi qancha?")
    await at.helping.post(path, text="290 000 so‘m", seen=first.id)
    refused = await at.browser.post(path, text="Hozir aytaman", seen=first.id)
    assert refused.status == 409
    assert f"{at.helper.full_name} has answered while you were writing" in refused.visible()
    assert "Hozir aytaman</textarea>" in refused.text and "290 000" in refused.visible()
    seen = re.findall(r'name="seen" value="(\w*)"', refused.text)[0]
    assert (await at.browser.post(path, text="Hozir aytaman", seen=seen)).status == 303
    # One's own words, the customer's and the bot's stop nobody.
    await at.say(talk, "Rahmat")
    await at.say(talk, "Arzimaydi", "bot")
    assert (await at.browser.post(path, text="Yana nima kerak?", seen=seen)).status == 303


async def test_the_window_of_whatsapp(site: Site) -> None:
    """A day after the customer's last words there is a notice instead of the field, and nothing is sent."""
    at = await _desk(site)
    async with site.core.db.write() as session:
        channel = models.Channel(bot_id=at.bot.id, kind="whatsapp", external_id=f"wa{next(_numbers)}", status="active")
        session.add(channel)
        await session.flush()
        contact = models.Contact(bot_id=at.bot.id, channel_id=channel.id, external_id="998901112233", name="Vali")
        session.add(contact)
        await session.flush()
        old = utcnow() - dt.timedelta(hours=25)
        talk = models.Conversation(
            bot_id=at.bot.id, channel_id=channel.id, contact_id=contact.id, status="human", last_inbound_at=old
        )
        session.add(talk)
    page = await at.browser.get(f"/inbox/{talk.id}")
    assert "More than 24 hours have passed" in page.visible()
    assert 'id="reply"' not in page.text
    assert 'id="note-text"' in page.text
    refused = await at.browser.post(f"/inbox/{talk.id}", text="Salom")
    assert refused.status == 409


async def test_put_aside(site: Site) -> None:
    """What is put aside leaves the list until its time, or until the customer writes; a search finds it."""
    at = await _desk(site)
    talk = await at.talk(last_inbound_at=utcnow() - dt.timedelta(hours=1))
    path = f"/inbox/{talk.id}"
    for choice in ("hour", "tomorrow", "monday"):
        assert (await at.browser.post(f"{path}/snooze", until=choice)).location == f"{path}?done=talk_snoozed"
        assert _listed(await at.browser.get("/inbox")) == set()
    assert _listed(await at.browser.get("/inbox?snoozed=1")) == {"Aziza"}
    assert _listed(await at.browser.get("/inbox?q=aziz")) == {"Aziza"}
    assert "Put aside until" in (await at.browser.get(path)).visible()
    async with site.core.db.write() as session:
        (await session.get_one(models.Conversation, talk.id)).last_inbound_at = utcnow()
    assert _listed(await at.browser.get("/inbox")) == {"Aziza"}
    assert _listed(await at.browser.get("/inbox?snoozed=1")) == set()
    await at.browser.post(f"{path}/snooze", until="hour")
    assert _listed(await at.browser.get("/inbox")) == set()
    await at.browser.post(f"{path}/snooze", until="now")
    assert _listed(await at.browser.get("/inbox")) == {"Aziza"}
    for at_ in ("2020-01-01T10:00", "2199-01-01T10:00", "", "x", "9999-12-31T23:59"):
        refused = await at.browser.post(f"{path}/snooze", until="custom", at=at_)
        assert refused.status == 400, at_
        assert 'id="snooze-fault"' in refused.text
    local = (utcnow() + dt.timedelta(days=2)).astimezone(TASHKENT).strftime("%Y-%m-%dT%H:%M")
    await at.browser.post(f"{path}/snooze", until="custom", at=local)
    until = (await at.now(talk)).snoozed_until
    assert until is not None and until.astimezone(TASHKENT).strftime("%Y-%m-%dT%H:%M") == local
    # Its time is over.
    async with site.core.db.write() as session:
        row = await session.get_one(models.Conversation, talk.id)
        row.snoozed_until, row.snoozed_at = utcnow() - dt.timedelta(seconds=1), utcnow() - dt.timedelta(hours=1)
    assert _listed(await at.browser.get("/inbox")) == {"Aziza"}


def test_presets_are_mornings_of_tashkent() -> None:
    """Tomorrow and Monday begin at nine there, also when it is another day in Greenwich."""
    late = dt.datetime(2026, 11, 22, 20, 30, tzinfo=dt.UTC)  # Monday, half past one in the night in Tashkent
    assert desk.preset("tomorrow", late) == dt.datetime(2026, 11, 24, 4, 0, tzinfo=dt.UTC)
    assert desk.preset("monday", late) == dt.datetime(2026, 11, 30, 4, 0, tzinfo=dt.UTC)
    sunday = dt.datetime(2026, 11, 22, 6, 0, tzinfo=dt.UTC)
    assert desk.preset("monday", sunday) == dt.datetime(2026, 11, 23, 4, 0, tzinfo=dt.UTC)
    assert desk.preset("hour", sunday) == sunday + dt.timedelta(hours=1)


async def test_notes_stay_inside(site: Site) -> None:
    """A note is seen by those who answer, deleted by its author alone, and reaches neither the customer nor the API."""
    at = await _desk(site)
    talk = await at.talk()
    path = f"/inbox/{talk.id}"
    assert (await at.browser.post(f"{path}/notes", note=" \r\n ")).status == 400
    assert (await at.browser.post(f"{path}/notes", note="x" * 4001)).status == 400
    await at.helping.post(f"{path}/notes", note="Ikkinchi marta\r\n<b>qo‘ng‘iroq</b>")
    page = await at.browser.get(path)
    assert "Ikkinchi marta\n&lt;b&gt;" in page.text
    assert at.helper.full_name in page.visible()
    async with site.core.db.read() as session:
        note = (await marks.notes(session, talk))[0]
        assert (await conversations.messages(session, talk)).items == []
    assert (await at.browser.post(f"{path}/notes/{note.id}/delete")).status == 404
    # By way of another conversation it is not found either.
    other = await at.talk("Botir")
    assert (await at.helping.post(f"/inbox/{other.id}/notes/{note.id}/delete")).status == 404
    assert (await at.helping.post(f"{path}/notes/{note.id}/delete")).status == 303
    assert "Ikkinchi marta" not in (await at.browser.get(path)).text


async def test_labels(site: Site) -> None:
    """Managers make them, operators put them on; another owner's cannot be put on, nor one name twice."""
    at, stranger = await _desk(site), await _desk(site)
    make = {"owner": at.owner.id, "name": "Yetkazish", "color": "2"}
    assert (await at.helping.post("/inbox/labels", **make)).status == 404
    assert (await at.browser.post("/inbox/labels", **make)).location == "/inbox/labels?done=saved"
    for wrong in (
        {"name": "yetkazish"},
        {"name": " "},
        {"name": "x" * 41},
        {"color": "8"},
        {"color": "-1"},
        {"color": "²"},
    ):
        refused = await at.browser.post("/inbox/labels", **{**make, "name": "Boshqa", **wrong})
        assert (refused.status, 'role="alert"' in refused.text) == (400, True), wrong
    async with site.core.db.write() as session:
        own = (await marks.labels(session, [at.owner.id]))[0]
        foreign = await marks.save_label(session, [stranger.owner.id], stranger.owner.id, "Begona", 1)
    talk = await at.talk()
    path = f"/inbox/{talk.id}"
    assert (await at.helping.post(f"{path}/labels", label=own.id)).status == 303
    assert (await at.helping.post(f"{path}/labels", label=foreign.id)).status == 404
    page = await at.helping.get("/inbox")
    assert "Yetkazish" in page.visible() and "Begona" not in page.visible()
    for way in ("", "/delete"):
        assert (await at.browser.post(f"/inbox/labels/{foreign.id}{way}", name="Meniki", color="1")).status == 404
        assert (await at.helping.post(f"/inbox/labels/{own.id}{way}", name="Meniki", color="1")).status == 404
    assert "on 1 conversation" in (await at.helping.get("/inbox/labels")).visible()
    await at.browser.post(f"/inbox/labels/{own.id}", name="Dostavka", color="5")
    assert "Dostavka" in (await at.helping.get(path)).visible()
    await at.helping.post(f"{path}/labels")
    async with site.core.db.read() as session:
        assert await marks.labels_of(session, [talk.id]) == {}
    await at.helping.post(f"{path}/labels", label=own.id)
    assert (await at.browser.post(f"/inbox/labels/{own.id}/delete")).location == "/inbox/labels?done=removed"
    assert "Dostavka" not in (await at.helping.get(path)).text


async def test_ready_answers(site: Site) -> None:
    """Managers write them, operators choose them; what is unknown in braces is named where it is kept."""
    at, stranger = await _desk(site), await _desk(site)
    make = {"owner": at.owner.id, "shortcut": "/Narx", "text": "Salom, {name}! {0.__class__} %s {chegirma}"}
    assert (await at.helping.post("/inbox/replies", **make)).status == 404
    assert (await at.browser.post("/inbox/replies", **make)).location == "/inbox/replies?done=saved"
    page = await at.browser.get("/inbox/replies")
    assert "/narx" in page.visible()
    assert "Nothing is put in place of {0.__class__}, {chegirma}" in page.visible()
    for wrong in (
        {"shortcut": "narx"},
        {"shortcut": "ikki so‘z"},
        {"shortcut": ""},
        {"text": " "},
        {"text": "x" * 4097},
    ):
        refused = await at.browser.post("/inbox/replies", **{**make, "shortcut": "boshqa", **wrong})
        assert (refused.status, 'role="alert"' in refused.text) == (400, True), wrong
    talk = await at.talk("{bot} <i>Aziza</i>")
    page = await at.helping.get(f"/inbox/{talk.id}")
    filled = "Salom, {bot} <i>Aziza</i>! {0.__class__} %s {chegirma}"
    assert filled in [unescape(text) for text in re.findall(r'data-text="([^"]*)"', page.text)]
    async with site.core.db.read() as session:
        reply = (await ready.list_for(session, [at.owner.id]))[0]
    # Without script a press on it brings it into the field.
    page = await at.helping.get(f"/inbox/{talk.id}?ready={reply.id}")
    assert f"{filled}</textarea>" in unescape(page.text)
    assert filled not in unescape((await stranger.browser.get(f"/inbox?ready={reply.id}")).text)
    for way in ("", "/delete"):
        path = f"/inbox/replies/{reply.id}{way}"
        assert (await stranger.browser.post(path, shortcut="x", text="x")).status == 404
        assert (await at.helping.post(path, shortcut="x", text="x")).status == 404
    await at.browser.post(f"/inbox/replies/{reply.id}", shortcut="salom", text="Salom!")
    assert "/salom" in (await at.helping.get("/inbox/replies")).visible()
    await at.browser.post(f"/inbox/replies/{reply.id}/delete")
    assert "/salom" not in (await at.helping.get("/inbox/replies")).visible()


@pytest.mark.parametrize(
    ("text", "values", "filled"),
    [
        ("Salom, {name}!", {"name": "Aziza"}, "Salom, Aziza!"),
        ("Salom, {name}!", {"name": ""}, "Salom!"),
        ("{name}, salom", {}, "salom"),
        ("Salom, {name}, qalaysiz", {}, "Salom, qalaysiz"),
        ("Men {operator}man", {"operator": "Malika"}, "Men Malikaman"),
        ("{name}", {"name": "{phone}"}, "{phone}"),
        ("{Name} {x} {{name}}", {"name": "A"}, "{Name} {x} {A}"),
        ("{name.__class__} %(name)s $name", {"name": "A"}, "{name.__class__} %(name)s $name"),
    ],
)
def test_variables_are_put_in_as_they_are(text: str, values: dict[str, str], filled: str) -> None:
    """A value is never read again; a missing one takes its comma along; what is not a variable stays."""
    assert ready.fill(text, values) == filled


async def test_the_same_person_elsewhere(site: Site) -> None:
    """The card shows other conversations of the same phone with this owner's bots, and with nobody else's."""
    at, stranger = await _desk(site), await _desk(site)
    talks = [await at.talk("Aziza", last_text="Birinchi"), await at.talk("Aziza T", last_text="Ikkinchi")]
    talks.append(await stranger.talk("Aziza S", last_text="Uchinchi"))
    async with site.core.db.write() as session:
        for talk in talks:
            (await session.get_one(models.Contact, talk.contact_id)).phone = "+998901234567"
        # Somebody who works for both still does not mix them.
        session.add(models.Member(owner_id=stranger.owner.id, user_id=at.helper.id, role="operator"))
    card = (
        (await at.helping.get(f"/inbox/{talks[0].id}")).text.partition('class="fact-others"')[2].partition("</ul>")[0]
    )
    assert "Ikkinchi" in card and "Uchinchi" not in card and "Birinchi" not in card


async def test_an_operator_who_left_sees_nothing_more(site: Site) -> None:
    """From the next request on: the list, the conversation, its presence and its events."""
    at = await _desk(site)
    talk = await at.talk()
    path = f"/inbox/{talk.id}"
    assert (await at.helping.get(path)).status == 200
    async with site.core.db.write() as session:
        member = await session.scalar(select(models.Member).where(models.Member.user_id == at.helper.id))
        assert member is not None
        await session.delete(member)
    assert _listed(await at.helping.get("/inbox")) == set()
    assert (await at.helping.get(path)).status == 404
    forms = ("", "/status", "/assign", "/snooze", "/labels", "/notes", "/presence/looking")
    for form in forms:
        fields = {"text": "x", "status": "human", "until": "hour", "note": "x"}
        assert (await at.helping.post(path + form, **fields)).status == 404, form
    async with site.core.db.read() as session:
        assert await session.scalar(select(models.Bot.id).where(team.may(at.helper, "talk"))) is None


async def test_presence_is_told_and_ends_by_itself(site: Site) -> None:
    """Who looks or writes is told to those who watch the bot, and shown on the page of the others only."""
    at = await _desk(site)
    talk = await at.talk()
    path = f"/inbox/{talk.id}"
    async with site.core.bell.listen(f"bot:{at.bot.id}") as heard:
        assert (await at.helping.post(f"{path}/presence/typing")).status == 204
        said = await heard.get()
    assert said == {"presence": talk.id, "person": at.helper.id, "name": at.helper.full_name, "state": "typing"}
    assert f'data-name="{at.helper.full_name}" data-state="typing"' in (await at.browser.get(path)).text
    assert "data-person" not in (await at.helping.get(path)).text
    await at.helping.post(f"{path}/presence/gone")
    assert "data-person" not in (await at.browser.get(path)).text
    assert (await at.browser.post(f"{path}/presence/nonsense")).status == 404
    clock = [0.0]
    presence = Presence(site.core.bell, clock=lambda: clock[0])
    presence.tell("b", "t", "p", "Malika", "typing")
    assert [(one.name, one.typing) for one in presence.at("t")] == [("Malika", True)]
    clock[0] = 10.0
    assert [(one.name, one.typing) for one in presence.at("t")] == [("Malika", False)]
    clock[0] = 60.0
    assert presence.at("t") == []
    assert [presence.sign_due("t", 4), presence.sign_due("t", 4)] == [True, False]
    clock[0] = 65.0
    assert presence.sign_due("t", 4)
