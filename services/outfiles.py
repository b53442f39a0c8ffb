"""Files that people of a business send to customers: checked before they are kept, loaded when they are sent."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from sqlalchemy import func, or_, select, update

from db import models
from services import attachments, sniffing
from services.channel_names import CHANNEL_NAMES
from services.channels import TAKEN, TELEGRAM_MIB, as_link
from services.channels.base import Outgoing, OutgoingFile
from services.conversations.files import NewFile
from services.errors import Invalid, TooLarge, TooMany
from services.i18n import T, Text
from services.knowledge.shelf import Handout
from services.text import one_line

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

LINK_MINUTES = 3 * 24 * 60
"""For so long the address works that is written to a customer instead of a file."""
_MIB = 1_048_576
_SUFFIXES = {"image/jpeg": ".jpg", "audio/ogg": ".ogg", "audio/mpeg": ".mp3", "video/mp4": ".mp4"}


def largest(core: Core) -> int:
    """Return how large a file of any kind may be, in bytes."""
    return max(attachments.size_limit(core.settings.media, kind) for kind in ("photo", "audio", "video", "document"))


def too_large(mib: int) -> Text:
    """Return the words for a file that is larger than that many MiB."""
    return T("The file is too large: at most {n} MB.", n=mib)


def _kind(mime: str, hint: str) -> str:
    family = mime.partition("/")[0]
    if family == "audio":
        return "voice" if hint == "voice" else "audio"
    return {"image": "photo", "video": "video"}.get(family, "document")


def _name(name: str, kind: str, mime: str) -> str:
    """Return a file's name for the customer; a picture was made anew and is a JPEG, whatever it was called."""
    title = one_line(name.replace("\\", "/").rpartition("/")[2], 120).strip(". ")
    suffix = _SUFFIXES.get(mime, "")
    if mime == "image/jpeg":
        stem = title.rpartition(".")[0] if "." in title else title
        title = f"{stem}{suffix}" if stem else ""
    return title or f"{kind}{suffix}"


def is_public(address: str) -> bool:
    """Tell whether somebody else's server can fetch from an address of ours: by https, under a name or number of the world."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme != "https":
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".local", ".internal", ".lan", ".home.arpa"))


async def prepare(core: Core, channel_kind: str, talk_id: str, name: str, data: bytes, *, kind: str = "") -> NewFile:
    """Return what may be kept and sent of a person's file. No transaction may be open: a picture is made anew.

    ``kind``: what it was sent as, where that is known. Raises ``Invalid`` for a content that is not sent or that the network
    does not take, ``TooLarge``, ``TooMany``, or ``Temporary`` where this machine has no process for a picture.
    """
    media = core.settings.media
    if not data:
        raise Invalid(T("The file is empty."), field="file")
    if channel_kind == "instagram" and not is_public(core.settings.public_url):
        raise Invalid(
            T(
                "Instagram fetches files from a public https address, and this installation has none. Set PUBLIC_URL, or "
                "send the file another way."
            ),
            field="file",
        )
    told = _kind(sniffing.mime_of(data, sound=kind in ("voice", "audio")), kind)
    most = attachments.size_limit(media, told)
    if len(data) > most:
        raise TooLarge(too_large(most // _MIB))
    if not await core.limits.hit(f"files-out:{talk_id}", media.files_per_hour, 3600):
        raise TooMany(T("Too many files in one hour. Please wait a little."), retry_after_s=600)
    async with core.db.read() as session:
        owner = select(models.Bot.owner_id).join(models.Conversation, models.Conversation.bot_id == models.Bot.id)
        owner_id = str(await session.scalar(owner.where(models.Conversation.id == talk_id)))
    if not await core.spending.has_room(core, owner_id, len(data)):
        raise TooLarge(
            T(
                "All the room for files is used: {n} MB. Nothing more is kept until old files are deleted.",
                n=media.owner_files_mib,
            ),
            field="file",
        )
    try:
        content, mime = await attachments.harmless(media, kind or told, data)
    except attachments.Harmful as error:
        log.info("file_refused", kind=told, reason=str(error))
        raise Invalid(
            T("This file cannot be sent. Pictures, sound, video and documents such as PDF can."), field="file"
        ) from None
    taken = TAKEN.get(channel_kind)
    if taken is not None and mime not in taken:
        raise Invalid(
            T(
                "{network} does not take files of this kind. Send it as a PDF or a picture.",
                network=CHANNEL_NAMES[channel_kind],
            ),
            field="file",
        )
    network_mib = taken[mime] if taken is not None else TELEGRAM_MIB if channel_kind == "telegram" else 0
    if network_mib and len(content) > network_mib * _MIB:
        raise TooLarge(too_large(network_mib))
    told = _kind(mime, kind)
    core.spending.store(owner_id, len(content))
    return NewFile(told, _name(name, told, mime), mime, content)


def goes(core: Core, channel_kind: str, file: Handout) -> bool:
    """Whether a file of the knowledge base reaches customers by a channel: as a file, or where it takes none such, as a link."""
    if channel_kind == "instagram" and not is_public(core.settings.public_url):
        return False
    if as_link(channel_kind, file.mime):
        return True
    taken = TAKEN.get(channel_kind, {}).get(file.mime)
    mib = taken if taken is not None else TELEGRAM_MIB if channel_kind == "telegram" else 0
    return file.size <= mib * _MIB or not mib


def with_file(channel_kind: str, message: Outgoing, file: OutgoingFile) -> Outgoing:
    """Return a message with its loaded file, or with the file's address written below the text."""
    if as_link(channel_kind, file.mime):
        return replace(message, text=f"{message.text}\n{file.url}".strip(), file=None)
    return replace(message, file=file)


async def withdraw(core: Core, file: OutgoingFile) -> bool:
    """Note that a document was not sent because customers may not receive it any more; False for any other file."""
    attachment = models.Attachment
    async with core.db.write() as session:
        noted = await session.scalar(
            update(attachment)
            .where(attachment.id == file.id, attachment.document_id.is_not(None))
            .values(status="gone")
            .returning(attachment.id)
        )
    return noted is not None


async def loaded(
    core: Core, file: OutgoingFile, message_id: str | None, channel_kind: str, bot_id: str | None
) -> OutgoingFile | None:
    """Return a file with its content, or its address where the network fetches it; None where it is gone.

    It must be the message's own and of the bot that sends: whatever stands in a row of the outbox, no other file leaves. Nor does
    a document that customers may not receive any more.
    """
    attachment, document = models.Attachment, models.Document
    by_address = channel_kind == "instagram"
    content = attachments.CONTENT
    query = (
        attachments.with_content(select(func.length(content) if by_address else content).select_from(attachment))
        .outerjoin(document, document.id == attachment.document_id)
        .where(
            attachment.id == file.id,
            attachment.message_id == message_id,
            attachment.bot_id == bot_id,
            attachment.status == "stored",
            or_(attachment.document_id.is_(None), document.shared.is_(True)),
        )
    )
    async with core.db.read() as session:
        found = await session.scalar(query)
    if found is None:
        return None
    if by_address:
        minutes = LINK_MINUTES if as_link(channel_kind, file.mime) else None
        return replace(file, url=core.settings.public_url + attachments.link(core, file.id, minutes))
    return replace(file, content=found)
