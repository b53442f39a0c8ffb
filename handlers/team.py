"""Invitations to a team (``/start team_TOKEN``), and what the factory bot offers to whoever only answers customers."""

from __future__ import annotations

from aiogram import F, Router
from aiogram.filters import CommandObject, CommandStart
from aiogram.types import CallbackQuery, InlineKeyboardMarkup, Message

from db import models
from handlers import keyboards
from handlers.callbacks import Enter, Menu
from handlers.states import leave
from handlers.talk import Page, Talk, bold, page
from services import team
from services.core import Core
from services.errors import TooMany
from services.i18n import Translator

router = Router(name="team")

_LOOKS_IN_15_MIN = 30


@router.message(CommandStart(deep_link=True, magic=F.args.regexp(r"^team_[A-Za-z0-9_-]{20,50}$")))
async def invited(message: Message, command: CommandObject, talk: Talk, _: Translator) -> None:
    """Show who invites and to what; a link alone makes nobody a member."""
    token = (command.args or "").removeprefix("team_")
    if not await talk.core.limits.hit(f"invitation:{talk.user.id}", _LOOKS_IN_15_MIN, 900):
        raise TooMany(retry_after_s=900)
    async with talk.core.db.read() as session:
        offer = await team.look_at(session, token)
    language = talk.user.language
    await talk.say(
        bold(_("{name} invites you to the team", name=team.shown_name(offer.owner))),
        f"{team.ROLE_NAMES[offer.role].render(language)}. {team.ROLE_TASKS[offer.role].render(language)}",
        _("Bots: {names}", names=", ".join(offer.bots)) if offer.bots else "",
        keyboard=keyboards.inline(
            [keyboards.button("✅ " + _("Join"), Enter(token=token), style="success")],
            [keyboards.button("✖️ " + _("Close"), Menu(to="close"))],
        ),
    )


@router.callback_query(Enter.filter())
async def entered(callback: CallbackQuery, callback_data: Enter, talk: Talk, _: Translator) -> None:
    """Make this person a member; the link works once."""
    async with talk.core.db.write() as session:
        change = await team.accept(session, callback_data.token, talk.user, plan=talk.core.allowances)
    for topic in change.topics:
        talk.core.bell.ring(topic)
    talk.core.bell.ring("notices")
    leave(talk.dialog)
    await talk.toast()
    await talk.show(
        page(
            "✅ " + bold(_("You are in the team of {name}.", name=team.shown_name(change.owner))),
            _("When a customer asks for a person, I tell you here. You answer here or in the panel."),
            keyboard=_ways_on(_),
        )
    )


def _ways_on(_: Translator) -> InlineKeyboardMarkup:
    """Return the ways on for whoever only answers customers."""
    return keyboards.inline(
        [
            keyboards.button("💬 " + _("Conversations"), Menu(to="inbox")),
            keyboards.button("🖥 " + _("Panel"), Menu(to="panel")),
        ]
    )


async def answering_page(core: Core, user: models.User, _: Translator) -> Page | None:
    """Return what stands in place of bots for whoever only answers customers of others; None for everybody else."""
    async with core.db.read() as session:
        if not await team.only_answers(session, user):
            return None
        works = await team.memberships(session, user)
    owners = [team.shown_name(owner) for member, owner in works if member.paused_at is None]
    paused = [team.pause_text(owner).render(user.language) for member, owner in works if member.paused_at is not None]
    if not owners:
        return page(bold(_("Your work is paused")), *paused, keyboard=_ways_on(_))
    return page(
        bold(_("You answer customers for {names}.", names=", ".join(owners))),
        _("The conversations are here and in the panel. Their bots are looked after by the owner and the managers."),
        *paused,
        keyboard=_ways_on(_),
    )
