"""``/plan``: what the owner has, what can be bought, and one payment until it is paid, all in one message edited in place.

A payment's screen follows its state while this process lives; pressing any of its buttons shows it too, and that something was
paid the owner is written in any case (``services/letters``).
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import OrderedDict
from typing import Any

import structlog
from aiogram import Bot, F, Router
from aiogram.exceptions import TelegramBadRequest, TelegramForbiddenError
from aiogram.filters import Command
from aiogram.types import BufferedInputFile, CallbackQuery, InlineKeyboardButton, Message
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.engine import DatabaseUnavailable
from handlers import keyboards
from handlers.api import send_paper
from handlers.callbacks import Buy, Menu, Pay
from handlers.keyboards import button
from handlers.states import Buying, go_to, leave
from handlers.talk import Page, Talk, bold, html, lines, page
from services import allowances, coupons, money, payment_texts, plans, qr, receipts, subscriptions
from services.channel_names import channel_name
from services.core import Core
from services.days import TASHKENT
from services.errors import AppError, Conflict, Invalid, NotFound, Permanent, Temporary
from services.i18n import LANGUAGE_NAMES, T, Translator, translate_plural, translator
from services.payments import ledger, orders
from services.settings import PlanFacts

log = structlog.get_logger(__name__)
router = Router(name="billing")

_OPEN_SHOWN = 3
_MIB = 1_048_576
_FOLLOWED_AT_MOST = 1000


def _when(moment: dt.datetime) -> str:
    return f"{moment.astimezone(TASHKENT):%d.%m.%Y %H:%M}"


def ways(core: Core, person: models.User) -> tuple[str, ...]:
    """Return the gateways that a person may pay by; an administrator needs no plan."""
    return () if person.is_admin else orders.gateways(core.settings)


async def standing_page(talk: Talk) -> Page:
    """Return what the person has and the ways on."""
    _, core, language = talk.gettext, talk.core, talk.user.language
    now = core.now()
    async with core.db.read() as session:
        line = await subscriptions.timeline(session, core.settings, talk.user)
        used = await allowances.usage(session, core.settings, talk.user, now)
        history = await orders.history(session, talk.user, limit=20)
    has = line.at(now)
    open_ = [payment for payment in history if payment.status == "waiting" and payment.expires_at > now][:_OPEN_SHOWN]
    said = payment_texts.standing(core.settings, line, now, language, _when)
    choose = _("Renew or change") if has.is_paid else _("Choose a plan")
    can_pay = bool(ways(core, talk.user))
    return page(
        bold("💳 " + said[0]),
        lines(*said[1:]),
        lines(*_used(used, language, _)) if has.allows else "",
        _test_mode(core, _),
        "" if can_pay or talk.user.is_admin else _("Paying here is not set up yet. Ask whoever runs this service."),
        keyboard=keyboards.inline(
            *(
                [button(f"⏳ {_label(core, payment, language)}", Pay(do="open", number=payment.number))]
                for payment in open_
            ),
            [button("🛒 " + choose, Buy(do="plans")) if can_pay else None],
            [keyboards.link("🖥 " + _("Payments and receipts"), f"{core.settings.public_url}/billing")],
            [button("✖️ " + _("Close"), Menu(to="close"))],
        ),
    )


def _used(used: allowances.Usage, language: str, _: Translator) -> list[str]:
    """Return how much of what the plan allows is used, a line each."""
    mib = allowances.Measure(-(-used.knowledge.used // _MIB), used.knowledge.limit and used.knowledge.limit // _MIB)
    measures = (
        (_("Messages this month"), used.messages),
        (_("Bots"), used.bots),
        (_("Documents, MB"), mib),
        (_("People in the team"), used.operators),
    )
    return [
        f"{label}: {money.count(one.used, language)}"
        + ("" if one.limit is None else f" / {money.count(one.limit, language)}")
        for label, one in measures
    ]


def _label(core: Core, payment: models.Payment, language: str) -> str:
    return f"{payment_texts.plan(core.settings, payment.plan, language)} · {money.text(payment.amount_tiyin, language)}"


def _test_mode(core: Core, _: Translator) -> str:
    return "🧪 " + _("Test mode: what is paid here is no money.") if orders.is_test_mode(core.settings) else ""


def _facts(facts: PlanFacts, language: str, _: Translator) -> list[str]:
    def many(one: str, several: str, n: int) -> str:
        return translate_plural(language, one, several, n)

    return [
        many("{n} bot", "{n} bots", facts.bots),
        ", ".join(channel_name(kind, language) for kind in facts.channels),
        ", ".join(LANGUAGE_NAMES[code] for code in facts.languages),
        translate_plural(
            language,
            "{count} message a month",
            "{count} messages a month",
            facts.messages,
            count=money.count(facts.messages, language),
        ),
        _("{n} MB of documents", n=money.count(facts.knowledge_mib, language)),
        many("{n} operator", "{n} operators", facts.operators),
    ]


def plans_page(talk: Talk) -> Page:
    """Return the plans on sale."""
    _, core, language = talk.gettext, talk.core, talk.user.language
    if not ways(core, talk.user):
        raise Invalid(T("There is nothing to pay here."))
    sold = plans.for_sale(core.settings)
    monthly = {key: money.text(facts.price_uzs * plans.TIYIN, language) for key, facts in sold.items()}
    code = _coupon(talk)
    return page(
        bold(_("Plans")),
        "🎟 " + _("Coupon: {code}", code=code) if code else "",
        *(
            lines(
                bold(f"{facts.title.called(language)}: {_('{amount} a month', amount=monthly[key])}"),
                *(f"• {fact}" for fact in _facts(facts, language, _)),
            )
            for key, facts in sold.items()
        ),
        keyboard=keyboards.inline(
            *(
                [button(f"{facts.title.called(language)} · {monthly[key]}", Buy(do="terms", plan=key))]
                for key, facts in sold.items()
            ),
            keyboards.back(_, Menu(to="plan")),
        ),
    )


def terms_page(talk: Talk, plan: str) -> Page:
    """Return the periods of a plan with their prices; raises ``Invalid`` for one that is not sold."""
    _, core, language = talk.gettext, talk.core, talk.user.language
    facts = plans.plan_of(core.settings, plan)
    rows = []
    for period in plans.PERIODS:
        terms = plans.period_of(core.settings, period)
        price = money.text(plans.price_tiyin(core.settings, plan, period), language)
        off = f" (−{money.percent(terms.discount_percent, language)})" if terms.discount_percent else ""
        label = f"{payment_texts.period(period, language)} · {price}{off}"
        rows.append([button(label, Buy(do="ways", plan=plan, period=period))])
    return page(
        bold(facts.title.called(language)),
        lines(*(f"• {fact}" for fact in _facts(facts, language, _))),
        _("For how long?"),
        keyboard=keyboards.inline(*rows, keyboards.back(_, Buy(do="plans"))),
    )


def _coupon(talk: Talk) -> str:
    """Return the coupon that was entered to pay with, empty without one."""
    return str(talk.dialog.data.get("coupon", "")) if talk.dialog.state == Buying.ways.state else ""


def _with_balance(talk: Talk) -> bool:
    """Tell whether the balance of invitations is to pay as much as it can."""
    return talk.dialog.state == Buying.ways.state and bool(talk.dialog.data.get("balance"))


async def ways_page(talk: Talk, plan: str, period: str) -> Page:
    """Return what a plan costs this person for a period, and how it can be paid; a coupon that does not fit is said so."""
    _, core, language = talk.gettext, talk.core, talk.user.language
    code, off, trouble = _coupon(talk), 0, ""
    async with core.db.read() as session:
        quote = await subscriptions.quote(session, core.settings, talk.user, plan, period, now=core.now())
        due = max(0, quote.price - quote.credit)
        if code and due:
            try:
                offer = await coupons.price_off(session, talk.user, code, plan, due, now=core.now())
                off = offer.discount_tiyin
            except Invalid as error:
                code, trouble = "", error.text.render(language)
                go_to(talk.dialog, Buying.ways, balance=_with_balance(talk))
        # Of a payment that only a test key meets the balance pays nothing.
        balance = (
            0
            if orders.is_test_mode(core.settings)
            else await orders.from_balance(session, talk.user, due - off, core.now())
        )
    used = balance if _with_balance(talk) else 0
    mark = "☑️" if used else "◻️"
    facts = plans.plan_of(core.settings, plan)
    terms = plans.period_of(core.settings, period)
    credit = money.text(-quote.credit, language)
    return page(
        bold(f"{facts.title.called(language)} · {payment_texts.period(period, language)}"),
        trouble,
        lines(
            f"{translate_plural(language, '{n} day', '{n} days', terms.days)}: {money.text(quote.price, language)}",
            f"{_('Rest of your present plan')}: {credit}" if quote.credit else "",
            _("Coupon {code}: {amount}", code=code, amount=money.text(-off, language)) if off else "",
            f"{_('From my balance')}: {money.text(-used, language)}" if used else "",
            bold(f"{_('To pay')}: {money.text(due - off - used, language)}"),
        ),
        payment_texts.beginning(quote.kind, language),
        _("Choose how to pay."),
        keyboard=keyboards.inline(
            *(
                [
                    button(
                        "💳 " + payment_texts.gateway(kind, language),
                        Buy(do="order", plan=plan, period=period, way=kind, basis=quote.version),
                        style="success",
                    )
                ]
                for kind in ways(core, talk.user)
            ),
            [
                button(
                    f"{mark} {_('From my balance')}: {money.text(balance, language)}",
                    Buy(do="balance", plan=plan, period=period),
                )
                if balance
                else None
            ],
            [button("🎟 " + _("I have a coupon"), Buy(do="coupon", plan=plan, period=period))],
            keyboards.back(_, Buy(do="terms", plan=plan)),
        ),
    )


async def payment_page(session: AsyncSession, core: Core, person: models.User, number: str) -> tuple[Page, str]:
    """Return the screen of a payment and its state; raises ``NotFound`` for another's."""
    language = person.language
    _ = translator(language)
    payment = await orders.get(session, person, number)
    state = orders.state(payment, core.now())
    plan = payment_texts.plan(core.settings, payment.plan, language)
    title = f"{plan} · {payment_texts.period(payment.period, language)}"
    rows: list[list[InlineKeyboardButton | None]] = []
    told: list[str] = []
    if state == "waiting":
        told = _to_pay(core, payment, language, _)
        rows = _pay_rows(core, payment, language, _)
    elif state == "paid":
        spans = [span for span in await subscriptions.spans(session, person.id) if span.payment_id == payment.id]
        ends = [span.ends_at for span in spans if span.revoked_at is None]
        if ends:
            told = [_("You have the plan {plan} until {moment}.", plan=plan, moment=_when(max(ends)))]
    elif state == "refunded":
        told = [_("The money went back, and what it gave was taken back.")]
    else:
        told = [_("It cannot be paid any more. Nothing was taken.")]
        again = Buy(do="ways", plan=payment.plan, period=payment.period)
        rows = [[button("🔁 " + _("Order it again"), again)] if ways(core, person) else []]
    if receipts.has_one(payment):
        rows.append([button("🧾 " + _("Receipt (PDF)"), Pay(do="paper", number=number))])
    mark = {"waiting": "⏳", "paid": "✅", "refunded": "↩️"}.get(state, "✖️")
    shown = page(
        lines(bold(title), f"{mark} {payment_texts.state(state, language)}", _("Number: {number}", number=number)),
        "🧪 " + _("A test payment: no money is taken.") if payment.sandbox else "",
        lines(*told),
        keyboard=keyboards.inline(*rows, keyboards.back(_, Menu(to="plan"))),
    )
    return shown, state


def _to_pay(core: Core, payment: models.Payment, language: str, _: Translator) -> list[str]:
    told: list[str] = [bold(f"{_('To pay')}: {money.text(payment.amount_tiyin, language)}")]
    links = orders.checkout_url(core.settings, payment, language)
    if links:
        name = payment_texts.gateway(payment.gateway, language)
        told.append(_("Press the button, or enter the number in the app of {gateway}.", gateway=name))
    else:
        told.append(_("Pay in cash or by bank transfer. It is noted here as soon as the money has come."))
    return [*told, _("It can be paid until {moment}.", moment=_when(payment.expires_at))]


def _pay_rows(
    core: Core, payment: models.Payment, language: str, _: Translator
) -> list[list[InlineKeyboardButton | None]]:
    links = orders.links(core.settings, payment, language)
    rows: list[list[InlineKeyboardButton | None]] = [
        [keyboards.link("💳 " + _("Pay with {gateway}", gateway=payment_texts.gateway(kind, language)), url)]
        for kind, url in links
    ]
    code = (
        button("🔳 " + _("QR code"), Pay(do="code", number=payment.number))
        if links and links[0][0] == payment.gateway
        else None
    )
    stop = button("🗑 " + _("Cancel this payment"), Pay(do="stop", number=payment.number), style="danger")
    return [*rows, [code, stop]]


class Screens:
    """Payments' screens that are edited when their payment changes: the last one of each person, while this process lives."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tasks: OrderedDict[str, asyncio.Task[Any]] = OrderedDict()

    def follow(self, bot: Bot, person: models.User, message_id: int, number: str) -> None:
        """Keep a screen up to date until its payment waits no more."""
        self.leave(person.id)
        while len(self._tasks) >= _FOLLOWED_AT_MOST:
            self._tasks.popitem(last=False)[1].cancel()
        task = self._core.tasks.start(self._keep(bot, person, message_id, number), name="payment_screen")
        self._tasks[person.id] = task
        task.add_done_callback(lambda done: self._drop(person.id, done))

    def leave(self, person_id: str) -> None:
        """Follow a person's screen no more: the message shows something else now."""
        task = self._tasks.pop(person_id, None)
        if task is not None:
            task.cancel()

    def _drop(self, person_id: str, done: asyncio.Task[Any]) -> None:
        if self._tasks.get(person_id) is done:
            del self._tasks[person_id]

    async def stop(self) -> None:
        """End all of them."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _keep(self, bot: Bot, person: models.User, message_id: int, number: str) -> None:
        core, left = self._core, True
        async with core.bell.listen(f"payments:{person.id}") as rings:
            while left:
                try:
                    async with core.db.read() as session:
                        screen, state = await payment_page(session, core, person, number)
                    left = state == "waiting"
                    if not left and person.telegram_id is not None:
                        await bot.edit_message_text(
                            screen.text, chat_id=person.telegram_id, message_id=message_id, reply_markup=screen.keyboard
                        )
                except (TelegramBadRequest, TelegramForbiddenError, NotFound) as error:
                    log.info("payment_not_shown", reason=type(error).__name__)
                    return
                except (Temporary, Permanent, DatabaseUnavailable) as error:
                    # It is shown when the person presses a button, and written in any case.
                    log.info("payment_not_shown", reason=type(error).__name__)
                if left:
                    await rings.get()


async def _show_payment(talk: Talk, screens: Screens, number: str) -> None:
    async with talk.core.db.read() as session:
        screen, state = await payment_page(session, talk.core, talk.user, number)
    await talk.show(screen)
    message = talk.callback.message if talk.callback is not None else None
    if state == "waiting" and message is not None:
        screens.follow(talk.bot, talk.user, message.message_id, number)


@router.message(Command("plan"))
async def command(message: Message, talk: Talk) -> None:
    """``/plan``."""
    await talk.show(await standing_page(talk))


@router.callback_query(Menu.filter(F.to == "plan"))
async def pressed(callback: CallbackQuery, talk: Talk, screens: Screens) -> None:
    """The button of the first menu, and the way back."""
    screens.leave(talk.user.id)
    await talk.show(await standing_page(talk))


@router.callback_query(Buy.filter(F.do.in_({"plans", "terms", "ways"})))
async def choose(callback: CallbackQuery, callback_data: Buy, talk: Talk, screens: Screens) -> None:
    """Plan, then period, then how to pay."""
    screens.leave(talk.user.id)
    if callback_data.do == "plans":
        screen = plans_page(talk)
    elif callback_data.do == "terms":
        screen = terms_page(talk, callback_data.plan)
    else:
        screen = await ways_page(talk, callback_data.plan, callback_data.period)
    await talk.show(screen)


@router.callback_query(Buy.filter(F.do == "balance"))
async def switch_balance(callback: CallbackQuery, callback_data: Buy, talk: Talk) -> None:
    """Let the balance of invitations pay, or not."""
    go_to(talk.dialog, Buying.ways, coupon=_coupon(talk), balance=not _with_balance(talk))
    await talk.show(await ways_page(talk, callback_data.plan, callback_data.period))


@router.callback_query(Buy.filter(F.do == "order"))
async def order(callback: CallbackQuery, callback_data: Buy, talk: Talk, screens: Screens) -> None:
    """Order what was chosen. The same wish twice, by a second press or after a crash, is one payment."""
    core, wish = talk.core, callback_data
    if wish.way not in ways(core, talk.user):
        raise Invalid(T("Choose how to pay: this way is not available here."))
    try:
        async with core.db.write() as session:
            payment = await orders.order(
                session,
                core.settings,
                talk.user,
                wish.plan,
                wish.period,
                wish.way,
                now=core.now(),
                coupon=_coupon(talk),
                use_balance=_with_balance(talk),
                basis=wish.basis,
            )
    except AppError as error:
        if not isinstance(error, Conflict) and error.field != "coupon":
            raise
        # The price may be another one now, or the coupon of no use any more.
        await talk.toast(error.text.render(talk.user.language))
        await talk.show(await ways_page(talk, wish.plan, wish.period))
        return
    if talk.dialog.state == Buying.ways.state:
        leave(talk.dialog)
    ledger.announce(core, payment)
    await _show_payment(talk, screens, payment.number)


@router.callback_query(Pay.filter(F.do == "open"))
async def open_payment(callback: CallbackQuery, callback_data: Pay, talk: Talk, screens: Screens) -> None:
    """One payment as it stands."""
    await _show_payment(talk, screens, callback_data.number)


@router.callback_query(Pay.filter(F.do == "stop"))
async def stop(callback: CallbackQuery, callback_data: Pay, talk: Talk, screens: Screens, _: Translator) -> None:
    """Close a payment that nobody has paid."""
    core = talk.core
    screens.leave(talk.user.id)
    try:
        async with core.db.write() as session:
            payment = await orders.cancel(session, talk.user, callback_data.number, core.now())
    except Conflict:
        # It was paid or has ended meanwhile: the screen says which.
        await _show_payment(talk, screens, callback_data.number)
        return
    ledger.announce(core, payment)
    await talk.toast(_("Cancelled. Nothing was paid."))
    await talk.show(await standing_page(talk))


@router.callback_query(Pay.filter(F.do == "code"))
async def show_code(callback: CallbackQuery, callback_data: Pay, talk: Talk, screens: Screens, _: Translator) -> None:
    """Send the QR code of the gateway's page, to be paid by another phone."""
    core, language = talk.core, talk.user.language
    async with core.db.read() as session:
        payment = await orders.get(session, talk.user, callback_data.number)
    url = orders.checkout_url(core.settings, payment, language)
    if not url:
        await _show_payment(talk, screens, callback_data.number)
        return
    name = payment_texts.gateway(payment.gateway, language)
    caption = html(
        bold(_("Pay with {gateway}", gateway=name)),
        lines(money.text(payment.amount_tiyin, language), _("Number: {number}", number=payment.number)),
    )
    await talk.toast()
    picture = await asyncio.to_thread(qr.png, url)

    async def send() -> int | None:
        sent = await talk.bot.send_photo(
            talk.chat_id, BufferedInputFile(picture, f"pay-{payment.number}.png"), caption=caption, parse_mode="HTML"
        )
        return sent.message_id

    await talk.dialog.once(caption, send)


@router.callback_query(Pay.filter(F.do == "paper"))
async def send_receipt(callback: CallbackQuery, callback_data: Pay, talk: Talk, _: Translator) -> None:
    """Send the receipt as a document."""
    core = talk.core
    async with core.db.read() as session:
        payment = await orders.get(session, talk.user, callback_data.number)
    await talk.toast()
    data = await receipts.render(core, payment, talk.user.language)
    name = receipts.file_name(payment)

    await talk.dialog.once(name, lambda: send_paper(talk.bot, talk.chat_id, (name, data)))
