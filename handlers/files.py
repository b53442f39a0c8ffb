"""Taking a sent file into a bot's knowledge."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

from aiogram.enums import ChatAction

from db import models
from db.base import utcnow
from handlers.states import forget_file, take_file, waiting_files
from handlers.talk import Talk
from services import bots
from services.channels.base import Refused
from services.errors import Invalid, TooLarge
from services.i18n import T
from services.knowledge import documents

_REPEAT = dt.timedelta(hours=1)


async def take_waiting(talk: Talk, bot: models.Bot) -> None:
    """Give a new bot the documents that were sent before it existed."""
    async with talk.core.db.read() as session:
        own = await bots.list_for(session, talk.user)
    if len(own) != 1:
        return
    for message_id in waiting_files(talk.dialog):
        file = take_file(talk.dialog, message_id)
        if file is not None:
            await take(talk, bot, file)
            forget_file(talk.dialog, message_id)


async def take(talk: Talk, bot: models.Bot, file: dict[str, Any]) -> None:
    """Download a document, store it and follow its reading.

    The same bytes sent within an hour are a repeat of this update: they are followed, not stored again.
    """
    core, limit = talk.core, talk.core.settings.knowledge.max_file_mib * 1_048_576
    await talk.bot.send_chat_action(talk.chat_id, ChatAction.TYPING)
    try:
        data = await core.telegram.download(talk.bot.token, str(file["id"]), limit)
    except Refused as error:
        if "too big" in str(error):
            mib = core.settings.knowledge.max_file_mib
            raise TooLarge(T("The file is larger than {n} MB. Split it or send a smaller one.", n=mib)) from None
        raise Invalid(T("Telegram no longer has this file. Please send it again."), field="file") from None
    digest = hashlib.sha256(data).hexdigest()
    async with core.db.write() as session:
        known = await documents.list_for(session, bot)
        document = next(
            (
                each
                for each in known
                if each.sha256 == digest and each.status != "failed" and each.created_at > utcnow() - _REPEAT
            ),
            None,
        )
        if document is None:
            document = await documents.upload(
                session, bot, str(file["name"]), data, limits=core.settings.limits, max_bytes=limit, watched=True
            )
    core.bell.ring("jobs")
    await talk.progress.follow(talk, bot, document)
