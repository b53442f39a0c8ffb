"""The first steps of an owner: from nothing to a bot that customers use and that is paid for, each with its state.

What is skipped or put away stands in ``User.preferences``, so it is so in every browser; and so does that a bot was tried beside
its settings, where nothing of what is said is kept.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import samples, subscriptions, testers
from services.errors import Invalid
from services.i18n import T, Text
from services.settings import Settings
from services.testers import is_customer

_PREFERENCE = "first_steps"
KEYS = ("bot", "knowledge", "try", "channel", "operator", "plan")
"""In their order."""
_WORDS: Mapping[str, tuple[Text, Text]] = {
    "bot": (T("Name your bot"), T("Customers see this name.")),
    "knowledge": (T("Add a document"), T("A price list, questions and answers, a catalogue: PDF, DOCX, CSV or TXT.")),
    "try": (T("Try it"), T("Ask what your customers ask.")),
    "channel": (
        T("Connect a channel"),
        T("Telegram takes two minutes; WhatsApp and Instagram are set up step by step."),
    ),
    "operator": (T("Invite an operator"), T("Somebody who answers when the bot calls a person.")),
    "plan": (T("Choose a plan"), T("So that the bot goes on answering when the free days are over.")),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the first steps. ``state``: ``done``, ``skipped`` or ``open``."""

    key: str
    title: Text
    text: Text
    link: str
    state: str

    @property
    def is_open(self) -> bool:
        """Whether it is still to be done."""
        return self.state == "open"


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """All steps; ``hidden``: the person has put them away."""

    steps: Sequence[Step]
    hidden: bool

    @property
    def left(self) -> bool:
        """Whether anything is still to be done."""
        return any(step.is_open for step in self.steps)


def _kept(person: models.User) -> Mapping[str, Any]:
    return (person.preferences or {}).get(_PREFERENCE) or {}


def _chosen(person: models.User) -> tuple[frozenset[str], bool]:
    """Return what a person has skipped, and whether all of it is put away."""
    kept = _kept(person)
    return frozenset(kept.get("skipped") or ()), bool(kept.get("hidden"))


async def of(session: AsyncSession, settings: Settings, person: models.User, now: dt.datetime) -> FirstSteps:
    """Return the first steps of an owner; the example is no bot of theirs."""
    bot, document, channel, contact = models.Bot, models.Document, models.Channel, models.Contact
    examples = await samples.examples(session, person)
    own = (
        select(bot.id)
        .where(bot.owner_id == person.id, bot.deleted_at.is_(None), bot.id.not_in(list(examples)))
        .order_by(bot.id)
        .limit(1)
    )
    bot_id = await session.scalar(own)
    done = {"bot": bot_id is not None}
    if bot_id is not None:
        of_bot = select(channel.id).where(channel.bot_id == bot_id)
        ready = exists().where(document.bot_id == bot_id, document.status == "ready", document.deleted_at.is_(None))
        tried = exists().where(contact.channel_id.in_(of_bot), contact.external_id == testers.contact_of(person.id))
        connected = exists().where(channel.bot_id == bot_id, channel.kind != "web", channel.status == "active")
        used = exists().where(contact.bot_id == bot_id, is_customer())
        row = (await session.execute(select(ready, tried, or_(connected, used)))).one()
        done |= dict(zip(("knowledge", "try", "channel"), row, strict=True))
        done["try"] = done["try"] or bool(_kept(person).get("tried"))
    member, invitation = models.Member, models.Invitation
    done["operator"] = bool(
        await session.scalar(
            select(
                or_(
                    exists().where(member.owner_id == person.id),
                    exists().where(
                        invitation.owner_id == person.id, invitation.used_at.is_(None), invitation.expires_at > now
                    ),
                )
            )
        )
    )
    standing = (await subscriptions.timeline(session, settings, person)).at(now)
    done["plan"] = standing.is_paid or standing.status == "unlimited"
    base = f"/bots/{bot_id}" if bot_id else ""
    links = {
        "knowledge": f"{base}/documents",
        "try": base,
        "channel": f"{base}/channels",
        "operator": "/team",
        "plan": "/billing",
    }
    skipped, hidden = _chosen(person)
    steps = []
    for key in KEYS:
        link = links[key] if key in ("operator", "plan") or (base and key != "bot") else "/bots/new"
        state = "done" if done.get(key) else "skipped" if key in skipped else "open"
        steps.append(Step(key, *_WORDS[key], link, state))
    return FirstSteps(steps, hidden)


async def change(session: AsyncSession, person: models.User, do: str, key: str = "") -> None:
    """``do``: ``skip`` or ``take`` up a step again, ``hide`` or ``show`` all; raises ``Invalid``."""
    user = await session.get_one(models.User, person.id, with_for_update=True, populate_existing=True)
    skipped, hidden = _chosen(user)
    if do in ("hide", "show"):
        hidden = do == "hide"
    elif do in ("skip", "take") and key in KEYS:
        skipped = skipped | {key} if do == "skip" else skipped - {key}
    else:
        raise Invalid(T("There is no such step."), field="step")
    kept: dict[str, Any] = {**_kept(user), "skipped": sorted(skipped), "hidden": hidden}
    user.preferences = {**(user.preferences or {}), _PREFERENCE: kept}
    await session.flush()


def is_tried(person: models.User) -> bool:
    """Whether it is noted already that this person has tried a bot of theirs."""
    return bool(_kept(person).get("tried"))


async def note_tried(session: AsyncSession, person: models.User, bot: models.Bot) -> None:
    """Note that an owner has tried a bot of theirs; the example is none."""
    if bot.owner_id != person.id or bot.id in await samples.examples(session, person):
        return
    user = await session.get_one(models.User, person.id, with_for_update=True, populate_existing=True)
    user.preferences = {**(user.preferences or {}), _PREFERENCE: {**_kept(user), "tried": True}}
    await session.flush()
