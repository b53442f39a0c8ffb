"""Registration, sign-in by password or one-time link, sign-out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import accounts, codes, panel_links, telegram_login
from services.errors import AppError, Conflict, Invalid, TooMany
from services.i18n import DEFAULT_LANGUAGE, T
from web import auth, forms, view
from web.pages import referrals
from web.pages.email import keys_of
from web.pages.shell import core_of, fault_of, let_in

routes = web.RouteTableDef()

_REGISTRATIONS_AN_HOUR = 10
_ENOUGH_ACCOUNTS = "too_many_accounts"
_BAD_LINKS_IN_15_MIN = 30
_OR_BY_THE_BOT = {
    900: T("Too many attempts. Wait 15 minutes, or ask the bot for a link with /panel."),
    7_200: T("Too many attempts. Wait two hours, or ask the bot for a link with /panel."),
    86_400: T("Too many attempts. Wait a day, or ask the bot for a link with /panel."),
}
REGISTRATION = ("full_name", "phone", "email")


@routes.get("/login")
@auth.public
async def login_page(request: web.Request) -> web.StreamResponse:
    """Show the form."""
    following = auth.safe_next(request.query.get("next"))
    if auth.visitor(request).user is not None:
        return view.redirect(following)
    return _login(request, following)


def tell_of(request: web.Request, error: AppError) -> AppError:
    """Return an error that sends people to the factory bot where there is one, and nobody where there is none."""
    if core_of(request).factory_username:
        if error.code == accounts.ATTEMPTS and isinstance(error, TooMany):
            text = _OR_BY_THE_BOT[error.retry_after_s]
            return TooMany(text, retry_after_s=error.retry_after_s, code=error.code)
        return error
    if isinstance(error, Conflict) and error.field == "phone":
        return Conflict(T("This phone already has an account. Sign in instead."), code=error.code, field=error.field)
    if error.code == "link":
        return Invalid(T("This link has been used or has expired."), code=error.code)
    return error


def _with_pause(response: web.StreamResponse, error: AppError) -> web.StreamResponse:
    """Add to a form that is shown again when it may be sent again."""
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


async def _sign_in(request: web.Request, person: models.User, following: str, *, toast: str = "") -> web.StreamResponse:
    """Sign a person in and send them on; an account that never chose a language takes the one of the page."""
    core, language = core_of(request), auth.visitor(request).language
    if person.language == DEFAULT_LANGUAGE and person.telegram_id is None and language != DEFAULT_LANGUAGE:
        async with core.db.write() as session:
            if await accounts.never_signed_in(session, person):
                await accounts.set_language(session, person, language)
    return await let_in(request, person, following, toast=toast)


def _login(request: web.Request, following: str, login: str = "", error: AppError | None = None) -> web.StreamResponse:
    return view.render(
        request,
        "pages/login.html",
        status=error.status if error else 200,
        next=following,
        login=login,
        fault=fault_of(error, request) if error else None,
        factory=core_of(request).factory_username,
        start_word=panel_links.start_word(following),
        by_telegram=telegram_login.client_of(core_of(request).settings) is not None,
    )


@routes.post("/login")
@auth.public
async def login(request: web.Request) -> web.StreamResponse:
    """Sign in with e-mail or phone and password."""
    core = core_of(request)
    form = await forms.read(request)
    following = auth.safe_next(form.text("next"))
    try:
        person = await accounts.check_password(
            core.db,
            core.limits,
            login=form.text("login"),
            password=form.secret("password"),
            address=auth.client_address(request),
            per_window=core.settings.limits.login_attempts_per_15_min,
            device=auth.device(request),
        )
    except AppError as error:
        response = _login(request, following, form.fields.get("login", "")[:254], tell_of(request, error))
        return _with_pause(response, error)
    return await _sign_in(request, person, following)


@routes.get("/register")
@auth.public
async def register_page(request: web.Request) -> web.StreamResponse:
    """Show the form."""
    if auth.visitor(request).user is not None:
        return view.redirect("/dashboard")
    empty = dict.fromkeys(REGISTRATION, "")
    brought = await referrals.remember(request)
    response = _register(request, empty)
    brought.keep(request, response)
    return response


def _register(request: web.Request, values: dict[str, str], error: AppError | None = None) -> web.StreamResponse:
    core = core_of(request)
    return view.render(
        request,
        "pages/register.html",
        status=error.status if error else 200,
        values=values,
        fault=fault_of(error, request) if error else None,
        factory=core.factory_username,
        by_telegram=telegram_login.client_of(core.settings) is not None,
    )


@routes.post("/register")
@auth.public
async def register(request: web.Request) -> web.StreamResponse:
    """Make an owner's account and sign in. Fields: ``full_name``, ``phone``, ``email``, ``password``; no others count."""
    form = await forms.read(request)
    values = {name: form.fields.get(name, "")[:300] for name in REGISTRATION}
    try:
        person = await new_account(request, form)
    except AppError as error:
        return _with_pause(_register(request, values, tell_of(request, error)), error)
    await auth.sign_in(request, person)
    return view.redirect("/bots/new")


async def new_account(
    request: web.Request,
    form: forms.Form,
    *,
    then: Callable[[AsyncSession, models.User], Awaitable[None]] | None = None,
) -> models.User:
    """Make an account of a registration's form; ``then`` does what belongs to it in the same unit of work.

    Raises ``Invalid`` and ``Conflict`` with the field, ``TooMany`` where one address has made too many.
    """
    full_name = accounts.clean_name(form.text("full_name", 10_000))
    phone = accounts.clean_phone(form.text("phone"))
    email = accounts.clean_email(form.text("email"))
    accounts.check_new_password(form.secret("password"), email=email)
    if not await auth.limit_address(request, "register", _REGISTRATIONS_AN_HOUR, 3600):
        text = T("Too many accounts have been made from your network. Try again in an hour.")
        raise TooMany(text, retry_after_s=3600, code=_ENOUGH_ACCOUNTS)
    password_hash = await accounts.hash_password(form.secret("password"))
    core = core_of(request)
    async with core.db.write() as session:
        person = await accounts.register_owner(
            session,
            full_name=full_name,
            phone=phone,
            email=email,
            password_hash=password_hash,
            language=auth.visitor(request).language,
        )
        await referrals.registered(session, request, person)
        await accounts.set_theme(session, person, auth.visitor(request).theme)
        if codes.by_mail(core.settings):
            await codes.send(session, keys_of(core), person, "confirm_email", email, now=core.now())
        if then is not None:
            await then(session, person)
    core.bell.ring("letters")
    return person


@routes.get("/login/link")
@auth.public
async def link_page(request: web.Request) -> web.StreamResponse:
    """Show whom a one-time link signs in; using it takes the button, so a messenger's preview does not use it up."""
    token = request.query.get("token", "")[:200]
    try:
        async with core_of(request).db.read() as session:
            person = await accounts.peek_login_link(session, token)
    except Invalid as error:
        await _count_bad_link(request)
        raise tell_of(request, error) from None
    following = auth.safe_next(request.query.get("next"))
    return view.render(request, "pages/login_link.html", person=person, token=token, next=following)


@routes.post("/login/link")
@auth.public
async def link(request: web.Request) -> web.StreamResponse:
    """Use a one-time link up, sign in and go on to where the link leads."""
    form = await forms.read(request)
    token = form.secret("token")[:200]
    try:
        async with core_of(request).db.write() as session:
            person = await accounts.use_login_link(session, token)
    except Invalid as error:
        await _count_bad_link(request)
        raise tell_of(request, error) from None
    return await _sign_in(request, person, auth.safe_next(form.text("next")), toast="welcome")


async def _count_bad_link(request: web.Request) -> None:
    """Slow guessing down; a good link always works, also for an office behind one address."""
    if not await auth.limit_address(request, "link", _BAD_LINKS_IN_15_MIN, 900):
        raise TooMany(retry_after_s=900)


@routes.post("/logout")
async def logout(request: web.Request) -> web.StreamResponse:
    """End this browser's session."""
    await auth.sign_out(request)
    return view.redirect("/login", toast="signed_out")
