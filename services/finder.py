"""The search box of the panel: what a person may open, found by a few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
}
ADMIN_PAGES: Mapping[str, Text] = {
    "/admin/owners": T("Owners"),
    "/admin/support": T("Support"),
    "/admin/requests": T("Requests"),
    "/admin/payments": T("Payments"),
    "/admin/coupons": T("Coupons"),
    "/admin/payouts": T("Payouts"),
    "/admin/texts": T("Texts of letters"),
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


def _pages(user: models.User, words: str, language: str) -> list[tuple[str, str]]:
    known = {**PAGES, **ADMIN_PAGES} if user.is_admin else PAGES
    titles = (
        (path, title.render(language)) for path, title in known.items() if not (user.is_admin and path == "/support")
    )
    return [(path, title) for path, title in titles if words in title.casefold()][:_SHOWN]


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
        _pages(user, words, language),
        [bot for bot in answered if words in bot.name.casefold()][:_SHOWN],
        talks.items,
        [(each, managed[each.bot_id]) for each in documents],
        owners,
        payments,
    )
