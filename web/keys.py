"""Typed keys of what the application carries."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from db.engine import Database
from services.core import Core
from services.presence import Presence
from web.reference import Group

CORE: web.AppKey[Core] = web.AppKey("core", Core)
DB: web.AppKey[Database] = web.AppKey("db", Database)
API_GROUPS: web.AppKey[Callable[[], tuple[Group, ...]]] = web.AppKey("api_groups")
"""What returns the calls of the JSON API, to be read in the panel."""
PRESENCE: web.AppKey[Presence] = web.AppKey("presence", Presence)
