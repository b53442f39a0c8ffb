"""Typed keys of what the application carries."""

from __future__ import annotations

from aiohttp import web

from db.engine import Database
from services.core import Core
from services.presence import Presence

CORE: web.AppKey[Core] = web.AppKey("core", Core)
DB: web.AppKey[Database] = web.AppKey("db", Database)
PRESENCE: web.AppKey[Presence] = web.AppKey("presence", Presence)
