"""What every page of the administrator begins with."""

from __future__ import annotations

from aiohttp import web

from db import models
from services.errors import NotFound
from services.i18n import T
from web import auth


def administrator(request: web.Request) -> models.User:
    """Return the signed-in administrator; raises ``NotFound`` for anybody else, as for an address that there is not."""
    person = auth.user(request)
    if not person.is_admin:
        raise NotFound(T("There is no such page."))
    return person
