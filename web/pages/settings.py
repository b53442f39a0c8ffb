"""A person's own settings: profile, password, devices, API tokens, Telegram."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from db import models
from db.base import new_id
from services import access, accounts, codes, letters, merging, team
from services.bell import session_topic
from services.errors import AppError, Conflict, Invalid, NotFound, TooMany
from services.i18n import T
from services.logs import hide
from web import auth, forms, view
from web.pages.proving import prove
from web.pages.second_factor import prove_either
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()


@routes.get("/settings")
async def settings_page(request: web.Request) -> web.StreamResponse:
    """Show everything of the own account."""
    return await _page(request)


async def _page(
    request: web.Request,
    *,
    error: AppError | None = None,
    form_name: str = "",
    values: dict[str, str] | None = None,
    token_name: str = "",
    new_token: str = "",
    telegram_link: str = "",
) -> web.StreamResponse:
    core = core_of(request)
    person = auth.user(request)
    signed_in = auth.visitor(request).signed_in
    current = signed_in.session.id if signed_in else ""
    cursor = request.query.get("cursor", "")[:90] if request.method == "GET" else ""
    async with core.db.read() as session:
        shared = await frame(session, request)
        devices = await accounts.sessions_page(session, person, current=current, cursor=cursor)
        tokens = await accounts.api_tokens(session, person)
        works = await team.memberships(session, person)
    files_used = await core.spending.stored(core, person.id)
    own: dict[str, Any] = {"full_name": person.full_name, "email": person.email or "", "phone": person.phone or ""}
    response = view.render(
        request,
        "pages/settings.html",
        status=error.status if error else 200,
        here="account",
        files_used=files_used,
        files_all=core.settings.media.owner_files_mib * 2**20,
        files_days=core.settings.media.keep_days,
        values=values or own,
        devices=[(device, device_name(device.user_agent)) for device in devices.items],
        following=devices.next,
        first=not cursor,
        current=current,
        tokens=tokens,
        works=[(member, team.shown_name(owner)) for member, owner in works],
        role_names=team.ROLE_NAMES,
        role_tasks=team.ROLE_TASKS,
        token_name=token_name,
        new_token=new_token,
        telegram_link=telegram_link,
        form_name=form_name,
        fault=fault_of(error, request) if error else None,
        factory=core.factory_username,
        public_url=core.settings.public_url,
        by_mail=codes.by_mail(core.settings),
        other_way=accounts.has_password_way(person),
        **shared,
    )
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def device_name(user_agent: str) -> tuple[str, bool]:
    """Return a browser's name for people and whether it runs on a phone; nothing is decided by it."""
    browser = next(
        (
            name
            for mark, name in (
                ("YaBrowser", "Yandex Browser"),
                ("Edg", "Edge"),
                ("OPR", "Opera"),
                ("SamsungBrowser", "Samsung Internet"),
                ("Firefox", "Firefox"),
                ("Chrome", "Chrome"),
                ("Safari", "Safari"),
            )
            if mark in user_agent
        ),
        "",
    )
    system = next(
        (
            name
            for mark, name in (
                ("Android", "Android"),
                ("iPhone", "iPhone"),
                ("iPad", "iPad"),
                ("Windows", "Windows"),
                ("Mac OS", "macOS"),
                ("Linux", "Linux"),
            )
            if mark in user_agent
        ),
        "",
    )
    return " · ".join(part for part in (browser, system) if part), system in ("Android", "iPhone", "iPad")


@routes.post("/settings/profile")
async def profile(request: web.Request) -> web.StreamResponse:
    """Change name and phone, and the e-mail where letters cannot confirm one; no other field of the form counts."""
    form = await forms.read(request)
    values = {name: form.fields.get(name, "")[:300] for name in ("full_name", "email", "phone")}
    try:
        async with core_of(request).db.write() as session:
            await accounts.update_profile(
                session,
                auth.user(request),
                full_name=form.text("full_name", 10_000),
                email=None if codes.by_mail(core_of(request).settings) else form.text("email"),
                phone=form.text("phone"),
            )
    except AppError as error:
        return await _page(request, error=error, form_name="profile", values=values)
    return view.redirect("/settings", toast="saved")


@routes.post("/settings/password")
async def password(request: web.Request) -> web.StreamResponse:
    """Set a new password; the present one, or a sign-in of a moment ago, is asked for. Signs all other devices out."""
    core = core_of(request)
    person = auth.user(request)
    form = await forms.read(request)
    try:
        if person.password_hash is None and not person.email and not person.phone:
            raise Invalid(
                T("Add an e-mail or a phone number first: you will sign in with it and the password."), field="password"
            )
        # Also the first one: it is a way in from then on.
        await prove(request, form)
        accounts.check_new_password(form.secret("password"), email=person.email)
        hashed = await accounts.hash_password(form.secret("password"))
    except AppError as error:
        return await _page(request, error=error, form_name="password")
    async with core.db.write() as session:
        ended = await accounts.sessions(session, person)
        await accounts.set_password(session, person, hashed)
        await access.record(session, person, "password_changed", "user", person.id)
        await codes.forget(session, person.id, now=core.now())
        key = f"password_changed:{new_id()}"
        await letters.write(session, person.id, "password_changed", key=key, now=core.now())
    core.bell.ring("letters")
    _end_streams(request, ended)
    await auth.sign_in(request, person)
    return view.redirect("/settings", toast="password")


def _end_streams(request: web.Request, ended: Any) -> None:
    for device in ended:
        core_of(request).bell.ring(session_topic(device.id))


@routes.post("/settings/sessions/end-others")
@auth.deletion
async def end_others(request: web.Request) -> web.StreamResponse:
    """Sign every other device out."""
    signed_in = auth.visitor(request).signed_in
    person = auth.user(request)
    current = signed_in.session.id if signed_in else None
    async with core_of(request).db.write() as session:
        ended = [device for device in await accounts.sessions(session, person) if device.id != current]
        await accounts.close_all(session, person, keep=current)
    _end_streams(request, ended)
    return view.redirect("/settings", toast="sessions_ended")


@routes.post("/settings/sessions/{session}/end")
@auth.deletion
async def end_session(request: web.Request) -> web.StreamResponse:
    """Sign one device out."""
    session_id = request.match_info["session"]
    async with core_of(request).db.write() as session:
        await accounts.close_session(session, auth.user(request), session_id)
    core_of(request).bell.ring(session_topic(session_id))
    return view.redirect("/settings", toast="session_ended")


@routes.post("/settings/tokens")
async def new_token(request: web.Request) -> web.StreamResponse:
    """Make an API token and show it this once. Fields: ``name``, and ``code`` or ``current_password``."""
    form = await forms.read(request)
    try:
        await prove_either(request, form)
        async with core_of(request).db.write() as session:
            row, plain = await accounts.new_api_token(session, auth.user(request), form.text("name", 200))
            await access.record(session, auth.user(request), "token_made", "api_token", row.id)
    except AppError as error:
        return await _page(request, error=error, form_name="token", token_name=form.fields.get("name", "")[:200])
    hide(plain)
    return await _page(request, new_token=plain)


@routes.post("/settings/tokens/{token}/revoke")
@auth.deletion
async def revoke_token(request: web.Request) -> web.StreamResponse:
    """Make a token worthless at once."""
    async with core_of(request).db.write() as session:
        await accounts.revoke_api_token(session, auth.user(request), request.match_info["token"])
        await access.record(session, auth.user(request), "token_revoked", "api_token", request.match_info["token"])
    return view.redirect("/settings", toast="token_revoked")


@routes.post("/settings/telegram")
async def link_telegram(request: web.Request) -> web.StreamResponse:
    """Show a link to the factory bot with a one-time word that joins the Telegram account to this one.

    Fields: ``code`` or ``current_password``: whoever is connected signs in without either from then on.
    """
    core = core_of(request)
    person: models.User = auth.user(request)
    if not core.factory_username or person.telegram_id is not None:
        raise NotFound
    try:
        await prove_either(request, await forms.read(request))
    except (Invalid, TooMany) as error:
        return await _page(request, error=error, form_name="telegram")
    async with core.db.write() as session:
        token = await accounts.login_link(session, person)
    return await _page(request, telegram_link=f"https://t.me/{core.factory_username}?start=in_{token}")


@routes.post("/settings/telegram/disconnect")
@auth.deletion
async def cut_telegram(request: web.Request) -> web.StreamResponse:
    """Let the connected Telegram account be nobody's any more. Fields: ``code`` or ``current_password``."""
    core, person = core_of(request), auth.user(request)
    former = person.telegram_id
    if former is None:
        raise NotFound
    try:
        await prove_either(request, await forms.read(request))
        async with core.db.write() as session:
            await merging.cut_telegram(session, person, now=core.now())
    except (Invalid, Conflict, TooMany) as error:
        return await _page(request, error=error, form_name="telegram")
    core.bell.ring("letters")
    if core.factory is not None:
        text = T(
            "This Telegram account is no longer connected to the account “{name}” in the panel.", name=person.full_name
        )
        await core.factory.notify(former, text.render(person.language))
    return view.redirect("/settings", toast="telegram_cut")
