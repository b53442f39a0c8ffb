"""Telegram Business: the bot answers in the private chats of an account that its owner connected it to.

Anybody may connect any bot to an account of theirs. The bot reads and answers only in chats of its owner and of the owner's
managers, and only while the connection is switched on and lets it write: of all other chats nothing is kept.
Facts: core.telegram.org/bots/api#businessconnection, checked 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Connection, bindparam, func, or_, select

from db import direct, models
from db.base import insert_for, table_of, utcnow
from services.channels.base import Inbound
from services.channels.telegram import place_of
from services.crypto import Undecryptable
from services.errors import Permanent, Temporary

if TYPE_CHECKING:
    from services.conversations.records import Talk
    from services.core import Core

log = structlog.get_logger(__name__)

BUSINESS = table_of(models.BusinessConnection)
CHANNEL = table_of(models.Channel)
BOT = table_of(models.Bot)
USER = table_of(models.User)
MEMBER = table_of(models.Member)

_AGAIN_S = 0.1
_managers = (
    select(USER.c.telegram_id)
    .join(MEMBER, MEMBER.c.user_id == USER.c.id)
    .where(MEMBER.c.owner_id == BOT.c.owner_id, MEMBER.c.role == "manager", USER.c.telegram_id.is_not(None))
)
_owner = select(USER.c.telegram_id).where(USER.c.id == BOT.c.owner_id, USER.c.telegram_id.is_not(None))
_OURS = or_(
    BUSINESS.c.user_id.in_(_owner.correlate(BOT).scalar_subquery()),
    BUSINESS.c.user_id.in_(_managers.correlate(BOT).scalar_subquery()),
)
_CONNECTED = (
    select(BUSINESS.c.id, BUSINESS.c.channel_id, BUSINESS.c.user_id)
    .join(CHANNEL, CHANNEL.c.id == BUSINESS.c.channel_id)
    .join(BOT, BOT.c.id == CHANNEL.c.bot_id)
)
_USABLE = _CONNECTED.where(
    BUSINESS.c.id.in_(bindparam("p_ids", expanding=True)),
    BUSINESS.c.enabled.is_(True),
    BUSINESS.c.can_reply.is_(True),
    _OURS,
)


def usable(connection: Connection, recipients: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], int]:
    """Return the connections in which a bot may answer, of ``(channel, recipient)``: whose account by channel and connection."""
    wanted = {(channel_id, place_of(recipient).connection) for channel_id, recipient in recipients if "/" in recipient}
    if not wanted:
        return {}
    rows = direct.rows(connection, _USABLE, {"p_ids": sorted({id_ for _, id_ in wanted})})
    return {(row.channel_id, row.id): row.user_id for row in rows if (row.channel_id, row.id) in wanted}


def heard(event: Inbound, user_id: int) -> Inbound:
    """Return an event of a business chat; what the account's owner writes to themselves is nobody's question."""
    if event.kind != "echo" and event.sender.id == str(user_id):
        return Inbound("unsupported", event.recipient, event.sender, type="own", reply=False)
    return event


async def keep(core: Core, channel_id: str, event: Inbound) -> str:
    """Store a connection as Telegram tells it; return what the owner hears of: a kind of notice."""
    connection = str(event.extra["connection"])
    values: dict[str, Any] = {
        "user_id": int(event.sender.id),
        "can_reply": bool(event.extra["can_reply"]),
        "enabled": bool(event.extra["enabled"]),
    }
    async with core.db.write() as session:
        insert = insert_for(session.get_bind().dialect.name, BUSINESS)
        await session.execute(
            insert.values(id=connection, channel_id=channel_id, created_at=utcnow(), **values).on_conflict_do_update(
                index_elements=["id"], set_=values, where=BUSINESS.c.channel_id == channel_id
            )
        )
        ours = await session.scalar(
            select(func.count()).select_from(_CONNECTED.where(_mine(connection, channel_id)).subquery())
        )
    if not event.extra["enabled"]:
        return "business_off"
    if not ours:
        return "business_foreign"
    return "business_connected" if event.extra["can_reply"] else "business_no_reply"


def _mine(connection: str, channel_id: str) -> Any:
    return (BUSINESS.c.id == connection) & (BUSINESS.c.channel_id == channel_id) & _OURS


async def learn(core: Core, talk: Talk) -> None:
    """Ask Telegram about a connection that nothing is known of: it was made before this bot was received from.

    Raises ``Temporary`` where the bot may answer there after all, or where Telegram is away: the messages are taken again.
    """
    connection = place_of(talk.recipient).connection
    async with core.db.read() as session:
        known = await session.scalar(
            select(BUSINESS.c.id).where(BUSINESS.c.id == connection, BUSINESS.c.channel_id == talk.channel_id)
        )
    if known is not None:
        return
    try:
        token = str(core.credentials(talk.credentials)["token"])
        told = await core.telegram.call(token, "getBusinessConnection", business_connection_id=connection)
    except (Permanent, Undecryptable, KeyError) as error:
        log.warning("business_connection_unknown", channel=talk.channel_id, reason=str(error)[:200])
        return
    event = core.channels["telegram"].parse({"update_id": 0, "business_connection": told})
    if event.kind != "connection" or not event.sender.id.isdigit():
        return
    event = replace(event, extra={**event.extra, "connection": connection})
    if await keep(core, talk.channel_id, event) == "business_connected":
        raise Temporary("a business connection became known", retry_after_s=_AGAIN_S)
