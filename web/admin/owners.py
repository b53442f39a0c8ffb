"""Owners and what each has: granting, moving the end, changing and ending a plan by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import access, payment_texts, people, plans, referrals, requests, subscriptions
from services.errors import AppError, Invalid
from services.i18n import T, Text, translate
from services.letters import KINDS, bounced, texts
from web import auth, forms, view
from web.admin import lists
from web.admin.requests import GRANT_FIELDS, price_tiyin, tell
from web.admin.shell import administrator
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_DAYS_CHARS = 6


_FILTERS = ("q", "state", "plan", "bots", "since", "until")


def _filters(typed: Mapping[str, str]) -> people.Filters:
    """Return the filters that were typed; raises ``Invalid``."""
    return people.Filters(typed["q"], typed["state"], typed["plan"], typed["bots"], *lists.days(typed))


@routes.get("/admin/owners")
async def page(request: web.Request) -> web.StreamResponse:
    """List the owners that the filters of the address leave."""
    administrator(request)
    core, language = core_of(request), auth.visitor(request).language
    asked = lists.asked(request, _FILTERS, _filters)
    async with core.db.read() as session:
        shared = await frame(session, request)
        found = await people.find(session, core.settings, asked.filters, now=core.now(), cursor=asked.cursor)
    return view.render(
        request,
        "admin/owners.html",
        here="admin-owners",
        page=found,
        states=[(key, text.render(language)) for key, text in people.CHOICES.items()],
        plans=[(key, payment_texts.plan(core.settings, key, language)) for key in plans.for_sale(core.settings)],
        state_name=lambda state: people.STATES[state].render(language),
        plan_title=lambda key: payment_texts.plan(core.settings, key, language),
        **asked.shown(request),
        **shared,
    )


@routes.get("/admin/owners/export.{table:csv|xlsx}")
async def export(request: web.Request) -> web.StreamResponse:
    """Send the filtered owners as a table for other programs."""
    person, core = administrator(request), core_of(request)
    asked = lists.asked(request, _FILTERS, _filters, strict=True)
    async with core.db.write() as session:
        await access.record(session, person, "owners_exported", "user", "", **asked.given)
    language = auth.visitor(request).language
    parts = people.table(core.db, core.settings, asked.filters, language, now=core.now())
    return await lists.send(request, parts, "owners", T("Owners"))


@routes.get("/admin/owners/{owner}/plan")
async def plan_page(request: web.Request) -> web.StreamResponse:
    """Show what one owner has, and the forms that change it."""
    administrator(request)
    return await _plan(request)


async def _plan(
    request: web.Request, *, error: AppError | None = None, values: dict[str, str] | None = None, form: str = ""
) -> web.StreamResponse:
    core, language = core_of(request), auth.visitor(request).language
    now = core.now()
    async with core.db.read() as session:
        shared = await frame(session, request)
        owner = await requests.owner(session, request.match_info["owner"])
        line = await subscriptions.timeline(session, core.settings, owner)
        spans = await subscriptions.spans(session, owner.id)
        asked = await requests.pending_of(session, owner)
        log = await requests.history(session, owner.id)
        partner = await referrals.account(session, owner.id, now=now)
        written = await bounced.last_letters(session, owner.id)
    return view.render(
        request,
        "admin/owner_plan.html",
        status=error.status if error else 200,
        here="admin-owners",
        owner=owner,
        standing=line.at(now),
        spans=spans,
        # What has ended can go on; nothing else can be done with it.
        has_ended=not line.at(now).paid_until and any(span.revoked_at is None for span in spans),
        now=now,
        asked=asked,
        log=[(row, who, requests.ACTIONS[row.action].render(language)) for row, who in log],
        partner=partner,
        letters=[(letter, subject_of(letter, language), ways_of(letter, language)) for letter in written],
        on_sale=plans.for_sale(core.settings),
        periods=plans.PERIODS,
        plan_title=lambda key: payment_texts.plan(core.settings, key, language),
        period_name=lambda key: payment_texts.period(key, language),
        standing_name=lambda status: requests.STANDINGS[status].render(language),
        values=values or {},
        sent=form,
        fault=fault_of(error, request) if error else None,
        **shared,
    )


_ARRIVED: Mapping[str, Text] = {
    "new": T("waits"),
    "sent": T("sent"),
    "failed": T("not sent"),
    "unsure": T("perhaps sent"),
    "bounced": T("came back"),
}
"""What became of a letter on one way."""


def subject_of(letter: models.Letter, language: str) -> str:
    return texts.subject(letter.kind, language, letter.params) if letter.kind in KINDS else letter.kind


def ways_of(letter: models.Letter, language: str) -> list[str]:
    """Return what became of a letter on each way that it takes."""
    ways = (translate(language, "Mail"), letter.mail), ("Telegram", letter.telegram)
    return [f"{way}: {_ARRIVED[state].render(language)}" for way, state in ways if state in _ARRIVED]


async def _done(
    request: web.Request,
    form: forms.Form,
    name: str,
    toast: str,
    step: Callable[[AsyncSession], Awaitable[object]],
) -> web.StreamResponse:
    """Do one step with an owner's plan and show the owner again."""
    owner_id = request.match_info["owner"]
    try:
        async with core_of(request).db.write() as session:
            await requests.owner(session, owner_id)
            await step(session)
    except AppError as error:
        if error.status == 404:
            raise
        values = {key: form.fields.get(key, "")[:500] for key in (*GRANT_FIELDS, "days")}
        return await _plan(request, error=error, values=values, form=name)
    tell(request)
    return view.redirect(f"/admin/owners/{owner_id}/plan", toast=toast)


@routes.post("/admin/owners/{owner}/plan/grant")
async def grant(request: web.Request) -> web.StreamResponse:
    """Give an owner a plan. Fields: ``plan``, ``period``, ``price`` (so'm), ``price_note``, ``answer``, ``basis``."""
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)

    async def step(session: AsyncSession) -> None:
        await requests.give(
            session,
            core.settings,
            person,
            request.match_info["owner"],
            form.text("plan", 40),
            form.text("period", 40),
            price_tiyin=price_tiyin(form),
            price_note=form.text("price_note", 300),
            answer=form.text("answer", requests.ANSWER_CHARS),
            basis=form.basis(),
            now=core.now(),
        )

    return await _done(request, form, "grant", "granted", step)


@routes.post("/admin/owners/{owner}/plan/extend")
async def extend(request: web.Request) -> web.StreamResponse:
    """Move the end of what an owner has. Fields: ``days``, back if negative, ``answer``, ``basis``."""
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)

    async def step(session: AsyncSession) -> None:
        owner_id, answer = request.match_info["owner"], form.text("answer", requests.ANSWER_CHARS)
        days, basis = _days(form), form.basis()
        await requests.extend(
            session, core.settings, person, owner_id, days, answer=answer, basis=basis, now=core.now()
        )

    return await _done(request, form, "extend", "plan_moved", step)


def _days(form: forms.Form) -> int:
    typed = form.text("days", 100).strip().replace("\N{MINUS SIGN}", "-")
    digits = typed.removeprefix("-").removeprefix("+")
    if not digits.isascii() or not digits.isdigit() or len(typed) > _DAYS_CHARS:
        raise Invalid(T("Enter a number of days, for example 30 or -5."), field="days")
    return int(typed)


@routes.post("/admin/owners/{owner}/plan/change")
async def change(request: web.Request) -> web.StreamResponse:
    """Make the rest of what an owner has time of another plan. Fields: ``plan``, ``answer``, ``basis``."""
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)

    async def step(session: AsyncSession) -> None:
        owner_id, answer = request.match_info["owner"], form.text("answer", requests.ANSWER_CHARS)
        plan, basis = form.text("plan", 40), form.basis()
        await requests.change(
            session, core.settings, person, owner_id, plan, answer=answer, basis=basis, now=core.now()
        )

    return await _done(request, form, "change", "plan_changed", step)


@routes.post("/admin/owners/{owner}/plan/revoke")
async def revoke(request: web.Request) -> web.StreamResponse:
    """End all that an owner has. Fields: ``answer``, which the owner receives, and ``basis``."""
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)

    async def step(session: AsyncSession) -> None:
        answer, owner_id = form.text("answer", requests.ANSWER_CHARS), request.match_info["owner"]
        await requests.revoke(session, person, owner_id, answer, basis=form.basis(), now=core.now())

    return await _done(request, form, "revoke", "plan_taken", step)


@routes.post("/admin/owners/{owner}/mail")
async def write_again(request: web.Request) -> web.StreamResponse:
    """Let letters go again to an address from which they came back."""
    person = administrator(request)
    form = await forms.read(request)

    async def step(session: AsyncSession) -> None:
        await bounced.retry(session, person, request.match_info["owner"])

    return await _done(request, form, "mail", "mail_retried", step)
