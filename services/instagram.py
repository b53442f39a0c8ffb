"""Connecting a bot to an Instagram account, with either of Meta's logins, and the owner's choices there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import access, bots, notices, renewal
from services.allowances import Allowances
from services.channels import instagram
from services.channels.base import NotAllowed, TokenRefused
from services.channels.instagram import InstagramAccount
from services.conversations.networks import COMMENT_REPLY
from services.crypto import Crypto
from services.errors import Conflict, Invalid, NotFound, Permanent, Temporary, Unavailable
from services.i18n import T
from services.text import one_line

if TYPE_CHECKING:
    from services.core import Core

KIND = "instagram"


async def try_account(
    core: Core, token: str, account_id: str, page_id: str, app_secret: str, *, subscribe: bool = True
) -> InstagramAccount:
    """Try an account's credentials with Meta; ``page_id`` is empty for a token of Instagram's own login.

    ``subscribe``: have its messages delivered from now on.

    Without an ``app_secret`` the app is the installation's own. Raises ``Invalid`` that names the field to correct, or
    ``Unavailable``.
    """
    app_secret = app_secret or core.settings.app_secret(KIND)
    try:
        if page_id:
            return await instagram.look_up_page(core.graph, token, account_id, page_id, app_secret, subscribe=subscribe)
        return await instagram.look_up(core.instagram_graph, token, account_id, subscribe=subscribe)
    except NotAllowed:
        raise Invalid(
            T("This access token lacks permissions. Allow messages and make it again."), field="access_token"
        ) from None
    except TokenRefused:
        raise Invalid(
            T(
                "Meta does not accept this access token. Copy it whole, and fill in the Page id only if the account was "
                "connected by Facebook Login."
            ),
            field="access_token",
        ) from None
    except Permanent as error:
        if "appsecret_proof" in str(error):
            raise Invalid(
                T("This app secret does not belong to the app of the access token."), field="app_secret"
            ) from None
        if page_id:
            raise Invalid(
                T("The access token does not lead from this Page to this account. Check both ids."), field="page_id"
            ) from None
        raise Invalid(
            T("The access token is not of the account with this id. Copy the id from the Meta app."), field="account_id"
        ) from None
    except Temporary:
        raise Unavailable(T("Meta is not responding right now. Please try again in a minute.")) from None


async def own_account_id(core: Core, token: str) -> str:
    """Return which account the installation's own token is of; raises ``Conflict`` or ``Unavailable``."""
    try:
        found = instagram.own_id(await instagram.show(core.instagram_graph, token))
    except Permanent:
        found = ""
    except Temporary:
        raise Unavailable(T("Meta is not responding right now. Please try again in a minute.")) from None
    if not found:
        raise Conflict(T("Meta does not accept the Instagram token in this service’s settings."))
    return found


def credentials(account: InstagramAccount, token: str, app_secret: str, meta_app_secret: str) -> dict[str, str]:
    """Return what is kept, encrypted, of a connected account."""
    kept = {"access_token": token, "account_id": account.id, "app_secret": app_secret}
    more = {"page_id": account.page, "meta_app_secret": meta_app_secret}
    return kept | {name: value for name, value in more.items() if value}


async def connect(
    session: AsyncSession,
    bot: models.Bot,
    *,
    account: InstagramAccount,
    credentials: Mapping[str, str],
    verify_token: str,
    crypto: Crypto,
    actor: models.User | None = None,
    plan: Allowances | None = None,
) -> models.Channel:
    """Connect an Instagram account that Meta has just shown, or renew its credentials; the owner's choices stay.

    ``credentials``: see :func:`credentials`. ``plan``: see :func:`services.bots.connect_telegram`. Raises ``Conflict`` when the
    account belongs to another bot here, or this bot has another one connected.
    """
    taken = T("This Instagram account is already connected to another bot. Disconnect it there first.")
    known = await session.scalar(
        select(models.Channel).where(models.Channel.kind == KIND, models.Channel.external_id == account.id)
    )
    if known is not None and known.bot_id != bot.id:
        raise Conflict(taken, code="channel_taken")
    action = "channel_renewed" if known is not None else "channel_connected"
    if known is None:
        own = bots.of_kind(await bots.channels(session, bot), KIND)
        if own is not None:
            raise Conflict(
                T(
                    "“{name}” is connected to @{username} on Instagram. Disconnect it first.",
                    name=bot.name,
                    username=own.username,
                ),
                code="channel_exists",
            )
        if plan is not None:
            await plan.channel(session, bot, KIND)
        known = await bots.claim(session, bot, KIND, account.id)
    known.credentials = crypto.encrypt(dict(credentials))
    known.secret = verify_token
    known.parent_id = account.page or None
    known.title = one_line(account.name, 128)
    known.username = one_line(account.username, 64)
    known.settings = {**renewal.entered(known.settings or {}), "subscribed": account.subscribed}
    known.status, known.last_error, known.health = "active", "", {}
    try:
        await session.flush()
    except IntegrityError:
        raise Conflict(taken, code="channel_taken") from None
    await notices.solve_channel(session, known.id)
    for trouble in ("token_expires", "token_expires_soon"):
        # When the new token ends is known only once it was renewed.
        await notices.solve(session, notices.channel_key(known.id, trouble))
    await access.record(session, actor, action, "bot", bot.id, kind=KIND, channel=known.id)
    return known


async def answer_comments(session: AsyncSession, bot: models.Bot, channel_id: str, on: bool) -> None:
    """Let the bot answer comments under posts by a private message, or no longer; raises ``NotFound``."""
    channel = await bots.channel(session, bot, channel_id)
    if channel.kind != KIND:
        raise NotFound()
    channel.settings = {**(channel.settings or {}), COMMENT_REPLY: on}
    await session.flush()
