"""Mail by SMTP: what a letter looks like on the wire, and what a mail server's answers mean.

Facts: RFC 5321 (replies), RFC 3463 (enhanced codes), RFC 8058 (unsubscribing by one click), RFC 3834 (Auto-Submitted).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime
from typing import Any, Literal

import aiosmtplib

from services.accounts import clean_email
from services.errors import Invalid
from services.settings import Settings
from services.text import clean

Security = Literal["implicit", "required", "optional"]

_IMPLICIT_PORT = 465
_SUBMISSION_PORT = 587
# Google shows app passwords in four groups of four letters; the spaces are not part of them.
_APP_PASSWORD = re.compile(r"[a-z]{4}( [a-z]{4}){3}")
_CONTROL = re.compile("[\x00-\x1f\x7f\u0085\u2028\u2029]")
_ENHANCED = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
# 5.1: no such address. 5.2.1: the mailbox is closed. Without such a code: these replies speak of the mailbox itself.
_NOBODY = re.compile(r"5\.(1\.\d+|2\.1)")
_NOBODY_CODES = (550, 551, 553)
# 5.2.2: the mailbox is full. 5.3: the system. 5.4.5: the day's limit of the sending account is used up (Gmail).
_PASSING = re.compile(r"5\.(2\.2|3\.\d+|4\.5)")
_SIGN_IN_FIRST = (530, 534, 535, 538)


class NotNow(Exception):
    """The server or the network does not take the letter now. ``unsure``: it may have been taken all the same."""

    def __init__(self, reason: str, *, unsure: bool = False) -> None:
        super().__init__(clean(reason, 200))
        self.unsure = unsure


class Refused(Exception):
    """The server will never take this letter. ``bounced``: because nobody is at the address."""

    def __init__(self, reason: str, *, bounced: bool) -> None:
        super().__init__(clean(reason, 200))
        self.bounced = bounced


class Misconfigured(Exception):
    """Nothing can be sent until the settings are mended; the text says what is wrong, without secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(clean(reason, 200))


@dataclass(frozen=True, slots=True)
class Server:
    """A mail server and who writes through it. ``timeout_s``: for one step."""

    host: str
    port: int
    security: Security
    username: str | None
    password: str | None = field(repr=False)
    sender: str
    sender_name: str
    timeout_s: float

    @property
    def domain(self) -> str:
        """The domain of the sender."""
        return self.sender.partition("@")[2]


@dataclass(frozen=True, slots=True)
class Mail:
    """One letter. ``unsubscribe``: the address that ends such letters by one click, for offers. ``paper``: name and content of a
    PDF that goes with it.

    Raises ``ValueError`` for a line break or another control character where the headers are, whoever put it there.
    """

    to: str
    subject: str
    text: str
    html: str
    message_id: str
    date: dt.datetime
    unsubscribe: str | None = None
    paper: tuple[str, bytes] | None = None

    def __post_init__(self) -> None:
        for value in (self.to, self.subject, self.message_id, self.unsubscribe or ""):
            if _CONTROL.search(value):
                raise ValueError("a header of a letter cannot hold a line break or control character")


def server_of(settings: Settings) -> Server | None:
    """Return the mail server of the settings, None where none is set; raises ``Misconfigured`` for half of one."""
    secrets = settings.secrets
    if not secrets.mail_server:
        return None
    try:
        sender = clean_email(settings.mail.sender or secrets.mail_username or "")
    except Invalid:
        raise Misconfigured(
            "the sender is not an e-mail address: set [mail] sender in config.toml, or MAIL_USERNAME to one"
        ) from None
    if bool(secrets.mail_username) != bool(secrets.mail_password):
        given, missing = (
            ("MAIL_USERNAME", "MAIL_PASSWORD") if secrets.mail_username else ("MAIL_PASSWORD", "MAIL_USERNAME")
        )
        raise Misconfigured(f"{given} is set without {missing}")
    password = secrets.mail_password.get_secret_value() if secrets.mail_password else None
    if password is not None and _APP_PASSWORD.fullmatch(password.strip()):
        password = password.replace(" ", "").strip()
    port = secrets.mail_port or _SUBMISSION_PORT
    host = _ascii_host(secrets.mail_server.strip())
    security: Security = "implicit" if port == _IMPLICIT_PORT else "optional" if _is_loopback(host) else "required"
    return Server(
        host,
        port,
        security,
        secrets.mail_username,
        password,
        sender,
        settings.mail.sender_name,
        settings.mail.timeout_s,
    )


def is_set(settings: Settings) -> bool:
    """Tell whether letters are sent by mail at all."""
    return bool(settings.secrets.mail_server)


def _ascii_host(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise Misconfigured("MAIL_SERVER is not the name of a host") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class _Policy(EmailPolicy):
    """As letters are written on the wire. Addresses in headers stay whole: Python would break long ones into encoded words."""

    whole = frozenset({"list-unsubscribe", "list-unsubscribe-post", "message-id"})

    def fold(self, name: str, value: str) -> str:
        return f"{name}: {value}{self.linesep}" if name.lower() in self.whole else super().fold(name, value)

    def fold_binary(self, name: str, value: str) -> bytes:
        if name.lower() in self.whole:
            return f"{name}: {value}{self.linesep}".encode("ascii")
        return super().fold_binary(name, value)


_WIRE = _Policy(linesep="\r\n", cte_type="7bit", raise_on_defect=True)


def compose(server: Server, mail: Mail) -> bytes:
    """Return a letter as it goes over the wire: pure ASCII, text and HTML."""
    message = EmailMessage(policy=_WIRE)
    message["From"] = Address(server.sender_name, addr_spec=server.sender)
    message["To"] = Address(addr_spec=mail.to)
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(mail.date)
    message["Message-ID"] = f"<{mail.message_id}>"
    # Answering machines leave it alone.
    message["Auto-Submitted"] = "auto-generated"
    if mail.unsubscribe:
        message["List-Unsubscribe"] = f"<{mail.unsubscribe}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    if mail.paper is not None:
        name, content = mail.paper
        message.add_attachment(content, maintype="application", subtype="pdf", filename=name)
    return message.as_bytes()


class Connection:
    """A connection to the mail server, for as many letters as it bears."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._smtp: aiosmtplib.SMTP | None = None

    @property
    def is_open(self) -> bool:
        """Whether a letter can be sent without connecting first."""
        return self._smtp is not None and self._smtp.is_connected

    async def open(self) -> None:
        """Connect and sign in; raises ``NotNow`` and ``Misconfigured``."""
        server = self.server
        start_tls = {"implicit": False, "required": True, "optional": None}[server.security]
        smtp = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.security == "implicit",
            start_tls=start_tls,
            tls_context=_tls(server),
            timeout=server.timeout_s,
            local_hostname=server.domain,
        )
        try:
            await smtp.connect()
            if server.username is not None and server.password is not None:
                await smtp.login(server.username, server.password)
        except BaseException as error:
            smtp.close()
            if isinstance(error, aiosmtplib.SMTPException | OSError | TimeoutError):
                raise _of_connecting(error) from None
            if isinstance(error, ValueError):
                # Its text would hold the password.
                raise Misconfigured("MAIL_USERNAME or MAIL_PASSWORD holds characters that cannot be sent") from None
            raise
        self._smtp = smtp

    async def send(self, mail: Mail) -> None:
        """Send a letter; raises ``NotNow``, ``Refused`` and ``Misconfigured``."""
        if self._smtp is None:
            raise NotNow("not connected")
        body = compose(self.server, mail)
        try:
            await self._smtp.mail(self.server.sender)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise await self._over(error, "sender") from None
        try:
            await self._smtp.rcpt(mail.to)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise await self._over(error, "recipient") from None
        try:
            await self._smtp.data(body)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise await self._over(error, "data") from None

    async def _over(self, error: Exception, step: str) -> Exception:
        """Return what an error in the middle of a letter means, with the connection ready for the next one or closed."""
        if not isinstance(error, aiosmtplib.SMTPResponseException):
            await self.close()
            return NotNow(_named(error), unsure=step == "data")
        try:
            if self._smtp is not None and self._smtp.is_connected:
                await self._smtp.rset()
        except (aiosmtplib.SMTPException, OSError):
            await self.close()
        return _meaning(error.code, str(error.message), step)

    async def close(self) -> None:
        """Say goodbye if the server still listens."""
        smtp, self._smtp = self._smtp, None
        if smtp is not None and smtp.is_connected:
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await smtp.quit(timeout=min(5.0, self.server.timeout_s))
            smtp.close()


def _tls(server: Server) -> ssl.SSLContext:
    if server.security != "optional":
        return ssl.create_default_context()
    # On this very machine nobody stands between, and a local server's certificate is usually its own: none is compared, and
    # the certificates of the world, which take longer to read than a letter to send, are not wanted.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _of_connecting(error: BaseException) -> Exception:
    """Return what an error before the first letter means."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Misconfigured(f"the server’s certificate is not accepted: {cause.verify_message}")
        cause = cause.__cause__
    if isinstance(error, aiosmtplib.SMTPResponseException):
        said = f"{error.code} {error.message}"
        return NotNow(said) if 400 <= error.code < 500 else Misconfigured(said)
    if type(error) is aiosmtplib.SMTPException:
        # What the server does not offer: STARTTLS, or a way to sign in.
        return Misconfigured(str(error))
    return NotNow(_named(error))


def _meaning(code: int, said: str, step: str) -> Exception:
    """Return what a reply to one step of sending a letter means."""
    reason = f"{code} {said}"
    found = _ENHANCED.search(said)
    enhanced: Any = found[1] if found else ""
    if code < 500 or _PASSING.fullmatch(enhanced):
        return NotNow(reason)
    if code in _SIGN_IN_FIRST or step == "sender" or "relay" in said.lower():
        return Misconfigured(reason)
    bounced = step == "recipient" and bool(_NOBODY.fullmatch(enhanced) or (not enhanced and code in _NOBODY_CODES))
    return Refused(reason, bounced=bounced)
