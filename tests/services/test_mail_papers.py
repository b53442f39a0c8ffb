"""A receipt in a mail: attached as it is, beside the words."""

from __future__ import annotations

import datetime as dt
from email import message_from_bytes, policy

from services.mail import Mail, Server, compose


def test_a_paper_goes_with_the_words() -> None:
    server = Server("localhost", 25, "optional", None, None, "bot@example.uz", "BotFactory", 1)
    pdf = b"%PDF-1.7\r\n" + bytes(range(256)) * 20
    at = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
    mail = Mail("a@example.uz", "Chek", "O‘qing", "<p>O‘qing</p>", "1@x", at, paper=("receipt-1.pdf", pdf))
    wire = compose(server, mail)
    assert wire.isascii()
    read = message_from_bytes(wire, policy=policy.default)
    (paper,) = read.iter_attachments()
    assert paper.get_filename() == "receipt-1.pdf" and paper.get_content_type() == "application/pdf"
    assert paper.get_content() == pdf
    body = read.get_body(("plain",))
    assert body is not None and body.get_content().strip() == "O‘qing"
