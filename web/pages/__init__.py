"""The owner's pages, a module a page. Adding one is a module here, its template, and an entry in :data:`PAGES`."""

from __future__ import annotations

from aiohttp import web

from web.pages import (
    account,
    announcements,
    billing,
    bots,
    broadcasts,
    channels,
    contacts,
    conversations,
    dashboard,
    documents,
    email,
    events,
    guide,
    inbox,
    labels,
    landing,
    leaving,
    letter_texts,
    letters,
    password,
    ready_answers,
    reference,
    referrals,
    requests,
    search,
    second_factor,
    settings,
    setup_bot,
    support,
    team,
    telegram_login,
    templates,
    test_chat,
    test_questions,
    versions,
    views,
    webhooks,
    widget,
)

PAGES = (
    landing,
    guide,
    account,
    email,
    password,
    second_factor,
    leaving,
    telegram_login,
    dashboard,
    bots,
    versions,
    setup_bot,
    test_chat,
    test_questions,
    documents,
    channels,
    widget,
    broadcasts,
    conversations,
    templates,
    labels,
    ready_answers,
    contacts,
    inbox,
    team,
    billing,
    requests,
    referrals,
    support,
    search,
    settings,
    webhooks,
    reference,
    views,
    letters,
    letter_texts,
    announcements,
    events,
)


def setup(app: web.Application) -> None:
    """Add every page's addresses."""
    for page in PAGES:
        app.add_routes(page.routes)
    events.setup(app)
    inbox.setup(app)
    telegram_login.setup(app)
