"""A person's e-mail: shown to be theirs by a code or a link, changed only when the new one has been."""

from __future__ import annotations

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import access, accounts, codes, letters, merging, second_factor
from services.bell import session_topic
from services.core import Core
from services.errors import AppError, Conflict, Invalid, NotFound, TooMany
from services.i18n import T
from web import auth, forms, view
from web.pages.proving import prove
from web.pages.shell import core_of, fault_of, frame, let_in

routes = web.RouteTableDef()

_PURPOSES = ("change_email", "confirm_email")
_TYPED = (*_PURPOSES, "join")
_BAD_LINKS_IN_15_MIN = 30
_ASKED_AN_HOUR = 10
_ASKED_AN_HOUR_FROM_ONE_ADDRESS = 40


def keys_of(core: Core) -> codes.Keys:
    """Return what codes and letters are protected with."""
    return codes.Keys(core.secret, core.crypto)


@routes.get("/settings/email")
async def email_page(request: web.Request) -> web.StreamResponse:
    """Show the address, whether it is confirmed, and the field for the code that is on its way."""
    return await _page(request)


async def _page(
    request: web.Request, *, error: AppError | None = None, form_name: str = "", email: str = ""
) -> web.StreamResponse:
    core, person = core_of(request), auth.user(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
        sent = await _sent(session, person, core)
    response = view.render(
        request,
        "pages/email.html",
        status=error.status if error else 200,
        here="account",
        sent=sent,
        by_mail=codes.by_mail(core.settings),
        factory=core.factory_username,
        typed=email,
        form_name=form_name,
        fault=fault_of(error, request) if error else None,
        **shared,
    )
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


async def _sent(session: AsyncSession, person: models.User, core: Core) -> models.AccountCode | None:
    """Return the newest letter with a code that still works."""
    found = [await codes.waiting(session, person, purpose, now=core.now()) for purpose in _TYPED]
    return max(filter(None, found), key=lambda row: row.created_at, default=None)


@routes.post("/settings/email")
async def change(request: web.Request) -> web.StreamResponse:
    """Have a letter sent to a new address; it counts when it is confirmed. Fields: ``email``, ``current_password``.

    Where a person who came by Telegram names the address of an account, the code joins the two.
    """
    core, person = core_of(request), auth.user(request)
    form = await forms.read(request)
    typed = form.fields.get("email", "")[:300]
    try:
        if not codes.by_mail(core.settings):
            raise Conflict(T("This service sends no letters, so an address cannot be confirmed."), code="no_mail")
        email = accounts.clean_email(form.text("email"))
        if email == person.email:
            raise Invalid(T("This is your e-mail already."), field="email")
        await prove(request, form)
        # Before anything is looked up: the answer tells whether an address has an account.
        if not await core.limits.hit(f"email:{person.id}", _ASKED_AN_HOUR, 3600) or not await auth.limit_address(
            request, "email", _ASKED_AN_HOUR_FROM_ONE_ADDRESS, 3600
        ):
            raise TooMany(T("Too many attempts. Wait an hour and try again."), retry_after_s=3600)
        async with core.db.write() as session:
            other = await accounts.by_email(session, email) if person.email is None else None
            if other is None:
                await accounts.be_free(session, person, email)
            else:
                merging.may_join(other, person)
            purpose = "change_email" if other is None else "join"
            await codes.send(session, keys_of(core), person, purpose, email, now=core.now())
            await access.record(session, person, f"{purpose}_asked", "user", person.id)
    except AppError as error:
        return await _page(request, error=error, form_name="change", email=typed)
    core.bell.ring("letters")
    return view.redirect("/settings/email", toast="code_sent")


@routes.post("/settings/email/send")
async def send_again(request: web.Request) -> web.StreamResponse:
    """Have another code sent to the address that is to be confirmed."""
    core, person = core_of(request), auth.user(request)
    now = core.now()
    try:
        async with core.db.write() as session:
            sent = await _sent(session, person, core)
            proved = person.email_confirmed_at is not None and person.mail_refused_at is None
            if sent is None and (person.email is None or proved):
                raise NotFound
            if not codes.by_mail(core.settings):
                raise Conflict(T("This service sends no letters, so an address cannot be confirmed."), code="no_mail")
            purpose, target = (sent.purpose, sent.target) if sent else ("confirm_email", person.email or "")
            await codes.send(session, keys_of(core), person, purpose, target, now=now)
    except (Conflict, TooMany) as error:
        return await _page(request, error=error, form_name="code")
    core.bell.ring("letters")
    return view.redirect("/settings/email", toast="code_sent")


@routes.post("/settings/email/code")
async def enter_code(request: web.Request) -> web.StreamResponse:
    """Take the code of the newest letter: it confirms an address, or joins this account to the one that has the address."""
    core, person = core_of(request), auth.user(request)
    form = await forms.read(request)
    typed, now = form.text("code", 50), core.now()
    joined: models.User | None = None
    ended: list[str] = []
    try:
        async with core.db.write() as session:
            sent = await _sent(session, person, core)
            proved = await codes.attempt(session, keys_of(core), person, sent.purpose, typed, now=now) if sent else None
            if proved is not None and proved.purpose == "join":
                joined = await accounts.by_email(session, proved.target)
                if joined is None:
                    raise Conflict(T("That account is not there any more."), code="joined", field="code")
                _check_theirs(joined)
                ended = await merging.join(session, core.settings, joined.id, person.id, now=now)
                await accounts.confirm_email(session, joined, proved.target, now=now)
                await core.pause("accounts_joined")
            elif proved is not None:
                await confirmed(session, core, person, proved)
        if proved is None:
            raise Invalid(codes.WRONG, field="code")
        if joined is not None:
            await core.pause("accounts_kept")
    except (Invalid, Conflict) as error:
        return await _page(request, error=error, form_name="code")
    core.bell.ring("letters")
    if joined is None:
        return view.redirect("/settings/email", toast="email_confirmed")
    for topic in ("channels", *map(session_topic, ended)):
        core.bell.ring(topic)
    return await let_in(request, joined, "/settings", toast="accounts_joined")


def _check_theirs(joined: models.User) -> None:
    """Raise ``Conflict`` where a code to its address does not show that an account is the reader's.

    Anybody may have registered with an address that was never confirmed and wait in that account for what is joined to it; and
    two steps, or an administrator's rights, are not passed by through a mailbox.
    """
    if joined.email_confirmed_at is None:
        text = T(
            "That account never confirmed this address. Choose a new password for it (“Forgot the password?”) or confirm "
            "the address there, then join the two."
        )
    elif second_factor.is_on(joined) or joined.is_admin:
        text = T("Sign in to that account and connect Telegram in its settings.")
    else:
        return
    raise Conflict(text, code="joined", field="code")


async def confirmed(session: AsyncSession, core: Core, person: models.User, proved: models.AccountCode) -> None:
    """An address has been proved: it counts from now on, and the one before it is told.

    Raises ``Invalid`` (code ``link``) where it is of an address that the account no longer has, ``Conflict`` where another
    account has it.
    """
    now = core.now()
    if proved.purpose == "confirm_email" and proved.target != person.email:
        raise Invalid(T("This link has been used or has expired."), code="letter_link")
    came_back = person.mail_refused_at is not None
    before = await accounts.confirm_email(session, person, proved.target, now=now)
    await access.record(session, person, "email_confirmed", "user", person.id)
    if proved.purpose == "change_email":
        await codes.forget(session, person.id, now=now)
    if before is not None:
        params, key = {"email": proved.target}, f"email_changed:{proved.id}"
        # Where nobody is nobody needs to hear of it; in Telegram the person does.
        by_mail = not came_back
        await letters.write(
            session, person.id, "email_changed", key=key, now=now, params=params, address=before, mail=by_mail
        )


@routes.get("/email/confirm")
@auth.public
async def link_page(request: web.Request) -> web.StreamResponse:
    """Show which address a link confirms; doing it takes the button, so a preview does not use it up."""
    core = core_of(request)
    token = request.query.get("token", "")[:200]
    try:
        async with core.db.read() as session:
            row, person = await codes.look_at(session, token, now=core.now())
        if row.purpose not in _PURPOSES:
            raise Invalid(T("This link has been used or has expired."), code="letter_link")
    except Invalid:
        await count_bad_link(request)
        raise
    return view.render(request, "pages/email_link.html", token=token, email=row.target, person=person)


@routes.post("/email/confirm")
@auth.public
async def link(request: web.Request) -> web.StreamResponse:
    """Use a link up and confirm its address."""
    core, form = core_of(request), await forms.read(request)
    try:
        async with core.db.write() as session:
            row, person = await codes.use(session, form.secret("token")[:200], frozenset(_PURPOSES), now=core.now())
            await confirmed(session, core, person, row)
    except Invalid:
        await count_bad_link(request)
        raise
    core.bell.ring("letters")
    known = auth.visitor(request).user
    return view.redirect("/settings/email" if known is not None else "/login", toast="email_confirmed")


async def count_bad_link(request: web.Request) -> None:
    """Slow guessing down; a good link always works."""
    if not await auth.limit_address(request, "link:letter", _BAD_LINKS_IN_15_MIN, 900):
        raise TooMany(retry_after_s=900)
