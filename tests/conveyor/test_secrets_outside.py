"""What anybody can ask of the server tells no secret: health, readiness, numbers, and every page of an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import text

from services import crypto
from tests.composition import address
from tests.conveyor.harness import GEMINI_KEY, floor, new_token
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

PASSWORD, METRICS_TOKEN = "CANARY-password-1234", "CANARY-metrics-token-1234"
PRIVATE = "MAXFIY-XABAR"
ASKED = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/login",
    "/",
    "/nowhere",
    "/chat/nobody",
    "/bots/nothing",
    "/static/none.js",
)
API = ("/api/v1/bots", "/api/v1/bots/nothing", "/api/v1/nowhere")


@pytest.mark.shows_a_secret("Telegram itself names the token here; the program's log is cut by services/logs.py only")
async def test_no_secret_is_shown_by_any_page(
    tmp_path: Path, database_url: str, fakes: tuple[FakeTelegram, FakeModels]
) -> None:
    fake, fake_models = fakes
    keys, factory = crypto.new_fernet_key(), fake.add_bot(new_token())
    environment = {
        "ENCRYPTION_KEYS": keys,
        "SECRET_KEY": "CANARY_secret_of_the_installation_0123456789",
        "METRICS_TOKEN": METRICS_TOKEN,
        "TELEGRAM_BOT_TOKEN": factory.token,
        "ADMIN_EMAIL": "a@b.uz",
        "ADMIN_PASSWORD": PASSWORD,
    }
    async with floor(tmp_path, database_url, *fakes, role="all", environment=environment) as place:
        shop = await place.tenant()
        person = shop.person("uz")
        # Trouble of every kind leaves its traces in the numbers.
        fake_models.fail("key_revoked", times=1)
        shop.ask(person)
        await fake.wait_message(person.id, bot=shop.bot)
        fake.fail(400, f"Bad Request: {shop.bot.token}", bot=shop.bot, method="sendMessage", times=1)
        person.send(shop.bot, f"{PRIVATE} kafolat")
        await fake.wait_until(lambda: len(fake.called("sendMessage", shop.bot)) >= 2)
        shop.bot.revoke()
        await place.noticed(shop, "token_refused")
        tokens = [bot.token for bot in (shop.bot, factory)]
        hidden = [*tokens, *(token.split(":")[1] for token in tokens), shop.shop.token, shop.shop.channel.secret]
        hidden += [GEMINI_KEY, keys, environment["SECRET_KEY"], PASSWORD, METRICS_TOKEN, PRIVATE, "CANARY"]
        seen: dict[str, int] = {}

        def look(path: str, status: int, headers: object, body: str) -> None:
            seen[f"{path} {status}"] = seen.get(f"{path} {status}", 0) + 1
            for secret in hidden:
                assert secret not in body and secret not in str(headers), (path, status, secret[:12])

        hook = f"/telegram/webhook/{shop.shop.channel.id}"
        async with aiohttp.ClientSession(address(place.core)) as session:

            async def ask(method: str, path: str, **given: Any) -> None:
                async with session.request(method, path, allow_redirects=False, **given) as answer:
                    look(path.split("?")[0], answer.status, answer.headers, await answer.text(errors="replace"))

            async def ask_all() -> None:
                bearer = {"Authorization": f"Bearer {shop.shop.token}"}
                for path in ASKED:
                    await ask("GET", path)
                    await ask("DELETE", path)
                for path in API:
                    for headers in ({}, bearer, {"Authorization": f"Bearer {shop.shop.token}x"}):
                        await ask("GET", path, headers=headers)
                await ask("POST", "/api/v1/bots", headers=bearer, data=f'{{"name": "{PRIVATE}')
                await ask("POST", "/login", data={"email": "a@b.uz", "password": PASSWORD})
                await ask("GET", "/login/link?token=of-nobody")
                for secret in (shop.shop.channel.secret, shop.shop.token):
                    await ask("POST", hook, headers={"X-Telegram-Bot-Api-Secret-Token": secret}, data=PRIVATE)

            await ask_all()
            async with place.core.db.write() as unit:
                await unit.execute(text("ALTER TABLE bots RENAME TO away"))
                await unit.execute(text("ALTER TABLE users RENAME TO gone"))
            await ask_all()
            async with place.core.db.write() as unit:
                await unit.execute(text("ALTER TABLE gone RENAME TO users"))
                await unit.execute(text("ALTER TABLE away RENAME TO bots"))
        statuses = {entry.rpartition(" ")[2] for entry in seen}
        assert {"200", "303", "400", "401", "404", "405"} <= statuses
        assert statuses & {"500", "503"}
