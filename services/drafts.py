"""An answer is shown while it is written: Telegram's message drafts, in private chats only.

A draft is a preview of half a minute and never the answer: that is a message of its own, from the outbox. So drafts may go
missing: they are sent only where the network's limits leave room for them and it did not ask to wait, and the first failure
ends them for this answer.
Facts: core.telegram.org/bots/api#sendmessagedraft, checked 2026-11-21.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from services.conversations.rules import Listener
from services.errors import Permanent, Temporary
from services.text import split_text

if TYPE_CHECKING:
    from services.conversations.records import Talk
    from services.core import Core

log = structlog.get_logger(__name__)

_SHARE = 0.5
"""So much of what a bot may send in a second may be drafts."""
_IDS = 2**31 - 1


def fits(core: Core, talk: Talk) -> bool:
    """Whether drafts can be shown in a talk: a private chat with a Telegram bot of which they are wanted."""
    return talk.channel_kind == "telegram" and talk.recipient.isdigit() and core.settings.telegram.drafts_per_second > 0


class Draft(Listener):
    """Shows one answer as far as it is written."""

    def __init__(self, core: Core, talk: Talk) -> None:
        super().__init__(core.bell.ring, [])
        self._core, self._talk = core, talk
        self._text = ""
        self._grown = asyncio.Event()

    def delta(self, text: str) -> None:
        """Another piece of the answer."""
        self._text += text
        self._grown.set()

    def restart(self) -> None:
        """Forget the pieces: what is shown stays until the other answer has begun."""
        self._text = ""

    async def show(self) -> None:
        """Show the answer as it grows, until cancelled or refused. An answer that is soon there is not shown before."""
        core, talk = self._core, self._talk
        settings = core.settings.telegram
        await self._grown.wait()
        await asyncio.sleep(settings.draft_after_s)
        credentials = core.credentials(talk.credentials)
        number = int(talk.messages[-1][1]["id"]) % _IDS + 1
        while True:
            await self._grown.wait()
            self._grown.clear()
            parts = split_text(self._text, core.channels[talk.channel_kind].text_limit)
            if parts:
                if not await self._room():
                    return
                try:
                    await self._send(credentials, number, parts[0])
                except (Temporary, Permanent) as error:
                    log.info("draft_refused", channel=talk.channel_id, reason=str(error))
                    if isinstance(error, Temporary) and error.retry_after_s is not None:
                        core.limits.rest(f"draft:{talk.channel_id}", error.retry_after_s)
                    return
            await asyncio.sleep(1 / settings.drafts_per_second)

    async def _room(self) -> bool:
        """Whether the network's limits leave room for something that nobody would miss; it counts like a message."""
        settings, limits = self._core.settings.telegram, self._core.limits
        channel, rate = self._talk.channel_id, settings.messages_per_second
        chat = f"chat:{channel}:{self._talk.recipient}"
        if any(map(limits.rests, (f"draft:{channel}", f"bot:{channel}", chat))):
            return False
        if not await limits.hit(f"draft:{channel}", max(1, int(rate * _SHARE)), 1.0):
            return False
        if await limits.take(chat, settings.chat_messages_per_second, settings.chat_burst) > 0:
            return False
        return await limits.take(f"bot:{channel}", rate, max(1.0, rate)) == 0

    async def _send(self, credentials: Mapping[str, str], number: int, text: str) -> None:
        await self._core.telegram.call(
            str(credentials["token"]),
            "sendMessageDraft",
            timeout_s=5,
            chat_id=int(self._talk.recipient),
            draft_id=number,
            text=text,
        )
