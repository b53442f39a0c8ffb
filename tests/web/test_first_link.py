"""The link that the terminal prints: an administrator can always get in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bot
from services.settings import Settings
from tests.composition import address, make_settings
from tests.web.panel import PASSWORD, Browser


async def _start(settings: Settings, capsys: pytest.CaptureFixture[str], *fields: dict[str, str]) -> str:
    """Start once; follow the printed link, if there is one, and fill in these forms; return what was printed."""
    async with bot.composed(settings) as core:
        printed = capsys.readouterr().out
        found = re.search(r"/login/link\?token=(\S+)", printed)
        if found:
            browser = Browser(address(core))
            try:
                await browser.get(f"/login/link?token={found[1]}")
                assert (await browser.post("/login/link", token=found[1])).status == 303
                await browser.get("/settings")
                for form in fields:
                    path = form.pop("path")
                    answer = await browser.post(path, **form)
                    assert answer.status == 303, answer.visible()
            finally:
                await browser.close()
        return printed


async def test_an_administrator_without_a_password_gets_a_link_at_every_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(tmp_path)
    promise = "every start prints a new link until you have set a password"
    assert promise in await _start(settings, capsys)
    profile = {"path": "/settings/profile", "full_name": "Karim", "email": "karim@example.uz", "phone": ""}
    password = {"path": "/settings/password", "password": PASSWORD}
    assert promise in await _start(settings, capsys, profile, password)
    assert "/login/link?token=" not in await _start(settings, capsys)


async def test_an_administrator_with_a_password_gets_a_link_until_the_first_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(
        tmp_path, environment={"ADMIN_EMAIL": "karim@example.uz", "ADMIN_PASSWORD": "chinor-2026-parol"}
    )
    assert "every start prints a new link until you have signed in" in await _start(settings, capsys)
    assert "/login/link?token=" not in await _start(settings, capsys)
