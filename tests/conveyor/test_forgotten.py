"""What is deleted is gone from every table: a customer who was two, and a bot with all its customers."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import select

from db import models
from services import endpoints
from services.conversations import finding
from tests.composition import address
from tests.conveyor.lines import Fakes, WhatsAppLine, whatsapp_line
from tests.conveyor.receiver import Receiver
from tests.fakes.graph import FakeGraph
from tests.services.owned import everything, holding
from tests.web.panel import Site

PHONE, HIDDEN, OTHER = "998901117733", "UZ.13491208655302741918", "998935554411"
WROTE, UNDER, THEN, WANTED, NEIGHBOUR = "Qaynona", "Tandirga", "Samovarga", "Menga operator kerak", "Kelinchak"
FIRST = "wamid.FIRST"


async def _wrote(line: WhatsAppLine) -> None:
    """Two people write, one of them first with the number hidden, then with it alone, then with both; each asks for a person."""
    told = line.number.message
    assert await line.deliver(told(None, f"{UNDER} kafolat bormi", user_id=HIDDEN, name=WROTE, wamid=FIRST)) == 200
    await line.drained()
    assert await line.deliver(told(PHONE, f"{THEN} kafolat bormi", name=WROTE)) == 200
    assert await line.deliver(told(OTHER, f"{NEIGHBOUR} kafolat bormi", name=NEIGHBOUR)) == 200
    await line.drained()
    assert await line.deliver(told(PHONE, WANTED, user_id=HIDDEN, name=WROTE)) == 200
    await line.drained()


async def _names(line: WhatsAppLine, *words: str) -> set[str]:
    """Return the columns, of any table, in which one of these words stands."""
    while await finding.catch_up(line.place.core.db):
        pass
    async with line.place.core.db.read() as session:
        rows = await everything(session)
    return holding(rows, words)


async def test_a_customer_who_was_two_and_then_the_bot(
    tmp_path: Path, database_url: str, graph: FakeGraph, fakes: Fakes
) -> None:
    """No table names whoever was deleted, by none of the ids, numbers, names and words; what came in still counts once."""
    listening = {"addresses": "any", "timeout_s": 5}
    async with Receiver() as server, whatsapp_line(tmp_path, database_url, graph, fakes, webhooks=listening) as line:
        core, owner = line.place.core, line.shop.owner
        async with core.db.write() as session:
            await endpoints.create(session, core.settings, core.crypto, owner, url=server.url, events=endpoints.EVENTS)
        await _wrote(line)
        rows = await line.place.rows(select(models.JoinedConversation.id, models.JoinedConversation.conversation_id))
        (former, talk_id) = rows[0]
        events = await line.place.rows(select(models.EndpointEvent.payload))
        contacts = {json.loads(row.payload)["data"]["contact_id"] for row in events}
        contact_id = await line.place.one(
            select(models.Conversation.contact_id).where(models.Conversation.id == talk_id)
        )
        other_id = await line.place.one(select(models.Contact.id).where(models.Contact.external_id == OTHER))
        (former_contact,) = contacts - {contact_id, other_id}
        person = (PHONE, HIDDEN, WROTE, UNDER, THEN, WANTED, talk_id, former, contact_id, former_contact)
        folded = tuple(word.lower() for word in (UNDER, THEN))
        assert {"endpoint_events.payload", "outbox.recipient", "inbox.lane", "notices.key"} <= await _names(
            line, *person
        )
        assert "conversation_texts.words" in await _names(line, *folded)
        site = Site(core, address(core))
        browser = await site.signed_in(owner)
        gone = await browser.post(f"/contacts/{contact_id}/delete", confirm=WROTE)
        assert gone.location == "/inbox?done=contact_deleted", gone.visible()
        await site.close()
        # That somebody of this id was deleted, and who did it.
        assert await _names(line, *person, *folded) == {"audit_log.object_id"}
        again = line.number.message(None, f"{UNDER} kafolat bormi", user_id=HIDDEN, name=WROTE, wamid=FIRST)
        assert await line.deliver(again) == 200
        await line.drained()
        # PostgreSQL may keep the empty lane, which the work by the clock removes.
        assert await _names(line, *person, *folded) <= {"audit_log.object_id", "lanes.key"}
        of_other = (OTHER, NEIGHBOUR, NEIGHBOUR.lower(), other_id)
        there = await _names(line, *of_other)
        assert {"contacts.name", "messages.text", "endpoint_events.payload", "outbox.recipient", "inbox.lane"} <= there
        bearer = {"Authorization": f"Bearer {line.shop.token}"}
        async with line.session.delete(f"{address(core)}/api/v1/bots/{line.shop.bot.id}", headers=bearer) as answer:
            assert answer.status == 204

        async def purged() -> bool:
            return await line.place.one(select(models.Bot.id).where(models.Bot.id == line.shop.bot.id)) is None

        await line.until(purged)
        assert await _names(line, *of_other, line.shop.bot.public_id, "Yetkazib berish") == set()
