"""Letters by mail, to a real SMTP server: what arrives, and what becomes of what the server does not take."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from db import models
from services import accounts
from services import mail as smtp
from services.letters import rendering
from tests.composition import make_settings
from tests.fakes.smtp import FakeMail, certificate
from tests.letters.office import START, Clock, Office, office


async def test_a_letter_arrives_in_text_and_html_with_what_mail_programs_need(desk: Office, mail: FakeMail) -> None:
    person = await desk.person()
    await desk.write(person, "receipt", params={"number": "№ 7 <b>", "path": "/billing"})
    assert await desk.post.send_mail() == 1
    (letter,) = mail.to("aziza@example.uz")
    assert letter.sender == "info@bots.example.uz"
    assert letter.message["Subject"] == "Receipt № 7 <b>"
    assert letter.message["From"] == "BotFactory <info@bots.example.uz>"
    assert letter.message["To"] == "aziza@example.uz"
    assert letter.message["Date"].datetime == START
    assert letter.message["Auto-Submitted"] == "auto-generated"
    assert letter.message["List-Unsubscribe"] is None
    assert letter.raw.isascii()
    assert "Hello, Aziza!" in letter.part("plain")
    assert "https://bots.example.uz/billing" in letter.part("plain")
    assert "№ 7 &lt;b&gt;" in letter.part("html")
    assert "<script" not in letter.part("html")
    (row,) = await desk.letters(person)
    assert (row.mail, row.mail_attempts, row.sent_at) == ("sent", 1, START)
    assert letter.message["Message-ID"] == f"<{row.message_id}>"
    assert await desk.post.send_mail() == 0
    assert len(mail.letters) == 1


async def test_the_persons_language_and_own_words_of_an_administrator(desk: Office, mail: FakeMail) -> None:
    person = await desk.person(language="uz-Cyrl")
    async with desk.core.db.write() as session:
        for part, text in (("subject", "To‘landi: {number}"), ("text", "Rahmat, {name}! {number}")):
            session.add(models.LetterText(kind="receipt", language="uz", part=part, text=text))
    await desk.write(person, "receipt", params={"number": "12"})
    await desk.post.send_mail()
    (letter,) = mail.letters
    assert letter.message["Subject"] == "Тўланди: 12"
    assert "Раҳмат, Aziza! 12" in letter.part("plain")


async def test_many_letters_share_a_connection(desk: Office, mail: FakeMail) -> None:
    people = [await desk.person(f"Owner{n}") for n in range(5)]
    for person in people:
        await desk.write(person, "receipt", params={"number": "1"})
    assert await desk.post.send_mail() == 5
    assert mail.connections == 1


async def test_who_is_not_there_is_written_to_no_more_until_the_address_changes(desk: Office, mail: FakeMail) -> None:
    gone, other = await desk.person("Gone"), await desk.person("Other")
    mail.replies["gone@example.uz"] = "550 5.1.1 No such user here"
    for person in (gone, other):
        await desk.write(person, "receipt", params={"number": "1"})
    await desk.post.send_mail()
    assert len(mail.to("other@example.uz")) == 1
    (row,) = await desk.letters(gone)
    assert row.mail == "bounced"
    assert "5.1.1" in row.mail_error
    account = await desk.account(gone)
    assert account.mail_refused_at == START
    mail.replies.clear()
    await desk.write(gone, "receipt", "2", params={"number": "2"})
    await desk.post.send_mail()
    assert [letter.mail for letter in await desk.letters(gone)] == ["bounced", "none"]
    async with desk.core.db.write() as session:
        await accounts.update_profile(
            session, await session.get_one(models.User, gone.id), full_name="Gone", email="back@example.uz", phone=""
        )
    await desk.write(gone, "receipt", "3", params={"number": "3"})
    await desk.post.send_mail()
    assert len(mail.to("back@example.uz")) == 1


@pytest.mark.parametrize(
    ("kind", "state"), [("reset", "none"), ("email_changed", "none"), ("confirm_email", "new"), ("change_email", "new")]
)
async def test_only_the_person_s_own_proof_goes_to_an_address_that_bounced(
    desk: Office, mail: FakeMail, kind: str, state: str
) -> None:
    """Whoever asks for a link for a forgotten password writes nothing there, though that letter names the address itself."""
    person = await desk.person(mail_refused_at=START)
    secret = {"code": "424242", "path": "/email/confirm?token=x"}
    await desk.write(person, kind, address="aziza@example.uz", secret=secret, params={"email": "a@example.uz"})
    mail.replies["aziza@example.uz"] = "451 4.7.1 Try again later"
    await desk.post.send_mail()
    (row,) = await desk.letters(person)
    assert (row.mail, row.mail_attempts) == (state, int(state == "new"))
    # Another address of theirs has nothing to do with it.
    await desk.write(person, "reset", "2", address="other@example.uz", secret=secret)
    await desk.post.send_mail()
    assert len(mail.to("other@example.uz")) == 1


async def test_a_bounce_of_another_address_is_not_the_accounts(desk: Office, mail: FakeMail) -> None:
    person = await desk.person()
    mail.replies["new@example.uz"] = "550 5.1.1 No such user"
    await desk.write(person, "code", secret={"code": "424242"}, address="new@example.uz")
    await desk.post.send_mail()
    (row,) = await desk.letters(person)
    assert (row.mail, row.secret) == ("bounced", None)
    assert (await desk.account(person)).mail_refused_at is None


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        ("550 5.7.1 Rejected by policy", "failed"),
        ("550 5.4.5 Daily user sending limit exceeded", "new"),
        ("452 4.2.2 Mailbox full", "new"),
        ("552 5.2.2 Over quota", "new"),
        ("550 User unknown", "bounced"),
        ("553 5.1.3 Bad address", "bounced"),
    ],
)
async def test_only_a_missing_mailbox_is_a_bounce(desk: Office, mail: FakeMail, reply: str, state: str) -> None:
    person = await desk.person()
    mail.replies["aziza@example.uz"] = reply
    await desk.write(person, "receipt", params={"number": "1"})
    await desk.post.send_mail()
    (row,) = await desk.letters(person)
    assert row.mail == state
    assert ((await desk.account(person)).mail_refused_at is not None) == (state == "bounced")


async def test_a_server_that_wants_to_be_asked_again_gets_the_letter_later(desk: Office, mail: FakeMail) -> None:
    person = await desk.person()
    mail.replies["aziza@example.uz"] = "451 4.7.1 Greylisted, try again later"
    await desk.write(person, "receipt", params={"number": "1"})
    await desk.post.send_mail()
    assert await desk.post.send_mail() == 0
    (row,) = await desk.letters(person)
    assert (row.mail, row.mail_attempts) == ("new", 1)
    assert START + dt.timedelta(minutes=1) <= row.run_at <= START + dt.timedelta(minutes=2)
    mail.replies.clear()
    desk.clock.forward(minutes=3)
    assert await desk.post.send_mail() == 1
    assert len(mail.letters) == 1


async def test_it_is_tried_for_days_and_then_no_more(desk: Office, mail: FakeMail) -> None:
    person = await desk.person()
    mail.data = ["451 4.3.0 Try again"] * 1000
    await desk.write(person, "receipt", params={"number": "1"})
    tried = []
    for _ in range(80):
        await desk.post.send_mail()
        (row,) = await desk.letters(person)
        tried.append(row.mail_attempts)
        if row.mail != "new":
            break
        desk.clock.forward(hours=1)
    assert row.mail == "failed"
    assert desk.clock() - START == dt.timedelta(days=3)
    assert 12 <= tried[-1] <= 30


async def test_a_clock_that_was_ahead_holds_no_letter_back(desk: Office, mail: FakeMail) -> None:
    person = await desk.person()
    desk.clock.forward(days=1)
    await desk.write(person, "receipt", params={"number": "1"})
    desk.clock.forward(days=-1)
    assert await desk.post.send_mail() == 1


async def test_a_connection_cut_after_the_letter(desk: Office, mail: FakeMail) -> None:
    """Nobody knows whether it was taken: a receipt goes again under its own name, an offer does not."""
    person = await desk.person()
    await desk.write(person, "receipt", "a", params={"number": "1"})
    mail.drop = 1
    await desk.post.send_mail()
    desk.clock.forward(minutes=5)
    await desk.post.send_mail()
    mail.drop = 1
    offered = await desk.person("Offered", created_at=START - dt.timedelta(days=30))
    await desk.coupon(offered, "SAVE")
    await desk.write(offered, "offer_night", "b", params={"code": "SAVE", "percent": 10, "until": "x", "price": "1"})
    await desk.post.send_mail()
    desk.clock.forward(hours=5)
    await desk.post.send_mail()
    ids = {letter.message["Message-ID"] for letter in mail.to("aziza@example.uz")}
    assert len(ids) == 1
    assert len(mail.to("aziza@example.uz")) == 2
    assert [letter.mail for letter in await desk.letters(person)] == ["sent"]
    assert len(mail.to("offered@example.uz")) == 1
    (row,) = await desk.letters(offered)
    assert row.mail == "unsure"


async def test_a_server_that_is_away_costs_no_attempt(desk: Office, mail: FakeMail) -> None:
    person = await desk.person()
    await desk.write(person, "receipt", params={"number": "1"})
    port = mail.port
    await mail.stop()
    await desk.post.send_mail()
    (row,) = await desk.letters(person)
    assert (row.mail, row.mail_attempts) == ("new", 0)
    again = FakeMail()
    again._server = await asyncio.get_running_loop().create_server(again._protocol, "127.0.0.1", port)
    try:
        # It is left alone for a while.
        assert await desk.post.send_mail() == 0
        desk.clock.forward(minutes=2)
        assert await desk.post.send_mail() == 1
    finally:
        await again.stop()


async def test_a_wrong_password_is_told_once_and_letters_wait(tmp_path: Path, sqlite_url: str) -> None:
    async with (
        FakeMail(account=("info@bots.example.uz", "right")) as mail,
        office(tmp_path, sqlite_url, mail) as desk,
    ):
        admin = await desk.person("Admin", role="admin")
        person = await desk.person()
        mail.account = ("info@bots.example.uz", "changed")
        await desk.write(person, "receipt", params={"number": "1"})
        for _ in range(3):
            await desk.post.send_mail()
            desk.clock.forward(hours=2)
        assert mail.connections == 3
        async with desk.core.db.read() as session:
            (notice,) = await session.scalars(select(models.Notice).where(models.Notice.user_id == admin.id))
        assert (notice.kind, notice.count) == ("mail_failed", 3)
        assert "535" in notice.params["reason"]
        assert "right" not in str(notice.params)
        assert [letter.mail_attempts for letter in await desk.letters(person)] == [0]
        mail.account = ("info@bots.example.uz", "right")
        assert await desk.post.send_mail() == 1
        async with desk.core.db.read() as session:
            unsolved = select(func.count()).where(
                models.Notice.kind == "mail_failed", models.Notice.resolved_at.is_(None)
            )
            assert await session.scalar(unsolved) == 0


async def test_a_server_that_wants_no_letters_from_us_is_the_administrators_matter(
    desk: Office, mail: FakeMail
) -> None:
    admin = await desk.person("Admin", role="admin")
    person = await desk.person()
    mail.replies["aziza@example.uz"] = "554 5.7.1 Relay access denied"
    await desk.write(person, "receipt", params={"number": "1"})
    await desk.post.send_mail()
    async with desk.core.db.read() as session:
        (notice,) = await session.scalars(select(models.Notice).where(models.Notice.user_id == admin.id))
    assert notice.kind == "mail_failed"
    assert [letter.mail for letter in await desk.letters(person)] == ["new"]
    assert (await desk.account(person)).mail_refused_at is None


async def test_a_secret_is_gone_when_the_letter_is(desk: Office, mail: FakeMail) -> None:
    person = await desk.person()
    await desk.write(person, "code", secret={"code": "424242"})
    (row,) = await desk.letters(person)
    assert row.secret is not None
    assert "424242" not in row.secret
    await desk.post.send_mail()
    assert "424242" in mail.letters[0].part("plain")
    (row,) = await desk.letters(person)
    assert (row.secret, row.params) == (None, {})


async def test_a_code_that_has_died_does_not_go_out(desk: Office, mail: FakeMail) -> None:
    person = await desk.person()
    await desk.write(person, "code", secret={"code": "424242"})
    desk.clock.forward(hours=1)
    await desk.post.send_mail()
    (row,) = await desk.letters(person)
    assert (row.mail, row.secret) == ("failed", None)
    assert not mail.letters


async def test_without_mail_settings_nothing_waits(tmp_path: Path, sqlite_url: str) -> None:
    async with office(tmp_path, sqlite_url) as desk:
        person = await desk.person()
        await desk.write(person, "code", secret={"code": "424242"})
        assert await desk.post.send_mail() == 0
        (row,) = await desk.letters(person)
        assert (row.mail, row.secret) == ("none", None)


async def test_nobody_puts_a_header_into_a_letter(desk: Office, mail: FakeMail) -> None:
    person = await desk.person()
    await desk.change(person, full_name="Aziza\r\nBcc: evil@example.uz")
    await desk.write(person, "receipt", params={"number": "1\r\nBcc: evil@example.uz\r\n\r\nHello"})
    await desk.write(
        person, "receipt", "2", params={"number": "2"}, address="a@example.uz\r\nRCPT TO:<evil@example.uz>"
    )
    await desk.post.send_mail()
    (letter,) = mail.letters
    assert letter.to == ["aziza@example.uz"]
    assert letter.message["Bcc"] is None
    assert letter.message["Subject"] == "Receipt 1 Bcc: evil@example.uz Hello"
    assert [row.mail for row in await desk.letters(person)] == ["sent", "failed"]


async def test_a_letter_that_cannot_be_written_holds_no_other_up(desk: Office, mail: FakeMail) -> None:
    person = await desk.person()
    await desk.write(person, "receipt", "bad", params={"number": {"day": "never"}})
    await desk.write(person, "receipt", "good", params={"number": {"tiyin": 29_000_000}})
    await desk.post.send_mail()
    assert [letter.mail for letter in await desk.letters(person)] == ["failed", "sent"]
    assert mail.letters[0].message["Subject"] == "Receipt 290 000 UZS"


@pytest.mark.parametrize("field", ["to", "subject", "message_id", "unsubscribe"])
@pytest.mark.parametrize("bad", ["\r\n", "\n", "\r", "\0", "\u2028"])
def test_a_line_break_in_a_header_is_refused(field: str, bad: str) -> None:
    values: dict[str, Any] = {
        "to": "a@example.uz",
        "subject": "s",
        "message_id": "1@example.uz",
        "unsubscribe": "https://x.uz",
    }
    values[field] += f"{bad}Bcc: evil@example.uz"
    with pytest.raises(ValueError, match="line break"):
        smtp.Mail(text="t", html="h", date=START, **values)


async def test_a_domain_in_cyrillic(tmp_path: Path, sqlite_url: str, mail: FakeMail) -> None:
    sender = {"mail": {"sender": "info@почта.рус"}}
    async with office(tmp_path, sqlite_url, mail, overrides=sender) as desk:
        person = await desk.person()
        await desk.change(person, email="aziza@xn--e1afmkfd.uz")
        await desk.write(person, "receipt", "1", params={"number": "1"})
        await desk.write(person, "receipt", "2", params={"number": "2"}, address="aziza@пример.uz")
        assert await desk.post.send_mail() == 2
    assert [letter.to for letter in mail.letters] == [["aziza@xn--e1afmkfd.uz"]] * 2
    assert mail.letters[0].sender == "info@xn--80a1acny.xn--p1acf"


async def test_the_pace_holds_for_all_letters(tmp_path: Path, sqlite_url: str, mail: FakeMail) -> None:
    async with office(tmp_path, sqlite_url, mail, overrides={"mail": {"per_minute": 2400}}) as desk:
        for number in range(3):
            await desk.write(await desk.person(f"Owner{number}"), "receipt", params={"number": "1"})
        loop = asyncio.get_running_loop()
        before = loop.time()
        assert await desk.post.send_mail() == 3
        assert loop.time() - before >= 2 * 60 / 2400 * 0.9


# The connection


def _server(mail: FakeMail, security: smtp.Security, **values: str) -> smtp.Server:
    return smtp.Server(
        "127.0.0.1", mail.port, security, values.get("username"), values.get("password"), "info@bots.example.uz", "B", 5
    )


def _mail() -> smtp.Mail:
    return smtp.Mail("a@example.uz", "s", "t", "<p>h</p>", "1@example.uz", START)


@pytest.mark.parametrize("security", ["required", "implicit"])
async def test_tls_with_a_certificate_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: smtp.Security
) -> None:
    public, context = certificate(tmp_path)
    async with FakeMail(tls=context, implicit=security == "implicit", account=("u@x.uz", "p")) as mail:
        connection = smtp.Connection(_server(mail, security, username="u@x.uz", password="p"))
        with pytest.raises(smtp.Misconfigured, match="certificate"):
            await connection.open()
        monkeypatch.setenv("SSL_CERT_FILE", str(public))
        await connection.open()
        await connection.send(_mail())
        await connection.close()
        assert [letter.tls for letter in mail.letters] == [True]


async def test_starttls_is_required_but_on_this_machine(tmp_path: Path, mail: FakeMail) -> None:
    with pytest.raises(smtp.Misconfigured, match="STARTTLS"):
        await smtp.Connection(_server(mail, "required")).open()
    _, context = certificate(tmp_path)
    async with FakeMail(tls=context) as local:
        connection = smtp.Connection(_server(local, "optional"))
        await connection.open()
        await connection.send(_mail())
        await connection.close()
        assert [letter.tls for letter in local.letters] == [True]


@pytest.mark.parametrize(
    ("host", "port", "security"),
    [
        ("smtp.gmail.com", None, "required"),
        ("smtp.gmail.com", "465", "implicit"),
        ("smtp.gmail.com", "25", "required"),
        ("localhost", "25", "optional"),
        ("127.0.0.1", "465", "implicit"),
        ("::1", "587", "optional"),
        ("localhost.example.com", "587", "required"),
    ],
)
def test_how_a_server_is_reached(tmp_path: Path, host: str, port: str | None, security: str) -> None:
    environment = {
        "MAIL_SERVER": host,
        "MAIL_USERNAME": "bot@gmail.com",
        "MAIL_PASSWORD": "abcd efgh ijkl mnop",
        **({"MAIL_PORT": port} if port else {}),
    }
    found = smtp.server_of(make_settings(tmp_path, environment=environment))
    assert found is not None
    assert (found.security, found.port) == (security, int(port or 587))
    assert (found.sender, found.password) == ("bot@gmail.com", "abcdefghijklmnop")
    assert "abcd" not in repr(found)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"MAIL_SERVER": "smtp.gmail.com"}, "sender"),
        ({"MAIL_SERVER": "smtp.gmail.com", "MAIL_USERNAME": "bot@gmail.com"}, "without MAIL_PASSWORD"),
        ({"MAIL_SERVER": "smtp.gmail.com", "MAIL_USERNAME": "bot\r\n@gmail.com", "MAIL_PASSWORD": "p"}, "sender"),
    ],
)
def test_half_of_the_settings(tmp_path: Path, environment: dict[str, str], said: str) -> None:
    with pytest.raises(smtp.Misconfigured, match=said):
        smtp.server_of(make_settings(tmp_path, environment=environment))


# Several processes


async def test_two_processes_at_once_send_each_letter_once(tmp_path: Path, postgres_url: str, mail: FakeMail) -> None:
    clock = Clock()
    async with (
        office(tmp_path / "one", postgres_url, mail, clock=clock) as one,
        office(tmp_path / "two", postgres_url, mail, clock=clock) as two,
    ):
        people = [await one.person(f"Owner{n}") for n in range(20)]
        for person in people:
            await one.write(person, "receipt", params={"number": "1"})
        sent = await asyncio.gather(*(desk.post.send_mail() for desk in (one, two)))
        assert sum(sent) == 20
        assert sorted(letter.to[0] for letter in mail.letters) == sorted(str(person.email) for person in people)


def test_the_link_that_ends_offers_stays_whole_in_its_header(mail: FakeMail) -> None:
    link = rendering.unsubscribe_link("https://a-long-name-of-a-place.bots.example.uz", "s" * 40, "0" * 26)
    wire = smtp.compose(
        _server(mail, "optional"), smtp.Mail("a@x.uz", "Ж" * 150, "t", "h", "1@x.uz", START, unsubscribe=link)
    )
    assert f"\r\nList-Unsubscribe: <{link}>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n".encode() in wire
