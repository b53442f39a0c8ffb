"""Tokens that end are renewed while they are good, so that no owner has to think of it.

Meta gives tokens of Instagram's own login for 60 days and renews one that is older than a day
(developers.facebook.com/documentation/instagram-platform, business-login, checked 2026-11-21).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from db import models
from services.channels.base import Renewable
from services.errors import Permanent, Temporary

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

ENTERED, RENEWED, ENDS = "token_entered_at", "token_renewed_at", "token_expires_at"
"""What a channel's settings say of its token; seconds since 1970."""
_YOUNG_S = 86_400
_AGAIN_S = 7 * 86_400


def entered(settings: dict[str, object]) -> dict[str, object]:
    """Return a channel's settings after its owner has entered a token, of which nothing else is known yet."""
    kept = {name: value for name, value in settings.items() if name not in (RENEWED, ENDS)}
    return {**kept, ENTERED: int(time.time())}


def _due(settings: dict[str, int], now: float) -> bool:
    return now - settings.get(ENTERED, 0) > _YOUNG_S and now - settings.get(RENEWED, 0) > _AGAIN_S


async def renewed(core: Core, channel: models.Channel) -> models.Channel:
    """Renew the token of a channel whose time it is; return the channel as it stands then.

    A network that refuses or does not answer leaves the token as it is: the owner hears of its end in time. Credentials that the
    owner changed meanwhile stay.
    """
    adapter = core.channels.get(channel.kind)
    now = time.time()
    if not isinstance(adapter, Renewable) or not _due(channel.settings or {}, now):
        return channel
    try:
        found = await adapter.renew(core.credentials(channel.credentials))
    except (Temporary, Permanent) as error:
        log.warning("token_not_renewed", channel=channel.id, reason=str(error))
        return channel
    if found is None:
        return channel
    credentials, lasts_s = found
    # A process that dies here loses the new token; the old one is good until its own end and is renewed once more.
    await core.pause("token_renewed")
    async with core.db.write() as session:
        row = await session.get(models.Channel, channel.id, with_for_update=True)
        if row is None or row.credentials != channel.credentials:
            return channel
        row.credentials = core.crypto.encrypt(dict(credentials))
        row.settings = {**(row.settings or {}), RENEWED: int(now), ENDS: int(now) + lasts_s}
    core.cards.clear()
    core.bell.ring("channels")
    log.info("token_renewed", channel=channel.id)
    return row
