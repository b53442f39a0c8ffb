"""The web application: middlewares, pages, API, chat, webhooks over one core."""

from __future__ import annotations

from aiohttp import web
from aiohttp_session import session_middleware
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from services import accounts
from services.core import Core
from services.crypto import fernet_from
from web import admin, api, chat, files, guide, health, keys, live, middlewares, pages, payments, view, webhooks, widget


def make_app(core: Core) -> web.Application:
    """Return the application that serves everything HTTP for ``core``."""
    tls = core.settings.public_url.startswith("https://")
    storage = EncryptedCookieStorage(
        fernet_from(core.secret, "session cookie"),
        cookie_name="__Host-botfactory" if tls else "botfactory",
        max_age=int(accounts.SESSION_LIFE.total_seconds()),
        secure=tls,
        httponly=True,
        samesite="Lax",
    )
    app = web.Application(
        client_max_size=core.settings.server.body_limit_kib * 1024,
        middlewares=[
            middlewares.entrance,
            session_middleware(storage),
            middlewares.errors,
            middlewares.visitors,
            middlewares.forgery,
        ],
    )
    app[keys.CORE] = core
    app[keys.DB] = core.db
    app[guide.GUIDE] = guide.Guide()
    app.on_response_prepare.append(middlewares.set_headers)
    view.make_environment(app)
    webhooks.setup(app)
    payments.setup(app)
    health.setup(app)
    app.router.add_get("/static/{version}/{name:.+}", app[view.STATIC].serve)
    api.setup(app)
    live.setup(app, core)
    chat.setup(app)
    widget.setup(app)
    files.setup(app)
    pages.setup(app)
    admin.setup(app)
    return app
