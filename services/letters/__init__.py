"""Letters: what the holder of an account is written, by mail and in Telegram, each once.

A letter is a row, written in the transaction of what it tells about; it is sent later and as often as it takes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import insert_for, new_id
from services.crypto import Crypto
from services.letters import accounts, announcements, billing, offers, partners, people, requests
from services.letters.base import Kind

KINDS: Mapping[str, Kind] = {
    **accounts.KINDS,
    **billing.KINDS,
    **offers.KINDS,
    **requests.KINDS,
    **partners.KINDS,
    **announcements.KINDS,
    **people.KINDS,
}
LIFE = dt.timedelta(days=3)
"""For so long it is tried to send a letter."""
SECRET_LIFE = dt.timedelta(hours=1)
"""The same for one with a secret: a code or link that comes when it no longer works only confuses."""


async def write(
    session: AsyncSession,
    user_id: str,
    kind: str,
    *,
    key: str,
    now: dt.datetime,
    params: Mapping[str, Any] | None = None,
    address: str | None = None,
    mail: bool = True,
    telegram: bool = True,
    secret: Mapping[str, str] | None = None,
    crypto: Crypto | None = None,
    expires_at: dt.datetime | None = None,
) -> bool:
    """Write a letter of a kind in :data:`KINDS`; return False where one with this ``key`` was written to this person already.

    ``params`` fill its texts: words as they are, or values that the language writes in its own way (``{"day": "2026-11-22T…"}``,
    ``{"tiyin": 29000000}``, see ``services/letters/rendering.py``). ``secret``: such params as must not lie about readable
    (codes, links that sign in), encrypted by ``crypto``. ``address``: where the mail goes instead of the account's address.
    ``expires_at``: from when on it is of no use any more; by default after :data:`LIFE`, or :data:`SECRET_LIFE`. Whoever calls
    rings the bell ``letters`` after the transaction.
    """
    sealed = crypto.encrypt(dict(secret)) if secret and crypto is not None else None
    connection = await session.connection()
    made = await session.scalar(
        insert_for(connection.dialect.name, models.Letter)
        .values(
            id=new_id(),
            user_id=user_id,
            kind=kind,
            key=key,
            params=dict(params or {}),
            secret=sealed,
            address=address,
            mail="new" if mail else "none",
            mail_attempts=0,
            mail_error="",
            telegram="new" if telegram and KINDS[kind].telegram is not None else "none",
            telegram_attempts=0,
            run_at=now,
            telegram_at=now,
            expires_at=expires_at or now + (SECRET_LIFE if secret else LIFE),
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["user_id", "key"])
        .returning(models.Letter.id)
    )
    return made is not None
