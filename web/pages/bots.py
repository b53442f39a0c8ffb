"""The list of bots, and one bot's settings beside its test chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from aiohttp import web

from db import models
from services import bots, lines, manner, notices, statistics, versions
from services.errors import AppError, Conflict, Invalid
from services.i18n import LANGUAGE_NAMES, T, translate
from services.knowledge import documents
from web import auth, forms, view
from web.pages.shell import core_of, fault_of, frame, own_bot

routes = web.RouteTableDef()


@routes.get("/bots")
async def bot_list(request: web.Request) -> web.StreamResponse:
    """Show every own bot with its state at a glance."""
    core = core_of(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
        if not shared["bots"]:
            return view.redirect("/bots/new")
        numbers = await statistics.by_bot(session, shared["bots"], statistics.period("7", core.now()))
        known = await documents.counts(session, shared["bots"])
        channels: dict[str, list[bots.Connected]] = {}
        for channel in await bots.connected(session, shared["bots"]):
            channels.setdefault(channel.bot_id, []).append(channel)
        limit = await core.allowances.most_bots(session, auth.user(request))
    rows = [
        {"bot": each, "channels": channels.get(each.id, ()), "documents": known[each.id], "numbers": numbers[each.id]}
        for each in shared["bots"]
    ]
    return view.render(request, "pages/bots.html", here="bots", rows=rows, limit=limit, **shared)


@routes.post("/bots")
async def create(request: web.Request) -> web.StreamResponse:
    """Make a bot and go on to give it something to answer from."""
    core = core_of(request)
    form = await forms.read(request)
    try:
        async with core.db.write() as session:
            bot = await bots.create(
                session,
                auth.user(request),
                form.text("name", 1000),
                limits=core.settings.limits,
                plan=core.allowances,
            )
    except AppError as error:
        async with core.db.read() as session:
            shared = await frame(session, request)
        return view.render(
            request,
            "pages/new_bot.html",
            status=error.status,
            here="bots",
            name=form.fields.get("name", "")[:200],
            fault=fault_of(error, request),
            limit=None,
            example=None,
            **shared,
        )
    core.bell.ring("channels")
    return view.redirect(f"/bots/{bot.id}/setup", toast="created")


@routes.get("/bots/{bot}")
async def bot_page(request: web.Request) -> web.StreamResponse:
    """Show a bot's settings with the test chat beside them."""
    return await _settings(request)


LINE_FIELDS = {f"{key}-{code}": (key, code) for key in lines.KEYS for code in lines.LANGUAGES}
LINES: Mapping[str, Any] = {
    "line_keys": lines.KEYS,
    "line_titles": lines.TITLES,
    "line_places": lines.PLACES,
    "line_chars": lines.LINE_CHARS,
    "our_lines": lines.OURS,
}


@routes.get("/bots/{bot}/lines")
async def lines_part(request: web.Request) -> web.StreamResponse:
    """Return only the fields of the bot's own lines, for the page to put into its form."""
    async with core_of(request).db.read() as session:
        bot = await own_bot(session, request)
    values = bot.draft or published_words(bot)
    return view.part(request, "pages/_lines.html", f"/bots/{bot.id}?lines=1#own-lines", bot=bot, values=values, **LINES)


async def _settings(
    request: web.Request,
    *,
    values: dict[str, Any] | None = None,
    hours: dict[str, list[str]] | None = None,
    silent_text: str | None = None,
    return_after: int | None = None,
    error: AppError | None = None,
    sent: versions.Form = "words",
    theirs: Sequence[versions.Change] = (),
    lines_sent: bool = False,
    typed: str = "",
) -> web.StreamResponse:
    """Show the page; what is given stands in its forms as it was sent, with the bot's lines if those were in it.

    ``sent``: the form that was; ``theirs``: what another saved instead of it; ``typed``: the name that was to confirm its end.
    """
    core = core_of(request)
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        shared = await frame(session, request, bot)
        kept = await versions.count(session, bot)
        ready = any(document.status == "ready" for document in await documents.list_for(session, bot))
        connected = await bots.channels(session, bot)
        refused = await notices.own_key_trouble(session, bot)
    people, language = manner.manner_of(bot.settings), auth.visitor(request).language
    published = published_words(bot)
    values = values or bot.draft or published
    return view.render(
        request,
        "pages/bot.html",
        status=error.status if error else 200,
        here="settings",
        values=values,
        draft=bot.draft is not None,
        words=True,
        kept=kept,
        seen={form: versions.mark(bot, form) for form in ("words", "manner")},
        sent=sent,
        typed=typed,
        theirs=theirs,
        titles=versions.FIELDS,
        described=lambda change: versions.described(change, partial(in_words, language)),
        show_lines="lines" in request.query or lines_sent,
        **LINES,
        line_fields=LINE_FIELDS,
        fault=fault_of(error, request) if error else None,
        limits=core.settings.limits,
        key_trouble=bot.openai_key is not None and (refused or not core.crypto.opens(bot.openai_key)),
        own_model=core.settings.ai.own_key.model,
        has_models=core.has_models({}),
        ready=ready,
        web_chat=bots.of_kind(connected, "web") is not None,
        days=manner.DAYS,
        hours=hours if hours is not None else manner.shown(people),
        silent_text=silent_text if silent_text is not None else people.silent_text,
        silent_chars=manner.SILENT_CHARS,
        day_names=view.day_names(language),
        returns=[(n, view.minutes(n, language)) for n in sorted({*manner.RETURNS, people.return_after_min} - {0})],
        return_after=people.return_after_min if return_after is None else return_after,
        **shared,
    )


@routes.post("/bots/{bot}")
async def save(request: web.Request) -> web.StreamResponse:
    """Publish the bot's words: name, instructions, languages and its own lines; ``do=draft`` keeps them for later.

    No other field of the form counts.
    """
    core = core_of(request)
    form = await forms.read(request)
    before: models.BotVersion | None = None
    as_draft = form.text("do", 10) == "draft"
    theirs: Sequence[versions.Change] = ()
    values: dict[str, Any] = {
        "name": form.fields.get("name", "")[:200],
        "system_prompt": form.fields.get("system_prompt", "")[:20_000],
        "languages": form.all("languages"),
        "lines": {},
    }
    try:
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            await versions.hold(session, bot)
            values["lines"] = lines_in(form, bot)
            given = given_words(form, bot)
            words, saved = bots.draft_of(bot, **given, limits=core.settings.limits), bot.draft or published_words(bot)
            theirs = versions.differences(words, saved)
            if theirs and form.text("seen", 40) not in ("", versions.mark(bot, "words")):
                raise Conflict(versions.OVERTAKEN, code="changed")
            if as_draft:
                await versions.keep_draft(session, bot, None if words == published_words(bot) else words)
            else:
                before = await bots.update(session, bot, **given, limits=core.settings.limits, actor=auth.user(request))
                await versions.keep_draft(session, bot, None)
    except AppError as error:
        if error.status == 404:
            raise
        return await _settings(
            request,
            values=values,
            error=error,
            theirs=theirs if error.code == "changed" else (),
            lines_sent=any(name in form.fields for name in LINE_FIELDS),
        )
    core.bell.ring("channels")
    following = auth.safe_next(form.text("next"), f"/bots/{bot.id}")
    if as_draft:
        return view.redirect(following, toast="draft_saved")
    return view.redirect(following, toast="saved", undo=undo_of(bot, before))


def in_words(language: str, field: str, value: Any) -> str:
    """Return a field of a version as people read it."""
    if field == "languages":
        return ", ".join(LANGUAGE_NAMES.get(code, code) for code in value)
    if field == "hours":
        days = manner.shown(manner.manner_of({"hours": value}))
        names = dict(zip(manner.DAYS, view.day_names(language), strict=True))
        return "\n".join(f"{names[day]}: {opens}–{closes}" for day, (opens, closes) in days.items())
    if field == "return_after_min":
        if not value:
            return translate(language, "only when you give the conversation back")
        return translate(language, "{time} after your last message", time=view.minutes(int(value), language))
    return str(value)


def undo_of(bot: models.Bot, before: models.BotVersion | None) -> tuple[str, ...]:
    """Return what takes a change of a bot's words back: the version that held before it."""
    return (bot.id, str(before.number)) if before is not None else ()


def published_words(bot: models.Bot) -> dict[str, Any]:
    """Return the words that customers get, as a draft keeps them."""
    return {
        "name": bot.name,
        "system_prompt": bot.system_prompt,
        "languages": list(bot.languages),
        "lines": lines.kept(bot.settings),
    }


def lines_in(form: forms.Form, bot: models.Bot) -> lines.Lines:
    """Return the bot's own lines as a form holds them; a form without such fields leaves them as it showed them."""
    if not any(name in form.fields for name in LINE_FIELDS):
        shown: lines.Lines = (bot.draft or published_words(bot))["lines"]
        return shown
    given: dict[str, dict[str, str]] = {}
    for name, (key, code) in LINE_FIELDS.items():
        given.setdefault(key, {})[code] = form.text(name, 5000).replace("\r\n", "\n")
    return given


def given_words(form: forms.Form, bot: models.Bot) -> dict[str, Any]:
    """Return a bot's words as a form holds them, not checked yet."""
    return {
        "name": form.text("name", 1000),
        "system_prompt": form.text("system_prompt", 110_000).replace("\r\n", "\n"),
        "languages": form.all("languages"),
        "own_lines": lines_in(form, bot),
    }


@routes.post("/bots/{bot}/draft/discard")
@auth.deletion
async def discard_draft(request: web.Request) -> web.StreamResponse:
    """Forget the words that are not published."""
    async with core_of(request).db.write() as session:
        bot = await own_bot(session, request)
        await versions.keep_draft(session, bot, None)
    return view.redirect(f"/bots/{bot.id}", toast="draft_gone")


@routes.post("/bots/{bot}/start")
async def start(request: web.Request) -> web.StreamResponse:
    """Let the bot answer."""
    return await _switch(request, on=True)


@routes.post("/bots/{bot}/stop")
async def stop(request: web.Request) -> web.StreamResponse:
    """Let the bot rest."""
    return await _switch(request, on=False)


async def _switch(request: web.Request, *, on: bool) -> web.StreamResponse:
    core = core_of(request)
    async with core.db.write() as session:
        bot = await own_bot(session, request)
        await (bots.start if on else bots.stop)(session, bot)
    core.bell.ring("channels")
    following = auth.safe_next((await forms.read(request)).text("next"), f"/bots/{bot.id}")
    return view.redirect(following, toast="started" if on else "stopped", undo=(bot.id,))


@routes.post("/bots/{bot}/people")
async def people(request: web.Request) -> web.StreamResponse:
    """Change when people answer, when the bot takes a talk back and what is said where the plan lets it answer nothing.

    Fields: ``mon_from``, ``mon_to`` …, ``return_after_min``, ``silent_text``.
    """
    core = core_of(request)
    form = await forms.read(request)
    theirs: Sequence[versions.Change] = ()
    given = {day: (form.text(f"{day}_from", 10), form.text(f"{day}_to", 10)) for day in manner.DAYS}
    after, silent_text = form.text("return_after_min", 10), form.text("silent_text", 1000)
    try:
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            await versions.hold(session, bot)
            if not (after.isascii() and after.isdigit()):
                raise Invalid(T("Choose one of the times."), field="return_after_min")
            was, seen = versions.content_of(bot), versions.mark(bot, "manner")
            before = await bots.set_manner(
                session,
                bot,
                hours=given,
                return_after_min=int(after),
                silent_text=silent_text,
                actor=auth.user(request),
            )
            theirs = versions.changes(versions.content_of(bot), was)
            if theirs and form.text("seen", 40) not in ("", seen):
                raise Conflict(versions.OVERTAKEN, code="changed")
    except (Invalid, Conflict) as error:
        shown = {day: list(pair) for day, pair in given.items()}
        chosen = int(after) if after.isascii() and after.isdigit() else None
        return await _settings(
            request,
            hours=shown,
            silent_text=silent_text,
            return_after=chosen,
            error=error,
            sent="manner",
            theirs=theirs if error.code == "changed" else (),
        )
    core.bell.ring("channels")
    return view.redirect(f"/bots/{bot.id}", toast="saved", undo=undo_of(bot, before))


@routes.post("/bots/{bot}/key")
async def own_key(request: web.Request) -> web.StreamResponse:
    """Keep or remove the owner's own OpenAI key; it is never shown again."""
    core = core_of(request)
    form = await forms.read(request)
    remove = bool(form.text("remove"))
    try:
        async with core.db.write() as session:
            bot = await own_bot(session, request, "own")
            await bots.set_openai_key(session, bot, None if remove else form.secret("openai_key"), core.crypto)
    except Invalid as error:
        return await _settings(request, error=error)
    core.bell.ring("channels")
    return view.redirect(f"/bots/{bot.id}", toast="key_removed" if remove else "key_saved")


@routes.post("/bots/{bot}/delete")
@auth.deletion
async def delete(request: web.Request) -> web.StreamResponse:
    """Delete a bot whose name was typed."""
    core = core_of(request)
    form = await forms.read(request)
    try:
        async with core.db.write() as session:
            bot = await own_bot(session, request, "own")
            if " ".join(form.text("confirm").split()) != bot.name:
                raise Invalid(T("Type the bot’s name exactly as it is written."), field="confirm")
            await bots.delete(session, bot, actor=auth.user(request))
    except Invalid as error:
        return await _settings(request, error=error, typed=form.fields.get("confirm", "")[:300])
    core.bell.ring("channels")
    core.bell.ring("jobs")
    return view.redirect("/bots", toast="deleted")
