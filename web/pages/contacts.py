"""A customer's card, and conversations as tables for other programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

from aiohttp import web

from services import access, attachments, bots, contacts
from services.conversations import desk, finding, table
from services.days import today
from services.errors import AppError, Invalid
from services.i18n import T, translate
from services.sheets import Cell
from services.text import phone
from web import auth, forms, tables, view
from web.pages.inbox import filters_of, given_filters
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()


@routes.get("/contacts/{contact}")
async def contact_page(request: web.Request) -> web.StreamResponse:
    """Show everything that is known of a customer."""
    return await _page(request)


async def _page(
    request: web.Request, *, error: AppError | None = None, values: dict[str, str] | None = None, typed: str = ""
) -> web.StreamResponse:
    core, person = core_of(request), auth.user(request)
    async with core.db.read() as session:
        row = await contacts.get(session, person, request.match_info["contact"])
        served = await bots.list_for(session, person, "talk")
        card = await contacts.card(session, row, served)
        manages = await contacts.may_manage(session, person, row.bot)
        names = await desk.names(session, [note.author_id for note in card.notes])
        shared = await frame(session, request, row.bot)
    contact = row.contact
    kept = {
        "name": contact.name,
        "phone": phone(contact.phone),
        "language": (contact.language or "") if contact.language_chosen else "",
        "opted_out": "on" if contact.opted_out_at else "",
    }
    return view.render(
        request,
        "pages/contact.html",
        status=error.status if error else 200,
        here="conversations",
        row=row,
        card=card,
        manages=manages,
        names=names,
        values=values or kept,
        confirm=contacts.title_of(contact),
        typed=typed,
        file_link=partial(attachments.link, core),
        fault=fault_of(error, request) if error else None,
        **{**shared, "bot": row.bot if manages else None},
    )


@routes.post("/contacts/{contact}")
async def change(request: web.Request) -> web.StreamResponse:
    """Correct a customer's name, phone and language, and whether they want broadcasts."""
    core = core_of(request)
    form = await forms.read(request)
    values = {name: form.fields.get(name, "")[:300] for name in ("name", "phone", "language", "opted_out")}
    try:
        async with core.db.write() as session:
            row = await contacts.get(session, auth.user(request), request.match_info["contact"])
            await contacts.change(
                session,
                row,
                auth.user(request),
                name=form.text("name", 1000),
                phone=form.text("phone", 100),
                language=form.text("language", 10),
                opted_out=form.text("opted_out", 10) == "on",
            )
    except AppError as error:
        if error.status == 404:
            raise
        return await _page(request, error=error, values=values)
    core.ring_talk(row.bot.id, row.conversation.id)
    return view.redirect(f"/contacts/{row.contact.id}", toast="saved")


@routes.post("/contacts/{contact}/delete")
@auth.deletion
async def delete(request: web.Request) -> web.StreamResponse:
    """Delete a customer whose name was typed, with everything that was said."""
    core = core_of(request)
    form = await forms.read(request)
    try:
        async with core.db.write() as session:
            row = await contacts.get(session, auth.user(request), request.match_info["contact"], "manage")
            if " ".join(form.text("confirm").split()) != " ".join(contacts.title_of(row.contact).split()):
                raise Invalid(T("Type it exactly as it is written."), field="confirm")
            await contacts.delete(session, row, auth.user(request))
    except AppError as error:
        if error.status == 404:
            raise
        return await _page(request, error=error, typed=form.fields.get("confirm", "")[:300])
    core.ring_talk(row.bot.id, row.conversation.id)
    core.bell.ring("notices")
    return view.redirect("/inbox", toast="contact_deleted")


@routes.get("/contacts/{contact}/messages.{table:csv|xlsx}")
async def messages_table(request: web.Request) -> web.StreamResponse:
    """Send everything that was said with one customer."""
    core, person, language = core_of(request), auth.user(request), auth.visitor(request).language
    async with core.db.write() as session:
        row = await contacts.get(session, person, request.match_info["contact"], "manage")
        await access.record(session, person, "conversations_exported", "contact", row.contact.id, bot=row.bot.id)
    return await _sent(request, table.of_one(core.db, row, language), "customer")


@routes.get("/inbox/export.{table:csv|xlsx}")
async def export(request: web.Request) -> web.StreamResponse:
    """Send what was said in the conversations that the filters of the address leave, of the bots that the person manages."""
    core, person, language = core_of(request), auth.user(request), auth.visitor(request).language
    if request.query.get("q"):
        await finding.prepare(core)
    async with core.db.write() as session:
        managed = await bots.list_for(session, person, "manage")
        given = given_filters(request, managed)
        kept = {name: value for name, value in given.items() if value}
        await access.record(session, person, "conversations_exported", "user", person.id, **kept)
    chosen = [bot for bot in managed if given["bot"] in ("", bot.id)]
    return await _sent(request, table.parts(core.db, person, chosen, filters_of(given), language), "conversations")


async def _sent(request: web.Request, parts: AsyncIterator[Sequence[Sequence[Cell]]], name: str) -> web.StreamResponse:
    day, title = today(core_of(request).now()), translate(auth.visitor(request).language, "Conversations")
    return await tables.sent(request, parts, f"{name}-{day}", title)
