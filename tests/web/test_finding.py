"""Looking for conversations: by whom, by number, by what was said, in every spelling; and what is gone is not found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
from sqlalchemy import delete, event, func, select, text, update

from db import models
from db.base import new_id
from services import bots
from services.conversations import desk, finding, list_for
from tests import servers
from tests.web.panel import Site, open_site, web_talk

_numbers = count(1)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run
) -> AsyncIterator[Site]:
    """The product on both databases."""
    folder = tmp_path_factory.mktemp("finding")
    with servers_run.database(request.param, folder) as url:
        async with open_site(folder, url, overrides={"limits": {"bots_per_owner": 100}}) as made:
            yield made


class Place:
    """An owner's bot and who is found in its conversations."""

    def __init__(self, site: Site, owner: models.User, bot: models.Bot) -> None:
        self.site, self.owner, self.bot = site, owner, bot

    async def talk(self, name: str, *said: str, phone: str | None = None, username: str = "") -> models.Conversation:
        """Add a customer who said this."""
        async with self.site.core.db.write() as session:
            talk = await web_talk(session, self.bot, name, status="human")
            contact = await session.get_one(models.Contact, talk.contact_id)
            contact.phone, contact.username = phone, username
            session.add_all(models.Message(conversation_id=talk.id, author="customer", text=each) for each in said)
        return talk

    async def found(self, q: str) -> set[str]:
        """Return the names of those who are found, the same by the inbox and by the API's list."""
        await finding.prepare(self.site.core)
        async with self.site.core.db.read() as session:
            listed = await desk.list_for(session, self.owner, [self.bot], desk.Filters(q=q))
            api = await list_for(session, self.bot, q=q)
        assert [row.conversation.id for row in listed.items] == [row.conversation.id for row in api.items], q
        return {row.contact.name for row in listed.items}


@pytest.fixture
async def place(site: Site) -> Place:
    owner = await site.person(f"Izlovchi{next(_numbers)}")
    return Place(site, owner, await site.bot_of(owner, "Qidiruv"))


async def test_who_and_what_is_found_as_people_write_it(place: Place) -> None:
    await place.talk("Gulbahor Rahimova", "Muzlatgich bormi?", "Qo‘qonga yetkazasizlarmi", phone="+998901234567")
    await place.talk("Иван", "Сколько стоит доставка?", username="vanya_77")
    await place.talk("Ўткир", "Кафолат қанча муддатга?", phone="+998937770000")
    await place.talk("日本太郎", "50% chegirma 😀")
    for q, names in {
        # Names and their parts, in either script, whatever the case.
        "gulbahor": {"Gulbahor Rahimova"},
        "RAHIM": {"Gulbahor Rahimova"},
        "bahor": {"Gulbahor Rahimova"},
        "ГУЛБАҲОР": {"Gulbahor Rahimova"},
        "Otkir": {"Ўткир"},
        "o'tkir": {"Ўткир"},
        "иван": {"Иван"},
        "@vanya_77": {"Иван"},
        "vanya": {"Иван"},
        "日本": {"日本太郎"},
        # Numbers, as they are written.
        "+998 90 123-45-67": {"Gulbahor Rahimova"},
        "901234567": {"Gulbahor Rahimova"},
        "(90) 123": {"Gulbahor Rahimova"},
        "4567": {"Gulbahor Rahimova"},
        "99890123456789": set(),
        "777 00": {"Ўткир"},
        # What was said, in either script and with any apostrophe; beginnings of words.
        "muzlatgich": {"Gulbahor Rahimova"},
        "музлат": {"Gulbahor Rahimova"},
        "qoqon": {"Gulbahor Rahimova"},
        "Qo`qonga": {"Gulbahor Rahimova"},
        "kafolat": {"Ўткир"},
        "доставка": {"Иван"},
        "50%": {"日本太郎"},
        # All of the words, wherever they stand.
        "muzlatgich rahimova": {"Gulbahor Rahimova"},
        "muzlatgich kafolat": set(),
        # Nothing that can be looked for.
        "_": set(),
        "%": set(),
        "😀": set(),
        "": {"Gulbahor Rahimova", "Иван", "Ўткир", "日本太郎"},
    }.items():
        assert await place.found(q) == names, q


@pytest.mark.parametrize(
    "q",
    ['"', "'", '" OR who:*', "a NEAR b", "muz* OR *", "^muz", "who : muz", "-muz", "(", "a' | 'b", "a & !b", "muz:*", "\\",
     "NOT muz", "{zz}", "x'::tsquery", "a" * 5000, "1e5", "0x1f", "-- ;", ":q", "𝕸𝖚𝖟"],
)  # fmt: skip
async def test_nothing_is_an_operator(place: Place, q: str) -> None:
    await place.talk("Boshqa", "hech narsa")
    assert await place.found(q) == set()


async def test_only_ones_own_are_found(place: Place, site: Site) -> None:
    other = await site.person(f"Begona{next(_numbers)}")
    foreign = Place(site, other, await site.bot_of(other, "Begona"))
    await foreign.talk("Umumiysoz", "umumiysoz")
    assert await place.found("umumiysoz") == set()
    assert await foreign.found("umumiysoz") == {"Umumiysoz"}


async def test_what_is_changed_or_gone_is_not_found(place: Place, site: Site) -> None:
    talk = await place.talk("Eskiism", "birinchisoz", "ikkinchisoz")
    assert await place.found("birinchisoz") == {"Eskiism"}
    message, contact = models.Message, models.Contact
    async with site.core.db.write() as session:
        change = update(message).where(message.conversation_id == talk.id)
        await session.execute(change.where(message.text == "birinchisoz").values(text="uchinchisoz"))
        await session.execute(
            update(contact).where(contact.id == talk.contact_id).values(name="Yangiism", phone="+998911112233")
        )
    assert await place.found("birinchisoz") == await place.found("eskiism") == set()
    for q in ("uchinchisoz", "ikkinchisoz", "yangiism", "1112233"):
        assert await place.found(q) == {"Yangiism"}
    async with site.core.db.write() as session:
        await session.execute(delete(message).where(message.conversation_id == talk.id, message.text == "ikkinchisoz"))
    assert await place.found("ikkinchisoz") == set()
    async with site.core.db.write() as session:
        session.add(message(conversation_id=talk.id, author="bot", text="keyingisoz"))
    assert await place.found("keyingisoz uchinchisoz") == {"Yangiism"}
    async with site.core.db.write() as session:
        await session.execute(delete(models.Conversation).where(models.Conversation.id == talk.id))
    async with site.core.db.read() as session:
        rows = select(func.count()).select_from(models.ConversationText)
        assert await session.scalar(rows.where(models.ConversationText.conversation_id == talk.id)) == 0
    assert await place.found("uchinchisoz") == set()
    if site.core.db.is_sqlite:
        async with site.core.db.write() as session:
            # Raises where the index and what it is made of disagree.
            await session.execute(
                text("INSERT INTO conversation_index (conversation_index) VALUES ('integrity-check')")
            )


async def test_many_are_walked_along_and_few_looked_up(
    place: Place, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        await place.talk(f"Mijoz {number}", "salomlar", *(["alohida"] if number == 0 else []))
    async with site.core.db.write() as session:
        second = await bots.create(session, place.owner, "Ikkinchi", limits=site.core.settings.limits)
    further = Place(site, place.owner, second)
    await further.talk("Mijoz 9", "salomlar")
    everybody = {f"Mijoz {number}" for number in (0, 1, 2, 3, 4, 5, 9)}
    for few in (1000, 2):
        monkeypatch.setattr(finding, "FEW", few)
        assert await place.found("salomlar") == everybody - {"Mijoz 9"}
        assert await place.found("alohida") == {"Mijoz 0"}
        await finding.prepare(site.core)
        async with site.core.db.read() as session:
            page = await desk.list_for(session, place.owner, [place.bot, second], desk.Filters(q="salomlar"), limit=3)
            rest = await desk.list_for(
                session, place.owner, [place.bot, second], desk.Filters(q="salomlar"), limit=9, cursor=page.next
            )
        assert page.items[0].contact.name == "Mijoz 9"
        assert {row.contact.name for row in (*page.items, *rest.items)} == everybody
        assert len(page.items) == 3 and len(rest.items) == 4


async def test_whoever_was_quicker_is_not_undone(place: Place, site: Site) -> None:
    """Two processes read the notes of one conversation at once: no word is lost."""
    talk = await place.talk("Ikkovlon", "oldin")
    assert await place.found("oldin") == {"Ikkovlon"}
    async with site.core.db.write() as session:
        session.add(models.Message(conversation_id=talk.id, author="customer", text="bunisi"))
    async with site.core.db.read() as session:
        rows = await session.scalars(select(models.ConversationDue))
        notes = [finding.Note(row.id, row.conversation_id, row.message_id, row.whole) for row in rows]
        texts = await session.scalars(select(models.ConversationText))
        kept = {row.conversation_id: finding.Kept(row.id, row.conversation_id, row.who, row.words) for row in texts}
    async with site.core.db.write() as session:
        changed = update(models.ConversationText).where(models.ConversationText.conversation_id == talk.id)
        await session.execute(changed.values(words="oldin unisi"))
    late = await finding.store(
        site.core.db, notes, kept, [finding.Kept(None, talk.id, "ikkovlon", "oldin bunisi", place.bot.id)]
    )
    assert late == 0
    for q in ("oldin", "unisi", "bunisi"):
        assert await place.found(q) == {"Ikkovlon"}, q
    # What was deleted meanwhile leaves nothing behind.
    gone = models.ConversationDue(conversation_id=new_id(), message_id=new_id())
    async with site.core.db.write() as session:
        session.add(gone)
    note = finding.Note(gone.id, gone.conversation_id, gone.message_id, False)
    assert await finding.store(site.core.db, [note], {}, [finding.Kept(None, note.conversation_id, "x", "y", "z")]) == 1
    assert await finding.catch_up(site.core.db) == 0


async def test_of_several_who_search_at_once_one_reads(place: Place, site: Site) -> None:
    for number in range(3):
        await place.talk(f"Birga {number}", "baravar")
    written: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM conversation_dues"):
            written.append(statement)

    engine = site.core.db.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        found = await asyncio.gather(*(place.found("baravar") for _ in range(4)))
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert found == [{f"Birga {number}" for number in range(3)}] * 4
    assert len(written) == 1


async def test_a_long_conversation_is_read_whole(place: Place, site: Site) -> None:
    talk = await place.talk("Uzun")
    async with site.core.db.write() as session:
        rows = (
            models.Message(conversation_id=talk.id, author="customer", text=f"gap{number}x") for number in range(450)
        )
        session.add_all(rows)
    while await finding.catch_up(site.core.db):
        pass
    for q in ("gap0x", "gap449x", "gap200x gap201x"):
        assert await place.found(q) == {"Uzun"}
