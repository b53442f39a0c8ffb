"""A bot's test questions: kept, asked again after a change, and what became better or worse."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import trials
from services.errors import AppError
from web import auth, forms, view
from web.pages.shell import core_of, fault_of, frame, own_bot

routes = web.RouteTableDef()


@routes.get("/bots/{bot}/tests")
async def tests_page(request: web.Request) -> web.StreamResponse:
    """Show the questions and the latest run, or the one that ``?run=`` names."""
    return await _page(request)


async def _page(
    request: web.Request, *, error: AppError | None = None, values: dict[str, str] | None = None, changing: str = ""
) -> web.StreamResponse:
    async with core_of(request).db.read() as session:
        bot = await own_bot(session, request)
        shared = await frame(session, request, bot)
        asked = await trials.list_for(session, bot)
        shown = await _results(session, request, bot)
    return view.render(
        request,
        "pages/tests.html",
        status=error.status if error else 200,
        here="tests",
        questions=asked,
        most=trials.MOST,
        values=values or {"question": "", "expected": ""},
        changing=changing,
        fault=fault_of(error, request) if error else None,
        **shared,
        **shown,
    )


async def _results(session: AsyncSession, request: web.Request, bot: models.Bot) -> dict[str, Any]:
    named = request.query.get("run", "")[:26] if request.method == "GET" else ""
    report, runs = await trials.compared(session, bot, named)
    latest = runs[0] if runs else None
    return {"report": report, "runs": runs, "named": named, "outdated": trials.outdated(latest, bot)}


@routes.get("/bots/{bot}/tests/results")
async def results(request: web.Request) -> web.StreamResponse:
    """Return only the results, for the page to put in place while the questions are asked."""
    async with core_of(request).db.read() as session:
        bot = await own_bot(session, request)
        shown = await _results(session, request, bot)
        count = await trials.count_for(session, bot)
    return view.part(request, "pages/_tests.html", f"/bots/{bot.id}/tests", bot=bot, count=count, **shown)


@routes.post("/bots/{bot}/tests")
async def add(request: web.Request) -> web.StreamResponse:
    """Add a test question."""
    return await _keep(request)


@routes.post("/bots/{bot}/tests/run")
async def run(request: web.Request) -> web.StreamResponse:
    """Ask all test questions."""
    core = core_of(request)
    try:
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            await trials.start(session, bot, core.allowances)
    except AppError as error:
        if error.status == 404:
            raise
        return await _page(request, error=error)
    core.bell.ring("jobs")
    return view.redirect(f"/bots/{bot.id}/tests")


@routes.post("/bots/{bot}/tests/import")
async def bring_in(request: web.Request) -> web.StreamResponse:
    """Add questions that customers asked: open ones (``source`` = ``unanswered``), or answered ones."""
    core = core_of(request)
    form = await forms.read(request)
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        asked = await trials.asked_by_customers(session, bot)
    if form.text("source", 20) == "unanswered":
        asked = await trials.open_questions(core, bot)
    async with core.db.write() as session:
        bot = await own_bot(session, request)
        added = await trials.bring_in(session, bot, asked)
    return view.redirect(f"/bots/{bot.id}/tests", toast="tests_added" if added else "tests_none")


@routes.post("/bots/{bot}/tests/{test}")
async def change(request: web.Request) -> web.StreamResponse:
    """Correct a test question."""
    return await _keep(request, changing=request.match_info["test"])


async def _keep(request: web.Request, *, changing: str = "") -> web.StreamResponse:
    form = await forms.read(request)
    try:
        async with core_of(request).db.write() as session:
            bot = await own_bot(session, request)
            row = await trials.get(session, bot, changing) if changing else None
            question, expected = (
                form.text("question", trials.QUESTION_CHARS),
                form.text("expected", trials.EXPECTED_CHARS),
            )
            if row is not None:
                await trials.change(session, row, question, expected)
            else:
                await trials.add(session, bot, question, expected)
    except AppError as error:
        if error.status == 404:
            raise
        values = {name: form.fields.get(name, "")[: trials.QUESTION_CHARS] for name in ("question", "expected")}
        return await _page(request, error=error, values=values, changing=changing)
    return view.redirect(f"/bots/{bot.id}/tests", toast="saved")


@routes.post("/bots/{bot}/tests/{test}/delete")
@auth.deletion
async def delete(request: web.Request) -> web.StreamResponse:
    """Delete a test question."""
    async with core_of(request).db.write() as session:
        bot = await own_bot(session, request)
        await trials.delete(session, await trials.get(session, bot, request.match_info["test"]))
    return view.redirect(f"/bots/{bot.id}/tests", toast="test_deleted")
