"""Messages to many customers: the list, writing and trying one, who gets it, sending, and what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from services import broadcasts, templates
from services.broadcasts import Audience, Draft
from services.channel_names import channel_name
from services.conversations import marks
from services.core import Core
from services.days import TASHKENT
from services.errors import AppError, Conflict, Invalid, NotFound, TooMany
from services.i18n import CATALOGS, LANGUAGE_NAMES, T, translate
from services.sheets import ROWS_AT_ONCE, Cell
from web import auth, forms, tables, view
from web.pages.shell import core_of, fault_of, frame, own_bot
from web.pages.templates import chosen_of, may_list, typed_into

routes = web.RouteTableDef()

_TESTS_A_MINUTE = 10
_WORDS = (*(f"text_{code}" for code in CATALOGS), "title")
_TYPED = ("seen", "days", *_WORDS)


def _words(request: web.Request) -> dict[str, Any]:
    """Return what names things in the templates of broadcasts."""
    language = auth.visitor(request).language
    return {
        "states": broadcasts.STATES,
        "fates": broadcasts.FATES,
        "reasons": broadcasts.REASONS,
        "pauses": broadcasts.PAUSES,
        "channel_title": lambda kind: channel_name(kind, language),
    }


@routes.get("/bots/{bot}/broadcasts")
async def list_page(request: web.Request) -> web.StreamResponse:
    """Show a bot's broadcasts, the latest first."""
    cursor = request.query.get("cursor", "")[:26]
    async with core_of(request).db.read() as session:
        bot = await own_bot(session, request)
        page = await broadcasts.list_for(session, bot, cursor=cursor)
        shared = await frame(session, request, bot)
    return view.render(
        request, "pages/broadcasts.html", here="broadcasts", page=page, first=not cursor, **_words(request), **shared
    )


# Writing one


def _typed(form: forms.Form) -> dict[str, Any]:
    """Return what stands in the form, to be shown again."""
    values: dict[str, Any] = {name: form.fields.get(name, "")[:8000] for name in _TYPED}
    return values | {name: form.all(name) for name in ("channels", "languages", "labels")}


def _draft(values: Mapping[str, Any], template: Mapping[str, Any] | None = None) -> Draft:
    days = str(values["days"]).strip()
    audience = Audience(
        tuple(values["channels"]),
        tuple(values["languages"]),
        tuple(values["labels"]),
        str(values["seen"]),
        int(days) if values["seen"] and days.isascii() and days.isdigit() and len(days) < 6 else 0,
    )
    texts = {code: str(values[f"text_{code}"]).replace("\r\n", "\n") for code in CATALOGS}
    return Draft(texts, audience, str(values["title"]), template)


def _values_of(found: models.Broadcast | None) -> dict[str, Any]:
    if found is None:
        return dict.fromkeys(_TYPED, "") | {"channels": (), "languages": (), "labels": ()}
    audience = Audience.of(found)
    return {
        "title": found.title,
        "seen": audience.seen,
        "days": str(audience.days or ""),
        "channels": audience.channels,
        "languages": audience.languages,
        "labels": audience.labels,
        **{f"text_{code}": found.texts.get(code, "") for code in CATALOGS},
    }


def _saved(
    found: models.Broadcast | None, typed: Mapping[str, Any] | None
) -> tuple[Mapping[str, str], Audience | None]:
    """Return what of a draft is saved otherwise than somebody typed it: its words, and its audience if that differs."""
    if found is None or typed is None:
        return {}, None
    saved, meant = _values_of(found), Audience.of(found)
    words = {name: saved[name] for name in _WORDS if saved[name] != str(typed[name]).replace("\r\n", "\n").strip()}
    return words, meant if meant != _draft(typed).audience else None


async def _form(
    request: web.Request,
    broadcast_id: str = "",
    *,
    values: Mapping[str, Any] | None = None,
    version: int | None = None,
    error: AppError | None = None,
) -> web.StreamResponse:
    async with core_of(request).db.read() as session:
        bot = await own_bot(session, request)
        found = await broadcasts.get(session, bot, broadcast_id) if broadcast_id else None
        saved_words, saved_audience = _saved(found, values) if isinstance(error, Conflict) else ({}, None)
        if found is not None and found.status != "draft":
            if values is None:
                return view.redirect(f"/bots/{bot.id}/broadcasts/{found.id}")
            # It went out while somebody wrote: what they wrote can still become one of its own.
            found = None
        labels = await marks.labels(session, [bot.owner_id])
        kinds = await broadcasts.kinds_of(session, bot)
        shared = await frame(session, request, bot)
    return view.render(
        request,
        "pages/broadcast_form.html",
        status=error.status if error else 200,
        here="broadcasts",
        found=found,
        version=version if version is not None else found.version if found else 0,
        values=values or _values_of(found),
        saved_words=saved_words,
        saved_audience=saved_audience,
        kinds=kinds,
        labels=labels,
        codes=broadcasts.bot_languages(bot),
        most=broadcasts.TEXT_CHARS,
        fault=fault_of(error, request) if error else None,
        **_words(request),
        **shared,
    )


@routes.get("/bots/{bot}/broadcasts/new")
async def new_page(request: web.Request) -> web.StreamResponse:
    """Show the form for a new broadcast."""
    return await _form(request)


@routes.post("/bots/{bot}/broadcasts")
async def create(request: web.Request) -> web.StreamResponse:
    """Keep a draft. Fields: ``title``, ``text_uz`` …, ``channels``, ``languages``, ``labels``, ``seen``, ``days``."""
    values = _typed(await forms.read(request))
    try:
        async with core_of(request).db.write() as session:
            bot = await own_bot(session, request)
            made = await broadcasts.create(session, bot, _draft(values), auth.user(request))
    except Invalid as error:
        return await _form(request, values=values, error=error)
    return view.redirect(f"/bots/{bot.id}/broadcasts/{made.id}", toast="saved")


@routes.post("/bots/{bot}/broadcasts/preview")
async def preview(request: web.Request) -> web.StreamResponse:
    """Return how what stands in the form looks to customers, and how many would get it, for the form's own page."""
    core, values = core_of(request), _typed(await forms.read(request))
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        draft = _draft(values)
        asked = draft.audience
        if asked.seen not in broadcasts.SEEN or (asked.seen and not 1 <= asked.days <= broadcasts.MOST_DAYS):
            asked = Audience(asked.channels, asked.languages, asked.labels)
        counted = await broadcasts.counted(session, core, bot, asked)
    texts = {code: text.strip() for code, text in draft.texts.items() if text.strip()}
    return view.render(
        request,
        "pages/_broadcast_preview.html",
        bot=bot,
        shown=_shown(texts, bot),
        counted=counted,
        ways=counted.ways(asked),
        **_words(request),
    )


def _shown(texts: Mapping[str, str], bot: models.Bot) -> list[tuple[str, str]]:
    """Return the message as customers of each of the bot's languages see it."""
    if not texts:
        return []
    codes = broadcasts.bot_languages(bot)
    spoken = [each for code in codes for each in ((code, "uz-Cyrl") if code == "uz" else (code,))]
    return [(code, broadcasts.shown(texts, code, codes)[0]) for code in spoken]


@routes.get("/bots/{bot}/broadcasts/{broadcast}/edit")
async def edit_page(request: web.Request) -> web.StreamResponse:
    """Show the form of a draft."""
    return await _form(request, request.match_info["broadcast"])


@routes.post("/bots/{bot}/broadcasts/{broadcast}/edit")
async def change(request: web.Request) -> web.StreamResponse:
    """Change a draft; fields as of a new one, and the ``version`` that the form was filled from."""
    id_, form = request.match_info["broadcast"], await forms.read(request)
    values, version = _typed(form), _version(form)
    try:
        async with core_of(request).db.write() as session:
            bot = await own_bot(session, request)
            found = await broadcasts.get(session, bot, id_)
            await broadcasts.change(session, bot, id_, version, _draft(values, found.template))
    except Invalid as error:
        return await _form(request, id_, values=values, version=version, error=error)
    except Conflict as error:
        # Whoever has seen both and saves again means it.
        return await _form(request, id_, values=values, error=error)
    return view.redirect(f"/bots/{bot.id}/broadcasts/{id_}", toast="saved")


def _version(form: forms.Form) -> int:
    text = form.text("version", 10)
    return int(text) if text.isascii() and text.isdigit() else -1


# One of them


async def _about(session: AsyncSession, request: web.Request, bot: models.Bot) -> dict[str, Any]:
    """Return what the changing part of a broadcast's page shows."""
    core = core_of(request)
    found = await broadcasts.get(session, bot, request.match_info["broadcast"])
    counted = None
    if found.status in ("draft", "scheduled"):
        counted = await broadcasts.counted(
            session, core, bot, Audience.of(found), has_template=found.template is not None
        )
    rests = found.run_at if found.status == "sending" and found.run_at and found.run_at > utcnow() else None
    return {
        "bot": bot,
        "found": found,
        "counted": counted,
        "ways": counted.ways(Audience.of(found)) if counted else {},
        "minutes": broadcasts.minutes(core.settings, counted) if counted else 0,
        "report": await broadcasts.report(session, found) if found.started_at else None,
        "rests": rests,
        "share": core.settings.broadcasts.receivers_per_day,
    }


async def _page(request: web.Request, *, error: AppError | None = None) -> web.StreamResponse:
    async with core_of(request).db.read() as session:
        bot = await own_bot(session, request)
        about = await _about(session, request, bot)
        found = about["found"]
        labels = {label.id: label for label in await marks.labels(session, [bot.owner_id])}
        kinds = await broadcasts.kinds_of(session, bot)
        shared = await frame(session, request, bot)
    audience = Audience.of(found)
    return view.render(
        request,
        "pages/broadcast.html",
        status=error.status if error else 200,
        here="broadcasts",
        shown=_shown(found.texts, bot),
        audience=audience,
        labels=[labels[id_] for id_ in audience.labels if id_ in labels],
        kinds=kinds,
        fault=fault_of(error, request) if error else None,
        **_words(request),
        **{**shared, **about},
    )


@routes.get("/bots/{bot}/broadcasts/{broadcast}")
async def one_page(request: web.Request) -> web.StreamResponse:
    """Show a broadcast: what it says and to whom, and how far it is."""
    return await _page(request)


@routes.get("/bots/{bot}/broadcasts/{broadcast}/progress")
async def progress(request: web.Request) -> web.StreamResponse:
    """Return the part of that page that changes while it is sent."""
    async with core_of(request).db.read() as session:
        bot = await own_bot(session, request)
        about = await _about(session, request, bot)
    page = f"/bots/{bot.id}/broadcasts/{about['found'].id}"
    return view.part(request, "pages/_broadcast.html", page, **_words(request), **about)


@routes.post("/bots/{bot}/broadcasts/{broadcast}/test")
async def try_out(request: web.Request) -> web.StreamResponse:
    """Send it to the person who asks, as customers of ``language`` get it."""
    core, person, form = core_of(request), auth.user(request), await forms.read(request)
    language = form.text("language", 8)
    try:
        if not await core.limits.hit(f"broadcast-test:{person.id}", _TESTS_A_MINUTE, 60):
            raise TooMany(retry_after_s=60)
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            found = await broadcasts.get(session, bot, request.match_info["broadcast"])
            if language not in dict(_shown(found.texts, bot)):
                language = bot.languages[0]
            kind, talk_id = await broadcasts.try_out(session, bot, found, person, language)
    except (Conflict, TooMany) as error:
        return await _page(request, error=error)
    core.bell.ring("outbox")
    core.ring_talk(bot.id, talk_id)
    if kind != "telegram":
        return view.redirect(f"/inbox/{talk_id}", toast="broadcast_tried_here")
    return view.redirect(f"/bots/{bot.id}/broadcasts/{found.id}", toast="broadcast_tried")


# Sending


async def _send_page(
    request: web.Request, *, values: Mapping[str, str] | None = None, error: AppError | None = None
) -> web.StreamResponse:
    core = core_of(request)
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        about = await _about(session, request, bot)
        shared = await frame(session, request, bot)
    found = about["found"]
    if found.status != "draft":
        return view.redirect(f"/bots/{bot.id}/broadcasts/{found.id}")
    return view.render(
        request,
        "pages/broadcast_send.html",
        status=error.status if error else 200,
        here="broadcasts",
        values=values or {"when": "now", "at": "", "name": "", "awake": ""},
        earliest=utcnow().astimezone(TASHKENT).strftime("%Y-%m-%dT%H:%M"),
        is_night=broadcasts.is_quiet(core.settings, utcnow()),
        night_hours=(core.settings.broadcasts.quiet_from, core.settings.broadcasts.quiet_until),
        shown=_shown(found.texts, bot)[:1],
        fault=fault_of(error, request) if error else None,
        **_words(request),
        **{**shared, **about},
    )


@routes.get("/bots/{bot}/broadcasts/{broadcast}/send")
async def send_page(request: web.Request) -> web.StreamResponse:
    """Ask whether it shall really go out, and when."""
    return await _send_page(request)


@routes.post("/bots/{bot}/broadcasts/{broadcast}/send")
async def send(request: web.Request) -> web.StreamResponse:
    """Send it. Fields: ``when`` (``now`` or ``later``), ``at`` (of Tashkent), ``name`` (the bot's, typed), ``version``, and
    ``awake`` where it is to go out although people sleep then."""
    core, form = core_of(request), await forms.read(request)
    values = {name: form.fields.get(name, "")[:100] for name in ("when", "at", "name", "awake")}
    try:
        at = broadcasts.moment_of(values["at"]) if values["when"] == "later" else None
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            if values["name"].strip().casefold() != bot.name.strip().casefold():
                raise Invalid(T("Type the bot’s name to confirm: {name}", name=bot.name), field="name")
            if broadcasts.is_quiet(core.settings, at or utcnow()) and not values["awake"]:
                raise Invalid(
                    T(
                        "It is night in Tashkent then, and a message wakes people up. Choose another time, or tick the box."
                    ),
                    field="awake",
                )
            found = await broadcasts.launch(
                session, core, bot, request.match_info["broadcast"], _version(form), auth.user(request), at=at
            )
    except (Invalid, Conflict) as error:
        return await _send_page(request, values=values, error=error)
    core.bell.ring("broadcasts")
    toast = "broadcast_scheduled" if at else "broadcast_sent"
    return view.redirect(f"/bots/{bot.id}/broadcasts/{found.id}", toast=toast)


@routes.post("/bots/{bot}/broadcasts/{broadcast}/{step:pause|resume|stop|recall}")
async def turn(request: web.Request) -> web.StreamResponse:
    """Interrupt it, go on with it, end it, or make a draft of it again; field: ``version``."""
    core, form, person = core_of(request), await forms.read(request), auth.user(request)
    id_, which, version = request.match_info["broadcast"], request.match_info["step"], _version(form)
    try:
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            if which == "resume":
                await broadcasts.resume(session, core, bot, id_, version, person)
            else:
                act = {"pause": broadcasts.pause, "stop": broadcasts.stop, "recall": broadcasts.recall}[which]
                await act(session, bot, id_, version, person)
    except Conflict as error:
        return await _page(request, error=error)
    core.bell.ring("broadcasts")
    core.bell.ring(f"bot:{bot.id}", {"broadcast": id_})
    return view.redirect(f"/bots/{bot.id}/broadcasts/{id_}", toast=f"broadcast_{which}")


@routes.post("/bots/{bot}/broadcasts/{broadcast}/delete")
@auth.deletion
async def delete(request: web.Request) -> web.StreamResponse:
    """Delete a draft; field: ``version``."""
    form = await forms.read(request)
    try:
        async with core_of(request).db.write() as session:
            bot = await own_bot(session, request)
            await broadcasts.delete(session, bot, request.match_info["broadcast"], _version(form), auth.user(request))
    except Conflict as error:
        return await _page(request, error=error)
    return view.redirect(f"/bots/{bot.id}/broadcasts", toast="removed")


# What became of it


@routes.get("/bots/{bot}/broadcasts/{broadcast}/receivers")
async def receivers_page(request: web.Request) -> web.StreamResponse:
    """Show whom it was for and what became of it, those of one ``fate`` alone if it is named."""
    fate = request.query.get("fate", "")
    fate = fate if fate in broadcasts.FATES else ""
    cursor = request.query.get("cursor", "")[:26]
    async with core_of(request).db.read() as session:
        bot = await own_bot(session, request)
        found = await broadcasts.get(session, bot, request.match_info["broadcast"])
        page = await broadcasts.receivers(session, found, fate=fate, cursor=cursor)
        report = await broadcasts.report(session, found)
        shared = await frame(session, request, bot)
    return view.render(
        request,
        "pages/broadcast_receivers.html",
        here="broadcasts",
        found=found,
        page=page,
        report=report,
        fate=fate,
        first=not cursor,
        query=urlencode({"fate": fate}) if fate else "",
        **_words(request),
        **shared,
    )


@routes.get("/bots/{bot}/broadcasts/{broadcast}/receivers.{table:csv|xlsx}")
async def receivers_table(request: web.Request) -> web.StreamResponse:
    """Send the same as a table."""
    core, language = core_of(request), auth.visitor(request).language
    fate = request.query.get("fate", "")
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        found = await broadcasts.get(session, bot, request.match_info["broadcast"])
    parts = _table(core, found, fate if fate in broadcasts.FATES else "", language)
    return await tables.sent(request, parts, f"broadcast-{found.id}", translate(language, "Customers"))


async def _table(
    core: Core, found: models.Broadcast, fate: str, language: str
) -> AsyncIterator[Sequence[Sequence[Cell]]]:
    heads = (T("Name"), T("Phone"), T("Username"), T("Channel"), T("Language"), T("State"), T("Reason"), T("Time"))
    yield [[head.render(language) for head in heads]]
    cursor: str | None = None
    while True:
        async with core.db.read() as session:
            page = await broadcasts.receivers(session, found, fate=fate, cursor=cursor, limit=ROWS_AT_ONCE)
        yield [
            [
                row.contact.name,
                row.contact.phone or "",
                row.contact.username,
                channel_name(row.kind, language),
                LANGUAGE_NAMES.get(row.contact.language or "", ""),
                broadcasts.FATES[row.fate].render(language),
                broadcasts.REASONS[row.reason].render(language) if row.reason else "",
                row.at.astimezone(TASHKENT).strftime("%Y-%m-%d %H:%M"),
            ]
            for row in page.items
        ]
        cursor = page.next
        if cursor is None:
            return


# WhatsApp


async def _templates(request: web.Request, bot: models.Bot) -> list[templates.Template]:
    await may_list(request)
    core = core_of(request)
    async with core.db.read() as session:
        channel = await broadcasts.channel_of(session, bot, "whatsapp")
    return [each for each in await templates.of_channel(core, channel) if not each.media and not each.is_code]


async def _template_page(
    request: web.Request,
    name: str,
    language: str,
    *,
    given: Mapping[str, str] | None = None,
    error: AppError | None = None,
) -> web.StreamResponse:
    async with core_of(request).db.read() as session:
        bot = await own_bot(session, request)
        found = await broadcasts.get(session, bot, request.match_info["broadcast"])
        if "whatsapp" not in await broadcasts.kinds_of(session, bot):
            raise NotFound
        shared = await frame(session, request, bot)
    if found.status != "draft":
        return view.redirect(f"/bots/{bot.id}/broadcasts/{found.id}")
    listed: list[templates.Template] = []
    if error is None or isinstance(error, Invalid):
        try:
            listed = await _templates(request, bot)
        except AppError as trouble:
            error = error or trouble
    return view.render(
        request,
        "pages/broadcast_template.html",
        status=error.status if error else 200,
        here="broadcasts",
        found=found,
        listed=listed,
        picked=templates.chosen(listed, name, language),
        given=given or {},
        fault=fault_of(error, request) if error else None,
        **_words(request),
        **shared,
    )


@routes.get("/bots/{bot}/broadcasts/{broadcast}/template")
async def template_page(request: web.Request) -> web.StreamResponse:
    """Show the WhatsApp templates to choose from; with ``name`` and ``language`` the places of the chosen one."""
    return await _template_page(request, request.query.get("name", "")[:512], request.query.get("language", "")[:20])


@routes.post("/bots/{bot}/broadcasts/{broadcast}/template")
async def choose_template(request: web.Request) -> web.StreamResponse:
    """Put a template with its places filled in to a draft, or with an empty ``name`` take it out; field: ``version``."""
    core, form, id_ = core_of(request), await forms.read(request), request.match_info["broadcast"]
    name, language = form.text("name", 512), form.text("language", 20)
    given: Mapping[str, str] = {}
    try:
        async with core.db.read() as session:
            bot = await own_bot(session, request)
            await broadcasts.get(session, bot, id_)
            await broadcasts.channel_of(session, bot, "whatsapp")
        kept = None
        if name:
            template = chosen_of(await _templates(request, bot), name, language)
            given = typed_into(template, form)
            kept = broadcasts.kept_template(template, given)
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            await broadcasts.put_template(session, bot, id_, _version(form), kept)
    except (Invalid, Conflict, TooMany) as error:
        return await _template_page(request, name, language, given=given, error=error)
    return view.redirect(f"/bots/{bot.id}/broadcasts/{id_}", toast="saved")
