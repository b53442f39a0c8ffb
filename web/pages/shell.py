"""What every signed-in page has around its content: the person's bots, the chosen one, notices."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from aiohttp import web
from markupsafe import Markup, escape
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import announcements, bots, codes, notices, payment_texts, team
from services.core import Core
from services.errors import AppError
from services.i18n import translate
from services.team import Right
from web import auth, keys, view


def core_of(request: web.Request) -> Core:
    """Return the product's core."""
    return request.app[keys.CORE]


async def frame(
    session: AsyncSession,
    request: web.Request,
    bot: models.Bot | None = None,
    *,
    answered: Sequence[models.Bot] | None = None,
) -> dict[str, Any]:
    """Return what the menu and the bar of notices show.

    ``bots``: those that the person looks after; ``talk_bots``: also those for which they only answer customers. ``roles``: what
    they are to each of these, by the id of the bot. ``broken``: the channels to mend, ``quiet``: what the plan keeps them from
    doing, likewise. ``answered``: these ``talk_bots``, where the page has read them already.
    """
    person = auth.user(request)
    language = auth.visitor(request).language
    if answered is None:
        answered = await bots.list_for(session, person, "talk")
    to_owner = await team.roles(session, person)
    roles = {each.id: to_owner[each.owner_id] for each in answered}
    told = await notices.open_for(session, person)
    connected = await bots.connected(session, answered)
    broken: dict[str, list[bots.Connected]] = {}
    for channel in connected:
        if channel.status in bots.BROKEN and roles[channel.bot_id] != "operator":
            broken.setdefault(channel.bot_id, []).append(channel)
    kinds = [(channel.bot_id, channel.kind) for channel in connected]
    own = core_of(request).notice_texts
    has_bots = any(each.owner_id == person.id for each in answered)
    return {
        "bots": [each for each in answered if roles[each.id] != "operator"],
        "talk_bots": answered,
        "roles": roles,
        "bot": bot,
        "broken": broken,
        "quiet": await core_of(request).allowances.quiet(session, answered, person=person, connected=kinds),
        "unconfirmed": _is_unconfirmed(request, person),
        "plan_ends": await _plan_ends(session, request, person) if has_bots else (),
        "mail_returns": person.mail_refused_at is not None and codes.by_mail(core_of(request).settings),
        "banners": await announcements.banners(core_of(request), session, person, language),
        "notices": [(notice, notices.text(notice, language, own), notices.page(notice)) for notice in told],
    }


async def _plan_ends(session: AsyncSession, request: web.Request, person: models.User) -> Sequence[str]:
    """Return what every page says of a plan that is over or will soon be, a sentence each; nothing of one that goes on."""
    core, language = core_of(request), auth.visitor(request).language
    terms = await core.allowances.terms_for(session, person)
    now, line, has = core.now(), terms.line, terms.standing
    soon = dt.timedelta(days=core.settings.subscriptions.remind_days)
    if has.status in ("unlimited", "trial"):
        return ()
    goes_on = has.ends_at is not None and (has.ends_at - now > soon or line.at(has.ends_at).status == "active")
    if goes_on and has.status != "grace":
        return ()
    return payment_texts.standing(core.settings, line, now, language, lambda moment: view.exact(moment, language))


def _is_unconfirmed(request: web.Request, person: models.User) -> bool:
    """Tell whether every page asks to confirm the e-mail: only where letters can be sent."""
    return person.email is not None and person.email_confirmed_at is None and codes.by_mail(core_of(request).settings)


async def own_bot(session: AsyncSession, request: web.Request, right: Right = "manage") -> models.Bot:
    """Return the bot that the address names; raises ``NotFound`` where the person has no such right over it."""
    return await bots.get(session, auth.user(request), request.match_info["bot"], right)


def first_page(person: models.User, following: str) -> str:
    """Return where a person goes who has just signed in: who is about to lose the account is asked about that first."""
    return "/settings/delete" if person.delete_at is not None else following


async def let_in(request: web.Request, person: models.User, following: str, *, toast: str = "") -> web.Response:
    """Sign a person in and send them on to ``following``; who has two-step sign-in is asked for the code first."""
    if await auth.enter(request, person):
        return view.redirect(first_page(person, following), toast=toast)
    return view.redirect(f"/login/code?next={quote(following, safe='/')}")


def fault_of(error: AppError, request: web.Request) -> dict[str, str]:
    """Return an error as a form shows it: at its field, and above all fields."""
    language, plans = auth.visitor(request).language, core_of(request).allowances.address
    message = error.text.render(language)
    if plans in message:
        # What a messenger gets as an address is a link here.
        link = Markup('<a href="/billing">{}</a>').format(translate(language, "Open plans and payments"))
        message = escape(message).replace(escape(plans), link)
    return {"field": error.field or "", "message": message}
