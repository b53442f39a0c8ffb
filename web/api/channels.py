"""Channels: where a bot talks to customers. Secrets go in and never come out."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from db import models
from services import bots, connecting, health, instagram
from services.errors import Invalid, Permanent, Temporary, Unavailable
from services.i18n import T
from web.api.base import Call, Routes
from web.api.wire import Answer, Body, Listing, Part, UtcMoment, Word, part_of

routes = Routes("Channels")

# The token becomes part of an address: nothing but what BotFather writes may pass.
_TOKEN = re.compile(r"\d{5,15}:[A-Za-z0-9_-]{20,100}")


# These become parts of headers: nothing but what can be printed may pass.
Secret = Annotated[str, Field(min_length=8, max_length=1000, pattern=r"^[!-~]+$")]


class NewTelegram(Body):
    """A Telegram bot to connect."""

    type: Literal["telegram"]
    token: Annotated[Word, Field(description="from BotFather; kept encrypted, never shown again")]


class NewWhatsApp(Body):
    """A WhatsApp number to connect. Its messages come to ``/whatsapp/webhook`` of this installation."""

    type: Literal["whatsapp"]
    access_token: Annotated[
        Secret, Field(description="of a system user, without an end; kept encrypted, never shown again")
    ]
    phone_number_id: Annotated[str, Field(pattern=r"^\d{5,32}$", description="Meta's id of the number, not the number")]
    app_secret: Annotated[Secret, Field(description="of the Meta app; kept encrypted, never shown again")]
    verify_token: Annotated[
        str,
        Field(min_length=8, max_length=64, pattern=r"^[!-~]+$", description="to be entered in the Meta app as well"),
    ]


class NewInstagram(Body):
    """An Instagram account to connect. Its messages come to ``/instagram/webhook`` of this installation."""

    type: Literal["instagram"]
    access_token: Annotated[
        Secret,
        Field(description="of Instagram Login, or of the Page with ``page_id``; kept encrypted, never shown again"),
    ]
    account_id: Annotated[str, Field(pattern=r"^\d{5,32}$", description="Meta's id of the professional account")]
    page_id: Annotated[
        str | None,
        Field(
            pattern=r"^\d{5,32}$", description="of the Facebook Page, where the account was connected by Facebook Login"
        ),
    ] = None
    app_secret: Annotated[
        Secret,
        Field(
            description="of the Meta app, or of its Instagram product with Instagram Login; kept encrypted, never shown"
        ),
    ]
    meta_app_secret: Annotated[
        Secret | None,
        Field(description="of the Meta app, where the other one is of its Instagram product: either may sign messages"),
    ] = None
    verify_token: Annotated[
        str,
        Field(min_length=8, max_length=64, pattern=r"^[!-~]+$", description="to be entered in the Meta app as well"),
    ]


class NewWeb(Body):
    """The chat page."""

    type: Literal["web"]


NewChannel = Annotated[NewTelegram | NewWhatsApp | NewInstagram | NewWeb, Field(discriminator="type")]


class HealthAnswer(Answer):
    """What the channel's network last said of it; it is asked every few hours."""

    checked_at: UtcMoment | None
    pending: Annotated[int | None, Field(description="messages that wait at the network")]
    last_error: Annotated[str, Field(description="in the network's own words; empty: none")]
    token_expires_at: Annotated[UtcMoment | None, Field(description="null: no end, or not known")]
    quality: Annotated[str, Field(description="of a WhatsApp number: green, yellow, red; empty: not known")]
    webhook: Annotated[
        str,
        Field(
            description="ok: messages come here; foreign: to another address; missing: the subscription is gone; "
            "empty: not known or not needed"
        ),
    ]


class ChannelAnswer(Answer):
    """A channel."""

    id: str
    type: Annotated[str, Field(description="telegram, whatsapp, instagram or web")]
    title: str
    username: str
    status: Annotated[
        str,
        Field(
            description="active; refused: the token was revoked; conflict: another program receives with it; "
            "blocked: Meta lets the account send nothing; unreadable: connect again"
        ),
    ]
    address: Annotated[str | None, Field(description="where customers find it")]
    last_update_at: UtcMoment | None
    health: HealthAnswer
    created_at: UtcMoment


def show(channel: models.Channel, bot: models.Bot, public_url: str) -> ChannelAnswer:
    """Return a channel as the API shows it."""
    address = f"{public_url}/chat/{bot.public_id}" if channel.kind == "web" else None
    if channel.kind == "telegram" and channel.username:
        address = f"https://t.me/{channel.username}"
    if channel.kind == "whatsapp" and (digits := re.sub(r"\D", "", channel.username)):
        address = f"https://wa.me/{digits}"
    if channel.kind == "instagram" and channel.username:
        address = f"https://ig.me/m/{channel.username}"
    told = health.known(channel)
    return ChannelAnswer(
        id=channel.id,
        type=channel.kind,
        title=channel.title,
        username=channel.username,
        status=channel.status,
        address=address,
        last_update_at=channel.last_update_at,
        health=HealthAnswer(
            checked_at=told.checked_at,
            pending=told.pending,
            last_error=told.detail,
            token_expires_at=told.expires_at,
            quality=told.quality,
            webhook=told.webhook,
        ),
        created_at=channel.created_at,
    )


@routes.post(
    "/bots/{bot_id}/channels",
    201,
    errors=(409, 503),
    example={"type": "telegram", "token": "123456789:token-from-BotFather"},
)
async def create(call: Call, bot_id: str, body: NewChannel) -> ChannelAnswer:
    """Connect a channel; its credentials are tried first."""
    core = call.core
    if isinstance(body, NewWhatsApp):
        return await _whatsapp(call, bot_id, body)
    if isinstance(body, NewInstagram):
        return await _instagram(call, bot_id, body)
    if isinstance(body, NewWeb):
        async with core.db.write() as session:
            bot = await bots.get(session, call.user, bot_id)
            channel = await bots.connect_web(session, bot, actor=call.user, plan=core.allowances)
    else:
        async with core.db.read() as session:
            await bots.get(session, call.user, bot_id)
        token = body.token.strip()
        wrong = Invalid(T("Telegram does not know this token. Copy it from BotFather again."), field="token")
        if not _TOKEN.fullmatch(token):
            raise wrong
        try:
            identity = await core.telegram.get_me(token)
        except Permanent:
            raise wrong from None
        except Temporary:
            raise Unavailable(
                T("Telegram is not responding right now, so the token could not be checked. Try again in a minute.")
            ) from None
        async with core.db.write() as session:
            bot = await bots.get(session, call.user, bot_id)
            channel = await bots.connect_telegram(
                session,
                bot,
                identity=identity,
                token=token,
                crypto=core.crypto,
                actor=call.user,
                plan=core.allowances,
            )
    core.bell.ring("channels")
    return show(channel, bot, core.settings.public_url)


async def _whatsapp(call: Call, bot_id: str, body: NewWhatsApp) -> ChannelAnswer:
    core = call.core
    async with core.db.read() as session:
        await connecting.may_connect(core, session, await bots.get(session, call.user, bot_id), "whatsapp")
    token, app_secret = body.access_token.strip(), body.app_secret.strip()
    number = await bots.try_whatsapp(core, token, body.phone_number_id, app_secret)
    async with core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        credentials = {"access_token": token, "phone_number_id": number.id, "app_secret": app_secret}
        channel = await bots.connect_whatsapp(
            session,
            bot,
            number=number,
            credentials=credentials,
            verify_token=body.verify_token,
            crypto=core.crypto,
            actor=call.user,
            plan=core.allowances,
        )
    core.cards.clear()
    core.bell.ring("channels")
    return show(channel, bot, core.settings.public_url)


async def _instagram(call: Call, bot_id: str, body: NewInstagram) -> ChannelAnswer:
    core = call.core
    async with core.db.read() as session:
        await connecting.may_connect(core, session, await bots.get(session, call.user, bot_id), instagram.KIND)
    token, app_secret = body.access_token, body.app_secret
    account = await instagram.try_account(core, token, body.account_id, body.page_id or "", app_secret)
    credentials = instagram.credentials(account, token, app_secret, body.meta_app_secret or "")
    async with core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        channel = await instagram.connect(
            session,
            bot,
            account=account,
            credentials=credentials,
            verify_token=body.verify_token,
            crypto=core.crypto,
            actor=call.user,
            plan=core.allowances,
        )
    core.cards.clear()
    core.bell.ring("channels")
    return show(channel, bot, core.settings.public_url)


@routes.get("/bots/{bot_id}/channels")
async def index(call: Call, bot_id: str, query: Part) -> Listing[ChannelAnswer]:
    """List a bot's channels, oldest first."""
    address = call.core.settings.public_url
    async with call.core.db.read() as session:
        bot = await bots.get(session, call.user, bot_id)
        return part_of(await bots.channels(session, bot), query, lambda channel: show(channel, bot, address))


@routes.delete("/bots/{bot_id}/channels/{channel_id}")
async def delete(call: Call, bot_id: str, channel_id: str) -> None:
    """Disconnect a channel; its conversations stay readable."""
    async with call.core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        await bots.disconnect(session, bot, channel_id, actor=call.user)
    call.core.bell.ring("channels")
    call.core.bell.ring("jobs")
