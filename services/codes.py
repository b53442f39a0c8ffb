"""Codes and links in letters that prove an address: of a new account, of a change, of a lost password, of two accounts to join.

Six digits are soon guessed, so a code takes five tries and an hour, and few are written in a day; it is kept as a keyed digest,
a link as a SHA-256. The newest letter counts: it makes the ones before it worthless.
"""

from __future__ import annotations

import datetime as dt
import hmac
import secrets
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import letters
from services.crypto import Crypto, derive, digest, new_token, same
from services.errors import Invalid, TooMany
from services.i18n import T
from services.settings import Settings

LIFE = dt.timedelta(hours=1)
ATTEMPTS = 5
PACE = dt.timedelta(minutes=1)
AN_HOUR, A_DAY = 5, 10
WITH_CODE = frozenset({"confirm_email", "change_email", "join"})
_ELSEWHERE = frozenset({"change_email", "join"})
"""Letters that go to an address which is not, or not yet, the account's."""
PAGES = {"confirm_email": "/email/confirm", "change_email": "/email/confirm", "reset": "/password/reset"}
"""Where the link of a letter leads, by what it is for; none: there is only a code."""

_GONE = T("This link has been used or has expired.")
WRONG = T("The code is wrong or too old. Look at the newest letter, or have another code sent.")


def by_mail(settings: Settings) -> bool:
    """Tell whether this installation can write letters."""
    return settings.secrets.mail_server is not None


@dataclass(frozen=True, slots=True)
class Keys:
    """What codes and letters are protected with: the installation's secret, and its encryption."""

    secret: str
    crypto: Crypto


def _keyed(keys: Keys, row_id: str, code: str) -> str:
    return hmac.new(derive(keys.secret, "account codes"), f"{row_id}:{code}".encode(), "sha256").hexdigest()


async def send(
    session: AsyncSession, keys: Keys, user: models.User, purpose: str, target: str, *, now: dt.datetime
) -> models.AccountCode:
    """Write a letter with a new code, a link, or both to ``target``; whoever calls rings ``letters`` after the transaction.

    Raises ``TooMany`` where one was written less than a minute ago, or too many were in an hour or a day, by this account or to
    somebody else's address by all.
    """
    # Two requests at once: the second sees the first one's letter.
    await session.get(models.User, user.id, with_for_update={"key_share": True})
    code = models.AccountCode
    own = code.user_id == user.id, code.purpose == purpose
    paces = [(PACE, 1), (dt.timedelta(hours=1), AN_HOUR), (dt.timedelta(days=1), A_DAY)]
    if purpose == "reset":
        # Anybody can ask for these: used up for a day, they would keep the owner out.
        paces.pop()
    for span, most in paces:
        written = await session.scalar(select(func.count()).where(*own, code.created_at > now - span))
        if (written or 0) >= most:
            text = T(
                "A letter has just been sent. Look into your mail, also among spam, before you ask for another one."
            )
            raise TooMany(text, retry_after_s=int(span.total_seconds()))
    if purpose in _ELSEWHERE:
        # Whoever makes many accounts does not fill one person's mailbox from all of them.
        there = code.target == target, code.purpose.in_(_ELSEWHERE)
        for span, most in paces[1:]:
            written = await session.scalar(select(func.count()).where(*there, code.created_at > now - span))
            if (written or 0) >= most * 2:
                text = T("Too many letters have been sent to this address. Try again later.")
                raise TooMany(text, retry_after_s=int(span.total_seconds()))
    await session.execute(update(code).where(*own, code.used_at.is_(None)).values(used_at=now))
    row = code(user_id=user.id, purpose=purpose, target=target, created_at=now, expires_at=now + LIFE, attempts=0)
    session.add(row)
    await session.flush()
    secret: dict[str, str] = {}
    if purpose in WITH_CODE:
        secret["code"] = f"{secrets.randbelow(1_000_000):06}"
        row.code_hash = _keyed(keys, row.id, secret["code"])
    if purpose in PAGES:
        token = new_token()
        row.token_hash = digest(token)
        secret["path"] = f"{PAGES[purpose]}?token={token}"
    await session.flush()
    key = f"{purpose}:{row.id}"
    await letters.write(session, user.id, purpose, key=key, now=now, address=target, secret=secret, crypto=keys.crypto)
    return row


async def waiting(
    session: AsyncSession, user: models.User, purpose: str, *, now: dt.datetime
) -> models.AccountCode | None:
    """Return the letter of a kind whose code this person can still type in."""
    code = models.AccountCode
    return await session.scalar(
        select(code).where(
            code.user_id == user.id,
            code.purpose == purpose,
            code.used_at.is_(None),
            code.expires_at > now,
            code.attempts < ATTEMPTS,
        )
    )


async def attempt(
    session: AsyncSession, keys: Keys, user: models.User, purpose: str, typed: str, *, now: dt.datetime
) -> models.AccountCode | None:
    """Use a code up and return what it proves; None where it is wrong or too old: nothing is raised, for the try must be kept."""
    code = models.AccountCode
    row = await session.scalar(
        update(code)
        .where(
            code.user_id == user.id,
            code.purpose == purpose,
            code.code_hash.is_not(None),
            code.used_at.is_(None),
            code.expires_at > now,
            code.attempts < ATTEMPTS,
        )
        .values(attempts=code.attempts + 1)
        .returning(code)
        .execution_options(populate_existing=True)
    )
    digits = "".join(str(int(sign)) for sign in typed if sign.isdecimal())[:20]
    if row is None or row.code_hash is None or not same(row.code_hash, _keyed(keys, row.id, digits)):
        return None
    row.used_at = now
    await session.execute(update(code).where(code.id == row.id).values(used_at=now))
    return row


async def look_at(session: AsyncSession, token: str, *, now: dt.datetime) -> tuple[models.AccountCode, models.User]:
    """Return what a link proves and whose it is, without using it up; raises ``Invalid`` (code ``link``)."""
    code, user = models.AccountCode, models.User
    found = (
        await session.execute(
            select(code, user)
            .join(user, user.id == code.user_id)
            .where(
                code.token_hash == digest(token),
                code.used_at.is_(None),
                code.expires_at > now,
                user.banned_at.is_(None),
            )
        )
    ).one_or_none()
    if found is None:
        raise Invalid(_GONE, code="letter_link")
    return found[0], found[1]


async def use(
    session: AsyncSession, token: str, purposes: frozenset[str], *, now: dt.datetime
) -> tuple[models.AccountCode, models.User]:
    """Use a link up; raises ``Invalid`` (code ``link``) the second time, after its end, and for what it was not made for."""
    code = models.AccountCode
    row = await session.scalar(
        update(code)
        .where(
            code.token_hash == digest(token),
            code.purpose.in_(purposes),
            code.used_at.is_(None),
            code.expires_at > now,
        )
        .values(used_at=now)
        .returning(code)
    )
    user = await session.get(models.User, row.user_id) if row is not None else None
    if row is None or user is None or user.banned_at is not None:
        raise Invalid(_GONE, code="letter_link")
    return row, user


async def forget(session: AsyncSession, user_id: str, *, now: dt.datetime) -> None:
    """Make everything worthless that an account was sent: what it proved has changed."""
    code = models.AccountCode
    await session.execute(update(code).where(code.user_id == user_id, code.used_at.is_(None)).values(used_at=now))
