"""Settings: the file below the environment, and one clear line for each fault."""

from __future__ import annotations

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
    values = tomllib.loads(text)
    assert FileSettings.model_validate(values).model_dump(exclude={"ai"}) == FileSettings().model_dump(exclude={"ai"})
    for section, model in FileSettings().model_dump().items():
        assert set(model) - {"models", "roles", "own_key"} <= set(values[section]), section
    comments = [line for line in text.splitlines() if "=" in line and line[0].isalpha() and "#" not in line]
    assert all(line.split("=")[0].strip() in ("fast", "balanced", "strong", "effort") for line in comments), comments


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
    settings = _read(tmp_path, env="PAYME_KEY=x\nMAIL_PORT=\n", INSTAGRAM_APP_SECRET=CANARY)
    assert settings.unused == ("INSTAGRAM_APP_SECRET", "PAYME_KEY")
    assert CANARY not in repr(settings)


def test_a_missing_file_is_a_clear_fault(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"config\.toml: the file is missing"):
        read_settings(tmp_path / "config.toml", environment={}, env_file=None)
