"""Pictures of every page: ``make screenshots``, or ``python -m bench.screenshots [--only NAME …] [--look uz …] [--into FOLDER]``.

The real program runs on loopback, with fakes where it would talk to the world, in an installation of its own that
:mod:`bench.installation` fills. Chromium opens each page of :data:`PAGES` in each look and keeps what a screen shows in
``docs/screenshots``, with an index. It is a check as well: a page that answers with an error, says something on the console, asks
another host, is wider than the screen or shows an untranslated text is named, and the command fails.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bench import installation, scenes
from bench.product import NotMeasurable, Product, config_text, ready
from db import migrate
from services.crypto import Crypto
from services.i18n import translate
from services.settings import ROOT, read_settings

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext
    from playwright.async_api import Page as Tab

FOLDER = ROOT / "docs" / "screenshots"
PUBLIC_URL = "https://botfactory.example"
FACTORY_TOKEN = "7700000000:AA_not_a_real_token_of_a_factory_0"
MOST_BYTES = 45_000
TOGETHER_BYTES = 8_000_000
_COLOURS = (128, 96, 64)
_QUALITIES = (75, 66, 58, 50, 40)
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_CHANGES: Mapping[str, object] = {
    "server.public_url": PUBLIC_URL,
    "mail.sender": "salom@botfactory.example",
    "payments.usd_rate_uzs": "12600",
    "limits.login_attempts_per_15_min": 1000,
}


async def _try(tab: Tab) -> None:
    for place, question in enumerate(("iPhone 15 narxi qancha?", "Toshkentga yetkazib berasizlarmi?")):
        await tab.fill("#chat-text", question)
        await tab.press("#chat-text", "Enter")
        await tab.locator(".chat .made-of").nth(place).wait_for()


async def _write_news(tab: Tab) -> None:
    await tab.fill("#text_uz", scenes.NEWS[1])
    await tab.fill("#text_ru", scenes.NEWS[2])
    await tab.locator(".broadcast-bubble").nth(1).wait_for()
    await tab.evaluate("document.activeElement.blur(); scrollTo(0, 0)")


async def _with_prices(tab: Tab) -> None:
    """The book of prices is read when it is first asked for."""
    language = await tab.get_attribute("html", "lang") or ""
    for _ in range(20):
        if not await tab.get_by_text(translate(language, "being looked up; load the page again in a moment")).count():
            return
        await asyncio.sleep(0.5)
        await tab.reload()


@dataclass(frozen=True)
class Page:
    """A page and how its picture is taken: one line of the table.

    ``path``: with names of :class:`bench.installation.Installation`. ``who``: ``nobody``, ``newcomer``, ``owner`` or ``admin``.
    ``at``: what stands at the top, else the page's beginning. ``act``: what is done before.
    """

    name: str
    what: str
    path: str
    who: str = "owner"
    at: str = ""
    act: Callable[[Tab], Awaitable[None]] | None = None


PAGES = (
    Page("landing", "First page", "/", "nobody"),
    Page("register", "Registration", "/register", "nobody"),
    Page("sign-in", "Signing in", "/login", "nobody"),
    Page("chat", "A bot’s own page", "/chat/{public}", "nobody"),
    Page("first-steps", "First steps", "/dashboard", "newcomer"),
    Page("bot-setup", "Setting a new bot up", "/bots/{newcomer_bot}/setup", "newcomer"),
    Page("bot-new", "A new bot", "/bots/new"),
    Page("dashboard", "Dashboard", "/dashboard"),
    Page("bots", "Bots", "/bots"),
    Page("bot", "A bot’s settings beside the test chat", "/bots/{bot}"),
    Page("bot-try", "The test chat with sources, model, cost and time", "/bots/{bot}", at="#chat-title", act=_try),
    Page("bot-lines", "The bot’s own lines by language", "/bots/{bot}?lines=1", at="#own-lines"),
    Page("versions", "Versions of the bot’s words", "/bots/{bot}/versions"),
    Page("knowledge", "Knowledge", "/bots/{bot}/documents"),
    Page("knowledge-search", "What the bot would find", "/bots/{bot}/documents?q=iphone+narxi", at="#search-title"),
    Page("questions", "Unanswered questions", "/bots/{bot}/documents", at="#unanswered"),
    Page("document", "A document as it was understood", "/bots/{bot}/documents/{document}"),
    Page("tests", "Test questions and their runs", "/bots/{bot}/tests"),
    Page("channels", "Channels with their health", "/bots/{bot}/channels"),
    Page("channel-whatsapp", "Connecting WhatsApp", "/bots/{service}/channels", at="#whatsapp-title"),
    Page("channel-instagram", "Connecting Instagram", "/bots/{service}/channels", at="#instagram-title"),
    Page("share", "The link and its QR code", "/bots/{bot}/channels", at="#share"),
    Page("widget", "The chat on one’s own site", "/bots/{bot}/widget"),
    Page("inbox", "Conversations", "/inbox"),
    Page("talk", "A conversation that waits for a person", "/inbox/{talk}"),
    Page("contact", "A customer’s card", "/contacts/{contact}"),
    Page("labels", "Labels", "/inbox/labels"),
    Page("ready-answers", "Ready answers", "/inbox/replies"),
    Page("broadcasts", "Broadcasts", "/bots/{bot}/broadcasts"),
    Page("broadcast", "A broadcast’s report", "/bots/{bot}/broadcasts/{broadcast}"),
    Page("broadcast-new", "Writing a broadcast", "/bots/{bot}/broadcasts/new", act=_write_news),
    Page("billing", "Plan and payments", "/billing"),
    Page("billing-order", "Ordering a plan", "/billing/order?plan=premium&period=quarterly"),
    Page("billing-pay", "Paying", "/billing/payments/{waits}"),
    Page("request", "Asking for access", "/billing/request"),
    Page("referrals", "Invite and earn", "/billing/referrals"),
    Page("team", "Team", "/team"),
    Page("account", "Account", "/settings"),
    Page("two-step", "Two-step sign-in", "/settings/two-step"),
    Page("views", "Who looked at the panel", "/settings/views"),
    Page("webhooks", "Webhooks out", "/settings/webhooks"),
    Page("webhook", "A webhook with its log", "/settings/webhooks/{endpoint}"),
    Page("reference", "The API reference", "/settings/api/bots"),
    Page("search", "Search", "/search?q=iphone"),
    Page("support", "Help and support", "/support"),
    Page("admin-statistics", "Statistics", "/admin/statistics", "admin"),
    Page("admin-owners", "Owners", "/admin/owners", "admin"),
    Page("admin-owner", "An owner", "/admin/owners/{owner}", "admin"),
    Page("admin-owner-plan", "An owner’s plan", "/admin/owners/{owner}/plan", "admin"),
    Page("admin-conversations", "All conversations", "/admin/conversations", "admin"),
    Page("admin-conversation", "A conversation", "/admin/conversations/{talk}", "admin"),
    Page("admin-support", "Support", "/admin/support", "admin"),
    Page("admin-support-talk", "A talk with an owner", "/admin/support/{owner}", "admin"),
    Page("admin-requests", "Requests", "/admin/requests", "admin"),
    Page("admin-payments", "Payments", "/admin/payments", "admin"),
    Page("admin-payment", "A payment", "/admin/payments/{payment}", "admin"),
    Page("admin-coupons", "Coupons", "/admin/coupons", "admin"),
    Page("admin-payouts", "Payouts to partners", "/admin/payouts", "admin"),
    Page("admin-announcements", "Announcements", "/admin/announcements", "admin"),
    Page("admin-announcement", "An announcement’s report", "/admin/announcements/{announcement}", "admin"),
    Page("admin-missed", "Who was not reached", "/admin/announcements/{announcement}/missed", "admin"),
    Page("admin-texts", "Texts of letters", "/admin/texts", "admin"),
    Page("admin-text", "A letter’s text", "/admin/texts/plan_ends/uz", "admin"),
    Page("admin-notice", "A notice’s text", "/admin/texts/notices/token_refused/uz", "admin"),
    Page("admin-models", "Models and costs", "/admin/models", "admin", act=_with_prices),
    Page("admin-system", "System", "/admin/system", "admin"),
    Page("admin-errors", "Errors of the log", "/admin/system/errors", "admin"),
    Page("admin-audit", "Audit log", "/admin/audit", "admin"),
    Page("admin-files", "All files", "/admin/files", "admin"),
    Page("admin-channels", "All integrations", "/admin/channels", "admin"),
)


@dataclass(frozen=True)
class Look:
    """How all pages are looked at; ``name`` is the folder's."""

    name: str
    title: str
    language: str
    width: int = 1366
    height: int = 850
    scheme: str = "light"

    @property
    def phone(self) -> bool:
        """Whether it is the narrow screen."""
        return self.width < 600


LOOKS = (
    Look("uz", "O‘zbekcha", "uz"),
    Look("ru", "Русский", "ru"),
    Look("en", "English", "en"),
    Look("phone", "Phone, dark", "uz", 390, 844, "dark"),
)


def index() -> str:
    """Return what ``README.md`` of the folder says."""
    head = (
        "# Screenshots\n\nMade by `make screenshots` from an installation with invented people; do not change by hand.\n\n"
        f"| Page | {' | '.join(look.title for look in LOOKS)} |\n| --- |{' --- |' * len(LOOKS)}\n"
    )
    rows = (
        f"| {page.what}<br>`{page.name}` | "
        + " | ".join(f"[![{page.what}]({look.name}/{page.name}.webp)]({look.name}/{page.name}.webp)" for look in LOOKS)
        + " |\n"
        for page in PAGES
    )
    return head + "".join(rows)


@cache
def untranslated(language: str) -> frozenset[str]:
    """Return the English texts that are said otherwise in a language: on its pages they must not stand."""
    from babel.messages.pofile import read_po

    from services.i18n import LOCALES_DIR

    with (LOCALES_DIR / language / "LC_MESSAGES" / "messages.po").open("rb") as file:
        catalog = read_po(file, locale=language)
    found: set[str] = set()
    for message in catalog:
        ids, said = (
            {" ".join(each.split()) for each in (given if isinstance(given, tuple | list) else (given,)) if each}
            for given in (message.id, message.string)
        )
        found |= {each for each in ids - said if said and "{" not in each}
    return frozenset(found)


# What people see or hear of a page, but for what customers wrote.
TEXTS = """() => {
  const found = [], skipped = "script, style, svg, code, pre, textarea, .bubble, [lang]:not(html)";
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.data.replace(/\\s+/g, " ").trim();
    if (text && !walk.currentNode.parentElement.closest(skipped)) found.push(text);
  }
  for (const node of document.querySelectorAll("[aria-label], [placeholder], [title], [alt]"))
    if (!node.closest(skipped))
      for (const name of ["aria-label", "placeholder", "title", "alt"])
        if (node.getAttribute(name)) found.push(node.getAttribute(name).replace(/\\s+/g, " ").trim());
  return found;
}"""
_READY = """() => document.fonts.status === "loaded"
  && [...document.images].every((image) => image.complete || image.loading === "lazy")
  && [...document.querySelectorAll("figure[data-chart]")].every((chart) =>
    chart.getBoundingClientRect().top >= innerHeight || chart.querySelector("canvas"))"""
_PUT_ON_TOP = """(place) => {
  const node = document.querySelector(place), bar = document.querySelector("header.top");
  const top = (node.closest("section") || node).getBoundingClientRect().top + scrollY;
  scrollTo({ top: top - 16 - (bar ? bar.getBoundingClientRect().height : 0), behavior: "instant" });
}"""


def webp(png: bytes) -> bytes:
    """Return a picture as WebP, as good as :data:`MOST_BYTES` let it be: few colours without loss, else many with it."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    for colours in _COLOURS:
        few = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")
        made = _saved(few, lossless=True, quality=80)
        if len(made) <= MOST_BYTES:
            return made
    for quality in _QUALITIES:
        made = _saved(picture, quality=quality)
        if len(made) <= MOST_BYTES:
            return made
    return made


def _saved(picture: Any, **how: Any) -> bytes:
    kept = io.BytesIO()
    picture.save(kept, "WEBP", method=4, **how)
    return kept.getvalue()


@dataclass
class Photographer:
    """Takes the pictures of one running installation into ``folder``; ``troubles``: what was wrong, by page."""

    browser: Browser
    base: str
    database_url: str
    made: installation.Installation
    folder: Path
    states: dict[str, Any] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    async def look(self, look: Look, pages: Sequence[Page]) -> None:
        """Take pictures of these pages in one look."""
        (self.folder / look.name).mkdir(parents=True, exist_ok=True)
        await installation.speak(self.database_url, look.language)
        for who in dict.fromkeys(page.who for page in pages):
            context = await self._context(look, who)
            try:
                for page in pages:
                    if page.who == who:
                        await self._take(context, look, page)
            finally:
                await context.close()

    async def sign_in(self) -> None:
        """Sign everybody in once, by one-time links; their cookies serve every look."""
        people = {"newcomer": "newcomer", "owner": "owner", "admin": "admin"}
        tokens = await installation.links(self.database_url, [self.made.ids[person] for person in people.values()])
        for who, token in zip(people, tokens, strict=True):
            context = await self._context(LOOKS[0], who)
            tab = await context.new_page()
            await tab.goto(f"{self.base}/login/link?token={token}")
            await tab.click("main form button")
            await tab.wait_for_url("**/dashboard*")
            self.states[who] = await context.storage_state()
            await context.close()

    async def _context(self, look: Look, who: str) -> BrowserContext:
        options: dict[str, Any] = {
            "locale": look.language,
            "timezone_id": "Asia/Tashkent",
            "color_scheme": look.scheme,
            "reduced_motion": "reduce",
            "viewport": {"width": look.width, "height": look.height},
            "user_agent": _AGENT,
            "storage_state": self.states.get(who),
        }
        if look.phone:
            options |= {"is_mobile": True, "has_touch": True}
        return await self.browser.new_context(**options)

    async def _take(self, context: BrowserContext, look: Look, page: Page) -> None:
        from playwright.async_api import Error as BrowserError

        tab, name, own = await context.new_page(), f"{look.name}/{page.name}", urlsplit(self.base).netloc
        heard: list[str] = []

        def asked(request: Any) -> None:
            parts = urlsplit(request.url)
            if parts.scheme not in ("data", "blob") and parts.netloc != own:
                heard.append(f"asks {request.url}")

        tab.on("console", lambda said: heard.append(said.text) if said.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("request", asked)
        try:
            answer = await tab.goto(self.base + page.path.format(**self.made.ids))
            if answer is None or answer.status != 200:
                heard.append(f"status {answer.status if answer else 'none'}")
            if page.act:
                await page.act(tab)
            await tab.wait_for_function(_READY)
            if page.at:
                await tab.evaluate(_PUT_ON_TOP, page.at)
            wide = await tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wide > 0:
                heard.append(f"{wide} px too wide")
            texts = set(await tab.evaluate(TEXTS))
            heard += [f"not translated: {text}" for text in sorted(texts & untranslated(look.language))]
            heard += [f"shows {text}" for text in sorted(texts & {"None", "undefined", "NaN"})]
            png = await tab.screenshot(animations="disabled", caret="hide")
            picture = webp(png)
            if len(picture) > MOST_BYTES:
                heard.append(f"{len(picture)} bytes")
            (self.folder / f"{name}.webp").write_bytes(picture)
        except BrowserError as error:
            # The next pages are looked at all the same.
            heard.append(str(error).splitlines()[0])
        finally:
            await tab.close()
        self.troubles += [f"{name}: {text}" for text in heard]
        print(f"{'✗' if heard else '✓'} {name}", flush=True)


@asynccontextmanager
async def _installed() -> AsyncIterator[tuple[Product, installation.Installation]]:
    """Fill an installation and start it, with fakes of Telegram, the models and the mail on loopback."""
    from tests.fakes.models import FakeModels
    from tests.fakes.smtp import FakeMail
    from tests.fakes.telegram import FakeTelegram

    def reply(seen: Any) -> str:
        asked = seen.text.lower()
        return next(said for part, said in scenes.REPLIES.items() if part in asked)

    (ROOT / "data").mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="screenshots-", dir=ROOT / "data"))
        telegram = await stack.enter_async_context(FakeTelegram(strict_chats=False))
        for token, name in (
            (FACTORY_TOKEN, "botfactory_bot"),
            (installation.SHOP_TOKEN, "texno_savdo_bot"),
            (installation.SERVICE_TOKEN, "texno_servis_bot"),
        ):
            telegram.add_bot(token, name)
        models = FakeModels(reply=reply, latency_s=0.9)
        models_url = await models.start()
        stack.push_async_callback(models.stop)
        mail = await stack.enter_async_context(FakeMail())
        product = Product(
            Path(folder), telegram_url=telegram.base_url, openai_url=models_url, factory_token=FACTORY_TOKEN
        )
        product.config.write_text(config_text(_CHANGES))
        product.environment |= {
            **mail.environment(),
            "WEBHOOK_BASE_URL": PUBLIC_URL,
            "GEMINI_BASE_URL": models_url,
            "GEMINI_API_KEY": "not-a-real-key-gemini",
            "OPENAI_API_KEY": "not-a-real-key-openai",
            "PAYME_MERCHANT_ID": "5e730e8e0b852a417aa49ceb",
            "PAYME_KEY": "not-a-real-key-payme",
            "CLICK_SERVICE_ID": "12345",
            "CLICK_MERCHANT_ID": "6789",
            "CLICK_MERCHANT_USER_ID": "1234",
            "CLICK_SECRET_KEY": "not-a-real-key-click",
        }
        settings = read_settings(product.config, environment=product.environment, env_file=None)
        await migrate.upgrade(settings.database_url)
        made = await installation.fill(settings, Crypto.from_text(product.environment["ENCRYPTION_KEYS"]))
        program = product.start()
        stack.callback(program.stop)
        try:
            await ready(product.address)
            await installation.read(settings.database_url)
            yield product, made
        except NotMeasurable as error:
            raise NotMeasurable(f"{error}\n{program.last_lines()}") from None


async def run(pages: Sequence[Page], looks: Sequence[Look], folder: Path) -> list[str]:
    """Take the pictures; return what was wrong, a line each."""
    from playwright.async_api import async_playwright

    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise NotMeasurable("Chromium is not installed")
    async with _installed() as (product, made), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=_FLAGS.split())
        camera = Photographer(browser, product.address, product.database_url, made, folder)
        try:
            await camera.sign_in()
            for look in looks:
                await camera.look(look, pages)
        finally:
            await browser.close()
    return camera.troubles


def tidy(folder: Path) -> None:
    """Write the index and remove pictures of pages that are not in the table any more."""
    (folder / "README.md").write_text(index())
    known = {folder / look.name / f"{page.name}.webp" for look in LOOKS for page in PAGES}
    for path in folder.glob("*/*"):
        if path not in known:
            path.unlink()


def main() -> int:
    """Read the arguments, take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description="Take pictures of every page.")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only pages of these names")
    parser.add_argument("--look", nargs="+", metavar="LOOK", help="only these looks: uz, ru, en, phone")
    parser.add_argument("--into", type=Path, default=FOLDER, metavar="FOLDER", help="where to")
    given = parser.parse_args()
    pages = [page for page in PAGES if not given.only or page.name in given.only]
    looks = [look for look in LOOKS if not given.look or look.name in given.look]
    try:
        troubles = asyncio.run(run(pages, looks, given.into))
    except NotMeasurable as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    tidy(given.into)
    size = sum(path.stat().st_size for path in given.into.rglob("*.webp"))
    if size > TOGETHER_BYTES:
        troubles.append(f"together {size} bytes, at most {TOGETHER_BYTES}")
    print(f"{len(pages) * len(looks)} pictures, {size / 1e6:.1f} MB together")
    for trouble in troubles:
        print(f"✗ {trouble}", file=sys.stderr)
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
