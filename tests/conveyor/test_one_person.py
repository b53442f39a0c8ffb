"""One person under two ids of WhatsApp: two conversations become one, and ids that change keep theirs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select

from db import models
from db.base import Base
from services import conversations, notices
from services.conversations import joining, marks
from services.errors import Conflict, NotFound
from tests.composition import address, make_shop
from tests.conveyor.harness import numbers_in, settings_for
from tests.conveyor.lines import Fakes, WhatsAppLine, connect_whatsapp, running_whatsapp, whatsapp_line
from tests.conveyor.nursery import Nursery
from tests.fakes.graph import FakeGraph
from tests.fakes.meta import SECRET, WHATSAPP_ASKER, add_number

PHONE, HIDDEN = WHATSAPP_ASKER, "UZ.13491208655302741918"
OTHER_PHONE, OTHER_HIDDEN = "998900000009", "UZ.77777777777777777777"


@pytest.fixture
async def line(database_url: str, tmp_path: Path, graph: FakeGraph, fakes: Fakes) -> AsyncIterator[WhatsAppLine]:
    """A connected number."""
    async with whatsapp_line(tmp_path, database_url, graph, fakes) as made:
        yield made


async def _contacts(line: WhatsAppLine) -> list[models.Contact]:
    rows = await line.place.rows(select(models.Contact).order_by(models.Contact.created_at))
    return [row[0] for row in rows]


async def _talks(line: WhatsAppLine) -> list[models.Conversation]:
    rows = await line.place.rows(select(models.Conversation).order_by(models.Conversation.created_at))
    return [row[0] for row in rows]


async def _wrote_under_both(line: WhatsAppLine) -> tuple[models.Conversation, models.Conversation]:
    """Let one person write with the number hidden, then with it alone; return both talks, the older first."""
    await line.ask(1, None, user_id=HIDDEN)
    await line.number.wait_sent(1)
    await line.ask(2, PHONE)
    await line.number.wait_sent(2)
    await line.drained()
    older, younger = await _talks(line)
    return older, younger


async def _said(line: WhatsAppLine) -> list[tuple[str, list[int]]]:
    """Return who said which numbers, in the order of the only conversation."""
    (talk,) = await _talks(line)
    rows = await line.place.rows(
        select(models.Message.author, models.Message.text)
        .where(models.Message.conversation_id == talk.id)
        .order_by(models.Message.id)
    )
    return [(author, numbers_in([text])) for author, text in rows]


def test_every_table_of_a_conversation_is_seen_to() -> None:
    """A table that is new here must first be carried over by ``services/conversations/joining.py``."""
    carried = {"messages", "notes", "conversation_labels", "forum_topics", "joined_conversations", "conversation_texts"}
    belonging = {
        table.name
        for table in Base.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column.table.name == "conversations"
    }
    assert belonging == carried


async def test_what_was_said_in_either_is_found_in_the_one_that_stays(line: WhatsAppLine) -> None:
    older, younger = await _wrote_under_both(line)
    assert await line.deliver(line.number.message(PHONE, "Samovar ham bormi?")) == 200
    await line.drained()

    async def found() -> list[str]:
        path = f"{address(line.place.core)}/api/v1/bots/{line.shop.bot.id}/conversations?q=samovar"
        async with line.session.get(path, headers={"Authorization": f"Bearer {line.shop.token}"}) as response:
            return [row["id"] for row in (await response.json())["items"]]

    assert await found() == [younger.id]
    await line.ask(3, PHONE, user_id=HIDDEN)
    await line.drained()
    assert await found() == [older.id]


async def test_two_conversations_become_one_with_all_that_belongs_to_them(line: WhatsAppLine) -> None:
    older, younger = await _wrote_under_both(line)
    core, owner = line.place.core, line.shop.owner
    async with core.db.write() as session:
        one = await conversations.get(session, owner, older.id)
        other = await conversations.get(session, owner, younger.id)
        both, only = (models.Label(owner_id=owner.id, name=name) for name in ("Ikkalasi", "Faqat biri"))
        session.add_all([both, only])
        await session.flush()
        await marks.put_labels(session, one, [both.id])
        await marks.put_labels(session, other, [both.id, only.id])
        await marks.add_note(session, one, owner, "Eski")
        await marks.add_note(session, other, owner, "Yangi")
        other.conversation.assignee_id = owner.id
        other.conversation.status, other.conversation.waiting_reason = "waiting", "asked"
        other.contact.language, other.contact.language_chosen = "ru", True
        other.contact.name = ""
        question = models.UnansweredQuestion(bot_id=line.shop.bot.id, question="?", folded="?")
        question.conversation_id = younger.id
        file = (await conversations.messages(session, younger)).items[0].id
        session.add_all([question, models.Attachment(bot_id=line.shop.bot.id, message_id=file, kind="photo")])
        await notices.open_notice(
            session, owner.id, "operator_wanted", key=notices.talk_key(younger.id), bot_id=line.shop.bot.id
        )
    await line.ask(3, PHONE, user_id=HIDDEN)
    await line.number.wait_sent(3)
    await line.drained()
    (contact,) = await _contacts(line)
    assert (contact.external_id, contact.alias, contact.phone) == (PHONE, HIDDEN, f"+{PHONE}")
    assert (contact.language, contact.language_chosen, contact.name) == ("ru", True, "Mijoz")
    assert await _said(line) == [
        ("customer", [1]), ("bot", [1]), ("customer", [2]), ("bot", [2]), ("customer", [3]), ("bot", [3]),
    ]  # fmt: skip
    assert line.answers() == [1, 2, 3]
    (talk,) = await _talks(line)
    assert (talk.id, talk.created_at) == (older.id, older.created_at)
    assert (talk.status, talk.waiting_reason, talk.assignee_id) == ("waiting", "asked", owner.id)
    assert numbers_in(turn[1] for turn in talk.recent) == [1, 1, 2, 2, 3, 3]
    async with core.db.read() as session:
        row = await conversations.get(session, owner, older.id)
        assert sorted(note.text for note in await marks.notes(session, talk)) == ["Eski", "Yangi"]
        assert {each.name for each in (await marks.labels_of(session, [talk.id]))[talk.id]} == {
            "Ikkalasi",
            "Faqat biri",
        }
        # The old address leads to the conversation that stayed, for nobody but those whose it is.
        assert (await conversations.get(session, owner, younger.id)).conversation.id == row.conversation.id
    stranger = await make_shop(core, "Boshqa", email="other@example.uz", document=None)
    async with core.db.read() as session:
        with pytest.raises(NotFound):
            await conversations.get(session, stranger.owner, younger.id)
    place = line.place
    assert await place.one(select(models.UnansweredQuestion.conversation_id)) == talk.id
    assert await place.one(select(func.count()).select_from(models.Attachment)) == 1
    opened = select(models.Notice.key).where(
        models.Notice.kind == "operator_wanted", models.Notice.resolved_at.is_(None)
    )
    assert await place.one(opened) == notices.talk_key(talk.id)
    # Whoever hides the number again is the same person, and a second delivery changes nothing.
    body = line.graph.body(line.number.message(None, "Kafolat bormi №4", user_id=HIDDEN, wamid="wamid.AGAIN1"))
    assert await line.post(body) == await line.post(body) == 200
    await line.number.wait_sent(4)
    await line.drained()
    assert [talk.id for talk in await _talks(line)] == [older.id]
    assert line.answers() == [1, 2, 3, 4]


async def test_a_conversation_that_a_person_leads_stays_with_the_person(line: WhatsAppLine) -> None:
    older, younger = await _wrote_under_both(line)
    async with line.place.core.db.write() as session:
        row = await conversations.get(session, line.shop.owner, younger.id)
        await conversations.operator_reply(session, row, "Men javob beraman", author=line.shop.owner)
    line.place.core.bell.ring("outbox")
    await line.number.wait_sent(3)
    await line.ask(3, PHONE, user_id=HIDDEN)
    await line.drained()
    (talk,) = await _talks(line)
    assert (talk.id, talk.status, talk.assignee_id) == (older.id, "human", line.shop.owner.id)
    assert talk.unanswered_since is not None
    assert line.answers() == [1, 2]


async def test_an_answer_in_the_making_is_waited_for(line: WhatsAppLine) -> None:
    older, _ = await _wrote_under_both(line)
    answering = line.place.models.hold()
    await line.ask(3, None, user_id=HIDDEN)
    await answering.reached.wait()
    await line.ask(4, PHONE, user_id=HIDDEN)

    async def put_off() -> bool:
        back = select(models.InboxItem.error).where(models.InboxItem.lane.like(f"in:%:{PHONE}"))
        return "given back" in [row[0] for row in await line.place.rows(back)]

    await line.until(put_off)
    assert len(await _contacts(line)) == 2
    line.place.models.release()
    await line.number.wait_sent(4)
    await line.drained()
    assert sorted(line.answers()) == [1, 2, 3, 4] and line.answers()[-2:] == [3, 4]
    (talk,) = await _talks(line)
    assert talk.id == older.id
    asked = [numbers for author, numbers in await _said(line) if author == "customer"]
    assert asked == [[1], [2], [3], [4]]


async def test_what_waits_to_be_sent_goes_to_the_id_that_stays_once(line: WhatsAppLine) -> None:
    await _wrote_under_both(line)
    # One is on its way to the hidden number, the next waits behind it.
    held = line.graph.hang(60, after_effect=False)
    held.to = HIDDEN
    for number in (3, 4):
        await line.ask(number, None, user_id=HIDDEN)
        await line.received()
    await held.reached.wait()
    await line.ask(5, PHONE, user_id=HIDDEN)

    async def put_off() -> bool:
        back = select(models.InboxItem.error).where(models.InboxItem.lane.like(f"in:%:{PHONE}"))
        return "given back" in [row[0] for row in await line.place.rows(back)]

    await line.until(put_off)
    held.release()
    await line.number.wait_sent(5)
    await line.drained()
    assert line.answers() == [1, 2, 3, 4, 5]
    waiting = select(func.count()).select_from(models.Lane).where(models.Lane.pending != 0)
    assert not await line.place.one(waiting)
    assert not await line.place.one(
        select(func.count()).select_from(models.Message).where(models.Message.status.in_(("failed", "queued")))
    )


async def test_what_waits_in_both_lanes_is_taken_in_its_order(line: WhatsAppLine) -> None:
    await _wrote_under_both(line)
    channel = await line.channel()
    async with line.place.core.db.write() as session:
        # The hidden lane rests, as after a failure.
        lane = await session.get_one(models.Lane, f"in:{channel.id}:{HIDDEN}")
        lane.pending, lane.run_at = 1, time.time() + 3600
    for number in (3, 4):
        await line.ask(number, None, user_id=HIDDEN)
    await line.ask(5, PHONE, user_id=HIDDEN)
    await line.until(lambda: _answered(line, {1, 2, 3, 4, 5}))
    await line.drained()
    asked = [numbers for author, numbers in await _said(line) if author == "customer"]
    assert asked == [[1], [2], [3], [4], [5]]
    assert len(await _contacts(line)) == 1


async def _answered(line: WhatsAppLine, wanted: set[int]) -> bool:
    return wanted <= set(line.answers())


async def test_ids_of_another_number_are_other_people(line: WhatsAppLine) -> None:
    await _wrote_under_both(line)
    facts: dict[str, Any] = {"token": "EAAother_token_00001", "app_secret": SECRET, "waba_id": "200000000000777"}
    other = line.graph.add_number("100000000000777", display_phone_number="+998 7", **facts)
    shop = await make_shop(line.place.core, "Boshqa", email="other@example.uz")
    status, _ = await connect_whatsapp(
        line.place.core, line.session, shop, access_token=facts["token"], phone_number_id="100000000000777"
    )
    assert status == 201
    assert await line.deliver(other.message(PHONE, "Kafolat bormi №7", user_id=HIDDEN)) == 200
    await other.wait_sent(1)
    await line.drained()
    assert len(await _contacts(line)) == 3
    mine = select(func.count()).select_from(models.Contact).where(models.Contact.bot_id == line.shop.bot.id)
    assert await line.place.one(mine) == 2


async def test_topics_of_a_group_go_along_and_one_of_two_is_closed(line: WhatsAppLine) -> None:
    older, younger = await _wrote_under_both(line)
    async with line.place.core.db.write() as session:
        shared, own = (
            models.ForumGroup(owner_id=line.shop.owner.id, chat_id=chat, status="lost") for chat in (-1001, -1002)
        )
        session.add_all([shared, own])
        await session.flush()
        topics = [(shared, older, 11), (shared, younger, 12), (own, younger, 21)]
        session.add_all(
            models.ForumTopic(group_id=group.id, conversation_id=talk.id, thread_id=thread)
            for group, talk, thread in topics
        )
    await line.ask(3, PHONE, user_id=HIDDEN)
    await line.number.wait_sent(3)
    await line.drained()
    left = await line.place.rows(select(models.ForumTopic.thread_id, models.ForumTopic.conversation_id))
    assert {tuple(row) for row in left} == {(11, older.id), (21, older.id)}
    closing = select(func.count()).select_from(models.Job).where(models.Job.kind == joining.CLOSE_TOPIC_JOB)
    assert await line.place.one(closing) == 1


async def test_an_operator_who_has_the_other_conversation_open_is_told(line: WhatsAppLine) -> None:
    _, younger = await _wrote_under_both(line)
    async with line.place.core.db.read() as session:
        row = await conversations.get(session, line.shop.owner, younger.id)
    await line.ask(3, PHONE, user_id=HIDDEN)
    await line.number.wait_sent(3)
    await line.drained()
    async with line.place.core.db.write() as session:
        session.add(row.conversation)
        with pytest.raises(Conflict) as raised:
            await conversations.operator_reply(session, row, "Salom")
        assert raised.value.code == "joined"
        await session.rollback()
    assert len(line.number.sent) == 3


@pytest.mark.parametrize("point", ["received", "joined"])
async def test_a_process_that_dies_while_joining_loses_nothing(
    tmp_path: Path, database_url: str, graph: FakeGraph, fakes: Fakes, children: Nursery, point: str
) -> None:
    number = add_number(graph)
    async with running_whatsapp(tmp_path, database_url, graph, fakes) as (place, session):
        shop = await make_shop(place.core)
        assert (await connect_whatsapp(place.core, session, shop))[0] == 201
        line = WhatsAppLine(place, shop, session, graph, number)
        await _wrote_under_both(line)
    environment = {"META_GRAPH_BASE": graph.base_url}
    child = await children.start(
        settings_for(tmp_path, database_url, *fakes, environment=environment), point=point, role="all"
    )
    told = next(event for event in child.events if event["event"] == "ready")
    host, port = told["address"]
    body = graph.body(number.message(PHONE, "Kafolat bormi №3", user_id=HIDDEN))
    async with aiohttp.ClientSession() as session:
        await graph.deliver(session, f"http://{host}:{port}/whatsapp/webhook", body, SECRET)
        await child.hears("paused")
        await child.kill()
        async with running_whatsapp(tmp_path, database_url, graph, fakes) as (place, _):
            line = WhatsAppLine(place, shop, session, graph, number)
            await number.wait_sent(3, timeout=30)
            await line.drained()
            assert await _said(line) == [
                ("customer", [1]), ("bot", [1]), ("customer", [2]), ("bot", [2]), ("customer", [3]), ("bot", [3]),
            ]  # fmt: skip
            assert line.answers() == [1, 2, 3]


# Ids that change


def _changed(line: WhatsAppLine, sender: str | None, kind: str, shows: str | None = None, **more: Any) -> Any:
    return line.number.message(sender, None, user_id=shows, type="system", system={"type": kind, "body": "…", **more})


async def test_a_changed_number_brings_a_new_hidden_id_and_keeps_the_talk(line: WhatsAppLine) -> None:
    await line.ask(1, PHONE, user_id=HIDDEN)
    await line.number.wait_sent(1)
    told = {"wa_id": OTHER_PHONE, "user_id": OTHER_HIDDEN, "previous_user_id": HIDDEN}
    assert await line.deliver(_changed(line, PHONE, "user_changed_number", **told)) == 200
    await line.received()
    (contact,) = await _contacts(line)
    assert (contact.external_id, contact.alias, contact.phone) == (OTHER_PHONE, OTHER_HIDDEN, f"+{OTHER_PHONE}")
    await line.ask(2, None, user_id=OTHER_HIDDEN)
    await line.ask(3, OTHER_PHONE, user_id=OTHER_HIDDEN)
    await line.number.wait_sent(3)
    await line.drained()
    assert len(await _contacts(line)) == 1
    assert sorted(line.answers()) == [1, 2, 3]


@pytest.mark.parametrize("shows", [None, HIDDEN, OTHER_HIDDEN], ids=["nothing", "the old id", "the new id"])
async def test_a_changed_hidden_id_keeps_the_talk(line: WhatsAppLine, shows: str | None) -> None:
    await line.ask(1, None, user_id=HIDDEN)
    await line.number.wait_sent(1)
    told = {"user_id": OTHER_HIDDEN, "previous_user_id": HIDDEN}
    change = _changed(line, None, "user_changed_user_id", shows, **told)
    assert await line.deliver(change) == 200
    await line.received()
    assert [(each.external_id, each.alias) for each in await _contacts(line)] == [(OTHER_HIDDEN, None)]
    await line.ask(2, None, user_id=OTHER_HIDDEN)
    sent = await line.number.wait_sent(2)
    assert sent[1]["recipient"] == OTHER_HIDDEN
    await line.drained()
    assert [author for author, _ in await _said(line)] == ["customer", "bot", "customer", "bot"]


async def test_a_changed_hidden_id_of_somebody_whose_number_is_known(line: WhatsAppLine) -> None:
    await line.ask(1, PHONE, user_id=HIDDEN)
    await line.number.wait_sent(1)
    told = {"user_id": OTHER_HIDDEN, "previous_user_id": HIDDEN}
    assert await line.deliver(_changed(line, None, "user_changed_user_id", **told)) == 200
    await line.received()
    assert [(each.external_id, each.alias) for each in await _contacts(line)] == [(PHONE, OTHER_HIDDEN)]


async def test_who_wrote_under_the_new_number_before_it_was_told_is_joined(line: WhatsAppLine) -> None:
    await line.ask(1, PHONE)
    await line.number.wait_sent(1)
    await line.ask(2, OTHER_PHONE)
    await line.number.wait_sent(2)
    await line.drained()
    assert await line.deliver(_changed(line, PHONE, "user_changed_number", wa_id=OTHER_PHONE)) == 200
    await line.received()
    (contact,) = await _contacts(line)
    assert (contact.external_id, contact.phone) == (OTHER_PHONE, f"+{OTHER_PHONE}")
    assert await _said(line) == [("customer", [1]), ("bot", [1]), ("customer", [2]), ("bot", [2])]


async def test_questions_around_a_change_are_answered_once(line: WhatsAppLine) -> None:
    answering = line.place.models.hold()
    await line.ask(1, PHONE)
    await answering.reached.wait()
    # These wait behind the first one and are taken together.
    await line.ask(2, PHONE)
    assert await line.deliver(_changed(line, PHONE, "user_changed_number", wa_id=OTHER_PHONE)) == 200
    await line.ask(3, PHONE)
    line.place.models.release()
    await line.until(lambda: _answered(line, {1, 2, 3}))
    await line.drained()
    assert line.answers() == [1, 2, 3]
    assert [(each.external_id) for each in await _contacts(line)] == [OTHER_PHONE]
    asked = [numbers for author, numbers in await _said(line) if author == "customer"]
    assert asked == [[1], [2], [3]]


@pytest.mark.parametrize(
    "told",
    [{}, {"wa_id": "not a number"}, {"wa_id": 5, "user_id": ["x"]}, {"user_id": ""}, {"wa_id": PHONE}],
    ids=["nothing", "words", "types", "empty", "the same"],
)
async def test_changes_that_make_no_sense_change_nothing(line: WhatsAppLine, told: Any) -> None:
    await line.ask(1, PHONE)
    await line.number.wait_sent(1)
    assert await line.deliver(_changed(line, PHONE, "user_changed_number", **told)) == 200
    assert await line.deliver(_changed(line, OTHER_PHONE, "user_changed_number", wa_id="998900000077")) == 200
    assert await line.deliver(_changed(line, None, "user_changed_user_id", user_id=None)) == 200
    await line.received()
    contacts = await _contacts(line)
    assert [(each.external_id, each.phone) for each in contacts] == [(PHONE, f"+{PHONE}")]
    dead = select(func.count()).select_from(models.InboxItem).where(models.InboxItem.status == "dead")
    assert not await line.place.one(dead)
