"""Pictures that visitors of the web channel send: kept here until they are fetched into the conversation.

The bytes are committed before the message that names them is accepted. A row goes after :data:`KEPT`, fetched or not.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select

from db import models
from services.errors import Invalid, TooLarge, TooMany
from services.i18n import T

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from db.engine import Database
    from services.settings import Limits

KEPT = dt.timedelta(days=2)
TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
NOT_A_PICTURE = T("Send a picture: {types}.", types="PNG, JPEG, WebP, GIF")


def picture_type(data: bytes) -> str | None:
    """Return the media type of a picture by its first bytes, None for what is no picture that browsers show safely."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return None


def too_large(limits: Limits) -> TooLarge:
    """Return what is said to a picture over the limit."""
    return TooLarge(T("The picture is larger than {n} MB. Send a smaller one.", n=limits.picture_mib), field="file")


async def keep(session: AsyncSession, channel: models.Channel, data: bytes, limits: Limits) -> models.Upload:
    """Store a picture.

    Raises ``Invalid`` for what is none, ``TooLarge``, and ``TooMany`` while what this channel took lately fills what it may.
    """
    if len(data) > limits.picture_mib * 2**20:
        raise too_large(limits)
    kind = picture_type(data)
    if kind is None:
        raise Invalid(NOT_A_PICTURE, field="file")
    kept = await session.scalar(select(func.sum(models.Upload.size)).where(models.Upload.channel_id == channel.id))
    if int(kept or 0) + len(data) > limits.bot_pictures_mib * 2**20:
        raise TooMany(
            T("Too many pictures have been sent here lately. Please describe yours in words."), retry_after_s=3600
        )
    made = models.Upload(channel_id=channel.id, mime=kind, size=len(data), content=data)
    session.add(made)
    await session.flush()
    return made


async def forget(session: AsyncSession, conversation_id: str) -> None:
    """Delete what a visitor sent in a conversation; before its messages go, which name it."""
    file, message = models.Attachment, models.Message
    of_talk = select(file.remote).join(message, message.id == file.message_id)
    kept = await session.scalars(of_talk.where(message.conversation_id == conversation_id))
    ids = [id_ for remote in kept if (id_ := ((remote or {}).get("ref") or {}).get("upload"))]
    await session.execute(delete(models.Upload).where(models.Upload.id.in_(ids)))


def loader(db: Database) -> Callable[[str], Awaitable[bytes | None]]:
    """Return what reads a kept picture by its id; None when it is gone."""

    async def load(upload_id: str) -> bytes | None:
        async with db.read() as session:
            return await session.scalar(select(models.Upload.content).where(models.Upload.id == upload_id))

    return load
