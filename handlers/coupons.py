"""``/coupon`` and the buttons that ask for one: it takes something off a payment, or goes along with a request for access."""

from __future__ import annotations

from aiogram import F, Router
from aiogram.filters import Command, CommandObject, StateFilter
from aiogram.types import CallbackQuery, Message

from handlers import billing, requests, team
from handlers.callbacks import Ask, Buy
from handlers.filters import WRITTEN
from handlers.states import Buying, Requesting, go_to
from handlers.talk import Talk
from services import coupons, plans
from services.errors import Invalid
from services.i18n import T

router = Router(name="coupons")

_CODE_CHARS = 100


@router.message(Command("coupon"))
async def command(message: Message, command: CommandObject, talk: Talk) -> None:
    """``/coupon``, with the code or without: to pay with where people can pay here, else to ask for access with."""
    answering = await team.answering_page(talk.core, talk.user, talk.gettext)
    if answering is not None:
        await talk.show(answering)
        return
    go_to(talk.dialog, Buying.code if billing.ways(talk.core, talk.user) else Requesting.code)
    if command.args:
        await _take(talk, command.args)
    else:
        await _ask(talk)


@router.callback_query(Ask.filter(F.do == "coupon"))
async def for_a_request(callback: CallbackQuery, callback_data: Ask, talk: Talk) -> None:
    """Wait for a code to go along with a request."""
    go_to(talk.dialog, Requesting.code, plan=callback_data.arg, period=callback_data.period)
    await talk.toast()
    await _ask(talk)


@router.callback_query(Buy.filter(F.do == "coupon"))
async def for_a_payment(callback: CallbackQuery, callback_data: Buy, talk: Talk) -> None:
    """Wait for a code to pay with."""
    balance = bool(talk.dialog.data.get("balance"))
    go_to(talk.dialog, Buying.code, plan=callback_data.plan, period=callback_data.period, balance=balance)
    await talk.toast()
    await _ask(talk)


@router.message(StateFilter(Buying.code, Requesting.code), WRITTEN)
async def typed(message: Message, talk: Talk) -> None:
    """A code was typed."""
    await _take(talk, message.text or "")


async def _ask(talk: Talk) -> None:
    _ = talk.gettext
    await talk.say(_("Send me the code of the coupon, for example SAVE10_UZ_2026."))


async def _take(talk: Talk, written: str) -> None:
    """Keep a code that fits what is chosen, or any plan where nothing is chosen yet; the dialog waits on for another if not."""
    core, settings, user = talk.core, talk.core.settings, talk.user
    chosen, period = talk.dialog.data.get("plan", ""), talk.dialog.data.get("period", "")
    await coupons.allow_guess(core.limits, user.id, f"tg:{talk.chat_id}", settings.limits.login_attempts_per_15_min)
    refused: Invalid | None = None
    for plan in [chosen] if chosen else plans.for_sale(settings):
        price = plans.price_tiyin(settings, plan, period or "monthly")
        try:
            async with core.db.read() as session:
                await coupons.price_off(session, user, written[:_CODE_CHARS], plan, price, now=core.now())
        except Invalid as error:
            refused = error
            continue
        await coupons.guessed_right(core.limits, user.id)
        code = coupons.clean_code(written)
        if talk.dialog.state == Buying.code.state:
            go_to(talk.dialog, Buying.ways, coupon=code, balance=talk.dialog.data.get("balance", False))
            await talk.show(await billing.ways_page(talk, chosen, period) if chosen else billing.plans_page(talk))
        else:
            go_to(talk.dialog, Requesting.sure, plan=chosen, period=period, coupon=code)
            await talk.show(await (requests.sum_page(talk, chosen, period) if chosen else requests.first_page(talk)))
        return
    raise refused or Invalid(T("There is no such plan. Choose one from the list."))
