"""Remote views: an administrator sees the panel as an owner does, for a stated reason and a limited time.

A view belongs to one browser of the administrator's. It changes nothing unless the owner agreed, and even then only what
:func:`may_change` names; secrets are never shown (:func:`may_see`). Every page is noted for the owner to read.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import access, letters, notices, people
from services.errors import Conflict, Invalid, NotFound
from services.i18n import T
from services.paging import PAGE, Page, newest_first, number_of
from services.team import shown_name

MINUTES = (15, 30, 60)
_PATH_CHARS = 300
_view, _page = models.RemoteView, models.RemoteViewPage

# What an owner's consent opens: how their bots are set up, and their conversations. All else stays refused, also what will be
# added one day: password, e-mail, phone, two-step sign-in, tokens and webhooks (/settings), money and payouts (/billing), rights
# of others (/team).
_CHANGES = (
    "/bots/{bot}",
    "/inbox/{conversation}",
    "/inbox/labels",
    "/inbox/replies",
    "/notices/{notice}",
    "/dashboard/steps",
)
# What is refused there all the same: what takes a secret, tells many people something, or cannot be undone.
_NEVER = (
    "/bots/{bot}/key",
    "/bots/{bot}/delete",
    "/bots/{bot}/channels/telegram",
    "/bots/{bot}/channels/whatsapp",
    "/bots/{bot}/channels/instagram",
    "/bots/{bot}/channels/{channel}/disconnect",
    "/bots/{bot}/broadcasts",
)
# Pages that show a secret or take one, or that are the administrator's own.
_UNSEEN = (
    "/admin",
    "/events",
    "/settings/two-step",
    "/settings/email",
    "/settings/delete",
    "/settings/webhooks",
    "/settings/export",
    "/login",
    "/register",
    "/password",
    "/email",
    "/team/join",
)
_FILES = (".csv", ".xlsx", ".zip", ".json")


def _within(path: str, places: Collection[str]) -> bool:
    return any(path == place or path.startswith((f"{place}/", f"{place}.")) for place in places)


def may_see(path: str) -> bool:
    """Tell whether a page may be opened in a view; ``path``: as it was asked for."""
    return not _within(path, _UNSEEN) and "/export" not in path and not path.endswith(_FILES)


def may_change(route: str) -> bool:
    """Tell whether something may be sent to a route in a view to which the owner agreed; ``route``: with its places in braces."""
    return _within(route, _CHANGES) and not _within(route, _NEVER) and not route.endswith("/delete")


@dataclass(frozen=True, slots=True)
class Running:
    """A view that goes on, and into whose panel."""

    view: models.RemoteView
    owner: models.User


async def begin(
    session: AsyncSession,
    admin: models.User,
    browser: str,
    owner: models.User,
    reason: str,
    minutes: int,
    *,
    now: dt.datetime,
) -> models.RemoteView:
    """Begin a view in the administrator's ``browser`` (the id of its session); another one there ends.

    Raises ``Invalid`` without a reason, ``Conflict`` where the owner is blocked: nobody could see the panel as they do.
    """
    why = people.reason(reason)
    if minutes not in MINUTES:
        raise Invalid(T("Choose 15, 30 or 60 minutes."), field="minutes")
    if owner.banned_at is not None:
        raise Conflict(T("This owner is blocked: unblock them first."), code="banned")
    mine = await session.get(models.PanelSession, browser)
    if mine is None or mine.user_id != admin.id:
        raise NotFound
    if mine.view_id is not None:
        await session.execute(
            update(_view).where(_view.id == mine.view_id, _view.ended_at.is_(None)).values(ended_at=now)
        )
    row = _view(
        owner_id=owner.id,
        admin_id=admin.id,
        reason=why,
        created_at=now,
        expires_at=now + dt.timedelta(minutes=minutes),
    )
    session.add(row)
    await session.flush()
    await session.execute(update(models.PanelSession).where(models.PanelSession.id == browser).values(view_id=row.id))
    facts = {"reason": why, "minutes": str(minutes), "view": row.id}
    await access.record(session, admin, "view_begun", "user", owner.id, **facts)
    return row


def runs(view: models.RemoteView, now: dt.datetime) -> bool:
    """Tell whether a view goes on."""
    return view.ended_at is None and view.expires_at > now


async def running(session: AsyncSession, admin: models.User, view_id: str, *, now: dt.datetime) -> Running | None:
    """Return an administrator's view if it goes on; None where it ended by time, by either of the two, or with their rights."""
    row = (
        await session.execute(
            select(_view, models.User)
            .join(models.User, models.User.id == _view.owner_id)
            .where(_view.id == view_id, _view.admin_id == admin.id)
        )
    ).one_or_none()
    if row is None or not admin.is_admin or not runs(row[0], now) or row[1].banned_at is not None or row[1].is_admin:
        return None
    return Running(row[0], row[1])


async def leave(session: AsyncSession, browser: str) -> str | None:
    """Part a browser from its view, which is over; return whose panel it was."""
    mine = await session.get(models.PanelSession, browser)
    if mine is None or mine.view_id is None:
        return None
    view = await session.get(_view, mine.view_id)
    mine.view_id = None
    await session.flush()
    return view.owner_id if view is not None else None


async def end(session: AsyncSession, actor: models.User, view: models.RemoteView, *, now: dt.datetime) -> None:
    """End a view, and write down who did; one that is over stays as it is."""
    over = await session.scalar(
        update(_view).where(_view.id == view.id, _view.ended_at.is_(None)).values(ended_at=now).returning(_view.id)
    )
    await session.execute(
        update(models.PanelSession).where(models.PanelSession.view_id == view.id).values(view_id=None)
    )
    await notices.solve(session, _key(view.id))
    if over is not None:
        await access.record(session, actor, "view_ended", "user", view.owner_id, view=view.id)


def _key(view_id: str) -> str:
    return f"view:{view_id}"


async def ask(session: AsyncSession, admin: models.User, view: models.RemoteView, *, now: dt.datetime) -> None:
    """Ask the owner whether the administrator may change something; asked once a view."""
    asked = await session.scalar(
        update(_view).where(_view.id == view.id, _view.asked_at.is_(None)).values(asked_at=now).returning(_view.id)
    )
    if asked is None:
        raise Conflict(T("The owner has been asked already."), code="asked")
    told = {"name": shown_name(admin), "reason": view.reason}
    await notices.open_notice(session, view.owner_id, "view_asked", key=_key(view.id), params=told)
    params = {"administrator": shown_name(admin), "reason": view.reason, "path": "/settings/views"}
    ends = view.expires_at
    await letters.write(
        session, view.owner_id, "view_asked", key=_key(view.id), now=now, params=params, telegram=False, expires_at=ends
    )
    await access.record(session, admin, "view_asked", "user", view.owner_id, view=view.id)


async def own(session: AsyncSession, owner: models.User, view_id: str) -> models.RemoteView:
    """Return a view of a person's own panel; raises ``NotFound``."""
    row = await session.scalar(select(_view).where(_view.id == view_id, _view.owner_id == owner.id))
    if row is None:
        raise NotFound
    return row


async def answer(
    session: AsyncSession, owner: models.User, view_id: str, agrees: bool, *, now: dt.datetime
) -> models.RemoteView:
    """Let an administrator change something, or not; raises ``Conflict`` where nobody asked or the view is over.

    Who agreed may refuse later: from then on nothing can be changed.
    """
    row = await own(session, owner, view_id)
    if row.asked_at is None or not runs(row, now):
        raise Conflict(T("This view is over, or nobody has asked."), code="over")
    row.agreed_at, row.refused_at = (now, None) if agrees else (None, now)
    await session.flush()
    await notices.solve(session, _key(row.id))
    await access.record(session, owner, "view_agreed" if agrees else "view_refused", "user", owner.id, view=row.id)
    return row


async def note(
    session: AsyncSession, view: models.RemoteView, method: str, path: str, status: int, *, now: dt.datetime
) -> None:
    """Note a page that was opened, or a form that was sent."""
    session.add(_page(view_id=view.id, method=method[:8], path=path[:_PATH_CHARS], status=status, at=now))
    await session.flush()


async def of_owner(
    session: AsyncSession, owner_id: str, *, cursor: str = ""
) -> tuple[Page[models.RemoteView], dict[str, str]]:
    """Return the views of an owner's panel, the newest first, and the administrators' names by id."""
    page = await newest_first(session, select(_view).where(_view.owner_id == owner_id), _view.id, cursor=cursor)
    ids = {view.admin_id for view in page.items if view.admin_id}
    found = await session.scalars(select(models.User).where(models.User.id.in_(ids)))
    return page, {person.id: shown_name(person) for person in found}


async def pages(
    session: AsyncSession, view: models.RemoteView, *, cursor: str = ""
) -> tuple[Sequence[models.RemoteViewPage], str | None]:
    """Return what was opened in a view, the last first, and the cursor of what follows; raises ``Invalid`` as every list."""
    query = select(_page).where(_page.view_id == view.id)
    if cursor:
        query = query.where(_page.id < number_of(cursor))
    rows = (await session.scalars(query.order_by(_page.id.desc()).limit(PAGE + 1))).all()
    return rows[:PAGE], str(rows[PAGE - 1].id) if len(rows) > PAGE else None
