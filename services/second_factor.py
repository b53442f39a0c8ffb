"""Two-step sign-in: a code of six digits from the phone (TOTP, RFC 6238), and recovery codes for the day the phone is gone.

Each 30 seconds' code opens once, also when it arrives twice at the same moment. The secret is kept encrypted, recovery codes as
SHA-256. What is tried is counted per account and per address; a browser that signed in before, and the recovery codes, which
nobody guesses, have a count of their own, so that whoever knows the password cannot lock the true owner out.
"""

from __future__ import annotations

import datetime as dt
import secrets

import pyotp
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import accounts
from services.crypto import Crypto, Undecryptable, digest, same
from services.errors import Conflict, Invalid
from services.i18n import T
from services.limits import Limits

STEP_S = 30
RECOVERY_CODES = 10
_ISSUER = "BotFactory"
# Without letters and digits that are taken for each other.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS, _GROUP = 3, 4
_RECOVERY_FACTOR = 4

WRONG = T("The code is wrong or has been used. Wait for the next one on your phone, and check that its clock is right.")
_UNREADABLE = T("The saved secret can no longer be read. Use a recovery code, or write to whoever runs this service.")


def is_on(user: models.User) -> bool:
    """Tell whether signing in to this account takes a code."""
    return user.totp_at is not None and user.totp_secret is not None


async def begin(session: AsyncSession, crypto: Crypto, user: models.User) -> None:
    """Make a new secret, which counts when :func:`confirm` has seen a code of it; raises ``Conflict`` where one counts."""
    fresh = crypto.encrypt(pyotp.random_base32())
    changed = await session.scalar(
        update(models.User)
        .where(models.User.id == user.id, models.User.totp_at.is_(None))
        .values(totp_secret=fresh, totp_step=None)
        .returning(models.User.id)
    )
    if changed is None:
        raise Conflict(T("Two-step sign-in is on already."))


def secret_of(crypto: Crypto, user: models.User) -> str:
    """Return the secret to show while it is being set up; empty where there is none, or it counts and is shown no more."""
    if user.totp_secret is None or user.totp_at is not None:
        return ""
    try:
        return str(crypto.decrypt(user.totp_secret))
    except Undecryptable:
        return ""


def address_of(secret: str, user: models.User) -> str:
    """Return what an authenticator app reads out of the QR code."""
    name = user.email or user.phone or user.full_name or _ISSUER
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=_ISSUER)


def _step(secret: str, typed: str, now: dt.datetime) -> int | None:
    """Return of which 30 seconds a code is: the present ones, those before or those after; None for a wrong one."""
    code = "".join(str(int(sign)) for sign in typed if sign.isdecimal())[:10]
    present = int(now.timestamp()) // STEP_S
    totp = pyotp.TOTP(secret)
    fits = [step for step in (present - 1, present, present + 1) if same(totp.at(step * STEP_S), code)]
    return max(fits, default=None)


async def _take(session: AsyncSession, user_id: str, step: int) -> bool:
    """Use the code of a step up; False where it, or a later one, has been used."""
    user = models.User
    taken = await session.scalar(
        update(user)
        .where(user.id == user_id, or_(user.totp_step.is_(None), user.totp_step < step))
        .values(totp_step=step)
        .returning(user.id)
    )
    return taken is not None


async def confirm(
    session: AsyncSession, crypto: Crypto, user: models.User, typed: str, *, now: dt.datetime
) -> list[str]:
    """Let the new secret count, now that a code has shown that the phone has it; return the recovery codes, this once.

    Raises ``Invalid`` (field ``code``) for a wrong code, ``Conflict`` where nothing was begun.
    """
    row = await session.get_one(models.User, user.id, with_for_update=True, populate_existing=True)
    secret = secret_of(crypto, row)
    if not secret:
        raise Conflict(T("Begin again: this page is out of date."))
    step = _step(secret, typed, now)
    if step is None:
        raise Invalid(WRONG, field="code")
    row.totp_at, row.totp_step = now, step
    await session.flush()
    return await new_recovery_codes(session, row)


async def new_recovery_codes(session: AsyncSession, user: models.User) -> list[str]:
    """Make ten new recovery codes in place of the old ones; return them, this once."""
    code = models.RecoveryCode
    await session.execute(delete(code).where(code.user_id == user.id))
    made = ["-".join(_random(_GROUP) for _ in range(_GROUPS)) for _ in range(RECOVERY_CODES)]
    session.add_all(code(code_hash=_recovery_hash(each), user_id=user.id) for each in made)
    await session.flush()
    return made


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def _plain(typed: str) -> str:
    return "".join(sign for sign in typed.lower() if sign.isalnum())[:40]


def _recovery_hash(typed: str) -> str:
    return digest(f"recovery:{_plain(typed)}")


def _is_recovery(typed: str) -> bool:
    return len(_plain(typed)) == _GROUPS * _GROUP


async def recovery_codes_left(session: AsyncSession, user: models.User) -> int:
    """Return how many recovery codes have not been used."""
    code = models.RecoveryCode
    return await session.scalar(select(func.count()).where(code.user_id == user.id, code.used_at.is_(None))) or 0


def _counted(user_id: str, typed: str) -> str:
    return f"second:{user_id}" + (":recovery" if _is_recovery(typed) else "")


async def allow(
    limits: Limits, user_id: str, typed: str, address: str, per_window: int, *, device: str | None = None
) -> None:
    """Count one try; raises ``TooMany``. ``device``: a browser in which this person signed in before."""
    limit = per_window * (_RECOVERY_FACTOR if _is_recovery(typed) else 1)
    known = f"second:{device}" if device is not None else None
    await accounts.allow_attempt(limits, _counted(user_id, typed), f"second:{address}", limit, device=known)


async def forget(limits: Limits, user_id: str, address: str, *, device: str | None = None) -> None:
    """Count anew: a code was right."""
    known = f"second:{device}" if device is not None else None
    await accounts.forget_attempts(limits, _counted(user_id, ""), address=f"second:{address}", device=known)


async def check(session: AsyncSession, crypto: Crypto, user_id: str, typed: str, *, now: dt.datetime) -> bool:
    """Use a code of the phone or a recovery code up; False where it is wrong or was used before.

    Raises ``Invalid`` where the secret was encrypted with a key that is gone: a recovery code still opens.
    """
    row = await session.get_one(models.User, user_id, populate_existing=True)
    if not is_on(row):
        return False
    if _is_recovery(typed):
        code = models.RecoveryCode
        used = await session.scalar(
            update(code)
            .where(code.code_hash == _recovery_hash(typed), code.user_id == user_id, code.used_at.is_(None))
            .values(used_at=now)
            .returning(code.user_id)
        )
        return used is not None
    try:
        secret = str(crypto.decrypt(row.totp_secret or ""))
    except Undecryptable:
        raise Invalid(_UNREADABLE, field="code") from None
    step = _step(secret, typed, now)
    return step is not None and await _take(session, user_id, step)


async def turn_off(session: AsyncSession, user: models.User) -> None:
    """Let signing in take no code any more; the recovery codes go too."""
    await session.execute(
        update(models.User).where(models.User.id == user.id).values(totp_secret=None, totp_at=None, totp_step=None)
    )
    await session.execute(delete(models.RecoveryCode).where(models.RecoveryCode.user_id == user.id))
