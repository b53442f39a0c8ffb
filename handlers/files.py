"""Taking a sent file into a bot's knowledge."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
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
        own = await bots.list_for(session, talk.user, "own")
    if len(own) != 1:
        return
    for message_id in waiting_files(talk.dialog):
        file = take_file(talk.dialog, message_id)
        if file is not None:
            await take(talk, bot, file)
            forget_file(talk.dialog, message_id)


async def take(talk: Talk, bot: models.Bot, file: dict[str, Any]) -> None:
    """Download a document, store it and follow its reading.

    An update that comes again finds its document there and only follows it.
    """
    core, limit = talk.core, talk.core.settings.knowledge.max_file_bytes
    await talk.bot.send_chat_action(talk.chat_id, ChatAction.TYPING)
    try:
        data = await core.telegram.download(talk.bot.token, str(file["id"]), limit)
    except Refused as error:
        if "too big" in str(error):
            mib = core.settings.knowledge.max_file_mib
            raise TooLarge(T("The file is larger than {n} MB. Split it or send a smaller one.", n=mib)) from None
        raise Invalid(T("Telegram no longer has this file. Please send it again."), field="file") from None
    async with core.db.write() as session:
        document = _repeated(await documents.list_for(session, bot), str(file["name"]), data)
        if document is None:
            document = await documents.upload(
                session,
                bot,
                str(file["name"]),
                data,
                limits=core.settings.limits,
                max_bytes=limit,
                watched=True,
                caption=file.get("caption"),
                plan=core.allowances,
            )
    core.bell.ring("jobs")
    await talk.progress.follow(talk, bot, document)


def _repeated(known: Sequence[models.Document], name: str, data: bytes) -> models.Document | None:
    """Return the document that an update which came again has made already; ``known``: the bot's, the latest first.

    That is the latest of its name, if it came within the hour and has these bytes. They do not tell it alone: a price list sent
    under a wrong name is sent again under the right one.
    """
    title = documents.title_of(name).casefold()
    latest = next((each for each in known if each.name.casefold() == title), None)
    if latest is None or latest.status == "failed" or latest.created_at <= utcnow() - _REPEAT:
        return None
    return latest if latest.sha256 == hashlib.sha256(data).hexdigest() else None
