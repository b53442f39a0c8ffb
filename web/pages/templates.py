"""Sending an approved WhatsApp template to a customer who has been silent for more than 24 hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import bots, conversations, outfiles, templates
from services.conversations import ConversationRow
from services.conversations.files import NewFile
from services.core import Core
from services.errors import AppError, Conflict, Invalid, NotFound, TooLarge, TooMany
from services.i18n import T
from web import auth, forms, view
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_LISTS_A_MINUTE = 20


async def _conversation(session: AsyncSession, request: web.Request) -> tuple[models.Bot, ConversationRow]:
    person = auth.user(request)
    bot = await bots.get(session, person, request.match_info["bot"], "talk")
    row = await conversations.get(session, person, request.match_info["conversation"])
    if row.bot.id != bot.id or row.channel.kind != "whatsapp":
        raise NotFound
    return bot, row


@routes.get("/bots/{bot}/conversations/{conversation}/template")
async def template_page(request: web.Request) -> web.StreamResponse:
    """Show the templates to choose from; with ``name`` and ``language`` the places of the chosen one."""
    return await _page(request, request.query.get("name", "")[:512], request.query.get("language", "")[:20])


@routes.post("/bots/{bot}/conversations/{conversation}/template")
async def send_template(request: web.Request) -> web.StreamResponse:
    """Send a template with its places filled in, once however often the form comes.

    Fields: ``name``, ``language``, ``seen``, the places, and ``file`` where the template begins with one.
    """
    core = core_of(request)
    form = await forms.read(request)
    name, language = form.text("name", 512), form.text("language", 20)
    async with core.db.read() as session:
        bot, row = await _conversation(session, request)
    given: Mapping[str, str] = {}
    try:
        template = chosen_of(await _list(request, row), name, language)
        given = typed_into(template, form)
        payload = template.payload(given)
        file = await _file(core, row, form) if template.media else None
        template.check_file(file)
        async with core.db.write() as session:
            bot, row = await _conversation(session, request)
            await conversations.operator_reply(
                session,
                row,
                template.preview(given),
                seen=form.text("seen", 32),
                author=auth.user(request),
                template=payload,
                file=file,
            )
    except AppError as error:
        return await _page(request, name, language, given=given, error=error)
    core.bell.ring("outbox")
    core.bell.ring("notices")
    core.ring_talk(bot.id, row.conversation.id)
    return view.redirect(f"/bots/{bot.id}/conversations/{row.conversation.id}", toast="template_sent")


async def _file(core: Core, row: ConversationRow, form: forms.Form) -> NewFile | None:
    """Return the file that a template is to begin with; raises what :func:`services.outfiles.prepare` does."""
    chosen = next((each for each in form.uploads("file") if each.name or each.data), None)
    if chosen is None:
        return None
    return await outfiles.prepare(core, row.channel.kind, row.conversation.id, chosen.name, chosen.data)


async def _list(request: web.Request, row: ConversationRow) -> list[templates.Template]:
    await may_list(request)
    return await templates.approved(core_of(request), row)


async def may_list(request: web.Request) -> None:
    """Raise ``TooMany`` for who asks Meta for its templates too often."""
    if not await core_of(request).limits.hit(f"templates:{auth.user(request).id}", _LISTS_A_MINUTE, 60):
        raise TooMany(retry_after_s=60)


def chosen_of(found: Sequence[templates.Template], name: str, language: str) -> templates.Template:
    """Return the template that a form names; raises ``Conflict`` where it is not there, or cannot be sent, any more."""
    template = templates.chosen(found, name, language)
    if template is None:
        raise Conflict(T("This template cannot be sent any more: choose another one."), code="no_template")
    return template


def typed_into(template: templates.Template, form: forms.Form) -> dict[str, str]:
    """Return what was typed into the places of a template, not checked yet."""
    return {blank.key: form.fields.get(blank.key, "").strip()[:1000] for blank in template.blanks}


async def _page(
    request: web.Request,
    name: str,
    language: str,
    *,
    given: Mapping[str, str] | None = None,
    error: AppError | None = None,
) -> web.StreamResponse:
    core = core_of(request)
    async with core.db.read() as session:
        bot, row = await _conversation(session, request)
        shared = await frame(session, request, bot)
        newest = await conversations.messages(session, row.conversation, limit=1)
    found: list[templates.Template] = []
    if error is None or isinstance(error, Invalid | TooLarge):
        try:
            found = await _list(request, row)
        except AppError as trouble:
            error = error or trouble
    return view.render(
        request,
        "pages/template.html",
        status=error.status if error else 200,
        here="conversations",
        row=row,
        found=found,
        picked=templates.chosen(found, name, language),
        given=given or {},
        seen=newest.items[0].id if newest.items else "",
        window_closed=conversations.window_closed(row),
        fault=fault_of(error, request) if error else None,
        **shared,
    )
