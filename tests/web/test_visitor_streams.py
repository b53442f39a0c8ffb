"""What a visitor hears while the chat is open: of their own talk, at once, once, and however often the line breaks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from db import models
from db.base import earlier_id, new_id
from services import bots, conversations, outfiles, sniffing, visitors
from services.bell import Bell
from services.presence import TYPING_S, Presence
from tests import servers
from tests.services.test_pictures import encoded
from tests.web.site import Site, started
from tests.web.widget import ANSWER, QUESTION, SITE, Line, Widget, afresh, choose, serving, widget


@pytest.fixture(scope="module")
async def running(servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with serving(servers_run, tmp_path_factory) as site:
        yield site


@pytest.fixture
async def site(running: Site) -> Site:
    await afresh(running)
    return running


async def talk_of(me: Widget) -> models.Conversation:
    """Return the visitor's conversation."""
    async with me.site.core.db.read() as session:
        _, channel = await bots.by_public_id(session, me.public_id)
        found = await visitors.talk(session, channel, visitors.contact_of(me.public_id, me.secret))
    assert found is not None
    return found


async def begun(site: Site, **given: Any) -> tuple[Widget, models.Conversation]:
    """Return a visitor who has asked something, and the talk."""
    me = await widget(site, **given).begin()
    assert (await me.send(text=QUESTION)).status == 200
    return me, await talk_of(me)


async def say(site: Site, talk: models.Conversation, text: str) -> None:
    """Answer as a person."""
    assert (await site.owner.post(f"/conversations/{talk.id}/messages", {"text": text})).status < 300


def write_in(site: Site, talk: models.Conversation, state: str) -> None:
    """Do what another process does whose person writes in a conversation, or stops."""
    said = {"presence": talk.id, "person": "p1", "name": "Dilnoza", "state": state}
    site.core.bell.ring("presence", said)
    site.core.bell.ring(f"bot:{talk.bot_id}", said)


async def test_a_persons_message_comes_once_to_every_tab(site: Site) -> None:
    me, talk = await begun(site)
    other, _ = await begun(site)
    last = await me.last()
    async with me.line(last) as one, me.line(last) as two, other.line(await other.last()) as strange:
        for line in (one, two, strange):
            first = await line.next()
            assert (first["status"], first["typing"]) == ("bot", False)
        await say(site, talk, "Men Dilnozaman")
        await say(site, talk, "Yana bir gap")
        for line in (one, two):
            assert await line.texts(2) == ["Men Dilnozaman", "Yana bir gap"]
        # What the other visitor hears next is their own.
        await say(site, await talk_of(other), "Sizga alohida")
        assert await strange.texts(1) == ["Sizga alohida"]
    # One who comes with an older message is told what is missing; a message of just now may come again, by its id.
    async with me.line(last) as again:
        items = (await again.next())["items"]
        assert [item["text"] for item in items if item["id"] > last] == ["Men Dilnozaman", "Yana bir gap"]
        assert len({item["id"] for item in items}) == len(items)


async def test_what_a_visitor_writes_in_one_tab_is_seen_in_the_other(site: Site) -> None:
    me, _ = await begun(site)
    async with me.line(await me.last()) as line:
        await line.next()
        await me.send(text="Kafolat bormi?")
        assert (await line.texts(2))[:2] == ["Kafolat bormi?", ANSWER]


async def test_the_stream_is_the_visitors_alone(site: Site) -> None:
    me, talk = await begun(site)
    for secret in ("", "x", "a" * 44, talk.id, talk.contact_id):
        refused = await widget(site, secret=secret).call("GET", "events")
        assert (refused.status, refused.body["error"]["code"]) == (400, "secret")
    # Somebody who has never written has no talk: nothing is held open for them.
    assert (await widget(site, secret="b" * 43).call("GET", "events")).status == 204
    elsewhere = Widget(site, site.stranger.shop.bot.public_id, secret=me.secret)
    assert (await elsewhere.call("GET", "events")).status == 204
    async with site.http.get(f"{site.base}/chat/{me.public_id}/events") as answer:
        assert answer.status == 204
    for after in ("x", "' OR 1=1", "u" * 26, "0" * 26, "z" * 26):
        async with me.line(after) as line:
            assert (await line.next())["status"] == "bot"


async def test_only_allowed_sites_may_hear(site: Site) -> None:
    me, _ = await begun(site)
    await choose(site, origins="https://boshqa.example")
    for method in ("GET", "OPTIONS"):
        refused = await me.call(method, "events")
        assert refused.status == 403 and "Access-Control-Allow-Origin" not in refused.headers
    await choose(site, origins=SITE)
    async with me.line() as line:
        assert line.answer.headers["Access-Control-Allow-Origin"] == SITE
        assert "Access-Control-Allow-Credentials" not in line.answer.headers


async def test_a_person_who_writes_is_seen_writing(site: Site) -> None:
    """Nothing of it is stored, and it is over when they stop or their message is there."""
    me, talk = await begun(site)
    other, _ = await begun(site)
    async with me.line(await me.last()) as line, other.line(await other.last()) as strange:
        await line.next()
        await strange.next()
        write_in(site, talk, "looking")
        write_in(site, talk, "typing")
        assert await line.next() == {"items": [], "status": "bot", "typing": True}
        write_in(site, talk, "typing")
        assert (await line.next())["typing"] is True
        write_in(site, talk, "gone")
        assert (await line.next())["typing"] is False
        await say(site, await talk_of(other), "Faqat sizga")
        assert (await strange.next())["typing"] is False
    assert len((await me.history())["items"]) == 2


async def test_a_message_that_was_named_before_the_last_one_is_not_lost(site: Site) -> None:
    """Two processes store at the same time: the one that began first ends last."""
    me, talk = await begun(site)
    async with me.line(await me.last()) as line:
        await line.next()
        late = earlier_id(new_id(), 5)[:10] + new_id()[10:]
        await say(site, talk, "Keyingi")
        assert await line.texts(1) == ["Keyingi"]
        async with site.core.db.write() as session:
            session.add(models.Message(id=late, conversation_id=talk.id, author="operator", text="Avvalgi"))
        site.core.ring_talk(talk.bot_id, talk.id)
        assert await line.texts(1) == ["Avvalgi"]
        await say(site, talk, "Oxirgi")
        assert await line.texts(1) == ["Oxirgi"]


async def test_a_bell_that_nobody_heard_delays_but_loses_nothing(site: Site) -> None:
    me, talk = await begun(site)
    async with me.line(await me.last()) as line:
        await line.next()
        async with site.core.db.write() as session:
            row = await conversations.get(session, site.owner.shop.owner, talk.id)
            await conversations.operator_reply(session, row, "Jimgina", author=site.owner.shop.owner)
        assert await line.texts(1) == ["Jimgina"]


async def test_much_that_was_missed_comes_in_parts(site: Site) -> None:
    me, talk = await begun(site)
    last = await me.last()
    async with site.core.db.write() as session:
        for number in range(120):
            session.add(models.Message(conversation_id=talk.id, author="operator", text=f"Qator {number}"))
    async with me.line(last) as line:
        parts = await line.until(lambda event: any(item["text"] == "Qator 119" for item in event["items"]))
    texts = [item["text"] for part in parts for item in part["items"] if item["id"] > last]
    assert texts == [f"Qator {number}" for number in range(120)]
    assert max(len(part["items"]) for part in parts) <= 50


async def test_open_streams_have_a_bound(servers_run: servers.Run, tmp_path: Path) -> None:
    """For one visitor and for one bot; who is refused asks, and another bot's visitors are not touched by it."""
    limits = {"visitor_streams": 2, "bot_streams": 3, "contact_messages_per_minute": 100}
    async with (
        started(tmp_path, servers_run.new_sqlite(tmp_path), overrides={"limits": limits}) as site,
        contextlib.AsyncExitStack() as open_,
    ):
        me, talk = await begun(site)
        other, _ = await begun(site)
        third, _ = await begun(site)
        mine = [await open_.enter_async_context(me.line()) for _ in range(2)]
        refused = await me.call("GET", "events")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "30")
        assert refused.headers["Access-Control-Allow-Origin"] == SITE
        await open_.enter_async_context(other.line())
        assert (await third.call("GET", "events")).status == 429
        assert len((await third.history())["items"]) == 2
        elsewhere = await Widget(site, site.stranger.shop.bot.public_id).begin()
        await elsewhere.send(text="Atirgul necha pul?")
        await open_.enter_async_context(elsewhere.line())
        # A tab that was closed makes room.
        mine[0].answer.close()
        line = await open_.enter_async_context(third.line())
        assert (await line.next())["status"] == "bot"
        await say(site, talk, "Hali shu yerdamisiz?")
        await mine[1].until(lambda event: any("Hali" in item["text"] for item in event["items"]))


async def test_a_restart_in_mid_stream_loses_nothing(database_url: str, tmp_path: Path) -> None:
    """The stream ends with the process; whoever comes back with the last message hears what was said meanwhile."""
    async with contextlib.AsyncExitStack() as stack:
        browser = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        life = contextlib.AsyncExitStack()
        first = await life.enter_async_context(started(tmp_path, database_url))
        me, talk = await begun(replace(first, http=browser))
        last = await me.last()
        line = await stack.enter_async_context(me.line(last))
        await line.next()
        await life.aclose()
        assert await line.next() is None
        second = await stack.enter_async_context(started(tmp_path, database_url))
        async with second.core.db.write() as session:
            row = await conversations.get(session, first.owner.shop.owner, talk.id)
            await conversations.operator_reply(session, row, "Biz qaytdik", author=first.owner.shop.owner)
        me.site = second
        async with me.line(last) as again:
            items = (await again.next())["items"]
            assert [item["text"] for item in items if item["id"] > last] == ["Biz qaytdik"]


async def test_the_pages_stream_is_the_cookies(site: Site) -> None:
    """The chat page hears the same; another visitor's cookie hears nothing of it."""
    me, talk = await begun(site)
    place = f"{site.base}/chat/{me.public_id}/events?after={await me.last()}"
    async with site.http.get(place, headers={"Cookie": f"chat={me.secret}"}) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        line = Line(answer)
        await line.next()
        await say(site, talk, "Sahifaga ham")
        assert await line.texts(1) == ["Sahifaga ham"]
    async with site.http.get(place, headers={"Cookie": f"chat={'c' * 43}"}) as answer:
        assert answer.status == 204


# Thumbs


async def test_a_thumb_holds_on_the_visitors_own_answers_alone(site: Site) -> None:
    me, _ = await begun(site)
    other, _ = await begun(site)
    answer = (await me.history())["items"][-1]
    assert answer["rating"] == 0

    async def press(who: Widget, value: int, message_id: str = answer["id"]) -> Any:
        return await who.call("POST", "ratings", data={"rating": f"rate:{value}:{message_id}"})

    async def rating() -> Any:
        return (await me.history())["items"][-1]["rating"]

    for value in (1, 1, -1, -1, 1):
        told = await press(me, value)
        assert (told.status, told.body, await rating()) == (200, {"rating": value}, value)
        assert told.headers["Access-Control-Allow-Origin"] == SITE
    # Another visitor, another bot, a message that is no answer: nothing changes, and nobody learns what is whose.
    elsewhere = Widget(site, site.stranger.shop.bot.public_id, secret=me.secret)
    for who in (other, elsewhere):
        assert ((await press(who, -1)).status, await rating()) == (200, 1)
    question = (await me.history())["items"][0]
    assert ((await press(me, 1, question["id"])).status, question["rating"]) == (200, None)
    for wrong in ("", "rate:2:" + answer["id"], "rate:1:x", "lang:uz", "rate:1:" + answer["id"] + "x"):
        assert (await me.call("POST", "ratings", data={"rating": wrong})).status == 400
    for refused in (widget(site, secret=me.secret, origin=None), widget(site, secret="x")):
        assert (await press(refused, -1)).status in (400, 403)
    await choose(site, origins="https://boshqa.example")
    assert (await press(me, -1)).status == 403
    await choose(site)
    assert await rating() == 1


# Pictures


async def test_a_picture_can_be_drawn_on_an_allowed_site_and_nothing_else_can(site: Site) -> None:
    me, talk = await begun(site)
    for name, data in (("model.png", encoded("PNG", (1200, 600))), ("narx.pdf", b"%PDF-1.4 narx")):
        file = await outfiles.prepare(site.core, "web", talk.id, name, data)
        async with site.core.db.write() as session:
            row = await conversations.get(session, site.owner.shop.owner, talk.id)
            await conversations.operator_reply(session, row, "", author=site.owner.shop.owner, file=file)
    shown, link = [item["files"][0] for item in (await me.history())["items"][-2:]]
    assert (shown["shown"], shown["width"], shown["height"]) == ("image", 280, 140)
    assert (link["shown"], link["width"], link["size"]) == ("", 0, "13 bayt")
    address = f"{site.base}/widget/{me.public_id}{shown['url']}"
    async with site.http.get(address, headers={"Origin": SITE}) as answer:
        assert (answer.status, answer.content_type) == (200, "image/jpeg")
        assert answer.headers["Access-Control-Allow-Origin"] == SITE and (await answer.read())[:2] == b"\xff\xd8"
    stranger = site.stranger.shop.bot.public_id
    bad = shown["url"][:-1] + ("0" if shown["url"][-1] != "0" else "1")
    for place, path in ((stranger, shown["url"]), (me.public_id, link["url"]), (me.public_id, bad)):
        async with site.http.get(f"{site.base}/widget/{place}{path}", headers={"Origin": SITE}) as answer:
            assert answer.status == 404
    await choose(site, origins="https://boshqa.example")
    async with site.http.get(address, headers={"Origin": SITE}) as answer:
        assert answer.status == 403 and "Access-Control-Allow-Origin" not in answer.headers


async def test_a_visitors_picture_reaches_their_other_tab(site: Site) -> None:
    """Its message is stored before the picture is fetched; the tab that has the one is told the other."""
    me, _ = await begun(site)
    async with me.line(await me.last()) as line:
        await line.next()
        assert (await me.picture(encoded("PNG", (300, 600)))).status == 200
        events = await line.until(lambda event: any(item["files"] for item in event["items"]))
    item = next(item for item in events[-1]["items"] if item["files"])
    assert (item["author"], item["instead"]) == ("customer", True)
    assert (item["files"][0]["width"], item["files"][0]["height"]) == (140, 280)


@pytest.mark.parametrize("size", [(60, 30), (1, 900), (2000, 3)])
def test_a_jpeg_says_how_large_it_is(size: tuple[int, int]) -> None:
    for more in ({}, {"progressive": True}, {"comment": b"x" * 900}, {"exif": b"Exif\0\0" + b"y" * 5000}):
        assert sniffing.jpeg_pixels(encoded("JPEG", size, **more)) == size


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe0",
        b"\xff\xd8\xff\xc0\0\x11\x08",
        b"\xff\xd8" + b"\xff\xe1\0\0" * 9,
        b"GIF89a",
    ],
)
def test_what_is_no_whole_jpeg_says_nothing(data: bytes) -> None:
    assert sniffing.jpeg_pixels(data) is None and sniffing.measured("image/jpeg", data) == {}


def test_writing_is_over_when_it_is_not_said_again() -> None:
    now = 100.0
    here = Presence(Bell(), clock=lambda: now)
    here.tell("b1", "t1", "p1", "Dilnoza", "typing")
    assert here.typing_s("t1") == TYPING_S and here.typing_s("t2") == 0
    now += TYPING_S - 1
    assert here.typing_s("t1") == 1
    now += 1
    assert here.typing_s("t1") == 0
    here.tell("b1", "t1", "p1", "Dilnoza", "typing")
    here.tell("b1", "t1", "p2", "Malika", "looking")
    here.tell("b1", "t1", "p1", "Dilnoza", "gone")
    assert here.typing_s("t1") == 0
