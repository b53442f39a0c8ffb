"""Files of customers as rows: what is noted of one when its message arrives, before anybody has fetched it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from db import models
from db.base import new_id, table_of
from services.channels.base import Inbound
from services.text import one_line

ATTACHMENT = table_of(models.Attachment)
NEW_ATTACHMENT = ATTACHMENT.insert()
MOST = 10
"""So many files of one message are kept; the networks send one."""
_KINDS = frozenset({"photo", "voice", "audio", "video", "document"})


def rows(bot_id: str, message_id: str, event: Inbound, moment: dt.datetime) -> list[dict[str, Any]]:
    """Return the rows of a message's files, waiting to be fetched. A sticker says all by being one and is not kept."""
    return [
        {
            "id": new_id(),
            "bot_id": bot_id,
            "message_id": message_id,
            "kind": file.kind,
            "name": one_line(file.name, 255),
            "mime": "",
            "size": min(file.size, 2**31 - 1),
            "status": "waiting",
            "remote": {"ref": dict(file.ref), "seconds": file.seconds},
            "created_at": moment,
        }
        for file in event.files[:MOST]
        if file.kind in _KINDS
    ]


def more(event: Inbound) -> dict[str, Any] | None:
    """Return what a message keeps of an event beside its text."""
    return {"location": event.extra["location"]} if event.extra.get("location") else None
