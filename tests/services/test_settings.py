"""Settings: the file below the environment, and one clear line for each fault."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from services.settings import ROOT, FileSettings, Settings, SettingsError, read_settings

CANARY = "CANARY_9f3b_not_a_key"
TOKEN = "7700000001:AAH_not_a_real_token_at_all_0000000"


def _read(tmp_path: Path, toml: str = "", env: str | None = None, **environment: str) -> Settings:
    config = tmp_path / "config.toml"
    config.write_text(toml)
    env_file = None
    if env is not None:
        env_file = tmp_path / ".env"
        env_file.write_text(env)
    return read_settings(config, environment=environment, env_file=env_file)


def _faults(tmp_path: Path, toml: str = "", env: str | None = None, **environment: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        _read(tmp_path, toml, env, **environment)
    assert not any(CANARY in line for line in caught.value.lines)
    return caught.value.lines


def test_the_file_in_the_repository_holds_every_key_with_its_default() -> None:
    text = (ROOT / "config.toml").read_text()
    written, usual = FileSettings.model_validate(tomllib.loads(text)), FileSettings()
    tables = {"ai": {"roles", "models"}}
    assert written.model_dump(exclude=tables) == usual.model_dump(exclude=tables)
    # What has no default stands there behind a "# ", and may be used as it stands.
    values = tomllib.loads(re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE))
    whole = FileSettings.model_validate(values).ai.models["gpt-6-luna"].model_dump()
    assert whole.keys() == values["ai"]["models"]["gpt-6-luna"].keys() and None not in whole.values()
    for section, model in usual.model_dump().items():
        assert model.keys() == values[section].keys(), section
    # Each key is explained where it stands first.
    assigned = re.findall(r"^(?:# )?(\w+) = (.*)$", text, flags=re.MULTILINE)
    first = dict(reversed(assigned))
    assert {key for key, rest in first.items() if "#" not in rest} <= {
        *("fast", "balanced", "strong", "transcribe", "vision", "effort"),
        *("days", "months", "discount_percent"),
    }


def test_environment_over_env_file_over_file(tmp_path: Path) -> None:
    settings = _read(tmp_path, "[server]\nport = 1\nhost = 'a'\n", "PORT=2\nHOST=b\n", PORT="3", GEMINI_API_KEY="")
    assert (settings.server.port, settings.server.host) == (3, "b")
    assert settings.model_key("gemini") is None
    assert settings.database_url == "sqlite:///data/botfactory.db"


def test_a_platform_that_sets_the_port_gets_all_interfaces_and_its_address(tmp_path: Path) -> None:
    settings = _read(tmp_path, PORT="10000", RENDER_EXTERNAL_URL="https://x.onrender.com/")
    assert settings.server.host == "0.0.0.0"
    assert settings.public_url == "https://x.onrender.com"
    assert _read(tmp_path, "[server]\nport = 9\n").public_url == "http://localhost:9"


def test_secrets_never_show(tmp_path: Path) -> None:
    settings = _read(tmp_path, GEMINI_API_KEY=CANARY, TELEGRAM_BOT_TOKEN=TOKEN, ADMIN_PASSWORD=CANARY)
    assert CANARY not in repr(settings) and TOKEN not in str(settings)
    assert CANARY not in settings.model_dump_json()
    assert settings.model_key("gemini") == CANARY


@pytest.mark.parametrize(
    ("toml", "wanted"),
    [
        ("[server\n", ["config.toml:"]),
        ("[sever]\nport = 1\n", ["config.toml: sever is not a setting; did you mean server?"]),
        ("[server]\nprot = 1\n", ["config.toml: server.prot is not a setting; did you mean port?"]),
        ("[server]\nport = 'x'\n", ["config.toml: server.port:"]),
        ("[server]\nport = 70000\n", ["config.toml: server.port:"]),
        ("[queue]\njobs = 0\nlease_s = -1\n", ["config.toml: queue.jobs:", "config.toml: queue.lease_s:"]),
        ("[ai.roles]\nfast = ['gpt']\n", ["config.toml: ai.roles"]),
        ("[ai]\nrole = 'wise'\n", ["config.toml: ai"]),
        (f"[secrets]\ngemini_api_key = '{CANARY}'\n", ["config.toml: secrets belong"]),
        ("server = 5\n", ["config.toml: server"]),
        # A poll that does not wait would be asked again at once, for ever.
        ("[telegram]\npoll_timeout_s = 0\n", ["config.toml: telegram.poll_timeout_s:"]),
        ("[server]\nhost = ''\n", ["config.toml: server.host:"]),
        ("[server]\nport = true\n", ["config.toml: server.port: cannot be true or false"]),
        ("[server]\npublic_url = 'example.uz'\n", ["config.toml: server.public_url: must be an address like"]),
        ("[server]\npublic_url = 'ftp://x'\n", ["config.toml: server.public_url: must be an address like"]),
        ("[queue]\nmax_age_h = inf\n", ["config.toml: queue.max_age_h:"]),
        ("[queue]\nmax_age_h = 1e300\n", ["config.toml: queue.max_age_h:"]),
        ("[telegram]\nmessages_per_second = inf\n", ["config.toml: telegram.messages_per_second:"]),
        ("[telegram]\nsilent_after_s = nan\n", ["config.toml: telegram.silent_after_s:"]),
        ("[ai]\nunknown_price_in = '-5'\n", ["config.toml: ai.unknown_price_in:"]),
        ("[ai]\nunknown_price_out = 'Infinity'\n", ["config.toml: ai.unknown_price_out:"]),
        ("[ai.models.x]\nprice_in = -1\nprice_out = 1\n", ["config.toml: ai.models.x.price_in:"]),
        ("[ai.models.x]\nprice_in = 1\n", ["config.toml: ai.models.x: price_in and price_out go together"]),
        ("[ai.models.x]\nprice_cached = 1\n", ["config.toml: ai.models.x: price_in and price_out go together"]),
        ("[ai.models.x]\ncontext_tokens = 0\n", ["config.toml: ai.models.x.context_tokens:"]),
    ],
)
def test_a_line_for_each_fault_of_the_file(tmp_path: Path, toml: str, wanted: list[str]) -> None:
    faults = _faults(tmp_path, toml)
    assert len(faults) == len(wanted)
    assert all(line.startswith(begin) for line, begin in zip(faults, wanted, strict=True)), faults


def test_faults_of_the_environment_are_named_and_not_shown(tmp_path: Path) -> None:
    assert _faults(tmp_path, TELEGRAM_BOT_TOKEN=CANARY)[0].startswith("TELEGRAM_BOT_TOKEN:")
    assert _faults(tmp_path, WEBHOOK_BASE_URL=f"ftp://{CANARY}")[0].startswith("WEBHOOK_BASE_URL:")
    assert _faults(tmp_path, PORT=CANARY)[0].startswith("PORT:")
    assert _faults(tmp_path, ADMIN_TELEGRAM_IDS=f"1,{CANARY}")[0].startswith("ADMIN_TELEGRAM_IDS")
    assert len(_faults(tmp_path, PORT=CANARY, TELEGRAM_BOT_TOKEN=CANARY)) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", f"redis://localhost:{CANARY}"),
        ("REDIS_URL", f"redis://[{CANARY}"),
        ("REDIS_URL", f"redis://localhost?{CANARY}=1"),
        ("REDIS_URL", "redis://localhost?protocol=9"),
        ("WEBHOOK_BASE_URL", f"https://example.uz:{CANARY}"),
        ("WEBHOOK_BASE_URL", f"https://example.uz/?a={CANARY}"),
        ("WEBHOOK_BASE_URL", f"https://example.uz/#{CANARY}"),
        ("WEBHOOK_BASE_URL", f"https://[{CANARY}"),
        ("TELEGRAM_API_BASE", f"http://localhost:{CANARY}"),
        ("TELEGRAM_API_BASE", f"http://local host/{CANARY}"),
        ("GEMINI_BASE_URL", f"http://localhost:{CANARY}"),
        ("OPENAI_BASE_URL", f"http://localhost:{CANARY}"),
        ("ANTHROPIC_BASE_URL", "http://localhost:99999"),
        ("TELEGRAM_BOT_TOKEN", "7700000001:AAH/../not_a_real_token_at_all"),
        ("ADMIN_TELEGRAM_IDS", "12, 9999999999999999999999999"),
    ],
)
def test_an_address_or_name_that_nothing_could_use(tmp_path: Path, name: str, value: str) -> None:
    faults = _faults(tmp_path, **{name: value})
    assert len(faults) == 1 and faults[0].startswith(f"{name}: "), faults


def test_addresses_that_are_used_as_they_stand(tmp_path: Path) -> None:
    for value in ("redis://:word@localhost:6379/0", "rediss://h:1/0?ssl_cert_reqs=none", "unix:///run/redis.sock?db=2"):
        assert _read(tmp_path, REDIS_URL=value).secrets.redis_url is not None
    assert _read(tmp_path, WEBHOOK_BASE_URL="https://[::1]:8443/bots/").public_url == "https://[::1]:8443/bots"
    assert _read(tmp_path, "[server]\npublic_url = 'https://бот.uz/'\n").public_url == "https://бот.uz"


def test_lines_of_env_are_read_as_they_stand(tmp_path: Path) -> None:
    lines = "\ufeff# hello\nADMIN_PASSWORD='Qw${NOPE}erty$9'\nexport SECRET_KEY=${PATH}\n\nHOST=\n"
    secrets = _read(tmp_path, env=lines).secrets
    assert secrets.admin_password is not None and secrets.admin_password.get_secret_value() == "Qw${NOPE}erty$9"
    assert secrets.secret_key is not None and secrets.secret_key.get_secret_value() == "${PATH}"


def test_lines_of_env_that_set_nothing_are_named(tmp_path: Path) -> None:
    lines = f"HOST=a\n\nTELEGRAM_BOT_TOKEN {CANARY}\n={CANARY}\n\n\nADMIN_PASSWORD\nPORT=1\n"
    assert _faults(tmp_path, env=lines) == [f".env: line {n} must be written NAME=value" for n in (3, 4, 7)]


@pytest.mark.parametrize("name", [".env", "config.toml"])
def test_a_file_that_cannot_be_read_is_a_clear_fault(tmp_path: Path, name: str) -> None:
    def faults() -> list[str]:
        with pytest.raises(SettingsError) as caught:
            read_settings(tmp_path / "config.toml", environment={}, env_file=tmp_path / ".env")
        return caught.value.lines

    (tmp_path / "config.toml").write_text("")
    (tmp_path / name).write_bytes("# изоҳ\n".encode("cp1251", "replace"))
    assert faults() == [f"{name}: is not UTF-8 text; save it as UTF-8"]
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert faults() == [f"{name}: cannot be read: Is a directory"]


def test_a_misspelt_name_in_env_is_told_and_later_names_are_not(tmp_path: Path) -> None:
    assert _faults(tmp_path, env=f"GEMINI_API_KEI={CANARY}\n") == [
        ".env: GEMINI_API_KEI is not a setting; did you mean GEMINI_API_KEY?"
    ]
    assert _read(tmp_path, env="PAYME_KEY=x\nSESSION_SECRET=abc\n").secrets.secret_key is not None


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    toml = f"[queue]\njobs = 0\n[sever]\nport = 1\n[secrets]\nsecret_key = '{CANARY}'\n"
    faults = _faults(tmp_path, toml, env=f"GEMINI_API_KEI={CANARY}\nPORT={CANARY}\n", TELEGRAM_BOT_TOKEN=CANARY)
    begins = ["config.toml: secrets ", ".env: GEMINI_API_KEI ", "PORT: ", "config.toml: queue.jobs: "]
    begins += ["config.toml: sever ", "TELEGRAM_BOT_TOKEN: "]
    assert len(faults) == len(begins)
    assert all(sum(line.startswith(begin) for line in faults) == 1 for begin in begins), faults


def test_what_nothing_uses_yet_is_known(tmp_path: Path) -> None:
    settings = _read(tmp_path, env="PIKA_API_KEY=x\nRUNWAY_API_KEY=\n", IDEOGRAM_API_KEY=CANARY)
    assert settings.unused == ("IDEOGRAM_API_KEY", "PIKA_API_KEY")
    assert CANARY not in repr(settings)


PUBLIC = {
    "PORT": "9090",
    "HOST": "127.0.0.2",
    "DATA_DIR": "/srv/botfactory",
    "DATABASE_URL": "postgresql://bot:x@db.example.uz/bot",
    "REDIS_URL": "redis://redis.example.uz:6379/1",
    "SECRET_KEY": "a-secret-key-of-the-panel-0001",
    "ENCRYPTION_KEYS": "bm90LWEtcmVhbC1rZXktYnV0LWFzLWxvbmctYXMtb25lLSE=",
    "WEBHOOK_BASE_URL": "https://bot.example.uz",
    "TELEGRAM_BOT_TOKEN": "123456789:AAHnot-a-real-token-but-as-long-as-1",
    "ADMIN_EMAIL": "admin@example.uz",
    "ADMIN_PASSWORD": "chinor-2026-parol",
    "ADMIN_TELEGRAM_IDS": "900000001",
    "GEMINI_API_KEY": "gemini-key",
    "OPENAI_API_KEY": "openai-key",
    "ANTHROPIC_API_KEY": "anthropic-key",
    "TELEGRAM_API_BASE": "https://telegram.example.uz",
    "META_GRAPH_BASE": "https://graph.example.uz",
    "INSTAGRAM_GRAPH_BASE": "https://graph2.example.uz",
    "GEMINI_BASE_URL": "https://gemini.example.uz",
    "OPENAI_BASE_URL": "https://openai.example.uz",
    "ANTHROPIC_BASE_URL": "https://anthropic.example.uz",
    "WHATSAPP_ACCESS_TOKEN": "EAAnot-a-real-token-1",
    "WHATSAPP_PHONE_NUMBER_ID": "100000000000101",
    "WHATSAPP_APP_SECRET": "meta-app-secret-1",
    "WHATSAPP_VERIFY_TOKEN": "verify-me-1",
    "INSTAGRAM_ACCESS_TOKEN": "IGAAnot-a-real-token-1",
    "INSTAGRAM_APP_SECRET": "instagram-app-secret-1",
    "INSTAGRAM_VERIFY_TOKEN": "verify-me-2",
    "MAIL_SERVER": "smtp.gmail.com",
    "MAIL_PORT": "587",
    "MAIL_USERNAME": "botfactory@example.uz",
    "MAIL_PASSWORD": "abcd efgh ijkl mnop",
    "PAYME_MERCHANT_ID": "65f0c0ffee0000000000a001",
    "PAYME_KEY": "payme-key",
    "PAYME_TEST_KEY": "payme-test-key",
    "CLICK_SERVICE_ID": "31999",
    "CLICK_MERCHANT_ID": "20999",
    "CLICK_MERCHANT_USER_ID": "4999",
    "CLICK_SECRET_KEY": "click-test-secret-0001",
    "UZUM_SERVICE_ID": "101999",
    "UZUM_USERNAME": "uzum-test",
    "UZUM_PASSWORD": "uzum-test-password-01",
}
"""The public names that are used, as users set them."""
PUBLIC_LATER = "REPLICATE_API_KEY IDEOGRAM_API_KEY RUNWAY_API_KEY PIKA_API_KEY GOOGLE_VEO_API_KEY".split()


def _said(settings: Settings, name: str) -> str:
    """Return what came of an environment variable."""
    places = {"PORT": settings.server, "HOST": settings.server, "TELEGRAM_API_BASE": settings.telegram}
    place = (places | {"META_GRAPH_BASE": settings.meta, "INSTAGRAM_GRAPH_BASE": settings.meta}).get(name)
    key = {
        "TELEGRAM_API_BASE": "api_base",
        "META_GRAPH_BASE": "graph_base",
        "INSTAGRAM_GRAPH_BASE": "instagram_graph_base",
    }.get(name, name.lower())
    value = getattr(place or settings.secrets, key)
    value = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).rstrip("/")


@pytest.mark.parametrize("by_file", [True, False])
def test_every_public_name_is_understood(tmp_path: Path, by_file: bool) -> None:
    given = PUBLIC | dict.fromkeys(PUBLIC_LATER, "x")
    lines = "".join(f"{name}={value}\n" for name, value in given.items())
    settings = _read(tmp_path, env=lines) if by_file else _read(tmp_path, **given)
    assert {name: _said(settings, name) for name in PUBLIC} == PUBLIC
    assert settings.unused == tuple(sorted(PUBLIC_LATER))
    alias = _read(tmp_path, env="SESSION_SECRET=a-secret-key-of-the-panel-0002\n")
    assert _said(alias, "SECRET_KEY") == "a-secret-key-of-the-panel-0002"


def test_a_missing_file_is_a_clear_fault(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"config\.toml: the file is missing"):
        read_settings(tmp_path / "config.toml", environment={}, env_file=None)
