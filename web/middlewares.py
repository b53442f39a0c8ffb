"""What happens around every request, from the outside in: request id, limits, errors, cookie, visitor, forms' token.

The webhooks pass all of this by: they are the hot path and carry neither cookies nor pages.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import quote, urlsplit

import structlog
from aiohttp import ClientConnectionResetError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp_session import get_session

from db.engine import DatabaseUnavailable
from services import accounts, metrics, upkeep
from services.core import Core
from services.errors import AppError, Forbidden, Invalid, NotFound, NotSignedIn, TooLarge, TooMany, Unavailable
from services.i18n import T
from web import auth, forms, keys, viewing
from web.replies import json_error, secure
from web.view import render

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

WEBHOOKS = ("/telegram/webhook/", "/whatsapp/webhook", "/instagram/webhook", "/payments/")
# These carry no cookie of the panel: the API has its tokens, the chat its contacts' secrets, the rest nothing to protect.
WITHOUT_SESSION = (
    "/api/",
    "/chat/",
    "/widget/",
    "/widget.js",
    "/files/",
    "/unsubscribe/",
    "/static/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/favicon.ico",
)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
BEGUN: web.RequestKey[bool] = web.RequestKey("begun", bool)
"""Set where the head of an answer has been sent."""
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


class TooSlow(AppError):
    """The body did not arrive in time."""

    code = "timeout"
    status = 408
    default = T("The data arrived too slowly. Check the connection and try again.")


class BadMethod(AppError):
    """The address is known, but not for this method."""

    code = "method_not_allowed"
    status = 405
    default = T("This address cannot be used in this way.")

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__()
        self.allowed = ", ".join(sorted(allowed))


def behind_tls(request: web.Request) -> bool:
    """Tell whether people reach us by https: decided by the configuration, not by headers that anybody can send."""
    return request.app[keys.CORE].settings.public_url.startswith("https://")


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put the security headers on every answer that begins; a handler's own header of the same name stays."""
    request[BEGUN] = True
    secure(response.headers, tls=behind_tls(request))
    request_id = request.get(REQUEST_ID)
    if request_id:
        response.headers["X-Request-ID"] = request_id


@web.middleware
async def entrance(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request, watch over the time its body takes, count it; lets webhooks by."""
    if request.path.startswith(WEBHOOKS):
        return await request.match_info.handler(request)
    given = request.headers.get("X-Request-ID", "")
    request_id = given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
    request[REQUEST_ID] = request_id
    started = time.perf_counter()
    route = request.match_info.route.resource
    name = route.canonical if route is not None else "none"
    watch = watch_body(request)
    status = 500
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        try:
            response = await handler(request)
            status = response.status
            return response
        except ClientConnectionResetError:
            status = 499
            raise
        finally:
            if watch is not None:
                watch.cancel()
            metrics.REQUESTS.labels(request.method, name, str(status)).inc()
            # The path only: what follows a question mark may sign somebody in.
            log.debug("request", method=request.method, path=name, status=status, seconds=time.perf_counter() - started)


def watch_body(request: web.Request) -> asyncio.TimerHandle | None:
    """Make a body that is not complete in time fail with :class:`TooSlow`, however it is read."""
    content = request.content
    if not request.can_read_body or content.is_eof():
        return None

    def expire() -> None:
        if not content.is_eof():
            content.set_exception(TooSlow())

    return asyncio.get_running_loop().call_later(request.app[keys.CORE].settings.server.request_body_timeout_s, expire)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Render what went wrong: the only place that does so for pages and the API."""
    try:
        if (request.content_length or 0) > forms.body_limit(request):
            raise _too_large(request)
        return await _seen_through(request, handler)
    except AppError as error:
        failure = error
    except DatabaseUnavailable as error:
        log.warning("database_unavailable", reason=str(error))
        failure = Unavailable()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        failure = _from_http(error)
    except (ClientConnectionResetError, ConnectionResetError):
        raise
    except (UnicodeDecodeError, HttpProcessingError, web.RequestPayloadError):
        failure = Invalid()
    except Exception:
        log.exception("request_failed")
        failure = AppError()
    if BEGUN in request:
        # Part of an answer is on its way: nothing can follow it, and only a cut connection tells that it is not whole.
        log.warning("answer_cut", code=failure.code)
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError
    return render_error(request, failure)


async def _seen_through(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer; a deletion that meets a full disk gets the room that is kept for it and is tried again."""
    try:
        return await handler(request)
    except DatabaseUnavailable as error:
        deletes = request.method == "DELETE" or getattr(request.match_info.handler, "is_deletion", False)
        if not deletes or not upkeep.give_up_reserve(request.app[keys.CORE], error):
            raise
    return await handler(request)


def _too_large(request: web.Request) -> TooLarge:
    if not forms.is_upload(request):
        return TooLarge()
    most = request.app[keys.CORE].settings.knowledge.max_file_mib
    return TooLarge(T("The file is larger than {n} MB. Split it or send a smaller one.", n=most), field="file")


def _from_http(error: web.HTTPException) -> AppError:
    if error.status == 404:
        return NotFound(T("There is no such page."))
    if isinstance(error, web.HTTPMethodNotAllowed):
        return BadMethod(error.allowed_methods)
    if error.status == 413:
        return TooLarge()
    failure = Invalid()
    failure.status = error.status
    return failure


def render_error(request: web.Request, error: AppError) -> web.StreamResponse:
    """Return an error as JSON for programs and as a page in the person's language for people.

    The page shows a short code that also stands in the log.
    """
    language = auth.visitor(request).language
    reference = str(request.get(REQUEST_ID, ""))[:8]
    if error.status >= 500 or error.status == 403:
        log.warning("request_refused", code=error.code, status=error.status, reference=reference)
    elif not wants_json(request):
        log.info("request_refused", code=error.code, status=error.status, reference=reference)
    response: web.StreamResponse
    if wants_json(request):
        if request.path.startswith("/api/"):
            language = auth.accepted_language(request.headers.get("Accept-Language") or "en")
        response = json_error(error, language)
    elif isinstance(error, NotSignedIn) and request.method in SAFE_METHODS:
        response = web.Response(status=303, headers={"Location": f"/login?next={quote(request.path_qs, safe='/')}"})
    else:
        context = {"error": error, "message": error.text.render(language), "reference": reference}
        response = render(request, "pages/error.html", status=error.status, **context)
    if isinstance(error, BadMethod):
        response.headers["Allow"] = error.allowed
    if isinstance(error, NotSignedIn) and request.path.startswith("/api/"):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, Unavailable):
        response.headers["Retry-After"] = "30"
    if isinstance(error, TooSlow | TooLarge):
        response.force_close()
    return response


def wants_json(request: web.Request) -> bool:
    """Tell whether a program asks: the API, and our own scripts."""
    return (
        request.path.startswith(("/api/", "/widget/"))
        or "HX-Request" in request.headers
        or request.headers.get("Accept", "").startswith(("application/json", "text/event-stream"))
    )


@web.middleware
async def visitors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find out who is there and in which language and theme; shut strangers out of every page not marked public."""
    who = auth.Visitor(language=auth.preferred_language(request))
    theme = request.cookies.get(auth.THEME_COOKIE)
    who.theme = theme if theme in accounts.THEMES else "system"
    request[auth.VISITOR] = who
    if request.path.startswith(WITHOUT_SESSION):
        return await handler(request)
    core = request.app[keys.CORE]
    who.secret = core.secret
    who.session = await get_session(request)
    value = who.session.get("id")
    if who.session.get("in") and isinstance(value, str):
        async with core.db.read() as session:
            who.signed_in = await accounts.session_user(session, value)
        if who.signed_in is not None:
            who.language, who.theme = who.signed_in.user.language, who.signed_in.user.theme
            if accounts.is_stale(who.signed_in):
                await _touch(core, who.signed_in)
            if who.signed_in.session.view_id is not None and request.match_info.http_exception is None:
                return await viewing.answer(request, who, handler)
    known = request.match_info.http_exception is None
    if known and who.user is None and not getattr(request.match_info.handler, "is_public", False):
        raise NotSignedIn
    response = await handler(request)
    auth.keep_device(request, response)
    return response


async def _touch(core: Core, signed_in: accounts.SignedIn) -> None:
    """Note that a browser is in use; a database that takes nothing now may still be read."""
    try:
        async with core.db.write() as session:
            await accounts.touch(session, signed_in)
    except DatabaseUnavailable:
        log.info("session_use_not_noted")


@web.middleware
async def forgery(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what another site makes a browser send: by where it comes from, and by a token only our pages know."""
    if request.method in SAFE_METHODS or request.path.startswith(WITHOUT_SESSION):
        return await handler(request)
    if request.match_info.http_exception is not None:
        return await handler(request)
    if not from_here(request):
        log.warning("foreign_form", origin=request.headers.get("Origin", "")[:100])
        raise Forbidden(T("This form was sent from another site."), code="csrf")
    token = request.headers.get("X-CSRF-Token")
    form = None if token else await forms.read(request)
    if not auth.visitor(request).csrf_fits(token or (form.secret("csrf") if form else "")):
        raise Forbidden(T("This page is out of date. Go back, refresh it and try again."), code="csrf")
    if form is not None and (question := form.fields.get("ask", "")) and not forms.is_upload(request):
        return _ask(request, form, question)
    return await handler(request)


def _ask(request: web.Request, form: forms.Form, question: str) -> web.StreamResponse:
    """Ask whether a form shall really be done: of who has no script, which would have asked and taken the field out."""
    request[forms.ASKED] = True
    fields = [(name, value) for name, value in form.fields.items() if name not in ("csrf", "ask")]
    return render(request, "pages/ask.html", question=question[:500], fields=fields, action=request.path_qs)


def from_here(request: web.Request) -> bool:
    """Tell whether one of our own pages sent this, as far as the browser says; what says nothing passes."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    if origin is None:
        return True  # an old browser or a program
    public = urlsplit(request.app[keys.CORE].settings.public_url)
    return origin == f"{public.scheme}://{public.netloc}" or urlsplit(origin).netloc == request.host
