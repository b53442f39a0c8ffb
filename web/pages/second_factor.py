"""Two-step sign-in: the code that is asked for after the password or a link, and its setting up and turning off."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from db.base import new_id
from services import access, accounts, letters, qr, second_factor
from services.bell import session_topic
from services.errors import AppError, Conflict, Invalid, TooMany
from services.i18n import T
from services.logs import hide
from web import auth, forms, view
from web.pages.proving import prove
from web.pages.shell import core_of, fault_of, first_page, frame

routes = web.RouteTableDef()


# Signing in


def _ask(request: web.Request, following: str, error: AppError | None = None) -> web.StreamResponse:
    response = view.render(
        request,
        "pages/login_code.html",
        status=error.status if error else 200,
        next=following,
        fault=fault_of(error, request) if error else None,
    )
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


@routes.get("/login/code")
@auth.public
async def code_page(request: web.Request) -> web.StreamResponse:
    """Ask for the code of who has shown the first proof."""
    following = auth.safe_next(request.query.get("next"))
    if auth.visitor(request).user is not None:
        return view.redirect(following)
    if await auth.half_in(request) is None:
        return view.redirect("/login")
    return _ask(request, following)


@routes.post("/login/code")
@auth.public
async def enter_code(request: web.Request) -> web.StreamResponse:
    """Take a code of the phone or a recovery code, and sign in."""
    form = await forms.read(request)
    following = auth.safe_next(form.text("next"))
    person = await auth.half_in(request)
    if person is None:
        return view.redirect("/login")
    try:
        await _check(request, person.id, form)
    except (Invalid, TooMany) as error:
        return _ask(request, following, error)
    await auth.sign_in(request, person)
    return view.redirect(first_page(person, following), toast="welcome")


async def _check(request: web.Request, user_id: str, form: forms.Form) -> None:
    """Use the code of the form up; raises ``Invalid`` (field ``code``), and ``TooMany`` after too many tries."""
    core, typed = core_of(request), form.text("code", 60)
    device = auth.device(request)
    known = device.name if device is not None and device.user_id == user_id else None
    attempts = core.settings.limits.login_attempts_per_15_min
    await second_factor.allow(core.limits, user_id, typed, auth.client_address(request), attempts, device=known)
    async with core.db.write() as session:
        fits = await second_factor.check(session, core.crypto, user_id, typed, now=core.now())
    if not fits:
        raise Invalid(second_factor.WRONG, field="code")
    await second_factor.forget(core.limits, user_id, auth.client_address(request), device=known)


# Setting up


@routes.get("/settings/two-step")
async def page(request: web.Request) -> web.StreamResponse:
    """Show whether it is on, and the way to turn it on or off."""
    return await _page(request)


async def _page(
    request: web.Request, *, error: AppError | None = None, form_name: str = "", codes: list[str] | None = None
) -> web.StreamResponse:
    core = core_of(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
        person = await accounts.by_id(session, auth.user(request).id) or auth.user(request)
        left = await second_factor.recovery_codes_left(session, person)
    secret = second_factor.secret_of(core.crypto, person)
    shown: dict[str, Any] = {"secret": "", "qr": ""}
    if secret:
        hide(secret)
        spaced = " ".join(secret[place : place + 4] for place in range(0, len(secret), 4))
        shown = {"secret": spaced, "qr": qr.inline(second_factor.address_of(secret, person))}
    response = view.render(
        request,
        "pages/two_step.html",
        status=error.status if error else 200,
        here="account",
        on=second_factor.is_on(person),
        since=person.totp_at,
        left=left,
        codes=codes or [],
        has_password=person.password_hash is not None,
        form_name=form_name,
        fault=fault_of(error, request) if error else None,
        **shown,
        **shared,
    )
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


@routes.post("/settings/two-step/begin")
async def begin(request: web.Request) -> web.StreamResponse:
    """Make a secret for the phone. Fields: ``current_password``."""
    core, person = core_of(request), auth.user(request)
    form = await forms.read(request)
    try:
        await prove(request, form)
        async with core.db.write() as session:
            await second_factor.begin(session, core.crypto, person)
    except (Invalid, Conflict, TooMany) as error:
        return await _page(request, error=error, form_name="begin")
    return view.redirect("/settings/two-step")


@routes.post("/settings/two-step/confirm")
async def confirm(request: web.Request) -> web.StreamResponse:
    """Let it count, now that the phone has shown a code; shows the recovery codes this once, signs all other devices out."""
    core, person = core_of(request), auth.user(request)
    form = await forms.read(request)
    try:
        async with core.db.write() as session:
            codes = await second_factor.confirm(session, core.crypto, person, form.text("code", 60), now=core.now())
            ended = await accounts.sessions(session, person)
            await accounts.close_all(session, person)
            await access.record(session, person, "second_factor_on", "user", person.id)
            key = f"second_factor:{new_id()}"
            await letters.write(session, person.id, "second_factor_on", key=key, now=core.now())
    except (Invalid, Conflict) as error:
        return await _page(request, error=error, form_name="confirm")
    hide(*codes)
    for topic in ("letters", *(session_topic(device.id) for device in ended)):
        core.bell.ring(topic)
    await auth.sign_in(request, person)
    return await _page(request, codes=codes)


@routes.post("/settings/two-step/codes")
async def new_codes(request: web.Request) -> web.StreamResponse:
    """Make new recovery codes in place of the old ones and show them this once. Fields: ``code`` or ``current_password``."""
    core, person = core_of(request), auth.user(request)
    form = await forms.read(request)
    try:
        _must_be_on(person.totp_at is not None)
        await prove_either(request, form)
        async with core.db.write() as session:
            codes = await second_factor.new_recovery_codes(session, person)
            await access.record(session, person, "recovery_codes_made", "user", person.id)
    except (Invalid, Conflict, TooMany) as error:
        return await _page(request, error=error, form_name="codes")
    hide(*codes)
    return await _page(request, codes=codes)


@routes.post("/settings/two-step/off")
async def turn_off(request: web.Request) -> web.StreamResponse:
    """Turn it off. Fields: ``code`` or ``current_password``."""
    core, person = core_of(request), auth.user(request)
    form = await forms.read(request)
    try:
        _must_be_on(person.totp_at is not None)
        await prove_either(request, form)
        async with core.db.write() as session:
            await second_factor.turn_off(session, person)
            await access.record(session, person, "second_factor_off", "user", person.id)
            key = f"second_factor:{new_id()}"
            await letters.write(session, person.id, "second_factor_off", key=key, now=core.now())
    except (Invalid, Conflict, TooMany) as error:
        return await _page(request, error=error, form_name="off")
    core.bell.ring("letters")
    await auth.sign_in(request, person)
    return view.redirect("/settings/two-step", toast="second_factor_off")


def _must_be_on(on: bool) -> None:
    if not on:
        raise Conflict(T("Two-step sign-in is off."))


async def prove_either(request: web.Request, form: forms.Form) -> None:
    """Take a code, the password where there is one, or without either a sign-in of the last minutes.

    Raises ``Invalid`` with the field, and ``TooMany`` after too many tries.
    """
    person = auth.user(request)
    if form.text("code", 60).strip():
        await _check(request, person.id, form)
    elif person.password_hash is None and second_factor.is_on(person):
        raise Invalid(second_factor.WRONG, field="code")
    else:
        await prove(request, form)
