"""Who is one person although a network shows several ids: WhatsApp's telephone number and the id that hides it.

Facts: developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids and
webhooks/reference/messages/system, checked 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, select, tuple_

from db import direct, models
from db.base import table_of
from services.channels.base import Inbound

if TYPE_CHECKING:
    from services.conversations.records import Incoming

ALIASED_KINDS = frozenset({"whatsapp"})
"""Networks where one person may be known by two ids."""
_CONTACT = table_of(models.Contact)

Events = tuple[tuple[Mapping[str, Any], Inbound], ...]


@dataclass(frozen=True, slots=True)
class Same:
    """Ids of one person who is not known here by them yet, or whose ids have changed.

    ``ids``: all that are known; ``phone`` and ``scoped``: what the person goes by from now on, empty where nothing new was told.
    ``moved``: the network said so by itself, and nothing else is to be done for that event.
    """

    ids: frozenset[str]
    phone: str
    scoped: str
    moved: bool = False


def _of(column: Any) -> Any:
    pairs = tuple_(_CONTACT.c.channel_id, column).in_(bindparam("p_pairs", expanding=True))
    return select(_CONTACT.c.id, _CONTACT.c.channel_id, _CONTACT.c.external_id, _CONTACT.c.alias).where(pairs)


_BY_ID, _BY_ALIAS = _of(_CONTACT.c.external_id), _of(_CONTACT.c.alias)


def recipient_of(lane: str, kind: str, channel_id: str, event: Inbound) -> str:
    """Return whom a lane is for: what was moved into it when two became one still names the id it came from."""
    return lane.removeprefix(f"in:{channel_id}:") if kind in ALIASED_KINDS else event.recipient


def apart(events: Events) -> Events:
    """Return the first events of a lane that may be taken together: a change of ids stands alone, for what follows it depends
    on it."""
    for at, (_, event) in enumerate(events):
        if event.extra.get("now"):
            return events[: max(1, at)]
    return events


def same_people(
    connection: Connection,
    items: Sequence[Incoming],
    kinds: Mapping[str, str],
    contacts: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, Same]:
    """Return, by lane, who turned out to be one person with somebody known, or changed ids.

    ``kinds``: of the channels; ``contacts``: who is known by the id that the lane is for.
    """
    found: dict[str, Same] = {}
    shown: dict[str, tuple[str, str, str]] = {}
    for item in items:
        known = contacts.get((item.channel_id, item.recipient))
        if kinds.get(item.channel_id) not in ALIASED_KINDS or known is None:
            continue
        now = item.events[0][1].extra.get("now")
        alias = next((event.sender.alias for _, event in reversed(item.events) if event.sender.alias), "")
        if now:
            ids = {item.recipient, alias, now["phone"], now["scoped"], known["external_id"], known["alias"]}
            found[item.claim.key] = Same(_ids(ids), now["phone"], now["scoped"], moved=True)
        elif alias:
            shown[item.claim.key] = (item.channel_id, item.recipient, alias)
    if not shown:
        return found
    pairs = {"p_pairs": sorted({(channel, id_) for channel, *ids in shown.values() for id_ in ids})}
    rows = {
        row.id: row for row in [*direct.rows(connection, _BY_ID, pairs), *direct.rows(connection, _BY_ALIAS, pairs)]
    }
    for lane, (channel_id, recipient, alias) in shown.items():
        own = [
            row
            for row in rows.values()
            if row.channel_id == channel_id and not {row.external_id, row.alias}.isdisjoint((recipient, alias))
        ]
        if len(own) > 1:
            ids = {recipient, alias, *(id_ for row in own for id_ in (row.external_id, row.alias))}
            found[lane] = Same(_ids(ids), recipient if recipient.isdigit() else "", alias)
    return found


def _ids(ids: set[str | None]) -> frozenset[str]:
    return frozenset(id_ for id_ in ids if id_)
