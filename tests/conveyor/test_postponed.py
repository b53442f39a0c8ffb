"""What the network keeps from being handled waits without losing an attempt, but not for ever."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from sqlalchemy import select, update

from db import models
from services.i18n import translate
from tests.conveyor.harness import floor, new_token
from tests.conveyor.owners import owner
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]
SORRY = "Sorry, something went wrong with your last message 🙏 Please try again; /cancel begins anew."


async def test_after_an_hour_an_update_is_set_aside_like_any_other(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    factory = fake.add_bot(new_token())
    quick = {"max_attempts": 1, "idle_poll_s": 0.05}
    settings = {"TELEGRAM_BOT_TOKEN": factory.token}
    async with floor(tmp_path, database_url, *fakes, environment=settings, queue=quick) as place:
        told = await owner(place, factory)
        await place.tenant(email=told.email)
        person = fake.user(told.number)
        away = fake.fail(502, bot=factory, method="file", times=None)
        person.send_document(factory, "narxlar.txt", b"Savol: Narxi qancha?\nJavob: 5 000 so'm.")
        person.send(factory, "/help")
        item = models.InboxItem

        async def postponed() -> bool:
            rows = await place.rows(select(item.attempts, item.error).where(item.status == "new").order_by(item.id))
            return away.hits > 0 and [row.attempts for row in rows] == [0, 0] and rows[0].error is not None

        await place.until(postponed)
        assert not fake.messages(told.number, factory)
        hours = dt.datetime.now(dt.UTC) - dt.timedelta(hours=2)
        async with place.core.db.write() as session:
            await session.execute(update(item).where(item.status == "new").values(received_at=hours))
            await session.execute(update(models.Lane).values(run_at=0))
        await fake.wait_message(told.number, translate("en", SORRY), bot=factory)
        await fake.wait_message(told.number, "/newbot", bot=factory)
        assert await place.rows(select(item.status).where(item.status == "dead")) == [("dead",)]
