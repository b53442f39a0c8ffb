"""The chat on other sites: which sites may show it, whose talk it opens, what it refuses, and its page in the panel."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from services import bots, contacts, upkeep, uploads, widgets
from services.channels.base import Refused, RemoteFile
from services.channels.web import WebChannel
from services.errors import Invalid
from services.i18n import LANGUAGE_NAMES, translate
from services.visitors import contact_of
from tests import servers
from tests.conveyor.harness import until
from tests.web import panel
from tests.web.site import Site, started
from tests.web.widget import ANSWER, CANARY, QUESTION, SITE, Widget, afresh, choose, png, rows, serving, widget


@pytest.fixture(scope="module")
async def running(servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with serving(servers_run, tmp_path_factory) as site:
        yield site


@pytest.fixture
async def site(running: Site) -> AsyncIterator[Site]:
    await afresh(running)
    yield running
    await running.owner.post(f"{running.owner.bot}/start")


# The script


async def test_the_script_is_small_and_kept_for_a_short_time(site: Site) -> None:
    async with site.http.get(f"{site.base}/widget.js", headers={"Accept-Encoding": "gzip"}) as answer:
        source = await answer.read()
        assert answer.status == 200 and answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert answer.headers["Cache-Control"] == "public, max-age=600"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in answer.headers
        etag = answer.headers["ETag"]
    assert len(gzip.compress(source, 6)) <= 15_000
    async with site.http.get(f"{site.base}/widget.js", headers={"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with site.http.get(f"{site.base}/widget.js", headers={"Accept-Encoding": "identity"}) as answer:
        assert await answer.read() == source and "Content-Encoding" not in answer.headers
    # What a strict policy, or a page's own types for scripts, would refuse.
    assert not re.search(
        rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|\bon\w+ = ", source
    )


async def test_the_configuration_is_in_the_visitors_language(site: Site) -> None:
    greetings = {"uz": "Salom! Nima so‘raysiz?", "ru": "Здравствуйте! Спрашивайте."}
    await choose(site, color="#FFE000", position="left", greetings=greetings)
    for asked, accepted, language, greeting in (
        ("", "ru-RU,ru;q=0.9", "ru", greetings["ru"]),
        ("uz", "ru", "uz", greetings["uz"]),
        ("uz-Cyrl", "en", "uz-Cyrl", "Салом! Нима сўрайсиз?"),
        ("en", "ru", "en", "Hello! 👋 I am Texno Savdo. Ask me anything, I answer at any hour."),
        ("xx", "de", "uz", greetings["uz"]),
    ):
        answer = await widget(site, headers={"Accept-Language": accepted}).call("GET", f"config?language={asked}")
        told = answer.body
        assert (told["language"], told["greeting"]) == (language, greeting)
        assert told["words"]["write"] == translate(language, "Write a message…")
        assert [one["name"] for one in told["languages"]] == list(LANGUAGE_NAMES.values())
        assert (told["name"], told["color"], told["ink"], told["position"]) == (
            "Texno Savdo",
            "#ffe000",
            "#000000",
            "left",
        )
        assert answer.headers["Cache-Control"] == "no-store" and "Set-Cookie" not in answer.headers
    # A greeting is shown, not stored.
    assert (await (await widget(site).begin()).history())["items"] == []


async def test_a_secret_is_made_anew_for_everybody(site: Site) -> None:
    secrets = {(await widget(site).begin()).secret for _ in range(20)}
    assert len(secrets) == 20 and all(re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) for secret in secrets)


@pytest.mark.parametrize(
    ("color", "ink"),
    [
        ("#000000", "#ffffff"),
        ("#ffffff", "#000000"),
        ("#777777", "#000000"),
        ("#2459d3", "#ffffff"),
        ("#ff0000", "#000000"),
    ],
)
def test_the_text_on_the_owners_colour_can_be_read(color: str, ink: str) -> None:
    assert widgets.Look(color).ink == ink


# Which sites


@pytest.mark.parametrize(
    ("origin", "listed", "allowed"),
    [
        (SITE, "", True),
        ("http://localhost:5173", "", True),
        ("null", "", False),
        ("file://", "", False),
        ("chrome-extension://abc", "", False),
        (SITE, SITE, True),
        (SITE, f"https://boshqa.example\n{SITE}/", True),
        (SITE, "https://boshqa.example", False),
        ("http://dokon.example", SITE, False),
        ("https://dokon.example:8443", SITE, False),
        ("https://dokon.example:8443", "https://dokon.example:8443", True),
        ("https://www.dokon.example", SITE, False),
        ("https://dokon.example.evil.example", SITE, False),
        ("https://evil.example/https://dokon.example", SITE, False),
        ("https://xn--d1aqf.example", "https://ДОМ.example", True),
        ("https://dom.example", "https://ДОМ.example", False),
        ("null", SITE, False),
        ("*", SITE, False),
        ("", SITE, False),
    ],
)
async def test_only_allowed_sites_are_answered(site: Site, origin: str, listed: str, allowed: bool) -> None:
    await choose(site, origins=listed)
    before = [await rows(site, model) for model in (models.InboxItem, models.Contact, models.Upload)]
    me = widget(site, origin=origin, secret="s" * 43)
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-chat-secret"}
    answers = [
        await me.call("OPTIONS", "messages", preflight),
        await me.call("GET", "config"),
        await me.call("GET", "messages"),
        await me.call("POST", "messages", data={"text": ""}),
        await me.call("POST", "pictures", data={"file": ""}),
    ]
    assert [answer.status for answer in answers] == ([204, 200, 200, 400, 400] if allowed else [403] * 5)
    for answer in answers:
        assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert answer.headers["Vary"] == "Origin"
    if allowed:
        assert answers[0].headers["Access-Control-Allow-Headers"] == "X-Chat-Secret"
        assert answers[0].headers["Access-Control-Allow-Methods"] == "GET, POST"
    else:
        assert (await me.send(text=QUESTION)).body["error"]["code"] == "origin"
        assert (await me.picture(png())).status == 403
    assert [await rows(site, model) for model in (models.InboxItem, models.Contact, models.Upload)] == before


async def test_who_names_no_site_may_look_but_not_write(site: Site) -> None:
    me = await widget(site, origin=None).begin()
    assert (await me.send(text=QUESTION)).status == 403
    assert (await me.picture(png())).status == 403
    assert (await me.history())["items"] == []


async def test_our_own_pages_may_show_it_whatever_is_listed(site: Site) -> None:
    await choose(site, origins=SITE)
    assert (await widget(site, origin=site.base).begin()).secret


# Whose talk


async def test_an_answer_streams_and_the_talk_is_the_visitors_alone(site: Site) -> None:
    me, other = await widget(site).begin(), await widget(site).begin()
    answer = await me.send(text=QUESTION)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    assert answer.headers["Access-Control-Allow-Origin"] == SITE and "Set-Cookie" not in answer.headers
    kinds = [kind for kind, _ in answer.events]
    assert kinds[0] == "delta" and kinds[-2:] == ["message", "done"]
    assert "".join(data["text"] for kind, data in answer.events if kind == "delta") == ANSWER
    talk = await me.history()
    assert [item["author"] for item in talk["items"]] == ["customer", "bot"] and talk["status"] == "bot"
    assert (await me.history(f"after={talk['items'][0]['id']}"))["items"] == talk["items"][1:]
    assert (await other.history())["items"] == []
    await me.send(text="Mening siriminimni hech kim bilmasin")
    found = (await site.owner.get(f"{site.owner.bot}/conversations", q="siriminim")).body["items"]
    assert len(found) == 1 and me.secret not in json.dumps(found)
    # Neither the ids that the owner sees, nor a short or long secret, nor this secret at another bot.
    for secret in (found[0]["contact"], found[0]["contact_id"], "x", "a" * 44):
        refused = await widget(site, secret=secret).call("GET", "messages")
        assert (refused.status, refused.body["error"]["code"]) == (400, "secret")
    assert (await widget(site).call("POST", "messages", data={"text": QUESTION})).status == 400
    elsewhere = Widget(site, site.stranger.shop.bot.public_id, secret=me.secret)
    assert (await elsewhere.history())["items"] == []


async def test_a_long_talk_comes_in_parts(site: Site) -> None:
    me = await widget(site).begin()
    await me.send(text=QUESTION)
    talk = (await site.owner.get(f"{site.owner.bot}/conversations", limit="1")).body["items"][0]
    for number in range(55):
        await site.owner.post(f"/conversations/{talk['id']}/messages", {"text": f"Qator-{number:02}."})
    latest = await me.history()
    assert latest["status"] == "human"
    assert [latest["items"][0]["text"], latest["items"][-1]["text"]] == ["Qator-05.", "Qator-54."]
    older = await me.history(f"before={latest['next']}")
    assert older["items"][0]["text"] == QUESTION and older["items"][-1]["text"] == "Qator-04." and older["next"] is None


async def test_buttons_languages_and_a_person(site: Site) -> None:
    me = await widget(site).begin()
    offered = next(data for kind, data in (await me.send(text="/language")).events if kind == "message")
    assert [button["text"] for button in offered["buttons"]] == list(LANGUAGE_NAMES.values())
    assert (await me.send(data="lang:ru")).events[-1][1]["items"][-2]["text"] == LANGUAGE_NAMES["ru"]
    assert (await me.send(data="lang:xx")).status == 400
    assert (await me.send(operator="1")).events[-1][1]["status"] == "waiting"


async def test_markup_is_carried_as_text(site: Site) -> None:
    """Names, greetings, questions and answers: the script gets what was written and puts it in as text."""
    site.models.reply = f"Mana {CANARY}"
    await choose(site, greetings={"uz": CANARY})
    me = await widget(site).begin()
    answer = await me.call("GET", "config?language=uz")
    assert answer.body["greeting"] == CANARY and answer.headers["Content-Type"].startswith("application/json")
    await me.send(text=f"{QUESTION} {CANARY}")
    assert CANARY in (await me.history())["items"][0]["text"]


async def test_a_stopped_bot_and_a_disconnected_one(site: Site) -> None:
    await site.owner.post(f"{site.owner.bot}/stop")
    me = await widget(site).begin()
    assert (await me.call("GET", "config")).body["resting"] is True
    said = [data["text"] for kind, data in (await me.send(text=QUESTION)).events if kind == "message"]
    assert said == [translate("uz", "This bot is resting now 😴 Please write again later.")]
    made = (await site.owner.post("/bots", {"name": "Yopiq"})).body
    async with site.core.db.write() as session:
        bot = await bots.get(session, site.owner.shop.owner, made["id"])
        for channel in await bots.channels(session, bot):
            await bots.disconnect(session, bot, channel.id)
    gone = Widget(site, made["public_id"], secret="s" * 43)
    for answer in (
        await gone.call("GET", "config"),
        await gone.send(text=QUESTION),
        await gone.call("OPTIONS", "config"),
    ):
        assert answer.status == 404 and "Access-Control-Allow-Origin" not in answer.headers
    for public_id in ("x", "a" * 300, "..%2F..%2Fetc"):
        assert (await Widget(site, public_id).call("GET", "config")).status == 404


@pytest.mark.parametrize("text", ["", "  \r\n ", "x" * 4001, "\x00\x07"])
async def test_what_cannot_be_sent_is_said_in_the_visitors_language(site: Site, text: str) -> None:
    me = await widget(site).begin()
    answer = await me.call("POST", "messages?language=ru", data={"text": text})
    assert answer.status == 400 and re.search("[а-я]", answer.body["error"]["message"])
    assert answer.headers["Access-Control-Allow-Origin"] == SITE
    assert (await me.history())["items"] == []


# Floods


async def test_floods_are_refused_before_anything_is_stored(
    servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By visitor, by address and by bot; another bot is not touched by it."""
    folder = tmp_path_factory.mktemp("widgetflood")
    limits = {"contact_messages_per_minute": 3, "bot_messages_per_minute": 20}
    async with started(folder, servers_run.new_sqlite(folder), overrides={"limits": limits}) as site:
        me = await widget(site).begin()
        answers = [await me.send(text=QUESTION) for _ in range(5)]
        assert [answer.status for answer in answers] == [200] * 3 + [429] * 2
        assert int(answers[-1].headers["Retry-After"]) > 0
        assert answers[-1].headers["Access-Control-Allow-Origin"] == SITE
        assert await rows(site, models.InboxItem) == 3
        crowd = [await (await widget(site).begin()).send(text=QUESTION) for _ in range(16)]
        # Six people's worth behind one address: 18, of which five were used up.
        assert [answer.status for answer in crowd] == [200] * 13 + [429] * 3
        assert await rows(site, models.InboxItem) == 16
        elsewhere = await Widget(site, site.stranger.shop.bot.public_id).begin()
        assert (await elsewhere.send(text="Atirgul necha pul?")).status == 200


async def test_a_bots_limit_holds_for_all_addresses_together(
    servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("widgetbot")
    overrides = {"limits": {"bot_messages_per_minute": 4}, "server": {"trusted_proxies": 1}}
    async with started(folder, servers_run.new_sqlite(folder), overrides=overrides) as site:
        answers = []
        for number in range(6):
            me = await widget(site, headers={"X-Forwarded-For": f"198.51.100.{number}"}).begin()
            answers.append((await me.send(text=QUESTION)).status)
        assert answers == [200] * 4 + [429] * 2


# Pictures


async def test_a_picture_is_stored_and_reaches_the_conversation(site: Site) -> None:
    me = await widget(site).begin()
    updates: list[str] = []

    async def look(point: str) -> None:
        if point == "received":
            async with site.core.db.read() as session:
                updates.extend(
                    await session.scalars(select(models.InboxItem.payload).where(models.InboxItem.status == "new"))
                )

    before, site.core.pause = site.core.pause, look
    answer = await me.picture(png())
    site.core.pause = before
    assert answer.status == 200 and answer.events[-1][0] == "done"
    assert answer.events[-1][1]["items"][0]["text"] == translate("uz", "Photo")
    async with site.core.db.read() as session:
        upload = (await session.scalars(select(models.Upload).order_by(models.Upload.id.desc()).limit(1))).one()
        message = (
            await session.scalars(
                select(models.Message)
                .where(models.Message.author == "customer")
                .order_by(models.Message.id.desc())
                .limit(1)
            )
        ).one()
    assert (upload.content, upload.mime, upload.size) == (png(), "image/png", len(png()))
    assert (message.kind, message.text) == ("photo", "")
    # The update names the picture and does not hold it; the channel fetches what it names.
    adapter = site.core.channels["web"]
    assert isinstance(adapter, WebChannel) and len(updates) == 1
    event = adapter.parse(json.loads(updates[0]))
    assert event.type == "photo"
    assert event.files == (RemoteFile("photo", {"upload": upload.id}, mime="image/png", size=len(png())),)
    assert await adapter.fetch({}, event.files[0].ref, 5 * 2**20) == png()
    with pytest.raises(Refused):
        await adapter.fetch({}, event.files[0].ref, 10)
    async with site.core.db.write() as session:
        await session.execute(update(models.Upload).values(created_at=utcnow() - 2 * uploads.KEPT))
    await upkeep.clean_up(site.core, {})
    with pytest.raises(Refused):
        await adapter.fetch({}, event.files[0].ref, 5 * 2**20)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", 400),
        (b"<html>" + png(), 400),
        (b"%PDF-1.4", 400),
        (b"\xff\xd8\xff\xe0" + b"0" * 20, 200),
        (b"GIF89a" + b"0" * 20, 200),
        (b"RIFF0000WEBP" + b"0" * 20, 200),
        (b"RIFF0000WAVE" + b"0" * 20, 400),
        (png(b"0" * (5 * 2**20)), 413),
    ],
)
async def test_pictures_are_known_by_their_content_and_size(site: Site, data: bytes, status: int) -> None:
    before = await rows(site, models.Upload)
    me = await widget(site).begin()
    answer = await me.picture(data)
    assert answer.status == status, answer.text
    assert await rows(site, models.Upload) == before + (status == 200)
    assert len((await me.history())["items"]) == (2 if status == 200 else 0)


async def test_kept_pictures_have_a_bound(database_url: str, tmp_path: Path) -> None:
    """By what all of a bot's visitors have sent, and by how many one visitor sends in a minute."""
    async with started(tmp_path, database_url, overrides={"limits": {"bot_pictures_mib": 1}}) as site:
        half = png(b"0" * 600_000)
        assert (await (await widget(site).begin()).picture(half)).status == 200
        full = await (await widget(site).begin()).picture(half)
        assert (full.status, full.body["error"]["code"]) == (429, "too_many")
        elsewhere = await Widget(site, site.stranger.shop.bot.public_id).begin()
        assert (await elsewhere.picture(half)).status == 200
        me = await widget(site).begin()
        assert [(await me.picture(png())).status for _ in range(7)] == [200] * 6 + [429]


async def test_a_deleted_bots_pictures_go_with_it(site: Site) -> None:
    made = (await site.owner.post("/bots", {"name": "Rasmli"})).body
    before = await rows(site, models.Upload)
    assert (await (await Widget(site, made["public_id"]).begin()).picture(png())).status == 200
    await site.owner.call("DELETE", f"/bots/{made['id']}")
    await bots.purge_bot(site.core, {"bot": made["id"]})
    assert await rows(site, models.Upload) == before


async def test_a_deleted_visitors_picture_goes_with_them(site: Site) -> None:
    """Also the bytes as they came, which lie beside the conversation."""
    before, owner = await rows(site, models.Upload), site.owner.shop.owner
    me = await widget(site).begin()
    assert (await me.picture(png())).status == 200

    async def given_back() -> bool:
        async with site.core.db.read() as session:
            return not await session.scalar(
                select(models.Lane.key).where(models.Lane.kind == "inbox", models.Lane.holder.is_not(None))
            )

    await until(given_back)
    async with site.core.db.write() as session:
        name = contact_of(me.public_id, me.secret)
        contact = await session.scalar(select(models.Contact.id).where(models.Contact.external_id == name))
        await contacts.delete(session, await contacts.get(session, owner, str(contact), "manage"), owner)
    assert await rows(site, models.Upload) == before


async def test_who_leaves_finds_the_answer_later(site: Site) -> None:
    me = await widget(site).begin()
    site.models.latency_s = 0.3
    headers = {"Origin": SITE, "X-Chat-Secret": me.secret, "Accept": "text/event-stream"}
    address = f"{site.base}/widget/{me.public_id}/messages"
    async with site.core.bell.listen(f"bot:{site.owner.shop.bot.id}", limit=100) as events:
        async with site.http.post(address, data={"text": QUESTION}, headers=headers) as answer:
            assert answer.status == 200
            answer.close()
        async with asyncio.timeout(20):
            while not any(item["author"] == "bot" for item in (await me.history())["items"]):
                await events.get()


# The owner's page


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://example.uz", "https://example.uz"),
        (" HTTPS://Example.UZ/ ", "https://example.uz"),
        ("example.uz", "https://example.uz"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://example.uz:443", "https://example.uz"),
        ("http://example.uz:80", "http://example.uz"),
        ("https://дом.рф", "https://xn--d1aqf.xn--p1ai"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_sites_address_becomes_what_browsers_say(written: str, origin: str) -> None:
    assert widgets.origins_in(written) == [origin]


@pytest.mark.parametrize(
    "written",
    [
        "https://example.uz/contacts",
        "https://example.uz?x=1",
        "https://example.uz#x",
        "https://me:secret@example.uz",
        "ftp://example.uz",
        "javascript:alert(1)",
        "null",
        "*",
        "https://*.example.uz",
        "https://example",
        "https://",
        "https://exa mple.uz",
        "https://example.uz:99999",
        "https://example..uz",
        "https://-x.uz",
        "<script>",
        "https://" + "a" * 300 + ".uz",
        "\n".join(f"https://s{n}.uz" for n in range(51)),
    ],
)
def test_what_is_no_site_is_refused(written: str) -> None:
    with pytest.raises(Invalid):
        widgets.origins_in(written)


@pytest.fixture
async def panel_site(tmp_path: Path, sqlite_url: str) -> AsyncIterator[panel.Site]:
    async with panel.open_site(tmp_path, sqlite_url) as made:
        yield made


async def test_the_owner_chooses_how_it_looks(panel_site: panel.Site) -> None:
    user = await panel_site.person("Look", language="en")
    browser, bot = await panel_site.signed_in(user), await panel_site.bot_of(user)
    place = f"/bots/{bot.id}/widget"
    assert place in (await browser.get(f"/bots/{bot.id}/channels")).text
    page = await browser.get(place)
    assert f'/widget.js" data-bot="{bot.public_id}" async&gt;' in page.text.replace("&#34;", '"')
    good = {
        "color": "#0B7A75",
        "position": "left",
        "greeting_uz": "Salom!\r\nSo‘rang.",
        "greeting_ru": "",
        "greeting_en": f"Hi {CANARY}",
        "origins": "https://дом.рф\r\nshop.example",
    }
    wrong = [
        ({"color": "red"}, "Write the colour like"),
        ({"color": "#12345"}, "Write the colour like"),
        ({"color": "#2459d3;} *{"}, "Write the colour like"),
        ({"position": "top"}, "Please check"),
        ({"greeting_en": "x" * 301}, "at most 300"),
        ({"origins": "https://x.uz/page"}, "is not a site’s address"),
    ]
    for change, said in wrong:
        refused = await browser.post(place, **(good | change))
        assert (refused.status, said in refused.visible()) == (400, True), change
        assert "https://дом.рф" in refused.text or "origins" in change
    assert (await browser.post(place, **good)).location == f"{place}?done=saved"
    page = await browser.get(place)
    assert "https://xn--d1aqf.xn--p1ai\nhttps://shop.example" in page.text and "So‘rang." in page.text
    assert "<img src=x" not in page.text and 'value="#0b7a75"' in page.text
    async with panel_site.core.db.read() as session:
        channel = bots.of_kind(await bots.channels(session, bot), "web")
    assert channel is not None
    look = widgets.look(channel)
    assert look.greetings == {"uz": "Salom!\nSo‘rang.", "en": f"Hi {CANARY}"}
    assert look.origins == ("https://xn--d1aqf.xn--p1ai", "https://shop.example")
    # A language that is taken away and given back keeps its words.
    await browser.post(f"/bots/{bot.id}", name="Chinor", system_prompt="", languages="ru")
    await browser.post(place, color="#0b7a75", position="left", greeting_ru="Привет", origins="")
    async with panel_site.core.db.read() as session:
        channel = bots.of_kind(await bots.channels(session, bot), "web")
    assert channel is not None
    assert set(widgets.look(channel).greetings) == {"uz", "ru", "en"} and widgets.look(channel).origins == ()
    await browser.post(f"/bots/{bot.id}/channels/{channel.id}/disconnect")
    page = await browser.get(place)
    assert "widget.js" not in page.text and "is disconnected" in page.visible()
    assert (await browser.post(place, **good)).status == 404
    assert (await browser.post(f"/bots/{bot.id}/channels/web", next=place)).location.startswith(place)
    assert "widget.js" in (await browser.get(place)).text
