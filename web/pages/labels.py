"""Labels for conversations: made, renamed and deleted here, put on conversations in the inbox."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from services.conversations import desk, marks
from services.errors import AppError, Conflict, Invalid
from web import auth, forms, view
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()


@routes.get("/inbox/labels")
async def labels_page(request: web.Request) -> web.StreamResponse:
    """Show the labels of everybody for whom this person answers, with forms for those that they may change."""
    return await _page(request)


@routes.post("/inbox/labels")
async def create_label(request: web.Request) -> web.StreamResponse:
    """Make a label. Fields: ``owner``, ``name``, ``color``."""
    return await _save(request, "")


@routes.post("/inbox/labels/{label}")
async def change_label(request: web.Request) -> web.StreamResponse:
    """Rename a label or give it another colour."""
    return await _save(request, request.match_info["label"])


@routes.post("/inbox/labels/{label}/delete")
async def delete_label(request: web.Request) -> web.StreamResponse:
    """Delete a label."""
    async with core_of(request).db.write() as session:
        mine = [owner.id for owner in await desk.owners(session, auth.user(request), "manage")]
        await marks.delete_label(session, mine, request.match_info["label"])
    return view.redirect("/inbox/labels", toast="removed")


async def _save(request: web.Request, label_id: str) -> web.StreamResponse:
    form = await forms.read(request)
    values = {name: form.fields.get(name, "")[:200] for name in ("owner", "name", "color")}
    color = int(values["color"]) if values["color"].isascii() and values["color"].isdigit() else -1
    try:
        async with core_of(request).db.write() as session:
            mine = [owner.id for owner in await desk.owners(session, auth.user(request), "manage")]
            owner_id = values["owner"] or next(iter(mine), "")
            await marks.save_label(session, mine, owner_id, values["name"], color, label_id)
    except (Invalid, Conflict) as error:
        return await _page(request, error=error, values={**values, "id": label_id})
    return view.redirect("/inbox/labels", toast="saved")


async def _page(
    request: web.Request, *, error: AppError | None = None, values: dict[str, str] | None = None
) -> web.StreamResponse:
    person = auth.user(request)
    async with core_of(request).db.read() as session:
        served = await desk.owners(session, person, "talk")
        mine = {owner.id for owner in await desk.owners(session, person, "manage")}
        found = await marks.labels(session, [owner.id for owner in served])
        shared: dict[str, Any] = await frame(session, request)
        uses = await marks.label_uses(session, [label.id for label in found])
    return view.render(
        request,
        "pages/labels.html",
        status=error.status if error else 200,
        here="conversations",
        owners=[
            (owner, owner.id in mine, [label for label in found if label.owner_id == owner.id]) for owner in served
        ],
        uses=uses,
        colors=range(marks.COLORS),
        values=values or {"id": "", "owner": "", "name": "", "color": ""},
        fault=fault_of(error, request) if error else None,
        **shared,
    )
