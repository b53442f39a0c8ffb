"""Addresses of owners' own servers that are told what happens: which, of what, and the rows that say it.

By the convention of standardwebhooks.com. A row is written in the transaction of what it tells of, so neither is ever without
the other; :mod:`services.telling` delivers it. Who has no address costs nothing: the conveyor learns it with the channel.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, exists, false, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from yarl import URL

from db import direct, models
from db.base import new_id, table_of, utcnow
from services import access, notices, paging
from services.crypto import Crypto
from services.errors import Conflict, Invalid, NotFound
from services.http import is_public
from services.i18n import T, Text
from services.settings import Settings
from services.text import clean

ENDPOINT = table_of(models.Endpoint)
EVENT = table_of(models.EndpointEvent)

RECEIVED, ANSWERED = "message.received", "message.answered"
WAITING, CLOSED = "conversation.waiting", "conversation.closed"
UNANSWERED, NEW_CONTACT = "question.unanswered", "contact.created"
PAID, TEST = "payment.paid", "test"

EVENTS: Mapping[str, Text] = {
    RECEIVED: T("A customer has written"),
    ANSWERED: T("The bot or a person has written to a customer"),
    WAITING: T("A conversation waits for a person"),
    CLOSED: T("A conversation was closed"),
    UNANSWERED: T("The bot did not know an answer"),
    NEW_CONTACT: T("Somebody wrote for the first time"),
    PAID: T("A payment for your plan has arrived"),
}
"""What an endpoint may be told of; a test event goes to all."""

_BOT, _CHANNEL = "01jd8q3w1m5b7c9d2e4f6g8h0j", "01jd8q4x2n6c8d0e3f5g7h9j1k"
_TALK, _CONTACT = "01jd8q5y3p7d9e1f4g6h8j0k2m", "01jd8q6z4q8e0f2g5h7j9k1m3n"
_PLACE: Mapping[str, Any] = {
    "bot_id": _BOT,
    "channel_id": _CHANNEL,
    "channel": "telegram",
    "conversation_id": _TALK,
    "contact_id": _CONTACT,
    "contact": "712345678",
}
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    RECEIVED: {
        **_PLACE,
        "contact_name": "Aziza",
        "message": {
            "id": "01jd8q705r9f1g3h6j8k0m2n4p",
            "author": "customer",
            "kind": "text",
            "text": "Yetkazib berish bormi?",
            "created_at": "2026-11-22T09:30:00Z",
        },
    },
    ANSWERED: {
        **_PLACE,
        "message": {
            "id": "01jd8q716s0g2h4j7k9m1n3p5q",
            "author": "bot",
            "kind": "text",
            "text": "Ha, Toshkent bo‘ylab bepul 😊",
            "language": "uz",
            "answered": True,
            "reply_to": "01jd8q705r9f1g3h6j8k0m2n4p",
            "created_at": "2026-11-22T09:30:02Z",
        },
    },
    WAITING: {**_PLACE, "reason": "asked"},
    CLOSED: dict(_PLACE),
    UNANSWERED: {**_PLACE, "question": "Bo‘lib to‘lash mumkinmi?", "language": "uz"},
    NEW_CONTACT: {**_PLACE, "contact_name": "Aziza", "username": "aziza", "source": "instagram"},
    PAID: {"number": "100234", "plan": "basic", "period": "monthly", "amount_tiyin": 29000000, "paid_by": "payme"},
    TEST: {"text": "This is a test. Nothing has happened."},
}
"""What ``data`` holds, by event; the guide shows it, and a test compares it with what is really sent."""

KEPT = dt.timedelta(days=30)
"""So long what was told can be read and sent again."""
STATES = ("waiting", "delivered", "failed")
OLD_SECRET = dt.timedelta(hours=24)
"""For so long after a change everything is signed with the old secret too."""
PORTS = (443, 8443)
_PREFIX = "whsec_"
_CHARS = 8000

# Kept, as in services.lanes.
LISTENED = exists().where(ENDPOINT.c.owner_id == table_of(models.User).c.id, ENDPOINT.c.disabled_at.is_(None))
"""Whether an owner has an address to tell; stands in a query over users."""
_OF_OWNERS = (
    select(ENDPOINT.c.id, ENDPOINT.c.owner_id, ENDPOINT.c.events)
    .where(ENDPOINT.c.owner_id.in_(bindparam("p_owners", expanding=True)), ENDPOINT.c.disabled_at.is_(None))
    .order_by(ENDPOINT.c.id)
)
_NEW = EVENT.insert()


@dataclass(frozen=True, slots=True)
class Happening:
    """Something to tell an owner's servers. ``data``: as in :data:`EXAMPLES`."""

    owner_id: str
    event: str
    data: Mapping[str, Any]


def moment_text(moment: dt.datetime) -> str:
    """Return a moment as bodies have it: RFC 3339 in UTC, to the second."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def place(
    bot_id: str, channel_id: str, channel: str, conversation_id: str, contact_id: str, contact: str
) -> dict[str, Any]:
    """Return where in an owner's talks something happened; words as in the API."""
    return {
        "bot_id": bot_id,
        "channel_id": channel_id,
        "channel": channel,
        "conversation_id": conversation_id,
        "contact_id": contact_id,
        "contact": contact,
    }


def message(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message's row as it is told."""
    told = {
        "id": row["id"],
        "author": row["author"],
        "kind": row["kind"],
        "text": row["text"][:_CHARS],
        "created_at": moment_text(row["created_at"]),
    }
    if row["author"] != "customer":
        told |= {name: row.get(name) for name in ("language", "answered", "reply_to")}
    return told


def _body(event: str, data: Mapping[str, Any], moment: dt.datetime) -> str:
    return orjson.dumps({"type": event, "timestamp": moment_text(moment), "data": data}).decode()


def _row(endpoint_id: str, event: str, body: str, moment: dt.datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "endpoint_id": endpoint_id,
        "event": event,
        "payload": body,
        "status": "waiting",
        "attempts": 0,
        "run_at": moment,
        "answer": "",
        "created_at": moment,
    }


def tell_in(connection: Connection, happenings: Sequence[Happening]) -> None:
    """Write rows for what happened inside a unit of the queues; ring "endpoints" after the commit."""
    if not happenings:
        return
    owners: dict[str, list[tuple[str, Sequence[str]]]] = {}
    for row in direct.rows(connection, _OF_OWNERS, {"p_owners": sorted({each.owner_id for each in happenings})}):
        owners.setdefault(row.owner_id, []).append((row.id, row.events))
    moment = utcnow()
    rows = [
        _row(endpoint_id, each.event, body, moment)
        for each in happenings
        if each.owner_id in owners
        for body in (_body(each.event, each.data, moment),)
        for endpoint_id, wanted in owners[each.owner_id]
        if not wanted or each.event in wanted
    ]
    for row in rows:
        # One by one: a session's connection takes no several at once.
        direct.change(connection, _NEW, [row])


async def tell(session: AsyncSession, happenings: Iterable[Happening]) -> None:
    """The same inside a session's own transaction."""
    if told := list(happenings):
        await session.flush()
        connection = await session.connection()
        await connection.run_sync(tell_in, told)


def called(connection: Connection, conversation_id: str, reason: str) -> list[Happening]:
    """Return what is told when a person is called to a talk for ``reason``: nothing where one was called or leads already."""
    talk = table_of(models.Conversation)
    found = connection.execute(
        select(
            talk.c.bot_id,
            talk.c.channel_id,
            table_of(models.Channel).c.kind,
            talk.c.id,
            talk.c.contact_id,
            table_of(models.Contact).c.external_id,
            table_of(models.Bot).c.owner_id,
        )
        .join(table_of(models.Contact), table_of(models.Contact).c.id == talk.c.contact_id)
        .join(table_of(models.Channel), table_of(models.Channel).c.id == talk.c.channel_id)
        .join(table_of(models.Bot), table_of(models.Bot).c.id == talk.c.bot_id)
        .where(talk.c.id == conversation_id, talk.c.status.not_in(("waiting", "human")))
    ).one_or_none()
    if found is None:
        return []
    return [Happening(found.owner_id, WAITING, {**place(*found[:6]), "reason": reason})]


# Secrets


def new_secret() -> str:
    """Return a new secret as the convention writes them: of letters and digits alone, so that one double click takes it all."""
    while True:
        text = base64.b64encode(secrets.token_bytes(33)).decode()
        if text.isalnum():
            return _PREFIX + text


def signature(secret: str, id_: str, timestamp: int, body: str) -> str:
    """Return what proves that a body is ours; see standardwebhooks.com, "Signature scheme"."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = f"{id_}.{timestamp}.{body}".encode()
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def signatures(crypto: Crypto, encrypted: str, id_: str, timestamp: int, body: str) -> str:
    """Return the header of signatures: by the present secret, and for a day after a change by the one before.

    Raises ``Undecryptable``.
    """
    kept: Mapping[str, Any] = crypto.decrypt(encrypted)
    used = [str(kept["secret"])]
    if kept.get("former") and timestamp < int(kept["until"]):
        used.append(str(kept["former"]))
    return " ".join(signature(secret, id_, timestamp, body) for secret in used)


# What an owner does with them


def state(endpoint: models.Endpoint) -> str:
    """Return ``on``, ``failing``, ``off`` (by the owner) or ``broken`` (switched off after failures)."""
    if endpoint.disabled_at is not None:
        return "broken" if endpoint.failing_since is not None else "off"
    return "failing" if endpoint.failing_since is not None else "on"


def host(endpoint: models.Endpoint) -> str:
    """Return what an endpoint is called: the host of its address."""
    return URL(endpoint.url).host or endpoint.url


async def of_owner(session: AsyncSession, user: models.User) -> list[models.Endpoint]:
    """Return an owner's endpoints, oldest first."""
    endpoint = models.Endpoint
    return list(await session.scalars(select(endpoint).where(endpoint.owner_id == user.id).order_by(endpoint.id)))


async def get(session: AsyncSession, user: models.User, endpoint_id: str) -> models.Endpoint:
    """Return an owner's endpoint; raises ``NotFound``."""
    found = await session.get(models.Endpoint, endpoint_id)
    if found is None or found.owner_id != user.id:
        raise NotFound()
    return found


def check_url(settings: Settings, url: str) -> str:
    """Return an address that may be told; raises ``Invalid``. Where its name leads is looked at each time it is asked."""
    wanted = url.strip()
    anywhere = settings.webhooks.addresses == "any"
    try:
        found = URL(wanted)
        port, name = found.port, found.host
    except ValueError:
        port = name = None
        found = URL()
    if not name or found.scheme not in ("https", "http") or clean(wanted) != wanted or len(wanted) > 2000:
        raise Invalid(T("Enter the whole address, for example https://crm.example.uz/botfactory."), field="url")
    if found.user is not None or found.password is not None or found.fragment:
        raise Invalid(T("The address may hold no password and nothing after a #."), field="url")
    if anywhere:
        return wanted
    if found.scheme != "https":
        raise Invalid(T("The address must begin with https://, so that nobody can read along."), field="url")
    if port not in PORTS:
        raise Invalid(T("Only these ports can be used: {ports}.", ports=", ".join(map(str, PORTS))), field="url")
    inner = name == "localhost" or name.endswith((".localhost", ".local", ".internal"))
    if inner or ((":" in name or name.replace(".", "").isdigit()) and not is_public(name)):
        raise Invalid(
            T("This address leads nowhere outside. Enter one that can be reached from the internet."), field="url"
        )
    return wanted


def _events(names: Iterable[str]) -> list[str]:
    chosen = [name for name in EVENTS if name in set(names)]
    if not chosen:
        raise Invalid(T("Choose at least one event."), field="events")
    # All of them: also those that come with a later version.
    return [] if len(chosen) == len(EVENTS) else chosen


async def create(
    session: AsyncSession, settings: Settings, crypto: Crypto, user: models.User, *, url: str, events: Iterable[str]
) -> tuple[models.Endpoint, str]:
    """Add an endpoint; return it and its secret, which is shown this once. Raises ``Invalid`` or ``Conflict``."""
    address, wanted = check_url(settings, url), _events(events)
    await session.execute(select(models.User.id).where(models.User.id == user.id).with_for_update(key_share=True))
    known = await of_owner(session, user)
    most = settings.webhooks.per_owner
    if len(known) >= most:
        raise Conflict(T("You have {n} addresses, and that is as many as there can be.", n=most), code="limit")
    if any(row.url == address for row in known):
        raise Invalid(T("This address is on the list already."), field="url")
    secret = new_secret()
    row = models.Endpoint(owner_id=user.id, url=address, secret=crypto.encrypt({"secret": secret}), events=wanted)
    session.add(row)
    await session.flush()
    await access.record(session, user, "endpoint_made", "endpoint", row.id, host=host(row))
    return row, secret


async def change(
    session: AsyncSession, settings: Settings, user: models.User, endpoint_id: str, *, url: str, events: Iterable[str]
) -> models.Endpoint:
    """Change address and events; raises ``Invalid``, ``NotFound``. What waits goes to the new address."""
    row = await get(session, user, endpoint_id)
    address, wanted = check_url(settings, url), _events(events)
    if any(other.url == address and other.id != row.id for other in await of_owner(session, user)):
        raise Invalid(T("This address is on the list already."), field="url")
    row.url, row.events = address, wanted
    session.add(row)
    await access.record(session, user, "endpoint_changed", "endpoint", row.id, host=host(row))
    return row


async def rotate(
    session: AsyncSession, crypto: Crypto, user: models.User, endpoint_id: str, *, now: dt.datetime
) -> str:
    """Give an endpoint a new secret and return it. For a day both sign, so that nothing is refused meanwhile."""
    row = await session.get(models.Endpoint, endpoint_id, with_for_update=True, populate_existing=True)
    if row is None or row.owner_id != user.id:
        raise NotFound()
    secret, kept = new_secret(), {}
    if crypto.opens(row.secret):
        until = int((now + OLD_SECRET).timestamp())
        kept = {"former": crypto.decrypt(row.secret)["secret"], "until": until}
    row.secret = crypto.encrypt({"secret": secret, **kept})
    await access.record(session, user, "endpoint_secret_changed", "endpoint", row.id)
    return secret


async def switch(session: AsyncSession, user: models.User, endpoint_id: str, on: bool, *, now: dt.datetime) -> None:
    """Tell an endpoint again, or no longer; what waits while it is off is given up."""
    row = await get(session, user, endpoint_id)
    if on:
        row.disabled_at = row.failing_since = None
    else:
        row.disabled_at, row.failing_since = row.disabled_at or now, None
        await give_up(session, row.id)
    session.add(row)
    await notices.solve(session, notice_key(row.id))
    await access.record(session, user, "endpoint_on" if on else "endpoint_off", "endpoint", row.id)


async def remove(session: AsyncSession, user: models.User, endpoint_id: str) -> None:
    """Delete an endpoint with all that it was told."""
    row = await get(session, user, endpoint_id)
    await notices.solve(session, notice_key(row.id))
    await access.record(session, user, "endpoint_deleted", "endpoint", row.id, host=host(row))
    event = models.EndpointEvent
    await session.execute(delete(event).where(event.endpoint_id == row.id))
    await session.delete(row)


def notice_key(endpoint_id: str) -> str:
    """Return the key of the notice that an endpoint was switched off."""
    return f"endpoint:{endpoint_id}"


async def give_up(session: AsyncSession, endpoint_id: str) -> None:
    """Nothing that waits for an endpoint is tried any more."""
    event = models.EndpointEvent
    waits = event.endpoint_id == endpoint_id, event.status == "waiting"
    await session.execute(update(event).where(*waits).values(status="failed"))


async def send_test(session: AsyncSession, user: models.User, endpoint_id: str) -> models.EndpointEvent:
    """Put a test event on its way, which also goes to an endpoint that is told of little; raises ``Conflict`` where it is off."""
    row = await get(session, user, endpoint_id)
    if row.disabled_at is not None:
        raise Conflict(T("Switch the address on first."), code="off")
    moment = utcnow()
    event = models.EndpointEvent(**_row(row.id, TEST, _body(TEST, EXAMPLES[TEST], moment), moment))
    session.add(event)
    await session.flush()
    return event


async def resend(
    session: AsyncSession, user: models.User, endpoint_id: str, event_id: str, *, now: dt.datetime
) -> models.EndpointEvent:
    """Send an event once more, with the same id and body; raises ``Conflict`` where the endpoint is off."""
    row, event = await one_event(session, user, endpoint_id, event_id)
    if row.disabled_at is not None:
        raise Conflict(T("Switch the address on first."), code="off")
    event.status, event.run_at, event.attempts = "waiting", now, 0
    session.add(event)
    return event


async def one_event(
    session: AsyncSession, user: models.User, endpoint_id: str, event_id: str
) -> tuple[models.Endpoint, models.EndpointEvent]:
    """Return an owner's endpoint and something that it was told; raises ``NotFound``."""
    row = await get(session, user, endpoint_id)
    event = await session.get(models.EndpointEvent, event_id)
    if event is None or event.endpoint_id != row.id:
        raise NotFound()
    return row, event


async def log(
    session: AsyncSession,
    endpoint: models.Endpoint,
    *,
    status: str = "",
    cursor: str | None = None,
    limit: int = paging.PAGE,
) -> paging.Page[models.EndpointEvent]:
    """Return what an endpoint was told, the latest first; ``status``: one of :data:`STATES` or empty."""
    event = models.EndpointEvent
    query = select(event).where(event.endpoint_id == endpoint.id)
    if status:
        if status not in STATES:
            raise Invalid(T("Unknown status: use one of {names}.", names=", ".join(STATES)), field="state")
        query = query.where(event.status == status)
    found: paging.Page[models.EndpointEvent] = await paging.newest_first(
        session, query, event.id, cursor=cursor, limit=limit
    )
    return found


def told_of(owner_id: str, name: str, ids: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition on what an owner's endpoints were told, or are still to be told, of some conversations or bots.

    ``name``: the word of :func:`place` by which they are known.
    """
    event, endpoint = models.EndpointEvent, models.Endpoint
    own = select(endpoint.id).where(endpoint.owner_id == owner_id)
    # As bodies are written: see :func:`_body`.
    named = (event.payload.contains(f'"{name}":"{id_}"', autoescape=True) for id_ in ids)
    return and_(event.endpoint_id.in_(own), or_(false(), *named))


async def waiting(session: AsyncSession, of: Sequence[models.Endpoint]) -> dict[str, int]:
    """Return how many events wait for each of these endpoints."""
    event = models.EndpointEvent
    rows = await session.execute(
        select(event.endpoint_id, func.count())
        .where(event.endpoint_id.in_([row.id for row in of]), event.status == "waiting")
        .group_by(event.endpoint_id)
    )
    return {row[0]: int(row[1]) for row in rows}
