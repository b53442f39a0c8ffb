"""The user's guide: the Markdown of ``docs/guide`` as pages of the product, and which of them explains which page of the panel.

One text serves who reads it on GitHub and who reads it here. A heading has the same anchor in every language, the English one,
so that help links and the switch of languages stay at their place. Uzbek in Cyrillic is made from the Latin text, as everywhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp import web
from markupsafe import Markup

from services.i18n import CATALOGS, LANGUAGES, T, Text, in_cyrillic

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

DOCS = Path(__file__).resolve().parent.parent / "docs"
LIST = ""
"""The name of the page that lists the others."""
GROUPS: Mapping[str, tuple[Text, Sequence[str]]] = {
    "owners": (
        T("For shop owners"),
        (
            "first-bot",
            "knowledge",
            "inbox",
            "numbers",
            "broadcasts",
            "whatsapp",
            "instagram",
            "widget",
            "billing",
            "integrations",
            "support",
        ),
    ),
    "running": (T("For whoever runs the installation"), ("installation", "administration")),
}
"""All pages, in the order in which they are read. No other name is ever looked up on the disk."""
NAMES: Sequence[str] = tuple(name for _title, names in GROUPS.values() for name in names)

HELP: Mapping[str, str] = {
    "pages/dashboard.html": "numbers",
    "pages/bots.html": "first-bot",
    "pages/new_bot.html": "first-bot#in-the-panel",
    "pages/setup.html": "first-bot#in-the-panel",
    "pages/bot.html": "first-bot#how-the-bot-talks",
    "pages/versions.html": "first-bot#drafts-and-versions",
    "pages/documents.html": "knowledge",
    "pages/document.html": "knowledge#which-files-work",
    "pages/tests.html": "knowledge#test-questions",
    "pages/channels.html": "first-bot#connect-telegram",
    "pages/widget.html": "widget",
    "pages/inbox.html": "inbox",
    "pages/contact.html": "inbox#a-customers-card",
    "pages/labels.html": "inbox#labels-notes-putting-aside",
    "pages/ready_answers.html": "inbox#ready-answers",
    "pages/team.html": "inbox#team",
    "pages/template.html": "whatsapp#the-24-hour-window-and-templates",
    "pages/broadcasts.html": "broadcasts",
    "pages/broadcast_form.html": "broadcasts#writing",
    "pages/broadcast.html": "broadcasts#sending",
    "pages/broadcast_send.html": "broadcasts#sending",
    "pages/broadcast_receivers.html": "broadcasts#who-gets-none",
    "pages/broadcast_template.html": "broadcasts#who-gets-none",
    "pages/billing.html": "billing",
    "pages/billing_order.html": "billing#choosing-a-plan",
    "pages/payment.html": "billing#choosing-a-plan",
    "pages/request.html": "billing#without-an-online-payment",
    "pages/referrals.html": "billing#inviting-and-earning",
    "pages/webhooks.html": "integrations",
    "pages/webhook.html": "integrations#when-the-server-does-not-answer",
    "pages/webhook_event.html": "integrations#when-the-server-does-not-answer",
    "pages/settings.html": "integrations#api-tokens",
    "pages/reference.html": "integrations#api-tokens",
    "pages/reference_section.html": "integrations#api-tokens",
    "pages/views.html": "support#agreeing-or-refusing",
    "pages/view_pages.html": "support#who-looked",
    "pages/letter_texts.html": "installation#letters",
    "pages/letter_text.html": "installation#letters",
    "pages/notice_texts.html": "installation#letters",
    "pages/notice_text.html": "installation#letters",
    "admin/statistics.html": "administration",
    "admin/owners.html": "administration#owners",
    "admin/owner.html": "administration#owners",
    "admin/owner_plan.html": "administration#owners",
    "admin/conversations.html": "administration",
    "admin/conversation.html": "administration",
    "admin/files.html": "administration",
    "admin/channels.html": "administration",
    "admin/channel_webhooks.html": "administration",
    "admin/support.html": "administration",
    "admin/support_talk.html": "administration",
    "admin/requests.html": "administration",
    "admin/payments.html": "installation#taking-payments",
    "admin/payment.html": "installation#taking-payments",
    "admin/payment_new.html": "installation#taking-payments",
    "admin/payment_days.html": "installation#taking-payments",
    "admin/coupons.html": "administration",
    "admin/coupon.html": "administration",
    "admin/payouts.html": "administration",
    "admin/announcements.html": "administration#announcements",
    "admin/announcement_missed.html": "administration#announcements",
    "admin/announcement.html": "administration#announcements",
    "admin/models.html": "administration#models-and-costs",
    "admin/system.html": "administration#system",
    "admin/errors.html": "administration#system",
    "admin/audit.html": "administration",
}
"""What explains a page of the panel, by its template: a page of the guide and the anchor on it."""

_DESCRIPTION_CHARS = 200


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the guide in a language. ``sections``: anchor and title of its headings of the second level."""

    name: str
    title: str
    description: str
    html: Markup
    sections: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A screenshot. ``version``: changes with its content; ``width``, ``height``: in pixels."""

    path: Path
    version: str
    width: int
    height: int


def address(language: str, name: str = LIST, anchor: str = "") -> str:
    """Return where a page of the guide is."""
    return f"/guide/{language}{'/' if name else ''}{name}{'#' if anchor else ''}{anchor}"


def help_for(template: str, language: str) -> str:
    """Return the address of what explains the page of a template, empty where nothing does."""
    name, _, anchor = HELP.get(template, "").partition("#")
    return address(language, name, anchor) if name else ""


def _written(language: str) -> str:
    """Return the language of the files from which a language is drawn."""
    return language if language in CATALOGS else "uz"


def slug(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return "".join(each for each in title.lower() if each.isalnum() or each in " -_").replace(" ", "-")


def around(name: str) -> tuple[str, str]:
    """Return the names of the pages before and after one, empty where there is none."""
    at = NAMES.index(name) if name in NAMES else -1
    return NAMES[at - 1] if at > 0 else LIST, NAMES[at + 1] if 0 <= at < len(NAMES) - 1 else LIST


class Guide:
    """All pages, read and drawn when they are first asked for (a few milliseconds each) and kept."""

    def __init__(self, docs: Path = DOCS) -> None:
        self._docs = docs
        self._lock = threading.Lock()
        self._pages: dict[tuple[str, str], Page] = {}
        self._slugs: dict[tuple[str, str], Sequence[str]] = {}
        self._pictures: dict[tuple[str, str], Picture | None] = {}
        self._files = {
            (language, path.name): path
            for language in CATALOGS
            for path in sorted((docs / "screenshots" / language).glob("*.webp"))
        }
        self._markdown: MarkdownIt | None = None

    @property
    def markdown(self) -> MarkdownIt:
        """What reads and draws."""
        if self._markdown is None:
            # At first use: nobody needs it who never opens the guide.
            from markdown_it import MarkdownIt

            self._markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        return self._markdown

    async def load(self, language: str, name: str) -> Page:
        """Return a page and make sure of the titles of all others; raises ``KeyError`` for one that there is not."""
        if language not in LANGUAGES or name not in (LIST, *NAMES):
            raise KeyError(name)
        if any((language, each) not in self._pages for each in (LIST, *NAMES)):
            await asyncio.to_thread(self._read_all, language)
        return self._pages[language, name]

    def _read_all(self, language: str) -> None:
        with self._lock:
            for name in (LIST, *NAMES):
                self.read(language, name)

    def read(self, language: str, name: str) -> Page:
        """Return a page, of those that there are; reads files the first time."""
        if (language, name) not in self._pages:
            self._pages[language, name] = _Drawing(self, language, name).page()
        return self._pages[language, name]

    def contents(self, language: str) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return the titles of the groups of pages, and of each page its name and title."""
        return [
            (text.render(language), [(name, self.read(language, name).title) for name in names])
            for text, names in GROUPS.values()
        ]

    async def find_picture(self, language: str, file: str) -> Picture | None:
        """Return a screenshot by the name of its file, if there is such a one."""
        return await asyncio.to_thread(self.picture, language, file)

    def picture(self, language: str, file: str) -> Picture | None:
        """Do the work of :meth:`find_picture`; reads the file the first time."""
        key = (_written(language), file)
        if language not in LANGUAGES or key not in self._files:
            return None
        if key not in self._pictures:
            from PIL import Image

            path = self._files[key]
            with Image.open(path) as image:
                width, height = image.size
            self._pictures[key] = Picture(path, hashlib.sha256(path.read_bytes()).hexdigest()[:12], width, height)
        return self._pictures[key]

    def source(self, written: str, name: str) -> str:
        """Return the Markdown of a page."""
        return (self._docs / "guide" / written / f"{name or 'README'}.md").read_text("utf-8")

    def slugs(self, written: str, name: str) -> Sequence[str]:
        """Return the anchors of a file's headings as its own links name them, in their order."""
        if (written, name) not in self._slugs:
            tokens = self.markdown.parse(self.source(written, name))
            self._slugs[written, name] = [
                slug(_plain(words.children)) for each, words in pairwise(tokens) if each.type == "heading_open"
            ]
        return self._slugs[written, name]


GUIDE: web.AppKey[Guide] = web.AppKey("guide", Guide)


def _plain(tokens: Sequence[Token] | None) -> str:
    """Return the words of a line without its marks."""
    return "".join(" " if each.type == "softbreak" else each.content for each in tokens or () if each.type != "image")


class _Drawing:
    """One page on its way from Markdown to HTML."""

    def __init__(self, guide: Guide, language: str, name: str) -> None:
        self.guide, self.language, self.name, self.written = guide, language, name, _written(language)

    def _said(self, text: str) -> str:
        return in_cyrillic(text) if self.language == "uz-Cyrl" else text

    def page(self) -> Page:
        """Draw."""
        markdown = self.guide.markdown
        tokens = markdown.parse(self.guide.source(self.written, self.name))
        headings = iter(self.guide.slugs("en", self.name))
        sections = []
        for each, words in pairwise(tokens):
            if each.type == "heading_open":
                each.attrSet("id", next(headings))
            if words.type == "inline":
                words.children = list(self._line(words.children or ()))
                if each.type == "heading_open" and each.tag == "h2":
                    sections.append((str(each.attrGet("id")), _plain(words.children)))
        title = _plain(tokens[1].children)
        first = next((after for before, after in pairwise(tokens) if before.type == "paragraph_open"))
        drawn = markdown.renderer.render(list(self._framed(tokens[3:], title)), markdown.options, {})
        # The parser lets no HTML of the text through, and the text is ours.
        return Page(self.name, title, _cut(_plain(first.children)), Markup(drawn), sections)  # noqa: S704

    def _framed(self, tokens: Sequence[Token], label: str) -> Iterator[Token]:
        """Put what may be wider than a phone into a frame that scrolls by itself, can be reached by keys, and is called like
        its section; ``label``: what it is called before the first.
        """
        from markdown_it.token import Token

        for each, words in zip_longest(tokens, tokens[1:]):
            if each.type == "heading_open":
                label = _plain(words.children)
            if each.type in ("table_open", "fence"):
                named = {"class": "wide", "tabindex": "0", "role": "group", "aria-label": label}
                yield Token("frame_open", "div", 1, attrs=dict(named))
            yield each
            if each.type in ("table_close", "fence"):
                yield Token("frame_close", "div", -1)

    def _line(self, tokens: Sequence[Token]) -> Iterator[Token]:
        """Turn the words of a line into the reader's letters, and its links and pictures into addresses."""
        leads = True
        for each in tokens:
            if each.type == "text":
                each.content = self._said(each.content)
            elif each.type == "link_open":
                target = self._target(str(each.attrGet("href")))
                leads = bool(target)
                each.attrSet("href", target)
                if target.startswith("http"):
                    each.attrSet("rel", "noreferrer")
            elif each.type == "image":
                yield from self._shown(each)
                continue
            if leads or each.type not in ("link_open", "link_close"):
                yield each

    def _target(self, target: str) -> str:
        """Return the address of what a link names, empty for what is nowhere but among the files."""
        if target.startswith(("https://", "http://")):
            return target
        file, _, anchor = unquote(target).partition("#")
        path = (
            posixpath.normpath(posixpath.join(self.written, file))
            if file
            else f"{self.written}/{self.name or 'README'}.md"
        )
        written, _, rest = path.partition("/")
        name = LIST if rest == "README.md" else rest.removesuffix(".md")
        if written not in CATALOGS or name not in (LIST, *NAMES):
            return ""
        language = self.language if written == self.written else written
        if anchor:
            # As this heading is called in English.
            at = self.guide.slugs(written, name).index(anchor)
            anchor = self.guide.slugs("en", name)[at]
        return address(language, name, anchor)

    def _shown(self, image: Token) -> Iterator[Token]:
        """Make a picture of the guide one of ours, which opens in its whole size; one that is not there is left out."""
        from markdown_it.token import Token

        path = posixpath.normpath(posixpath.join("guide", self.written, str(image.attrGet("src"))))
        found = self.guide.picture(self.language, posixpath.basename(path)) if path.startswith("screenshots/") else None
        if found is None:
            return
        where = f"{address(self.language)}/pictures/{found.path.name}?v={found.version}"
        for each in image.children or ():
            each.content = self._said(each.content)
        image.attrs = {
            "src": where,
            "alt": _plain(image.children),
            "width": found.width,
            "height": found.height,
            "loading": "lazy",
            "decoding": "async",
        }
        yield Token("link_open", "a", 1, attrs={"href": where})
        yield image
        yield Token("link_close", "a", -1)


def _cut(text: str) -> str:
    """Return a text that is short enough for search engines, cut between words."""
    return text if len(text) <= _DESCRIPTION_CHARS else f"{text[:_DESCRIPTION_CHARS].rpartition(' ')[0]}…"


def serve(found: Picture, version: str) -> web.FileResponse:
    """Return the answer that sends a picture: kept for a year under the address that names its version, else asked for again."""
    kept = "public, max-age=31536000, immutable" if version == found.version else "no-cache"
    return web.FileResponse(found.path, headers={"Content-Type": "image/webp", "Cache-Control": kept})
