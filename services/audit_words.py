"""The audit log in people's words: what each detail is called and says, and the names of what things were done to."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Executable, select
from sqlalchemy.ext.asyncio import AsyncSession
from yarl import URL

from db import models
from db.base import ID_LENGTH
from services import (
    all_channels,
    all_files,
    budgets,
    job_names,
    key_checks,
    letters,
    money,
    notice_texts,
    notices,
    overrides,
    payment_texts,
    people,
    team,
)
from services.ai import NAMES as PROVIDERS
from services.channel_names import CHANNEL_NAMES, channel_name
from services.conversations.table import STATES as TALK_STATES
from services.i18n import LANGUAGE_NAMES, T, Text, translate, translate_plural
from services.letters import texts as letter_texts
from services.plans import TIYIN
from services.settings import Settings

LABELS: Mapping[str, Text] = {
    "action": T("Action"),
    "actor": T("Who"),
    "admins": T("By whom"),
    "amount_uzs": T("Amount"),
    "answer": T("Answer"),
    "assignee": T("Assigned to"),
    "at": T("Time"),
    "bot": T("Bot"),
    "bots": T("Bots"),
    "channel": T("Channel"),
    "code": T("Code"),
    "count": T("How many"),
    "days": T("Days"),
    "event": T("Error in the log"),
    "former": T("Former account"),
    "gateway": T("Gateway"),
    "host": T("Address"),
    "kind": T("Kind"),
    "label": T("Label"),
    "language": T("Language"),
    "list": T("List"),
    "made_at": T("Time"),
    "member": T("Colleague"),
    "message": T("Message"),
    "method": T("How it was paid"),
    "minutes": T("Minutes"),
    "name": T("Name"),
    "note": T("Note"),
    "number": T("Number"),
    "object": T("Object"),
    "order": T("Order"),
    "owner": T("Owner"),
    "path": T("Page"),
    "period": T("Period"),
    "plan": T("Plan"),
    "platform": T("Channel"),
    "price_uzs": T("Price"),
    "q": T("Search"),
    "reason": T("Reason"),
    "receivers": T("Receivers"),
    "result": T("Result"),
    "role": T("Role"),
    "since": T("From date"),
    "snoozed": T("Put aside"),
    "state": T("State"),
    "status": T("State"),
    "title": T("Title"),
    "to": T("Assigned to"),
    "unanswered": T("Unanswered"),
    "until": T("To date"),
    "value": T("Value"),
}
"""What each detail is called; the words of one that is not here stand alone."""
UNSAID = ("after", "by", "view")
"""Who did it, which the row says beside; and marks of the program's own."""
_SECTIONS: Sequence[tuple[str, Text]] = (
    (r"/bots/\w+/(documents|answers|unanswered|questions)\b.*", T("Documents")),
    (r"/bots/\w+/(channels|widget|templates)\b.*", T("Channels")),
    (r"/bots/\w+/broadcasts\b.*", T("Broadcasts")),
    (r"/bots/\w+/tests\b.*", T("Test questions")),
    (r"/bots\b.*", T("Bot")),
    (r"/(inbox|conversations)\b.*", T("Conversations")),
    (r"/contacts\b.*", T("Customers")),
    (r"/billing\b.*", T("Plan and payments")),
    (r"/team\b.*", T("Team")),
    (r"/settings/webhooks\b.*", T("Webhooks")),
    (r"/settings\b.*", T("Settings")),
    (r"/support\b.*", T("Support")),
)
"""What an administrator changed in an owner's panel, by the address of the form."""
_OVERRIDES: Mapping[str, Text] = {
    overrides.ROLE: T("Who answers customers"),
    overrides.KEYS_OFF: T("Keys that rest"),
    overrides.OWNER_BUDGET: T("One owner, US dollars a day"),
}
_FAMILIES: Mapping[str, Text] = {overrides.CHAIN: T("Models of each role"), overrides.PRICE: T("Price")}
"""Settings of which there is one for each role or model, which the key ends with."""
_STATISTICS: Mapping[str, Text] = {"owners": T("Owners"), "days": T("Days"), "revenue": T("Revenue")}
_WORDS: Mapping[str, Mapping[str, Text]] = {
    "admins": {"yes": T("Administrators only")},
    "assignee": {"me": T("me"), "nobody": T("nobody")},
    "bots": {"yes": T("yes"), "no": T("no")},
    "list": {"documents": T("Documents"), "files": T("Files of conversations")},
    "method": payment_texts.METHODS,
    "order": all_files.ORDERS,
    "period": payment_texts.PERIODS,
    "result": key_checks.OUTCOMES,
    "role": team.ROLE_NAMES,
    "snoozed": {"1": T("yes")},
    "to": {"nobody": T("nobody")},
    "unanswered": {"1": T("yes")},
}
_STATES: Mapping[str, Mapping[str, Text]] = {
    "owners_exported": people.CHOICES,
    "payments_exported": payment_texts.STATES,
    "channels_exported": all_channels.STATES,
    "files_exported": {**all_files.KNOWLEDGE.states, **all_files.SENT.states},
    "conversations_exported": TALK_STATES,
}
_ID = re.compile(rf"[0-9a-z]{{{ID_LENGTH}}}")
_PEOPLE = ("owner", "member", "former", "to", "actor", "assignee")
_THINGS = ("bot", "channel", "label")
_bot, _talk, _contact, _channel = models.Bot, models.Conversation, models.Contact, models.Channel
_SELECTS: Mapping[str, Callable[[Iterable[str]], Executable]] = {
    "bot": lambda ids: select(_bot.id, _bot.name).where(_bot.id.in_(ids)),
    "conversation": lambda ids: (
        select(_talk.id, _contact.name).join(_contact, _contact.id == _talk.contact_id).where(_talk.id.in_(ids))
    ),
    "contact": lambda ids: select(_contact.id, _contact.name).where(_contact.id.in_(ids)),
    "channel": lambda ids: select(_channel.id, _channel.username, _channel.kind).where(_channel.id.in_(ids)),
    "payment": lambda ids: select(models.Payment.id, models.Payment.number).where(models.Payment.id.in_(ids)),
    "request": lambda ids: (
        select(models.AccessRequest.id, models.User.full_name)
        .join(models.User, models.User.id == models.AccessRequest.user_id)
        .where(models.AccessRequest.id.in_(ids))
    ),
    "coupon": lambda ids: select(models.Coupon.id, models.Coupon.code).where(models.Coupon.id.in_(ids)),
    "api_token": lambda ids: select(models.ApiToken.id, models.ApiToken.name).where(models.ApiToken.id.in_(ids)),
    "forum_group": lambda ids: select(models.ForumGroup.id, models.ForumGroup.title).where(
        models.ForumGroup.id.in_(ids)
    ),
    "document": lambda ids: select(models.Document.id, models.Document.name).where(models.Document.id.in_(ids)),
    "broadcast": lambda ids: select(models.Broadcast.id, models.Broadcast.title).where(models.Broadcast.id.in_(ids)),
    "endpoint": lambda ids: select(models.Endpoint.id, models.Endpoint.url).where(models.Endpoint.id.in_(ids)),
    "announcement": lambda ids: select(models.Announcement.id, models.Announcement.texts).where(
        models.Announcement.id.in_(ids)
    ),
    "label": lambda ids: select(models.Label.id, models.Label.name).where(models.Label.id.in_(ids)),
}
"""How the names of things are found that may be gone meanwhile."""


@dataclass(frozen=True, slots=True)
class Known:
    """Who and what rows of the log name, as far as it is still there: people by id, names by kind and id."""

    people: Mapping[str, models.User]
    names: Mapping[tuple[str, str], str]


async def known(session: AsyncSession, rows: Sequence[models.AuditLog]) -> Known:
    """Return who and what these rows name: one question a kind of thing, however many rows there are."""
    wanted: dict[str, set[str]] = {}
    for row in rows:
        wanted.setdefault("user", set()).add(row.actor_id or "")
        wanted.setdefault(row.object_kind, set()).add(row.object_id)
        for key, value in (row.details or {}).items():
            kind = "user" if key in (*_PEOPLE, "by", "object") else key if key in _THINGS else ""
            if kind:
                wanted.setdefault(kind, set()).add(str(value))
    ids = {kind: sorted(each for each in found if _ID.fullmatch(each)) for kind, found in wanted.items()}
    people = ids.get("user")
    found = await session.scalars(select(models.User).where(models.User.id.in_(people))) if people else ()
    names: dict[tuple[str, str], str] = {}
    for kind, question in _SELECTS.items():
        if ids.get(kind):
            for each in await session.execute(question(ids[kind])):
                names[kind, each[0]] = _name(kind, each)
    return Known({person.id: person for person in found}, names)


def _name(kind: str, row: Sequence[Any]) -> str:
    if kind == "channel":
        return f"{CHANNEL_NAMES.get(row[2], row[2])} {row[1] or ''}".strip()
    if kind == "endpoint":
        return URL(row[1]).host or ""
    if kind == "announcement":
        # Of texts in languages that are not meant nothing need be written.
        return next((str(said["title"]) for said in (row[1] or {}).values() if said.get("title")), "")
    return str(row[1] or "")


def called(person: models.User | None) -> str:
    """Return what somebody is called in the log, empty for who has no name and nobody."""
    return "" if person is None else person.full_name or person.email or person.phone or ""


def _person(about: Known, id_: str, language: str) -> str:
    person = about.people.get(id_)
    return translate(language, "deleted") if person is None else called(person) or translate(language, "No name")


def thing(row: models.AuditLog, about: Known, language: str) -> str:
    """Return the name of what something was done to, empty where it has none."""
    kind, id_ = row.object_kind, row.object_id
    if not id_ or kind in ("error", "audit"):
        return ""
    if kind == "user":
        return _person(about, id_, language)
    if kind == "override":
        return _override(id_, language)
    if kind == "provider_key":
        return PROVIDERS.get(id_, id_)
    if kind == "letter_text":
        name, _, written = id_.rpartition(":")
        subject = letter_texts.subject(name, language) if name in letters.KINDS else name
        if (told := name.removeprefix(notice_texts.PREFIX)) in notices.TEXTS:
            subject = notice_texts.example(notices.TEXTS[told].render(language))
        return f"{subject} ({LANGUAGE_NAMES.get(written, written)})"
    if kind == "statistics":
        return _STATISTICS[id_].render(language) if id_ in _STATISTICS else id_
    if kind in _SELECTS and _ID.fullmatch(id_):
        name_ = about.names.get((kind, id_))
        return translate(language, "deleted") if name_ is None else name_ or translate(language, "No name")
    return id_


def _override(key: str, language: str) -> str:
    span, _, provider = key.removeprefix(budgets.BUDGET).partition(".")
    if key.startswith(budgets.BUDGET) and span in budgets.SPANS and provider in budgets.NAMED:
        return f"{translate(language, 'Budget')}: {budgets.name(span, provider, language)}"
    for beginning, text in _FAMILIES.items():
        if key.startswith(beginning):
            return f"{text.render(language)}: {key.removeprefix(beginning)}"
    return _OVERRIDES[key].render(language) if key in _OVERRIDES else key


def details(
    row: models.AuditLog,
    about: Known,
    settings: Settings,
    language: str,
    when: Callable[[dt.datetime | dt.date], str],
) -> list[str]:
    """Return what a row says further, each with what it is called; ``when`` writes moments and days."""
    lines = []
    for key, value in sorted((row.details or {}).items()):
        if value and key not in UNSAID:
            words = _value(row, key, str(value), about, settings, language, when)
            lines.append(f"{LABELS[key].render(language)}: {words}" if key in LABELS else words)
    return lines


def _value(
    row: models.AuditLog,
    key: str,
    value: str,
    about: Known,
    settings: Settings,
    language: str,
    when: Callable[[dt.datetime | dt.date], str],
) -> str:
    if key in _WORDS and value in _WORDS[key]:
        return _WORDS[key][value].render(language)
    if key == "action":
        from services.auditing import name

        return name(value, language)
    if key in (*_PEOPLE, "object") and _ID.fullmatch(value):
        return _person(about, value, language)
    if key in _THINGS and _ID.fullmatch(value):
        return about.names.get((key, value)) or translate(language, "deleted")
    if key in ("channel", "platform") or (key == "kind" and row.object_kind in ("bot", "channel")):
        return channel_name(value, language)
    if key.endswith("_uzs") and value.lstrip("-").isdigit():
        return money.text(int(value) * TIYIN, language)
    if key in ("at", "made_at", "since", "until", "after"):
        return _moment(value, when)
    if key in ("state", "status"):
        states = _STATES.get(row.action, {})
        return states[value].render(language) if value in states else value
    if key == "kind" and row.object_kind == "job":
        return job_names.NAMES[value].render(language) if value in job_names.NAMES else value
    if key == "kind" and row.object_kind == "document":
        return all_files.kind_name(all_files.KNOWLEDGE, value, language)
    if key == "plan":
        return payment_texts.plan(settings, value, language)
    if key == "period" and value.isdigit():
        return translate_plural(language, "{n} day", "{n} days", int(value))
    if key == "gateway":
        return payment_texts.gateway(value, language)
    if key == "language":
        return LANGUAGE_NAMES.get(value, value)
    if key == "note":
        return payment_texts.note(value, language)
    if key == "path":
        return next((text.render(language) for pattern, text in _SECTIONS if re.fullmatch(pattern, value)), value)
    if row.object_kind == "override":
        return _chosen(row.object_id, value)
    return value


def _moment(value: str, when: Callable[[dt.datetime | dt.date], str]) -> str:
    try:
        return when(dt.date.fromisoformat(value) if len(value) == 10 else dt.datetime.fromisoformat(value))
    except ValueError:
        return value


def _chosen(key: str, value: str) -> str:
    if key == overrides.KEYS_OFF:
        return ", ".join(PROVIDERS.get(each, each) for each in value.split(", ")).replace("-", "—")
    if key.startswith((overrides.PRICE, overrides.OWNER_BUDGET, budgets.BUDGET)):
        return " / ".join(f"${each}" for each in value.split(" / "))
    return value
