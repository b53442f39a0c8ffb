"""What the chat page knows of the person in front of it: a random secret in their browser, and the talk that hangs on it."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models

_PREFIX = "visitor-"

Standing = tuple[dt.datetime, str]
"""How a talk stands: when something was said last, and who answers. Another one means that there is something to read."""


def contact_of(public_id: str, secret: str) -> str:
    """Return the contact id that a visitor's secret stands for.

    It cannot be turned back into the secret, so whoever reads it in a list cannot take the talk over; and no secret leads to
    the contact of a program that names its customers itself.
    """
    return _PREFIX + hashlib.sha256(f"{public_id}\n{secret}".encode()).hexdigest()[:40]


async def talk(session: AsyncSession, channel: models.Channel, contact: str) -> models.Conversation | None:
    """Return the conversation of a contact on a channel; None before the first message."""
    return await session.scalar(
        select(models.Conversation)
        .join(models.Contact, models.Contact.id == models.Conversation.contact_id)
        .where(models.Contact.channel_id == channel.id, models.Contact.external_id == contact)
    )


async def standings(session: AsyncSession, conversation_ids: Sequence[str]) -> dict[str, Standing]:
    """Return how conversations stand, by id."""
    talk = models.Conversation
    rows = await session.execute(
        select(talk.id, talk.last_message_at, talk.status).where(talk.id.in_(conversation_ids))
    )
    return {id_: (said_at, status) for id_, said_at, status in rows}
