"""The administrator's pages, a module a page. For everybody else there is nothing at their addresses."""

from __future__ import annotations

from aiohttp import web

from web.admin import (
    announcements,
    audit,
    channels,
    conversations,
    coupons,
    files,
    models,
    owner,
    owners,
    payments,
    payouts,
    requests,
    statistics,
    support,
    system,
)

PAGES = (
    requests,
    owners,
    owner,
    conversations,
    files,
    channels,
    payments,
    coupons,
    payouts,
    audit,
    statistics,
    system,
    models,
    announcements,
    support,
)


def setup(app: web.Application) -> None:
    """Add every page's addresses."""
    for page in PAGES:
        app.add_routes(page.routes)
