"""What customers wrote and what the bot answered, to read: the list and one conversation side by side."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import attachments, bots, conversations
from services.errors import AppError, Invalid, NotFound
from services.i18n import T, Text
from web import auth, forms, view
from web.pages.shell import core_of, fault_of, frame, own_bot

routes = web.RouteTableDef()

_FILTERS = ("q", "status", "channel", "since", "after")
_MESSAGES = 50
_DRAFT_CHARS = 20_000
# What the network said of a message it refused, in part, and what that means to the owner.
_REASONS: tuple[tuple[str, Text], ...] = (
    ("131047", T("the customer has not written for more than 24 hours")),
    ("not written for too long", T("the customer has not written for more than 24 hours")),
    ("131026", T("this number does not receive WhatsApp messages")),
    ("190: ", T("WhatsApp does not accept the token")),
    ("131042", T("WhatsApp is not paid for")),
    ("meta cannot be reached", T("WhatsApp could not be reached")),
    ("no answer from meta", T("WhatsApp could not be reached")),
    ("blocked by the user", T("the customer has blocked the bot")),
    ("deactivated", T("the customer’s account was deleted")),
    ("kicked", T("the bot was removed from the chat")),
    ("can't initiate", T("the customer has not started the bot")),
    ("chat not found", T("the chat no longer exists")),
    ("peer_id_invalid", T("the chat no longer exists")),
    ("channel is gone", T("the channel is disconnected")),
    ("channel is ", T("the channel needs attention")),
    ("decrypted", T("the saved token can no longer be read")),
    ("unauthorized", T("Telegram does not accept the token")),
    ("token", T("Telegram does not accept the token")),
    ("cannot be reached", T("Telegram could not be reached")),
    ("telegram answered 5", T("Telegram could not be reached")),
)
_TOASTS = {"bot": "talk_bot", "human": "talk_human", "closed": "talk_closed"}


@routes.get("/bots/{bot}/conversations")
async def conversations_page(request: web.Request) -> web.StreamResponse:
    """Show the list; on a wide screen a hint stands where a conversation will be."""
    return await _page(request, None)


@routes.get("/bots/{bot}/conversations/{conversation}")
async def conversation_page(request: web.Request) -> web.StreamResponse:
    """Show one conversation beside the list."""
    return await _page(request, request.match_info["conversation"])


@routes.post("/bots/{bot}/conversations/{conversation}/status")
async def set_status(request: web.Request) -> web.StreamResponse:
    """Take a conversation over, give it back to the bot, or close it."""
    core = core_of(request)
    form = await forms.read(request)
    status, conversation_id = form.text("status", 20), request.match_info["conversation"]
    async with core.db.write() as session:
        bot = await own_bot(session, request)
        row = await conversations.get(session, auth.user(request), conversation_id)
        if row.bot.id != bot.id:
            raise NotFound
        await conversations.set_status(session, row, status)
    core.bell.ring("notices")
    core.ring_talk(bot.id, conversation_id)
    return view.redirect(f"/bots/{bot.id}/conversations/{conversation_id}", toast=_TOASTS[status])


@routes.post("/bots/{bot}/conversations/{conversation}")
async def reply(request: web.Request) -> web.StreamResponse:
    """Write to the customer as a person; a form that is sent twice writes once. Fields: ``text``, ``seen``."""
    core = core_of(request)
    form = await forms.read(request)
    conversation_id = request.match_info["conversation"]
    # Browsers send a new line as two characters; the person saw one.
    text = form.fields.get("text", "").replace("\r\n", "\n")
    try:
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            row = await conversations.get(session, auth.user(request), conversation_id)
            if row.bot.id != bot.id:
                raise NotFound
            await conversations.operator_reply(session, row, text, seen=form.text("seen", 32))
    except Invalid as error:
        return await _page(request, conversation_id, error=error, draft=text[:_DRAFT_CHARS])
    core.bell.ring("outbox")
    core.bell.ring("notices")
    core.ring_talk(bot.id, conversation_id)
    return view.redirect(f"/bots/{bot.id}/conversations/{conversation_id}#end")


async def _page(
    request: web.Request, conversation_id: str | None, *, error: AppError | None = None, draft: str = ""
) -> web.StreamResponse:
    async with core_of(request).db.read() as session:
        bot = await own_bot(session, request)
        listing = await _listing(session, request, bot)
        talk = await _talk(session, request, bot, conversation_id) if conversation_id else {"row": None}
        if "HX-Request" in request.headers:
            template = "pages/_talk.html" if request.headers.get("HX-Target") == "talk" else "pages/_talks.html"
            return view.render(request, template, bot=bot, **listing, **talk)
        shared = await frame(session, request, bot)
        kinds = sorted({channel.kind for channel in await bots.channels(session, bot)})
    return view.render(
        request,
        "pages/conversations.html",
        status=error.status if error else 200,
        here="conversations",
        kinds=kinds,
        draft=draft,
        fault=fault_of(error, request) if error else None,
        **shared,
        **listing,
        **talk,
    )


async def _listing(session: AsyncSession, request: web.Request, bot: models.Bot) -> dict[str, Any]:
    given = {name: request.query.get(name, "").strip()[:200] for name in _FILTERS}
    if given["status"] not in conversations.STATUSES:
        given["status"] = ""
    channels = {channel.kind: channel.id for channel in await bots.channels(session, bot)}
    if given["channel"] not in channels:
        given["channel"] = ""
    since = _day(given["since"])
    if since is None:
        given["since"] = ""
    page = await conversations.list_for(
        session,
        bot,
        q=given["q"] or None,
        status=given["status"] or None,
        channel=given["channel"] or None,
        since=since,
        cursor=given["after"] or None,
    )
    kept = {name: value for name, value in given.items() if value and name != "after"}
    return {
        "page": page,
        "given": given,
        "since": since,
        "filtered": bool(kept),
        "query": f"?{urlencode(kept)}" if kept else "",
        "more": f"?{urlencode({**kept, 'after': page.next})}" if page.next else "",
    }


def _day(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.combine(dt.date.fromisoformat(text), dt.time(), view.TASHKENT).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


async def _talk(session: AsyncSession, request: web.Request, bot: models.Bot, conversation_id: str) -> dict[str, Any]:
    row = await conversations.get(session, auth.user(request), conversation_id)
    if row.bot.id != bot.id:
        raise NotFound
    before = request.query.get("before") or None
    page = await conversations.messages(session, row.conversation, cursor=before, limit=_MESSAGES)
    newest = page if before is None else await conversations.messages(session, row.conversation, limit=1)
    seen = newest.items[0].id if newest.items else ""
    return {
        "row": row,
        "seen": seen,
        "messages": list(reversed(page.items)),
        "files": await attachments.of_messages(session, [message.id for message in page.items]),
        "file_link": partial(attachments.link, core_of(request)),
        "older": page.next,
        "reason_of": reason_of,
    }


def reason_of(message: models.Message) -> Text | None:
    """Return why a message was not delivered; None where the network’s own words would help nobody."""
    error = (message.error or "").lower()
    return next((text for part, text in _REASONS if part in error), None)
