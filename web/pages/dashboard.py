"""The dashboard: first steps, numbers, what waits."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from services import bots, conversations, notices, samples, stats
from services.i18n import T, Text
from services.knowledge import documents
from web import auth, view
from web.pages.shell import core_of, frame

routes = web.RouteTableDef()

PERIODS = {"today": 0, "7": 6, "30": 29}
_STEPS_COOKIE = "first_steps"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the first steps."""

    title: Text
    text: Text
    link: str
    done: bool


def since_of(period: str) -> dt.datetime:
    """Return the beginning of a period: midnight in Tashkent, so many days ago."""
    today = utcnow().astimezone(view.TASHKENT).replace(hour=0, minute=0, second=0, microsecond=0)
    return (today - dt.timedelta(days=PERIODS[period])).astimezone(dt.UTC)


async def first_steps(session: AsyncSession, own: Sequence[models.Bot], person: models.User) -> list[Step]:
    """Return the steps from nothing to a bot that customers use, each with its state; the example is no such bot."""
    examples = await samples.examples(session, person)
    bot = next((bot for bot in own if bot.id not in examples), None)
    base = f"/bots/{bot.id}" if bot else ""
    ready = tried = shared = False
    if bot is not None:
        ready = any(document.status == "ready" for document in await documents.list_for(session, bot))
        for item in (await conversations.list_for(session, bot, limit=50)).items:
            own_test = stats.is_test(item.contact.external_id)
            tried = tried or own_test
            shared = shared or not own_test
    telegram = bots.of_kind(await bots.channels(session, bot) if bot else [], "telegram")
    return [
        Step(T("Name your bot"), T("Customers see this name."), "/bots/new", bot is not None),
        Step(
            T("Add a document"),
            T("A price list, questions and answers, a catalogue: PDF, DOCX, CSV or TXT."),
            f"{base}/documents" if bot else "/bots/new",
            ready,
        ),
        Step(T("Try it"), T("Ask what your customers ask."), base or "/bots/new", tried),
        Step(
            T("Connect Telegram"),
            T("Two minutes with BotFather, step by step."),
            f"{base}/channels" if bot else "/bots/new",
            telegram is not None and telegram.status == "active",
        ),
        Step(
            T("Share the bot"),
            T("A link and a QR code for your door, your site and your posts."),
            f"{base}/channels#share" if bot else "/bots/new",
            shared,
        ),
    ]


@routes.get("/dashboard")
async def dashboard(request: web.Request) -> web.StreamResponse:
    """Show the numbers of all own bots for a period."""
    person = auth.user(request)
    period = request.query.get("period", "7")
    if period not in PERIODS:
        period = "7"
    async with core_of(request).db.read() as session:
        shared = await frame(session, request)
        since = since_of(period)
        rows = [(bot, await stats.numbers(session, bot, since)) for bot in shared["bots"]]
        own = [bot for bot in shared["bots"] if shared["roles"][bot.id] == "owner"]
        # Whoever came to work for somebody else did not come to set a bot up.
        steps = await first_steps(session, own, person) if own or not shared["talk_bots"] else []
        served = await conversations.waiting(
            session, [bot for bot in shared["talk_bots"] if shared["roles"][bot.id] == "operator"]
        )
    total = stats.Numbers(*(sum(getattr(n, f.name) for _, n in rows) for f in fields(stats.Numbers)))
    hidden = request.cookies.get(_STEPS_COOKIE) == "hidden" or all(step.done for step in steps)
    return view.render(
        request,
        "pages/dashboard.html",
        here="dashboard",
        rows=rows,
        served=served,
        total=total,
        comes_from=partial(comes_from, rows),
        period=period,
        since=since.astimezone(view.TASHKENT).date().isoformat(),
        steps=[] if hidden else steps,
        **shared,
    )


def comes_from(rows: Sequence[tuple[models.Bot, stats.Numbers]], *counts: str) -> models.Bot | None:
    """Return the bot that alone makes up a total, whose list is then the total's; None where the rows by bot say more.

    ``counts``: the names of the numbers that the total is made of.
    """
    having = [bot for bot, numbers in rows if any(getattr(numbers, count) for count in counts)]
    of_one = having or [bot for bot, _ in rows]
    return of_one[0] if len(of_one) == 1 else None


@routes.post("/dashboard/steps")
async def hide_steps(request: web.Request) -> web.StreamResponse:
    """Put the first steps away in this browser."""
    response = view.redirect("/dashboard")
    response.set_cookie(_STEPS_COOKIE, "hidden", max_age=auth.PREFERENCE_AGE_S, samesite="Lax", httponly=True)
    return response


@routes.post("/notices/{notice}/dismiss")
async def dismiss_notice(request: web.Request) -> web.StreamResponse:
    """Put a notice away."""
    async with core_of(request).db.write() as session:
        await notices.dismiss(session, auth.user(request), request.match_info["notice"])
    return view.redirect(auth.safe_next(request.query.get("next")))
