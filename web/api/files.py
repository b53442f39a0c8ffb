"""Files of messages, as the API shows them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from db import models
from services import attachments
from services.core import Core
from web.api.wire import Answer


class FileAnswer(Answer):
    """A file of a message, that a customer, a person of the business or the bot sent."""

    id: str
    kind: Annotated[str, Field(description="photo, voice, audio, video or document")]
    name: Annotated[str, Field(description="as the sender calls it; may be empty")]
    mime: Annotated[
        str, Field(description="what the content is, whatever its name says; empty while it is not fetched")
    ]
    size: Annotated[int, Field(description="in bytes")]
    status: Annotated[str, Field(description="waiting, stored, too_large, refused, gone, no_room or failed")]
    url: Annotated[str | None, Field(description="where it can be fetched without a token, for a while")]
    transcript: Annotated[str | None, Field(description="what is said in it, or what is to be seen")]


def show_file(core: Core, file: models.Attachment) -> FileAnswer:
    """Return a file as the API shows it, with a new address."""
    url = core.settings.public_url + attachments.link(core, file.id) if file.status == "stored" else None
    return FileAnswer(
        id=file.id,
        kind=file.kind,
        name=file.name,
        mime=file.mime,
        size=file.size,
        status=file.status,
        url=url,
        transcript=file.transcript,
    )
