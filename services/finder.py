"""The search box of the panel: what a person may open, found by a few words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import bots, naming
from services.conversations import ConversationRow, desk
from services.i18n import T, Text
from services.text import one_line

TEXT_CHARS = 100
_SHOWN = 6
_LEAST = 2
_BOTS_SEARCHED = 200
PAGES: Mapping[str, Text] = {
    "/dashboard": T("Home"),
    "/bots": T("Bots"),
    "/inbox": T("Conversations"),
    "/inbox/replies": T("Ready answers"),
    "/inbox/labels": T("Labels"),
    "/billing": T("Plan and payments"),
    "/billing/referrals": T("Invite and earn"),
    "/billing/request": T("Request access"),
    "/team": T("Team"),
    "/support": T("Help and support"),
    "/settings": T("My account"),
    "/settings/two-step": T("Two-step sign-in"),
    "/settings/webhooks": T("Integrations"),
    "/settings/views": T("Who looked at my panel"),
    "/settings/delete": T("Your data"),
}
# Who only answers for others has nothing to do with the rest.
_FOR_OPERATORS = ("/dashboard", "/inbox", "/support", "/settings")
BOT_PAGES: Mapping[str, Text] = {
    "": T("Set up and try"),
    "/versions": T("Versions"),
    "/documents": T("Knowledge"),
    "/tests": T("Test questions"),
    "/channels": T("Channels"),
    "/widget": T("Chat on your site"),
    "/broadcasts": T("Broadcasts"),
}
"""Of each bot, below its address."""
ADMIN_PAGES: Mapping[str, Text] = {
    "/admin/statistics": T("Statistics"),
    "/admin/owners": T("Owners"),
    "/admin/conversations": T("All conversations"),
    "/admin/files": T("All files"),
    "/admin/channels": T("All integrations"),
    "/admin/support": T("Support"),
    "/admin/requests": T("Requests"),
    "/admin/payments": T("Payments"),
    "/admin/coupons": T("Coupons"),
    "/admin/payouts": T("Payouts"),
    "/admin/announcements": T("Announcements"),
    "/admin/texts": T("Texts of letters"),
    "/admin/texts/notices": T("Texts of notices"),
    "/admin/models": T("Models and costs"),
    "/admin/system": T("System"),
    "/admin/audit": T("Audit log"),
}


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found, a few of each kind. ``pages``: address and title."""

    pages: Sequence[tuple[str, str]] = ()
    bots: Sequence[models.Bot] = ()
    talks: Sequence[ConversationRow] = ()
    documents: Sequence[tuple[models.Document, models.Bot]] = ()
    owners: Sequence[models.User] = ()
    payments: Sequence[models.Payment] = ()

    def __bool__(self) -> bool:
        return any((self.pages, self.bots, self.talks, self.documents, self.owners, self.payments))


def _pages(
    user: models.User, words: str, language: str, managed: Collection[models.Bot], answers_only: bool
) -> list[tuple[str, str]]:
    """Return the pages whose title holds the words: a bot's own with its name, those of the first bots."""
    known = {**PAGES, **ADMIN_PAGES} if user.is_admin else PAGES
    titles = [
        (path, title.render(language), "")
        for path, title in known.items()
        if not (user.is_admin and path == "/support") and not (answers_only and not path.startswith(_FOR_OPERATORS))
    ]
    for bot in managed:
        titles += [
            (f"/bots/{bot.id}{path}", title.render(language), f" · {bot.name}") for path, title in BOT_PAGES.items()
        ]
    # The bot's name alone names the bot, not all of its pages.
    return [(path, title + of) for path, title, of in titles if words in title.casefold()][:_SHOWN]


async def find(session: AsyncSession, user: models.User, text: str, language: str) -> Findings:
    """Return what fits a text of two letters or more among what this person may open."""
    text = one_line(text, TEXT_CHARS)
    words = text.casefold()
    if len(words) < _LEAST:
        return Findings()
    answered = await bots.list_for(session, user, "talk")
    managed = {bot.id: bot for bot in await bots.list_for(session, user)}
    document = models.Document
    named = (
        select(document)
        .where(
            document.bot_id.in_(list(managed)[:_BOTS_SEARCHED]),
            document.deleted_at.is_(None),
            document.name.icontains(text, autoescape=True),
        )
        .order_by(document.id.desc())
        .limit(_SHOWN)
    )
    documents = (await session.scalars(named)).all() if managed else []
    talks = await desk.list_for(session, user, answered, desk.Filters(q=text), limit=_SHOWN)
    owners: Sequence[models.User] = ()
    payments: Sequence[models.Payment] = ()
    if user.is_admin:
        user_ids = await naming.ids_called(session, text, _SHOWN)
        owners = (await session.scalars(select(models.User).where(models.User.id.in_(user_ids)))).all()
        if text.isascii() and text.isdigit():
            payment = models.Payment
            payments = (await session.scalars(select(payment).where(payment.number == text).limit(1))).all()
    return Findings(
        _pages(user, words, language, managed.values(), bool(answered) and not managed),
        [bot for bot in answered if words in bot.name.casefold()][:_SHOWN],
        talks.items,
        [(each, managed[each.bot_id]) for each in documents],
        owners,
        payments,
    )
