"""The chat on the owner's own site: the code to paste, how it looks, and which sites may show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from services import bots, notices, widgets
from services.errors import AppError, NotFound
from web import forms, view
from web.pages.shell import core_of, fault_of, frame, own_bot

routes = web.RouteTableDef()

_ORIGINS_CHARS = 20_000


@routes.get("/bots/{bot}/widget")
async def widget_page(request: web.Request) -> web.StreamResponse:
    """Show the code and the choices, with the chat itself in the corner."""
    return await _page(request)


async def _page(
    request: web.Request, *, error: AppError | None = None, entered: Mapping[str, str] | None = None
) -> web.StreamResponse:
    core = core_of(request)
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        shared = await frame(session, request, bot)
        channel = bots.of_kind(await bots.channels(session, bot), "web")
    values: dict[str, Any] = {}
    look = widgets.look(channel) if channel is not None else widgets.Look()
    if entered is not None:
        values = dict(entered)
    else:
        values = {"color": look.color, "position": look.position, "origins": "\n".join(look.origins)}
        values |= {f"greeting_{language}": look.greetings.get(language, "") for language in bot.languages}
    usual = widgets.Look()
    return view.render(
        request,
        "pages/widget.html",
        status=error.status if error else 200,
        here="channels",
        connected=channel is not None,
        code=f'<script src="{core.settings.public_url}/widget.js" data-bot="{bot.public_id}" async></script>',
        values=values,
        usual={language: usual.greeting(bot, language) for language in bot.languages},
        greeting_chars=widgets.GREETING_CHARS,
        only_here=notices.opens_only_here(core.settings.public_url),
        fault=fault_of(error, request) if error else None,
        **shared,
    )


@routes.post("/bots/{bot}/widget")
async def save_widget(request: web.Request) -> web.StreamResponse:
    """Keep the choices."""
    core = core_of(request)
    async with core.db.read() as session:
        await own_bot(session, request)
    form = await forms.read(request)
    # Shown again where something is wrong, as it was typed.
    typed = {name: value[:_ORIGINS_CHARS] for name, value in form.fields.items() if name != "csrf"}
    entered = {"color": "", "position": "", "origins": "", **typed}
    try:
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            channel = bots.of_kind(await bots.channels(session, bot), "web")
            if channel is None:
                raise NotFound
            given = {
                language: form.fields[f"greeting_{language}"]
                for language in bot.languages
                if f"greeting_{language}" in form.fields
            }
            await widgets.save(
                session,
                channel,
                color=form.text("color", 20),
                position=form.text("position", 20),
                # Of a language that the bot does not speak now, the words stay.
                greetings={**widgets.look(channel).greetings, **given},
                origins=form.text("origins", _ORIGINS_CHARS),
            )
    except NotFound:
        raise
    except AppError as error:
        return await _page(request, error=error, entered=entered)
    return view.redirect(f"/bots/{bot.id}/widget", toast="saved")
