"""The owner's pages of plans and payments, over HTTP: choosing, paying by a gateway's call, receipts, and whose they are."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import io
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import unescape
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pypdf
import pytest
from sqlalchemy import func, select, update

from db import models
from services import accounts, plans
from services.i18n import LANGUAGES, translate
from tests import servers
from tests.payments.till import AS_SOLD, ENVIRONMENT, NOW, Till
from tests.web.panel import Browser, Page, Site, open_site

KEYS = {name: value for name, value in ENVIRONMENT.items() if name != "WEBHOOK_BASE_URL"}
MONTH, BASIC = dt.timedelta(days=30), 29_000_000


@dataclass
class Shop:
    """The panel, its clock and the gateways that call it."""

    site: Site
    till: Till

    async def owner(self, name: str, language: str = "en") -> tuple[models.User, Browser]:
        """Make an owner who has just registered, and sign them in."""
        person = await self.site.person(name, language=language)
        async with self.site.core.db.write() as session:
            row = await session.get_one(models.User, person.id)
            row.created_at, row.language = self.till.moment, language
        return person, await self.site.signed_in(person)

    async def payment(self, number: str) -> models.Payment:
        """Return a payment as it is now."""
        async with self.site.core.db.read() as session:
            found = await session.scalar(select(models.Payment).where(models.Payment.number == number))
        assert found is not None
        return found

    async def ordered(
        self, browser: Browser, plan: str = "basic", period: str = "monthly", **fields: str
    ) -> models.Payment:
        """Order a plan by the form."""
        page = await browser.post("/billing/order", **{"plan": plan, "period": period, "gateway": "payme", **fields})
        assert page.status == 303, page.visible()
        return await self.payment(page.location.rsplit("/", 1)[1])

    async def paid(self, payment: models.Payment) -> str:
        """Let Payme pay; return its id."""
        id_ = await self.till.payme_created(payment)
        result = await self.till.payme("PerformTransaction", id=id_)
        assert result.get("state") == 2, result
        return id_


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("billing")
    limits = {**AS_SOLD, "limits": {"login_attempts_per_15_min": 5}}
    async with (
        open_site(folder, servers_run.new_sqlite(folder), environment=KEYS, overrides=limits) as site,
        aiohttp.ClientSession() as http,
    ):
        till = Till(site.core, http, site.base)
        site.core.now = lambda: till.moment
        yield Shop(site, till)


@pytest.fixture(autouse=True)
def _clock(shop: Shop) -> None:
    shop.till.moment = NOW


def said(page: Page) -> str:
    """Return what a page shows, with plain spaces."""
    return " ".join(page.visible().split())


async def count(shop: Shop, user: models.User) -> int:
    async with shop.site.core.db.read() as session:
        own = select(func.count(models.Payment.id)).where(models.Payment.user_id == user.id)
        return int(await session.scalar(own) or 0)


async def test_what_there_is_and_what_it_costs(shop: Shop) -> None:
    _, browser = await shop.owner("Chooser")
    shown = said(await browser.get("/billing"))
    assert "You are on the plan Trial until 4 Dec 2026, 10:00." in shown
    assert "Then the plan Test mode follows, until 15 Dec 2026, 10:00." in shown
    assert "149 000 UZS for 30 days" in shown and "290 000 UZS for 30 days" in shown
    assert "15,000 messages a month" in shown
    year = said(await browser.get("/billing?period=annual"))
    assert "2 958 000 UZS for 365 days · 246 500 UZS a month" in year
    assert "149 000 UZS for 30 days" in said(await browser.get("/billing?period=<script>"))
    for moment, wanted in (
        (NOW + dt.timedelta(days=5), "You are on the plan Test mode until 15 Dec 2026, 10:00."),
        (NOW + dt.timedelta(days=14), "You have no plan now: your bots do not answer."),
    ):
        shop.till.moment = moment
        assert wanted in said(await browser.get("/billing"))


async def test_every_page_says_that_the_plan_ends(shop: Shop) -> None:
    """Soon, in the days of grace and afterwards, to whoever has bots; not beside the page that says it in full."""
    person, browser = await shop.owner("Ending")
    await shop.paid(await shop.ordered(browser))
    ends = "You are on the plan Basic until 31 Dec 2026, 10:00."
    over = "You have no plan now: your bots do not answer."
    shop.till.moment = NOW + dt.timedelta(days=28)
    assert ends not in said(await browser.get("/settings"))
    await shop.site.bot_of(person)
    # The first steps name the plan too, also when it is chosen.
    assert (await browser.post("/dashboard/steps", do="hide")).status == 303
    for days, wanted in ((26, ""), (28, ends), (31, "Bots still answer until 3 Jan 2027, 10:00."), (34, over)):
        shop.till.moment = NOW + dt.timedelta(days=days)
        for path in ("/dashboard", "/settings"):
            shown = said(await browser.get(path))
            assert (wanted in shown) and ("Choose a plan" in shown) == bool(wanted), (days, path)
        assert said(await browser.get("/billing")).count(wanted or ends) == 1
    shown = said(await browser.get("/billing"))
    assert "Messages this month" not in shown
    shop.till.moment = NOW + dt.timedelta(days=28)
    await shop.paid(await shop.ordered(browser))
    assert ends not in said(await browser.get("/dashboard"))


@pytest.mark.parametrize(("language", "trial"), [("uz", "“Sinov davri”"), ("ru", "«Пробный период»")])
async def test_free_days_have_a_name_in_every_language(shop: Shop, language: str, trial: str) -> None:
    person, browser = await shop.owner(f"Free{language}")
    await browser.post("/preferences", language=language, next="/billing")
    assert trial in said(await browser.get("/billing"))
    await shop.site.bot_of(person)
    refused = await browser.post("/bots", name="Ikkinchi <b>")
    told = refused.visible()
    assert trial in told and "Trial" not in told
    # The address that a messenger gets is a link on a page.
    alert = refused.text.partition('role="alert"')[2].partition("</div>")[0]
    assert '<a href="/billing">' in alert and "http" not in alert.partition("</svg>")[2]
    home = (await browser.get("/dashboard")).text.partition('id="plan-title"')[2].partition("</h2>")[0]
    assert trial[1:-1] in home


async def test_what_is_used_of_a_plan_is_marked_before_it_stops_the_bots(shop: Shop) -> None:
    """Alike where it is shown; the only bot of a plan in use is nothing to be alarmed about. Without a plan there is nothing."""
    person, browser = await shop.owner("Counting")
    await shop.site.bot_of(person)
    for used, state in ((200, ""), (240, "near"), (300, "full")):
        async with shop.site.core.db.write() as session:
            row = models.MessageQuota(user_id=person.id, month=plans.month_of(NOW), used=used)
            await session.merge(row)
        for path in ("/dashboard", "/billing"):
            shown = (await browser.get(path)).text.partition('<dl class="used">')[2].partition("</dl>")[0]
            marked = re.findall(r'<dd(?: class="(\w+)")?>', shown)
            assert marked[0] == state and not any(marked[1:]), (path, used, marked)
            assert f"{used} of 300" in shown and "1 of 1" in shown
    shop.till.moment = NOW + dt.timedelta(days=14)
    for path in ("/dashboard", "/billing"):
        assert "of 0" not in said(await browser.get(path))


async def test_an_administrator_has_nothing_to_buy_but_a_test(shop: Shop) -> None:
    person, browser = await shop.owner("Boss")
    async with shop.site.core.db.write() as session:
        (await session.get_one(models.User, person.id)).role = "admin"
    assert "Your account has no limits and pays nothing." in said(await browser.get("/billing"))
    assert (await browser.post("/billing/order", plan="basic", period="monthly", gateway="click")).status == 400
    payment = await shop.ordered(browser)
    assert payment.sandbox
    shown = said(await browser.get(f"/billing/payments/{payment.number}"))
    assert "Test" in shown and "Click" not in shown


async def test_a_payment_page_says_all_that_is_needed_to_pay(shop: Shop) -> None:
    person, browser = await shop.owner("Payer")
    payment = await shop.ordered(browser, gateway="click")
    assert (payment.user_id, payment.amount_tiyin, payment.status) == (person.id, BASIC, "waiting")
    page = await browser.get(f"/billing/payments/{payment.number}")
    shown = said(page)
    for wanted in (
        "Waiting for payment",
        "290 000 UZS",
        payment.number,
        "Pay with Click",
        "Pay with Payme",
        "Uzum Bank",
    ):
        assert wanted in shown
    links = [unescape(part.split('"')[0]) for part in page.text.split('href="https://')[1:]]
    assert parse_qs(urlsplit("https://" + links[0]).query)["transaction_param"] == [payment.number]
    payme = base64.b64decode(next(link for link in links if "paycom" in link).rsplit("/", 1)[1]).decode()
    assert f"ac.order_id={payment.number};a={BASIC};l=en;" in payme
    assert 'src="data:image/svg+xml' in page.text and '<meta http-equiv="refresh"' in page.text
    assert payment.number in said(await browser.get("/billing"))


async def test_what_a_form_cannot_say_changes_nothing(shop: Shop) -> None:
    """Amount, price, state, owner, clock: the server's own, whatever is sent."""
    other, _ = await shop.owner("Victim")
    person, browser = await shop.owner("Mallory")
    extra = {"amount": "1", "amount_tiyin": "1", "price_tiyin": "1", "discount_tiyin": "1", "credit_tiyin": "28999999"}
    extra |= {
        "status": "paid",
        "paid_at": "2026-12-01",
        "user_id": other.id,
        "owner": other.id,
        "number": "1",
        "id": "x",
    }
    extra |= {
        "balance_tiyin": "29000000",
        "sandbox": "1",
        "kind": "upgrade",
        "paid_by": "payme",
        "expires_at": "2099-01-01",
    }
    payment = await shop.ordered(browser, **extra)
    known = (payment.user_id, payment.price_tiyin, payment.amount_tiyin, payment.status, payment.sandbox, payment.kind)
    assert known == (person.id, BASIC, BASIC, "waiting", False, "new")
    assert payment.expires_at == NOW + dt.timedelta(hours=24) and payment.number != "1"
    assert await count(shop, other) == 0
    page = await browser.post(f"/billing/payments/{payment.number}/cancel", status="paid", user_id=other.id)
    assert page.status == 303
    assert (await shop.payment(payment.number)).status == "cancelled"


@pytest.mark.parametrize(
    "fields",
    [
        {"plan": "trial"},
        {"plan": "golden"},
        {"plan": ""},
        {"period": "weekly"},
        {"period": "days"},
        {"gateway": "manual"},
        {"gateway": "balance"},
        {"gateway": ""},
        {"coupon": "NO_SUCH_COUPON"},
        {"coupon": "x" * 81},
    ],
)
async def test_what_cannot_be_ordered_is_refused(shop: Shop, fields: dict[str, str]) -> None:
    async with shop.site.core.db.read() as session:
        person = await accounts.by_email(session, "refused@example.uz")
    if person is None:
        person, _ = await shop.owner("Refused")
    browser = await shop.site.signed_in(person)
    page = await browser.post("/billing/order", **{"plan": "basic", "period": "monthly", "gateway": "payme", **fields})
    assert page.status == 400
    assert await count(shop, person) == 0


async def test_the_order_page_sent_from_two_windows(shop: Shop) -> None:
    """The second press shows the payment that the first one made; another wish of an old page is asked for again."""
    person, browser = await shop.owner("Twice")
    row = models.ReferralEntry(partner_id=person.id, kind="commission", amount_tiyin=3 * BASIC, available_at=NOW)
    async with shop.site.core.db.write() as session:
        session.add(row)
    page = await browser.get("/billing/order?plan=basic&period=monthly")
    basis = page.text.partition('name="basis" value="')[2].partition('"')[0]
    first = await shop.ordered(browser, use_balance="1", basis=basis)
    second = await shop.ordered(browser, use_balance="1", basis=basis)
    assert first.id == second.id and first.status == "paid" and await count(shop, person) == 1
    wish = {"plan": "premium", "period": "monthly", "gateway": "payme", "basis": basis}
    stale = await browser.post("/billing/order", **wish)
    assert stale.status == 409 and "has changed since this page was opened" in said(stale)
    fresh = stale.text.partition('name="basis" value="')[2].partition('"')[0]
    assert (await shop.ordered(browser, "premium", basis=fresh)).kind == "upgrade"


async def test_codes_are_not_guessed(shop: Shop) -> None:
    _, browser = await shop.owner("Guesser")
    wish = {"plan": "basic", "period": "monthly", "gateway": "payme"}
    statuses = [(await browser.post("/billing/order", coupon=f"SAVE{n}_UZ", **wish)).status for n in range(6)]
    assert statuses == [400] * 5 + [429]


async def test_nobody_else_sees_it(shop: Shop) -> None:
    owner, browser = await shop.owner("Owner1")
    stranger, foreign = await shop.owner("Stranger1")
    async with shop.site.core.db.write() as session:
        session.add(models.Member(owner_id=owner.id, user_id=stranger.id, role="manager"))
    payment = await shop.ordered(browser)
    place = f"/billing/payments/{payment.number}"
    for path in (place, f"{place}/state", f"{place}/receipt.pdf", "/billing/payments/1"):
        assert (await foreign.get(path, **{"HX-Request": "true"})).status == 404
    assert (await foreign.post(f"{place}/cancel")).status == 404
    assert payment.number not in (await foreign.get("/billing")).text
    await shop.paid(payment)
    assert (await foreign.get(f"{place}/receipt.pdf")).status == 404
    assert (await shop.payment(payment.number)).status == "paid"


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_receipt_is_there_when_it_is_paid(shop: Shop, language: str) -> None:
    person, browser = await shop.owner(f"Reader{language.replace('-', '')}", language)
    async with shop.site.core.db.write() as session:
        (await session.get_one(models.User, person.id)).full_name = "O‘ktam Ғуломов"
    payment = await shop.ordered(browser)
    place = f"/billing/payments/{payment.number}"
    assert (await browser.get(f"{place}/receipt.pdf")).status == 404
    id_ = await shop.paid(payment)
    answer = await browser.http.get(f"{shop.site.base}{place}/receipt.pdf")
    assert answer.content_type == "application/pdf"
    assert f'filename="receipt-{payment.number}.pdf"' in answer.headers["Content-Disposition"]
    text = " ".join(pypdf.PdfReader(io.BytesIO(await answer.read())).pages[0].extract_text().split())
    word = {"uz": "so‘m", "uz-Cyrl": "сўм", "ru": "сум", "en": "UZS"}[language]
    for wanted in (
        translate(language, "Receipt {number}", number=f"№ {payment.number}"),
        translate(language, "Monthly") + ", 01.12.2026 – 31.12.2026",
        f"290 000 {word}",
        "O‘ktam Ғуломов",
        "Payme",
        id_,
        "01.12.2026 10:00",
        place,
    ):
        assert wanted in text


async def test_the_page_follows_the_gateway(shop: Shop) -> None:
    """Begun, paid, given back: the part of the page that its script fetches says each."""
    _, browser = await shop.owner("Follower")
    payment = await shop.ordered(browser)
    part = f"/billing/payments/{payment.number}/state"

    async def state() -> str:
        page = await browser.get(part, **{"HX-Request": "true"})
        assert page.status == 200 and "<html" not in page.text
        return page.text.partition('data-state="')[2].partition('"')[0]

    assert (await browser.get(part)).location == f"/billing/payments/{payment.number}"
    assert await state() == "waiting"
    async with shop.site.core.bell.listen(f"payments:{payment.user_id}") as rings:
        async with browser.http.get(f"{shop.site.base}/events") as stream:
            id_ = await shop.paid(payment)
            while f"event: payment-{payment.number}" not in (await stream.content.readline()).decode():
                pass
        assert (await rings.get())["payment"] == payment.number
    assert await state() == "paid"
    shown = said(await browser.get(f"/billing/payments/{payment.number}"))
    assert "You have the plan Basic until 31 Dec 2026, 10:00." in shown
    assert 'http-equiv="refresh"' not in (await browser.get(f"/billing/payments/{payment.number}")).text
    assert (await browser.post(f"/billing/payments/{payment.number}/cancel")).status == 303
    assert await state() == "paid"
    await shop.till.payme("CancelTransaction", id=id_, reason=5)
    assert await state() == "refunded"
    assert "Trial until" in said(await browser.get("/billing"))
    text = (await browser.http.get(f"{shop.site.base}/billing/payments/{payment.number}/receipt.pdf")).content
    assert b"%PDF" in await text.read()


async def test_time_runs_out(shop: Shop) -> None:
    _, browser = await shop.owner("Late")
    payment = await shop.ordered(browser)
    shop.till.moment += dt.timedelta(hours=24)
    shown = said(await browser.get(f"/billing/payments/{payment.number}"))
    assert "Expired" in shown and "Order it again" in shown and "Pay with" not in shown
    again = f"/billing/order?plan={payment.plan}&period={payment.period}"
    assert (await browser.get(again)).status == 200


async def test_the_credit_of_an_upgrade_is_what_the_page_says(shop: Shop) -> None:
    _, browser = await shop.owner("Grower")
    await shop.paid(await shop.ordered(browser))
    shop.till.moment += dt.timedelta(days=15)
    shown = said(await browser.get("/billing"))
    assert "Yours" in shown and "Renew" in shown
    assert "What is left of your present plan, 145 000 UZS, is taken off: 445 000 UZS to pay." in shown
    assert "It begins when what you have paid for is over." in shown
    order = said(await browser.get("/billing/order?plan=premium&period=monthly"))
    assert "−145 000 UZS" in order and "To pay 445 000 UZS" in order
    payment = await shop.ordered(browser, "premium")
    assert (payment.kind, payment.credit_tiyin, payment.amount_tiyin) == ("upgrade", 14_500_000, 44_500_000)
    assert "−145 000 UZS" in said(await browser.get(f"/billing/payments/{payment.number}"))
    await shop.paid(payment)
    assert "You are on the plan Premium until 15 Jan 2027, 10:00." in said(await browser.get("/billing"))


async def test_history_comes_in_parts(shop: Shop) -> None:
    person, browser = await shop.owner("Collector")
    async with shop.site.core.db.write() as session:
        for number in range(60):
            row = models.Payment(
                number=f"77{number:07}",
                user_id=person.id,
                plan="gone" if number == 3 else "basic",
                period="monthly",
                gateway="payme",
                status="cancelled",
                price_tiyin=BASIC,
                amount_tiyin=BASIC,
                expires_at=NOW,
            )
            session.add(row)
            await session.flush()
    first = await browser.get("/billing")
    assert "770000059" in first.text and "770000009" not in first.text
    following = first.text.partition("/billing?cursor=")[2].partition("#")[0]
    rest = await browser.get(f"/billing?cursor={following}")
    assert "770000009" in rest.text and "770000000" in rest.text and "770000059" not in rest.text
    # The table has them all, nobody else's, and nothing that administrators note.
    other, stranger = await shop.owner("Stranger")
    async with shop.site.core.db.write() as session:
        first_one = models.Payment.number == "770000000"
        await session.execute(
            update(models.Payment).where(first_one).values(note="=secret", paid_at=NOW, status="paid")
        )
    table = (await browser.get("/billing/payments.csv")).text.removeprefix("\ufeff")
    rows = list(csv.reader(io.StringIO(table)))
    assert [row[0] for row in rows[1:]] == [f"77{n:07}" for n in reversed(range(60))]
    assert "secret" not in table and "Collector" not in table and len({len(row) for row in rows}) == 1
    assert (await browser.get("/billing/payments.xlsx")).status == 200
    assert all(f'href="/billing/payments.{kind}"' in first.text for kind in ("csv", "xlsx"))
    assert len((await stranger.get("/billing/payments.csv")).text.splitlines()) == 1
    assert "/billing/payments.csv" not in (await stranger.get("/billing")).text and other.id != person.id


async def test_test_mode_is_said_on_every_page(shop: Shop, tmp_path: object, sqlite_url: str) -> None:
    banner = "Test mode: payments are made with a test key"
    _, browser = await shop.owner("Real")
    assert banner not in said(await browser.get("/dashboard"))
    keys = {name: value for name, value in KEYS.items() if name.startswith("PAYME") and name != "PAYME_KEY"}
    async with open_site(shop.site.core.settings.data_dir / "test-mode", sqlite_url, environment=keys) as site:
        tester = await site.signed_in(await site.person("Tester", language="en"))
        for path in ("/dashboard", "/billing", "/settings", "/team", "/billing/order?plan=basic&period=monthly"):
            assert banner in said(await tester.get(path)), path
