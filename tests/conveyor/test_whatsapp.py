"""WhatsApp from Meta's delivery to the customer's answer, against a Graph API on loopback."""

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
from sqlalchemy import func, select, update

from db import models
from db.base import utcnow
from services import conversations
from services.channels.base import (
    Away,
    Blocked,
    PairLimited,
    Refused,
    Throttled,
    TokenRefused,
    Unreachable,
    WindowClosed,
)
from services.channels.meta import GraphApi, signature_fits
from services.channels.whatsapp import WhatsAppChannel, unpack
from services.errors import Conflict, Temporary
from tests.composition import make_shop
from tests.conveyor.harness import settings_for
from tests.conveyor.lines import Fakes, whatsapp_line
from tests.conveyor.lines import WhatsAppLine as Line
from tests.conveyor.lines import connect_whatsapp as connect
from tests.conveyor.lines import running_whatsapp as running
from tests.conveyor.nursery import Nursery
from tests.fakes.graph import FakeGraph
from tests.fakes.meta import ABOVE, NUMBER, SECRET, add_number
from tests.fakes.meta import WHATSAPP_ASKER as ASKER
from tests.fakes.meta import WHATSAPP_TOKEN as TOKEN
from tests.servers import ROOT

VECTORS = ROOT / "tests" / "payloads"


@pytest.fixture
async def line(database_url: str, tmp_path: Path, graph: FakeGraph, fakes: Fakes) -> AsyncIterator[Line]:
    """A connected number."""
    async with whatsapp_line(tmp_path, database_url, graph, fakes) as made:
        yield made


# Connecting


async def test_connected_after_its_credentials_were_tried(line: Line) -> None:
    channel = await line.channel()
    assert (channel.external_id, channel.parent_id, channel.username) == (NUMBER, ABOVE, "+998 00 000 01 01")
    assert line.number.subscribed
    assert TOKEN not in str(channel.credentials) and SECRET not in str(channel.credentials)
    # Connected again it is the same channel with new credentials; another bot cannot have it.
    status, again = await connect(line.place.core, line.session, line.shop, verify_token="another-word")
    assert (status, again["id"], again["address"]) == (201, channel.id, "https://wa.me/998000000101")
    assert TOKEN not in json.dumps(again) and "another-word" not in json.dumps(again)
    other = await make_shop(line.place.core, "Boshqa", email="other@example.uz", document=None)
    status, refused = await connect(line.place.core, line.session, other)
    assert (status, refused["error"]["code"]) == (409, "channel_taken")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"access_token": "EAAnobody_knows_this_one_000"}, "access_token"),
        ({"app_secret": "another-apps-secret-0001"}, "app_secret"),
        ({"phone_number_id": "100000000000999"}, "phone_number_id"),
        ({"access_token": "with a blank\r\nX-Header: 1"}, "access_token"),
        ({"phone_number_id": "../me"}, "phone_number_id"),
        ({"verify_token": "short"}, "verify_token"),
    ],
)
async def test_wrong_credentials_are_told_by_their_field(
    sqlite_url: str, tmp_path: Path, graph: FakeGraph, fakes: Fakes, change: dict[str, str], field: str
) -> None:
    add_number(graph)
    async with running(tmp_path, sqlite_url, graph, fakes) as (place, session):
        shop = await make_shop(place.core, document=None)
        status, answer = await connect(place.core, session, shop, **change)
        assert status in (400, 422)
        assert str(answer["error"]["field"]).endswith(field)
        assert not await place.one(
            select(func.count()).select_from(models.Channel).where(models.Channel.kind == "whatsapp")
        )


async def test_the_account_of_the_number_is_subscribed_among_several(
    sqlite_url: str, tmp_path: Path, graph: FakeGraph, fakes: Fakes
) -> None:
    other = graph.add_number(
        "100000000000102", token=TOKEN, app_secret=SECRET, waba_id="200000000000202", display_phone_number="+998 2"
    )
    number = add_number(graph)
    async with running(tmp_path, sqlite_url, graph, fakes) as (place, session):
        shop = await make_shop(place.core, document=None)
        assert (await connect(place.core, session, shop))[0] == 201
        assert (number.subscribed, other.subscribed) == (True, False)
        channel = await place.one(select(models.Channel).where(models.Channel.kind == "whatsapp"))
        assert (channel.parent_id, channel.settings["subscribed"]) == (ABOVE, True)
        # A token that may only send is taken, and the page says that nothing will come.
        number.scopes = tuple(scope for scope in number.scopes if "management" not in scope)
        other.scopes = number.scopes
        assert (await connect(place.core, session, shop))[0] == 201
        channel = await place.one(select(models.Channel).where(models.Channel.kind == "whatsapp"))
        assert channel.settings["subscribed"] is False


async def test_metas_question_whether_the_address_is_ours(line: Line) -> None:
    cases = json.loads((VECTORS / "meta_signatures.json").read_text())["verification_get"]
    assert len(cases) == 3
    for case in cases:
        async with line.session.get(f"{line.webhook}?{case['query']}") as response:
            assert (response.status, await response.text()) == (case["http"], case.get("body", "")), case["id"]
    async with line.session.get(f"{line.webhook}?hub.mode=subscribe&hub.challenge=1&hub.verify_token=") as response:
        assert response.status == 403


# Receiving


@pytest.mark.parametrize(
    "case", json.loads((VECTORS / "meta_signatures.json").read_text())["vectors"], ids=lambda c: c["id"]
)
def test_signatures_are_those_of_the_bytes(case: dict[str, Any]) -> None:
    raw = base64.b64decode(case["body_base64"])
    assert signature_fits(case["app_secret"], raw, case["header"] or "") is case["valid"]
    assert not signature_fits("", raw, case["header"] or "")


@pytest.mark.parametrize(
    "case", json.loads((VECTORS / "whatsapp_inbound.json").read_text())["cases"], ids=lambda c: c["id"]
)
async def test_deliveries_mean_what_they_should(case: dict[str, Any]) -> None:
    """The sheet's deliveries, in the product's own words; duplicates go by the ids."""
    async with aiohttp.ClientSession() as session:
        adapter = WhatsAppChannel(GraphApi(session, "http://127.0.0.1", "v26.0"))
    seen: dict[str, tuple[str, Any]] = {}
    for delivery in case["deliveries"]:
        for accounts, _, piece in unpack(delivery):
            number = accounts[0][0] if accounts else ""
            if piece is not None and number in case["accounts"]:
                seen.setdefault(adapter.identify(piece)[1], (number, adapter.parse(piece)))
    expected = case["expect"]["events"]
    assert len(seen) == len(expected)
    for (number, event), wanted in zip(seen.values(), expected, strict=True):
        assert number == wanted["account_id"]
        assert event.recipient == wanted["user_id"]
        assert event.at == dt.datetime.fromtimestamp(wanted["at"], dt.UTC)
        if "reply" in wanted:
            assert event.reply is wanted["reply"]
        if wanted["kind"] != "unsupported":
            assert event.kind == wanted["kind"]
        assert event.message_id == wanted["message_id"]
        for key in ("type", "text"):
            if key in wanted:
                assert getattr(event, key) == wanted[key]
        if "name" in wanted:
            assert event.sender.name == wanted["name"]
        for key in ("reply_to", "payload"):
            if key in wanted:
                assert event.extra[key] == wanted[key]
        if wanted["kind"] == "status":
            assert event.extra["delivery"].status == wanted["status"]
            assert event.extra["delivery"].code == wanted.get("code")
        if "new_user_id" in wanted:
            assert event.extra["moved_to"] == wanted["new_user_id"]


async def test_a_question_is_answered(line: Line) -> None:
    await line.ask(1, name="Aziza")
    (sent,) = await line.number.wait_sent(1)
    assert (sent["to"], sent["type"], sent["messaging_product"]) == (ASKER, "text", "whatsapp")
    assert line.answers() == [1]
    # Read and typing are shown while the answer is made.
    assert len(line.number.reads) == len(line.number.typing) == 1
    question, answer = await line.messages()
    assert (question.text, question.author, answer.author) == ("Muzlatgichlarga kafolat bormi №1", "customer", "bot")
    assert sent["biz_opaque_callback_data"] == answer.id
    contact = await line.place.one(select(models.Contact).where(models.Contact.external_id == ASKER))
    assert (contact.name, contact.phone) == ("Aziza", f"+{ASKER}")


async def test_every_message_of_a_batch_counts_once(line: Line) -> None:
    people = [f"99890000{n:04}" for n in range(6)]
    values = [line.number.message(who, f"Kafolat bormi №{n}", wamid=f"wamid.B{n}") for n, who in enumerate(people)]
    body = line.graph.body(line.graph.together(*values[:3]), values[3], line.graph.entry(ABOVE, values[4], values[5]))
    for _ in range(3):
        assert await line.graph.deliver(line.session, line.webhook, body, SECRET) == 200
    await line.number.wait_sent(6)
    await asyncio.sleep(0.3)
    assert sorted(line.answers()) == list(range(6))
    assert {sent["to"] for sent in line.number.sent} == set(people)


async def test_what_is_not_signed_by_the_channels_app_is_refused(line: Line) -> None:
    raw = line.graph.body(line.number.message(ASKER, "Salom"))
    refused = [
        ({}, raw, 401),
        ({"X-Hub-Signature-256": line.graph.sign("another-secret", raw)}, raw, 401),
        ({"X-Hub-Signature-256": line.graph.sign(SECRET, raw)}, raw + b" ", 401),
        ({"X-Hub-Signature-256": line.graph.sign(SECRET, raw).replace("sha256", "sha1")}, raw, 401),
        # The same JSON in other bytes.
        (
            {"X-Hub-Signature-256": line.graph.sign(SECRET, raw)},
            json.dumps(json.loads(raw), ensure_ascii=False).encode(),
            401,
        ),
        ({"X-Hub-Signature-256": line.graph.sign(SECRET, b"{")}, b"{", 400),
        ({"X-Hub-Signature-256": line.graph.sign(SECRET, b"[]")}, b"[]", 400),
        ({"X-Hub-Signature-256": "sha256=" + "0" * 64}, b"x" * (4096 * 1024 + 1), 413),
    ]
    for headers, body, status in refused:
        async with line.session.post(line.webhook, data=body, headers=headers) as response:
            assert response.status == status, headers
    # A number that is not here any more: nothing is stored, and Meta need not try again where the app is known all the same.
    unknown = raw.replace(NUMBER.encode(), b"100000000000777")
    assert await line.graph.deliver(line.session, line.webhook, unknown, SECRET) == 200
    assert await line.graph.deliver(line.session, line.webhook, unknown, "another-secret") == 401
    stranger = unknown.replace(ABOVE.encode(), b"200000000000999")
    assert await line.graph.deliver(line.session, line.webhook, stranger, SECRET) == 401
    flood = [
        line.graph.entry(f"{n}", {"field": "x", "value": {"metadata": {"phone_number_id": f"{n}"}}}) for n in range(101)
    ]
    assert await line.deliver(*flood) == 400
    assert not await line.place.one(select(func.count()).select_from(models.InboxItem))


async def test_one_owners_secret_does_not_open_anothers_number(line: Line) -> None:
    mallory = line.graph.add_number(
        "100000000000666", token="EAAmallory_token_0001", app_secret="mallorys-secret-0001", waba_id="666",
        display_phone_number="+998 66 666 66 66",
    )  # fmt: skip
    other = await make_shop(line.place.core, "Boshqa", email="other@example.uz", document=None)
    status, _ = await connect(
        line.place.core, line.session, other,
        access_token="EAAmallory_token_0001", phone_number_id="100000000000666", app_secret="mallorys-secret-0001",
    )  # fmt: skip
    assert status == 201
    # Signed by one, about both: only the signer's own part counts.
    assert await line.deliver(
        line.number.message(ASKER, "Begona №7"), mallory.message("998900000066", "Oʻziniki"), secret="mallorys-secret-0001"
    ) == 200  # fmt: skip
    rows = await line.place.rows(select(models.InboxItem.channel_id))
    assert {row[0] for row in rows} == {
        await line.place.one(select(models.Channel.id).where(models.Channel.external_id == "100000000000666"))
    }
    # Nor does a status of theirs touch a message of ours.
    await line.ask(8)
    await line.number.wait_sent(1)
    (_, answer) = await line.messages()
    await line.until(lambda: _status(line, answer.id, "sent"))
    assert await line.deliver(
        mallory.status("wamid.X", "read", recipient=ASKER, opaque=answer.id), secret="mallorys-secret-0001"
    ) == 200  # fmt: skip
    await line.received()
    assert (await line.messages())[1].status == "sent"


async def _status(line: Line, message_id: str, status: str) -> bool:
    return bool(await line.place.one(select(models.Message.status).where(models.Message.id == message_id)) == status)


async def test_other_fields_and_odd_pieces_are_taken_and_lose_nothing(line: Line) -> None:
    template = {"field": "message_template_status_update", "value": {"event": "APPROVED", "message_template_id": 1}}
    assert await line.deliver(line.graph.entry(ABOVE, template)) == 200
    odd = line.number.value(
        messages=[{"type": "text"}, 5, {"id": "wamid.odd", "from": ["x"], "type": {"a": 1}}], statuses="?"
    )
    nul = {"id": "wamid.\x00" + "z" * 500, "from": "\x00" + "9" * 500, "type": "text", "text": {"body": "a\x00b"}}
    odd["messages"].append(nul)
    good = line.number.message(ASKER, "Kafolat bormi №3")
    assert await line.deliver(odd, good) == 200
    await line.until(lambda: _answered(line, 3))
    await line.received()
    assert not await line.place.one(
        select(func.count()).select_from(models.InboxItem).where(models.InboxItem.status == "dead")
    )


async def test_old_questions_are_kept_and_not_answered(line: Line) -> None:
    old = utcnow() - dt.timedelta(hours=30)
    await line.ask(1, timestamp=int(old.timestamp()))
    await line.ask(2, wa_id="998900000002")
    await line.number.wait_sent(1)
    await line.received()
    assert line.answers() == [2]
    (kept,) = await line.messages()
    assert (kept.text, kept.status) == ("Muzlatgichlarga kafolat bormi №1", "skipped")


async def test_pictures_reactions_and_changes(line: Line) -> None:
    assert (
        await line.deliver(line.number.message(ASKER, None, type="image", image={"id": "3", "mime_type": "image/jpeg"}))
        == 200
    )
    (sent,) = await line.number.wait_sent(1)
    assert "/operator" in sent["text"]["body"]  # there is nothing at this id
    quiet = [
        line.number.message(ASKER, None, type="reaction", reaction={"message_id": sent["id"], "emoji": "👍"}),
        line.number.message(ASKER, None, type="edit", edit={"original_message_id": "wamid.1", "message": {}}),
        line.number.message(ASKER, None, type="whatever_comes", whatever_comes={}),
        line.number.message(ASKER, "Guruhdan", group_id="g1"),
    ]
    assert await line.deliver(*quiet) == 200
    await line.received()
    await asyncio.sleep(0.2)
    assert len(line.number.sent) == 1


async def test_a_changed_message_is_changed_and_a_revoked_one_is_emptied(line: Line) -> None:
    id_ = "wamid.CHANGED0001"
    await line.ask(1, wamid=id_)
    await line.number.wait_sent(1)

    def changed(text: str) -> Any:
        now = {"type": "text", "text": {"body": text}}
        return line.number.message(ASKER, None, type="edit", edit={"original_message_id": id_, "message": now})

    assert await line.deliver(changed("Televizorlarga yetkazib berish bormi №2")) == 200
    await line.received()
    kept = (await line.messages())[0]
    assert kept.text == "Televizorlarga yetkazib berish bormi №2" and kept.edited_at is not None
    gone = line.number.message(ASKER, None, type="revoke", revoke={"original_message_id": id_})
    assert await line.deliver(gone) == 200
    await line.received()
    kept = (await line.messages())[0]
    assert kept.text == "" and kept.deleted_at is not None
    # An answer costs money there: nothing is answered twice.
    assert line.answers() == [1]
    assert not any("Televizorlarga" in turn[1] for turn in (await line.talk()).recent)


async def test_commands_and_language_buttons(line: Line) -> None:
    assert await line.deliver(line.number.message(ASKER, "/language")) == 200
    (sent,) = await line.number.wait_sent(1)
    shown = sent["interactive"]
    assert shown["type"] == "list"  # four languages: one too many for buttons
    rows = {row["id"]: row["title"] for row in shown["action"]["sections"][0]["rows"]}
    assert rows["lang:ru"] == "Русский"
    choice = {"type": "list_reply", "list_reply": {"id": "lang:ru", "title": "Русский"}}
    assert await line.deliver(line.number.message(ASKER, None, type="interactive", interactive=choice)) == 200
    _, said = await line.number.wait_sent(2)
    assert "русски" in said["text"]["body"].lower()
    contact = await line.place.one(select(models.Contact).where(models.Contact.external_id == ASKER))
    assert (contact.language, contact.language_chosen) == ("ru", True)


async def test_a_hidden_number_and_one_person_under_two_ids(line: Line) -> None:
    hidden = "UZ.13491208655302741918"
    assert await line.deliver(line.number.message(None, "Kafolat bormi №1", user_id=hidden)) == 200
    (sent,) = await line.number.wait_sent(1)
    assert sent["recipient"] == hidden and "to" not in sent
    # Both ids in one message: the same person, whose number is known now.
    assert await line.deliver(line.number.message(ASKER, "Kafolat bormi №2", user_id=hidden)) == 200
    await line.number.wait_sent(2)
    # And hidden again.
    assert await line.deliver(line.number.message(None, "Kafolat bormi №3", user_id=hidden)) == 200
    await line.number.wait_sent(3)
    assert line.answers() == [1, 2, 3]
    contacts = [
        row[0]
        for row in await line.place.rows(
            select(models.Contact).where(models.Contact.channel_id == (await line.channel()).id)
        )
    ]
    assert [(each.external_id, each.alias, each.phone) for each in contacts] == [(ASKER, hidden, f"+{ASKER}")]
    assert len([each for each in await line.messages() if each.author == "customer"]) == 3


async def test_a_changed_number_keeps_the_talk(line: Line) -> None:
    await line.ask(1)
    await line.number.wait_sent(1)
    moved = {"type": "user_changed_number", "wa_id": "998900000009", "body": "…"}
    assert await line.deliver(line.number.message(ASKER, None, type="system", system=moved)) == 200
    await line.received()
    await line.ask(2, wa_id="998900000009")
    await line.number.wait_sent(2)
    assert [each.author for each in await line.messages("998900000009")] == ["customer", "bot", "customer", "bot"]


# Statuses


async def test_statuses_only_move_forward(line: Line) -> None:
    await line.ask(1)
    (sent,) = await line.number.wait_sent(1)
    (_, answer) = await line.messages()
    told = ["read", "sent", "delivered", "delivered", "failed", "sent"]
    for status in told:
        assert await line.deliver(line.number.status(sent["id"], status, recipient=ASKER, opaque=answer.id)) == 200
        await line.received()
    assert (await line.messages())[1].status == "read"


async def test_a_thousand_statuses_of_unknown_messages(line: Line) -> None:
    values = [line.number.status(f"wamid.U{n}", "delivered", recipient=f"99891{n:07}") for n in range(1000)]
    assert await line.deliver(line.graph.together(*values)) == 200
    await line.ask(1)
    await line.number.wait_sent(1)
    await line.received()
    # Who got a message from elsewhere did not write to us.
    assert await line.place.one(select(func.count()).select_from(models.Contact)) == 1


async def test_an_answer_whose_fate_was_unknown_is_cleared_up_by_its_status(line: Line) -> None:
    line.graph.cut(after_effect=True)
    await line.ask(1)
    (sent,) = await line.number.wait_sent(1)
    (_, answer) = await line.messages()
    await line.until(lambda: _status(line, answer.id, "unknown"))
    assert await line.deliver(
        line.number.status(sent["id"], "delivered", recipient=ASKER, opaque=sent["biz_opaque_callback_data"])
    ) == 200  # fmt: skip
    await line.until(lambda: _status(line, answer.id, "delivered"))
    assert line.answers() == [1]


async def test_a_late_failure_is_told_to_the_owner(line: Line) -> None:
    await line.ask(1)
    (sent,) = await line.number.wait_sent(1)
    (_, answer) = await line.messages()
    failed = line.number.status(sent["id"], "failed", recipient=ASKER, opaque=answer.id, errors=[131047])
    assert await line.deliver(failed) == 200
    await line.until(lambda: _status(line, answer.id, "failed"))
    notice = await line.place.one(select(models.Notice).where(models.Notice.kind == "window_closed"))
    assert notice is not None and notice.user_id == line.shop.owner.id


# Sending


@pytest.mark.parametrize(
    ("code", "http", "kind"),
    [
        (131047, 400, WindowClosed),
        (131026, 400, Unreachable),
        (130429, 429, Throttled),
        (131056, 400, PairLimited),
        (190, 401, TokenRefused),
        (131042, 400, Blocked),
        (131031, 400, Blocked),
        (133010, 400, Blocked),
        (100, 400, Refused),
        (132001, 404, Refused),
        (131000, 500, Temporary),
        (424242, 503, Temporary),
    ],
)
async def test_errors_of_sending_lead_to_their_class(
    graph: FakeGraph, code: int, http: int, kind: type[Exception]
) -> None:
    add_number(graph)
    graph.fail(code, http=http)
    async with aiohttp.ClientSession() as session:
        api = GraphApi(session, graph.base_url, "v26.0")
        message = {"messaging_product": "whatsapp", "to": ASKER, "type": "text", "text": {"body": "Salom"}}
        with pytest.raises(kind) as raised:
            await api.call("POST", f"{NUMBER}/messages", TOKEN, body=message)
    assert type(raised.value) is kind
    assert TOKEN not in str(raised.value)
    assert not getattr(raised.value, "sent", False)


async def test_what_is_not_metas_answer(graph: FakeGraph) -> None:
    add_number(graph)
    message = {"messaging_product": "whatsapp", "to": ASKER, "type": "text", "text": {"body": "Salom"}}
    async with aiohttp.ClientSession() as session:
        api = GraphApi(session, graph.base_url, "v26.0", timeout_s=1)
        for status, sent in ((502, False), (404, False), (504, True), (200, True)):
            graph.answer_raw(status, b"<html>proxy</html>")
            with pytest.raises(Temporary) as raised:
                await api.call("POST", f"{NUMBER}/messages", TOKEN, body=message)
            assert raised.value.sent is sent
        graph.hang(3)
        with pytest.raises(Temporary) as raised:
            await api.call("POST", f"{NUMBER}/messages", TOKEN, body=message)
        assert raised.value.sent
        with pytest.raises(Away):
            await GraphApi(session, "http://127.0.0.1:9", "v26.0").call("GET", NUMBER, TOKEN)


async def test_a_passing_trouble_costs_no_answer(line: Line) -> None:
    line.graph.fail(131000, http=500)
    await line.ask(1)
    await line.number.wait_sent(1)
    assert line.answers() == [1]


async def test_a_token_that_ends_in_mid_conversation(line: Line) -> None:
    await line.ask(1)
    await line.number.wait_sent(1)
    line.graph.fail(190, http=401, subcode=463, times=None)
    await line.ask(2)

    async def refused() -> bool:
        return (await line.channel()).status == "refused"

    await line.until(refused)
    assert await line.place.one(select(models.Notice.kind).where(models.Notice.kind == "whatsapp_token_refused"))
    # What comes meanwhile is kept; with a new token the bot answers again.
    await line.ask(3)
    await line.received()
    line.graph.clear_faults()
    line.number.token = "EAAnew_token_of_the_system_user_01"
    status, made = await connect(line.place.core, line.session, line.shop, access_token=line.number.token)
    assert (status, made["status"]) == (201, "active")
    await line.ask(4)
    await line.until(lambda: _answered(line, 4))
    assert [each.text for each in await line.messages() if each.author == "customer"][-2:] == [
        f"Muzlatgichlarga kafolat bormi №{n}" for n in (3, 4)
    ]


async def _answered(line: Line, number: int) -> bool:
    return number in line.answers()


async def test_an_account_that_may_not_send(line: Line) -> None:
    line.graph.fail(131042, times=None)
    await line.ask(1)

    async def blocked() -> bool:
        return (await line.channel()).status == "blocked"

    await line.until(blocked)
    assert "131042" in (await line.channel()).last_error
    assert await line.place.one(select(models.Notice.kind).where(models.Notice.kind == "whatsapp_blocked"))


async def test_after_the_window_nothing_is_tried(line: Line) -> None:
    await line.ask(1)
    await line.number.wait_sent(1)
    await line.received()
    talk = await line.talk()
    async with line.place.core.db.write() as session:
        await session.execute(
            update(models.Conversation)
            .where(models.Conversation.id == talk.id)
            .values(last_inbound_at=utcnow() - dt.timedelta(hours=24, minutes=1))
        )
    async with line.place.core.db.write() as session:
        row = await conversations.get(session, line.shop.owner, talk.id)
        with pytest.raises(Conflict) as raised:
            await conversations.operator_reply(session, row, "Kechikdim")
    assert raised.value.code == "window_closed"


async def test_what_opens_the_window_and_what_does_not_close_it(line: Line) -> None:
    await line.ask(1)
    await line.number.wait_sent(1)
    await line.received()

    async def age(hours: int) -> None:
        async with line.place.core.db.write() as session:
            await session.execute(
                update(models.Conversation).values(last_inbound_at=utcnow() - dt.timedelta(hours=hours))
            )

    # A press of a button of ours after a day: the answer goes out.
    await age(25)
    choice = {"type": "list_reply", "list_reply": {"id": "lang:ru", "title": "Русский"}}
    assert await line.deliver(line.number.message(ASKER, None, type="interactive", interactive=choice)) == 200
    await line.number.wait_sent(2)
    # An old message that Meta delivers late does not close it again.
    late = int((utcnow() - dt.timedelta(hours=26)).timestamp())
    await line.ask(2, timestamp=late)
    await line.received()
    await line.ask(3)
    await line.number.wait_sent(3)
    talk = await line.talk()
    assert talk.last_inbound_at is not None and utcnow() - talk.last_inbound_at < dt.timedelta(hours=1)
    assert not await line.place.one(select(models.Notice.id).where(models.Notice.kind == "window_closed"))


async def test_failures_of_what_others_sent_and_of_long_ago_alarm_nobody(line: Line) -> None:
    unknown = line.number.status("wamid.ELSE", "failed", recipient="998911111111", errors=[131049])
    long_ago = int((utcnow() - dt.timedelta(hours=5)).timestamp())
    paid = line.number.status("wamid.OLD", "failed", recipient="998911111111", errors=[131042], timestamp=long_ago)
    assert await line.deliver(unknown, paid) == 200
    picture = line.number.message("998900000003", None, type="image", image={"id": "3"}, timestamp=long_ago - 100_000)
    assert await line.deliver(picture) == 200
    await line.received()
    await line.ask(1)
    await line.number.wait_sent(1)
    assert len(line.number.sent) == 1
    assert (await line.channel()).status == "active"
    assert not await line.place.one(select(models.Notice.id))


async def test_an_answer_that_waited_too_long_is_not_tried(line: Line) -> None:
    line.graph.fail(131000, http=500)
    await line.ask(1)
    await line.until(lambda: _queued(line))
    async with line.place.core.db.write() as session:
        await session.execute(
            update(models.Conversation).values(last_inbound_at=utcnow() - dt.timedelta(hours=24, minutes=1))
        )
    (_, answer) = await line.messages()
    await line.until(lambda: _status(line, answer.id, "failed"))
    assert not line.number.sent
    assert await line.place.one(select(models.Notice.kind).where(models.Notice.kind == "window_closed"))


async def _queued(line: Line) -> bool:
    """Whether an answer waits to be tried again."""
    return bool(await line.place.one(select(models.OutboxItem.error).where(models.OutboxItem.status == "queued")))


@pytest.mark.parametrize("point", ["accepted", "received", "answered", "claimed_send"])
async def test_killed_between_receiving_and_answering(
    tmp_path: Path, database_url: str, graph: FakeGraph, fakes: Fakes, children: Nursery, point: str
) -> None:
    number = add_number(graph)
    environment = {"META_GRAPH_BASE": graph.base_url}
    async with running(tmp_path, database_url, graph, fakes) as (place, session):
        shop = await make_shop(place.core)
        assert (await connect(place.core, session, shop))[0] == 201
    child = await children.start(
        settings_for(tmp_path, database_url, *fakes, environment=environment), point=point, role="all"
    )
    body = graph.body(graph.together(*(number.message(f"9989000000{n:02}", f"Kafolat bormi №{n}") for n in range(4))))
    host, port = child.events[-1]["address"]
    webhook = f"http://{host}:{port}/whatsapp/webhook"
    async with aiohttp.ClientSession() as session:
        delivery = asyncio.ensure_future(graph.deliver(session, webhook, body, SECRET))
        await child.hears("paused")
        if point == "accepted":
            # Stored, and Meta has no answer yet: it delivers all of it again.
            await child.kill()
            with pytest.raises(aiohttp.ClientError):
                await delivery
        else:
            assert await delivery == 200
            await child.kill()
        async with running(tmp_path, database_url, graph, fakes) as (place, _):
            line = Line(place, shop, session, graph, number)
            assert await graph.deliver(session, line.webhook, body, SECRET) == 200
            await number.wait_sent(4, timeout=30)
            await line.received()
            await asyncio.sleep(0.3)
            assert sorted(line.answers()) == [0, 1, 2, 3]
            asked = select(func.count()).select_from(models.Message).where(models.Message.author == "customer")
            assert await place.one(asked) == 4


# A person


async def test_an_answer_from_the_phone_silences_the_bot(line: Line) -> None:
    await line.ask(1)
    await line.number.wait_sent(1)
    echoed = {"from": line.number.digits, "to": ASKER, "id": "wamid.PHONE", "timestamp": "1796101190", "type": "text"}
    echo = {
        "field": "smb_message_echoes",
        "value": line.number.value(message_echoes=[echoed | {"text": {"body": "Hozir kelaman"}}]),
    }
    assert await line.deliver(line.graph.entry(ABOVE, echo)) == 200
    await line.received()
    await line.ask(2)
    await line.received()
    assert line.answers() == [1]
    assert (await line.talk()).status == "human"
    assert [(each.author, each.text) for each in await line.messages()][2] == ("operator", "Hozir kelaman")


async def test_a_person_is_called_and_answers(line: Line) -> None:
    assert await line.deliver(line.number.message(ASKER, "Operator bilan gaplashmoqchiman")) == 200
    await line.number.wait_sent(1)
    talk = await line.talk()
    assert talk.status == "waiting"
    async with line.place.core.db.write() as session:
        row = await conversations.get(session, line.shop.owner, talk.id)
        await conversations.operator_reply(session, row, "Salom, eshitaman")
    line.place.core.bell.ring("outbox")
    *_, sent = await line.number.wait_sent(2)
    assert sent["text"]["body"] == "Salom, eshitaman"
    # While a person leads the talk nothing shows as read that nobody has read.
    reads = len(line.number.reads)
    await line.ask(5)
    await line.received()
    assert len(line.number.reads) == reads
