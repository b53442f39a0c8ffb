"""Instagram from Meta's delivery to the customer's answer, with either login, against Meta's two hosts on loopback."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select

from db import models
from db.base import utcnow
from services.channels.base import (
    Button,
    NotAllowed,
    Outgoing,
    Refused,
    Throttled,
    TokenRefused,
    Unreachable,
    WindowClosed,
)
from services.channels.instagram import InstagramChannel
from services.channels.meta import GraphApi, RepliedAlready
from services.errors import Conflict
from tests.composition import PLENTY, address, make_shop
from tests.conveyor.harness import settings_for
from tests.conveyor.lines import Fakes
from tests.conveyor.lines import InstagramLine as Line
from tests.conveyor.lines import connect_instagram as connect
from tests.conveyor.lines import instagram_line as connected
from tests.conveyor.lines import started as running
from tests.conveyor.nursery import Nursery
from tests.fakes.graph import FakeGraph
from tests.fakes.meta import ACCOUNT, PAGE, SECRET, Meta
from tests.fakes.meta import INSTAGRAM_ASKER as ASKER
from tests.fakes.meta import INSTAGRAM_TOKEN as TOKEN
from tests.servers import ROOT

VECTORS = ROOT / "tests" / "payloads"
CASES = json.loads((VECTORS / "instagram_inbound.json").read_text())["cases"]


@pytest.fixture
async def line(database_url: str, tmp_path: Path, meta: Meta, fakes: Fakes) -> AsyncIterator[Line]:
    """An account connected by Instagram's own login, on either database."""
    async with connected(tmp_path, database_url, meta, fakes) as made:
        yield made


@pytest.fixture
async def small(sqlite_url: str, tmp_path: Path, meta: Meta, fakes: Fakes) -> AsyncIterator[Line]:
    """The same, where nothing depends on the database."""
    async with connected(tmp_path, sqlite_url, meta, fakes) as made:
        yield made


# Connecting


async def test_connected_after_its_credentials_were_tried(small: Line) -> None:
    channel = await small.channel()
    assert (channel.external_id, channel.parent_id, channel.username) == (ACCOUNT, None, "texnosavdo")
    assert {"messages", "comments", "messaging_seen"} <= small.account.subscribed
    assert TOKEN not in str(channel.credentials) and SECRET not in str(channel.credentials)
    await small.settings(comment_reply=True)
    # Connected again it is the same channel with new credentials and the owner's choices; another bot cannot have it. Whoever
    # copied the other of Meta's two ids meant the same account.
    status, again = await connect(
        small.place.core, small.session, small.shop, verify_token="another-word", account_id=small.account.scoped_id
    )
    assert (status, again["id"], again["address"]) == (201, channel.id, "https://ig.me/m/texnosavdo")
    assert (await small.channel()).settings["comment_reply"] is True
    assert TOKEN not in json.dumps(again) and "another-word" not in json.dumps(again)
    other = await make_shop(small.place.core, "Boshqa", email="other@example.uz", document=None)
    status, refused = await connect(small.place.core, small.session, other)
    assert (status, refused["error"]["code"]) == (409, "channel_taken")
    # Disconnected, Meta is told to deliver nothing more.
    async with small.session.delete(
        f"{address(small.place.core)}/api/v1/bots/{small.shop.bot.id}/channels/{channel.id}",
        headers={"Authorization": f"Bearer {small.shop.token}"},
    ) as response:
        assert response.status == 204
    await small.graph.wait_until(lambda: not small.account.subscribed)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"access_token": "IGAAnobody_knows_this_one_000"}, "access_token"),
        ({"account_id": "17840000000000999"}, "account_id"),
        ({"account_id": "../me"}, "account_id"),
        ({"access_token": "with a blank\r\nX-Header: 1"}, "access_token"),
        ({"verify_token": "short"}, "verify_token"),
        ({"page_id": "x"}, "page_id"),
        ({"page_id": PAGE}, "access_token"),
        ({"page_id": PAGE, "access_token": "EAAof_the_page_000", "app_secret": "of-another-app"}, "app_secret"),
        ({"page_id": PAGE, "access_token": "EAAof_the_page_000", "account_id": "17840000000000999"}, "page_id"),
        ({"page_id": "300000000000999", "access_token": "EAAof_the_page_000"}, "page_id"),
    ],
)
async def test_wrong_credentials_are_told_by_their_field(
    sqlite_url: str, tmp_path: Path, meta: Meta, fakes: Fakes, change: dict[str, str], field: str
) -> None:
    meta.add()
    meta.add(PAGE, token="EAAof_the_page_000")
    async with running(tmp_path, sqlite_url, fakes, meta.environment) as (place, session):
        shop = await make_shop(place.core, document=None)
        status, answer = await connect(place.core, session, shop, **change)
        assert status in (400, 422)
        assert str(answer["error"]["field"]).endswith(field), answer
        count = select(func.count()).select_from(models.Channel).where(models.Channel.kind == "instagram")
        assert not await place.one(count)


async def test_a_token_that_may_not_subscribe_is_taken_and_that_is_said(
    sqlite_url: str, tmp_path: Path, meta: Meta, fakes: Fakes
) -> None:
    meta.add().may_subscribe = False
    async with running(tmp_path, sqlite_url, fakes, meta.environment) as (place, session):
        shop = await make_shop(place.core, document=None)
        assert (await connect(place.core, session, shop))[0] == 201
        channel = await place.one(select(models.Channel).where(models.Channel.kind == "instagram"))
        assert channel.settings["subscribed"] is False


async def test_a_page_login_goes_by_the_other_host(database_url: str, tmp_path: Path, meta: Meta, fakes: Fakes) -> None:
    async with connected(tmp_path, database_url, meta, fakes, PAGE) as line:
        channel = await line.channel()
        assert (channel.external_id, channel.parent_id) == (ACCOUNT, PAGE)
        assert "messages" in line.account.subscribed
        line.account.people[ASKER] = ("Aziza", "aziza")
        await line.ask(1)
        # Deliveries may name the Page instead of the account.
        raw = line.account.body(line.account.message("900000000000002", "Kafolat bormi №2"), entry=PAGE)
        assert await line.post(raw.replace(ACCOUNT.encode(), PAGE.encode())) == 200
        await line.account.wait_sent(2)
        await line.drained()
        assert sorted(line.answers()) == [1, 2]
        assert {call.path.split("/")[2] for call in meta.pages.called("send")} == {PAGE}
        assert not meta.own.calls


# Receiving


async def test_metas_question_whether_the_address_is_ours(small: Line) -> None:
    cases = json.loads((VECTORS / "meta_signatures.json").read_text())["verification_get"]
    assert len(cases) == 3
    for case in cases:
        async with small.session.get(f"{small.webhook}?{case['query']}") as response:
            assert (response.status, await response.text()) == (case["http"], case.get("body", "")), case["id"]


async def test_signatures_are_those_of_the_bytes(small: Line) -> None:
    """The sheet's vectors on the wire: bytes as they stand; what is not for Instagram is nobody's here."""
    for case in json.loads((VECTORS / "meta_signatures.json").read_text())["vectors"]:
        raw = base64.b64decode(case["body_base64"])
        ours = case["valid"] and case["id"].startswith("ig-")
        headers = {"X-Hub-Signature-256": case["header"]} if case["header"] else {}
        async with small.session.post(small.webhook, data=raw, headers=headers) as response:
            assert response.status == (200 if ours else 401), case["id"]
    await small.account.wait_sent(1)
    (asked, _) = await small.messages()
    assert asked.text == "Narxi qancha? Нархи https://example.test/p/1"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
async def test_deliveries_mean_what_they_should(
    sqlite_url: str, tmp_path: Path, meta: Meta, fakes: Fakes, case: dict[str, Any]
) -> None:
    """The sheet's deliveries, signed on the wire, twice each; what is stored, in the product's own words."""
    async with connected(tmp_path, sqlite_url, meta, fakes, role="web") as line:
        assert case["accounts"] == [ACCOUNT]
        for delivery in case["deliveries"] * 2:
            assert await line.post(json.dumps(delivery).encode()) == case["expect"]["http"]
        rows = await line.place.rows(select(models.InboxItem.payload).order_by(models.InboxItem.id))
        adapter = line.place.core.channels["instagram"]
        events = [adapter.parse(json.loads(row[0])) for row in rows]
    expected = case["expect"]["events"]
    assert len(events) == len(expected)
    for event, wanted in zip(events, expected, strict=True):
        assert event.recipient == event.sender.id == wanted["user_id"]
        kind = {"read": "status", "referral": "system", "unsupported": "message"}.get(wanted["kind"], wanted["kind"])
        assert event.kind == kind
        if "at" in wanted:
            assert event.at == dt.datetime.fromtimestamp(wanted["at"], dt.UTC)
        for name, value in {"message_id": event.message_id, "text": event.text, "reply": event.reply}.items():
            assert value == wanted.get(name, value)
        assert event.type == wanted.get("type", event.type)
        assert len(event.files) == wanted.get("attachments", 0)
        if "media_url" in wanted:
            assert event.files[0].ref["url"] == wanted["media_url"]
        known = {"story_id": "story", "target_id": "of", "ref": "source"}
        for name in ("story_id", "reply_to", "payload", "target_id", "emoji", "removed", "ref"):
            if name in wanted:
                assert event.extra[known.get(name, name)] == wanted[name]
        if wanted["kind"] == "read":
            assert event.extra["delivery"].status == "read"


async def test_a_question_is_answered(line: Line) -> None:
    line.account.people[ASKER] = ("Aziza Karimova", "aziza")
    await line.ask(1)
    (sent,) = await line.account.wait_sent(1)
    assert sent["recipient"] == {"id": ASKER} and line.answers() == [1]
    # Seen and typing are shown while the answer is made.
    assert set(line.account.actions) == {(ASKER, "mark_seen"), (ASKER, "typing_on")}
    await line.drained()
    question, answer = await line.messages()
    assert (question.text, question.author, answer.author) == ("Muzlatgichlarga kafolat bormi №1", "customer", "bot")
    assert (answer.status, answer.external_id) == ("sent", sent["message_id"])

    async def named() -> Any:
        return await line.place.one(select(models.Contact.name).where(models.Contact.external_id == ASKER))

    assert await line.place.until(named) == "Aziza Karimova"
    # Asked once.
    await line.ask(2)
    await line.account.wait_sent(2)
    await line.drained()
    assert len([call for call in line.graph.called("number") if call.path.endswith(ASKER)]) == 1


async def test_a_name_that_meta_does_not_tell_costs_nothing(small: Line) -> None:
    await small.ask(1)
    await small.ask(2)
    await small.account.wait_sent(2)
    await small.drained()
    contact = await small.place.one(select(models.Contact).where(models.Contact.external_id == ASKER))
    assert (contact.name, contact.username) == ("", "")
    assert (await small.channel()).status == "active"


async def test_every_message_of_a_batch_counts_once(line: Line) -> None:
    people = [f"90000000000{n:04}" for n in range(6)]
    events = [line.account.message(who, f"Kafolat bormi №{n}", mid=f"m_B{n}") for n, who in enumerate(people)]
    first = json.loads(line.account.body(*events[:3]))
    first["entry"] += json.loads(line.account.body(events[3]))["entry"]
    listed = [json.loads(line.account.body(event)) for event in events[4:]]
    for _ in range(3):
        assert await line.post(json.dumps(first).encode()) == 200
        assert await line.post(json.dumps(listed).encode()) == 200
    # The first messages of one person, delivered at once.
    twins = [line.account.message("900000000000077", f"Kafolat bormi №{n}", mid=f"m_T{n}") for n in (10, 11)]
    assert await asyncio.gather(*(line.post(line.account.body(each)) for each in twins)) == [200, 200]
    await line.drained()
    assert sorted(line.answers()) == [*range(6), 10, 11]
    assert {sent["recipient"]["id"] for sent in line.account.sent} == {*people, "900000000000077"}
    contacts = select(func.count()).select_from(models.Contact).where(models.Contact.external_id == "900000000000077")
    assert await line.place.one(contacts) == 1


async def test_what_is_not_signed_by_the_accounts_app_is_refused(small: Line) -> None:
    raw = small.account.body(small.account.message(ASKER, "Salom"))
    good = FakeGraph.sign(SECRET, raw)
    refused = [
        ({}, raw, 401),
        ({"X-Hub-Signature-256": FakeGraph.sign("another-secret", raw)}, raw, 401),
        ({"X-Hub-Signature-256": good}, raw + b" ", 401),
        ({"X-Hub-Signature-256": good.replace("sha256", "sha1")}, raw, 401),
        ({"X-Hub-Signature-256": good}, json.dumps(json.loads(raw)).encode(), 401),
        ({"X-Hub-Signature-256": FakeGraph.sign(SECRET, b"{")}, b"{", 400),
        ({"X-Hub-Signature-256": FakeGraph.sign(SECRET, b"[]")}, b"[]", 400),
        ({"X-Hub-Signature-256": FakeGraph.sign(SECRET, b'"x"')}, b'"x"', 400),
        ({"X-Hub-Signature-256": "sha256=" + "0" * 64}, b"x" * (4096 * 1024 + 1), 413),
    ]
    for headers, body, status in refused:
        async with small.session.post(small.webhook, data=body, headers=headers) as response:
            assert response.status == status, headers
    assert await small.post(raw.replace(ACCOUNT.encode(), b"17840000000000777")) == 401
    flood = {"object": "instagram", "entry": [{"id": str(n), "messaging": []} for n in range(101)]}
    assert await small.post(json.dumps(flood).encode()) == 400
    # Signed, of ours, and nothing for a bot: a Page's own messages.
    assert await small.post(raw.replace(b'"instagram"', b'"page"')) == 200
    assert not await small.place.one(select(func.count()).select_from(models.InboxItem))


async def test_either_of_an_apps_two_secrets_signs(sqlite_url: str, tmp_path: Path, meta: Meta, fakes: Fakes) -> None:
    account = meta.add()
    async with running(tmp_path, sqlite_url, fakes, meta.environment) as (place, session):
        shop = await make_shop(place.core)
        assert (await connect(place.core, session, shop, meta_app_secret="of-the-whole-app-01"))[0] == 201
        line = Line(place, shop, session, meta.own, account)
        raw = account.body(account.message(ASKER, "Kafolat bormi №1"))
        assert await line.post(raw, "of-nobody-at-all") == 401
        assert await line.post(raw, "of-the-whole-app-01") == 200
        await line.ask(2)
        await line.drained()
        assert line.answers() == [1, 2]


async def test_one_owners_secret_does_not_open_anothers_account(small: Line, meta: Meta) -> None:
    mallory = meta.add(
        account_id="17840000000000666", token="IGAAmallory_token_0001", app_secret="mallorys-secret-0001"
    )
    other = await make_shop(small.place.core, "Boshqa", email="other@example.uz", document=None)
    status, _ = await connect(
        small.place.core, small.session, other,
        access_token="IGAAmallory_token_0001", account_id=mallory.id, app_secret="mallorys-secret-0001",
    )  # fmt: skip
    assert status == 201
    await small.ask(8)
    (sent,) = await small.account.wait_sent(1)
    await small.drained()
    before = await small.place.one(select(func.count()).select_from(models.InboxItem))
    ours = small.account.body(small.account.message(ASKER, "Begona №7"))
    assert await small.post(ours, "mallorys-secret-0001") == 401
    # Signed by one, about both, also in one event that names both: only the signer's own part counts.
    seen = mallory.event(ASKER, read={"mid": sent["message_id"]}) | {"recipient": {"id": ACCOUNT}}
    both = json.loads(ours)
    both["entry"] += json.loads(mallory.body(mallory.message("900000000000066", "Oʻziniki"), seen))["entry"]
    assert await small.post(json.dumps(both).encode(), "mallorys-secret-0001") == 200
    await small.drained()
    rows = await small.place.rows(select(models.InboxItem.channel_id).order_by(models.InboxItem.id).offset(before))
    theirs = await small.place.one(select(models.Channel.id).where(models.Channel.external_id == mallory.id))
    assert {row[0] for row in rows} == {theirs}
    assert [each.status for each in await small.messages()] == ["answered", "sent"]


async def test_odd_pieces_are_taken_and_lose_nothing(line: Line) -> None:
    odd: list[Any] = [
        {"sender": 5, "recipient": None, "timestamp": "?", "message": {"text": ["x"]}},
        {"sender": {"id": "\x00" + "9" * 500}, "recipient": {"id": ACCOUNT}, "message": {"mid": "m\x00" + "z" * 500}},
        {"sender": {"id": "900000000000031"}, "recipient": {"id": ACCOUNT}, "timestamp": True, "message": {"mid": 1}},
        {"sender": {"id": "900000000000032"}, "recipient": {"id": ACCOUNT}, "pass_thread_control": {"x": 1}},
        {"sender": {"id": "900000000000033"}, "recipient": {"id": ACCOUNT}, "timestamp": 10**40, "postback": {"a": 1}},
        {"field": "comments", "value": {"id": 5, "from": "?", "text": {"a": 1}}},
        {"field": "story_insights", "value": {"media_id": "1"}},
        {"field": "messages", "value": line.account.message("900000000000034", "Kafolat bormi №4")},
    ]
    await line.deliver(*odd)
    await line.ask(3)
    await line.drained()
    assert {3, 4} <= set(line.answers())
    dead = select(func.count()).select_from(models.InboxItem).where(models.InboxItem.status == "dead")
    assert not await line.place.one(dead)


async def test_buttons_ice_breakers_and_stories(small: Line) -> None:
    await small.deliver(small.account.message(ASKER, "/language"))
    (sent,) = await small.account.wait_sent(1)
    choices = {each["payload"]: each["title"] for each in sent["message"]["quick_replies"]}
    assert choices["lang:ru"] == "Русский"
    await small.deliver(small.account.message(ASKER, "Русский", quick_reply={"payload": "lang:ru"}))
    _, said = await small.account.wait_sent(2)
    assert "русски" in said["message"]["text"].lower()
    await small.deliver(
        small.account.event(ASKER, postback={"mid": "m_ICE", "title": "Kafolat bormi №5", "payload": "WARRANTY"})
    )
    await small.account.wait_sent(3)
    story = {"story": {"id": "18000000000000001", "url": f"{small.graph.base_url}/gone/x"}}
    await small.deliver(small.account.message(ASKER, "Kafolat bormi №6", reply_to=story))
    await small.account.wait_sent(4)
    mention = {"type": "story_mention", "payload": {"url": f"{small.graph.base_url}/gone/y"}}
    await small.deliver(small.account.message(ASKER, None, attachments=[mention]))
    await small.account.wait_sent(5)
    picture = {"type": "image", "payload": {"url": f"{small.graph.base_url}/gone/z"}}
    await small.deliver(small.account.message(ASKER, None, attachments=[picture]))
    await small.account.wait_sent(6)
    await small.drained()
    assert small.answers() == [5, 6]
    said_last = small.account.texts()[-2:]
    assert "текст" not in said_last[0] and said_last[0] != said_last[1]
    asked = {each.external_id: each for each in await small.messages() if each.author == "customer"}
    assert asked["m_ICE"].extra == {"payload": "WARRANTY"}
    kinds = [(each.kind, (each.extra or {}).get("story")) for each in asked.values()][-3:]
    assert kinds == [("text", "18000000000000001"), ("story_mention", None), ("image", None)]


async def test_what_asks_nothing_gets_no_answer(small: Line) -> None:
    quiet = [
        small.account.event(ASKER, reaction={"mid": "m_1", "action": "react", "reaction": "love", "emoji": "❤"}),
        small.account.event(ASKER, message={"mid": "m_1", "is_deleted": True}),
        small.account.event(ASKER, referral={"ref": "reklama", "source": "ADS", "type": "OPEN_THREAD"}),
        small.account.event(ASKER, read={"mid": "m_1"}),
        small.account.message(ASKER, "Oʻzim №9", is_self=True),
        small.account.event(ASKER, by_us=True, reaction={"mid": "m_1", "action": "react"}),
        small.account.message("900000000000005", None, attachments=[{"type": "like_heart", "payload": {}}]),
    ]
    await small.deliver(*quiet)
    await small.drained()
    # Nor did any of it begin a talk, but for the heart.
    assert await small.place.one(select(func.count()).select_from(models.Contact)) == 1
    # While another app has the talk, what is said there is kept.
    raw = small.account.body(small.account.message(ASKER, "Kafolat bormi №10"), key="standby")
    assert await small.post(raw) == 200
    await small.drained()
    assert [(each.text, each.status) for each in await small.messages()] == [("Kafolat bormi №10", "received")]
    assert not small.account.sent


async def test_where_a_customer_came_from(small: Line) -> None:
    referral = {"ref": "insta_reklama_7", "source": "SHORTLINKS", "type": "OPEN_THREAD"}
    await small.deliver(small.account.message(ASKER, "Kafolat bormi №1", referral=referral))
    await small.account.wait_sent(1)
    source = await small.place.one(select(models.Contact.source).where(models.Contact.external_id == ASKER))
    assert source == "insta_reklama_7"


# Echoes and what was seen


async def test_our_own_echo_is_nobody_elses_word(line: Line) -> None:
    await line.ask(1)
    (sent,) = await line.account.wait_sent(1)
    await line.drained()
    await line.deliver(line.account.echo(ASKER, sent["message"]["text"], mid=sent["message_id"]))
    await line.drained()
    await line.ask(2)
    await line.account.wait_sent(2)
    assert [each.author for each in await line.messages()] == ["customer", "bot", "customer", "bot"]
    assert (await line.talk()).status == "bot"


async def test_an_echo_that_is_there_before_the_call_is_answered(line: Line) -> None:
    slow = line.graph.hang(20)
    await line.ask(1)
    await slow.reached.wait()
    (sent,) = await line.account.wait_sent(1)
    seen = line.account.event(ASKER, read={"mid": sent["message_id"]})
    await line.deliver(line.account.echo(ASKER, sent["message"]["text"], mid=sent["message_id"]), seen)

    async def postponed() -> Any:
        waiting = models.InboxItem.status == "new", models.InboxItem.error == "given back"
        return await line.place.one(select(func.count()).select_from(models.InboxItem).where(*waiting)) == 2

    await line.place.until(postponed)
    slow.release()
    await line.drained()
    assert [(each.author, each.status) for each in await line.messages()] == [
        ("customer", "answered"), ("bot", "read")
    ]  # fmt: skip
    assert (await line.talk()).status == "bot"


async def test_an_echo_clears_up_what_became_of_a_cut_off_message(line: Line) -> None:
    line.graph.cut(after_effect=True)
    await line.ask(1)
    (sent,) = await line.account.wait_sent(1)

    async def status(wanted: str) -> Any:
        return (await line.messages())[-1].status == wanted

    await line.place.until(lambda: status("unknown"))
    await line.deliver(line.account.echo(ASKER, sent["message"]["text"], mid=sent["message_id"]))
    await line.place.until(lambda: status("sent"))
    (_, answer) = await line.messages()
    assert answer.external_id == sent["message_id"] and (await line.talk()).status == "bot"
    # The same words once more, from a telephone: those are a person's.
    await line.deliver(line.account.echo(ASKER, sent["message"]["text"], mid="m_PERSON"))
    await line.drained()
    assert (await line.talk()).status == "human"


async def test_an_answer_from_the_telephone_silences_the_bot(line: Line) -> None:
    await line.ask(1)
    await line.account.wait_sent(1)
    await line.drained()
    await line.deliver(line.account.echo(ASKER, "Hozir qarayman"))
    await line.drained()
    await line.ask(2)
    await line.drained()
    assert line.answers() == [1] and (await line.talk()).status == "human"
    assert [(each.author, each.text) for each in await line.messages()][2] == ("operator", "Hozir qarayman")


async def test_what_was_seen_and_all_before_it(line: Line) -> None:
    line.account.people[ASKER] = ("A", "a")
    await line.ask(1)
    await line.account.wait_sent(1)
    await line.reply("Б" * 600)  # two parts, and the one that was seen is the first
    await line.account.wait_sent(3)
    await line.drained()
    await line.reply("Keyin")
    await line.account.wait_sent(4)
    await line.drained()
    first_part = line.account.sent[1]["message_id"]
    await line.deliver(line.account.event(ASKER, read={"mid": first_part}))
    await line.drained()
    ours = [each for each in await line.messages() if each.author != "customer"]
    assert [each.status for each in ours] == ["read", "read", "sent"]
    # A mark that comes late turns nothing back.
    await line.deliver(line.account.event(ASKER, read={"mid": line.account.sent[0]["message_id"]}))
    await line.drained()
    assert [each.status for each in (await line.messages()) if each.author != "customer"] == ["read", "read", "sent"]


# Comments


async def test_comments_are_left_alone_until_the_owner_wants_them(small: Line) -> None:
    await small.deliver(small.account.comment(ASKER, "Kafolat bormi №1", comment_id="17900000000000001"))
    await small.drained()
    assert not small.account.sent
    assert not await small.place.one(select(func.count()).select_from(models.Contact))


async def test_a_comment_gets_one_private_reply(line: Line) -> None:
    await line.settings(comment_reply=True)
    comment = line.account.comment(ASKER, "Kafolat bormi №1", comment_id="17900000000000001")
    for _ in range(2):
        await line.deliver(comment)
    (sent,) = await line.account.wait_sent(1)
    await line.drained()
    assert sent["recipient"] == {"comment_id": "17900000000000001"} and line.answers() == [1]
    question, answer = await line.messages()
    assert (question.kind, question.status, answer.status) == ("comment", "answered", "sent")
    assert question.extra["post"] == "17900000000000002"
    contact = await line.place.one(select(models.Contact).where(models.Contact.external_id == ASKER))
    assert contact.username == "mijoz" and not line.account.actions
    # A comment lets nobody write more.
    with pytest.raises(Conflict) as raised:
        await line.reply("Yana bir gap")
    assert raised.value.code == "window_closed"
    # Who answers it has begun a talk, beside which another comment is answered for itself.
    await line.deliver(
        line.account.message(ASKER, "Kafolat bormi №2"),
        line.account.comment(ASKER, "Kafolat bormi №3", comment_id="17900000000000003"),
    )
    await line.drained()
    assert [sent["recipient"] for sent in line.account.sent[1:]] == [{"id": ASKER}, {"comment_id": "17900000000000003"}]
    assert line.answers() == [1, 2, 3]


async def test_a_comment_that_the_plan_lets_nobody_answer_waits_for_a_person(
    sqlite_url: str, tmp_path: Path, meta: Meta, fakes: Fakes
) -> None:
    """Not a word of it to the customer, who asked before others; whoever writes in private is told once."""
    async with connected(tmp_path, sqlite_url, meta, fakes, plans={"trial": {**PLENTY, "messages": 0}}) as line:
        await line.settings(comment_reply=True)
        await line.deliver(line.account.comment(ASKER, "Kafolat bormi №1", comment_id="17900000000000001"))
        await line.drained()
        talk = await line.talk()
        assert not line.account.sent and (talk.status, talk.waiting_reason) == ("waiting", "plan")
        # The days that are free are over: the same.
        started = utcnow()
        line.place.core.now = lambda: started + dt.timedelta(days=400)
        await line.deliver(line.account.comment("900000000000044", "Narxi №2", comment_id="17900000000000002"))
        await line.drained()
        talk = await line.talk("900000000000044")
        assert not line.account.sent and (talk.status, talk.waiting_reason) == ("waiting", "plan")
        assert {"messages_out", "plan_over"} <= {row[0] for row in await line.place.rows(select(models.Notice.kind))}
        await line.deliver(line.account.message(ASKER, "Kafolat bormi №3"))
        (sent,) = await line.account.wait_sent(1)
        assert sent["recipient"] == {"id": ASKER} and "№" not in sent["message"]["text"]


async def test_comments_that_are_not_for_the_bot(small: Line) -> None:
    await small.settings(comment_reply=True)
    old = json.loads(
        small.account.body(small.account.comment("900000000000041", "Eski №1", comment_id="1790000000001"))
    )
    old["entry"][0]["time"] = int((utcnow() - dt.timedelta(days=7, minutes=1)).timestamp())
    assert await small.post(json.dumps(old).encode()) == 200
    await small.deliver(
        small.account.comment(ACCOUNT, "Ha, bor №2", comment_id="1790000000002"),
        small.account.comment("900000000000042", "rahmat №3", comment_id="1790000000003", parent_id="1790000000001"),
        small.account.comment("900000000000043", "🔥🔥🔥", comment_id="1790000000004"),
        small.account.comment("900000000000044", "@dostim #narx", comment_id="1790000000005"),
    )
    await small.drained()
    assert not small.account.sent
    # Three days late, and longer than one message can be: what fits is sent.
    late = json.loads(small.account.body(small.account.comment(ASKER, "Kafolat bormi №6", comment_id="1790000000006")))
    late["entry"][0]["time"] = int((utcnow() - dt.timedelta(days=3)).timestamp())
    small.place.models.reply = lambda seen: "Ha, bor. " + "Кафолат бир йил берилади. " * 60
    assert await small.post(json.dumps(late).encode()) == 200
    (sent,) = await small.account.wait_sent(1)
    await small.drained()
    assert len(small.account.sent) == 1 and len(sent["message"]["text"].encode()) <= 1000
    assert (await small.messages())[-1].text == sent["message"]["text"]


async def test_a_comment_that_was_replied_to_elsewhere_is_done(small: Line) -> None:
    await small.settings(comment_reply=True)
    small.account.replied.add("17900000000000001")
    await small.deliver(small.account.comment(ASKER, "Kafolat bormi №1", comment_id="17900000000000001"))
    await small.drained()
    assert not small.account.sent
    assert (await small.messages())[-1].status == "sent"
    assert not await small.place.one(select(models.Notice.id))


# Sending


async def test_long_answers_are_cut_by_bytes(small: Line) -> None:
    text = "Кафолат бир йил берилади. " * 80
    await small.ask(1)
    await small.account.wait_sent(1)
    await small.reply(text.strip())
    await small.account.wait_sent(4)
    await small.drained()
    parts = small.account.texts()[1:]
    assert len(parts) >= 3 and all(0 < len(part.encode()) <= 1000 for part in parts)
    assert " ".join(parts).split() == text.split()


OUTGOING = [
    case
    for case in json.loads((VECTORS / "outgoing_errors.json").read_text())["cases"]
    if case["channel"] == "instagram"
]
ACTIONS = {
    "window_closed": WindowClosed,
    "token_invalid": TokenRefused,
    "backoff": Throttled,
    "recipient_gone": Unreachable,
}


@pytest.mark.parametrize("case", OUTGOING, ids=lambda case: case["id"])
@pytest.mark.parametrize("page", ["", PAGE])
async def test_answers_to_sends_lead_to_their_class(meta: Meta, case: dict[str, Any], page: str) -> None:
    meta.add(page)
    host = meta.pages if page else meta.own
    host.answer_raw(case["http"], json.dumps(case["body"]), "application/json")
    with pytest.raises(ACTIONS[case["action"]]) as raised:
        await _send(meta, page)
    assert type(raised.value) is ACTIONS[case["action"]] and TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "subcode", "kind"),
    [
        (10, 2018278, WindowClosed),
        (10, None, NotAllowed),
        (200, None, NotAllowed),
        (100, 2534014, Unreachable),
        (551, 1545041, Unreachable),
        (190, 460, TokenRefused),
        (102, None, TokenRefused),
        (80006, None, Throttled),
        (100, None, Refused),
        (2534001, None, Refused),
    ],
)
async def test_subcodes(meta: Meta, code: int, subcode: int | None, kind: type[Exception]) -> None:
    meta.add()
    meta.own.fail(code, subcode=subcode)
    with pytest.raises(kind) as raised:
        await _send(meta)
    assert type(raised.value) is kind


async def _send(meta: Meta, page: str = "", **more: Any) -> str:
    async with aiohttp.ClientSession() as session:
        own, pages = (GraphApi(session, host.base_url, "v26.0") for host in (meta.own, meta.pages))
        keys = {"access_token": TOKEN, "account_id": ACCOUNT, "app_secret": SECRET, "page_id": page}
        return await InstagramChannel(own, pages).send(keys, ASKER, Outgoing("Salom", **more))


async def test_quick_replies_keep_to_their_limits(meta: Meta) -> None:
    account = meta.add()
    await _send(meta, buttons=tuple((Button(f"{n:02}" + "x" * 40, f"b{n}"),) for n in range(20)))
    assert len(account.sent[0]["message"]["quick_replies"]) == 13
    account.replied.add("1")
    assert await _send(meta, comment="1") == ""
    assert issubclass(RepliedAlready, Refused)


async def test_a_token_that_ends_in_mid_conversation(line: Line) -> None:
    line.graph.fail(190, http=401, subcode=463, times=None)
    await line.ask(1)

    async def refused() -> bool:
        return (await line.channel()).status == "refused"

    await line.place.until(refused)
    assert await line.place.one(select(models.Notice.id).where(models.Notice.kind == "instagram_token_refused"))
    line.graph.clear_faults()
    line.account.token = "IGAAnew_token_of_the_account_01"
    status, made = await connect(line.place.core, line.session, line.shop, access_token=line.account.token)
    assert (status, made["status"]) == (201, "active")
    await line.ask(2)
    await line.account.wait_sent(1)
    assert line.answers() == [2]


async def test_after_a_day_only_a_person_writes(line: Line) -> None:
    await line.ask(1)
    await line.account.wait_sent(1)
    await line.drained()
    await line.reply("Shu kuni")
    await line.account.wait_sent(2)
    line.account.closed.add(ASKER)
    await line.age(hours=25)
    await line.reply("Ertasiga")
    *_, tagged = await line.account.wait_sent(3)
    assert (tagged["messaging_type"], tagged["tag"]) == ("MESSAGE_TAG", "HUMAN_AGENT")
    assert all("tag" not in sent for sent in line.account.sent[:2])
    await line.drained()
    # The app was not given that permission: the message fails, the channel goes on.
    line.account.human_agent = False
    lost = await line.reply("Yana")
    await line.drained()
    assert (await line.messages())[-1].status == "failed" and lost.text == "Yana"
    assert (await line.channel()).status == "active"
    assert await line.place.one(select(models.Notice.id).where(models.Notice.kind == "window_closed"))
    await line.age(days=7, minutes=1)
    with pytest.raises(Conflict):
        await line.reply("Bir haftadan keyin")


async def test_the_bots_answer_never_goes_under_the_tag(small: Line) -> None:
    small.graph.fail(2, http=500)
    await small.ask(1)

    async def queued() -> Any:
        return await small.place.one(select(models.OutboxItem.error).where(models.OutboxItem.status == "queued"))

    await small.place.until(queued)
    await small.age(hours=24, minutes=1)
    await small.drained()
    assert not small.account.sent and (await small.messages())[-1].status == "failed"


@pytest.mark.parametrize("point", ["accepted", "received", "answered"])
async def test_killed_between_receiving_and_answering(
    tmp_path: Path, database_url: str, meta: Meta, fakes: Fakes, children: Nursery, point: str
) -> None:
    account = meta.add()
    async with running(tmp_path, database_url, fakes, meta.environment) as (place, session):
        shop = await make_shop(place.core)
        assert (await connect(place.core, session, shop))[0] == 201
        channel = await place.one(select(models.Channel).where(models.Channel.kind == "instagram"))
        async with place.core.db.write() as writing:
            (await writing.get_one(models.Channel, channel.id)).settings = {"comment_reply": True}
    child = await children.start(
        settings_for(tmp_path, database_url, *fakes, environment=meta.environment), point=point, role="all"
    )
    raw = account.body(
        *(account.message(f"9000000000010{n:02}", f"Kafolat bormi №{n}", mid=f"m_K{n}") for n in range(3)),
        account.comment("900000000001099", "Kafolat bormi №3", comment_id="17900000000000001"),
    )
    host, port = child.events[-1]["address"]
    async with aiohttp.ClientSession() as session:
        delivery = asyncio.ensure_future(
            FakeGraph.deliver(session, f"http://{host}:{port}/instagram/webhook", raw, SECRET)
        )
        await child.hears("paused")
        if point == "accepted":
            await child.kill()
            with pytest.raises(aiohttp.ClientError):
                await delivery
        else:
            assert await delivery == 200
            await child.kill()
        async with running(tmp_path, database_url, fakes, meta.environment) as (place, _):
            line = Line(place, shop, session, meta.own, account)
            assert await line.post(raw) == 200
            await account.wait_sent(4, timeout=30)
            await line.drained()
            assert sorted(line.answers()) == [0, 1, 2, 3]
            asked = select(func.count()).select_from(models.Message).where(models.Message.author == "customer")
            assert await place.one(asked) == 4
