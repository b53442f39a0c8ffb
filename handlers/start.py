"""The first steps: language, phone, and straight on to the first bot."""

from __future__ import annotations

from aiogram import F, Router
from aiogram.filters import CommandObject, CommandStart
from aiogram.types import CallbackQuery, Message

from handlers import keyboards, leaving, newbot, panel, team
from handlers.callbacks import Join, Menu
from handlers.filters import WRITTEN
from handlers.states import Onboarding, go_to, leave
from handlers.talk import Talk, bold, page
from services import accounts, bots, merging, panel_links
from services.bell import session_topic
from services.i18n import LANGUAGES, Translator, translate, translate_plural, translator
from services.text import phone

router = Router(name="start")


@router.message(CommandStart(deep_link=True, magic=F.args.regexp(r"^in_[A-Za-z0-9_-]{20,50}$")))
async def join(message: Message, command: CommandObject, talk: Talk, _: Translator) -> None:
    """Ask before this Telegram account is connected: a link may come from a stranger who wants to be followed."""
    token = (command.args or "").removeprefix("in_")
    async with talk.core.db.read() as session:
        account = await accounts.peek_login_link(session, token)
        own = 0 if account.id == talk.user.id else await merging.bots_of(session, talk.user.id)
    brought = translate_plural(
        talk.user.language,
        "{n} bot of yours here moves there with all it knows: whoever signs in there looks after it.",
        "{n} bots of yours here move there with all they know: whoever signs in there looks after them.",
        own,
    )
    await talk.say(
        bold(
            _(
                "Connect this Telegram account to the panel account “{name}”?",
                name=account.full_name or account.email or "—",
            )
        ),
        brought if own else "",
        _("Do this only if you pressed “Connect Telegram” in the panel yourself."),
        keyboard=keyboards.inline(
            [keyboards.button("✅ " + _("Connect"), Join(token=token), style="success")],
            [keyboards.button("✖️ " + _("Close"), Menu(to="close"))],
        ),
    )


@router.callback_query(Join.filter())
async def joined(callback: CallbackQuery, callback_data: Join, talk: Talk, _: Translator) -> None:
    """Connect the two accounts; the link works once."""
    async with talk.core.db.write() as session:
        account, ended = await merging.link_telegram(
            session, talk.core.settings, callback_data.token, callback.from_user.id, now=talk.core.now()
        )
    for topic in ("channels", "letters", *map(session_topic, ended)):
        talk.core.bell.ring(topic)
    _ = translator(account.language)
    await talk.toast()
    await talk.show(page("✅ " + _("This Telegram account is now connected to the panel.")))


@router.message(CommandStart(deep_link=True, magic=F.args.regexp(panel_links.START_WORD, mode="fullmatch")))
async def to_panel(message: Message, command: CommandObject, talk: Talk) -> None:
    """The link on the panel's sign-in page: ``/panel`` for new people too, and on to the page that was wanted."""
    await panel.send_link(talk, panel_links.page_of(command.args or ""))


@router.message(CommandStart(deep_link=True, magic=F.args == "phone"))
async def confirm_phone(message: Message, talk: Talk, _: Translator) -> None:
    """The link in the panel's profile: the contact button proves whose number it is."""
    leave(talk.dialog)
    await talk.say(_("Send your phone number with the button below: this confirms it."), keyboard=keyboards.phone(_))


@router.message(CommandStart())
async def start(message: Message, talk: Talk, _: Translator) -> None:
    """Begin, whatever the link's payload: the language first, or the menu for who has a bot already."""
    leave(talk.dialog)
    async with talk.core.db.read() as session:
        own = await bots.list_for(session, talk.user)
    hello = bold(_("Hello, {name}!", name=talk.user.full_name))
    if talk.user.delete_at is not None:
        await talk.say(hello)
        await talk.show(leaving.keep_page(talk))
        return
    if not own and (answering := await team.answering_page(talk.core, talk.user, _)) is not None:
        await talk.say(hello)
        await talk.show(answering)
        return
    if own:
        await talk.say(hello, _("Send a document, or choose what to do."), keyboard=keyboards.home(_))
        return
    choose = " · ".join(dict.fromkeys(translate(code, "Choose the language") for code in LANGUAGES))
    await talk.say(
        hello,
        _("Get a bot that answers your customers from your own documents, day and night."),
        f"🌐 {choose}:",
        keyboard=keyboards.languages(first=True),
    )


async def go_on(talk: Talk) -> None:
    """Take the next of the first steps: the phone once, then the first bot."""
    _ = talk.gettext
    async with talk.core.db.read() as session:
        own = await bots.list_for(session, talk.user)
    if own or await team.answering_page(talk.core, talk.user, _) is not None:
        return
    if talk.user.phone is not None:
        await newbot.begin(talk)
        return
    go_to(talk.dialog, Onboarding.phone)
    await talk.say(
        _("Send your phone number with the button below, so that you can sign in to the web panel too."),
        _("You can skip this."),
        keyboard=keyboards.phone(_),
    )


@router.message(F.contact)
async def contact(message: Message, talk: Talk, _: Translator) -> None:
    """Keep the phone that was shared, if it is the sender's own."""
    shared, sender = message.contact, message.from_user
    if shared is None or sender is None:
        return
    if shared.user_id != sender.id:
        await talk.say(
            _("This is someone else’s number. Please send your own with the button, type it, or skip this step."),
            keyboard=keyboards.phone(_),
        )
        return
    number = shared.phone_number
    await _keep_phone(talk, number if number.startswith("+") else f"+{number}", proven=True)


@router.message(Onboarding.phone, WRITTEN)
async def typed_phone(message: Message, talk: Talk) -> None:
    """Take a phone that was typed, or go on without one."""
    text = message.text or ""
    if keyboards.is_skip(text):
        await newbot.begin(talk)
    else:
        await _keep_phone(talk, text, proven=False)


async def _keep_phone(talk: Talk, number: str, *, proven: bool) -> None:
    _ = talk.gettext
    async with talk.core.db.write() as session:
        former = await accounts.set_phone(session, talk.user, number, proven=proven)
        own = await bots.list_for(session, talk.user, "talk")
    if former is not None and former.telegram_id is not None and talk.core.factory is not None:
        text = translate(
            former.language,
            "Another person has proved that the phone number {phone} is theirs, so it was removed from your account. You "
            "can add your own number in the panel: /panel",
            phone=phone(talk.user.phone),
        )
        await talk.core.factory.notify(former.telegram_id, text)
    if talk.dialog.state == Onboarding.phone.state:
        leave(talk.dialog)
        if not own:
            await newbot.begin(talk)
            return
    await talk.say("✅ " + _("Your phone number is saved."), keyboard=keyboards.NO_KEYS)
