"""How the connected channels are: asked of the networks now and then, so that the owner hears of it before customers do.

A kind takes part by having ``inspect`` (:class:`services.channels.base.Inspectable`). A network that does not answer says nothing
about a channel: it is asked again an hour later.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import notices, pressure, renewal
from services.channel_names import CHANNEL_NAMES
from services.channels.base import Blocked, Inspectable, Inspection, Place, TokenRefused
from services.crypto import Undecryptable
from services.days import TASHKENT
from services.errors import Permanent, Temporary, Unavailable
from services.i18n import T, Text
from services.text import clean

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

CHECK_JOB = "check_channels"
CHECKS_A_MINUTE = 6
"""So often people may have one channel looked at."""
_AT_ONCE = 4
_SILENCES = 3
"""So many channels of a kind without an answer, and the others of that kind wait for the next round."""
_ROUND_S = 600.0
_ANSWER_S = 45.0
_DAY_S = 86_400
_WEEK_S = 7 * _DAY_S
_LATE_S = 2 * _DAY_S


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a channel, as pages and menus show it.

    ``checked_at``: when the network last answered, None: never yet. ``silent``: it did not answer the last time it was asked.
    ``expires_at``: the token's end; ``endless``: it has none. ``quality`` and ``webhook`` as in an inspection. ``trouble``: the
    last error in words, None for none; ``detail``: the network's own words for it. ``used``: how much of the network's limits,
    in percent, where that slows sending down.
    """

    checked_at: dt.datetime | None
    silent: bool
    pending: int | None
    expires_at: dt.datetime | None
    endless: bool
    quality: str
    webhook: str
    trouble: Text | None
    detail: str
    used: int | None


def _moment(seconds: Any) -> dt.datetime | None:
    return dt.datetime.fromtimestamp(seconds, dt.UTC) if isinstance(seconds, int) and seconds > 0 else None


def known(channel: models.Channel) -> Health:
    """Return what is known of a channel."""
    told = channel.health or {}
    pending, expires = told.get("pending"), told.get("token_expires_at")
    if expires is None:
        expires = (channel.settings or {}).get("token_expires_at")
    detail = channel.last_error or str(told.get("error") or "")
    return Health(
        checked_at=_moment(told.get("checked_at")),
        silent=bool(told.get("silent")),
        pending=pending if isinstance(pending, int) else None,
        expires_at=_moment(expires),
        endless=expires == 0,
        quality=str(told.get("quality") or ""),
        webhook=str(told.get("webhook") or ""),
        trouble=_trouble(channel, detail),
        detail=detail,
        used=pressure.shown(told),
    )


_TROUBLES: tuple[tuple[str, Text], ...] = (
    ("131042", T("the account is not paid for")),
    ("131031", T("the account is locked")),
    ("368:", T("the account is blocked for breaking Meta’s rules")),
    ("130497", T("the account may not write to people in this country")),
    ("131037", T("the display name is not approved yet")),
    ("133010", T("the number is not registered")),
    ("131045", T("the number is not registered")),
    ("number is banned", T("Meta has banned the number")),
    ("number is ", T("the number is not connected any more")),
    ("190:", T("the token is no longer valid")),
    ("does not lead", T("the token does not lead to this account any more")),
    ("cannot be decrypted", T("the saved token can no longer be read")),
    ("unauthorized", T("the token is no longer valid")),
    ("conflict", T("another program reads the messages")),
    ("429", T("too many requests at once")),
    ("timed out", T("our address did not answer in time")),
    ("timeout", T("our address did not answer in time")),
    ("certificate", T("the certificate of our address is not accepted")),
    ("ssl", T("the certificate of our address is not accepted")),
    ("wrong response from the webhook", T("our address answered with an error")),
    ("connection", T("our address could not be reached")),
    ("resolve", T("our address could not be found")),
)
"""A part of a network's own words, and what that means to the owner; the first that fits."""


def _trouble(channel: models.Channel, detail: str) -> Text | None:
    if not detail:
        return None
    lowered = detail.lower()
    found = next((text for part, text in _TROUBLES if part in lowered), None)
    return found or T("the network reported an error")


async def check_due(core: Core, _payload: Mapping[str, Any]) -> None:
    """Look at the channels whose turn it is. Runs as a job once an hour; few at once, and a kind that is silent is let be."""
    due_before = time.time() - core.settings.channels.check_every_h * 3600
    async with core.db.read() as session:
        rows = await session.execute(
            select(models.Channel.id, models.Channel.kind, models.Channel.health)
            .join(models.Bot, models.Bot.id == models.Channel.bot_id)
            .where(
                models.Channel.kind.in_(
                    [kind for kind, each in core.channels.items() if isinstance(each, Inspectable)]
                ),
                models.Channel.external_id.is_not(None),
                models.Bot.deleted_at.is_(None),
            )
            .order_by(models.Channel.id)
        )
        waiting = [(kind, id_) for id_, kind, told in rows if (told or {}).get("checked_at", 0) <= due_before]
    silences: Counter[str] = Counter()
    queue = iter(waiting)

    async def work() -> None:
        for kind, channel_id in queue:
            if silences[kind] >= _SILENCES:
                continue
            try:
                await check(core, channel_id)
                silences[kind] = 0
            except Temporary as error:
                silences[kind] += 1
                log.info("channel_not_checked", channel=channel_id, reason=str(error))

    try:
        async with asyncio.timeout(_ROUND_S):
            ends = await asyncio.gather(*(work() for _ in range(min(_AT_ONCE, len(waiting)))), return_exceptions=True)
    except TimeoutError:
        # The others are due in the next round.
        log.warning("channels_not_all_checked")
        return
    for end in ends:
        if isinstance(end, BaseException):
            raise end


async def ask(core: Core, channel: models.Channel) -> None:
    """Look at a channel because its owner wants it now; what can be mended by it is. Raises ``Unavailable``."""
    try:
        await check(core, channel.id, asked=True)
    except Temporary:
        title = CHANNEL_NAMES.get(channel.kind, channel.kind)
        raise Unavailable(
            T("{channel} is not responding right now. Please try again in a minute.", channel=title)
        ) from None


async def check(core: Core, channel_id: str, *, asked: bool = False) -> None:
    """Look at a channel, keep what its network says and tell its owner of what is or soon will be wrong.

    ``asked``: by a person, who may have mended what cannot be seen from outside. Raises ``Temporary`` where the network did not
    answer: that says nothing about the channel.
    """
    async with core.db.read() as session:
        channel = await session.get(models.Channel, channel_id)
    if channel is None or channel.external_id is None or channel.credentials is None:
        return
    adapter = core.channels.get(channel.kind)
    if not isinstance(adapter, Inspectable):
        return
    place = Place(channel.external_id, channel.parent_id or "", webhook_address(core, channel), asked)
    found, reason = "", ""
    seen = Inspection()
    try:
        async with asyncio.timeout(_ANSWER_S):
            seen = await adapter.inspect(core.credentials(channel.credentials), place)
        if seen.blocked:
            found, reason = "blocked", seen.blocked
    except Undecryptable:
        found, reason = "unreadable", "the token cannot be decrypted"
    except TokenRefused as error:
        found, reason = "refused", str(error)
    except Blocked as error:
        found, reason = "blocked", str(error)
    except (Temporary, TimeoutError) as error:
        await _note_silence(core, channel)
        raise error if isinstance(error, Temporary) else Temporary("no answer in time") from None
    except Permanent as error:
        # A request of ours that the network does not take: it is no verdict on the channel.
        log.warning("channel_check_refused", channel=channel.id, reason=str(error))
        reason = str(error)
    if not found and not reason:
        channel = await renewal.renewed(core, channel)
        if seen.token_expires_at is None:
            seen = replace(seen, token_expires_at=(channel.settings or {}).get(renewal.ENDS))
    if found and channel.status != found:
        await core.channel_failed(channel.id, found, reason, tried=channel.credentials)
    elif not found and not reason and _over(channel, seen, asked=asked):
        await core.channel_recovered(channel.id)
        core.bell.ring("channels")
    await _keep(core, channel, seen, found, reason)


def _over(channel: models.Channel, seen: Inspection, *, asked: bool) -> bool:
    """Whether a channel that stands still works again: another trouble than this can see may have stopped it."""
    if channel.status not in ("refused", "blocked", "unreadable"):
        return False
    return asked or channel.status in seen.disproves or (channel.health or {}).get("found") == channel.status


async def _note_silence(core: Core, channel: models.Channel) -> None:
    async with core.db.write() as session:
        row = await session.get(models.Channel, channel.id, with_for_update=True)
        if row is not None and row.credentials == channel.credentials:
            row.health = {**(row.health or {}), "silent": True}


async def _keep(core: Core, channel: models.Channel, seen: Inspection, found: str, reason: str) -> None:
    now = int(time.time())
    async with core.db.write() as session:
        row = await session.get(models.Channel, channel.id, with_for_update=True)
        if row is None or row.credentials != channel.credentials:
            # Connected anew or disconnected meanwhile: this was about a token of before.
            return
        before = row.health or {}
        fresh = bool(seen.error) and now - seen.error_at < _LATE_S
        row.health = {
            "checked_at": now,
            "found": found,
            "webhook": before.get("webhook", "") if found else seen.webhook,
            "pending": seen.pending,
            "error": clean(reason, 300) or (clean(seen.error, 300) if fresh else ""),
            "error_at": seen.error_at if fresh else 0,
            "token_expires_at": before.get("token_expires_at")
            if seen.token_expires_at is None
            else seen.token_expires_at,
            "quality": seen.quality or (before.get("quality", "") if found else ""),
            "facts": dict(seen.facts),
            **{name: before[name] for name in ("used", "used_at") if name in before},
            **pressure.noted(seen.used),
        }
        if seen.token_expires_at is not None and "token_expires_at" in (row.settings or {}):
            row.settings = {**row.settings, "token_expires_at": seen.token_expires_at}
        if seen.webhook and "subscribed" in (row.settings or {}):
            row.settings = {**row.settings, "subscribed": seen.webhook != "missing"}
        if not found:
            await _warn(session, row, seen, now)
    core.bell.ring("notices")


async def _warn(session: AsyncSession, channel: models.Channel, seen: Inspection, now: int) -> None:
    """Tell of what will be wrong soon, each thing once; end what is no longer so."""
    bot = await session.get(models.Bot, channel.bot_id) if channel.bot_id else None
    if bot is None:
        return
    expires = seen.token_expires_at or 0
    left = expires - now
    day = dt.datetime.fromtimestamp(expires, TASHKENT).strftime("%d.%m.%Y") if expires else ""
    warnings = {
        "token_expires": (bool(expires) and left <= _WEEK_S, seen.token_expires_at is not None),
        "token_expires_soon": (bool(expires) and left <= _DAY_S, seen.token_expires_at is not None),
        "quality_red": (seen.quality == "red", bool(seen.quality)),
        "webhook_lost": (seen.webhook in ("foreign", "missing"), bool(seen.webhook)),
    }
    # Whoever is told that it is a day is not told as well that it is a week.
    if warnings["token_expires_soon"][0]:
        warnings["token_expires"] = (False, True)
    for kind, (on, is_known) in warnings.items():
        key = notices.channel_key(channel.id, kind)
        if on:
            params = {"bot": bot.name, "channel": CHANNEL_NAMES.get(channel.kind, channel.kind), "day": day}
            words = f"instagram_{kind}" if (channel.kind, kind) == ("instagram", "token_expires") else kind
            await notices.open_notice(session, bot.owner_id, words, key=key, bot_id=bot.id, params=params)
        elif is_known:
            await notices.solve(session, key)


def webhook_address(core: Core, channel: models.Channel) -> str:
    """Return the address that a channel's updates should go to; empty for Telegram where it is asked for updates."""
    if channel.kind == "telegram":
        base = core.settings.secrets.webhook_base_url
        return f"{base}/telegram/webhook/{channel.id}" if base else ""
    return f"{core.settings.public_url}/{channel.kind}/webhook"
