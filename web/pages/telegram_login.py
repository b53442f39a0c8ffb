"""Sign-in by Telegram's own log-in, where the factory bot is set up for it."""

from __future__ import annotations

import time

from aiohttp import web

from services import accounts, telegram_login
from services.crypto import new_token, same
from services.errors import Forbidden, Invalid, NotFound, TooMany
from services.i18n import T
from web import auth, keys, view
from web.pages import referrals
from web.pages.shell import core_of, let_in

routes = web.RouteTableDef()

PROVIDER: web.AppKey[telegram_login.TelegramLogin] = web.AppKey("telegram_login", telegram_login.TelegramLogin)
_WITHIN_S = 600
_IN_15_MIN = 60


def setup(app: web.Application) -> None:
    """Keep the provider's keys with the application."""
    app[PROVIDER] = telegram_login.TelegramLogin(app[keys.CORE])


@routes.get("/login/telegram")
@auth.public
async def begin(request: web.Request) -> web.StreamResponse:
    """Send the browser to Telegram; what it has to bring back lies in its session, and works once."""
    core = core_of(request)
    following = auth.safe_next(request.query.get("next"))
    if telegram_login.client_of(core.settings) is None:
        raise NotFound
    session = auth.visitor(request).session
    if auth.visitor(request).user is not None or session is None:
        return view.redirect(following)
    if not await auth.limit_address(request, "link:telegram", _IN_15_MIN, 900):
        raise TooMany(retry_after_s=900)
    state, nonce, verifier = new_token(), new_token(), new_token(48)
    until = int(time.time()) + _WITHIN_S
    session["telegram"] = {"state": state, "nonce": nonce, "verifier": verifier, "until": until, "next": following}
    return view.redirect(telegram_login.address(core.settings, state=state, nonce=nonce, verifier=verifier))


@routes.get("/login/telegram/callback")
@auth.public
async def callback(request: web.Request) -> web.StreamResponse:
    """Take what Telegram sends back with the browser, and sign its person in; a new one gets an account."""
    core = core_of(request)
    session = auth.visitor(request).session
    if telegram_login.client_of(core.settings) is None:
        raise NotFound
    begun = session.pop("telegram", None) if session is not None else None
    if request.query.get("error") == "access_denied":
        return view.redirect("/login")
    state, code = request.query.get("state", "")[:200], request.query.get("code", "")[:2000]
    if not isinstance(begun, dict) or begun["until"] < time.time() or not code or not same(begun["state"], state):
        raise Invalid(telegram_login.REFUSED, code="telegram_login")
    provider = request.app[PROVIDER]
    found = await provider.person(code=code, nonce=begun["nonce"], verifier=begun["verifier"])
    async with core.db.write() as unit:
        known = await accounts.by_telegram(unit, found.telegram_id)
        person = await accounts.ensure_telegram_user(
            unit,
            found.telegram_id,
            full_name=found.name,
            language_code=auth.visitor(request).language,
            admin_ids=core.settings.secrets.admin_telegram_ids,
        )
        if found.phone is not None and person.phone is None and await accounts.is_free_phone(unit, found.phone):
            await accounts.set_phone(unit, person, found.phone, proven=True)
        if known is None:
            await referrals.registered(unit, request, person)
    if person.banned_at is not None:
        raise Forbidden(T("Your account is blocked. Please write to whoever runs this service."), code="banned")
    return await let_in(request, person, auth.safe_next(str(begun["next"])), toast="welcome")
