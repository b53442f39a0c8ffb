"""Where a bot is reached: Telegram by its token, and the bot's own address to share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

from aiohttp import web

from db import models
from db.base import new_secret
from services import bots, connecting, health, instagram, notices, qr
from services.channels.base import TokenRefused
from services.errors import AppError, Conflict, Invalid, Permanent, Temporary, TooMany, Unavailable
from services.i18n import T
from web import auth, forms, view
from web.pages.shell import core_of, fault_of, frame, own_bot

routes = web.RouteTableDef()

_TRIES_IN_15_MIN = 20
# They become parts of headers: nothing but what can be printed may pass.
_ID = re.compile(r"[0-9]{5,32}")
_SECRET = re.compile(r"[!-~]{8,1000}")


def share_address(request: web.Request, bot: models.Bot) -> str:
    """Return the bot's public address, made from the configuration and not from what the browser says."""
    return f"{core_of(request).settings.public_url}/chat/{bot.public_id}"


@routes.get("/bots/{bot}/channels")
async def channels_page(request: web.Request) -> web.StreamResponse:
    """Show each connection with its state, and how to make one."""
    return await _page(request)


async def _page(
    request: web.Request,
    *,
    error: AppError | None = None,
    place: str = "telegram",
    entered: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """``place``: the channel whose form the error is about; ``entered``: what it held and may be shown again."""
    core = core_of(request)
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        shared = await frame(session, request, bot)
        connected = await bots.channels(session, bot)
    whatsapp, on_instagram = bots.of_kind(connected, "whatsapp"), bots.of_kind(connected, instagram.KIND)
    return view.render(
        request,
        "pages/channels.html",
        status=error.status if error else 200,
        here="channels",
        telegram=[channel for channel in connected if channel.kind == "telegram"],
        whatsapp=whatsapp,
        webhooks={kind: f"{core.settings.public_url}/{kind}/webhook" for kind in connecting.GUIDES},
        guides=connecting.GUIDES,
        by_app=bool(core.settings.app_secret("whatsapp")),
        own_number=core.settings.own_account("whatsapp").get("phone_number_id")
        if auth.user(request).is_admin
        else None,
        instagram_by_app=bool(core.settings.app_secret(instagram.KIND)),
        own_instagram=auth.user(request).is_admin and bool(core.settings.own_account(instagram.KIND)),
        set_up=whatsapp is not None and connecting.needs_setting_up(whatsapp, core),
        health_of=health.known,
        instagram=on_instagram,
        instagram_set_up=on_instagram is not None and connecting.needs_setting_up(on_instagram, core),
        instagram_webhook=f"{core.settings.public_url}/instagram/webhook",
        place=place,
        entered=entered or {},
        page_open=bots.of_kind(connected, "web") is not None,
        share=share_address(request, bot),
        only_here=notices.opens_only_here(core_of(request).settings.public_url),
        fault=fault_of(error, request) if error else None,
        **shared,
    )


@routes.post("/bots/{bot}/channels/telegram")
async def connect_telegram(request: web.Request) -> web.StreamResponse:
    """Connect a Telegram bot by the token that BotFather gave; the token is checked with Telegram first."""
    core = core_of(request)
    person = auth.user(request)
    async with core.db.read() as session:
        await own_bot(session, request)
    token = (await forms.read(request)).secret("token").strip()
    try:
        if not await core.limits.hit(f"connect:{person.id}", _TRIES_IN_15_MIN, 900):
            raise TooMany(retry_after_s=900)
        number, colon, rest = token.partition(":")
        if not (number.isascii() and number.isdigit() and colon and len(rest) >= 20 and token.isascii()):
            raise Invalid(T("This is not a token. A token from BotFather looks like 123456789:AAH…"), field="token")
        identity = await _identity(request, token)
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            await bots.connect_telegram(
                session,
                bot,
                identity=identity,
                token=token,
                crypto=core.crypto,
                actor=person,
                plan=core.allowances,
            )
    except AppError as error:
        return await _page(request, error=error)
    core.bell.ring("channels")
    return view.redirect(f"/bots/{bot.id}/channels", toast="connected")


async def _identity(request: web.Request, token: str) -> dict[str, object]:
    try:
        return dict(await core_of(request).telegram.get_me(token))
    except TokenRefused:
        raise Invalid(T("Telegram does not know this token. Copy it from BotFather again."), field="token") from None
    except Permanent:
        raise Invalid(T("Telegram did not accept this token."), field="token") from None
    except Temporary:
        raise Unavailable(T("Telegram is not responding right now. Please try again in a minute.")) from None


@routes.post("/bots/{bot}/channels/whatsapp")
async def connect_whatsapp(request: web.Request) -> web.StreamResponse:
    """Connect a WhatsApp number; its credentials are tried with Meta first."""
    core = core_of(request)
    person = auth.user(request)
    async with core.db.read() as session:
        bot = await own_bot(session, request)
    form = await forms.read(request)
    guide = connecting.GUIDES["whatsapp"]
    given = {each.name: form.secret(each.name) for each in guide.fields}
    entered = {each.name: given[each.name].strip()[:64] for each in guide.fields if not each.secret}
    try:
        if not await core.limits.hit(f"connect:{person.id}", _TRIES_IN_15_MIN, 900):
            raise TooMany(retry_after_s=900)
        await connecting.connect(core, person, bot.id, guide.kind, given)
    except AppError as error:
        return await _page(request, error=error, place=guide.kind, entered=entered)
    return view.redirect(f"/bots/{bot.id}/channels", toast="connected_here")


@routes.post("/bots/{bot}/channels/whatsapp/own")
@routes.post("/bots/{bot}/channels/instagram/own")
async def connect_own_account(request: web.Request) -> web.StreamResponse:
    """Connect the installation's own WhatsApp number or Instagram account to a bot of an administrator."""
    core, kind = core_of(request), request.rel_url.parts[-2]
    async with core.db.read() as session:
        bot = await own_bot(session, request)
    try:
        await connecting.connect_own_account(core, auth.user(request), bot.id, kind)
    except AppError as error:
        return await _page(request, error=error, place=kind)
    return view.redirect(f"/bots/{bot.id}/channels", toast="connected_here")


@routes.post("/bots/{bot}/channels/instagram")
async def connect_instagram(request: web.Request) -> web.StreamResponse:
    """Connect an Instagram account; its credentials are tried with Meta first."""
    core = core_of(request)
    person = auth.user(request)
    async with core.db.read() as session:
        await own_bot(session, request)
    form = await forms.read(request)
    account_id, page_id = form.text("account_id", 64).strip(), form.text("page_id", 64).strip()
    try:
        if not await core.limits.hit(f"connect:{person.id}", _TRIES_IN_15_MIN, 900):
            raise TooMany(retry_after_s=900)
        if not _ID.fullmatch(account_id):
            raise Invalid(T("The account id is a number of about 17 digits, not the username."), field="account_id")
        if page_id and not _ID.fullmatch(page_id):
            raise Invalid(T("The Page id is a number. Leave it empty with Instagram Login."), field="page_id")
        token, app_secret = form.secret("access_token").strip(), form.secret("app_secret").strip()
        second = form.secret("meta_app_secret").strip()
        free = ("meta_app_secret", *(["app_secret"] if core.settings.app_secret(instagram.KIND) else []))
        for name, value in (("access_token", token), ("app_secret", app_secret), ("meta_app_secret", second)):
            if not _SECRET.fullmatch(value) and (value or name not in free):
                raise Invalid(T("Copy it whole from Meta, without spaces."), field=name)
        async with core.db.read() as session:
            await connecting.may_connect(core, session, await own_bot(session, request), instagram.KIND)
        account = await instagram.try_account(core, token, account_id, page_id, app_secret)
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            own = bots.of_kind(await bots.channels(session, bot), instagram.KIND)
            await instagram.connect(
                session,
                bot,
                account=account,
                credentials=instagram.credentials(account, token, app_secret, second),
                # It stands in the Meta app already where the account was connected before.
                verify_token=own.secret if own is not None else new_secret(24),
                crypto=core.crypto,
                actor=person,
                plan=core.allowances,
            )
    except AppError as error:
        entered = {"account_id": account_id, "page_id": page_id}
        return await _page(request, error=error, place=instagram.KIND, entered=entered)
    core.cards.clear()
    core.bell.ring("channels")
    return view.redirect(f"/bots/{bot.id}/channels", toast="instagram_connected")


@routes.post("/bots/{bot}/channels/{channel}/comments")
async def answer_comments(request: web.Request) -> web.StreamResponse:
    """Let the bot answer comments in private, or no longer."""
    on = (await forms.read(request)).text("comment_reply") == "on"
    async with core_of(request).db.write() as session:
        bot = await own_bot(session, request)
        await instagram.answer_comments(session, bot, request.match_info["channel"], on)
    return view.redirect(f"/bots/{bot.id}/channels", toast="saved")


@routes.post("/bots/{bot}/channels/web")
async def connect_web(request: web.Request) -> web.StreamResponse:
    """Open the bot's own page again after it was disconnected."""
    core = core_of(request)
    try:
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            await bots.connect_web(session, bot, actor=auth.user(request), plan=core.allowances)
    except Conflict as error:
        return await _page(request, error=error)
    core.bell.ring("channels")
    following = auth.safe_next((await forms.read(request)).text("next"), f"/bots/{bot.id}/channels")
    return view.redirect(following, toast="web_connected")


@routes.post("/bots/{bot}/channels/{channel}/disconnect")
@auth.deletion
async def disconnect(request: web.Request) -> web.StreamResponse:
    """Disconnect a channel; its token is forgotten."""
    core = core_of(request)
    async with core.db.write() as session:
        bot = await own_bot(session, request)
        await bots.disconnect(session, bot, request.match_info["channel"], actor=auth.user(request))
    core.bell.ring("channels")
    core.bell.ring("jobs")
    return view.redirect(f"/bots/{bot.id}/channels", toast="disconnected")


@routes.post("/bots/{bot}/channels/{channel}/check")
async def check(request: web.Request) -> web.StreamResponse:
    """Look at a channel now: what is wrong with it stands on the page afterwards."""
    core = core_of(request)
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        channel = await bots.channel(session, bot, request.match_info["channel"])
    try:
        if not await core.limits.hit(f"check:{channel.id}", health.CHECKS_A_MINUTE, 60):
            raise TooMany(retry_after_s=60)
        await health.ask(core, channel)
    except AppError as error:
        return await _page(request, error=error, place=channel.kind)
    return view.redirect(f"/bots/{bot.id}/channels", toast="checked")


@routes.get("/bots/{bot}/qr.{kind:svg|png}")
async def qr_code(request: web.Request) -> web.StreamResponse:
    """Return the QR code of the bot's address, to show (SVG) or to print (PNG, about 1,000 pixels)."""
    async with core_of(request).db.read() as session:
        bot = await own_bot(session, request)
    address = share_address(request, bot)
    kind = request.match_info["kind"]
    body = await asyncio.to_thread(qr.svg if kind == "svg" else qr.png, address)
    headers = {"Content-Type": "image/svg+xml" if kind == "svg" else "image/png"}
    if "download" in request.query:
        headers["Content-Disposition"] = f'attachment; filename="bot-qr.{kind}"'
    return web.Response(body=body, headers=headers)
