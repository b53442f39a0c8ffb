"""The room for an owner's files: what does not fit any more is not kept, everybody is told, and text goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from db import models
from services import outfiles, spending
from services.errors import TooLarge
from services.i18n import translate
from tests.conveyor.harness import Floor, floor
from tests.conveyor.test_media import answering, files_of
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]
NO_ROOM = (
    "I cannot take files at the moment 🙂 Please write your question in words. Write /operator to talk to a person."
)
LARGE = b"matn " * 130_000
"""650 KB of the one megabyte that there is."""


async def _kept(place: Floor) -> int:
    return int(await place.one(select(func.count()).select_from(models.AttachmentContent)))


async def test_what_does_not_fit_is_not_kept_and_text_goes_on(
    tmp_path: Path, database_url: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with floor(tmp_path, database_url, *fakes, role="all", media={"owner_files_mib": 1}) as place:
        place.models.reply = answering
        shop, other = await place.tenant(), await place.tenant("Boshqa")
        person = shop.person("en")
        person.send_document(shop.bot, "a.txt", LARGE, caption="Kafolat bormi?")
        await place.fake.wait_message(person.id, "№7", bot=shop.bot)
        # Said to be small or not, it is the content that counts; the words under it are answered all the same.
        for size in (None, 5):
            person.send_document(shop.bot, "b.txt", LARGE, size=size)
            await place.fake.wait_message(person.id, translate("uz", NO_ROOM), bot=shop.bot)
        person.send_document(shop.bot, "c.txt", LARGE, caption="Yetkazib berasizlarmi?")
        await place.fake.wait_message(person.id, "№7", bot=shop.bot)
        person.send(shop.bot, "Kafolat bormi?")
        await place.fake.wait_message(person.id, "№7", bot=shop.bot)
        assert [file.status for file in await files_of(place)] == ["stored", "no_room", "no_room", "no_room"]
        assert await _kept(place) == 1
        # The owner is told once, and it is this owner's room alone.
        told = [notice for notice in await place.notices(shop) if notice.kind == "files_full"]
        assert len(told) == 1 and told[0].params["size"] == "1"
        foreign = other.person("en")
        foreign.send_document(other.bot, "a.txt", LARGE, caption="Kafolat bormi?")
        await place.fake.wait_message(foreign.id, "№7", bot=other.bot)
        assert await _kept(place) == 2 and not await place.notices(other)
        # What a person sends needs room as well.
        talk = str(
            await place.one(select(models.Conversation.id).where(models.Conversation.bot_id == shop.shop.bot.id))
        )
        with pytest.raises(TooLarge, match="All the room"):
            await outfiles.prepare(place.core, "telegram", talk, "narx.txt", LARGE)
        # Where old files went there is room again, as soon as the rows are looked at.
        async with place.core.db.write() as session:
            await session.execute(update(models.Attachment).values(status="gone"))
        monkeypatch.setattr(spending, "STORED_REFRESH_S", 0.0)
        person.send_document(shop.bot, "d.txt", LARGE, caption="Kafolat bormi?")
        await place.fake.wait_message(person.id, "№7", bot=shop.bot)
        assert (await files_of(place))[-1].status == "stored"


async def test_the_rows_are_not_summed_up_for_every_file(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        place.models.reply = answering
        shop = await place.tenant()
        person = shop.person("en")
        sums: list[str] = []

        def hear(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if "sum(attachments.size)" in statement:
                sums.append(statement)

        event.listen(place.core.db.engine.sync_engine, "before_cursor_execute", hear)
        for number in range(3):
            person.send_document(shop.bot, f"{number}.txt", b"matn", caption="Kafolat bormi?")
            await place.fake.wait_message(person.id, "№7", bot=shop.bot)
        assert len(sums) == 1
        owner = shop.shop.owner.id
        assert await place.core.spending.stored(place.core, owner) == 12
