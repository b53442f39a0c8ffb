"""Conversations of all owners: the list, one of them to read, and writing in it with a stated reason."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from aiohttp import web

from db.base import utcnow
from services import attachments, conversations, people
from services.channel_names import CHANNEL_NAMES, channel_name
from services.conversations import desk, everywhere, finding
from services.errors import AppError
from web import auth, forms, view
from web.admin import lists
from web.admin.shell import administrator
from web.pages.inbox import reason_of
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_FILTERS = ("platform", "owner", "bot", "state", "q", "since", "until", "who")
_MESSAGES = 50


def _filters(typed: Mapping[str, str]) -> everywhere.Filters:
    """Return the filters that were typed; raises ``Invalid``."""
    return everywhere.Filters(
        typed["platform"], typed["owner"], typed["bot"], typed["state"], typed["q"], *lists.days(typed), typed["who"]
    )


@routes.get("/admin/conversations")
async def page(request: web.Request) -> web.StreamResponse:
    """List the conversations that the filters of the address leave."""
    administrator(request)
    core = core_of(request)
    asked = lists.asked(request, _FILTERS, _filters)
    if asked.filters.q:
        await finding.prepare(core)
    async with core.db.read() as session:
        shared = await frame(session, request)
        found = await everywhere.find(session, asked.filters, cursor=asked.cursor)
    return view.render(
        request,
        "admin/conversations.html",
        here="admin-conversations",
        page=found,
        platforms=[(kind, channel_name(kind, auth.visitor(request).language)) for kind in CHANNEL_NAMES],
        **asked.shown(request),
        **shared,
    )


@routes.get("/admin/conversations/{conversation}")
async def talk_page(request: web.Request) -> web.StreamResponse:
    """Show a conversation to be read; that it was opened is written down."""
    return await _talk(request)


async def _talk(
    request: web.Request, *, error: AppError | None = None, values: dict[str, str] | None = None
) -> web.StreamResponse:
    person = administrator(request)
    core, conversation_id = core_of(request), request.match_info["conversation"]
    async with core.db.read() as session:
        row, owner = await everywhere.get(session, conversation_id)
        known = await everywhere.is_known(session, person, row, now=utcnow())
    if not known:
        async with core.db.write() as session:
            await everywhere.opened(session, person, row, owner)
    before = request.query.get("before", "")[:32]
    async with core.db.read() as session:
        shared = await frame(session, request)
        part = await conversations.messages(session, row.conversation, cursor=before or None, limit=_MESSAGES)
        lines = list(reversed(part.items))
        files = await attachments.of_messages(session, [line.id for line in lines])
        names = await desk.names(session, [line.author_id for line in lines])
    return view.render(
        request,
        "admin/conversation.html",
        status=error.status if error else 200,
        here="admin-conversations",
        row=row,
        owner=owner,
        lines=lines,
        older=part.next,
        newest=not before,
        seen=lines[-1].id if lines and not before else "",
        files=files,
        file_link=partial(attachments.link, core),
        names=names,
        reason_of=reason_of,
        closed=conversations.window_closed(row),
        values=values or {"text": "", "reason": ""},
        fault=fault_of(error, request) if error else None,
        **shared,
    )


@routes.post("/admin/conversations/{conversation}")
async def write(request: web.Request) -> web.StreamResponse:
    """Write to the customer as the business's operator. Fields: ``text``, ``reason``, ``seen``."""
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)
    text, reason = form.fields.get("text", "").replace("\r\n", "\n"), form.fields.get("reason", "")
    try:
        seen = form.text("seen", 32)
        async with core.db.write() as session:
            row, owner = await everywhere.get(session, request.match_info["conversation"])
            await everywhere.write(session, person, row, owner, text, reason, seen=seen)
    except AppError as error:
        if error.status == 404:
            raise
        kept = {"text": text[:20_000], "reason": reason[: people.REASON_CHARS + 500]}
        return await _talk(request, error=error, values=kept)
    core.ring_talk(row.bot.id, row.conversation.id)
    core.bell.ring("outbox")
    core.bell.ring("notices")
    return view.redirect(f"/admin/conversations/{row.conversation.id}", toast="customer_written")
