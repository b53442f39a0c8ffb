"""Connecting a channel step by step: what is asked, where it is found, how it looks and how it is tried.

The panel's forms and the factory bot's dialogs are made of the same descriptions. A kind of channel that is connected by entering
values adds a :class:`Guide` to :data:`GUIDES`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import new_secret
from services import bots, instagram
from services.channels import whatsapp
from services.crypto import Undecryptable
from services.errors import Conflict, Invalid
from services.i18n import T, Text
from services.settings import Settings
from services.text import one_line

if TYPE_CHECKING:
    from services.core import Core

Values = Mapping[str, str]
Probe = Callable[["Core", Values], Awaitable[str]]
"""Tries what was entered so far with the network; returns what it shows, raises ``Invalid`` naming the field, ``Unavailable``."""
Connect = Callable[["Core", models.User, str, Values], Awaitable[models.Channel]]

# They become parts of headers: nothing but what can be printed may pass.
_PRINTABLE = re.compile(r"[!-~]{8,1000}")


@dataclass(frozen=True, slots=True)
class Field:
    """One value that is asked for.

    ``where``: where to find it. ``example``: how it looks. ``pattern``: what it must look like, ``wrong`` what is said otherwise.
    ``secret``: never shown again. ``by_app``: may be left out where the installation has a Meta app of its own for this kind.
    ``skip``: may be left out; what the button says that does.
    """

    name: str
    label: Text
    where: Text
    example: str
    pattern: re.Pattern[str]
    wrong: Text
    secret: bool = False
    by_app: bool = False
    skip: Text | None = None
    probe: Probe | None = None

    def optional(self, kind: str, settings: Settings) -> bool:
        """Whether it may be left out in this installation."""
        return self.skip is not None or (self.by_app and bool(settings.app_secret(kind)))


@dataclass(frozen=True, slots=True)
class Guide:
    """How a kind of channel is connected.

    ``site``: where the network's own settings are. ``before``: steps to take there first, ``after``: once it is connected; then
    ``{address}`` and ``{word}`` have to be entered there.
    """

    kind: str
    title: str
    site: str
    site_name: str
    before: tuple[Text, ...]
    fields: tuple[Field, ...]
    after: tuple[Text, ...]
    connect: Connect


def checked(guide: Guide, field: Field, text: str, settings: Settings) -> str:
    """Return a value as it may be tried; raises ``Invalid`` naming the field."""
    value = text.strip()
    if not value and field.optional(guide.kind, settings):
        return ""
    if not field.pattern.fullmatch(value):
        raise Invalid(field.wrong, field=field.name)
    return value


async def connect(core: Core, user: models.User, bot_id: str, kind: str, given: Values) -> models.Channel:
    """Connect a channel of a kind with the values of its fields, which are tried with the network first.

    Raises ``NotFound`` for another's bot, ``Invalid`` naming the field, ``Conflict`` or ``Unavailable``.
    """
    guide = GUIDES[kind]
    async with core.db.read() as session:
        await may_connect(core, session, await bots.get(session, user, bot_id), kind)
    values = {each.name: checked(guide, each, given.get(each.name, ""), core.settings) for each in guide.fields}
    channel = await guide.connect(core, user, bot_id, values)
    core.cards.clear()
    core.bell.ring("channels")
    return channel


async def may_connect(core: Core, session: AsyncSession, bot: models.Bot, kind: str) -> None:
    """Raise ``Conflict`` where the plan of a bot's owner has no channels of this kind; one that is there may be renewed."""
    if bots.of_kind(await bots.channels(session, bot), kind) is None:
        await core.allowances.channel(session, bot, kind)


def needs_setting_up(channel: models.Channel, core: Core) -> bool:
    """Whether the owner has to enter our address with the network: not where the installation's own app delivers."""
    try:
        own_app = bool(core.credentials(channel.credentials).get("app_secret"))
    except Undecryptable:
        return True
    return own_app or not core.settings.app_secret(channel.kind)


# WhatsApp


async def _whatsapp_token(core: Core, values: Values) -> str:
    with bots.meta_faults():
        shown = await whatsapp.show(core.graph, values["access_token"], values["phone_number_id"])
    name, phone = (one_line(str(shown.get(key) or ""), 128) for key in ("verified_name", "display_phone_number"))
    return ", ".join(filter(None, (name, phone)))


async def _whatsapp_secret(core: Core, values: Values) -> str:
    try:
        with bots.meta_faults():
            await whatsapp.show(
                core.graph, values["access_token"], values["phone_number_id"], _app_secret(core, values)
            )
    except Invalid as error:
        raise _of_whose_app(error, values) from None
    return ""


def _app_secret(core: Core, values: Values) -> str:
    return values["app_secret"] or core.settings.app_secret("whatsapp")


def _of_whose_app(error: Invalid, values: Values) -> Invalid:
    if error.field != "app_secret" or values["app_secret"]:
        return error
    return Invalid(
        T("The access token is of another Meta app than the one of this service: enter that app’s secret."),
        field="app_secret",
    )


async def _bot_and_word(session: AsyncSession, user: models.User, bot_id: str, kind: str) -> tuple[models.Bot, str]:
    """Return a bot and its verify token: where such a channel was connected before, that stands in the Meta app already."""
    bot = await bots.get(session, user, bot_id)
    own = bots.of_kind(await bots.channels(session, bot), kind)
    return bot, own.secret if own is not None else new_secret(24)


async def _whatsapp(core: Core, user: models.User, bot_id: str, values: Values) -> models.Channel:
    try:
        number = await bots.try_whatsapp(
            core, values["access_token"], values["phone_number_id"], _app_secret(core, values)
        )
    except Invalid as error:
        raise _of_whose_app(error, values) from None
    async with core.db.write() as session:
        bot, word = await _bot_and_word(session, user, bot_id, "whatsapp")
        return await bots.connect_whatsapp(
            session,
            bot,
            number=number,
            credentials={**values, "phone_number_id": number.id},
            verify_token=word,
            crypto=core.crypto,
            actor=user,
            plan=core.allowances,
        )


# Instagram


async def _tried(core: Core, values: Values) -> str:
    account = await instagram.try_account(
        core,
        values["access_token"],
        values["account_id"],
        values["page_id"],
        values.get("app_secret", ""),
        subscribe=False,
    )
    return one_line(f"{account.name} @{account.username}".strip(), 128)


async def _instagram_token(core: Core, values: Values) -> str:
    # Behind a Page nothing is shown without the proof that the app's secret makes.
    return "" if values["page_id"] else await _tried(core, values)


async def _instagram_secret(core: Core, values: Values) -> str:
    return await _tried(core, values) if values["page_id"] else ""


async def _instagram(core: Core, user: models.User, bot_id: str, values: Values) -> models.Channel:
    token, secret = values["access_token"], values["app_secret"]
    account = await instagram.try_account(core, token, values["account_id"], values["page_id"], secret)
    async with core.db.write() as session:
        bot, word = await _bot_and_word(session, user, bot_id, "instagram")
        return await instagram.connect(
            session,
            bot,
            account=account,
            credentials=instagram.credentials(account, token, secret, values["meta_app_secret"]),
            verify_token=word,
            crypto=core.crypto,
            actor=user,
            plan=core.allowances,
        )


async def connect_own_account(core: Core, user: models.User, bot_id: str, kind: str) -> models.Channel:
    """Connect the installation's own account to a bot of an administrator; raises ``Conflict`` where there is none to connect."""
    values = core.settings.own_account(kind)
    if not user.is_admin or not values:
        raise Conflict(T("This service has no account of its own to connect."))
    if kind == instagram.KIND:
        values = {**values, "account_id": await instagram.own_account_id(core, values["access_token"])}
    return await connect(core, user, bot_id, kind, values)


GUIDES: Mapping[str, Guide] = {
    "whatsapp": Guide(
        "whatsapp",
        "WhatsApp",
        "https://developers.facebook.com/apps/",
        "Meta for Developers",
        before=(
            T("Open your app at developers.facebook.com and add the product WhatsApp to it."),
            T(
                "In the business settings make a system user, give it the app and the WhatsApp account, and make a token for it "
                "that does not expire, with the permissions whatsapp_business_messaging and whatsapp_business_management."
            ),
        ),
        fields=(
            Field(
                "phone_number_id",
                T("Phone number id"),
                T("WhatsApp → API setup. It is not the phone number itself."),
                "106540352242922",
                re.compile(r"[0-9]{5,32}"),
                T("The phone number id is a number of about 15 digits. It is not the phone number itself."),
            ),
            Field(
                "access_token",
                T("Access token"),
                T(
                    "Business settings → System users → Generate token. It is checked with Meta, stored encrypted and never "
                    "shown again."
                ),
                "EAAG…",
                _PRINTABLE,
                T("Copy it whole from Meta, without spaces."),
                secret=True,
                probe=_whatsapp_token,
            ),
            Field(
                "app_secret",
                T("App secret"),
                T("App settings → Basic. It proves that messages come from Meta."),
                "0123456789abcdef…",
                _PRINTABLE,
                T("Copy it whole from Meta, without spaces."),
                secret=True,
                by_app=True,
                probe=_whatsapp_secret,
            ),
        ),
        after=(
            T("Open your app at developers.facebook.com, then WhatsApp → Configuration."),
            T(
                "Under “Webhook” press “Edit”, enter the callback URL and the verify token, then press “Verify and save”."
            ),
            T("Under “Webhook fields” subscribe to “messages”."),
            T("Write to the number from another phone: the bot answers."),
        ),
        connect=_whatsapp,
    ),
    "instagram": Guide(
        "instagram",
        "Instagram",
        "https://developers.facebook.com/apps/",
        "Meta for Developers",
        before=(
            T(
                "Make the account a professional one, and allow access to messages in its settings: Messages → Connected tools."
            ),
            T("Open your app at developers.facebook.com, add the product Instagram and log in there with the account."),
        ),
        fields=(
            Field(
                "account_id",
                T("Account id"),
                T("A number of about 17 digits beside the account in the Meta app, not the username."),
                "17841400000000000",
                re.compile(r"[0-9]{5,32}"),
                T("The account id is a number of about 17 digits, not the username."),
            ),
            Field(
                "page_id",
                T("Page id (only with Facebook Login)"),
                T(
                    "If the account is connected through a Facebook Page, the id of that Page; the token is then the Page’s."
                ),
                "103456789012345",
                re.compile(r"[0-9]{5,32}"),
                T("The Page id is a number of about 15 digits."),
                skip=T("There is no Page: Instagram Login"),
            ),
            Field(
                "access_token",
                T("Access token"),
                T(
                    "Instagram → API setup → Generate token, or with Facebook Login the token of the Page. It is checked with "
                    "Meta, stored encrypted and never shown again."
                ),
                "IGAA…",
                _PRINTABLE,
                T("Copy it whole from Meta, without spaces."),
                secret=True,
                probe=_instagram_token,
            ),
            Field(
                "app_secret",
                T("App secret"),
                T(
                    "It proves that messages come from Meta. With Instagram Login: the Instagram app secret; with Facebook "
                    "Login: App settings → Basic."
                ),
                "0123456789abcdef…",
                _PRINTABLE,
                T("Copy it whole from Meta, without spaces."),
                secret=True,
                by_app=True,
                probe=_instagram_secret,
            ),
            Field(
                "meta_app_secret",
                T("Meta app secret (if there is a second one)"),
                T(
                    "With Instagram Login the app has two secrets, and Meta may sign with either: enter the one of App settings "
                    "→ Basic here."
                ),
                "0123456789abcdef…",
                _PRINTABLE,
                T("Copy it whole from Meta, without spaces."),
                secret=True,
                skip=T("There is only one"),
            ),
        ),
        after=(
            T(
                "In the Meta app, in the webhooks of Instagram, enter the callback URL and the verify token, then press “Verify "
                "and save”."
            ),
            T(
                "There subscribe to messages, messaging_postbacks, message_reactions, messaging_seen, messaging_referral, "
                "message_edit and comments."
            ),
            T("Write to the account from another one: the bot answers."),
        ),
        connect=_instagram,
    ),
}
