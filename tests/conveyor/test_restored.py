"""After a restore into the other kind of database nothing is sent again, webhooks are set again, and customers are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, select

from db import models
from db.base import utcnow
from services import backups, conversations, endpoints, letters, notices, restoring, support
from tests.composition import make_shop
from tests.conveyor.harness import Floor, Tenant, floor, new_token, settings_for
from tests.conveyor.owners import Owner, owner
from tests.conveyor.receiver import Receiver
from tests.conveyor.test_webhook_mode import PUBLIC
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeBot, FakeTelegram, FakeUser
from tests.servers import Run, free_port

Fakes = tuple[FakeTelegram, FakeModels]


@pytest.fixture(params=[("sqlite", "postgresql"), ("postgresql", "sqlite")], ids="-".join)
def two_urls(request: pytest.FixtureRequest, servers_run: Run, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A database of each kind, the second one without tables."""
    old, new = request.param
    folders = tmp_path / "old", tmp_path / "new"
    for folder in folders:
        folder.mkdir()
    with (
        servers_run.database(old, folders[0]) as first,
        servers_run.database(new, folders[1], migrated=False) as second,
    ):
        yield first, second


@asynccontextmanager
async def _place(folder: Path, url: str, fakes: Fakes, factory: FakeBot, role: str = "all") -> AsyncIterator[Floor]:
    """Start an installation to which Telegram delivers."""
    fake, fake_models = fakes
    port = free_port()
    fake.route(PUBLIC, f"http://127.0.0.1:{port}")
    given = {"WEBHOOK_BASE_URL": PUBLIC, "PORT": str(port), "TELEGRAM_BOT_TOKEN": factory.token}
    told = {"addresses": "any", "timeout_s": 5}
    async with floor(folder, url, fake, fake_models, role=role, environment=given, webhooks=told) as place:
        yield place


async def _leave_waiting(place: Floor, shop: Tenant, led: FakeUser, asks: FakeUser, hears: str) -> None:
    """Leave in every queue something that only a worker sends."""
    core, now = place.core, utcnow()
    async with core.db.write() as session:
        user = shop.shop.owner
        admin = models.User(role="admin", email="boss@example.uz", full_name="Boss")
        session.add(admin)
        contact = models.Contact
        talk_of = select(models.Conversation).join(contact).where(contact.external_id == str(led.id))
        talk = (await session.scalars(talk_of)).one()
        row = await conversations.get(session, user, talk.id)
        await conversations.operator_reply(session, row, "Qo‘ng‘iroq qilamiz", author=user)
        session.add(models.PanelSession(id="c" * 64, user_id=user.id, expires_at=now.replace(year=now.year + 1)))
        texts = {"uz": "20 % chegirma", "ru": "20 %", "en": "20 %"}
        sent = {"status": "sending", "started_at": now, "run_at": now, "cursor": None, "chosen": 1}
        broadcast = models.Broadcast(bot_id=shop.shop.bot.id, title="Aksiya", texts=texts, **sent)
        session.add(broadcast)
        await session.flush()
        other = await session.scalar(select(contact.id).where(contact.external_id == str(asks.id)))
        session.add(models.BroadcastDelivery(broadcast_id=broadcast.id, contact_id=other))
        wanted = tuple(endpoints.EVENTS)
        endpoint, _ = await endpoints.create(session, core.settings, core.crypto, user, url=hears, events=wanted)
        await endpoints.send_test(session, user, endpoint.id)
        facts = {"day": {"day": now.isoformat()}, "path": "/settings/delete"}
        await letters.write(session, user.id, "deletion", key="deletion:x", now=now, params=facts)
        await notices.open_notice(session, user.id, "document_failed", key="d", params={"document": "narx.pdf"})
        await support.answer(session, admin, user.id, "Yordam beramiz", source=None, now=now)


def _heard(fake: FakeTelegram, person: Owner, *customers: FakeUser, bot: FakeBot) -> list[list[str]]:
    return [person.heard(), *([sent.text for sent in fake.messages(each.id, bot)] for each in customers)]


async def test_nothing_is_sent_again(tmp_path: Path, two_urls: tuple[str, str], fakes: Fakes) -> None:
    fake, _ = fakes
    factory, bot = fake.add_bot(new_token()), fake.add_bot(new_token())
    old, new = tmp_path / "old", tmp_path / "new"
    async with Receiver() as server:
        begin = partial(_place, fakes=fakes, factory=factory)
        async with begin(old, two_urls[0]) as place:
            person = await owner(place, factory)
            shop = Tenant(fake, bot, await make_shop(place.core, email=person.email, telegram=bot.token))
            await fake.wait_until(lambda: bot.webhook_url)
            led, asks = shop.person(), shop.person()
            shop.ask(led)
            shop.ask(asks)
            await shop.answered()
        async with begin(old, two_urls[0], role="web") as place:
            number = shop.ask(asks)
            await place.until(lambda: place.one(select(models.InboxItem.id).where(models.InboxItem.status == "new")))
            await _leave_waiting(place, shop, led, asks, server.url)
        file = tmp_path / "all.zip"
        await asyncio.to_thread(backups.write, settings_for(old, two_urls[0], *fakes), file)
        # The installation goes on after the backup, and all of it goes out.
        async with begin(old, two_urls[0]) as place:
            await shop.answered([number])
            for customer, words in ((led, "Qo‘ng‘iroq qilamiz"), (asks, "20 % chegirma")):
                await fake.wait_message(customer.id, words, bot=bot, timeout=30)
            for words in ("Yordam beramiz", "will be deleted"):
                place.core.bell.ring("notices")
                await fake.wait_message(person.number, words, bot=factory, timeout=30)
            await server.hears(2)

        said: list[str] = []
        settings = settings_for(new, two_urls[1], *fakes)
        done = await restoring.restore(settings, file, said.append)
        assert {"messages that waited to be sent", "broadcasts stopped", "letters that waited"} <= done.ended.keys()
        assert done.ended["messages of customers without an answer"] == 1
        heard = _heard(fake, person, led, asks, bot=bot)
        hooks = len(fake.called("setWebhook", bot))
        async with begin(new, two_urls[1]) as place:
            await fake.wait_call("setWebhook", bot=bot, times=hooks + 1)
            assert bot.webhook_url.startswith(PUBLIC)
            # Somebody new is answered, and so is whoever waited, when they write again.
            other = shop.person()
            for each in (other, asks):
                await shop.answered([shop.ask(each)])
            for model, state, waits in (
                (models.Job, models.Job.status, "new"),
                (models.InboxItem, models.InboxItem.status, "new"),
                (models.OutboxItem, models.OutboxItem.status, "queued"),
                (models.Letter, models.Letter.telegram, "new"),
                (models.EndpointEvent, models.EndpointEvent.status, "waiting"),
                (models.SupportMessage, models.SupportMessage.telegram, "waiting"),
            ):
                left = select(func.count()).select_from(model).where(state == waits)

                async def none(left: object = left) -> bool:
                    return not await place.one(left)

                await place.until(none, 30)
            now = _heard(fake, person, led, asks, bot=bot)
            assert now[:2] == heard[:2]
            assert len({each.id for each in server.told}) == len(server.told)
            assert sum(f"bormi №{number}" in each.raw for each in server.told) == 1
            assert now[2][:-1] == heard[2]
            statuses = await place.rows(
                select(models.Message.text, models.Message.status).where(models.Message.text.contains(f"№{number}"))
            )
            assert [status for _, status in statuses] == ["skipped"]
            reply = select(models.Message.status).where(models.Message.text == "Qo‘ng‘iroq qilamiz")
            assert await place.one(reply) == "unknown"
            row = (await place.rows(select(models.Broadcast.status, models.Broadcast.reason)))[0]
            assert tuple(row) == ("stopped", "restored")
            assert not await place.one(select(models.Notice.id).where(models.Notice.told_at.is_(None)))
            assert not await place.one(select(models.PanelSession.id))
            assert await place.one(select(models.AuditLog.action).where(models.AuditLog.action == "backup_restored"))
