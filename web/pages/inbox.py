"""The inbox: conversations of every bot that a person may answer for, the list and one conversation side by side."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import operator
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from services import attachments, bots, conversations, outfiles, team, templates
from services.conversations import ConversationRow, desk, finding, marks, ready
from services.core import Core
from services.crypto import Undecryptable
from services.days import TASHKENT, midnight, moment_of
from services.errors import AppError, Conflict, Invalid, NotFound, TooLarge, TooMany
from services.i18n import LANGUAGES, T, Text
from services.presence import STATES, Presence
from services.text import phone
from web import auth, forms, keys, view
from web.pages.shell import core_of, fault_of, frame

log = structlog.get_logger(__name__)
routes = web.RouteTableDef()

_FILTERS = (
    "q", "bot", "channel", "status", "assignee", "language", "label", "unanswered", "snoozed", "happened", "since",
    "until", "after",
)  # fmt: skip
_TABS = ("status", "assignee", "unanswered", "snoozed")
"""What a tab sets; the other filters stay as they are."""
_MESSAGES = 50
_DRAFT_CHARS = 20_000
# What the network said of a message it refused, in part, and what that means to the owner.
_REASONS: tuple[tuple[str, Text], ...] = (
    *templates.REASONS,
    ("131053", T("WhatsApp does not take this file")),
    ("file is gone", T("the file is no longer there")),
    ("131047", T("the customer has not written for more than 24 hours")),
    ("not written for too long", T("the customer has not written for too long")),
    ("outside of allowed window", T("the customer has not written for too long")),
    ("business_peer_usage_missing", T("the customer has not written for too long")),
    ("131026", T("this number does not receive WhatsApp messages")),
    ("190: ", T("the token is no longer valid")),
    ("131042", T("WhatsApp is not paid for")),
    ("meta cannot be reached", T("Meta could not be reached")),
    ("no answer from meta", T("Meta could not be reached")),
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
    ("token", T("the token is no longer valid")),
    ("cannot be reached", T("Telegram could not be reached")),
    ("telegram answered 5", T("Telegram could not be reached")),
)
_TOASTS = {"bot": "talk_bot", "human": "talk_human", "closed": "talk_closed"}


@routes.get("/inbox")
async def inbox_page(request: web.Request) -> web.StreamResponse:
    """Show the list; on a wide screen a hint stands where a conversation will be."""
    return await _page(request, None)


@routes.get("/inbox/{conversation}")
async def talk_page(request: web.Request) -> web.StreamResponse:
    """Show one conversation beside the list."""
    return await _page(request, request.match_info["conversation"])


@contextlib.asynccontextmanager
async def _change(request: web.Request) -> AsyncIterator[tuple[AsyncSession, ConversationRow]]:
    """Load the conversation of the address to change it; those who watch it are told after the commit."""
    core = core_of(request)
    async with core.db.write() as session:
        row = await conversations.get(session, auth.user(request), request.match_info["conversation"])
        yield session, row
    core.ring_talk(row.bot.id, row.conversation.id)


def _back(request: web.Request, *, toast: str = "", to: str = "") -> web.Response:
    """Return to the conversation with the filters of the list beside it."""
    path = f"/inbox/{request.match_info['conversation']}"
    kept = {name: request.query[name] for name in _FILTERS if request.query.get(name)}
    if toast:
        kept["done"] = toast
    return view.redirect(path + (f"?{urlencode(kept)}" if kept else "") + to)


@routes.post("/inbox/{conversation}")
async def reply(request: web.Request) -> web.StreamResponse:
    """Write to the customer as a person; a form that is sent twice writes once. Fields: ``text``, ``seen``, ``file``."""
    core, conversation_id = core_of(request), request.match_info["conversation"]
    async with core.db.read() as session:
        channel_kind = (await conversations.get(session, auth.user(request), conversation_id)).channel.kind
    form = await forms.read(request)
    # Browsers send a new line as two characters; the person saw one.
    text = form.fields.get("text", "").replace("\r\n", "\n")
    try:
        seen = form.text("seen", 32)
        chosen = next((each for each in form.uploads("file") if each.name or each.data), None)
        file = None
        if chosen is not None:
            file = await outfiles.prepare(core, channel_kind, conversation_id, chosen.name, chosen.data)
        async with _change(request) as (session, row):
            await conversations.operator_reply(session, row, text, seen=seen, author=auth.user(request), file=file)
    except (Invalid, Conflict, TooLarge, TooMany) as error:
        return await _page(request, conversation_id, error=error, draft=text[:_DRAFT_CHARS])
    core.bell.ring("outbox")
    core.bell.ring("notices")
    return _back(request, to="#end")


@routes.post("/inbox/{conversation}/status")
async def set_status(request: web.Request) -> web.StreamResponse:
    """Take a conversation over, give it back to the bot, or close it."""
    status = (await forms.read(request)).text("status", 20)
    async with _change(request) as (session, row):
        await conversations.set_status(session, row, status, actor=auth.user(request))
    core_of(request).bell.ring("notices")
    core_of(request).bell.ring("inbox")
    return _back(request, toast=_TOASTS[status])


@routes.post("/inbox/{conversation}/assign")
async def assign(request: web.Request) -> web.StreamResponse:
    """Make a conversation somebody's; an empty ``assignee`` makes it nobody's."""
    wanted = (await forms.read(request)).text("assignee", 32)
    async with _change(request) as (session, row):
        await desk.assign(session, row, wanted or None, auth.user(request))
    return _back(request, toast="talk_assigned" if wanted else "talk_unassigned")


@routes.post("/inbox/{conversation}/snooze")
async def snooze(request: web.Request) -> web.StreamResponse:
    """Put a conversation aside. ``until``: a preset, ``custom`` with a Tashkent time in ``at``, or ``now``: bring it back."""
    form = await forms.read(request)
    try:
        until = _until(form.text("until", 20), form.text("at", 32))
        async with _change(request) as (session, row):
            await desk.snooze(session, row, until)
    except Invalid as error:
        return await _page(request, request.match_info["conversation"], error=error)
    return _back(request, toast="talk_snoozed" if until else "talk_unsnoozed")


def _until(choice: str, at: str) -> dt.datetime | None:
    if choice == "now":
        return None
    if choice in desk.PRESETS:
        return desk.preset(choice, utcnow())
    return moment_of(at, "at")


@routes.post("/inbox/{conversation}/labels")
async def put_labels(request: web.Request) -> web.StreamResponse:
    """Leave exactly the chosen labels on a conversation."""
    chosen = (await forms.read(request)).fields.getall("label", [])
    async with _change(request) as (session, row):
        await marks.put_labels(session, row, chosen)
    return _back(request, toast="saved")


@routes.post("/inbox/{conversation}/notes")
async def add_note(request: web.Request) -> web.StreamResponse:
    """Leave a note that the customer never sees."""
    text = (await forms.read(request)).fields.get("note", "").replace("\r\n", "\n")
    try:
        async with _change(request) as (session, row):
            await marks.add_note(session, row, auth.user(request), text)
    except Invalid as error:
        return await _page(request, request.match_info["conversation"], error=error, note=text[:_DRAFT_CHARS])
    return _back(request, to="#end")


@routes.post("/inbox/{conversation}/notes/{note}/delete")
async def delete_note(request: web.Request) -> web.StreamResponse:
    """Delete an own note."""
    async with _change(request) as (session, row):
        await marks.delete_note(session, row, auth.user(request), request.match_info["note"])
    return _back(request)


@routes.post("/inbox/{conversation}/presence/{state}")
async def be_present(request: web.Request) -> web.StreamResponse:
    """Hear from a browser that its person looks at the conversation, writes in it, or left; the customer sees the writing."""
    core, person = core_of(request), auth.user(request)
    # In the address: of a page that is being left there is often no body to read any more.
    state = request.match_info["state"]
    if state not in STATES:
        raise NotFound
    async with core.db.read() as session:
        row = await conversations.get(session, person, request.match_info["conversation"])
        present = request.app[keys.PRESENCE]
        adapter = core.channels[row.channel.kind]
        shown = state == "typing" and adapter.typing_s > 0 and row.channel.status == "active"
        last = ""
        if shown and not conversations.window_closed(row):
            # Before it ends on the other side, but not with every key.
            shown = present.sign_due(row.conversation.id, adapter.typing_s * 0.8)
            last = await conversations.last_inbound(session, row.conversation) if shown else ""
    present.tell(row.bot.id, row.conversation.id, person.id, person.full_name, state)
    if last:
        core.tasks.start(_show_typing(core, row, last), name="typing")
    return web.Response(status=204)


async def _show_typing(core: Core, row: ConversationRow, message_id: str) -> None:
    try:
        credentials = core.credentials(row.channel.credentials)
    except Undecryptable:
        log.warning("credentials_unreadable", channel=row.channel.id)
        return
    await core.channels[row.channel.kind].typing(credentials, row.contact.external_id, message_id)


async def _page(
    request: web.Request, conversation_id: str | None, *, error: AppError | None = None, draft: str = "", note: str = ""
) -> web.StreamResponse:
    person = auth.user(request)
    fragment = ""
    if view.wants_part(request):
        fragment = "talk" if request.headers.get("HX-Target") == "talk" else "talks"
    if request.query.get("q"):
        await finding.prepare(core_of(request))
    async with core_of(request).db.read() as session:
        served = await bots.list_for(session, person, "talk")
        given = given_filters(request, served)
        people = await desk.people(session, {bot.owner_id for bot in served})
        shared: dict[str, Any] = {"given": given, **_queries(given), "people": people, "row": None}
        if conversation_id:
            shared["row"] = await conversations.get(session, person, conversation_id)
            if request.method == "GET" and shared["row"].conversation.id != conversation_id:
                return _gone_on(request, shared["row"].conversation.id)
        if fragment != "talk":
            shared |= await _listing(session, person, served, given, people, shared["row"])
        if conversation_id and fragment != "talks":
            names = shared.get("names", {})
            shared |= await _talk(session, request, shared["row"], served, people, shared.get("labels_on"))
            shared["names"] = {**names, **shared["names"]}
        if fragment:
            to = await team.roles(session, person)
            shared["bots"] = [bot for bot in served if to[bot.owner_id] != "operator"]
            return view.render(request, f"pages/_{fragment}.html", **shared)
        chosen = next((bot for bot in served if bot.id == given["bot"]), shared["row"].bot if shared["row"] else None)
        around = await frame(session, request, chosen, answered=served)
        if (labels := shared.get("own_labels")) is None or len({bot.owner_id for bot in served}) > 1:
            labels = await marks.labels(session, {bot.owner_id for bot in served})
        kinds = await bots.kinds(session, served)
        answers = await _ready(session, request, shared["row"]) if shared["row"] else []
    if not draft and (wanted := request.query.get("ready")):
        draft = next((text for reply, text in answers if reply.id == wanted), "")
    return view.render(
        request,
        "pages/inbox.html",
        status=error.status if error else 200,
        here="conversations",
        served=served,
        kinds=kinds,
        labels=labels,
        answers=answers,
        draft=draft,
        note=note,
        fault=fault_of(error, request) if error else None,
        **{**around, "bot": around["bot"] if around["bot"] in around["bots"] else None},
        **shared,
    )


def _gone_on(request: web.Request, conversation_id: str) -> web.Response:
    """Lead from a conversation to the one that it was joined with; a page that is open keeps what was typed."""
    kept = {**request.query, "former": request.match_info["conversation"]}
    address = f"/inbox/{conversation_id}?{urlencode(kept)}"
    if view.wants_part(request):
        return web.Response(headers={"HX-Redirect": address})
    return view.redirect(address)


def given_filters(request: web.Request, served: Sequence[models.Bot]) -> dict[str, str]:
    """Return the filters of the address, without those that make no sense."""
    given = {name: request.query.get(name, "").strip()[:200] for name in _FILTERS}
    if given["status"] not in conversations.STATUSES:
        given["status"] = ""
    if given["bot"] not in {bot.id for bot in served}:
        given["bot"] = ""
    if given["channel"] not in core_of(request).channels:
        given["channel"] = ""
    if given["language"] not in LANGUAGES:
        given["language"] = ""
    if given["happened"] not in desk.HAPPENED:
        given["happened"] = ""
    for name in ("since", "until"):
        if _day(given[name]) is None:
            given[name] = ""
    for name in ("unanswered", "snoozed"):
        given[name] = "1" if given[name] == "1" else ""
    return given


def _queries(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the ends of addresses that keep the filters: all, and those that a tab does not set."""
    kept = {name: value for name, value in given.items() if value and name != "after"}
    beside = {name: value for name, value in kept.items() if name not in _TABS}
    return {
        "filtered": bool(kept),
        "query": f"?{urlencode(kept)}" if kept else "",
        "beside": beside,
        "since": _day(given["since"]),
        "until": _day(given["until"]),
        "tab_address": lambda **chosen: "/inbox" + (f"?{urlencode({**beside, **chosen})}" if beside or chosen else ""),
    }


def _day(text: str) -> dt.datetime | None:
    try:
        return midnight(dt.date.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def filters_of(given: Mapping[str, str]) -> desk.Filters:
    """Return the filters of an address; its days are those of Tashkent, the last one included."""
    last = _day(given["until"])
    return desk.Filters(
        channel=given["channel"],
        status=given["status"],
        assignee=given["assignee"],
        language=given["language"],
        label=given["label"],
        q=given["q"],
        unanswered=bool(given["unanswered"]),
        snoozed=bool(given["snoozed"]),
        happened=given["happened"],
        since=_day(given["since"]),
        until=last + dt.timedelta(days=1) if last is not None else None,
    )


async def _listing(
    session: AsyncSession,
    person: models.User,
    served: Sequence[models.Bot],
    given: Mapping[str, str],
    people: Sequence[models.User],
    beside: ConversationRow | None,
) -> dict[str, Any]:
    """Return what the list shows; labels also of the conversation beside it."""
    chosen = [bot for bot in served if given["bot"] in ("", bot.id)]
    page = await desk.list_for(session, person, chosen, filters_of(given), cursor=given["after"] or None)
    listed = [row.conversation.id for row in (*page.items, *([beside] if beside else ()))]
    kept = {name: value for name, value in given.items() if value and name != "after"}
    return {
        "page": page,
        "counts": await desk.counts(session, person, chosen),
        "labels_on": await marks.labels_of(session, listed),
        "names": await _names(session, people, [row.conversation.assignee_id for row in page.items]),
        "several": len(chosen) > 1,
        "again": f"?{urlencode({**kept, 'after': given['after']})}" if given["after"] else f"?{urlencode(kept)}",
        "more": f"?{urlencode({**kept, 'after': page.next})}" if page.next else "",
    }


async def _names(session: AsyncSession, people: Sequence[models.User], wanted: Sequence[str | None]) -> dict[str, str]:
    """Return names by id; who works here no more is looked up."""
    known = {person.id: person.full_name for person in people}
    return {**known, **await desk.names(session, {user_id for user_id in wanted if user_id not in known})}


async def _talk(
    session: AsyncSession,
    request: web.Request,
    row: ConversationRow,
    served: Sequence[models.Bot],
    people: Sequence[models.User],
    labels_on: Mapping[str, Sequence[models.Label]] | None,
) -> dict[str, Any]:
    before = request.query.get("before") or None
    page = await conversations.messages(session, row.conversation, cursor=before, limit=_MESSAGES)
    newest = page if before is None else await conversations.messages(session, row.conversation, limit=1)
    messages = list(reversed(page.items))
    oldest = messages[0].id if messages and page.next else ""
    notes = await marks.notes(session, row.conversation, after=oldest, before=before or "")
    talk, me = row.conversation, auth.user(request).id
    authors = [talk.assignee_id, *(one.author_id for one in messages), *(one.author_id for one in notes)]
    here = request.app[keys.PRESENCE].at(talk.id)
    alone = all(bot.owner_id == row.bot.owner_id for bot in served)
    if labels_on is None:
        labels_on = await marks.labels_of(session, [talk.id])
    helpers = people if alone else await desk.people(session, [row.bot.owner_id])
    return {
        "seen": newest.items[0].id if newest.items else "",
        "files": await attachments.of_messages(session, [one.id for one in messages]),
        "file_link": partial(attachments.link, core_of(request)),
        "lines": sorted((*messages, *notes), key=operator.attrgetter("id")),
        "older": page.next,
        "earlier": before is not None,
        "reason_of": reason_of,
        "closed_window": conversations.window_closed(row),
        "may_teach": await team.role_of(session, row.bot.owner_id, me) in ("owner", "manager"),
        "snoozed": talk.snoozed_until if desk.is_snoozed(talk, utcnow()) else None,
        "earliest": utcnow().astimezone(TASHKENT).strftime("%Y-%m-%dT%H:%M"),
        "names": await _names(session, people, authors),
        "helpers": helpers,
        "own_labels": await marks.labels(session, [row.bot.owner_id]),
        "labels_here": labels_on.get(talk.id, []),
        "card": await desk.card(session, row, served),
        "present": [one for one in here if one.id != me],
    }


async def _ready(
    session: AsyncSession, request: web.Request, row: ConversationRow
) -> list[tuple[models.CannedReply, str]]:
    """Return the ready answers for a conversation, filled with what is known of it."""
    values = {
        "name": row.contact.name,
        "bot": row.bot.name,
        "operator": auth.user(request).full_name,
        "phone": phone(row.contact.phone),
    }
    found = await ready.list_for(session, [row.bot.owner_id])
    return [(one, ready.fill(one.text, values)) for one in found]


def reason_of(message: models.Message) -> Text | None:
    """Return why a message was not delivered; None where the network’s own words would help nobody."""
    error = (message.error or "").lower()
    return next((text for part, text in _REASONS if part in error), None)


def setup(app: web.Application) -> None:
    """Keep who is present, as long as the application runs."""
    core = app[keys.CORE]
    app[keys.PRESENCE] = Presence(core.bell)

    async def hear(running: web.Application) -> AsyncIterator[None]:
        hearing: asyncio.Task[None] = core.tasks.start(running[keys.PRESENCE].run(), name="presence")
        yield
        hearing.cancel()

    app.cleanup_ctx.append(hear)
