"""The texts of letters, for administrators: each kind in each language, with a preview. Nobody else finds these pages."""

from __future__ import annotations

from aiohttp import web

from services import letters, mail, notice_texts, notices, overrides
from services.errors import AppError, Conflict, Invalid, NotFound
from services.letters import delivery, rendering, texts
from services.shown import mark_of
from web import auth, forms, view
from web.pages.shell import core_of, fault_of, frame
from web.replies import CSP

routes = web.RouteTableDef()
# The preview is the mail itself, which has its looks at its elements; nothing in it can run or be sent.
_PREVIEW_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'self'; sandbox"
_PAGE_CSP = f"{CSP}; frame-src 'self'"
_FORM_LIMIT = 20_000


def _administrator(request: web.Request) -> None:
    if not auth.user(request).is_admin:
        raise NotFound


@routes.get("/admin/texts")
async def list_page(request: web.Request) -> web.StreamResponse:
    """Show all kinds of letters and which of them have words of an administrator."""
    _administrator(request)
    async with core_of(request).db.read() as session:
        changed = await texts.changed(session)
        shared = await frame(session, request)
    language = auth.visitor(request).language
    return view.render(
        request,
        "pages/letter_texts.html",
        here="admin-texts",
        rows=[(name, kind, texts.subject(name, language)) for name, kind in letters.KINDS.items()],
        changed=changed,
        languages=texts.LANGUAGES,
        mail=mail.is_set(core_of(request).settings),
        **shared,
    )


@routes.get("/admin/texts/{letter}/{language}")
async def text_page(request: web.Request) -> web.StreamResponse:
    """Show the texts of one kind in one language in a form, with the preview beside it."""
    return await _page(request)


@routes.post("/admin/texts/{letter}/{language}")
async def save(request: web.Request) -> web.StreamResponse:
    """Keep the texts. Fields: ``subject``, ``text``, ``telegram``, and ``seen``: the mark of those that the page showed."""
    _administrator(request)
    core, (kind, language) = core_of(request), _which(request)
    given, seen = await _given(request), (await forms.read(request)).fields.get("seen", "")
    try:
        async with core.db.write() as session:
            await texts.save(session, auth.user(request), kind, language, given, now=core.now(), seen=seen)
    except (Invalid, Conflict) as error:
        return await _page(request, error=error, given=given)
    return view.redirect(f"/admin/texts/{kind}/{language}", toast="saved")


@routes.post("/admin/texts/{letter}/{language}/reset")
async def reset(request: web.Request) -> web.StreamResponse:
    """Put the built-in texts back."""
    _administrator(request)
    kind, language = _which(request)
    async with core_of(request).db.write() as session:
        await texts.reset(session, auth.user(request), kind, language)
    return view.redirect(f"/admin/texts/{kind}/{language}", toast="saved")


@routes.get("/admin/texts/{letter}/{language}/preview")
async def preview_saved(request: web.Request) -> web.StreamResponse:
    """Show the mail with the texts that are kept."""
    _administrator(request)
    kind, language = _which(request)
    async with core_of(request).db.read() as session:
        words = {part.name: part.words for part in await texts.parts(session, kind, language)}
    return _preview(request, words)


@routes.post("/admin/texts/{letter}/{language}/preview")
async def preview_typed(request: web.Request) -> web.StreamResponse:
    """Show the mail with the texts of the form, which are not kept."""
    _administrator(request)
    kind, language = _which(request)
    try:
        return _preview(request, texts.checked(kind, language, await _given(request)))
    except Invalid as error:
        # In the frame of the page, where an error's own page could not be shown.
        said = error.text.render(auth.visitor(request).language)
        return web.Response(text=said, status=error.status, headers={"Content-Security-Policy": _PREVIEW_CSP})


def _which(request: web.Request) -> tuple[str, str]:
    kind, language = request.match_info["letter"], request.match_info["language"]
    texts.kind_of(kind, language)
    return kind, language


async def _given(request: web.Request) -> dict[str, str]:
    form = await forms.read(request)
    return {part: form.fields.get(part, "")[:_FORM_LIMIT] for part in rendering.PARTS}


def _preview(request: web.Request, words: dict[str, str]) -> web.StreamResponse:
    kind, language = _which(request)
    written = texts.preview(
        kind,
        language,
        words,
        person=auth.user(request).full_name,
        public_url=core_of(request).settings.public_url,
        brand=delivery.BRAND,
    )
    headers = {"Content-Security-Policy": _PREVIEW_CSP}
    return web.Response(text=written.html, content_type="text/html", headers=headers)


async def _page(
    request: web.Request, *, error: AppError | None = None, given: dict[str, str] | None = None
) -> web.StreamResponse:
    _administrator(request)
    kind, language = _which(request)
    async with core_of(request).db.read() as session:
        parts = await texts.parts(session, kind, language)
        shared = await frame(session, request)
    response = view.render(
        request,
        "pages/letter_text.html",
        status=error.status if error else 200,
        here="admin-texts",
        kind=kind,
        title=texts.subject(kind, auth.visitor(request).language),
        shown_language=language,
        languages=texts.LANGUAGES,
        values=given or {part.name: part.words for part in parts},
        parts=parts,
        seen=texts.mark(parts),
        limits=texts.LIMITS,
        places=rendering.placeholders(letters.KINDS[kind]),
        fault=fault_of(error, request) if error else None,
        **shared,
    )
    response.headers["Content-Security-Policy"] = _PAGE_CSP
    return response


# Notices


@routes.get("/admin/texts/notices")
async def notice_list(request: web.Request) -> web.StreamResponse:
    """Show all notices and which of them have words of an administrator."""
    _administrator(request)
    language = auth.visitor(request).language
    async with core_of(request).db.read() as session:
        own = await notice_texts.kept(session)
        shared = await frame(session, request)
    return view.render(
        request,
        "pages/notice_texts.html",
        here="admin-texts",
        rows=[(kind, notice_texts.example(text.render(language))) for kind, text in notices.TEXTS.items()],
        changed=set(own),
        languages=texts.LANGUAGES,
        **shared,
    )


@routes.get("/admin/texts/notices/{saying}/{language}")
async def notice_page(request: web.Request) -> web.StreamResponse:
    """Show the text of a notice in one language in a form, with how it reads."""
    return await _notice(request)


@routes.post("/admin/texts/notices/{saying}/{language}")
async def save_notice(request: web.Request) -> web.StreamResponse:
    """Keep the text, or with ``look`` only show how it reads. Fields: ``text``, and ``seen``: the mark of what was kept."""
    _administrator(request)
    core, form = core_of(request), await forms.read(request)
    kind, language = request.match_info["saying"], request.match_info["language"]
    given = form.fields.get("text", "")[:_FORM_LIMIT]
    try:
        if "look" in form.fields:
            return await _notice(request, given=given, read=notice_texts.example(notice_texts.checked(kind, given)))
        async with core.db.write() as session:
            seen = form.fields.get("seen", "")
            await notice_texts.save(session, auth.user(request), kind, language, given, now=core.now(), seen=seen)
    except (Invalid, Conflict) as error:
        return await _notice(request, error=error, given=given)
    return await _told(request)


@routes.post("/admin/texts/notices/{saying}/{language}/reset")
async def reset_notice(request: web.Request) -> web.StreamResponse:
    """Put the built-in text back."""
    _administrator(request)
    kind, language = request.match_info["saying"], request.match_info["language"]
    async with core_of(request).db.write() as session:
        await notice_texts.reset(session, auth.user(request), kind, language)
    return await _told(request)


async def _told(request: web.Request) -> web.StreamResponse:
    core = core_of(request)
    await overrides.take_effect(core)
    core.bell.ring_elsewhere(overrides.BELL)
    return view.redirect(request.path.removesuffix("/reset"), toast="saved")


async def _notice(
    request: web.Request, *, error: AppError | None = None, given: str | None = None, read: str | None = None
) -> web.StreamResponse:
    _administrator(request)
    kind, language = request.match_info["saying"], request.match_info["language"]
    async with core_of(request).db.read() as session:
        own = await notice_texts.kept(session)
        shared = await frame(session, request)
    kept = notice_texts.words(kind, language, own)
    return view.render(
        request,
        "pages/notice_text.html",
        status=error.status if error else 200,
        here="admin-texts",
        kind=kind,
        shown_language=language,
        languages=texts.LANGUAGES,
        own=(kind, language) in own,
        value=kept if given is None else given,
        read=notice_texts.example(kept) if read is None else read,
        seen=mark_of(kept),
        limit=notice_texts.CHARS,
        places=notice_texts.places(kind),
        fault=fault_of(error, request) if error else None,
        **shared,
    )
