"""A lost password: the letter is written behind the answer, so that the answer's time does not tell who has an account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from services import accounts, codes
from services.crypto import Undecryptable
from services.errors import TooMany

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

RESET_JOB = "password_reset"


async def write_reset(core: Core, payload: Mapping[str, Any]) -> None:
    """Write the letter with the link if there is such an account that may sign in; its pace is kept in silence."""
    try:
        email = str(core.crypto.decrypt(str(payload["email"])))
    except Undecryptable:
        log.warning("reset_unreadable")
        return
    keys = codes.Keys(core.secret, core.crypto)
    try:
        async with core.db.write() as session:
            user = await accounts.by_email(session, email)
            if user is None or user.banned_at is not None:
                return
            await codes.send(session, keys, user, "reset", email, now=core.now())
    except TooMany:
        log.info("reset_paced")
        return
    core.bell.ring("letters")
