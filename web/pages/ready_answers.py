"""Ready answers: what people who answer choose by a slash instead of typing it again."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from services.conversations import desk, ready
from services.errors import AppError, Conflict, Invalid
from web import auth, forms, view
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()


@routes.get("/inbox/replies")
async def replies_page(request: web.Request) -> web.StreamResponse:
    """Show the ready answers of everybody for whom this person answers, with forms for those that they may change."""
    return await _page(request)


@routes.post("/inbox/replies")
async def create_reply(request: web.Request) -> web.StreamResponse:
    """Make a ready answer. Fields: ``owner``, ``shortcut``, ``text``."""
    return await _save(request, "")


@routes.post("/inbox/replies/{reply}")
async def change_reply(request: web.Request) -> web.StreamResponse:
    """Change a ready answer."""
    return await _save(request, request.match_info["reply"])


@routes.post("/inbox/replies/{reply}/delete")
async def delete_reply(request: web.Request) -> web.StreamResponse:
    """Delete a ready answer."""
    async with core_of(request).db.write() as session:
        mine = [owner.id for owner in await desk.owners(session, auth.user(request), "manage")]
        await ready.delete(session, mine, request.match_info["reply"])
    return view.redirect("/inbox/replies", toast="removed")


async def _save(request: web.Request, reply_id: str) -> web.StreamResponse:
    form = await forms.read(request)
    values = {name: form.fields.get(name, "")[:20_000] for name in ("owner", "shortcut", "text")}
    try:
        async with core_of(request).db.write() as session:
            mine = [owner.id for owner in await desk.owners(session, auth.user(request), "manage")]
            owner_id = values["owner"] or next(iter(mine), "")
            text = values["text"].replace("\r\n", "\n")
            await ready.save(session, mine, owner_id, values["shortcut"], text, reply_id)
    except (Invalid, Conflict) as error:
        return await _page(request, error=error, values={**values, "id": reply_id})
    return view.redirect("/inbox/replies", toast="saved")


async def _page(
    request: web.Request, *, error: AppError | None = None, values: dict[str, str] | None = None
) -> web.StreamResponse:
    person = auth.user(request)
    async with core_of(request).db.read() as session:
        served = await desk.owners(session, person, "talk")
        mine = {owner.id for owner in await desk.owners(session, person, "manage")}
        found = await ready.list_for(session, [owner.id for owner in served])
        shared: dict[str, Any] = await frame(session, request)
    return view.render(
        request,
        "pages/ready_answers.html",
        status=error.status if error else 200,
        here="conversations",
        owners=[(owner, owner.id in mine, [one for one in found if one.owner_id == owner.id]) for owner in served],
        variables=ready.VARIABLES,
        unknown_in=ready.unknown_variables,
        values=values or {"id": "", "owner": "", "shortcut": "", "text": ""},
        fault=fault_of(error, request) if error else None,
        **shared,
    )
