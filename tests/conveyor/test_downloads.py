"""Files that Telegram does not give: whoever sent one hears of it, and the talk with the factory bot goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from db import models
from services.channels.base import Away, FilesOnDisk, Refused
from services.channels.telegram import TelegramApi
from services.errors import Temporary
from services.http import make_session
from services.i18n import translate
from tests.conveyor.harness import floor, new_token
from tests.conveyor.owners import owner
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram
from tests.servers import free_port

Fakes = tuple[FakeTelegram, FakeModels]
CONTENT = "Savol: Narxi qancha?\nJavob: 5 000 so‘m.".encode()


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_file_that_is_not_there_is_said_and_the_talk_goes_on(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, status: int
) -> None:
    fake, _ = fakes
    factory = fake.add_bot(new_token())
    async with floor(tmp_path, sqlite_url, *fakes, environment={"TELEGRAM_BOT_TOKEN": factory.token}) as place:
        told = await owner(place, factory)
        await place.tenant(email=told.email)
        person = fake.user(told.number)
        gone = fake.fail(status, bot=factory, method="file", times=None)
        person.send_document(factory, "narxlar.txt", CONTENT)
        again = translate("en", "Telegram no longer has this file. Please send it again.")
        await fake.wait_message(told.number, again, bot=factory)
        person.send(factory, "/help")
        await fake.wait_message(told.number, "/newbot", bot=factory)
        assert gone.hits == 1


@pytest.fixture
async def api(telegram: FakeTelegram) -> AsyncIterator[TelegramApi]:
    """A client of the fake that waits for a file no longer than a moment."""
    session = make_session()
    yield TelegramApi(session, telegram.base_url, download_timeout_s=0.2)
    await session.close()


def _file(telegram: FakeTelegram) -> tuple[str, str]:
    bot = telegram.add_bot(new_token())
    return bot.token, telegram.store(bot, "documents", "narxlar.txt", "text/plain", CONTENT).file_id


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, Refused), (410, Refused), (302, Temporary), (429, Temporary), (500, Temporary), (502, Temporary)],
)
async def test_what_the_file_server_says(
    telegram: FakeTelegram, api: TelegramApi, status: int, error: type[Exception]
) -> None:
    token, file_id = _file(telegram)
    telegram.answer_with(status, b"no", method="file", times=1)
    with pytest.raises(error):
        await api.download(token, file_id, 1000)
    assert await api.download(token, file_id, 1000) == CONTENT


@pytest.mark.parametrize("method", ["file", "getFile"])
async def test_a_file_that_takes_too_long_is_no_outage(telegram: FakeTelegram, api: TelegramApi, method: str) -> None:
    token, file_id = _file(telegram)
    telegram.hold(method=method)
    with pytest.raises(TimeoutError):
        await api.download(token, file_id, 1000)


async def test_a_server_that_is_away_is_an_outage(telegram: FakeTelegram, api: TelegramApi) -> None:
    token, file_id = _file(telegram)
    telegram.cut("before", method="file", times=None)
    with pytest.raises(Temporary):
        await api.download(token, file_id, 1000)
    session = make_session()
    try:
        with pytest.raises(Away):
            await TelegramApi(session, f"http://127.0.0.1:{free_port()}").download(token, file_id, 1000)
    finally:
        await session.close()


async def test_a_server_that_keeps_files_on_its_disk_says_how_to_mend_it(
    telegram: FakeTelegram, api: TelegramApi
) -> None:
    token, file_id = _file(telegram)
    path = f"/var/lib/telegram-bot-api/{token}/documents/file_0.txt"
    answer = {"ok": True, "result": {"file_id": file_id, "file_unique_id": "u", "file_size": 9, "file_path": path}}
    telegram.answer_with(200, answer, method="getFile")
    with pytest.raises(FilesOnDisk, match="without --local"):
        await api.download(token, file_id, 1000)
    assert not telegram.called("file")


async def test_an_owner_hears_that_a_file_cannot_be_read_from_such_a_server(
    tmp_path: Path, sqlite_url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    factory = fake.add_bot(new_token())
    environment = {"TELEGRAM_BOT_TOKEN": factory.token}
    queue = {"max_attempts": 1, "idle_poll_s": 0.05}
    async with floor(tmp_path, sqlite_url, *fakes, environment=environment, queue=queue) as place:
        told = await owner(place, factory)
        await place.tenant(email=told.email)
        answer = {"ok": True, "result": {"file_id": "1", "file_unique_id": "u", "file_path": "/srv/file_0.txt"}}
        fake.answer_with(200, answer, bot=factory, method="getFile", times=None)
        person = fake.user(told.number)
        person.send_document(factory, "narxlar.txt", CONTENT)
        sorry = "Sorry, something went wrong with your last message 🙏 Please try again; /cancel begins anew."
        await fake.wait_message(told.number, translate("en", sorry), bot=factory)
        reasons = await place.rows(select(models.Notice.params).where(models.Notice.kind == "factory_failed"))
        assert {row.params["reason"] for row in reasons} == {"FilesOnDisk"}
        person.send(factory, "/help")
        await fake.wait_message(told.number, "/newbot", bot=factory)
