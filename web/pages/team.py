"""The owner's team: who answers customers with them, invitations by link, and the page on which one is accepted."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import notices, qr, team
from services.errors import AppError, Invalid, TooMany
from services.logs import hide
from web import auth, forms, view
from web.pages.account import REGISTRATION, new_account, tell_of
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_BAD_LINKS_IN_15_MIN = 30


def _end_streams(request: web.Request, change: team.Change) -> None:
    """End the event streams of a person whose rights have changed; their pages open new ones by the new rights."""
    for topic in (*change.topics, "seats"):
        core_of(request).bell.ring(topic)


@routes.get("/team")
async def team_page(request: web.Request) -> web.StreamResponse:
    """Show who is in the team and which invitations are open."""
    return await _page(request)


async def _page(
    request: web.Request, *, error: AppError | None = None, values: dict[str, str] | None = None, token: str = ""
) -> web.StreamResponse:
    core, person = core_of(request), auth.user(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
        members = await team.members(session, person)
        invited = await team.invitations(session, person)
        most = await core.allowances.most_people(session, person)
    link = f"{core.settings.public_url}/team/join?token={token}" if token else ""
    return view.render(
        request,
        "pages/team.html",
        status=error.status if error else 200,
        here="team",
        members=members,
        invited=invited,
        most=most,
        values=values or {"name": "", "role": "operator"},
        link=link,
        share=f"https://t.me/share/url?url={quote(link, safe='')}",
        qr=qr.inline(link) if link else "",
        only_here=notices.opens_only_here(core.settings.public_url),
        fault=fault_of(error, request) if error else None,
        **_words(),
        **shared,
    )


def _words() -> dict[str, Any]:
    return {"role_names": team.ROLE_NAMES, "role_tasks": team.ROLE_TASKS}


@routes.post("/team/invitations")
async def invite(request: web.Request) -> web.StreamResponse:
    """Make an invitation and show its link this once. Fields: ``name``, ``role``."""
    core, form = core_of(request), await forms.read(request)
    values = {name: form.fields.get(name, "")[:200] for name in ("name", "role")}
    try:
        async with core.db.write() as session:
            token = await team.invite(
                session,
                auth.user(request),
                form.text("role", 20),
                form.text("name", 1000),
                most=core.settings.limits.members_per_owner,
                plan=core.allowances,
            )
    except AppError as error:
        return await _page(request, error=error, values=values)
    hide(token)
    return await _page(request, token=token)


@routes.post("/team/invitations/{invitation}/withdraw")
@auth.deletion
async def withdraw(request: web.Request) -> web.StreamResponse:
    """Make an invitation's link worthless."""
    async with core_of(request).db.write() as session:
        await team.withdraw(session, auth.user(request), request.match_info["invitation"])
    return view.redirect("/team", toast="invitation_withdrawn")


@routes.post("/team/members/{member}/role")
async def change_role(request: web.Request) -> web.StreamResponse:
    """Change what a member may do. Field: ``role``."""
    form = await forms.read(request)
    async with core_of(request).db.write() as session:
        change = await team.change_role(
            session, auth.user(request), request.match_info["member"], form.text("role", 20)
        )
    _end_streams(request, change)
    return view.redirect("/team", toast="role_changed")


@routes.post("/team/members/{member}/remove")
@auth.deletion
async def remove(request: web.Request) -> web.StreamResponse:
    """Remove a member; whatever they have open of the owner's ends."""
    async with core_of(request).db.write() as session:
        change = await team.remove(session, auth.user(request), request.match_info["member"])
    _end_streams(request, change)
    return view.redirect("/team", toast="member_removed")


@routes.post("/settings/teams/{membership}/leave")
@auth.deletion
async def leave(request: web.Request) -> web.StreamResponse:
    """Leave somebody's team."""
    async with core_of(request).db.write() as session:
        change = await team.leave(session, auth.user(request), request.match_info["membership"])
    _end_streams(request, change)
    return view.redirect("/settings", toast="left")


# Accepting


@routes.get("/team/join")
@auth.public
async def join_page(request: web.Request) -> web.StreamResponse:
    """Show who invites and to what; accepting takes the button, so a messenger's preview does not use the link up."""
    return await _join_page(request, request.query.get("token", "")[:200])


async def _join_page(
    request: web.Request, token: str, *, error: AppError | None = None, values: dict[str, str] | None = None
) -> web.StreamResponse:
    core, person = core_of(request), auth.visitor(request).user
    try:
        async with core.db.read() as session:
            invited = await team.look_at(session, token)
    except Invalid as gone:
        await _count_bad_link(request)
        raise gone from None
    response = view.render(
        request,
        "pages/join.html",
        status=error.status if error else 200,
        token=token,
        invited=invited,
        inviter=team.shown_name(invited.owner),
        own=person is not None and person.id == invited.owner.id,
        person=team.shown_name(person) if person else "",
        values=values or dict.fromkeys(REGISTRATION, ""),
        sign_in=f"/login?next={quote(f'/team/join?token={quote(token)}', safe='/')}",
        factory=core.factory_username,
        fault=fault_of(error, request) if error else None,
        **_words(),
    )
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


@routes.post("/team/join")
@auth.public
async def join(request: web.Request) -> web.StreamResponse:
    """Accept an invitation with the account that is signed in, or with a new one. Fields: ``token``; those of registration."""
    core, form = core_of(request), await forms.read(request)
    token, person = form.secret("token")[:200], auth.visitor(request).user
    try:
        if person is not None:
            async with core.db.write() as session:
                change = await team.accept(session, token, person, plan=core.allowances)
            _end_streams(request, change)
            return view.redirect("/dashboard", toast="joined")
        # Before the password is worked on: whoever invents links shall not have that done.
        async with core.db.read() as session:
            await team.look_at(session, token)

        async def enter(session: AsyncSession, made: models.User) -> None:
            await team.accept(session, token, made, plan=core.allowances)

        made = await new_account(request, form, then=enter)
    except AppError as error:
        if error.code == "invitation":
            await _count_bad_link(request)
            raise
        values = {name: form.fields.get(name, "")[:300] for name in REGISTRATION}
        return await _join_page(request, token, error=tell_of(request, error), values=values)
    await auth.sign_in(request, made)
    return view.redirect("/dashboard", toast="joined")


async def _count_bad_link(request: web.Request) -> None:
    """Slow guessing down, together with that of links that sign in; a good link always works."""
    if not await auth.limit_address(request, "link", _BAD_LINKS_IN_15_MIN, 900):
        raise TooMany(retry_after_s=900)
