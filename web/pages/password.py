"""A lost password: chosen anew by a link in a letter, in the same words whether there is such an account or not."""

from __future__ import annotations

from aiohttp import web

from services import accounts, codes, jobs, resets
from services.crypto import digest
from services.errors import AppError, Conflict, Invalid, TooMany
from services.i18n import T
from web import auth, forms, view
from web.pages.email import count_bad_link
from web.pages.shell import core_of, fault_of

routes = web.RouteTableDef()

_ASKED_IN_15_MIN = 10


def _page(
    request: web.Request, *, email: str = "", sent: bool = False, error: AppError | None = None
) -> web.StreamResponse:
    core = core_of(request)
    response = view.render(
        request,
        "pages/forgot.html",
        status=error.status if error else 200,
        email=email,
        sent=sent,
        by_mail=codes.by_mail(core.settings),
        factory=core.factory_username,
        fault=fault_of(error, request) if error else None,
    )
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


@routes.get("/password/forgot")
@auth.public
async def forgot_page(request: web.Request) -> web.StreamResponse:
    """Ask for the address; without mail say what other way there is."""
    return _page(request)


@routes.post("/password/forgot")
@auth.public
async def forgot(request: web.Request) -> web.StreamResponse:
    """Have a letter sent if there is such an account, which the answer does not tell: not even by its time."""
    core, form = core_of(request), await forms.read(request)
    typed = form.fields.get("email", "")[:254]
    try:
        if not codes.by_mail(core.settings):
            raise Conflict(T("This service sends no letters."), code="no_mail")
        email = accounts.clean_email(form.text("email"))
        if not await auth.limit_address(request, "reset", _ASKED_IN_15_MIN, 900):
            raise TooMany(T("Too many attempts. Wait 15 minutes and try again."), retry_after_s=900)
    except AppError as error:
        return _page(request, email=typed, error=error)
    async with core.db.write() as session:
        payload = {"email": core.crypto.encrypt(email)}
        await jobs.add(session, resets.RESET_JOB, payload, lane=f"reset:{digest(email)[:32]}")
    core.bell.ring("jobs")
    return _page(request, email=email, sent=True)


@routes.get("/password/reset")
@auth.public
async def reset_page(request: web.Request) -> web.StreamResponse:
    """Ask for the new password; the link is used up by the form alone."""
    return await _reset_page(request, request.query.get("token", "")[:200])


async def _reset_page(request: web.Request, token: str, error: AppError | None = None) -> web.StreamResponse:
    core = core_of(request)
    try:
        async with core.db.read() as session:
            row, person = await codes.look_at(session, token, now=core.now())
        if row.purpose != "reset":
            raise Invalid(T("This link has been used or has expired."), code="letter_link")
    except Invalid:
        await count_bad_link(request)
        raise
    return view.render(
        request,
        "pages/reset.html",
        status=error.status if error else 200,
        token=token,
        email=person.email or row.target,
        fault=fault_of(error, request) if error else None,
    )


@routes.post("/password/reset")
@auth.public
async def reset(request: web.Request) -> web.StreamResponse:
    """Set the new password and sign the account out everywhere. Fields: ``token``, ``password``."""
    core, form = core_of(request), await forms.read(request)
    token = form.secret("token")[:200]
    try:
        async with core.db.read() as session:
            row, person = await codes.look_at(session, token, now=core.now())
    except Invalid:
        await count_bad_link(request)
        raise
    try:
        accounts.check_new_password(form.secret("password"), email=person.email)
    except Invalid as error:
        return await _reset_page(request, token, error)
    hashed = await accounts.hash_password(form.secret("password"))
    now = core.now()
    async with core.db.write() as session:
        row, person = await codes.use(session, token, frozenset({"reset"}), now=now)
        chosen = await resets.choose(session, row, person, hashed, now=now)
    for topic in ("letters", *chosen.topics):
        core.bell.ring(topic)
    # What others tried in vain does not keep out whoever has just shown to be the account's.
    for login in filter(None, (chosen.user.email, chosen.user.phone)):
        await accounts.forget_attempts(core.limits, login)
    auth.visitor(request).new_device = chosen.user.id
    return view.redirect("/login", toast="address_parted" if chosen.parted else "password_reset")
