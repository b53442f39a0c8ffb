"""What happens around every request of a browser in which a remote view is open; see :mod:`services.views`."""

from __future__ import annotations

from aiohttp import web

from db.base import utcnow
from services import access, views
from services.accounts import SignedIn
from services.errors import AppError, Forbidden
from services.i18n import T
from web import auth, forms, keys

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN = ("/view/end", "/view/ask", "/logout")
"""Forms that are the administrator's own while a view is open."""

_SILENT = ("/events", "/presence/looking", "/presence/typing", "/presence/gone")
"""What scripts ask by themselves: it is refused, and tells the owner nothing."""


async def answer(request: web.Request, who: auth.Visitor, handler: auth.Handler) -> web.StreamResponse:
    """Answer as the owner would be answered, as far as a view may see and change; the page is noted for the owner.

    A view that is over leads back to the administrator's pages; a form of it does nothing then.
    """
    core, me = request.app[keys.CORE], who.signed_in
    if me is None or me.session.view_id is None:
        raise AssertionError("there is no view")
    async with core.db.read() as session:
        found = await views.running(session, me.user, me.session.view_id, now=utcnow())
    if found is None:
        return await _over(request, me)
    who.admin, who.view, who.signed_in = me.user, found.view, SignedIn(me.session, found.owner)
    if request.path in OWN:
        return await handler(request)
    status = 500
    changes = request.method not in SAFE_METHODS
    try:
        _check(request, found, changes)
        with access.acting_for(me.user.id):
            response = await handler(request)
        status = response.status
    except AppError as error:
        status = error.status
        raise
    except web.HTTPException as error:
        status = error.status
        raise
    finally:
        async with core.db.write() as session:
            changed = changes and forms.ASKED not in request
            if not request.path.endswith(_SILENT):
                method = request.method if changed == changes else "GET"
                await views.note(session, found.view, method, request.path, status, now=utcnow())
            if changed and status < 400:
                facts = {"view": found.view.id, "path": request.path[:300]}
                await access.record(session, me.user, "view_changed", "user", found.owner.id, **facts)
    return response


async def _over(request: web.Request, me: SignedIn) -> web.StreamResponse:
    async with request.app[keys.CORE].db.write() as session:
        owner_id = await views.leave(session, me.session.id)
    if request.method not in SAFE_METHODS or "HX-Request" in request.headers:
        raise Forbidden(T("Your look at this owner’s panel is over. Nothing was changed."), code="view_over")
    to = f"/admin/owners/{owner_id}?done=view_over" if owner_id and me.user.is_admin else "/dashboard"
    return web.Response(status=303, headers={"Location": to})


def _check(request: web.Request, found: views.Running, changes: bool) -> None:
    """Raise ``Forbidden`` for what a view may not see or change."""
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else request.path
    if not changes:
        if not views.may_see(request.path):
            raise Forbidden(
                T(
                    "This page is not shown while you look at an owner’s panel: it holds secrets, downloads, or pages of yours. "
                    "End the view to go on."
                ),
                code="view_secret",
            )
        return
    if not views.may_change(route):
        raise Forbidden(
            T(
                "Only the owner can do this: passwords, e-mail, two-step sign-in, tokens, webhooks, deletions, broadcasts, the "
                "team and money are never changed for somebody."
            ),
            code="view_never",
        )
    if found.view.agreed_at is None:
        raise Forbidden(
            T("You are only looking. To change something here, ask the owner and wait until they agree."),
            code="view_read_only",
        )
