"""Accounts: sign-up, sign-in, who is signed in where, tokens of the API.

What proves a person (session values, link and API tokens) is random, given out once and kept as a SHA-256 only. Passwords
are argon2id: 64 MiB and about 150 ms each, so at most two at a time, in threads, and never inside a unit of work.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

import phonenumbers
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ColumnElement, Select, bindparam, delete, func, literal, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import set_committed_value

from db import models
from db.base import UtcTime, utcnow
from db.engine import Database
from services.crypto import digest, new_token
from services.errors import Conflict, Forbidden, Invalid, NotFound, NotSignedIn, TooMany
from services.i18n import LANGUAGES, T, Text, normalize_language
from services.limits import Limits
from services.paging import Page, malformed
from services.settings import Settings
from services.text import one_line

LINK_LIFE = dt.timedelta(minutes=10)
SESSION_LIFE = dt.timedelta(days=30)
SESSION_IDLE = dt.timedelta(days=14)
SEEN_EVERY = dt.timedelta(minutes=5)
PASSWORD_MIN, PASSWORD_MAX = 8, 256
API_TOKENS_MAX = 20
SESSIONS_MAX = 20
TOKEN_PREFIX = "bf_"  # noqa: S105 - a mark by which scanners for leaked secrets know our tokens
THEMES = ("system", "light", "dark")

_EMAIL_LOCAL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}")
_SESSION_CURSOR = re.compile(r"([0-9]{1,16})-([0-9a-z]{1,64})")
_DOMAIN_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_UZBEK_PHONE = re.compile(r"\+998\d{9}")
_COMMON = frozenset(
    "password password1 passw0rd 12345678 123456789 1234567890 11111111 00000000 qwertyui qwerty123 qwertyuiop "
    "87654321 88888888 12341234 abcd1234 1q2w3e4r iloveyou parol123 admin123 botfactory".split()
)

_hasher = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
_dummy_hash: str | None = None
_slots: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None


# What people type -----------------------------------------------------------------------------------------------------


def clean_email(text: str) -> str:
    """Return an e-mail address in lower case with its domain in ASCII; raises ``Invalid`` (field ``email``)."""
    fault = Invalid(T("This is not an e-mail address. Example: name@example.uz"), field="email")
    text = text.strip()
    local, at, domain = text.rpartition("@")
    if len(text) > 254 or not at or not _EMAIL_LOCAL.fullmatch(local) or ".." in f".{local}.":
        raise fault
    try:
        ascii_domain = domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise fault from None
    labels = ascii_domain.split(".")
    if (
        len(labels) < 2
        or labels[-1].isdigit()
        or len(ascii_domain) > 253
        or not all(_DOMAIN_LABEL.fullmatch(label) for label in labels)
    ):
        raise fault
    return f"{local.lower()}@{ascii_domain}"


def clean_phone(text: str, *, foreign: bool = False) -> str:
    """Return a phone in the form ``+998901234567``; raises ``Invalid`` (field ``phone``).

    Spaces, dashes, brackets, full-width digits and a missing ``+998`` are understood. ``foreign``: numbers of other
    countries too (Telegram's contact button has proved them).
    """
    fault = Invalid(T("This is not a phone number. Example: +998 90 123 45 67"), field="phone")
    text = text.strip().removeprefix("tel:")
    # Letters would be dialled as the digits on their keys, and an extension left out.
    if len(text) > 40 or any(sign.isalpha() for sign in text):
        raise fault
    try:
        number = phonenumbers.parse(text, "UZ")
    except phonenumbers.NumberParseException:
        raise fault from None
    formatted = str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
    if _UZBEK_PHONE.fullmatch(formatted) or (
        foreign and not formatted.startswith("+998") and phonenumbers.is_possible_number(number)
    ):
        return formatted
    raise fault


def clean_name(text: str) -> str:
    """Return a person's name as one line of at most 100 characters; raises ``Invalid`` (field ``full_name``)."""
    name = one_line(text, 101)
    if not any(character.isalnum() for character in name):
        raise Invalid(T("Please enter your name."), field="full_name")
    if len(name) > 100:
        raise Invalid(T("The name is too long: 100 characters at most."), field="full_name")
    return name


def check_new_password(password: str, *, email: str | None = None) -> None:
    """Raise ``Invalid`` (field ``password``) if ``password`` is too short, too long or among the first that are tried."""
    if len(password) < PASSWORD_MIN:
        raise Invalid(T("The password is too short: at least {n} characters.", n=PASSWORD_MIN), field="password")
    if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_MAX:
        raise Invalid(T("The password is too long: at most {n} characters.", n=PASSWORD_MAX), field="password")
    lowered = password.lower()
    if lowered in _COMMON or len(set(lowered)) < 3 or (email and lowered in (email, email.split("@")[0])):
        raise Invalid(T("This password is easy to guess. Choose another one."), field="password")


# Passwords ------------------------------------------------------------------------------------------------------------


def _slot() -> asyncio.Semaphore:
    # Two hashes at a time in one event loop: more would only take memory.
    global _slots
    loop = asyncio.get_running_loop()
    if _slots is None or _slots[0] is not loop:
        _slots = (loop, asyncio.Semaphore(2))
    return _slots[1]


async def hash_password(password: str) -> str:
    """Return the argon2id hash of ``password``. Slow: call it outside a unit of work."""
    async with _slot():
        return await asyncio.to_thread(_hasher.hash, password.encode("utf-8", "surrogatepass"))


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password.encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False


async def verify_password(user: models.User | None, password: str) -> bool:
    """Tell whether ``password`` is the account's; takes the same time where there is no account or no password."""
    global _dummy_hash
    if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_MAX:
        password = ""
    if _dummy_hash is None:
        _dummy_hash = await hash_password(new_token())
    known = user.password_hash if user is not None else None
    async with _slot():
        fits = await asyncio.to_thread(_verify, known or _dummy_hash, password)
    return fits and known is not None


ATTEMPT_WINDOWS: dict[int, tuple[int, Text]] = {
    900: (1, T("Too many attempts. Wait 15 minutes and try again.")),
    7_200: (2, T("Too many attempts. Wait two hours and try again.")),
    86_400: (4, T("Too many attempts. Wait a day and try again.")),
}
"""In which times attempts to sign in are counted, in seconds; how many times more may be in it, and what is said beyond."""
ATTEMPTS = "attempts"
"""The code of the ``TooMany`` that says so."""


async def allow_attempt(
    limits: Limits, account: str, address: str, per_window: int, *, device: str | None = None
) -> None:
    """Count one attempt to sign in; raises ``TooMany`` (code ``attempts``).

    ``per_window`` a quarter of an hour for an account, twice that in two hours, four times in a day; four times as many
    from one address, behind which there may be an office. ``device``: a browser in which this person has signed in before,
    which is counted by itself: whoever guesses from elsewhere cannot shut the true owner out.
    """
    # The address first: what it may no longer do must not fill the memory of accounts.
    counted = ((_by_address(address), 4), (_by_account(account), 1)) if device is None else ((_by_device(device), 1),)
    for key, factor in counted:
        taken: list[str] = []
        # The longest first: how long to wait is said as it is. What a shorter one refuses does not count in it.
        for window_s, (growth, text) in reversed(ATTEMPT_WINDOWS.items()):
            name = f"{key}:{window_s}"
            if not await limits.hit(name, per_window * factor * growth, window_s):
                for longer in taken:
                    await limits.give_back(longer)
                raise TooMany(text, retry_after_s=window_s, code=ATTEMPTS)
            taken.append(name)


def _by_address(address: str) -> str:
    return f"login:address:{address}"


def _by_account(account: str) -> str:
    return f"login:account:{digest(account)[:32]}"


def _by_device(device: str) -> str:
    return f"device:{digest(device)[:32]}"


async def forget_attempts(
    limits: Limits, account: str, *, address: str | None = None, device: str | None = None
) -> None:
    """Count anew what :func:`allow_attempt` has counted for an account, and for the browser: it was the true owner.

    ``address``: where this attempt came from. It gets this one back and no more: others may guess from there.
    """
    for window_s in ATTEMPT_WINDOWS:
        await limits.forget(f"{_by_account(account)}:{window_s}")
        if device is not None:
            await limits.forget(f"{_by_device(device)}:{window_s}")
        elif address is not None:
            await limits.give_back(f"{_by_address(address)}:{window_s}")


@dataclass(frozen=True, slots=True)
class Device:
    """A browser that has shown a cookie of ours: ``user_id`` signed in there once. ``name``: of the browser, random."""

    user_id: str
    name: str


async def check_password(
    db: Database,
    limits: Limits,
    *,
    login: str,
    password: str,
    address: str,
    per_window: int,
    device: Device | None = None,
) -> models.User:
    """Return the account for an e-mail or phone and its password.

    Raises ``TooMany`` after too many attempts, ``Invalid`` (code ``credentials``) in the same words and time for an unknown
    account and a wrong password, banned or not, and ``Forbidden`` (code ``banned``) for a banned person who has proved to be
    the account's. Opens its own short reading unit: hashing must stay outside.
    """
    account = _login_key(login)
    user = await _by_login(db, account) if device is not None else None
    known = device.name if device is not None and user is not None and user.id == device.user_id else None
    await allow_attempt(limits, account, address, per_window, device=known)
    if device is None:
        user = await _by_login(db, account)
    if not await verify_password(user, password) or user is None:
        raise Invalid(T("The e-mail, phone or password is wrong."), code="credentials", field="login")
    if user.banned_at is not None:
        raise Forbidden(T("Your account is blocked. Please write to whoever runs this service."), code="banned")
    await forget_attempts(limits, account, address=address, device=known)
    return user


async def _by_login(db: Database, account: str) -> models.User | None:
    async with db.read() as session:
        column = models.User.email if "@" in account else models.User.phone
        return await session.scalar(select(models.User).where(column == account))


def _login_key(login: str) -> str:
    try:
        return clean_email(login) if "@" in login else clean_phone(login, foreign=True)
    except Invalid:
        return one_line(login, 254).replace("@", " ") or "-"


async def set_password(session: AsyncSession, user: models.User, password_hash: str) -> None:
    """Give a person a new password and end all their sessions and open sign-in links; the caller opens a new session.

    ``password_hash`` was made by :func:`hash_password` before the unit began, so that nobody waits for it.
    """
    user.password_hash = password_hash
    await session.execute(update(models.User).where(models.User.id == user.id).values(password_hash=password_hash))
    await session.execute(
        update(models.LoginLink)
        .where(models.LoginLink.user_id == user.id, models.LoginLink.used_at.is_(None))
        .values(used_at=utcnow())
    )
    await close_all(session, user)


# Accounts -------------------------------------------------------------------------------------------------------------


async def register_owner(
    session: AsyncSession,
    *,
    telegram_id: int | None = None,
    full_name: str = "",
    language: str = "uz",
    email: str | None = None,
    phone: str | None = None,
    password_hash: str | None = None,
) -> models.User:
    """Make an owner's account; ``password_hash`` as :func:`set_password` takes it.

    Raises ``Invalid`` with the field that is wrong and ``Conflict`` where the e-mail or phone has an account already.
    """
    email = clean_email(email) if email else None
    phone = clean_phone(phone) if phone else None
    if email:
        await _free(session, models.User.email == email, None, "email")
    if phone:
        await _free(session, models.User.phone == phone, None, "phone")
    user = models.User(
        full_name=one_line(full_name, 100),
        language=normalize_language(language),
        email=email,
        phone=phone,
        password_hash=password_hash,
        telegram_id=telegram_id,
    )
    session.add(user)
    await session.flush()
    return user


async def _free(session: AsyncSession, condition: ColumnElement[bool], user_id: str | None, field: str) -> None:
    taken = await session.scalar(select(models.User.id).where(condition))
    if taken is not None and taken != user_id:
        raise _email_taken() if field == "email" else _phone_taken()


async def be_free(session: AsyncSession, user: models.User, email: str) -> None:
    """Raise ``Conflict`` (code ``taken``) where another account than this one has the address."""
    await _free(session, models.User.email == email, user.id, "email")


def _email_taken() -> Conflict:
    return Conflict(T("This e-mail already has an account. Sign in instead."), code="taken", field="email")


def _phone_taken() -> Conflict:
    text = T("This phone already has an account. Sign in instead, or ask the bot for a link with /panel.")
    return Conflict(text, code="taken", field="phone")


async def by_id(session: AsyncSession, user_id: str) -> models.User | None:
    """Return the account with this id."""
    return await session.get(models.User, user_id)


async def by_telegram(session: AsyncSession, telegram_id: int) -> models.User | None:
    """Return the account of a Telegram user."""
    return await session.scalar(select(models.User).where(models.User.telegram_id == telegram_id))


async def by_email(session: AsyncSession, email: str) -> models.User | None:
    """Return the account with this e-mail address, however it is written."""
    try:
        cleaned = clean_email(email)
    except Invalid:
        return None
    return await session.scalar(select(models.User).where(models.User.email == cleaned))


async def ensure_telegram_user(
    session: AsyncSession,
    telegram_id: int,
    *,
    full_name: str,
    language_code: str | None,
    admin_ids: Collection[int],
) -> models.User:
    """Return the account of a Telegram user, made at the first contact; people of ``admin_ids`` are administrators."""
    user = await by_telegram(session, telegram_id)
    if user is None:
        user = await register_owner(
            session, telegram_id=telegram_id, full_name=full_name, language=normalize_language(language_code)
        )
    if telegram_id in admin_ids and user.role != "admin":
        user.role = "admin"
        session.add(user)
        await session.flush()
    return user


async def set_language(session: AsyncSession, user: models.User, language: str) -> None:
    """Keep the language of the interface with the account; raises ``Invalid`` for one that we do not speak."""
    if language not in LANGUAGES:
        raise Invalid(T("Please check what you entered."), field="language")
    user.language = language
    await session.execute(update(models.User).where(models.User.id == user.id).values(language=language))


async def set_theme(session: AsyncSession, user: models.User, theme: str) -> None:
    """Keep the theme of the panel with the account: ``system``, ``light`` or ``dark``."""
    if theme not in THEMES:
        raise Invalid(T("Please check what you entered."), field="theme")
    user.theme = theme
    await session.execute(update(models.User).where(models.User.id == user.id).values(theme=theme))


async def set_preference(session: AsyncSession, user: models.User, name: str, value: object) -> None:
    """Keep a small choice of the panel with the account, beside the others."""
    row = await session.get_one(models.User, user.id, with_for_update=True, populate_existing=True)
    row.preferences = {**(row.preferences or {}), name: value}


async def set_phone(
    session: AsyncSession, user: models.User, phone: str, *, proven: bool = False
) -> models.User | None:
    """Keep a phone; raises ``Invalid``, or ``Conflict`` if another account has it.

    ``proven``: Telegram's contact button has shown that it is the person's own. Telegram gives a number to one account at a
    time, so whoever had it before typed it or has lost it: that account goes on without it and is returned. One that could not
    be signed in to any more keeps it.
    """
    cleaned = clean_phone(phone, foreign=proven)
    other = await session.scalar(select(models.User).where(models.User.phone == cleaned, models.User.id != user.id))
    if other is not None:
        if not proven or (other.password_hash and not other.email and other.telegram_id is None):
            raise _phone_taken()
        await session.execute(
            update(models.User).where(models.User.id == other.id).values(phone=None, phone_confirmed_at=None)
        )
    confirmed_at = utcnow() if proven else user.phone_confirmed_at if user.phone == cleaned else None
    await _change(session, user, phone=cleaned, phone_confirmed_at=confirmed_at)
    return other


async def is_free_phone(session: AsyncSession, phone: str) -> bool:
    """Tell whether a phone is one and no account has it."""
    try:
        cleaned = clean_phone(phone, foreign=True)
    except Invalid:
        return False
    return await session.scalar(select(models.User.id).where(models.User.phone == cleaned)) is None


async def update_profile(
    session: AsyncSession, user: models.User, *, full_name: str, phone: str, email: str | None = None
) -> None:
    """Change name, phone and e-mail; empty e-mail or phone removes it where another way to sign in remains.

    ``email`` None: it stays. What is new is not confirmed.
    """
    email = user.email or "" if email is None else email
    name = clean_name(full_name)
    new_email = clean_email(email) if email.strip() else None
    new_phone = clean_phone(phone, foreign=True) if phone.strip() else None
    if new_phone is not None and new_phone != user.phone:
        new_phone = clean_phone(phone)
    if new_email:
        await _free(session, models.User.email == new_email, user.id, "email")
    if new_phone:
        await _free(session, models.User.phone == new_phone, user.id, "phone")
    if user.password_hash and not new_email and not new_phone:
        raise Invalid(
            T("Keep an e-mail or a phone number: without one you cannot sign in with your password."), field="email"
        )
    changes: dict[str, object] = {"full_name": name, "email": new_email, "phone": new_phone}
    if new_email != user.email:
        changes |= {"email_confirmed_at": None, "mail_refused_at": None}
    if new_phone != user.phone:
        changes["phone_confirmed_at"] = None
    await _change(session, user, **changes)


async def _change(session: AsyncSession, user: models.User, **changes: object) -> None:
    """Write columns of an account, and show them in the object at hand, which may be another session's."""
    await session.execute(update(models.User).where(models.User.id == user.id).values(**changes))
    for name, value in changes.items():
        set_committed_value(user, name, value)


async def confirm_email(session: AsyncSession, user: models.User, email: str, *, now: dt.datetime) -> str | None:
    """An address has turned out to be this person's: the account's own is confirmed, another one takes its place.

    Returns the address before, None where it is the same. Raises ``Conflict`` where another account has it meanwhile.
    """
    before = user.email
    await _free(session, models.User.email == email, user.id, "email")
    try:
        async with session.begin_nested():
            await session.execute(
                update(models.User).where(models.User.id == user.id).values(email=email, email_confirmed_at=now)
            )
    except IntegrityError:
        # Two have confirmed it at the same moment.
        raise _email_taken() from None
    await _change(session, user, email=email, email_confirmed_at=now, mail_refused_at=None)
    return before if before != email else None


async def administrators(session: AsyncSession) -> list[str]:
    """Return the ids of all administrators."""
    return list(await session.scalars(select(models.User.id).where(models.User.role == "admin")))


async def ensure_admin(session: AsyncSession, settings: Settings) -> models.User:
    """Return the administrator of this installation, made at the first start.

    With ``ADMIN_EMAIL`` that account is one, and ``ADMIN_PASSWORD`` its first password: a password changed later in the panel
    is not set back. An account that somebody has made with that address without showing that it is theirs loses every way in.
    Without them an administrator without e-mail is made, who signs in by one-time link.
    """
    secrets = settings.secrets
    if secrets.admin_email:
        email = clean_email(secrets.admin_email)
        user = await session.scalar(select(models.User).where(models.User.email == email))
        if user is None:
            user = models.User(email=email, full_name=email.split("@")[0])
            session.add(user)
        elif user.role != "admin" and user.email_confirmed_at is None:
            await evict(session, user)
        user.role = "admin"
        if user.password_hash is None and secrets.admin_password is not None:
            user.password_hash = await hash_password(secrets.admin_password.get_secret_value())
        await session.flush()
        return user
    user = await session.scalar(
        select(models.User).where(models.User.role == "admin").order_by(models.User.id).limit(1)
    )
    if user is None:
        user = models.User(role="admin", full_name="Administrator")
        session.add(user)
        await session.flush()
    return user


async def evict(session: AsyncSession, user: models.User) -> None:
    """Close every way in of whoever registered with an address that may not be theirs, and of whom they let in.

    Whoever has the address comes in by the password that the caller sets; whoever runs the installation also by
    ``create-admin`` or by the link of the start.
    """
    user.password_hash = user.telegram_id = user.totp_secret = user.totp_at = user.totp_step = None
    user.phone, user.phone_confirmed_at = None, None
    await session.flush()
    await revoke_api_tokens(session, user)
    await session.execute(delete(models.RecoveryCode).where(models.RecoveryCode.user_id == user.id))
    for kind in (models.LoginLink, models.AccountCode):
        await session.execute(
            update(kind).where(kind.user_id == user.id, kind.used_at.is_(None)).values(used_at=utcnow())
        )
    for helper in (models.Member, models.Invitation, models.ForumGroup):
        await session.execute(delete(helper).where(helper.owner_id == user.id))
    # Nor does whoever comes now see the customers of those who had invited them.
    await session.execute(delete(models.Member).where(models.Member.user_id == user.id))
    await close_all(session, user)


async def revoke_api_tokens(session: AsyncSession, user: models.User) -> None:
    """Make all API tokens of a person worthless at once."""
    await session.execute(
        update(models.ApiToken)
        .where(models.ApiToken.user_id == user.id, models.ApiToken.revoked_at.is_(None))
        .values(revoked_at=utcnow())
    )


def has_own_way_in(user: models.User, *, with_telegram: bool) -> bool:
    """Tell whether a person can sign in without a link that somebody else gives: by password or by the factory bot."""
    return user.password_hash is not None or (with_telegram and user.telegram_id is not None)


def has_password_way(user: models.User) -> bool:
    """Tell whether a person can sign in with a password and a name to go with it."""
    return user.password_hash is not None and bool(user.email or user.phone)


async def never_signed_in(session: AsyncSession, user: models.User) -> bool:
    """Tell whether nobody has signed in to this account yet."""
    known = await session.scalar(
        select(models.AuditLog.id)
        .where(models.AuditLog.actor_id == user.id, models.AuditLog.action == "signed_in")
        .limit(1)
    )
    return known is None


# One-time links -------------------------------------------------------------------------------------------------------


_LINK_GONE = T("This link has been used or has expired. Ask the bot for a new one with /panel.")


async def login_link(session: AsyncSession, user: models.User) -> str:
    """Return the token of a link that signs ``user`` in once within ten minutes; only its hash is kept."""
    token = new_token()
    now = utcnow()
    await session.execute(delete(models.LoginLink).where(models.LoginLink.expires_at < now - dt.timedelta(days=1)))
    session.add(models.LoginLink(token_hash=digest(token), user_id=user.id, created_at=now, expires_at=now + LINK_LIFE))
    await session.flush()
    return token


async def peek_login_link(session: AsyncSession, token: str) -> models.User:
    """Return whom a link would sign in, without using it up; raises ``Invalid`` (code ``link``)."""
    user = await session.scalar(
        select(models.User)
        .join(models.LoginLink, models.LoginLink.user_id == models.User.id)
        .where(
            models.LoginLink.token_hash == digest(token),
            models.LoginLink.used_at.is_(None),
            models.LoginLink.expires_at > utcnow(),
            models.User.banned_at.is_(None),
        )
    )
    if user is None:
        raise Invalid(_LINK_GONE, code="link")
    return user


async def use_login_link(session: AsyncSession, token: str) -> models.User:
    """Use a link up and return whom it signs in; raises ``Invalid`` (code ``link``) the second time, and after its end."""
    now = utcnow()
    user_id = await session.scalar(
        update(models.LoginLink)
        .where(
            models.LoginLink.token_hash == digest(token),
            models.LoginLink.used_at.is_(None),
            models.LoginLink.expires_at > now,
        )
        .values(used_at=now)
        .returning(models.LoginLink.user_id)
    )
    user = await session.get(models.User, user_id) if user_id else None
    if user is None or user.banned_at is not None:
        raise Invalid(_LINK_GONE, code="link")
    return user


# Sessions of the panel ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A browser that is signed in, and who sits at it."""

    session: models.PanelSession
    user: models.User


async def open_session(session: AsyncSession, user: models.User, user_agent: str) -> str:
    """Sign a browser in and return the value that its cookie proves it by."""
    if user.banned_at is not None:
        raise NotSignedIn
    now = utcnow()
    await session.execute(delete(models.PanelSession).where(models.PanelSession.expires_at < now))
    old = (
        await session.scalars(
            select(models.PanelSession.id)
            .where(models.PanelSession.user_id == user.id)
            .order_by(models.PanelSession.last_seen_at.desc())
            .offset(SESSIONS_MAX - 1)
        )
    ).all()
    if old:
        await session.execute(delete(models.PanelSession).where(models.PanelSession.id.in_(old)))
    value = new_token()
    session.add(
        models.PanelSession(
            id=digest(value),
            user_id=user.id,
            user_agent=one_line(user_agent, 255),
            created_at=now,
            last_seen_at=now,
            expires_at=now + SESSION_LIFE,
        )
    )
    await session.flush()
    return value


async def session_user(session: AsyncSession, value: str) -> SignedIn | None:
    """Return who a cookie's value stands for; None when it ended, lay idle for two weeks, or the person is banned."""
    now = utcnow()
    given = {"p_id": digest(value), "p_now": now, "p_seen": now - SESSION_IDLE}
    row = (await session.execute(_session_user(), given)).one_or_none()
    return SignedIn(row[0], row[1]) if row is not None else None


@cache
def _session_user() -> Select[models.PanelSession, models.User]:
    # Every page asks this: putting the query together costs more than the answer.
    found, user = models.PanelSession, models.User
    return (
        select(found, user)
        .join(user, user.id == found.user_id)
        .where(
            found.id == bindparam("p_id"),
            found.expires_at > bindparam("p_now"),
            found.last_seen_at > bindparam("p_seen"),
            user.banned_at.is_(None),
        )
    )


def is_stale(signed_in: SignedIn) -> bool:
    """Tell whether :func:`touch` is due; not every page needs a write."""
    return utcnow() - signed_in.session.last_seen_at > SEEN_EVERY


async def touch(session: AsyncSession, signed_in: SignedIn) -> None:
    """Remember that this browser was here."""
    await session.execute(
        update(models.PanelSession).where(models.PanelSession.id == signed_in.session.id).values(last_seen_at=utcnow())
    )


async def sessions(session: AsyncSession, user: models.User) -> Sequence[models.PanelSession]:
    """Return the browsers in which a person is signed in, the last used first."""
    return (
        await session.scalars(
            select(models.PanelSession)
            .where(models.PanelSession.user_id == user.id, models.PanelSession.expires_at > utcnow())
            .order_by(models.PanelSession.last_seen_at.desc())
        )
    ).all()


async def sessions_page(
    session: AsyncSession, user: models.User, *, current: str = "", cursor: str = "", limit: int = 20
) -> Page[models.PanelSession]:
    """Return part of the browsers of :func:`sessions`, the one that asks, ``current``, before all others.

    Raises ``Invalid`` for a malformed cursor.
    """
    row = models.PanelSession
    mine = select(row).where(row.user_id == user.id, row.expires_at > utcnow())
    others = mine.where(row.id != current)
    if cursor:
        place = _SESSION_CURSOR.fullmatch(cursor)
        if place is None:
            raise malformed()
        used = dt.datetime.fromtimestamp(int(place[1]) / 1_000_000, dt.UTC)
        others = others.where(tuple_(row.last_seen_at, row.id) < tuple_(literal(used, UtcTime), literal(place[2])))
    found = [] if cursor else list(await session.scalars(mine.where(row.id == current)))
    found += await session.scalars(others.order_by(row.last_seen_at.desc(), row.id.desc()).limit(limit + 1))
    if len(found) <= limit:
        return Page(found, None)
    last = found[limit - 1]
    return Page(found[:limit], f"{round(last.last_seen_at.timestamp() * 1_000_000)}-{last.id}")


async def close_session(session: AsyncSession, user: models.User, session_id: str) -> None:
    """Sign one browser of this person out; raises ``NotFound`` for another's."""
    gone = await session.scalar(
        delete(models.PanelSession)
        .where(models.PanelSession.id == session_id, models.PanelSession.user_id == user.id)
        .returning(models.PanelSession.id)
    )
    if gone is None:
        raise NotFound


async def close_all(
    session: AsyncSession, user: models.User, *, keep: str | None = None, only: str | None = None
) -> None:
    """Sign the browsers of this person out: all, all but the session id ``keep``, or ``only`` that one, if it is there."""
    statement = delete(models.PanelSession).where(models.PanelSession.user_id == user.id)
    if keep is not None:
        statement = statement.where(models.PanelSession.id != keep)
    if only is not None:
        statement = statement.where(models.PanelSession.id == only)
    await session.execute(statement)


async def ban(session: AsyncSession, user: models.User) -> None:
    """Shut a person out: no session, link or API token of theirs works from now on."""
    user.banned_at = utcnow()
    await session.execute(update(models.User).where(models.User.id == user.id).values(banned_at=user.banned_at))
    await close_all(session, user)


# Tokens of the API ----------------------------------------------------------------------------------------------------


async def new_api_token(session: AsyncSession, user: models.User, name: str) -> tuple[models.ApiToken, str]:
    """Make a token that acts as its owner; return its row and the token itself, which nobody can read again."""
    count = await session.scalar(
        select(func.count())
        .select_from(models.ApiToken)
        .where(models.ApiToken.user_id == user.id, models.ApiToken.revoked_at.is_(None))
    )
    if (count or 0) >= API_TOKENS_MAX:
        raise Conflict(
            T("You already have {n} API tokens, which is the limit. Revoke one first.", n=API_TOKENS_MAX), code="limit"
        )
    plain = TOKEN_PREFIX + new_token()
    row = models.ApiToken(
        user_id=user.id, name=one_line(name, 100) or "API", token_hash=digest(plain), last4=plain[-4:]
    )
    session.add(row)
    await session.flush()
    return row, plain


async def token_user(session: AsyncSession, plain: str) -> models.User | None:
    """Return the owner of an API token; None when it is unknown or revoked, or its owner banned or
    about to be deleted."""
    return await session.scalar(
        select(models.User)
        .join(models.ApiToken, models.ApiToken.user_id == models.User.id)
        .where(
            models.ApiToken.token_hash == digest(plain),
            models.ApiToken.revoked_at.is_(None),
            models.User.banned_at.is_(None),
            models.User.delete_at.is_(None),
        )
    )


async def revoke_api_token(session: AsyncSession, user: models.User, token_id: str) -> None:
    """Make a token worthless at once; raises ``NotFound`` for another's."""
    gone = await session.scalar(
        update(models.ApiToken)
        .where(models.ApiToken.id == token_id, models.ApiToken.user_id == user.id, models.ApiToken.revoked_at.is_(None))
        .values(revoked_at=utcnow())
        .returning(models.ApiToken.id)
    )
    if gone is None:
        raise NotFound


async def api_tokens(session: AsyncSession, user: models.User) -> Sequence[models.ApiToken]:
    """Return a person's tokens that still work, the newest first."""
    return (
        await session.scalars(
            select(models.ApiToken)
            .where(models.ApiToken.user_id == user.id, models.ApiToken.revoked_at.is_(None))
            .order_by(models.ApiToken.id.desc())
        )
    ).all()


async def used_api_token(session: AsyncSession, plain: str) -> None:
    """Remember that a token was used, at most once in five minutes."""
    now = utcnow()
    await session.execute(
        update(models.ApiToken)
        .where(
            models.ApiToken.token_hash == digest(plain),
            (models.ApiToken.last_used_at.is_(None)) | (models.ApiToken.last_used_at < now - SEEN_EVERY),
        )
        .values(last_used_at=now)
    )
