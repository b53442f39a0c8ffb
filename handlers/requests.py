"""``/request``: a plan that an administrator gives; ``/invite``: one's own link and what it has earned."""

from __future__ import annotations

from urllib.parse import quote

from aiogram import F, Router
from aiogram.filters import Command
from aiogram.types import CallbackQuery, Message

from handlers import keyboards, team
from handlers.callbacks import Ask, Menu
from handlers.keyboards import button
from handlers.states import Requesting, go_to, leave
from handlers.talk import Page, Talk, bold, lines, page
from services import coupons, money, payment_texts, plans, referrals, requests
from services.errors import Conflict, Invalid

router = Router(name="requests")


@router.message(Command("request"))
async def command(message: Message, talk: Talk) -> None:
    """``/request``: the request that waits, or the plans."""
    leave(talk.dialog)
    await _answer(talk, await first_page(talk))


async def _answer(talk: Talk, screen: Page) -> None:
    """Show a screen, but for whoever only answers customers of others: they have nothing to ask for."""
    answering = await team.answering_page(talk.core, talk.user, talk.gettext)
    await talk.show(answering or screen)


async def first_page(talk: Talk) -> Page:
    """Return the request that waits, or the plans."""
    _, language, settings = talk.gettext, talk.user.language, talk.core.settings
    if talk.user.is_admin:
        return page(_("You run this installation: there is nothing to ask for."))
    async with talk.core.db.read() as session:
        waiting = await requests.pending_of(session, talk.user)
    if waiting is None:
        return _plans(talk)
    return page(
        bold(_("Your request is waiting")),
        f"{payment_texts.plan(settings, waiting.plan, language)} · {payment_texts.period(waiting.period, language)}",
        _("The administrator has been told. The answer comes in Telegram and by mail."),
        keyboard=keyboards.inline(
            [button(_("Withdraw the request"), Ask(do="withdraw", arg=waiting.id), style="danger")],
            [button("✖️ " + _("Close"), Menu(to="close"))],
        ),
    )


def _plans(talk: Talk) -> Page:
    """Return the plans to choose from."""
    _, language = talk.gettext, talk.user.language
    on_sale = plans.for_sale(talk.core.settings)
    code = talk.dialog.data.get("coupon", "")
    return page(
        bold(_("Request access")),
        _("Without an online payment: choose a plan, and the administrator writes to you and opens it."),
        _("Coupon: {code}", code=code) if code else "",
        lines(
            *(
                _(
                    "{plan}: {price} a month",
                    plan=facts.title,
                    price=money.text(facts.price_uzs * plans.TIYIN, language),
                )
                for facts in on_sale.values()
            )
        ),
        keyboard=keyboards.inline(
            *([button(facts.title.called(language), Ask(do="plan", arg=key))] for key, facts in on_sale.items()),
            [button("✖️ " + _("Close"), Menu(to="close"))],
        ),
    )


@router.callback_query(Ask.filter(F.do == "plans"))
async def show_plans(callback: CallbackQuery, talk: Talk) -> None:
    """Back to the plans."""
    await talk.show(await first_page(talk))


@router.callback_query(Ask.filter(F.do == "plan"))
async def show_periods(callback: CallbackQuery, callback_data: Ask, talk: Talk) -> None:
    """The periods of a plan, with their prices."""
    _, language, settings = talk.gettext, talk.user.language, talk.core.settings
    plan = callback_data.arg
    title = plans.plan_of(settings, plan).title.called(language)
    keys = [
        [
            button(
                f"{payment_texts.period(period, language)}: "
                f"{money.text(plans.price_tiyin(settings, plan, period), language)}",
                Ask(do="sure", arg=plan, period=period),
            )
        ]
        for period in plans.PERIODS
    ]
    await talk.show(
        page(bold(title), _("For how long?"), keyboard=keyboards.inline(*keys, keyboards.back(_, Ask(do="plans"))))
    )


@router.callback_query(Ask.filter(F.do == "sure"))
async def show_sum(callback: CallbackQuery, callback_data: Ask, talk: Talk) -> None:
    """What would be asked for, with the coupon that was entered."""
    await talk.show(await sum_page(talk, callback_data.arg, callback_data.period))


async def sum_page(talk: Talk, plan: str, period: str) -> Page:
    """Return what is chosen and its price; a coupon that does not fit the plan is said so and left out."""
    _, language, settings = talk.gettext, talk.user.language, talk.core.settings
    price, code, off, trouble = plans.price_tiyin(settings, plan, period), talk.dialog.data.get("coupon", ""), 0, ""
    if code:
        try:
            async with talk.core.db.read() as session:
                offer = await coupons.price_off(session, talk.user, code, plan, price, now=talk.core.now())
            off = offer.discount_tiyin
        except Invalid as error:
            code, trouble = "", error.text.render(language)
    go_to(talk.dialog, Requesting.sure, plan=plan, period=period, coupon=code)
    return page(
        bold(f"{payment_texts.plan(settings, plan, language)} · {payment_texts.period(period, language)}"),
        trouble,
        lines(
            _("Price: {price}", price=money.text(price, language)),
            _("Coupon {code}: {amount}", code=code, amount=money.text(-off, language)) if code else "",
            _("Together: {price}", price=money.text(price - off, language)) if code else "",
        ),
        keyboard=keyboards.inline(
            [button("✅ " + _("Send the request"), Ask(do="send", arg=plan, period=period), style="success")],
            [button("🎟 " + _("I have a coupon"), Ask(do="coupon", arg=plan, period=period))],
            keyboards.back(_, Ask(do="plan", arg=plan)),
        ),
    )


@router.callback_query(Ask.filter(F.do == "send"))
async def send(callback: CallbackQuery, callback_data: Ask, talk: Talk) -> None:
    """Send the request."""
    core = talk.core
    code = talk.dialog.data.get("coupon", "") if talk.dialog.state == Requesting.sure.state else ""
    try:
        async with core.db.write() as session:
            await requests.ask(
                session, core.settings, talk.user, callback_data.arg, callback_data.period, code=code, now=core.now()
            )
    except Conflict as error:
        # Sent twice, or from two menus: what waits is shown.
        if error.code != "waiting":
            raise
    for topic in ("notices", "letters"):
        core.bell.ring(topic)
    leave(talk.dialog)
    await talk.show(await first_page(talk))


@router.callback_query(Ask.filter(F.do == "withdraw"))
async def withdraw(callback: CallbackQuery, callback_data: Ask, talk: Talk) -> None:
    """Take the request back."""
    _, core = talk.gettext, talk.core
    async with core.db.write() as session:
        await requests.withdraw(session, talk.user, callback_data.arg, now=core.now())
    await talk.show(page("✅ " + _("The request was withdrawn."), keyboard=keyboards.home(_)))


@router.message(Command("invite"))
async def invite(message: Message, talk: Talk) -> None:
    """``/invite``: one's own link, and what it has earned."""
    _, core, language = talk.gettext, talk.core, talk.user.language
    async with core.db.write() as session:
        code = await referrals.code_of(session, talk.user)
        account = await referrals.account(session, talk.user.id, now=core.now())
    links = referrals.links(core.settings, core.factory_username, code)
    link = links.telegram or links.web
    rules = core.settings.referrals
    await talk.say(
        bold(_("Invite and earn")),
        _(
            "Send your link to other businesses. From every payment of those who register by it you get {percent}.",
            percent=money.percent(rules.commission_percent, language),
        ),
        link,
        lines(
            _("Clicks: {n}", n=account.clicks),
            _("Registered: {n}", n=account.registered),
            _("Paying: {n}", n=account.paying),
            _("You can use: {amount}", amount=money.text(account.due, language)),
            _("On hold: {amount}", amount=money.text(account.held, language)),
            _("Paid out to you: {amount}", amount=money.text(account.paid, language)),
        ),
        keyboard=keyboards.inline(
            [keyboards.link("📣 " + _("Share"), f"https://t.me/share/url?url={quote(link, safe='')}")],
            [keyboards.link("🖥 " + _("Open the panel"), f"{core.settings.public_url}/billing/referrals")],
        ),
    )
