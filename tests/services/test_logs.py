"""What the program writes about itself never holds a secret."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from services.logs import hide, redact
from tests.servers import ROOT

TOKEN = "7700000001:AAHcanary_canary_canary_canary_00000"


@pytest.mark.parametrize(
    "text",
    [
        f"https://api.telegram.org/bot{TOKEN}/getMe",
        f"GET /file/bot{TOKEN}/documents/file_1.pdf",
        "https://generativelanguage.googleapis.com/v1?key=AIzaCANARY_key&alt=sse",
        "Authorization: Bearer sk-CANARY.abc-123",
    ],
)
def test_shapes_of_secrets_are_cut_out(text: str) -> None:
    shown = redact(text)
    assert "***" in shown and "canary" not in shown.lower()


def test_registered_secrets_are_cut_out_wherever_they_stand() -> None:
    hide("CANARY.with(regex)*signs", None, "", "abc")
    assert redact("x=CANARY.with(regex)*signs; abc") == "x=***; abc"


def test_of_secrets_that_overlap_nothing_is_left() -> None:
    hide("CANARY-one", "CANARY-one-and-more", "more-of-it", "Bearer-CANARY")
    assert redact("CANARY-one, CANARY-one-and-more; CANARY-one-and-more-of-it") == "***, ***; ***"
    assert redact("Bearer CANARY-one-and-else") == "***"
    assert redact(f"more-of-it{TOKEN}CANARY-one") == "******"
    assert redact("CANARY-on") == "CANARY-on"


def test_lines_of_every_library_are_json_with_an_id_and_without_secrets() -> None:
    program = textwrap.dedent(
        f"""
        import logging, structlog, warnings
        from services import logs
        logs.set_up("info", "json")
        logs.hide("CANARY-registered")
        structlog.contextvars.bind_contextvars(request_id="r-1")
        structlog.get_logger("ours").info("stored", token="{TOKEN}", text="CANARY-registered")
        structlog.get_logger("ours").debug("not_shown", text="private")
        logging.getLogger("aiohttp").error("failed for %s", "bot{TOKEN}/x")
        try:
            raise ValueError("CANARY-registered in an exception")
        except ValueError as error:
            structlog.get_logger("ours").error("broke", exc_info=error)
            logging.getLogger("lib").exception("broke too")
        """
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["stored", "failed for bot***/x", "broke", "broke too"]
    assert all(line["request_id"] == "r-1" and line["level"] and line["timestamp"] for line in lines)
    assert "canary" not in done.stderr.lower() and not done.stdout
