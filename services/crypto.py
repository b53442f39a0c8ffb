"""Secrets at rest: Fernet with rotation, and the keys that are made at the first start.

The first key of ``ENCRYPTION_KEYS`` encrypts, all decrypt. Without the variable the keys live in ``DATA_DIR`` with mode 0600.
Losing them loses every bot token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class KeyProblem(Exception):
    """A key is malformed or unreadable; the text says which and what to do, without the key."""


class Undecryptable(Exception):
    """The value was encrypted with a key that is not among ours any more: the secret must be entered again."""


def stored_secret(path: Path, make: Any) -> str:
    """Return the text kept in ``path``, making it at first use with mode 0600, safely against two starts at once.

    Raises :class:`KeyProblem` where there is something else, or nothing can be read or made.
    """
    try:
        if not path.exists():
            _store(path, make())
        text = path.read_text("ascii").strip()
    except OSError as error:
        raise KeyProblem(f"{path} cannot be read or made: {error.strerror}") from error
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise KeyProblem(
            f"{path} holds no key: put your copy of it back. If there is none, remove the file: a new key is made, and what"
            " the old one protected is lost"
        )
    return text


def _store(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(temporary, path)  # fails if another start was first; its key wins
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


class Crypto:
    """Encrypts and decrypts with a list of Fernet keys, first one first."""

    def __init__(self, keys: list[str]) -> None:
        fernets = []
        for position, key in enumerate(keys, 1):
            try:
                fernets.append(Fernet(key.encode("ascii", "replace")))
            except (ValueError, TypeError) as error:
                raise KeyProblem(
                    f"ENCRYPTION_KEYS: key {position} of {len(keys)} is not a Fernet key (44 characters of URL-safe base64)"
                ) from error
        if not fernets:
            raise KeyProblem("ENCRYPTION_KEYS holds no key")
        self._first = fernets[0]
        self._fernet = MultiFernet(fernets)

    @classmethod
    def from_text(cls, text: str) -> Crypto:
        """Make one from the comma-separated form of ``ENCRYPTION_KEYS``."""
        return cls([key.strip() for key in text.split(",") if key.strip()])

    def encrypt(self, value: Any) -> str:
        """Return ``value`` (anything JSON can hold) encrypted with the first key."""
        return self._fernet.encrypt(json.dumps(value).encode()).decode("ascii")

    def decrypt(self, token: str) -> Any:
        """Return what was encrypted; raises :class:`Undecryptable` when no key of ours fits."""
        try:
            return json.loads(self._fernet.decrypt(token.encode()))
        except InvalidToken:
            raise Undecryptable("no key of ENCRYPTION_KEYS decrypts this value") from None

    def opens(self, token: str) -> bool:
        """Tell whether a key of ours fits ``token``."""
        try:
            self.decrypt(token)
        except Undecryptable:
            return False
        return True

    def is_current(self, token: str) -> bool:
        """Tell whether ``token`` was encrypted with the first key."""
        try:
            self._first.decrypt(token.encode())
        except InvalidToken:
            return False
        return True

    def rotate(self, token: str) -> str:
        """Return ``token`` encrypted anew with the first key; raises :class:`Undecryptable`."""
        try:
            return self._fernet.rotate(token.encode()).decode("ascii")
        except InvalidToken:
            raise Undecryptable("no key of ENCRYPTION_KEYS decrypts this value") from None


def new_fernet_key() -> str:
    """Return a new Fernet key."""
    return Fernet.generate_key().decode("ascii")


def new_token(octets: int = 32) -> str:
    """Return a random URL-safe token."""
    return secrets.token_urlsafe(octets)


def digest(token: str) -> str:
    """Return the SHA-256 of a random token in hexadecimal: what is kept instead of the token."""
    return hashlib.sha256(token.encode()).hexdigest()


def derive(secret: str, purpose: str) -> bytes:
    """Return 32 bytes for one purpose from the installation's secret (HMAC-SHA-256 as a key derivation)."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).digest()


def fernet_from(secret: str, purpose: str) -> Fernet:
    """Return a Fernet for one purpose (the session cookie) derived from the installation's secret."""
    return Fernet(base64.urlsafe_b64encode(derive(secret, purpose)))


def same(left: str, right: str) -> bool:
    """Compare two texts in constant time, whatever characters they hold."""
    return hmac.compare_digest(left.encode("utf-8", "surrogatepass"), right.encode("utf-8", "surrogatepass"))
