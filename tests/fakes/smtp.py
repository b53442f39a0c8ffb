"""A real SMTP server on the loopback (aiosmtpd), with a switch for each way in which mail servers fail."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Self, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Received:
    """A letter that the server has taken."""

    sender: str
    to: list[str]
    message: EmailMessage
    raw: bytes
    tls: bool

    def part(self, kind: str) -> str:
        """Return the text of one alternative, ``plain`` or ``html``."""
        body = self.message.get_body((kind,))
        assert body is not None
        return str(body.get_content())


class FakeMail:
    """The server. ``replies``: what it says to a recipient, by address; ``data``: to the next letters, in order; ``drop``: so
    many letters are taken, and the connection is cut before that is said. ``account``: name and password to sign in with."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        account: tuple[str, str] | None = None,
    ) -> None:
        self._tls, self._implicit, self.account = tls, implicit, account
        self.letters: list[Received] = []
        self.replies: dict[str, str] = {}
        self.data: list[str] = []
        self.drop = 0
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._transports: list[Any] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            self._protocol, "127.0.0.1", 0, ssl=self._tls if self._implicit else None
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Be gone: connections are refused."""
        if self._server is not None:
            self._server.close()
            for transport in self._transports:
                transport.abort()
            self._server = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def environment(self) -> dict[str, str]:
        """Return the variables that lead the product here."""
        found = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(self.port)}
        if self.account is not None:
            found |= {"MAIL_USERNAME": self.account[0], "MAIL_PASSWORD": self.account[1]}
        return found

    def to(self, address: str) -> list[Received]:
        """Return what was taken for an address."""
        return [letter for letter in self.letters if address in letter.to]

    def _protocol(self) -> SMTP:
        self.connections += 1
        starttls = self._tls if not self._implicit else None
        return SMTP(
            self,
            tls_context=starttls,
            require_starttls=starttls is not None,
            hostname="mx.example.uz",
            authenticator=self._authenticate,
            auth_required=self.account is not None,
            auth_require_tls=False,
            loop=asyncio.get_running_loop(),
        )

    def _authenticate(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, given: Any) -> AuthResult:
        login = cast(LoginPassword, given)
        fits = self.account == (login.login.decode(), login.password.decode())
        return AuthResult(
            success=fits, handled=False, message=None if fits else "535 5.7.8 Username and Password not accepted"
        )

    # What aiosmtpd calls

    async def handle_EHLO(
        self, server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Greet."""
        self._transports.append(server.transport)
        session.host_name = hostname
        return responses

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take a recipient or say what was ordered."""
        if (reply := self.replies.get(address)) is not None:
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take a letter, or say what was ordered."""
        if self.data:
            return self.data.pop(0)
        raw = envelope.original_content or b""
        message = message_from_bytes(raw, policy=policy.default)
        tls = session.ssl is not None or self._implicit
        self.letters.append(Received(str(envelope.mail_from), list(map(str, envelope.rcpt_tos)), message, raw, tls))
        if self.drop:
            self.drop -= 1
            cast(asyncio.Transport, server.transport).abort()
        return "250 OK queued"


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate for the loopback; return its file, to be trusted or not, and the server's side of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.example.uz")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "mail.crt", folder / "mail.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
