"""What a person does about letters: ends offers by a link that needs no signing in, or in the settings."""

from __future__ import annotations

from aiohttp import web

from services.errors import NotFound
from services.i18n import LANGUAGES, T
from services.letters import offering, rendering
from web import auth, forms, view
from web.pages.shell import core_of

routes = web.RouteTableDef()


@routes.get("/unsubscribe/{token}")
@auth.public
async def unsubscribe_page(request: web.Request) -> web.StreamResponse:
    """Show a button: opening an address changes nothing, programs that look at mail do it by themselves."""
    return await _page(request)


@routes.post("/unsubscribe/{token}")
@auth.public
async def unsubscribe(request: web.Request) -> web.StreamResponse:
    """End offers, for the button and for a mail program (RFC 8058: the body says ``List-Unsubscribe=One-Click``).

    With the field ``again`` offers come again.
    """
    core = core_of(request)
    user_id = _whose(request)
    form = await forms.read(request)
    wanted = bool(form.text("again", 10))
    async with core.db.write() as session:
        await offering.want_offers(session, user_id, wanted, now=core.now())
    return await _page(request, done="again" if wanted else "ended")


@routes.post("/settings/offers")
async def want_offers(request: web.Request) -> web.StreamResponse:
    """Turn offers on or off. Field: ``offers``, empty for off."""
    form = await forms.read(request)
    core, wanted = core_of(request), bool(form.text("offers", 10))
    async with core.db.write() as session:
        await offering.want_offers(session, auth.user(request).id, wanted, now=core.now())
    return view.redirect("/settings", toast="saved")


def _whose(request: web.Request) -> str:
    try:
        return rendering.whose_link(core_of(request).secret, request.match_info["token"])
    except NotFound:
        # In the same words whatever is wrong with it.
        raise NotFound(T("This link does not work. Take the one from the latest letter.")) from None


async def _page(request: web.Request, *, done: str = "") -> web.StreamResponse:
    user_id = _whose(request)
    async with core_of(request).db.read() as session:
        person = await offering.person(session, user_id)
    if person is not None and person.language in LANGUAGES:
        auth.visitor(request).language = person.language
    ended = person is None or person.unsubscribed_at is not None
    return view.render(request, "pages/unsubscribe.html", ended=ended, done=done)
