"""``check`` tries every key that is set, with the models that would be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services import checks
from tests.composition import make_settings
from tests.fakes.graph import FakeGraph
from tests.fakes.instagram import FakeInstagram
from tests.fakes.models import FakeModels
from tests.fakes.smtp import FakeMail
from tests.servers import free_port

CHAIN = ["gemini:gemini-3.5-flash-lite"]


@pytest.fixture
async def models() -> AsyncIterator[FakeModels]:
    fake = FakeModels()
    await fake.start()
    yield fake
    await fake.stop()


async def _said(folder: Path, capsys: pytest.CaptureFixture[str], embedding: str, **environment: str) -> list[str]:
    overrides: dict[str, dict[str, Any]] = {
        "knowledge": {"embedding": embedding},
        "ai": {"roles": {"fast": CHAIN, "strong": ["anthropic:claude-opus-5-5"]}},
    }
    settings = make_settings(folder, environment=environment, overrides=overrides)
    # No model is needed to start.
    assert await checks.run(settings) == 0
    return [line for line in capsys.readouterr().out.splitlines() if "_API_KEY" in line]


async def test_keys_outside_the_chain_and_the_model_of_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], models: FakeModels
) -> None:
    addresses = {f"{kind.upper()}_BASE_URL": address for kind, address in models.base_urls.items()}
    keys = {f"{kind.upper()}_API_KEY": f"key-of-{kind}" for kind in models.base_urls}
    models.fail("key_revoked", provider="anthropic")
    said = await _said(tmp_path, capsys, "openai", **addresses, **keys)
    assert said[:4] == [
        "✓ GEMINI_API_KEY, gemini-3.5-flash-lite: answers",
        "– OPENAI_API_KEY is set, but the chain “fast” has no openai model",
        "✓ OPENAI_API_KEY, gpt-6-luna: answers",
        "– ANTHROPIC_API_KEY is set, but the chain “fast” has no anthropic model",
    ]
    assert said[4].startswith("✗ ANTHROPIC_API_KEY, claude-opus-5-5: ")
    assert said[5:] == ["✓ OPENAI_API_KEY, text-embedding-3-small: answers"]
    assert [(seen.provider, seen.kind) for seen in models.requests] == [
        ("gemini", "generate"),
        ("openai", "generate"),
        ("anthropic", "generate"),
        ("openai", "embed"),
    ]


async def test_a_search_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    said = await _said(tmp_path, capsys, "gemini", GEMINI_API_KEY="AIza-x", GEMINI_BASE_URL=nowhere)
    tried = [line.partition(":")[0] for line in said if line.startswith("✗")]
    assert tried == ["✗ GEMINI_API_KEY, gemini-3.5-flash-lite", "✗ GEMINI_API_KEY, gemini-embedding-001"]


OWN_APP = {"WHATSAPP_APP_SECRET": "meta-app-secret-01", "WHATSAPP_VERIFY_TOKEN": "verify-me-01"}
OWN_NUMBER = {"WHATSAPP_ACCESS_TOKEN": "EAACANARY_token_0123456789", "WHATSAPP_PHONE_NUMBER_ID": "100000000000101"}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, "– WHATSAPP_APP_SECRET is not set: owners connect their numbers by Meta apps of their own"),
        (OWN_APP, "✓ WHATSAPP_APP_SECRET and WHATSAPP_VERIFY_TOKEN: numbers can be connected through this app"),
        (
            {"WHATSAPP_APP_SECRET": "meta-app-secret-01"},
            "✗ half of the keys of WhatsApp: WHATSAPP_APP_SECRET without WHATSAPP_VERIFY_TOKEN",
        ),
        (
            OWN_NUMBER,
            "✗ half of the keys of WhatsApp: WHATSAPP_ACCESS_TOKEN, WHATSAPP_PHONE_NUMBER_ID without WHATSAPP_APP_SECRET, "
            "WHATSAPP_VERIFY_TOKEN",
        ),
        (
            OWN_APP | OWN_NUMBER,
            "✓ WHATSAPP_ACCESS_TOKEN: Chinor, +998 90 123 45 67; an administrator connects it on a bot’s",
        ),
        (OWN_APP | OWN_NUMBER | {"WHATSAPP_PHONE_NUMBER_ID": "100000000000999"}, "✗ WHATSAPP_ACCESS_TOKEN: 100: "),
        (OWN_APP | OWN_NUMBER | {"WHATSAPP_APP_SECRET": "of-another-app"}, "✗ WHATSAPP_ACCESS_TOKEN: 100: "),
        (OWN_APP | OWN_NUMBER | {"WHATSAPP_ACCESS_TOKEN": "EAAnobody"}, "✗ WHATSAPP_ACCESS_TOKEN: 190: "),
    ],
)
async def test_the_keys_of_the_installations_own_meta_app(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, str], line: str
) -> None:
    async with FakeGraph() as graph:
        number = graph.add_number(
            OWN_NUMBER["WHATSAPP_PHONE_NUMBER_ID"],
            token=OWN_NUMBER["WHATSAPP_ACCESS_TOKEN"],
            app_secret=OWN_APP["WHATSAPP_APP_SECRET"],
            waba_id="200000000000201",
            display_phone_number="+998 90 123 45 67",
            verified_name="Chinor",
        )
        settings = make_settings(tmp_path, environment={"META_GRAPH_BASE": graph.base_url, **given})
        assert await checks.run(settings) == 0
        said = capsys.readouterr().out
        (found,) = [each for each in said.splitlines() if "WHATSAPP_" in each]
        assert found.startswith(line)
        assert not any(value in said for value in (OWN_NUMBER["WHATSAPP_ACCESS_TOKEN"], "meta-app-secret-01"))
        # Looking changes nothing.
        assert not number.subscribed


OWN_INSTAGRAM_APP = {"INSTAGRAM_APP_SECRET": "meta-app-secret-01", "INSTAGRAM_VERIFY_TOKEN": "verify-me-01"}
OWN_INSTAGRAM = {"INSTAGRAM_ACCESS_TOKEN": "IGAACANARY_token_0123456789"}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, "– INSTAGRAM_APP_SECRET is not set: owners connect their accounts by Meta apps of their own"),
        (
            OWN_INSTAGRAM_APP,
            "✓ INSTAGRAM_APP_SECRET and INSTAGRAM_VERIFY_TOKEN: accounts can be connected through this app",
        ),
        (
            {"INSTAGRAM_VERIFY_TOKEN": "verify-me-01"},
            "✗ half of the keys of Instagram: INSTAGRAM_VERIFY_TOKEN without INSTAGRAM_APP_SECRET",
        ),
        (
            OWN_INSTAGRAM,
            "✗ half of the keys of Instagram: INSTAGRAM_ACCESS_TOKEN without INSTAGRAM_APP_SECRET, INSTAGRAM_VERIFY_TOKEN",
        ),
        (OWN_INSTAGRAM_APP | OWN_INSTAGRAM, "✓ INSTAGRAM_ACCESS_TOKEN: @texnosavdo; an administrator connects it"),
        (OWN_INSTAGRAM_APP | {"INSTAGRAM_ACCESS_TOKEN": "IGAAnobody"}, "✗ INSTAGRAM_ACCESS_TOKEN: 190: "),
    ],
)
async def test_the_keys_of_the_installations_own_instagram_account(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, str], line: str
) -> None:
    async with FakeInstagram() as host:
        account = host.add_account(
            "17840000000000001", token=OWN_INSTAGRAM["INSTAGRAM_ACCESS_TOKEN"], app_secret="meta-app-secret-01"
        )
        settings = make_settings(tmp_path, environment={"INSTAGRAM_GRAPH_BASE": host.base_url, **given})
        assert await checks.run(settings) == 0
        said = capsys.readouterr().out
        (found,) = [each for each in said.splitlines() if "INSTAGRAM_" in each]
        assert found.startswith(line)
        assert not any(value in said for value in (OWN_INSTAGRAM["INSTAGRAM_ACCESS_TOKEN"], "meta-app-secret-01"))
        # Looking changes nothing.
        assert not account.subscribed


async def test_the_mail_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def said(**environment: str) -> list[str]:
        settings = make_settings(tmp_path, environment=environment)
        assert await checks.run(settings) == 0
        return [line for line in capsys.readouterr().out.splitlines() if "MAIL_" in line]

    assert await said() == ["– MAIL_SERVER is not set: no letters by mail (codes, receipts, reminders), Telegram only"]
    async with FakeMail(account=("info@bots.example.uz", "right")) as mail:
        there = f"127.0.0.1:{mail.port}"
        assert await said(**mail.environment()) == [
            f"✓ MAIL_SERVER: {there} answers, signed in as info@bots.example.uz; letters come from info@bots.example.uz"
        ]
        refused = await said(**{**mail.environment(), "MAIL_PASSWORD": "wrong-password-1"})
        assert refused == ["✗ MAIL_SERVER: 535 5.7.8 Username and Password not accepted"]
        half = await said(MAIL_SERVER="127.0.0.1", MAIL_USERNAME="info@bots.example.uz")
        assert half == ["✗ MAIL_SERVER: MAIL_USERNAME is set without MAIL_PASSWORD"]
        gone = mail.environment()
    (away,) = await said(**gone)
    assert away.startswith("✗ MAIL_SERVER: SMTPConnectError")


async def test_the_gateways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def said(**environment: str) -> list[str]:
        assert await checks.run(make_settings(tmp_path, environment=environment)) == 0
        words = ("Payme", "Click", "Uzum", "gateway", "PAYME")
        return [
            line
            for line in capsys.readouterr().out.splitlines()
            if any(word in line for word in words) and str(tmp_path) not in line
        ]

    none = "– no payment gateway is set up: administrators grant plans and note payments by hand"
    assert await said() == [none]
    payme = {"PAYME_MERCHANT_ID": "65f0c0ffee0000000000a001", "PAYME_KEY": "CANARY-payme-key"}
    assert await said(**payme) == ["✓ Payme: owners can pay by it"]
    assert await said(PAYME_MERCHANT_ID="65f0c0ffee0000000000a001", PAYME_TEST_KEY="CANARY-payme-key") == [
        "✓ Payme: owners can pay by it",
        "– PAYME_TEST_KEY is set and no gateway takes money: payments of Payme's sandbox give plans",
    ]
    click = {"CLICK_SERVICE_ID": "31999", "CLICK_MERCHANT_ID": "20999", "CLICK_SECRET_KEY": "CANARY-click-key"}
    assert await said(**click, PAYME_MERCHANT_ID="65f0c0ffee0000000000a001", PAYME_TEST_KEY="CANARY-payme-key") == [
        "– PAYME_TEST_KEY is set without PAYME_KEY: Payme takes no money, administrators can try its sandbox",
        "✓ Click: owners can pay by it",
    ]
    half = await said(PAYME_MERCHANT_ID="65f0c0ffee0000000000a001", CLICK_SECRET_KEY="CANARY-click-key")
    assert half == [
        "✗ half of the keys of Payme: PAYME_KEY or PAYME_TEST_KEY is missing, so nobody can pay by it",
        "✗ half of the keys of Click: CLICK_SERVICE_ID, CLICK_MERCHANT_ID is missing, so nobody can pay by it",
        none,
    ]


@pytest.mark.parametrize(
    ("address", "trusted", "warned"),
    [
        ("https://panel.example.uz", 0, True),
        ("https://panel.example.uz", 1, False),
        ("http://localhost:8080", 0, False),
    ],
)
async def test_a_proxy_that_is_not_believed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str, trusted: int, warned: bool
) -> None:
    """TLS ends at a proxy: with none trusted everybody is one address, and a guesser shuts all others out."""
    overrides = {"server": {"trusted_proxies": trusted, "public_url": address}}
    assert await checks.run(make_settings(tmp_path, overrides=overrides)) == 0
    assert ("✗ [server] trusted_proxies is 0" in capsys.readouterr().out) is warned
