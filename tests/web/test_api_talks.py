"""Channels, chat, conversations, messages and usage over the API."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from db import models
from services.errors import Invalid
from services.logs import redact
from tests import servers
from tests.web.site import Site, started

MISSING = "0" * 26
TOKEN = "7700000001:AAtestTokenOfTheFakeBotApi_0123456789"
QUESTION = "Yetkazib berish bormi?"
CHAT_FIELDS = {"message_id", "text", "language", "answered", "provider", "model", "sources", "usage"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def site(
    request: pytest.FixtureRequest, servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("api")
    with servers_run.database(request.param, folder) as url:
        async with started(folder, url) as running:
            yield running


async def test_an_answer_has_exactly_the_promised_fields(site: Site) -> None:
    site.models.reply = "Ha, Toshkent bo‘ylab yetkazib berish bepul 🚚"
    answer = await site.owner.post(f"{site.owner.bot}/chat", {"contact": "fields", "text": QUESTION})
    assert answer.status == 200
    body = answer.body
    assert set(body) == CHAT_FIELDS
    assert body["text"] == site.models.reply
    assert (body["language"], body["answered"], body["provider"]) == ("uz", True, "gemini")
    assert 1 <= len(body["sources"]) <= 5
    assert set(body["sources"][0]) == {"document_id", "document_name", "snippet", "score"}
    scores = [source["score"] for source in body["sources"]]
    assert scores == sorted(scores, reverse=True)
    assert set(body["usage"]) == {"input_tokens", "output_tokens", "cached_tokens", "cost_usd"}
    assert Decimal(str(body["usage"]["cost_usd"])) > 0


async def test_without_a_model_a_passage_is_quoted(site: Site) -> None:
    site.models.fail("500")
    try:
        answer = await site.owner.post(f"{site.owner.bot}/chat", {"contact": "quoted", "text": QUESTION})
    finally:
        site.models.heal()
    assert set(answer.body) == CHAT_FIELDS
    assert (answer.body["answered"], answer.body["provider"], answer.body["model"]) == (True, "extractive", None)
    assert "45 000" in answer.body["text"]


@pytest.mark.parametrize(
    ("text", "language"),
    [("Етказиб бериш борми?", "uz-Cyrl"), ("Есть ли у вас доставка?", "ru"), ("Do you deliver?", "en")],
)
async def test_the_language_follows_the_question(site: Site, text: str, language: str) -> None:
    answer = await site.owner.post(f"{site.owner.bot}/chat", {"contact": f"speaks-{language}", "text": text})
    assert (answer.status, answer.body["language"]) == (200, language)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"contact": "c"}, "text"),
        ({"text": "t"}, "contact"),
        ({"contact": "", "text": "t"}, "contact"),
        ({"contact": " ", "text": "t"}, "contact"),
        ({"contact": "c" * 121, "text": "t"}, "contact"),
        ({"contact": "c", "text": ""}, "text"),
        ({"contact": "c", "text": " \n"}, "text"),
        ({"contact": "c", "text": "x" * 4001}, "text"),
        ({"contact": "c", "text": "t", "language": "ru"}, "language"),
        ({"contact": 5, "text": "t"}, "contact"),
    ],
)
async def test_a_message_that_cannot_be_one(site: Site, body: Any, field: str) -> None:
    refused = await site.owner.post(f"{site.owner.bot}/chat", body)
    assert (refused.status, refused.body["error"]["field"]) == (400, field)
    assert refused.body["error"]["message"] != Invalid.default.render("en")


async def test_a_talk_can_be_found_read_and_taken_over(site: Site) -> None:
    bot = site.owner.bot
    await site.owner.post(f"{bot}/chat", {"contact": "aziza-7", "text": QUESTION})
    await site.owner.post(f"{bot}/chat", {"contact": "aziza-7", "text": "Kafolat necha yil?"})
    found = (await site.owner.get(f"{bot}/conversations", contact="aziza-7")).body["items"]
    assert len(found) == 1
    talk = found[0]
    assert (talk["contact"], talk["channel"], talk["status"]) == ("aziza-7", "web", "bot")

    path = f"/conversations/{talk['id']}/messages"
    messages = (await site.owner.get(path)).body["items"]
    assert [message["author"] for message in messages] == ["customer", "bot", "customer", "bot"]
    assert messages[0]["text"] == QUESTION and messages[0]["status"] == "answered"
    assert messages[1]["sources"] and messages[1]["usage"]["cost_usd"] >= 0
    newest = (await site.owner.get(path, order="desc", limit="1")).body
    assert newest["items"] == messages[-1:] and newest["next"] is not None
    first = (await site.owner.get(path, limit="3")).body
    second = (await site.owner.get(path, limit="3", cursor=first["next"])).body
    assert first["items"] + second["items"] == messages and second["next"] is None

    sent = await site.owner.post(path, {"text": "Assalomu alaykum, men Dilnozaman"})
    assert (sent.status, sent.body["author"], sent.body["status"]) == (201, "operator", "sent")
    assert (await site.owner.get(path)).body["items"][-1] == sent.body
    assert (await site.owner.get(f"{bot}/conversations", status="human")).body["items"][0]["id"] == talk["id"]
    # The person has it now: the bot says nothing.
    quiet = await site.owner.post(f"{bot}/chat", {"contact": "aziza-7", "text": QUESTION})
    assert (quiet.status, quiet.body["text"], quiet.body["message_id"]) == (200, "", None)
    assert set(quiet.body) == CHAT_FIELDS


async def test_a_talk_is_given_back_to_the_bot(site: Site) -> None:
    bot, ask = site.owner.bot, {"contact": "given-back", "text": QUESTION}
    await site.owner.post(f"{bot}/chat", {"contact": "given-back", "text": "operator"})
    talk = (await site.owner.get(f"{bot}/conversations", contact="given-back")).body["items"][0]
    assert (talk["status"], talk["waiting_reason"]) == ("waiting", "asked")
    told = await _calls_for_a_person(site, talk["id"])
    assert [notice.resolved_at for notice in told] == [None]
    await site.owner.post(f"/conversations/{talk['id']}/messages", {"text": "Men keldim"})
    assert (await _calls_for_a_person(site, talk["id"]))[0].resolved_at is not None
    assert (await site.owner.post(f"{bot}/chat", ask)).body["text"] == ""

    path = f"/conversations/{talk['id']}"
    back = await site.owner.call("PATCH", path, json={"status": "bot"})
    assert (back.status, back.body["status"], back.body["id"]) == (200, "bot", talk["id"])
    assert back.body["waiting_reason"] is None
    assert (await site.owner.post(f"{bot}/chat", ask)).body["text"] != ""
    taken = await site.owner.call("PATCH", path, json={"status": "human"})
    assert (taken.status, taken.body["status"]) == (200, "human")
    assert (await site.owner.post(f"{bot}/chat", ask)).body["text"] == ""
    closed = await site.owner.call("PATCH", path, json={"status": "closed"})
    assert (closed.status, closed.body["status"]) == (200, "closed")
    # A customer who writes again is not left alone.
    assert (await site.owner.post(f"{bot}/chat", ask)).body["text"] != ""


async def _calls_for_a_person(site: Site, conversation_id: str) -> list[models.Notice]:
    async with site.core.db.read() as session:
        wanted = select(models.Notice).where(models.Notice.key == f"operator:{conversation_id}")
        return list(await session.scalars(wanted))


@pytest.mark.parametrize(
    "body", [{}, {"status": "waiting"}, {"status": None}, {"status": "bot", "x": 1}, {"status": 1}]
)
async def test_a_state_that_cannot_be_set(site: Site, body: Any) -> None:
    await site.owner.post(f"{site.owner.bot}/chat", {"contact": "unset", "text": QUESTION})
    talk = (await site.owner.get(f"{site.owner.bot}/conversations", contact="unset")).body["items"][0]
    path = f"/conversations/{talk['id']}"
    assert (await site.owner.call("PATCH", path, json=body)).status == 400
    assert (await site.stranger.call("PATCH", path, json={"status": "human"})).status == 404
    again = (await site.owner.get(f"{site.owner.bot}/conversations", contact="unset")).body["items"][0]
    assert again["status"] == "bot"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"contact": "filter-me"}, True),
        ({"contact": "nobody"}, False),
        ({"channel": "web"}, True),
        ({"channel": "telegram"}, False),
        ({"channel": MISSING}, False),
        # The bot had no answer to that: a person is wanted.
        ({"status": "waiting"}, True),
        ({"status": "bot"}, False),
        ({"status": "closed"}, False),
        ({"from": "2020-01-01"}, True),
        ({"from": "2020-01-01T00:00:00+05:00", "to": "2199-01-01T00:00:00Z"}, True),
        ({"to": "2020-01-01T00:00:00Z"}, False),
        ({"q": "narxiga"}, True),
        ({"q": "50%"}, True),
        # Words are looked for: signs alone are none.
        ({"q": "%"}, False),
        ({"q": "_"}, False),
        ({"q": "5_%"}, False),
        ({"q": "' OR 1=1 --"}, False),
        ({"q": '"NEAR(*'}, False),
        ({"q": "\\"}, False),
        ({"unknown": "x"}, True),
        # What a form sends of fields that nobody filled in.
        (dict.fromkeys(("channel", "contact", "from", "to", "q", "status", "cursor", "limit"), ""), True),
        ({"channel": "", "contact": "nobody"}, False),
    ],
)
async def test_filters(site: Site, query: dict[str, str], found: bool) -> None:
    bot = site.owner.bot
    # Made once: a repetition adds to the same conversation.
    await site.owner.post(f"{bot}/chat", {"contact": "filter-me", "text": "Muzlatgich narxiga 50% chegirma bormi?"})
    answer = await site.owner.get(f"{bot}/conversations", **query)
    assert answer.status == 200
    assert ("filter-me" in [item["contact"] for item in answer.body["items"]]) is found


@pytest.mark.parametrize(
    "query",
    [
        {"status": "open"},
        {"channel": "fax"},
        {"channel": "WEB"},
        {"from": "yesterday"},
        {"from": "1"},
        {"to": "9999-12-31T23:59:59-14:00"},
        {"from": "0001-01-01T00:00:00+14:00"},
        {"cursor": "x"},
        {"cursor": "9" * 17 + "-" + "0" * 26},
        {"limit": "1.5"},
        {"q": "x" * 201},
        {"q": "a\x00b"},
        {"contact": "\x00"},
    ],
)
async def test_filters_that_make_no_sense(site: Site, query: dict[str, str]) -> None:
    answer = await site.owner.get(f"{site.owner.bot}/conversations", **query)
    assert (answer.status, answer.code) == (400, "invalid")


async def test_another_owners_talk_is_a_missing_one(site: Site) -> None:
    await site.owner.post(f"{site.owner.bot}/chat", {"contact": "private", "text": QUESTION})
    talk = (await site.owner.get(f"{site.owner.bot}/conversations", contact="private")).body["items"][0]
    for conversation in (talk["id"], MISSING):
        path = f"/conversations/{conversation}/messages"
        assert (await site.stranger.get(path)).status == 404
        assert (await site.stranger.post(path, {"text": "Men ham shu yerdaman"})).status == 404
        assert (await site.nobody.get(path)).status == 401
    # The same contact id at another bot is another customer.
    assert (await site.stranger.get(f"{site.stranger.bot}/conversations", contact="private")).body["items"] == []
    assert (await site.stranger.get(f"{site.stranger.bot}/conversations", contact=talk["contact_id"])).body[
        "items"
    ] == []


@pytest.mark.parametrize("text", ["", " ", "x" * 4097, None, 5])
async def test_an_operators_message_must_be_one(site: Site, text: Any) -> None:
    await site.owner.post(f"{site.owner.bot}/chat", {"contact": "talked-to", "text": QUESTION})
    talk = (await site.owner.get(f"{site.owner.bot}/conversations", contact="talked-to")).body["items"][0]
    refused = await site.owner.post(f"/conversations/{talk['id']}/messages", {"text": text})
    assert (refused.status, refused.body["error"]["field"]) == (400, "text")


async def test_the_language_of_the_program_is_not_its_customers(site: Site) -> None:
    """What tells no language is answered in the bot's first one, whatever the caller's own texts are in."""
    ask = {"contact": "no-language", "text": "7 kg?"}
    answer = await site.owner.call("POST", f"{site.owner.bot}/chat", json=ask, headers={"Accept-Language": "ru"})
    assert (answer.status, answer.body["language"]) == (200, "uz")


async def test_conversations_are_asked_for_by_every_kind_of_channel_that_there_is(site: Site) -> None:
    path = f"{site.owner.bot}/conversations"
    for kind in site.core.channels:
        answer = await site.owner.get(path, channel=kind)
        if kind != "factory":
            assert answer.status == 200, kind
            continue
        assert (answer.status, answer.body["error"]["field"]) == (400, "channel")
    refused = await site.owner.get(path, channel="pigeon")
    assert (refused.status, refused.body["error"]["field"]) == (400, "channel")
    assert "telegram, web" in refused.body["error"]["message"] and "factory" not in refused.body["error"]["message"]
    known = site.core.channels
    site.core.channels = {**known, "pigeon": known["web"]}
    try:
        assert (await site.owner.get(path, channel="pigeon")).body["items"] == []
    finally:
        site.core.channels = known


async def test_what_a_program_does_to_channels_is_written_down(site: Site) -> None:
    token = f"7700000003:{'C' * 35}"
    site.telegram.add_bot(token, "noted_bot")
    bot = (await site.owner.post("/bots", {"name": "Noted"})).body
    path = f"/bots/{bot['id']}"
    web = (await site.owner.get(f"{path}/channels")).body["items"][0]
    telegram = (await site.owner.post(f"{path}/channels", {"type": "telegram", "token": token})).body
    await site.owner.post(f"{path}/channels", {"type": "telegram", "token": token})
    for channel in (telegram, web):
        await site.owner.call("DELETE", f"{path}/channels/{channel['id']}")
    again = (await site.owner.post(f"{path}/channels", {"type": "web"})).body
    # It is there: nothing is done, nothing is written.
    await site.owner.post(f"{path}/channels", {"type": "web"})
    assert (await site.stranger.call("DELETE", path)).status == 404
    assert (await site.owner.call("DELETE", path)).status == 204
    async with site.core.db.read() as session:
        log = models.AuditLog
        rows = list(await session.scalars(select(log).where(log.object_id == bot["id"]).order_by(log.id)))
    assert {row.actor_id for row in rows} == {site.owner.shop.owner.id}
    assert [(row.action, row.details.get("kind"), row.details.get("channel")) for row in rows] == [
        ("channel_connected", "telegram", telegram["id"]),
        ("channel_renewed", "telegram", telegram["id"]),
        ("channel_disconnected", "telegram", telegram["id"]),
        ("channel_disconnected", "web", web["id"]),
        ("channel_connected", "web", again["id"]),
        ("bot_deleted", None, None),
    ]
    assert token not in str([row.details for row in rows])


async def test_channels(site: Site) -> None:
    path = f"{site.owner.bot}/channels"
    site.telegram.add_bot(TOKEN, "texno_bot", name="Texno")
    made = await site.owner.post(path, {"type": "telegram", "token": f" {TOKEN} "})
    assert made.status == 201
    assert (made.body["type"], made.body["username"], made.body["status"]) == ("telegram", "texno_bot", "active")
    assert made.body["address"] == "https://t.me/texno_bot"
    listed = await site.owner.get(path)
    assert [item["type"] for item in listed.body["items"]] == ["web", "telegram"]
    assert "AAtestToken" not in str(made.body) + str(listed.body)
    assert listed.body["items"][1]["last_update_at"] is None
    await site.owner.post(f"{site.owner.bot}/chat", {"contact": "heard", "text": QUESTION})
    assert (await site.owner.get(path)).body["items"][0]["last_update_at"].endswith("Z")
    async with site.core.db.write() as session:
        row = await session.get_one(models.Channel, made.body["id"])
        row.last_update_at = dt.datetime(2026, 11, 21, 9, 30, tzinfo=dt.UTC)
    assert (await site.owner.get(path)).body["items"][1]["last_update_at"] == "2026-11-21T09:30:00Z"

    taken = await site.stranger.post(f"{site.stranger.bot}/channels", {"type": "telegram", "token": TOKEN})
    assert (taken.status, taken.code) == (409, "channel_taken")
    foreign = f"{site.stranger.bot}/channels/{made.body['id']}"
    assert (await site.stranger.call("DELETE", foreign)).status == 404
    assert (await site.owner.call("DELETE", f"{path}/{made.body['id']}")).status == 204
    assert (await site.owner.call("DELETE", f"{path}/{made.body['id']}")).status == 404

    web = listed.body["items"][0]
    assert (await site.owner.post(path, {"type": "web"})).body["id"] == web["id"]
    assert (await site.owner.call("DELETE", f"{path}/{web['id']}")).status == 204
    silent = await site.owner.post(f"{site.owner.bot}/chat", {"contact": "c", "text": QUESTION})
    assert (silent.status, silent.code) == (409, "channel_missing")
    assert (await site.owner.post(path, {"type": "web"})).status == 201
    assert (await site.owner.post(f"{site.owner.bot}/chat", {"contact": "c", "text": QUESTION})).status == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "type"),
        ({"type": "viber", "access_token": "x"}, "type"),
        ({"type": "whatsapp", "access_token": "x", "phone_number_id": "1"}, "access_token"),
        ({"type": "instagram", "access_token": "x", "account_id": "1"}, "access_token"),
        ({"type": "pigeon"}, "type"),
        ({"type": 1}, "type"),
        ({"type": "telegram"}, "token"),
        ({"type": "telegram", "token": "nonsense"}, "token"),
        ({"type": "telegram", "token": f"7700000009:{'A' * 35}"}, "token"),
        ({"type": "telegram", "token": f"7700000001:{'A' * 35}/../getMe"}, "token"),
        ({"type": "telegram", "token": TOKEN, "status": "active"}, "status"),
        ({"type": "web", "token": TOKEN}, "token"),
    ],
)
async def test_a_channel_that_cannot_be_connected(site: Site, body: Any, field: str) -> None:
    refused = await site.owner.post(f"{site.owner.bot}/channels", body)
    assert (refused.status, refused.body["error"]["field"]) == (400, field)
    assert TOKEN not in str(refused.body)


async def test_what_is_typed_as_a_token_does_not_vanish_from_the_log(site: Site) -> None:
    # Else anybody could make the log useless, a word at a time.
    for word in ("conversation", "7700000009:" + "word" * 6):
        await site.owner.post(f"{site.owner.bot}/channels", {"type": "telegram", "token": word})
        assert redact(f"event {word}") == f"event {word}"
    assert TOKEN not in redact(f"https://api.telegram.org/bot{TOKEN}/getMe")


async def test_telegram_that_does_not_answer_is_not_a_wrong_token(site: Site) -> None:
    token = f"7700000002:{'B' * 35}"
    site.telegram.add_bot(token, "later_bot")
    site.telegram.fail(502, method="getMe", times=None)
    try:
        answer = await site.owner.post(f"{site.owner.bot}/channels", {"type": "telegram", "token": token})
    finally:
        site.telegram.clear_faults()
    assert (answer.status, answer.code) == (503, "unavailable")


async def test_usage_sums_up_the_own_calls_only(site: Site) -> None:
    site.models.reply = "Ha, albatta, yetkazib berish bepul 🚚"
    answer = (await site.owner.post(f"{site.owner.bot}/chat", {"contact": "usage", "text": QUESTION})).body
    everything = (await site.owner.get("/usage")).body
    assert everything["next"] is None
    row = next(row for row in everything["items"] if row["model"] == answer["model"])
    assert (row["provider"], row["bot_id"], row["feature"]) == ("gemini", site.owner.shop.bot.id, "answer")
    assert row["count"] >= 1 and row["input_tokens"] >= answer["usage"]["input_tokens"]
    assert Decimal(str(row["cost_usd"])) >= Decimal(str(answer["usage"]["cost_usd"]))
    assert site.owner.shop.bot.id not in str((await site.stranger.get("/usage")).body)
    assert (await site.owner.get("/usage", **{"from": "2020-01-01", "to": "2020-02-01"})).body["items"] == []
    backwards = await site.owner.get("/usage", **{"from": "2020-02-01", "to": "2020-01-01"})
    assert (backwards.status, backwards.body["error"]["field"]) == (400, "from")
