"""Documents: what a bot answers from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import Field

from db import models
from services import bots
from services.errors import Invalid, TooLarge
from services.i18n import T
from services.knowledge import documents
from services.text import clean
from web.api.base import Call, Routes, UnsupportedType
from web.api.wire import Answer, Body, Listing, NotNull, Part, UtcMoment, Word, part_of

routes = Routes("Documents")

_SLICE = 65_536
_PARTS_MAX = 20
_TEXTS = ("caption", "shared")


class DocumentAnswer(Answer):
    """A document."""

    id: str
    name: str
    status: Annotated[str, Field(description="queued, processing, ready or failed")]
    progress: Annotated[int, Field(ge=0, le=100)]
    error: Annotated[str | None, Field(description="why it could not be read, for people")]
    size: Annotated[int, Field(description="bytes")]
    shared: Annotated[bool, Field(description="customers may receive the file")]
    caption: Annotated[str, Field(description="what it shows; all that is known of a picture")]
    created_at: UtcMoment


def show(document: models.Document, language: str) -> DocumentAnswer:
    """Return a document as the API shows it."""
    reason = documents.error_text(document)
    return DocumentAnswer(
        id=document.id,
        name=document.name,
        status=document.status,
        progress=document.progress,
        error=reason.render(language) if reason else None,
        size=document.size,
        shared=document.shared,
        caption=document.caption,
        created_at=document.created_at,
    )


class DocumentChanges(Body):
    """What to change; what is left out stays."""

    shared: Annotated[bool | None, NotNull] = None
    caption: Annotated[Word | None, NotNull] = None


@dataclass(frozen=True, slots=True)
class Received:
    """What came: the part ``file``, and by name the parts that are texts."""

    name: str
    data: bytes
    texts: Mapping[str, str]

    @property
    def shared(self) -> bool | None:
        """Whether customers may receive it; None where that was not said. Raises ``Invalid``."""
        said = self.texts.get("shared", "").strip().lower()
        if said not in ("", "true", "false"):
            raise Invalid(T("Unknown value. Use one of: {names}.", names="true, false"), field="shared")
        return said == "true" if said else None


async def receive(request: web.Request, limit: int) -> Received:
    """Return the part ``file`` and the texts beside it; gives up as soon as more than ``limit`` bytes have come."""
    if request.content_type != "multipart/form-data":
        raise UnsupportedType(T("Send the data as {name}.", name="multipart/form-data"))
    too_large = TooLarge(
        T("The file is larger than {n} MB. Split it or send a smaller one.", n=limit // 1_048_576), field="file"
    )
    received = 0
    found: tuple[str, bytes] | None = None
    texts: dict[str, str] = {}
    try:
        parts = await request.multipart()
        for _ in range(_PARTS_MAX):
            part = await parts.next()
            if part is None:
                break
            if isinstance(part, MultipartReader):
                raise ValueError("parts within parts")
            name, content = part.name, bytearray()
            while chunk := await part.read_chunk(_SLICE):
                received += len(chunk)
                if received > limit:
                    raise too_large
                if (name == "file" and found is None) or name in _TEXTS:
                    content += chunk
            if name == "file" and found is None:
                found = (_name(part), bytes(content))
            elif name in _TEXTS:
                texts[name] = clean(content.decode())
    except (ValueError, LookupError, AssertionError, HttpProcessingError, web.RequestPayloadError):
        raise Invalid(T("This form arrived damaged. Please send it again.")) from None
    if found is None:
        raise Invalid(T("Choose a file first."), field="file")
    return Received(*found, texts)


def _name(part: BodyPartReader) -> str:
    if not part.filename:
        raise Invalid(T("The file name needs an extension, such as .pdf, .docx, .csv, .txt or .jpg."), field="file")
    return part.filename


@routes.post("/bots/{bot_id}/documents", 202, upload=True, errors=(409,))
async def create(call: Call, bot_id: str) -> DocumentAnswer:
    """Give a bot a document to answer from: .pdf, .docx, .csv, .txt, or a picture (.jpg, .png, .webp) with a `caption`.

    At most 10 MB. One of the same name is replaced. With the part `shared` = `true` customers may receive the file.
    """
    core = call.core
    async with core.db.read() as session:
        await bots.get(session, call.user, bot_id)
    limit = core.settings.knowledge.max_file_bytes
    came = await receive(call.request, limit)
    async with core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        document = await documents.upload(
            session,
            bot,
            came.name,
            came.data,
            limits=core.settings.limits,
            max_bytes=limit,
            shared=came.shared,
            caption=came.texts.get("caption"),
            plan=core.allowances,
        )
    core.bell.ring("jobs")
    core.bell.ring(f"bot:{bot_id}", {"document": document.id, "status": document.status, "progress": 0})
    return show(document, call.language)


@routes.get("/bots/{bot_id}/documents")
async def index(call: Call, bot_id: str, query: Part) -> Listing[DocumentAnswer]:
    """List a bot's documents, the latest first."""
    async with call.core.db.read() as session:
        bot = await bots.get(session, call.user, bot_id)
        rows = await documents.list_for(session, bot)
    return part_of(rows, query, lambda row: show(row, call.language), newest_first=True)


@routes.get("/bots/{bot_id}/documents/{document_id}")
async def read(call: Call, bot_id: str, document_id: str) -> DocumentAnswer:
    """Show a document and how far reading it has come."""
    async with call.core.db.read() as session:
        bot = await bots.get(session, call.user, bot_id)
        return show(await documents.get(session, bot, document_id), call.language)


@routes.patch("/bots/{bot_id}/documents/{document_id}", example={"shared": True, "caption": "Price list of the summer"})
async def update(call: Call, bot_id: str, document_id: str, body: DocumentChanges) -> DocumentAnswer:
    """Say whether customers may receive a document's file, and what it shows. It holds for every version of its name."""
    async with call.core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        document = await documents.share(
            session,
            bot,
            await documents.get(session, bot, document_id),
            shared=body.shared,
            caption=body.caption,
        )
    call.core.bell.ring("jobs")
    return show(document, call.language)


@routes.delete("/bots/{bot_id}/documents/{document_id}")
async def delete(call: Call, bot_id: str, document_id: str) -> None:
    """Delete a document; the bot forgets it at once."""
    async with call.core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        await documents.delete(session, bot, await documents.get(session, bot, document_id))
    call.core.bell.ring("jobs")
    call.core.bell.ring(f"bot:{bot_id}", {"document": document_id, "status": "deleted", "progress": 0})
