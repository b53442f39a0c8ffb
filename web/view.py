"""From data to HTML: the template environment, what every page knows, and the static files."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import aiohttp_jinja2
import jinja2
from aiohttp import web
from babel.dates import format_date, format_skeleton, get_day_names
from babel.numbers import format_decimal, format_percent
from jinja2.runtime import Context, Macro
from markupsafe import Markup

from db.base import utcnow
from services.channel_names import channel_name
from services.conversations import reasons
from services.days import TASHKENT, today
from services.i18n import (
    DEFAULT_LANGUAGE,
    LANGUAGE_NAMES,
    LANGUAGES,
    T,
    Text,
    in_cyrillic,
    translate,
    translate_plural,
    translator,
)
from services.money import text as money
from services.payments import is_test_mode
from services.team import shown_name
from services.text import phone
from web import auth, guide, keys

ROOT = Path(__file__).resolve().parent.parent
STATIC_DIR = ROOT / "web" / "static"
TEMPLATES_DIR = ROOT / "templates"
# English without a country would write the month before the day.
_LOCALES: Mapping[str, str] = {"uz": "uz", "uz-Cyrl": "uz_Cyrl", "ru": "ru", "en": "en_GB"}
# CLDR's own put a comma into the Uzbek day and a full stop at the end of the Russian one, which breaks sentences.
_DAYS: Mapping[str, str] = {"uz": "y-'yil' d-MMM", "ru": "d MMM y"}
_SYMBOL = re.compile(r'<symbol id="([^"]+)" (viewBox="[^"]+")>(.*?)</symbol>', re.DOTALL)
# A page writes the same few numbers and days over and over, and CLDR's patterns are read anew for each.
_written = lru_cache(maxsize=8192)
_YEAR = "public, max-age=31536000, immutable"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True, slots=True)
class _File:
    plain: bytes
    gzipped: bytes | None
    kind: str


def _read(path: Path) -> _File:
    plain = path.read_bytes()
    kind = _TYPES[path.suffix]
    if path.suffix in (".png", ".ico", ".woff2"):
        return _File(plain, None, kind)
    made = path.with_name(f"{path.name}.gz")
    # Set-up makes the neighbour; one that is older than its file is of an earlier version.
    if made.exists() and made.stat().st_mtime_ns >= path.stat().st_mtime_ns:
        return _File(plain, made.read_bytes(), kind)
    return _File(plain, gzip.compress(plain, 6, mtime=0), kind)


class StaticFiles:
    """The files under ``web/static``, read at the start (under 1 MB): no path from outside ever reaches the disk.

    One hash of all contents stands in the path, so that modules can import each other by relative names and everything
    may be kept by browsers for a year.
    """

    def __init__(self, folder: Path = STATIC_DIR) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): _read(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix in _TYPES
        }
        total = hashlib.sha256()
        for name, file in self._files.items():
            total.update(name.encode() + hashlib.sha256(file.plain).digest())
        self.version = total.hexdigest()[:12]

    def url(self, name: str) -> str:
        """Return the address of a file; raises ``KeyError`` for one that is not there."""
        if name not in self._files:
            raise KeyError(f"no static file {name}")
        return f"/static/{self.version}/{name}"

    def open(self, name: str) -> tuple[bytes, bytes]:
        """Return a text file as it is and compressed; raises ``KeyError`` for one that is not there."""
        file = self._files[name]
        if file.gzipped is None:
            raise KeyError(f"no text file {name}")
        return file.plain, file.gzipped

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Send a file, compressed where the browser takes it; an old version's page gets the present file, unkept."""
        file = self._files.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        current = request.match_info["version"] == self.version
        headers = {
            "Content-Type": file.kind,
            "Cache-Control": _YEAR if current else "no-cache",
            "Vary": "Accept-Encoding",
            # Of a page's policy a file needs the part that holds when somebody opens it by itself.
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        }
        if file.gzipped is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=file.gzipped, headers={**headers, "Content-Encoding": "gzip"})
        return web.Response(body=file.plain, headers=headers)


STATIC: web.AppKey[StaticFiles] = web.AppKey("static", StaticFiles)


def ago(language: str, moment: dt.datetime | None) -> str:
    """Return how long ago a moment was, in words: "3 minutes ago"."""
    if moment is None:
        return ""
    seconds = max(0, (utcnow() - moment).total_seconds())
    if seconds < 60:
        return translate(language, "just now")
    if seconds < 3600:
        return translate_plural(language, "{n} minute ago", "{n} minutes ago", int(seconds // 60))
    if seconds < 86_400:
        return translate_plural(language, "{n} hour ago", "{n} hours ago", int(seconds // 3600))
    if seconds < 30 * 86_400:
        return translate_plural(language, "{n} day ago", "{n} days ago", int(seconds // 86_400))
    return day(moment, language)


def _locale(language: str) -> str:
    return _LOCALES.get(language, _LOCALES[DEFAULT_LANGUAGE])


def day(moment: dt.datetime, language: str) -> str:
    """Return the day in Tashkent, as the language writes it."""
    return _day(today(moment), language)


@_written
def _day(date: dt.date, language: str) -> str:
    if language == "uz-Cyrl":
        return in_cyrillic(_day(date, "uz"))
    return format_date(date, _DAYS.get(language, "medium"), locale=_locale(language))


def exact(moment: dt.datetime | None, language: str) -> str:
    """Return a moment as calendar and clock in Tashkent show it."""
    return f"{day(moment, language)}, {_time(moment)}" if moment else ""


def clock(moment: dt.datetime | None, language: str) -> str:
    """Return the time of day in Tashkent, after the day if that is another one than today."""
    if moment is None:
        return ""
    local, now = moment.astimezone(TASHKENT), utcnow().astimezone(TASHKENT)
    if local.date() == now.date():
        return _time(moment)
    if local.year != now.year:
        return exact(moment, language)
    return f"{_day_of_year(local.date(), language)}, {_time(moment)}"


@_written
def _day_of_year(date: dt.date, language: str) -> str:
    return format_skeleton("MMMd", date, locale=_locale(language))


def _time(moment: dt.datetime) -> str:
    # Everybody in Uzbekistan reads 24 hours, whatever the language's own country does.
    return moment.astimezone(TASHKENT).strftime("%H:%M")


@_written
def number(value: float, language: str) -> str:
    """Return a whole number with the language's mark between thousands."""
    return str(format_decimal(int(value), locale=_locale(language)))


@_written
def mean(value: float, language: str) -> str:
    """Return an average: below one with two decimals, from ten on as a whole number."""
    form = "0.##" if value < 0.95 else "0.#" if value < 9.95 else "#,##0"
    return str(format_decimal(value, form, locale=_locale(language)))


@_written
def percent(value: float, language: str) -> str:
    """Return a share of 1 in whole percent."""
    # Babel's Uzbek has no space before the sign; every text of ours has one, as in Russian.
    return str(
        format_percent(
            value, "#,##0\N{NO-BREAK SPACE}%" if language.startswith("uz") else None, locale=_locale(language)
        )
    )


@_written
def score(value: float, language: str) -> str:
    """Return how well a passage fits, with two decimals."""
    return str(format_decimal(value, "0.00", locale=_locale(language)))


@_written
def usd(value: Decimal, language: str) -> str:
    """Return an amount of US dollars; of small ones more digits are shown."""
    digits = "0.00" if value == 0 or value >= 1 else "0.00##"
    return f"${format_decimal(value, f'#,##{digits}', locale=_locale(language))}"


@_written
def size(value: int, language: str) -> str:
    """Return a file size for people."""
    if value < 1024:
        return translate(language, "{n} B", n=value)
    if value < 1024 * 1024:
        return translate(language, "{n} KB", n=number(round(value / 1024), language))
    if value >= 1024**3:
        return translate(language, "{n} GB", n=format_decimal(value / 1024**3, "0.#", locale=_locale(language)))
    return translate(language, "{n} MB", n=format_decimal(value / 1024 / 1024, "#,##0.#", locale=_locale(language)))


def _in_language(form: Callable[[Any, str], str]) -> Callable[[Context, Any], str]:
    """Make a filter of a function that takes a value and a language: the language is the page's."""

    @jinja2.pass_context
    def filter_(context: Context, value: Any) -> str:
        return form(value, context["language"])

    return filter_


def _pictures(static: StaticFiles) -> Mapping[str, Markup]:
    """Return what stands inside the ``<svg>`` of each icon.

    Those of the frame and of long lists lie in one file that browsers keep; the others, of which a page has a few, are drawn
    in their place: nobody loads all of them for one.
    """
    kept, rare = static.open("img/icons.svg")[0].decode(), (TEMPLATES_DIR / "icons.svg").read_text("utf-8")
    address = static.url("img/icons.svg")
    drawn = {name: f"<svg {box}>{lines}</svg>" for name, box, lines in _SYMBOL.findall(rare)}
    drawn |= {name: f'<use href="{address}#{name}"></use>' for name, _box, _lines in _SYMBOL.findall(kept)}
    return {name: Markup(picture) for name, picture in drawn.items()}  # noqa: S704 - out of our own files


def _icons(static: StaticFiles) -> Callable[..., Markup]:
    """Return what draws an icon: ``icon(name, "more classes")``; a page has dozens, so it is no macro."""
    pictures = _pictures(static)

    @cache
    def icon(name: str, more: str = "", /) -> Markup:
        svg = Markup('<svg class="icon {}" aria-hidden="true" focusable="false">{}</svg>')
        return svg.format(more, pictures[name])

    return icon


class _Context(Context):
    """What a template knows while it is rendered, remembered so that :func:`_released` finds it.

    Macros and contexts hold each other, and with them every row of a page: thousands of objects that only the collector could
    free, during somebody else's page.
    """

    pages: ClassVar[list[list[_Context]]] = []
    """Of each page that is being rendered, the contexts made for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.pages:
            self.pages[-1].append(self)

    def release(self) -> None:
        """Let go of everything; what was rendered is a string by now."""
        for value in self.vars.values():
            if isinstance(value, Macro):
                value._func = _gone
        self.parent, self.vars, self.blocks = {}, {}, {}


def _gone(*_: object) -> str:
    raise AssertionError("a macro was called after its page was made")


@contextmanager
def _released() -> Iterator[None]:
    """Release, afterwards, the contexts that are made meanwhile: templates import each other only "with context"."""
    _Context.pages.append([])
    try:
        yield
    finally:
        for context in _Context.pages.pop():
            context.release()


@cache
def static_files() -> StaticFiles:
    """Return the files of this program, read once in a process."""
    return StaticFiles()


@cache
def _environment() -> jinja2.Environment:
    """Return what draws pages: autoescape everywhere, missing names are errors. A template is compiled once in a process."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES_DIR),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.context_class = _Context
    static = static_files()
    environment.globals.update(
        static=static.url,
        draw_icon=_icons(static),
        BRAND="BotFactory",
        LANGUAGES=LANGUAGES,
        LANGUAGE_NAMES=LANGUAGE_NAMES,
        waiting=reasons,
        guide_at=guide.address,
    )
    forms: dict[str, Callable[[Any, str], str]] = {
        "day": day,
        "exact": exact,
        "clock": clock,
        "money": money,
        "number": number,
        "channel_name": channel_name,
    }
    forms |= {"percent": percent, "score": score, "size": size, "usd": usd}
    environment.filters.update(phone=phone, **{name: _in_language(form) for name, form in forms.items()})
    return environment


def make_environment(app: web.Application) -> None:
    """Set up static files and Jinja. Nothing of either is an application's own."""
    app[STATIC] = static_files()
    app[aiohttp_jinja2.APP_KEY] = _environment()


def _shown_at(request: web.Request) -> str:
    """Return the address that shows this page again: of a form that was refused, the page on which it stands."""
    if request.method in ("GET", "HEAD"):
        return request.path_qs
    before = urlsplit(request.headers.get("Referer", ""))
    if before.netloc != request.host:
        return "/"
    # The page of an address with two strokes at its beginning is ours, a link to it is not.
    return auth.safe_next(f"{before.path}{before.query and '?'}{before.query}", "/")


def render(request: web.Request, template: str, *, status: int = 200, **context: Any) -> web.Response:
    """Return a page. Every template knows ``_``, ``ngettext``, ``ago``, ``csrf``, ``user``, ``language``, ``theme``."""
    who = auth.visitor(request)
    language = who.language
    shown_at = _shown_at(request)

    def ngettext(singular: str, plural: str, n: int, **params: object) -> str:
        return translate_plural(language, singular, plural, n, **params)

    base: dict[str, Any] = {
        "_": translator(language),
        "ngettext": ngettext,
        "ago": lambda moment: ago(language, moment),
        "csrf": who.csrf_token,
        "user": who.user,
        "language": language,
        "theme": who.theme,
        "path": shown_at.partition("?")[0],
        "path_qs": shown_at,
        "in_other_language": shown_at,
        "help_at": guide.help_for(template, language),
        "error": None,
        "fault": None,
        "bot": None,
        "bots": (),
        "talk_bots": (),
        "roles": {},
        "broken": {},
        "notices": (),
        "banners": (),
        "here": "",
        "test_mode": is_test_mode(request.app[keys.CORE].settings),
        "toast": toast_text(request.query.get("done", ""), language),
        "undo": _undo(request.query.get("done", ""), request.query.get("undo", "")),
        "noindex": True,
        "unconfirmed": False,
        "plan_ends": (),
        "viewing": _viewing(who),
    }
    with _released():
        response = aiohttp_jinja2.render_template(template, request, {**base, **context}, status=status)
    response.enable_compression()
    return response


def part(request: web.Request, template: str, page: str, **context: Any) -> web.Response:
    """Return a part of ``page`` for its script to put in place; who opens the address in a browser is led to the whole page."""
    return render(request, template, **context) if wants_part(request) else redirect(page)


def wants_part(request: web.Request) -> bool:
    """Tell whether a page's script asks, for a part of that page."""
    return "HX-Request" in request.headers


def _viewing(who: auth.Visitor) -> dict[str, Any] | None:
    """Return what the bar says while an administrator looks at an owner's panel."""
    if who.view is None or who.user is None:
        return None
    left = max(1, -(-int((who.view.expires_at - utcnow()).total_seconds()) // 60))
    return {"name": shown_name(who.user), "minutes": left, "view": who.view}


DONE: Mapping[str, Text] = {
    "saved": T("Saved."),
    "draft_saved": T("The draft is saved. Customers get the published words until you publish it."),
    "draft_gone": T("The draft is gone. The published words stand here again."),
    "brought_back": T("Brought back. Customers get these words from the next message on."),
    "created": T("Your bot is ready. Now give it a document to answer from."),
    "deleted": T("The bot was deleted."),
    "started": T("The bot answers again."),
    "stopped": T("The bot is paused. Customers get a short, polite message."),
    "uploaded": T("Received. The bot is reading it now."),
    "document_deleted": T("The document was deleted. The bot has forgotten it."),
    "shared_deleted": T("The document was deleted. The bot has forgotten it."),
    "restored": T("The document is back."),
    "retry": T("The document is being read again."),
    "file_shared": T("Saved. The bot may send this file to customers."),
    "file_not_shared": T("Saved. Customers do not receive this file."),
    "answered": T("Thank you. The bot will know this from the next message on."),
    "dismissed": T("Taken off the list."),
    "steps_hidden": T("Put away. “Show the first steps” at the bottom of this page brings them back."),
    "tests_added": T("The questions were added."),
    "tests_none": T("There is nothing new to add."),
    "test_deleted": T("The test question was deleted."),
    "answer_saved": T("Saved. The bot will answer this way from the next message on."),
    "answer_deleted": T("Deleted. The bot has forgotten this answer."),
    "talk_bot": T("The bot answers in this conversation again."),
    "talk_human": T("You have taken over this conversation. The bot stays silent in it."),
    "talk_closed": T("The conversation is closed. When the customer writes again, the bot answers."),
    "connected_here": T("Connected. What is left to do is written below."),
    "talk_assigned": T("Assigned."),
    "talk_unassigned": T("The conversation is nobody’s now."),
    "talk_snoozed": T("Put aside. It comes back then, or as soon as the customer writes."),
    "talk_unsnoozed": T("Back in the list."),
    "removed": T("Deleted."),
    "contact_deleted": T("The customer and everything that was said are deleted."),
    "web_connected": T("The bot’s page is open again."),
    "connected": T("Connected. Write to the bot in Telegram to try it."),
    "broadcast_tried": T("Sent to you alone. Look into Telegram."),
    "broadcast_tried_here": T("Sent to you alone: this is how it looks in a conversation."),
    "broadcast_sent": T("It goes out now. You may leave this page: you hear when it is done."),
    "broadcast_scheduled": T("Scheduled. Until then you can take it back."),
    "broadcast_pause": T("Paused. The few messages that were on their way still go."),
    "broadcast_resume": T("It goes on where it was."),
    "broadcast_stop": T("Stopped. Who has not got it gets nothing."),
    "broadcast_recall": T("It is a draft again."),
    "template_sent": T("The template is on its way. What becomes of it stands beside the message."),
    "key_checked": T("Checked. What the provider said stands at its name."),
    "checked": T("Checked. Below is what the network says."),
    "instagram_connected": T("Connected. Now enter the address and the word below in the Meta app."),
    "disconnected": T("Disconnected. You can still read the conversations."),
    "key_saved": T("Your OpenAI key is saved and encrypted."),
    "key_removed": T("Your OpenAI key was removed."),
    "password": T("Your new password is saved. You are signed out on all other devices."),
    "asked": T("Your request was sent. You hear from us in Telegram and by mail."),
    "request_withdrawn": T("The request was withdrawn."),
    "granted": T("Granted. The owner is told."),
    "declined": T("Declined. The owner is told."),
    "plan_moved": T("The end was moved. The owner is told."),
    "plan_changed": T("The plan was changed. The owner is told."),
    "plan_taken": T("The plan was ended. The owner is told."),
    "coupons_made": T("The coupons are made."),
    "coupon_disabled": T("The coupon cannot be used any more."),
    "paid_out": T("Noted as paid. The partner is told."),
    "payout_undone": T("Taken back. The partner is told."),
    "owner_banned": T("Blocked. The owner is told, and their bots do not answer any more."),
    "owner_unbanned": T("Unblocked. The owner is told, and their bots answer again."),
    "owner_written": T("The message is on its way, by mail and in Telegram."),
    "customer_written": T("Sent. The owner sees in the inbox that you wrote."),
    "view_begun": T("You see the panel as its owner does. Each page that you open is noted for them."),
    "view_over": T("Your look at this owner’s panel is over."),
    "view_ended": T("The view is ended."),
    "view_asked": T("The owner is asked. You can change something as soon as they agree."),
    "view_agreed": T("Allowed. You see here what the administrator opens and changes."),
    "view_refused": T("Not allowed. The administrator changes nothing."),
    "mail_retried": T("Letters go to this address again."),
    "password_reset": T("Your new password is saved, and all devices are signed out. Sign in with it."),
    "address_parted": T(
        "Your password is saved. This e-mail has an account of its own now: read the letter that we have sent you."
    ),
    "telegram_cut": T("Telegram is disconnected from your account."),
    "code_sent": T("A letter with a code is on its way."),
    "deletion_asked": T("Your account will be deleted in 14 days. Sign in before then if you want to keep it."),
    "account_kept": T("Your account stays. The bots that answered before answer again."),
    "second_factor_off": T("Two-step sign-in is off."),
    "accounts_joined": T("The two accounts are one now. Everything of both is here."),
    "email_confirmed": T("Your e-mail is confirmed."),
    "joined": T("Welcome to the team."),
    "invitation_withdrawn": T("The invitation was withdrawn. Its link no longer works."),
    "member_removed": T("Removed from the team. They no longer see anything of yours."),
    "role_changed": T("Saved. It applies at once."),
    "left": T("You have left the team."),
    "session_ended": T("That device was signed out."),
    "sessions_ended": T("You are signed out on all other devices."),
    "token_revoked": T("The token was revoked and no longer works."),
    "welcome": T("Welcome! You are signed in."),
    "signed_out": T("You are signed out."),
    "webhook_sent": T("On its way. Reload the page to see what your server answers."),
    "webhook_on": T("Switched on. The server is told from now on."),
    "webhook_off": T("Switched off. The server is told nothing."),
    "payment_cancelled": T("Cancelled. Nothing was paid."),
    "payment_ordered": T("The payment is made. When the money comes, note it here."),
    "payment_paid": T("Noted. The owner has the plan now."),
    "support_closed": T("Taken off the list. When the owner writes again, it comes back."),
    "payment_refunded": T("Noted. What the payment gave was taken back."),
    "set_aside_retried": T("It is being tried again."),
    "set_aside_discarded": T("Given up."),
    "error_hidden": T("Hidden. It stands under “Hidden ones”."),
    "error_shown": T("It is shown again."),
    "models_saved": T("Saved. It holds from the next question on."),
    "models_back": T("What config.toml says holds again."),
    "key_off": T("The key rests: this provider is not asked any more."),
    "key_on": T("The key is used again."),
    "announcement_saved": T("The draft is saved."),
    "announcement_tested": T("On its way to you."),
    "announcement_sent": T("The announcement is on its way."),
    "announcement_scheduled": T("It goes out at the time you chose."),
    "announcement_stopped": T("Stopped. Who was not written to yet will not be."),
    "announcement_deleted": T("The draft was deleted."),
    "backup_begun": T("The backup is being made."),
    "backup_deleted": T("The backup was deleted."),
}
"""What a page says after a form, by the short word in its address: the address never carries a text to show."""


UNDO: Mapping[str, str] = {
    "saved": "/bots/{}/versions/{}/restore",
    "brought_back": "/bots/{}/versions/{}/restore",
    "started": "/bots/{}/stop",
    "stopped": "/bots/{}/start",
    "document_deleted": "/bots/{}/documents/{}/restore",
    "shared_deleted": "/bots/{}/documents/{}/restore?shared=1",
    "dismissed": "/bots/{}/unanswered/{}/reopen",
}
"""Where the form leads that takes a thing back, by the same word; its places are filled with ids out of the address."""
_UNDONE = re.compile(r"[0-9a-z]{1,32}(\.[0-9a-z]{1,32})*")


def _undo(word: str, what: str) -> str:
    """Return where "Undo" leads, empty where nothing can be undone. It is a form: an address that was made up does nothing."""
    if word not in UNDO or not _UNDONE.fullmatch(what):
        return ""
    ids = what.split(".")
    return UNDO[word].format(*ids) if len(ids) == UNDO[word].count("{}") else ""


def toast_text(word: str, language: str) -> str:
    """Return the line for a word of :data:`DONE`, nothing for any other."""
    text = DONE.get(word)
    return text.render(language) if text else ""


def day_names(language: str) -> list[str]:
    """Return the names of the days from Monday."""
    names = get_day_names("wide", locale=_locale(language))
    return [str(names[day]) for day in range(7)]


def minutes(n: int, language: str) -> str:
    """Return a span of time in words, in hours where it is some."""
    if n % 60:
        return translate_plural(language, "{n} minute", "{n} minutes", n)
    return translate_plural(language, "{n} hour", "{n} hours", n // 60)


def redirect(location: str, *, toast: str = "", undo: Sequence[str] = ()) -> web.Response:
    """Send the browser on after a form; ``toast`` names the short line that the next page shows, ``undo`` what of it can be
    taken back: the ids for :data:`UNDO`.
    """
    if toast:
        location += ("&" if "?" in location else "?") + f"done={toast}"
        if undo:
            location += f"&undo={'.'.join(undo)}"
    return web.Response(status=303, headers={"Location": location})
