"""Who a customer is, where messages do not say: asked of the network once and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from sqlalchemy import update

from db import models
from db.engine import DatabaseUnavailable
from services.channels.base import Introduces
from services.conversations.records import Talk
from services.crypto import Undecryptable
from services.errors import Permanent, Temporary
from services.text import one_line

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

_ONCE_S = 86_400


async def learn(core: Core, talk: Talk) -> None:
    """Ask the network for the name of somebody who wrote and has none here; where it does not tell, all goes on without."""
    adapter = core.channels.get(talk.channel_kind)
    if not isinstance(adapter, Introduces) or not talk.recipient.isdigit() or talk.bot is None:
        return
    wrote = any(event.kind in ("message", "command", "callback") for _, _, event in talk.messages)
    if not wrote or not await core.limits.hit(f"profile:{talk.contact_id}", 1, _ONCE_S):
        return
    try:
        async with core.db.read() as session:
            contact = await session.get(models.Contact, talk.contact_id)
        if contact is None or contact.name:
            return
        person = await adapter.profile(core.credentials(talk.credentials), talk.recipient)
        name, username = one_line(person.name or person.username, 200), one_line(person.username, 64)
        if not name:
            return
        async with core.db.write() as session:
            await session.execute(
                update(models.Contact)
                .where(models.Contact.id == talk.contact_id, models.Contact.name == "")
                .values(name=name, username=username)
            )
    except (Temporary, Permanent, Undecryptable, DatabaseUnavailable) as error:
        log.info("profile_not_learnt", channel=talk.channel_id, reason=str(error))
        return
    core.ring_talk(talk.bot.id, talk.conversation_id)
