"""The administrator's pages, a module a page. For everybody else there is nothing at their addresses."""

from __future__ import annotations

from aiohttp import web

from web.admin import coupons, owners, payments, payouts, requests, support

PAGES = (requests, owners, payments, coupons, payouts, support)


def setup(app: web.Application) -> None:
    """Add every page's addresses."""
    for page in PAGES:
        app.add_routes(page.routes)
