"""What every signed-in page has around its content: the person's bots, the chosen one, notices."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import bots, notices
from services.core import Core
from services.errors import AppError
from web import auth, keys


def core_of(request: web.Request) -> Core:
    """Return the product's core."""
    return request.app[keys.CORE]


async def frame(session: AsyncSession, request: web.Request, bot: models.Bot | None = None) -> dict[str, Any]:
    """Return what the menu and the bar of notices show; ``broken``: the channels to mend, by the id of the bot."""
    person = auth.user(request)
    language = auth.visitor(request).language
    own = await bots.list_for(session, person)
    told = await notices.open_for(session, person)
    return {
        "bots": own,
        "bot": bot,
        "broken": await bots.broken_channels(session, person),
        "notices": [(notice, notices.text(notice, language), notices.page(notice)) for notice in told],
    }


async def own_bot(session: AsyncSession, request: web.Request) -> models.Bot:
    """Return the bot that the address names; raises ``NotFound`` for another's."""
    return await bots.get(session, auth.user(request), request.match_info["bot"])


def fault_of(error: AppError, request: web.Request) -> dict[str, str]:
    """Return an error as a form shows it: at its field, and above all fields."""
    return {"field": error.field or "", "message": error.text.render(auth.visitor(request).language)}
