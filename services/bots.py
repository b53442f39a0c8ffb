"""Tenant bots and their channels."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from sqlalchemy import Select, bindparam, func, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from services import access, endpoints, jobs, lanes, lines, manner, notices, team, versions
from services.allowances import Allowances
from services.channels import instagram, whatsapp
from services.channels.base import TokenRefused
from services.channels.whatsapp import WhatsAppNumber
from services.crypto import Crypto, Undecryptable, same
from services.errors import Conflict, Invalid, NotFound, Permanent, Temporary, Unavailable
from services.i18n import CATALOGS, T, Text
from services.settings import Limits
from services.team import Right
from services.text import clean, one_line

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

# States of a channel that last until its owner does something.
BROKEN = ("blocked", "conflict", "refused", "unreadable")
PURGE_JOB = "purge_bot"
RELEASE_JOB = "release_channel"
_WAS = "account"
"""The setting of a disconnected channel that says which account it was of."""
_RELEASE_TRIES_S = 60.0
_RELEASE_WITHIN_S = 86_400.0


def _name(name: str, limits: Limits) -> str:
    name = one_line(name, limits.name_chars + 1)
    if not name:
        raise Invalid(T("Give the bot a name."), field="name")
    if len(name) > limits.name_chars:
        raise Invalid(T("The name may have at most {n} characters.", n=limits.name_chars), field="name")
    return name


def _prompt(text: str, limits: Limits) -> str:
    text = clean(text).strip()
    if len(text) > limits.prompt_chars:
        raise Invalid(
            T("The instructions may have at most {n} characters.", n=limits.prompt_chars), field="system_prompt"
        )
    return text


def _languages(languages: Sequence[str]) -> list[str]:
    chosen = list(dict.fromkeys(languages))
    if not chosen or any(language not in CATALOGS for language in chosen):
        raise Invalid(T("Choose at least one language: Uzbek (uz), Russian (ru) or English (en)."), field="languages")
    return chosen


async def create(
    session: AsyncSession,
    owner: models.User,
    name: str,
    *,
    system_prompt: str = "",
    languages: Sequence[str] | None = None,
    limits: Limits,
    plan: Allowances | None = None,
) -> models.Bot:
    """Make a bot and its web channel. ``plan``: what the owner's plan allows.

    Raises ``Invalid``, or ``Conflict`` with code ``limit`` or ``plan``; administrators have no limit.
    """
    name = _name(name, limits)
    if plan is not None:
        await plan.room_for_bot(session, owner)
    if not owner.is_admin:
        count = await session.scalar(
            select(func.count()).where(models.Bot.owner_id == owner.id, models.Bot.deleted_at.is_(None))
        )
        if int(count or 0) >= limits.bots_per_owner:
            raise Conflict(T("You already have {n} bots, which is the limit.", n=limits.bots_per_owner), code="limit")
    bot = models.Bot(
        owner_id=owner.id,
        name=name,
        system_prompt=_prompt(system_prompt, limits),
        languages=_languages(languages if languages is not None else list(CATALOGS)),
        status="active",
        knowledge_version=0,
        created_at=utcnow(),
    )
    session.add(bot)
    await session.flush()
    session.add(models.Channel(bot_id=bot.id, kind="web", external_id=bot.public_id, status="active", title=name))
    await session.flush()
    return bot


async def get(session: AsyncSession, user: models.User, bot_id: str, right: Right = "manage") -> models.Bot:
    """Return a bot that this person has a right over; raises ``NotFound`` for a foreign or missing one alike.

    Whoever is only paused is told so: ``Forbidden``.
    """
    bot = await session.scalar(
        select(models.Bot).where(models.Bot.id == bot_id, team.may(user, right), models.Bot.deleted_at.is_(None))
    )
    if bot is None:
        await team.explain(session, user, select(models.Bot.owner_id).where(models.Bot.id == bot_id))
        raise NotFound()
    return bot


async def list_for(session: AsyncSession, user: models.User, right: Right = "manage") -> list[models.Bot]:
    """Return the bots that a person has a right over, oldest first."""
    return list(await session.scalars(_listed(right), {"p_user": user.id}))


@cache
def _listed(right: Right) -> Select[models.Bot]:
    # Every page asks this: putting the query together costs more than the answer.
    may = team.may_by_id(bindparam("p_user", type_=models.Bot.owner_id.type), right)
    return select(models.Bot).where(may, models.Bot.deleted_at.is_(None)).order_by(models.Bot.id)


async def update(
    session: AsyncSession,
    bot: models.Bot,
    *,
    name: str | None = None,
    system_prompt: str | None = None,
    languages: Sequence[str] | None = None,
    own_lines: lines.Lines | None = None,
    limits: Limits,
    actor: models.User | None = None,
) -> models.BotVersion | None:
    """Publish what is given; raises ``Invalid`` naming the field. ``own_lines``: see :func:`services.lines.changed`.

    Returns the version that held until now, None where nothing changed.
    """
    before = versions.content_of(bot)
    if name is not None:
        bot.name = _name(name, limits)
    if system_prompt is not None:
        bot.system_prompt = _prompt(system_prompt, limits)
    if languages is not None:
        bot.languages = _languages(languages)
    if own_lines is not None:
        bot.settings = lines.changed(bot.settings, own_lines)
    session.add(bot)
    await session.flush()
    return await versions.publish(session, bot, before, actor)


def draft_of(
    bot: models.Bot, *, name: str, system_prompt: str, languages: Sequence[str], own_lines: lines.Lines, limits: Limits
) -> dict[str, Any]:
    """Return words as a draft keeps them; raises ``Invalid`` naming the field, as :func:`update` does."""
    return {
        "name": _name(name, limits),
        "system_prompt": _prompt(system_prompt, limits),
        "languages": _languages(languages),
        "lines": lines.kept(lines.changed(bot.settings, own_lines)),
    }


async def set_manner(
    session: AsyncSession,
    bot: models.Bot,
    *,
    hours: Mapping[str, tuple[str, str]] | None = None,
    return_after_min: int | None = None,
    silent_text: str | None = None,
    actor: models.User | None = None,
) -> models.BotVersion | None:
    """Change how a bot and the people behind it share the talks (:func:`services.manner.changed`); raises ``Invalid``.

    Returns the version that held until now, None where nothing changed.
    """
    before = versions.content_of(bot)
    bot.settings = manner.changed(bot.settings, hours=hours, return_after_min=return_after_min, silent_text=silent_text)
    session.add(bot)
    await session.flush()
    return await versions.publish(session, bot, before, actor)


async def set_openai_key(session: AsyncSession, bot: models.Bot, key: str | None, crypto: Crypto) -> None:
    """Keep the owner's own OpenAI key, encrypted; None removes it."""
    if key is not None:
        key = key.strip()
        if (
            not key.startswith("sk-")
            or not 20 <= len(key) <= 300
            or not key.isascii()
            or any(ch.isspace() for ch in key)
        ):
            raise Invalid(T("This is not an OpenAI key: OpenAI keys start with “sk-”."), field="openai_key")
    bot.openai_key = crypto.encrypt(key) if key else None
    session.add(bot)
    await notices.solve_own_key(session, bot)


async def start(session: AsyncSession, bot: models.Bot) -> None:
    """Let the bot answer; channels that were stopped for a reason that may be over are tried again."""
    bot.status = "active"
    session.add(bot)
    for channel in await channels(session, bot):
        if channel.kind != "web" and channel.status in BROKEN:
            channel.status, channel.last_error = "active", ""
            await notices.solve_channel(session, channel.id)


async def stop(session: AsyncSession, bot: models.Bot) -> None:
    """Let the bot rest: customers get one polite line."""
    bot.status = "stopped"
    session.add(bot)


async def delete(session: AsyncSession, bot: models.Bot, *, actor: models.User | None = None) -> None:
    """Delete a bot: it disappears at once, its channels are free again, its rows go in the background.

    ``actor``, here and below: who did it, for the audit log; None: the program itself.
    """
    bot.deleted_at = utcnow()
    bot.status = "stopped"
    bot.openai_key = None
    session.add(bot)
    for channel in await channels(session, bot):
        await _free(session, channel)
    await session.flush()
    await jobs.add(session, PURGE_JOB, {"bot": bot.id}, lane=f"purge:{bot.id}", owner_id=bot.owner_id, bot_id=bot.id)
    await access.record(session, actor, "bot_deleted", "bot", bot.id)


async def _free(session: AsyncSession, channel: models.Channel) -> None:
    """Take a channel's secrets and its claim on the account away; a job tells the network not to deliver here any more."""
    if channel.kind in ("telegram", "instagram") and channel.credentials:
        payload = {
            "kind": channel.kind,
            "credentials": channel.credentials,
            "account": channel.external_id,
            "since": time.time(),
        }
        await jobs.add(session, RELEASE_JOB, payload, lane=f"release:{channel.id}", owner_id="")
    channel.status = "stopped"
    channel.credentials = None
    channel.settings = {**(channel.settings or {}), _WAS: channel.external_id}
    channel.external_id = None
    session.add(channel)
    await notices.forget_channel(session, channel.id)


async def claim(session: AsyncSession, bot: models.Bot, kind: str, account: str) -> models.Channel:
    """Return a channel for an account that nobody has connected: the one that the bot had for it before, so that its customers'
    conversations go on, else a new one."""
    channel = models.Channel
    left = select(channel).where(channel.bot_id == bot.id, channel.kind == kind, channel.external_id.is_(None))
    for known in await session.scalars(left.order_by(channel.id.desc())):
        if (known.settings or {}).get(_WAS) == account:
            known.settings = {key: value for key, value in known.settings.items() if key != _WAS}
            break
    else:
        known = channel(bot_id=bot.id, kind=kind)
    known.external_id = account
    session.add(known)
    return known


async def channels(session: AsyncSession, bot: models.Bot) -> list[models.Channel]:
    """Return a bot's channels, oldest first."""
    return list(
        await session.scalars(
            select(models.Channel)
            .where(models.Channel.bot_id == bot.id, models.Channel.external_id.is_not(None))
            .order_by(models.Channel.id)
        )
    )


async def kinds(session: AsyncSession, of: Sequence[models.Bot]) -> list[str]:
    """Return the kinds of channels that these bots are connected to."""
    channel = models.Channel
    wanted = channel.bot_id.in_([bot.id for bot in of]), channel.external_id.is_not(None)
    return sorted(await session.scalars(select(channel.kind).where(*wanted).distinct()))


class Connected(NamedTuple):
    """What every page needs to know of a connected channel."""

    bot_id: str
    kind: str
    status: str


async def connected(session: AsyncSession, of: Sequence[models.Bot]) -> list[Connected]:
    """Return the connected channels of these bots, in the order of their identifiers."""
    rows = await session.execute(_connected(), {"p_bots": [bot.id for bot in of]}) if of else ()
    return [Connected(str(bot_id), kind, status) for bot_id, kind, status in rows]


@cache
def _connected() -> Select[str | None, str, str]:
    channel = models.Channel
    here = channel.bot_id.in_(bindparam("p_bots", expanding=True))
    query = select(channel.bot_id, channel.kind, channel.status)
    return query.where(here, channel.external_id.is_not(None)).order_by(channel.id)


async def broken_channels(session: AsyncSession, user: models.User) -> dict[str, list[models.Channel]]:
    """Return a person's channels that wait for them to mend something, by the id of the bot; no bot without any is in it."""
    rows = await session.execute(
        select(models.Bot.id, models.Channel)
        .join(models.Channel, models.Channel.bot_id == models.Bot.id)
        .where(
            team.may(user, "manage"),
            models.Bot.deleted_at.is_(None),
            models.Channel.external_id.is_not(None),
            models.Channel.status.in_(BROKEN),
        )
        .order_by(models.Channel.id)
    )
    found: dict[str, list[models.Channel]] = {}
    for bot_id, channel in rows:
        found.setdefault(bot_id, []).append(channel)
    return found


async def own_connection(
    session: AsyncSession, user: models.User, kind: str, external_id: str
) -> tuple[models.Bot | None, models.Channel | None]:
    """Return the bot of a person's that an account on a network is connected to, and the channel; None for both without one."""
    bot, channel_ = models.Bot, models.Channel
    row = (
        await session.execute(
            select(bot, channel_)
            .join(channel_, channel_.bot_id == bot.id)
            .where(
                team.may(user, "manage"),
                bot.deleted_at.is_(None),
                channel_.kind == kind,
                channel_.external_id == external_id,
            )
        )
    ).one_or_none()
    return (row[0], row[1]) if row is not None else (None, None)


def of_kind(connected: Sequence[models.Channel], kind: str) -> models.Channel | None:
    """Return the one channel of a kind among a bot's channels, None where it has none."""
    return next((each for each in connected if each.kind == kind), None)


async def channel(session: AsyncSession, bot: models.Bot, channel_id: str) -> models.Channel:
    """Return one channel of this bot; raises ``NotFound``."""
    found = await session.get(models.Channel, channel_id)
    if found is None or found.bot_id != bot.id or found.external_id is None:
        raise NotFound()
    return found


@contextlib.asynccontextmanager
async def connection(
    session: AsyncSession,
    bot: models.Bot,
    kind: str,
    external_id: str,
    *,
    taken: Text,
    other: Callable[[models.Channel], Text],
    actor: models.User | None,
    plan: Allowances | None,
) -> AsyncIterator[models.Channel]:
    """Give the channel of an account on a network, made where there is none, to be filled in; then it is stored and noted.

    ``plan``, here and below: what the owner's plan allows; a kind that it lacks is not connected anew (``Conflict``). Raises
    ``Conflict`` that says ``taken`` where the account belongs to another bot here, ``other`` where this bot has another one.
    """
    known = await session.scalar(
        select(models.Channel).where(models.Channel.kind == kind, models.Channel.external_id == external_id)
    )
    if known is not None and known.bot_id != bot.id:
        raise Conflict(taken, code="channel_taken")
    action = "channel_renewed" if known is not None else "channel_connected"
    if known is None:
        own = of_kind(await channels(session, bot), kind)
        if own is not None:
            raise Conflict(other(own), code="channel_exists")
        if plan is not None:
            await plan.channel(session, bot, kind)
        known = await claim(session, bot, kind, external_id)
    yield known
    try:
        await session.flush()
    except IntegrityError:
        raise Conflict(taken, code="channel_taken") from None
    await notices.solve_channel(session, known.id)
    await access.record(session, actor, action, "bot", bot.id, kind=kind, channel=known.id)


async def connect_telegram(
    session: AsyncSession,
    bot: models.Bot,
    *,
    identity: Mapping[str, Any],
    token: str,
    crypto: Crypto,
    actor: models.User | None = None,
    plan: Allowances | None = None,
) -> models.Channel:
    """Connect a Telegram bot that ``getMe`` has just shown (``identity``), or renew its token; raises as :func:`connection`."""
    if not identity.get("is_bot"):
        raise Invalid(T("This token does not belong to a bot."), field="token")
    username = one_line(str(identity.get("username") or ""), 64)

    def other(own: models.Channel) -> Text:
        return T(
            "This token is of @{other}, but “{name}” is connected to @{username}. Send the token of @{username}, or "
            "disconnect it first.",
            other=username,
            name=bot.name,
            username=own.username,
        )

    taken = T("This Telegram bot is already connected to another bot. Disconnect it there first, or use another token.")
    number = str(identity["id"])
    async with connection(session, bot, "telegram", number, taken=taken, other=other, actor=actor, plan=plan) as known:
        known.credentials = crypto.encrypt({"token": token})
        known.title = one_line(str(identity.get("first_name") or ""), 128)
        known.username = username
        known.status, known.last_error = "active", ""
        known.health = {"checked_at": int(time.time())}
    return known


async def try_whatsapp(core: Core, token: str, phone_number_id: str, app_secret: str) -> WhatsAppNumber:
    """Try a WhatsApp number's credentials with Meta; raises ``Invalid`` that names the field to correct, or ``Unavailable``."""
    with meta_faults():
        return await whatsapp.look_up(core.graph, token, phone_number_id, app_secret)


@contextlib.contextmanager
def meta_faults() -> Iterator[None]:
    """Say what Meta does not take of a WhatsApp number's credentials by the field to correct (``Invalid``, ``Unavailable``)."""
    try:
        yield
    except TokenRefused:
        raise Invalid(
            T("Meta does not accept this access token. Make one for a system user of your business and copy it whole."),
            field="access_token",
        ) from None
    except Permanent as error:
        if "appsecret_proof" in str(error):
            raise Invalid(
                T("This app secret does not belong to the app of the access token."), field="app_secret"
            ) from None
        raise Invalid(
            T("The access token does not lead to this phone number id. Copy the id from WhatsApp Manager."),
            field="phone_number_id",
        ) from None
    except Temporary:
        raise Unavailable(T("Meta is not responding right now. Please try again in a minute.")) from None


async def connect_whatsapp(
    session: AsyncSession,
    bot: models.Bot,
    *,
    number: WhatsAppNumber,
    credentials: Mapping[str, str],
    verify_token: str,
    crypto: Crypto,
    actor: models.User | None = None,
    plan: Allowances | None = None,
) -> models.Channel:
    """Connect a WhatsApp number that the Graph API has just shown, or renew its credentials; raises as :func:`connection`.

    ``credentials``: ``access_token``, ``phone_number_id``, ``app_secret``.
    """

    def other(own: models.Channel) -> Text:
        return T(
            "“{name}” is connected to {number} on WhatsApp. Disconnect it first.", name=bot.name, number=own.username
        )

    taken = T("This WhatsApp number is already connected to another bot. Disconnect it there first.")
    async with connection(
        session, bot, "whatsapp", number.id, taken=taken, other=other, actor=actor, plan=plan
    ) as known:
        known.credentials = crypto.encrypt(dict(credentials))
        known.secret = verify_token
        known.parent_id = number.business_account or known.parent_id
        known.title = one_line(number.name, 128)
        known.username = one_line(number.phone, 64)
        known.settings = {"token_expires_at": number.token_expires_at, "subscribed": bool(number.business_account)}
        known.status, known.last_error = "active", ""
        known.health = {
            "checked_at": int(time.time()),
            "token_expires_at": number.token_expires_at,
            "quality": number.quality,
            "webhook": "ok" if number.business_account else "",
        }
    return known


async def verifies(session: AsyncSession, kind: str, token: str) -> bool:
    """Whether a connected channel of this kind has this word to prove its webhook's address with."""
    known = await session.scalar(
        select(models.Channel.secret)
        .where(models.Channel.kind == kind, models.Channel.secret == token, models.Channel.external_id.is_not(None))
        .limit(1)
    )
    return known is not None and same(known, token)


async def connect_web(
    session: AsyncSession, bot: models.Bot, *, actor: models.User | None = None, plan: Allowances | None = None
) -> models.Channel:
    """Return the bot's web channel, made anew if it was disconnected."""
    found = of_kind(await channels(session, bot), "web")
    if found is None:
        if plan is not None:
            await plan.channel(session, bot, "web")
        found = await claim(session, bot, "web", bot.public_id)
        found.status, found.title = "active", bot.name
        await session.flush()
        await access.record(session, actor, "channel_connected", "bot", bot.id, kind=found.kind, channel=found.id)
    return found


async def disconnect(
    session: AsyncSession, bot: models.Bot, channel_id: str, *, actor: models.User | None = None
) -> None:
    """Disconnect a channel; the talks that were had through it stay readable."""
    found = await channel(session, bot, channel_id)
    await _free(session, found)
    connection = await session.connection()
    await connection.run_sync(lanes.forget, [f"in:{found.id}:", f"out:{found.id}:", f"bulk:{found.id}:"])
    await access.record(session, actor, "channel_disconnected", "bot", bot.id, kind=found.kind, channel=found.id)


async def by_public_id(session: AsyncSession, public_id: str) -> tuple[models.Bot, models.Channel]:
    """Return the bot behind a public address and its web channel; raises ``NotFound``."""
    row = (
        await session.execute(
            select(models.Bot, models.Channel)
            .join(models.Channel, models.Channel.bot_id == models.Bot.id)
            .where(
                models.Bot.public_id == public_id,
                models.Bot.deleted_at.is_(None),
                models.Channel.kind == "web",
                models.Channel.external_id == public_id,
            )
        )
    ).one_or_none()
    if row is None:
        raise NotFound()
    return row[0], row[1]


async def release_channel(core: Core, payload: Mapping[str, Any]) -> None:
    """Let a network deliver nothing more of a disconnected account, unless it was connected again meanwhile.

    Runs as a job, for a day at most: so long the token is kept, and no longer.
    """
    kind = str(payload.get("kind") or "telegram")
    async with core.db.read() as session:
        again = await session.scalar(
            select(models.Channel.id).where(
                models.Channel.kind == kind, models.Channel.external_id == str(payload["account"])
            )
        )
    if again is not None:
        return
    try:
        credentials = core.credentials(str(payload["credentials"]))
        if kind == "instagram":
            await instagram.unsubscribe(core.graph if credentials.get("page_id") else core.instagram_graph, credentials)
        else:
            await core.telegram.call(credentials["token"], "deleteWebhook")
    except Temporary as error:
        if time.time() - float(payload.get("since", 0.0)) < _RELEASE_WITHIN_S:
            raise jobs.TryLater(error.retry_after_s or _RELEASE_TRIES_S) from None
        log.warning("webhook_not_removed", account=payload["account"], reason=str(error))
    except (Permanent, Undecryptable):
        log.info("webhook_not_removed", account=payload["account"])


async def purge_bot(core: Core, payload: Mapping[str, Any]) -> None:
    """Remove everything of a deleted bot. Runs as a job, in small transactions, safe to repeat."""
    bot_id = str(payload["bot"])
    async with core.db.read() as session:
        channel_ids = list(await session.scalars(select(models.Channel.id).where(models.Channel.bot_id == bot_id)))
        owner_id = str(await session.scalar(select(models.Bot.owner_id).where(models.Bot.id == bot_id)) or "")
    async with core.db.write() as session:
        connection = await session.connection()
        prefixes = [f"{kind}:{id_}:" for id_ in channel_ids for kind in ("in", "out", "bulk")]
        if prefixes:
            await connection.run_sync(lanes.forget, prefixes)
    for model in (models.Chunk, models.UnansweredQuestion, models.Document):
        await core.db.delete_in_slices(model.id, model.bot_id == bot_id, at_once=200)
    while True:
        async with core.db.write() as session:
            talks = list(
                await session.scalars(
                    select(models.Conversation.id).where(models.Conversation.bot_id == bot_id).limit(50)
                )
            )
            if not talks:
                break
            await session.execute(sql_delete(models.Message).where(models.Message.conversation_id.in_(talks)))
            await session.execute(sql_delete(models.Conversation).where(models.Conversation.id.in_(talks)))
    sent = select(models.Broadcast.id).where(models.Broadcast.bot_id == bot_id)
    delivery = models.BroadcastDelivery
    # Its customers are nobody else's: no other bot's rows name them.
    await core.db.delete_in_slices(delivery.contact_id, delivery.broadcast_id.in_(sent), at_once=200)
    told = endpoints.told_of(owner_id, "bot_id", [bot_id])
    await core.db.delete_in_slices(models.EndpointEvent.id, told, at_once=500)
    async with core.db.write() as session:
        await session.execute(sql_delete(models.Notice).where(models.Notice.bot_id == bot_id))
        await session.execute(sql_delete(models.Bot).where(models.Bot.id == bot_id))
