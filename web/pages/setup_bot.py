"""The first run: name a bot, give it a document, try it, share it. One flow, one page a bot."""

from __future__ import annotations

from aiohttp import web

from services import bots, samples
from services.errors import AppError
from services.knowledge import documents
from web import auth, view
from web.pages.documents import document_rows
from web.pages.shell import core_of, fault_of, frame, own_bot

routes = web.RouteTableDef()


@routes.get("/bots/new")
async def new_bot(request: web.Request) -> web.StreamResponse:
    """Ask for the one thing that is needed: a name. Whoever wants to see first what comes of it takes the example."""
    return await _new_bot(request)


async def _new_bot(request: web.Request, error: AppError | None = None) -> web.StreamResponse:
    core = core_of(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
        example = await samples.find(session, auth.user(request), auth.visitor(request).language)
        limit = await core.allowances.most_bots(session, auth.user(request))
    return view.render(
        request,
        "pages/new_bot.html",
        status=error.status if error else 200,
        here="bots",
        name="",
        limit=limit,
        example=example,
        fault=fault_of(error, request) if error else None,
        **shared,
    )


@routes.post("/bots/example")
async def example(request: web.Request) -> web.StreamResponse:
    """Make the example in the person's language, or find the one made before, and go on to trying it."""
    core = core_of(request)
    try:
        async with core.db.write() as session:
            bot = await samples.open_example(
                session,
                auth.user(request),
                auth.visitor(request).language,
                limits=core.settings.limits,
                max_bytes=core.settings.knowledge.max_file_bytes,
                plan=core.allowances,
            )
    except AppError as error:
        return await _new_bot(request, error)
    core.bell.ring("channels")
    core.bell.ring("jobs")
    return view.redirect(f"/bots/{bot.id}/setup")


@routes.get("/bots/{bot}/setup")
async def setup_page(request: web.Request) -> web.StreamResponse:
    """Show the remaining steps of a new bot with its chat beside them; of the example, what to ask it."""
    core = core_of(request)
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        shared = await frame(session, request, bot)
        files = await documents.list_for(session, bot)
        channels = await bots.channels(session, bot)
        is_example = bot.id in await samples.examples(session, auth.user(request))
    language = auth.visitor(request).language
    return view.render(
        request,
        "pages/setup.html",
        here="settings",
        documents=document_rows(files, language),
        limit=core.settings.limits.documents_per_bot,
        questions=samples.questions(files, language) if is_example else [],
        ready=any(file.status == "ready" for file in files),
        telegram=bots.of_kind(channels, "telegram") is not None,
        web_chat=bots.of_kind(channels, "web") is not None,
        max_mib=core.settings.knowledge.max_file_mib,
        **shared,
    )
