"""Owners who write to support: who waits, one talk with what is known of the owner beside it, and the answer."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from services import bots, merging, payment_texts, requests, subscriptions, support
from services.errors import AppError, Invalid
from web import auth, forms, view
from web.admin.shell import administrator
from web.pages.shell import core_of, fault_of, frame
from web.pages.support import new_mark, shown, source

routes = web.RouteTableDef()


@routes.get("/admin/support")
async def page(request: web.Request) -> web.StreamResponse:
    """List the talks: who waits longest first, then the others by their last line; ``state=waiting`` leaves these out."""
    administrator(request)
    only_waiting, cursor = request.query.get("state") == "waiting", request.query.get("cursor", "")[:80]
    async with core_of(request).db.read() as session:
        found = await support.list_all(session, only_waiting=only_waiting, cursor=cursor)
        count = await support.waiting(session)
        shared: dict[str, Any] = {} if view.wants_part(request) else await frame(session, request)
    return view.render(
        request,
        "admin/_support_talks.html" if view.wants_part(request) else "admin/support.html",
        here="admin-support",
        page=found,
        count=count,
        only_waiting=only_waiting,
        cursor=cursor,
        **shared,
    )


@routes.get("/admin/support/{owner}")
async def talk(request: web.Request) -> web.StreamResponse:
    """Show one talk."""
    administrator(request)
    return await _talk(request)


async def _talk(request: web.Request, *, error: AppError | None = None, text: str = "") -> web.StreamResponse:
    core, language = core_of(request), auth.visitor(request).language
    async with core.db.read() as session:
        owner = await support.get_owner(session, request.match_info["owner"])
        talk = await support.talk_of(session, owner.id)
        drawn = await shown(session, owner.id, request.query.get("cursor", ""))
        shared = await frame(session, request)
        line = await subscriptions.timeline(session, core.settings, owner)
        number = await merging.bots_of(session, owner.id)
        silent = await bots.broken_channels(session, owner)
    standing = line.at(core.now())
    plan = payment_texts.plan(core.settings, standing.plan, language) if standing.is_paid and standing.plan else ""
    return view.render(
        request,
        "admin/support_talk.html",
        status=error.status if error else 200,
        here="admin-support",
        owner=owner,
        talk=talk,
        standing=standing,
        standing_name=requests.STANDINGS[standing.status].render(language) + (f": {plan}" if plan else ""),
        bots_number=number,
        troubles=sum(map(len, silent.values())),
        mark=new_mark(),
        text=text,
        fault=fault_of(error, request) if error else None,
        **drawn,
        **shared,
    )


@routes.get("/admin/support/{owner}/lines")
async def lines(request: web.Request) -> web.StreamResponse:
    """Return the lines of a talk as they are now, for the page's script."""
    administrator(request)
    at = f"/admin/support/{request.match_info['owner']}"
    async with core_of(request).db.read() as session:
        owner = await support.get_owner(session, request.match_info["owner"])
        drawn = await shown(session, owner.id, request.query.get("cursor", ""))
    return view.part(request, "pages/_support.html", at, by_admin=True, at=at, owner=owner, **drawn)


@routes.post("/admin/support/{owner}")
async def answer(request: web.Request) -> web.StreamResponse:
    """Answer an owner. Fields: ``text``, ``mark``."""
    person = administrator(request)
    core, form, owner_id = core_of(request), await forms.read(request), request.match_info["owner"]
    text = form.fields.get("text", "")
    try:
        async with core.db.write() as session:
            mark = source(form, person.id)
            await support.answer(session, person, owner_id, text, source=mark, now=core.now())
    except Invalid as error:
        return await _talk(request, error=error, text=text[: 2 * support.LINE_CHARS])
    support.ring(core, owner_id)
    return view.redirect(f"/admin/support/{owner_id}#end")


@routes.post("/admin/support/{owner}/close")
async def close(request: web.Request) -> web.StreamResponse:
    """Note that the owner's last line needs no answer."""
    person = administrator(request)
    core, owner_id = core_of(request), request.match_info["owner"]
    async with core.db.write() as session:
        await support.close(session, person, owner_id)
    support.ring(core, owner_id)
    return view.redirect("/admin/support", toast="support_closed")
