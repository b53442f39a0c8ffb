"""Telling the one who can mend it: once when something breaks, once when it works again."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog
from sqlalchemy import ColumnElement, Connection, Select, bindparam, case, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlalchemy.sql.dml import ReturningInsert

from db import models
from db.base import UtcTime, insert_for, new_id, utcnow
from services import letters, money
from services.i18n import T, Text, Words, translate

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

_MAILED = ("messages_few", "messages_out")
"""Of these people are written by mail too: what they do not hear of costs them customers."""
_LETTER = "notice:"
GROUP_S = 600
"""After one notice about a bot the next ones wait so long and come together."""
_SHOWN = 10
_SIGNS: Mapping[str, str] = {
    "member_joined": "👥",
    "access_requested": "🔑",
    "team_paused": "⏸",
    "work_paused": "⏸",
    "broadcast_done": "📣",
    "view_asked": "👀",
    "support_wanted": "💬",
    "support_answered": "💬",
}
"""What stands before a notice that is no trouble."""

TEXTS: Mapping[str, Text] = {
    "token_refused": T(
        "“{bot}”: Telegram no longer accepts the bot’s token, so the bot is silent. Connect it again with a new token "
        "from BotFather."
    ),
    "conflict": T(
        "“{bot}”: another program is reading this bot’s messages. Stop that program, then start the bot here again."
    ),
    "unreadable": T("“{bot}”: its saved token can no longer be read. Connect the bot to Telegram again."),
    "silent": T("“{bot}”: Telegram has not answered for a long time. Reconnecting."),
    "webhook_failed": T(
        "“{bot}”: Telegram cannot deliver messages to us at the moment. They are kept for up to a day; the administrator "
        "has been told."
    ),
    "webhook_failed_here": T(
        "“{bot}”: Telegram reports that messages could not be delivered to us. Check the server’s address."
    ),
    "whatsapp_token_refused": T(
        "“{bot}”: WhatsApp no longer accepts the access token, so the bot cannot answer there. Connect the number again with "
        "a new token of a system user."
    ),
    "whatsapp_unreadable": T("“{bot}”: the saved WhatsApp token can no longer be read. Connect the number again."),
    "whatsapp_blocked": T(
        "“{bot}”: Meta does not let the WhatsApp number send: see to it in WhatsApp Manager (payment, registration or a "
        "lock), then start the bot again."
    ),
    "token_expires": T(
        "“{bot}”: the {channel} access token ends on {day}, and the bot falls silent there with it. Enter a new one before: best "
        "one without an end, of a system user."
    ),
    "instagram_token_expires": T(
        "“{bot}”: the {channel} access token ends on {day}, and the bot falls silent there with it. It could not be renewed: "
        "make a new one in the Meta app and enter it before."
    ),
    "token_expires_soon": T(
        "“{bot}”: the {channel} access token ends within a day ({day}). Enter a new one now, or the bot falls silent there."
    ),
    "quality_red": T(
        "“{bot}”: Meta rates the quality of the {channel} number as low, because customers block or report it. Write less on "
        "your own accord; if it stays so, Meta limits the number."
    ),
    "endpoint_off": T(
        "Your server {host} has not taken what we tell it for days, so we have switched it off. Mend it, then switch it on "
        "under “Integrations”."
    ),
    "endpoint_gone": T(
        "Your server {host} said that nothing more is wanted there (410), so we have switched it off. If that was a mistake, "
        "switch it on under “Integrations”."
    ),
    "webhook_lost": T(
        "“{bot}”: customers’ messages from {channel} do not come here any more: they go to another address, or the "
        "subscription has ended. Open the channels and press “Check now”."
    ),
    "instagram_token_refused": T(
        "“{bot}”: Instagram no longer accepts the access token, so the bot cannot answer there. Connect the account again "
        "with a new token."
    ),
    "instagram_unreadable": T("“{bot}”: the saved Instagram token can no longer be read. Connect the account again."),
    "instagram_blocked": T(
        "“{bot}”: Meta does not let the Instagram account send: see to it in the account’s status on Instagram, then start "
        "the bot again."
    ),
    "window_closed": T(
        "“{bot}”: an answer could not be delivered, because more than 24 hours had passed since the customer’s last message. "
        "It can be sent when the customer writes again."
    ),
    "document_failed": T("“{document}” could not be read. Open the bot’s documents to see why and what to do."),
    "message_failed": T("“{bot}”: a customer’s message could not be answered. Please look at the conversation."),
    "send_failed": T("“{bot}”: an answer could not be delivered to a customer. Please look at the conversation."),
    "operator_wanted": T("“{bot}”: a customer asks for a person: {name}."),
    "operator_wanted_nameless": T("“{bot}”: a customer asks for a person."),
    "gave_up": T("“{bot}”: {name} asked something that the bot could not answer."),
    "gave_up_nameless": T("“{bot}”: a customer asked something that the bot could not answer."),
    "customer_wrote": T("“{bot}”: {name} has written again; you answer this conversation yourself."),
    "customer_wrote_nameless": T("“{bot}”: a customer has written again; you answer this conversation yourself."),
    "forum_lost": T(
        "The group “{group}” no longer works as an inbox: I am not there, or may not manage topics. Make me an administrator "
        "there again."
    ),
    "business_connected": T(
        "“{bot}” now answers in the private chats of {name} on Telegram. When {name} writes, it is silent."
    ),
    "business_no_reply": T(
        "“{bot}” was connected to the Telegram account of {name}, but without the right to reply, so it is silent there. Open "
        "Telegram: Settings → Telegram Business → Chatbots, and let the bot reply to messages."
    ),
    "business_foreign": T(
        "“{bot}” was connected to the Telegram account of {name}, who is neither you nor one of your managers: the bot reads and "
        "answers nothing there. If it is your account, link it in the panel under “Account”."
    ),
    "business_off": T("“{bot}” no longer answers in the private chats of {name} on Telegram."),
    "payment_contradicted": T(
        "{gateway} says that payment {number} failed after it had been confirmed. Look it up in the gateway’s cabinet: if the "
        "money went back, mark the payment as refunded."
    ),
    "click_not_reversed": T(
        "Payment {number} was refunded here, but Click did not give the money back: {reason}. Give it back in Click’s cabinet."
    ),
    "member_joined": T("{name} has joined your team. On the team page you see who may do what."),
    "team_paused": T(
        "Your plan has room for {n} people in your team, so these are paused and see no conversations: {names}. They work again "
        "by themselves with a larger plan, or when somebody else leaves. On the team page you choose who stays."
    ),
    "work_paused": T(
        "Your work for {owner} is paused: their plan has no room for you in the team at the moment. It goes on by itself with a "
        "larger plan, or when somebody else leaves."
    ),
    "work_resumed": T("Your work for {owner} goes on: you see their conversations again."),
    "team_whole": T("Everybody in your team works again."),
    "access_requested": T("{owner} asks for access: {plan}, {period}."),
    "view_asked": T(
        "{name} is looking at your panel and asks whether they may change something there for you: {reason}"
    ),
    "support_wanted": T("{name} writes to support: “{text}”"),
    "support_answered": T("Support has answered: “{text}”"),
    "over_limit": T("“{bot}”: more messages than the limit allows; some customers were asked to wait."),
    "factory_failed": T("A message to the main bot could not be handled: {reason}. The log tells more."),
    "messages_few": T(
        "{used} of the {n} messages of your plan “{plan}” are used this month. When none are left, your bots are silent "
        "until the next month or a larger plan."
    ),
    "messages_out": T(
        "All {n} messages of your plan “{plan}” are used this month. Your bots answer again with the next month, or at once with "
        "a larger plan. Until then customers who write wait for a person."
    ),
    "plan_over": T(
        "Your plan has ended, so your bots answer no more. Customers who write wait for a person. Nothing is deleted: with a "
        "plan everything answers again at once."
    ),
    "plan_bots": T(
        "“{bot}” is silent: your plan “{plan}” allows fewer bots than you have, and the oldest answer. Stop those that should "
        "rest, or choose a larger plan."
    ),
    "plan_channel": T(
        "“{bot}” is silent on {channel}: your plan “{plan}” does not include it. Customers who write there wait for a person."
    ),
    "files_full": T(
        "“{bot}”: all the room for customers’ files is used ({size} MB), so new pictures, recordings and files are not kept. "
        "Text is answered as ever. Old files are deleted in time; whoever runs the installation can allow more."
    ),
    "cost_limit": T("“{bot}”: today’s limit for the cost of answers is used up; passages are quoted until tomorrow."),
    "budget_near": T(
        "80 % of the budget “{budget}” of {limit} for models is used up. Its limit is set on the page of models."
    ),
    "budget_out": T(
        "The budget “{budget}” of {limit} for models is used up. Until it begins anew other models answer where there are any, "
        "else passages are quoted. A larger one can be set on the page of models."
    ),
    "key_refused": T(
        "{provider} does not accept the API key any more. Put a new one into the settings (.env) and start the program "
        "again. Until then other models answer where there are any, else passages are quoted."
    ),
    "own_key_refused": T(
        "“{bot}”: {provider} does not accept the bot’s own API key any more. Save a new key in the bot’s settings; until "
        "then the bot answers without it."
    ),
    "key_no_money": T(
        "{provider} does not answer: the money or the spending limit of the API key’s account is used up. Pay in or raise "
        "the limit at {provider}. Until then other models answer where there are any, else passages are quoted."
    ),
    "own_key_no_money": T(
        "“{bot}”: {provider} does not answer, the money or the spending limit of the account of the bot’s own API key is "
        "used up. Pay in or raise the limit at {provider}; until then the bot answers without the key."
    ),
    "key_unreadable": T(
        "“{bot}”: its own OpenAI key can no longer be read. Save the key again; until then the bot answers without it."
    ),
    "model_retired": T(
        "{provider} no longer offers the model “{model}”. Name another one in config.toml. Until then other models answer "
        "where there are any, else passages are quoted."
    ),
    "own_model_missing": T(
        "“{bot}”: OpenAI does not offer the model “{model}” to the bot’s own key. The bot answers without it; check the "
        "key’s project at OpenAI."
    ),
    "mail_failed": T(
        "Mail cannot be sent: {reason}. Check MAIL_SERVER and what goes with it in the settings (.env), and start the program "
        "again. Letters wait up to three days."
    ),
    "broadcast_done": T("“{bot}”: the broadcast “{title}” has been sent. Its page shows what became of it."),
    "broadcast_bot": T("“{bot}”: the broadcast “{title}” is paused, because the bot was stopped."),
    "broadcast_plan": T(
        "“{bot}”: the broadcast “{title}” is paused, because your plan does not let this bot answer now. Choose a plan, then "
        "resume it."
    ),
    "broadcast_channel": T(
        "“{bot}”: the broadcast “{title}” is paused, because a channel stopped working. Mend the channel, then resume it."
    ),
    "mail_recovered": T("Mail is sent again."),
    "channel_recovered": T("“{bot}” is working again."),
    "key_recovered": T("{provider} answers again."),
    "own_key_recovered": T("“{bot}”: the trouble with its own {provider} key is over."),
}
MESSAGES = ("messages_few", "messages_out")
PLAN = (*MESSAGES, "plan_over", "plan_bots", "plan_channel")
"""What an owner's plan does not allow, or soon will not; it is over when the plan changes."""
_CHANNEL_TROUBLES = ("refused", "conflict", "unreadable", "silent", "webhook_failed", "blocked")
_CHANNEL_WARNINGS = ("token_expires", "instagram_token_expires", "token_expires_soon", "quality_red", "webhook_lost")
# Nothing had stopped, so there is nothing that "works again".
_FOREBODING = frozenset({"token_expires", "instagram_token_expires", "token_expires_soon", "quality_red"})
# Who switches their own server on again knows that it is on.
ENDPOINTS = ("endpoint_off", "endpoint_gone")
_META_TROUBLES = tuple(
    f"{network}_{trouble}"
    for network in ("whatsapp", "instagram")
    for trouble in ("token_refused", "unreadable", "blocked")
)
_KEY_TROUBLES = ("key_refused", "key_no_money", "key_unreadable", "own_model_missing")
_RECOVERED = {
    "key_refused": "key_recovered",
    "key_no_money": "key_recovered",
    "key_unreadable": "key_recovered",
    "model_retired": "key_recovered",
    "own_model_missing": "key_recovered",
    "mail_failed": "mail_recovered",
    "work_paused": "work_resumed",
    "team_paused": "team_whole",
}
REMIND_AFTER = dt.timedelta(hours=1)

# Events: what happens again is told again. The others are states, told once until they are solved or another day comes.
_EPHEMERAL = frozenset(
    {
        "operator_wanted",
        "gave_up",
        "customer_wrote",
        "message_failed",
        "send_failed",
        "window_closed",
        "document_failed",
        "member_joined",
        "access_requested",
        "broadcast_done",
        "broadcast_bot",
        "broadcast_plan",
        "broadcast_channel",
        "view_asked",
        "support_wanted",
        "support_answered",
    }
)
# What works again one day: until then it is open, also for whoever has put the notice away.
_LASTING = frozenset(
    {
        "token_refused",
        "conflict",
        "unreadable",
        "silent",
        "webhook_failed",
        "model_retired",
        "mail_failed",
        *_CHANNEL_WARNINGS,
        *_META_TROUBLES,
        *_KEY_TROUBLES,
        "plan_over",
        "plan_bots",
        "plan_channel",
        "team_paused",
        "work_paused",
        *ENDPOINTS,
    }
)
_BUSINESS = ("business_connected", "business_no_reply", "business_foreign", "business_off")
_BROADCASTS = ("broadcast_done", "broadcast_bot", "broadcast_plan", "broadcast_channel")
_WAITING = ("operator_wanted", "gave_up", "customer_wrote")
"""Somebody waits for a person in a conversation; the notice's key names it (:func:`talk_key`)."""
_TALKS = "/conversations"
_INTEGRATIONS = "/settings/webhooks"
VIEWS = "/settings/views"
"""Where an owner answers an administrator who asks."""
_PLACES: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "token_refused",
            "conflict",
            "unreadable",
            "silent",
            "webhook_failed",
            *_BUSINESS,
            *_CHANNEL_WARNINGS,
            *_META_TROUBLES,
        ),
        "/channels",
    ),
    **dict.fromkeys(_BROADCASTS, "/broadcasts"),
    **dict.fromkeys((*_WAITING, "message_failed", "send_failed", "window_closed"), _TALKS),
    "document_failed": "/documents",
    **dict.fromkeys((*_KEY_TROUBLES, "model_retired", "factory_failed", "access_requested"), ""),
    **dict.fromkeys(PLAN, "/billing"),
    **dict.fromkeys(ENDPOINTS, _INTEGRATIONS),
    "view_asked": VIEWS,
}
"""Where below a bot's page one sees to it. What is not here asks nothing of anybody."""
_LABELS: Mapping[str, Text] = {
    "/channels": T("Open the channels"),
    _TALKS: T("Open the conversations"),
    "/documents": T("Open the documents"),
    "/broadcasts": T("Open the broadcast"),
    "": T("Open the bot’s settings"),
    "/billing": T("Open plans and payments"),
    _INTEGRATIONS: T("Open the integrations"),
    VIEWS: T("Agree or refuse"),
}


def lost_key(kind: str, channel_id: str) -> str:
    """Return the key of notices about answers through a channel that were lost in one way."""
    return f"{'send' if kind == 'send_failed' else kind}:{channel_id}"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that a person should hear of. ``key`` tells it from others of the kind: it is noted once until it is solved."""

    user_id: str
    kind: str
    key: str
    bot_id: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


def talk_key(conversation_id: str) -> str:
    """Return the key of notices about a conversation that waits for a person."""
    return f"operator:{conversation_id}"


def channel_key(channel_id: str, trouble: str) -> str:
    """Return the key of notices about one trouble of a channel."""
    return f"channel:{channel_id}:{trouble}"


def text(notice: models.Notice, language: str) -> str:
    """Return what a notice says in ``language``."""
    variant = notice.kind
    if notice.kind in _WAITING and notice.params.get("name") in (None, "", "—"):
        variant = f"{notice.kind}_nameless"
    elif notice.bot_id is None and f"{notice.kind}_here" in TEXTS:
        # Whose the bot is not can mend what it stands on.
        variant = f"{notice.kind}_here"
    elif "bot" in notice.params and f"own_{notice.kind}" in TEXTS:
        variant = f"own_{notice.kind}"
    pattern = TEXTS.get(variant)
    params = {name: _shown(value, language) for name, value in notice.params.items()}
    return translate(language, pattern.msgid, **params) if pattern else notice.kind


def _shown(value: Any, language: str) -> Any:
    if not isinstance(value, dict):
        return value
    return money.count(int(value["count"]), language) if "count" in value else Words.of(value["words"])


def _opening(dialect: str, occurrence: Occurrence) -> ReturningInsert[int]:
    kind = occurrence.kind
    values = {
        "id": new_id(),
        "user_id": occurrence.user_id,
        "bot_id": occurrence.bot_id,
        "kind": kind,
        "key": occurrence.key[:128],
        "params": dict(occurrence.params),
        "count": 1,
        "created_at": utcnow(),
    }
    known = models.Notice
    again: dict[str, Any] = {"count": known.count + 1, "params": values["params"]}
    if kind in _EPHEMERAL:
        # Told again, but not within the hour, unless a person is asked for where the bot had only not known something.
        urgent = (known.kind != kind) & (kind == "operator_wanted")
        again["told_at"] = case((or_(urgent, known.told_at < utcnow() - REMIND_AFTER), None), else_=known.told_at)
        again["seen_at"] = None
        again["kind"] = case(((known.kind == "operator_wanted") & (kind == "gave_up"), known.kind), else_=kind)
    else:
        # Told once; another trouble with the same thing is news.
        again["told_at"] = case((known.kind != kind, None), else_=known.told_at)
        again["seen_at"] = case((known.kind != kind, None), else_=known.seen_at)
        again["kind"] = kind
    return (
        insert_for(dialect, models.Notice)
        .values(**values)
        .on_conflict_do_update(index_elements=["user_id", "key"], index_where=known.resolved_at.is_(None), set_=again)
        .returning(models.Notice.count)
    )


def open_in(connection: Connection, occurrences: Iterable[Occurrence]) -> None:
    """Note things inside a unit of the queues: with what they are about or not at all."""
    everybody = [each for occurrence in occurrences for each in _told_to(connection, occurrence)]
    for occurrence in sorted(everybody, key=lambda item: (item.user_id, item.key)):
        connection.execute(_opening(connection.dialect.name, occurrence))


def _told_to(connection: Connection, occurrence: Occurrence) -> list[Occurrence]:
    """Return the same for everybody who should hear of it: that a customer waits, whoever answers for the owner hears too."""
    if occurrence.kind not in _WAITING:
        return [occurrence]
    member = models.Member
    works = member.owner_id == occurrence.user_id, member.paused_at.is_(None)
    others = connection.scalars(select(member.user_id).where(*works))
    return [occurrence, *(replace(occurrence, user_id=user_id) for user_id in others)]


def _still_theirs() -> ColumnElement[bool]:
    """The condition on a notice that its person may still answer in the conversation it is about.

    A membership may end in the moment in which a customer's message is being stored.
    """
    bot, member, notice = models.Bot, models.Member, models.Notice
    works = select(member.id).where(
        member.owner_id == bot.owner_id, member.user_id == notice.user_id, member.paused_at.is_(None)
    )
    works = works.correlate(bot, notice)
    may = select(bot.id).where(bot.id == notice.bot_id, or_(bot.owner_id == notice.user_id, works.exists()))
    return or_(notice.kind.not_in(_WAITING), may.exists())


async def open_notice(
    session: AsyncSession,
    user_id: str,
    kind: str,
    *,
    key: str,
    bot_id: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> bool:
    """Note that something broke; return False when the same thing (``key``) is known already and not yet solved."""
    occurrence = Occurrence(user_id, kind, key, bot_id, params or {})
    count = await session.scalar(_opening(session.get_bind().dialect.name, occurrence))
    return int(count or 0) == 1


async def solve(session: AsyncSession, key: str) -> None:
    """Note that what ``key`` names works again: whoever was told of the trouble is told once that it is over."""
    solved = await session.scalars(
        update(models.Notice)
        .where(models.Notice.key == key, models.Notice.resolved_at.is_(None))
        .values(resolved_at=utcnow())
        .returning(models.Notice)
    )
    for notice in list(solved):
        if notice.told_at is not None and notice.kind not in _EPHEMERAL | _FOREBODING | set(ENDPOINTS):
            session.add(
                models.Notice(
                    user_id=notice.user_id,
                    bot_id=notice.bot_id,
                    kind=_RECOVERED.get(notice.kind, "channel_recovered"),
                    key=f"recovered:{notice.id}",
                    params=notice.params,
                )
            )


async def solve_channel(session: AsyncSession, channel_id: str) -> None:
    """Solve all troubles of a channel, which works again or is being mended: what is still wrong its owner hears of anew."""
    for trouble in _CHANNEL_TROUBLES:
        await solve(session, channel_key(channel_id, trouble))


async def forget_channel(session: AsyncSession, channel_id: str) -> None:
    """End what was known of a channel's troubles; the channel is no more: there is nothing to tell of."""
    known = [channel_key(channel_id, trouble) for trouble in (*_CHANNEL_TROUBLES, *_CHANNEL_WARNINGS)]
    gone = models.Notice.key.in_(known), models.Notice.resolved_at.is_(None)
    await session.execute(update(models.Notice).where(*gone).values(resolved_at=utcnow()))


def close_in(connection: Connection, user_id: str, kinds: Iterable[str]) -> None:
    """End a person's notices of some kinds: there is nothing left to tell."""
    notice = models.Notice
    connection.execute(
        update(notice)
        .where(notice.user_id == user_id, notice.kind.in_(list(kinds)), notice.resolved_at.is_(None))
        .values(resolved_at=utcnow())
    )


async def open_for(session: AsyncSession, user: models.User) -> list[models.Notice]:
    """Return what this person should know now, the latest first."""
    return list(await session.scalars(_open_for(), {"p_user": user.id}))


@cache
def _open_for() -> Select[models.Notice]:
    # Every page asks this: putting the query together costs more than the answer.
    notice = models.Notice
    opened = notice.user_id == bindparam("p_user"), notice.resolved_at.is_(None), notice.seen_at.is_(None)
    return select(notice).where(*opened, _still_theirs()).order_by(notice.id.desc()).limit(20)


def _own_key_troubles(bot: models.Bot) -> Select[str]:
    return select(models.Notice.key).where(
        models.Notice.bot_id == bot.id,
        models.Notice.user_id == bot.owner_id,
        models.Notice.kind.in_(_KEY_TROUBLES),
        models.Notice.resolved_at.is_(None),
    )


async def own_key_trouble(session: AsyncSession, bot: models.Bot) -> bool:
    """Tell whether a bot's own model key does not work, as far as is known."""
    return await session.scalar(_own_key_troubles(bot).limit(1)) is not None


async def solve_own_key(session: AsyncSession, bot: models.Bot) -> None:
    """End what was known against a bot's own key, which was replaced or removed."""
    for key in sorted(set(await session.scalars(_own_key_troubles(bot)))):
        await solve(session, key)


async def dismiss(session: AsyncSession, user: models.User, notice_id: str) -> None:
    """The person has seen it. A trouble that lasts is not over by that."""
    notice, now = models.Notice, utcnow()
    over = case((notice.kind.in_(_LASTING), notice.resolved_at), else_=literal(now, UtcTime))
    await session.execute(
        update(notice).where(notice.id == notice_id, notice.user_id == user.id).values(seen_at=now, resolved_at=over)
    )


def opens_only_here(address: str) -> bool:
    """Tell whether an address leads to the machine that it is opened on, and so is of no use to anybody elsewhere."""
    host = urlsplit(address).hostname or ""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return found.is_loopback or found.is_unspecified


def _talk(notice: models.Notice) -> str:
    """Return the id of the conversation that a notice is about; empty where there is none or it is not known."""
    if notice.kind in _WAITING:
        return notice.key.removeprefix(talk_key(""))
    return str(notice.params.get("conversation") or "")


def page(notice: models.Notice) -> str:
    """Return the path of the panel's page where a person sees what a notice tells of and can act."""
    if notice.kind in ("member_joined", "team_paused", "team_whole"):
        return "/team"
    if notice.kind in PLAN:
        return "/billing"
    if notice.kind == "access_requested":
        return "/admin/requests"
    if notice.kind in ENDPOINTS:
        return _INTEGRATIONS
    if notice.kind in ("budget_near", "budget_out"):
        return "/admin/models"
    if notice.kind == "view_asked":
        return VIEWS
    if notice.kind == "support_wanted":
        return f"/admin/support/{notice.key.removeprefix('support:')}"
    if notice.kind == "support_answered":
        return "/support"
    if notice.bot_id is None:
        return "/dashboard"
    talk = str(notice.params.get("broadcast") or "") if notice.kind in _BROADCASTS else _talk(notice)
    return f"/bots/{notice.bot_id}{_PLACES.get(notice.kind, '')}" + (f"/{talk}" if talk else "")


def _way(notices: list[models.Notice], public_url: str, language: str) -> tuple[str, str] | None:
    """Return the button for notices about one bot, or about none; None where they ask nothing or the panel opens only here.

    Customers who wait go before everything else. More than one conversation is their list.
    """
    asking = [notice for notice in notices if notice.kind in _PLACES]
    asking = [notice for notice in asking if notice.kind in _WAITING] or asking
    if not asking or opens_only_here(public_url):
        return None
    first, place = asking[0], _PLACES[asking[0].kind]
    label, path = _LABELS[place], page(first)
    if first.bot_id is None and first.kind not in (*PLAN, *ENDPOINTS, "view_asked"):
        label = T("Open the panel")
    elif place == _TALKS:
        talks = {_talk(notice) for notice in asking if _PLACES[notice.kind] == _TALKS}
        if len(talks) > 1:
            path = f"/bots/{first.bot_id}{_TALKS}"
            path += "?status=waiting" if all(notice.kind in ("operator_wanted", "gave_up") for notice in asking) else ""
        elif talks != {""}:
            label = T("Open the conversation")
    return label.render(language), f"{public_url}{path}"


def _compose(notices: list[models.Notice], language: str) -> str:
    lines = []
    for notice in notices[:_SHOWN]:
        sign = "✅" if notice.kind.endswith("recovered") else _SIGNS.get(notice.kind) or "⚠️"
        lines.append(f"{sign} {text(notice, language)}")
    if len(notices) > _SHOWN:
        lines.append(translate(language, "More notices: {n}. You find them in the panel.", n=len(notices) - _SHOWN))
    return "\n\n".join(lines)


async def mail(core: Core) -> None:
    """Write letters for what must be heard by whoever has no Telegram, and has not just the panel open: once each."""
    notice, letter, user = models.Notice, models.Letter, models.User
    written = select(letter.id).where(letter.user_id == notice.user_id, letter.key == literal(_LETTER) + notice.id)
    async with core.db.read() as session:
        rows = (
            await session.scalars(
                select(notice)
                .join(user, user.id == notice.user_id)
                .where(
                    notice.kind.in_(_MAILED),
                    notice.resolved_at.is_(None),
                    user.email.is_not(None),
                    user.banned_at.is_(None),
                    ~written.exists(),
                )
                .limit(500)
            )
        ).all()
    for row in rows:
        params = {**row.params, "path": page(row)}
        async with core.db.write() as session:
            key = f"{_LETTER}{row.id}"
            await letters.write(session, row.user_id, row.kind, key=key, now=core.now(), params=params, telegram=False)
    if rows:
        core.bell.ring("letters")


async def pass_over(session: AsyncSession, *, now: dt.datetime) -> None:
    """Note that nobody is to hear any more of what is open: before a restore they may have."""
    notice = models.Notice
    for row in await session.scalars(select(notice).where(notice.kind.in_(_MAILED), notice.resolved_at.is_(None))):
        key = f"{_LETTER}{row.id}"
        await letters.write(session, row.user_id, row.kind, key=key, now=now, mail=False, telegram=False)
    untold: Any = notice.told_at.is_(None)
    await session.execute(
        update(notice).where(untold).values(told_at=now), execution_options={"synchronize_session": False}
    )


async def deliver(core: Core) -> int:
    """Send what is due to owners in Telegram: the first at once, further ones about a bot grouped every ten minutes.

    Returns how many messages went out. People without Telegram read their notices in the panel.
    """
    if core.factory is None:
        return 0
    now = utcnow()
    notice, told = models.Notice, aliased(models.Notice)
    told_lately = select(told.id).where(
        told.user_id == notice.user_id,
        told.bot_id.is_not_distinct_from(notice.bot_id),
        told.told_at > now - dt.timedelta(seconds=GROUP_S),
    )
    async with core.db.read() as session:
        rows = (
            await session.execute(
                select(notice, models.User)
                .join(models.User, models.User.id == notice.user_id)
                .where(
                    notice.told_at.is_(None),
                    notice.seen_at.is_(None),
                    or_(notice.resolved_at.is_(None), notice.kind.like("%recovered")),
                    ~told_lately.exists(),
                    _still_theirs(),
                )
                .order_by(notice.id)
                .limit(500)
            )
        ).all()
    due: dict[tuple[str, str | None], list[tuple[models.Notice, models.User]]] = {}
    for row, user in rows:
        due.setdefault((user.id, row.bot_id), []).append((row, user))
    for pairs in due.values():
        user = pairs[0][1]
        notices = [row for row, _ in pairs]
        # Marked first: being told twice, or by two processes, is worse than the rare notice that only the panel shows.
        async with core.db.write() as session:
            mine = set(
                await session.scalars(
                    update(models.Notice)
                    .where(models.Notice.id.in_([row.id for row in notices]), models.Notice.told_at.is_(None))
                    .values(told_at=now)
                    .returning(models.Notice.id)
                )
            )
        notices = [row for row in notices if row.id in mine]
        if not notices:
            continue
        if user.telegram_id is not None and user.banned_at is None:
            way = _way(notices, core.settings.public_url, user.language)
            if not await core.factory.notify(user.telegram_id, _compose(notices, user.language), way):
                async with core.db.write() as session:
                    await session.execute(update(models.Notice).where(models.Notice.id.in_(mine)).values(told_at=None))
    return len(due)
