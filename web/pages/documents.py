"""What a bot knows: documents, questions it could not answer, and search as the bot does it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from db import models
from db.base import utcnow
from services import answers, bots, questions, ratings
from services.errors import AppError, Conflict, Invalid
from services.i18n import T
from services.knowledge import documents, pairs
from services.knowledge.base import FOR_GOOD
from services.knowledge.reading import is_picture
from services.knowledge.search import Found
from web import auth, forms, tables, view
from web.middlewares import wants_json
from web.pages.shell import core_of, fault_of, frame, own_bot

routes = web.RouteTableDef()

_GROUPS = 20
_LIKED_DAYS = 30


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document with why it could not be read, in the person's language, and whether reading it again may help.

    ``picture``: it is one, and nothing is known of it but its caption.
    """

    document: models.Document
    reason: str
    again: bool
    picture: bool


def document_rows(files: Sequence[models.Document], language: str) -> list[DocumentRow]:
    """Return documents as the list shows them."""
    rows = []
    for file in files:
        reason = documents.error_text(file)
        again = file.status == "failed" and file.error_code not in FOR_GOOD
        rows.append(DocumentRow(file, reason.render(language) if reason else "", again, is_picture(file.name)))
    return rows


@routes.get("/bots/{bot}/documents")
async def documents_page(request: web.Request) -> web.StreamResponse:
    """Show documents, unanswered questions and, for ``?q=``, the passages the bot would find."""
    return await _page(request)


async def _page(
    request: web.Request,
    *,
    error: AppError | None = None,
    values: dict[str, str] | None = None,
    changing: str = "",
    refused: Sequence[tuple[str, AppError]] = (),
    picture: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """``refused``: files of many that were not taken, by name; ``picture``: what stood in a picture's form."""
    core = core_of(request)
    question = request.query.get("q", "").strip()[:500]
    place = request.query.get("from", "")
    first = int(place) if place.isascii() and place.isdigit() and len(place) <= 4 else 0
    cursor = request.query.get("cursor", "") if request.method == "GET" else ""
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        shared = await frame(session, request, bot)
        files = await documents.list_for(session, bot)
        taught, following = await documents.answers_page(session, bot, cursor=cursor)
        if changing and all(one.id != changing for one in taught):
            # What was typed stands on the page that says what is wrong with it.
            taught.insert(0, await documents.one_answer(session, bot, changing))
        room = await core.allowances.knowledge(session, bot)
        liked = await ratings.liked(session, bot, utcnow() - dt.timedelta(days=_LIKED_DAYS))
        lesson = await questions.lesson(session, bot, teach) if (teach := request.query.get("teach", "")[:26]) else None
        telegram = bots.of_kind(await bots.channels(session, bot), "telegram")
    groups = await questions.open_groups(core, bot)
    if lesson is not None and values is None:
        values = {"question": lesson[0], "answer": lesson[1]}
    found: Found | None = None
    if question:
        found = await answers.look_up(core, bot, question)
    shown = groups[first : first + _GROUPS]
    return view.render(
        request,
        "pages/documents.html",
        status=error.status if error else 200,
        here="documents",
        documents=document_rows(files, auth.visitor(request).language),
        groups=shown,
        typed_apart=values is not None
        and not changing
        and all(one.question[:1000] != values["question"] for one in shown),
        more=first + _GROUPS if len(groups) > first + _GROUPS else 0,
        first=first,
        liked=liked,
        liked_days=_LIKED_DAYS,
        thumbs=bool((bot.settings or {}).get(ratings.SETTING)),
        telegram=telegram,
        refused=[(name, fault_of(each, request)["message"]) for name, each in refused],
        picture=picture,
        teaching=lesson is not None,
        taught=taught,
        taught_next=following,
        taught_first=not cursor,
        room=room,
        alone=False,
        taken=int(number)
        if (number := request.query.get("taken", "")).isascii() and number.isdigit() and len(number) < 6
        else None,
        most_pairs=pairs.MOST,
        changing=changing,
        q=question,
        found=found,
        values=values or {"question": "", "answer": ""},
        fault=fault_of(error, request) if error else None,
        limit=core.settings.limits.documents_per_bot,
        max_mib=core.settings.knowledge.max_file_mib,
        **shared,
    )


@routes.get("/bots/{bot}/documents/list")
async def documents_list(request: web.Request) -> web.StreamResponse:
    """Return only the list, for a page to put in place while documents are read; ``used``: with what stands beside it there."""
    core, alone = core_of(request), "used" in request.query
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        files = await documents.list_for(session, bot)
        room = await core.allowances.knowledge(session, bot)
    rows = document_rows(files, auth.visitor(request).language)
    limit = core.settings.limits.documents_per_bot
    context = {"documents": rows, "limit": limit, "room": room, "alone": alone}
    return view.part(request, "pages/_documents.html", f"/bots/{bot.id}/documents#documents", bot=bot, **context)


@routes.post("/bots/{bot}/documents")
async def upload(request: web.Request) -> web.StreamResponse:
    """Take documents in: 202 with their ids for our script, back to the page for a plain form."""
    core = core_of(request)
    form = await forms.read(request)
    taken: list[dict[str, Any]] = []
    refused: list[tuple[str, AppError]] = []
    # A picture's own form says what it shows and whether customers may receive it.
    picture = (
        {"caption": form.fields["caption"], "shared": form.text("shared", 10)} if "caption" in form.fields else None
    )
    sent: list[forms.Upload] = []
    try:
        sent = [file for file in form.uploads("file") if file.name]
        if not sent:
            raise Invalid(T("Choose a file first."), field="file")
    except Invalid as error:
        refused.append(("", error))
    for file in sent:
        try:
            async with core.db.write() as session:
                bot = await own_bot(session, request)
                document = await documents.upload(
                    session,
                    bot,
                    file.name,
                    file.data,
                    limits=core.settings.limits,
                    max_bytes=core.settings.knowledge.max_file_bytes,
                    shared=picture["shared"] == "on" if picture else None,
                    caption=form.text("caption", documents.CAPTION_CHARS) if picture else None,
                    plan=core.allowances,
                )
        except AppError as error:
            if error.status == 404:
                raise
            # One that cannot be taken does not keep the others out.
            refused.append((documents.title_of(file.name), error))
        else:
            taken.append({"id": document.id, "name": document.name, "status": document.status})
    if taken:
        core.bell.ring("jobs")
    if refused and wants_json(request):
        raise refused[0][1]
    if refused:
        return await _page(request, error=refused[0][1], refused=refused if len(sent) > 1 else (), picture=picture)
    if wants_json(request):
        return web.json_response({"items": taken}, status=202)
    following = auth.safe_next(form.text("next"), f"/bots/{request.match_info['bot']}/documents")
    return view.redirect(following, toast="uploaded")


@routes.post("/bots/{bot}/documents/{document}/delete")
@auth.deletion
async def delete(request: web.Request) -> web.StreamResponse:
    """Let the bot forget a document."""
    core = core_of(request)
    async with core.db.write() as session:
        bot = await own_bot(session, request)
        document = await documents.get(session, bot, request.match_info["document"])
        toast = "shared_deleted" if document.shared else "document_deleted"
        await documents.delete(session, bot, document)
    core.bell.ring("jobs")
    return view.redirect(f"/bots/{bot.id}/documents", toast=toast, undo=(bot.id, document.id))


@routes.post("/bots/{bot}/documents/{document}/restore")
async def restore(request: web.Request) -> web.StreamResponse:
    """Bring back a document that was deleted a moment ago."""
    core = core_of(request)
    try:
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            await documents.restore(
                session,
                bot,
                request.match_info["document"],
                shared=request.query.get("shared") == "1",
                limits=core.settings.limits,
                plan=core.allowances,
            )
    except Conflict as error:
        return await _page(request, error=error)
    core.bell.ring("jobs")
    return view.redirect(f"/bots/{bot.id}/documents", toast="restored")


@routes.get("/bots/{bot}/documents/{document}")
async def document_page(request: web.Request) -> web.StreamResponse:
    """Show what the bot understood of a document, in its order."""
    core, cursor = core_of(request), request.query.get("cursor", "")
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        document = await documents.get(session, bot, request.match_info["document"])
        shared = await frame(session, request, bot)
        understood, following = await documents.passages(session, document, cursor=cursor)
    [row] = document_rows([document], auth.visitor(request).language)
    return view.render(
        request,
        "pages/document.html",
        here="documents",
        row=row,
        passages=understood,
        next=following,
        first=not cursor,
        **shared,
    )


@routes.post("/bots/{bot}/documents/{document}/share")
async def share(request: web.Request) -> web.StreamResponse:
    """Let customers receive a document's file, or no more, and say what it shows."""
    form = await forms.read(request)
    core = core_of(request)
    try:
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            document = await documents.get(session, bot, request.match_info["document"])
            shared, caption = form.text("shared", 10) == "on", form.text("caption", documents.CAPTION_CHARS)
            await documents.share(session, bot, document, shared=shared, caption=caption)
    except AppError as error:
        if error.status == 404:
            raise
        return await _page(request, error=error)
    core.bell.ring("jobs")
    return view.redirect(f"/bots/{bot.id}/documents", toast="file_shared" if shared else "file_not_shared")


@routes.post("/bots/{bot}/documents/{document}/retry")
async def retry(request: web.Request) -> web.StreamResponse:
    """Read a failed document once more."""
    core = core_of(request)
    async with core.db.write() as session:
        bot = await own_bot(session, request)
        document = await documents.get(session, bot, request.match_info["document"])
        await documents.retry(session, bot, document)
    core.bell.ring("jobs")
    return view.redirect(f"/bots/{bot.id}/documents", toast="retry")


@routes.post("/bots/{bot}/answers")
async def answer(request: web.Request) -> web.StreamResponse:
    """Teach the bot one answer."""
    return await _teach(request)


@routes.get("/bots/{bot}/answers.csv")
async def answers_table(request: web.Request) -> web.StreamResponse:
    """Return the questions and answers that the bot was taught, as a table that can be taken in again."""
    async with core_of(request).db.read() as session:
        bot = await own_bot(session, request)
    return await tables.as_csv(request, pairs.table(core_of(request).db, bot), "answers")


@routes.post("/bots/{bot}/answers.csv")
async def take_answers(request: web.Request) -> web.StreamResponse:
    """Teach the bot the questions and answers of a table."""
    core = core_of(request)
    form = await forms.read(request)
    try:
        async with core.db.read() as session:
            bot = await own_bot(session, request)
        taken = await pairs.take_in(core, bot, form.upload("file").data)
    except AppError as error:
        if error.status == 404:
            raise
        # The field of the list of files is another one.
        return await _page(request, error=Invalid(error.text, code=error.code, field="table"))
    return view.redirect(f"/bots/{bot.id}/documents?taken={taken}#taught", toast="")


@routes.post("/bots/{bot}/answers/{answer}")
async def change_answer(request: web.Request) -> web.StreamResponse:
    """Correct an answer that the bot was taught."""
    return await _teach(request, changing=request.match_info["answer"])


async def _teach(request: web.Request, *, changing: str = "") -> web.StreamResponse:
    form = await forms.read(request)
    core = core_of(request)
    try:
        async with core.db.read() as session:
            bot = await own_bot(session, request)
        question, text = form.text("question", 1000), form.text("answer", 4000)
        # Questions of one group have one answer; which these are takes longer than a transaction may.
        also = () if changing else await questions.same_as(core, bot, question)
        async with core.db.write() as session:
            bot = await own_bot(session, request)
            if changing:
                seen = form.text("seen", 40)
                await documents.update_answer(session, bot, changing, question, text, seen=seen, plan=core.allowances)
            else:
                await questions.teach(session, bot, question, text, also, plan=core.allowances)
    except AppError as error:
        if error.status == 404:
            raise
        values = {"question": form.fields.get("question", "")[:1000], "answer": form.fields.get("answer", "")[:4000]}
        return await _page(request, error=error, values=values, changing=changing)
    return view.redirect(f"/bots/{bot.id}/documents", toast="answer_saved" if changing else "answered")


@routes.post("/bots/{bot}/answers/{answer}/delete")
@auth.deletion
async def delete_answer(request: web.Request) -> web.StreamResponse:
    """Let the bot forget an answer that it was taught."""
    async with core_of(request).db.write() as session:
        bot = await own_bot(session, request)
        await documents.delete_answer(session, bot, request.match_info["answer"])
    return view.redirect(f"/bots/{bot.id}/documents", toast="answer_deleted")


@routes.post("/bots/{bot}/unanswered/{question}/dismiss")
async def dismiss(request: web.Request) -> web.StreamResponse:
    """Take a question, and those that ask the same, off the list without an answer."""
    core = core_of(request)
    async with core.db.read() as session:
        bot = await own_bot(session, request)
    question_id = request.match_info["question"]
    group = await questions.find_group(core, bot, question_id)
    async with core.db.write() as session:
        bot = await own_bot(session, request)
        await questions.dismiss(session, bot, question_id, group.ids if group else ())
    return view.redirect(f"/bots/{bot.id}/documents", toast="dismissed", undo=(bot.id, question_id))


@routes.post("/bots/{bot}/unanswered/{question}/reopen")
async def reopen(request: web.Request) -> web.StreamResponse:
    """Put questions back on the list that were taken off it a moment ago."""
    async with core_of(request).db.write() as session:
        bot = await own_bot(session, request)
        await questions.reopen(session, bot, request.match_info["question"])
    return view.redirect(f"/bots/{bot.id}/documents#unanswered")


@routes.post("/bots/{bot}/thumbs")
async def thumbs(request: web.Request) -> web.StreamResponse:
    """Show thumbs under the bot's answers in Telegram, or no more."""
    form = await forms.read(request)
    async with core_of(request).db.write() as session:
        bot = await own_bot(session, request)
        await ratings.show_buttons(session, bot, form.text("thumbs", 10) == "on")
    return view.redirect(f"/bots/{bot.id}/documents", toast="saved")
