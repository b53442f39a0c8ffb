"""Instagram messaging with both logins: what a webhook carries, sending, read marks, who wrote.

Facts: developers.facebook.com/documentation/instagram-platform (webhooks, instagram-api-with-instagram-login/messaging-api,
private-replies) and developers.facebook.com/docs/messenger-platform/instagram, checked 2026-11-21 with version 26.0.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.channels.base import (
    Delivery,
    Inbound,
    Inspection,
    NotAllowed,
    Outgoing,
    Piece,
    Place,
    Refused,
    RemoteFile,
    Sender,
    TextUnit,
    TokenRefused,
    Usage,
    WindowClosed,
)
from services.channels.meta import (
    COMMAND,
    COMMANDS,
    GraphApi,
    RepliedAlready,
    digits,
    fingerprint,
    first_id,
    listing,
    mapping,
    proof_of,
    token_end,
)
from services.errors import Permanent, Temporary

TEXT_LIMIT = 1000
"""Bytes of UTF-8: about 500 Cyrillic letters."""
_QUICK_REPLIES, _QUICK_TITLE = 13, 20
_TEST_FIELDS = frozenset(
    {"messages", "messaging_postbacks", "message_reactions", "messaging_seen", "messaging_referral", "message_edit"}
)
_FIELDS = ",".join([*sorted(_TEST_FIELDS), "comments"])
# A Page has fewer fields; what Instagram sends through it is chosen in the app.
_PAGE_FIELDS = "messages,messaging_postbacks,message_reactions,messaging_referrals,message_reads,feed"
_FILES: Mapping[str, str] = {
    "image": "photo",
    "video": "video",
    "audio": "voice",
    "file": "document",
    "sticker": "sticker",
    "story_mention": "photo",
    "share": "photo",
    "ig_post": "photo",
    "reel": "video",
    "ig_reel": "video",
}
"""Attachments by what they are here. Audio is what was spoken into the telephone."""
_SPEAKS = ("message", "postback", "message_edit", "reaction", "read", "referral")


def unpack(body: Any) -> Iterator[Piece]:
    """Take a delivery apart into events and comments, each with the ids that may name our account or its Page.

    Meta's examples print a list of bodies as well, and its test button sends events as changes.
    """
    for part in listing(body) if isinstance(body, list) else [mapping(body)]:
        ours = part.get("object") == "instagram"
        for entry in listing(part.get("entry")):
            account = digits(entry.get("id"))
            updates: list[dict[str, Any]] = []
            for name in ("messaging", "standby"):
                updates += [{name: event, "entry": account} for event in listing(entry.get(name))]
            for change in listing(entry.get("changes")):
                value = mapping(change.get("value"))
                if change.get("field") == "comments":
                    updates.append({"comment": value, "entry": account, "time": entry.get("time")})
                elif change.get("field") in _TEST_FIELDS:
                    updates.append({"messaging": value, "entry": account})
            for update in updates if ours else ():
                yield Piece(_places(account, _side(update)), (), update)
            if not updates or not ours:
                yield Piece(_places(account), (), None)


def _places(*ids: str) -> tuple[tuple[str, bool], ...]:
    """An account by its own id or by that of the Page above it."""
    return tuple((each, above) for each in dict.fromkeys(ids) if each for above in (False, True))


def _event(update: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(update.get("messaging")) or mapping(update.get("standby"))


def _party(event: Mapping[str, Any], name: str) -> Any:
    return mapping(event.get(name)).get("id")


def _by_us(update: Mapping[str, Any]) -> bool:
    """Whether an event tells of what the account itself did."""
    event = _event(update)
    sender = _party(event, "sender")
    return bool(mapping(event.get("message")).get("is_echo")) or (bool(sender) and sender == update.get("entry"))


def _side(update: Mapping[str, Any]) -> str:
    """Return the id of ours that an event names besides its entry's."""
    return digits(_party(_event(update), "sender" if _by_us(update) else "recipient"))


def _moment(value: Any) -> dt.datetime | None:
    """Return a time that is told in milliseconds or in seconds."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**14:
        return None
    return dt.datetime.fromtimestamp(value / 1000 if value > 10**11 else value, dt.UTC)


@dataclass(frozen=True, slots=True)
class InstagramAccount:
    """An account as its token shows it. ``page``: the Page that it is reached through, empty with Instagram's own login."""

    id: str
    page: str
    name: str
    username: str
    subscribed: bool


async def show(api: GraphApi, token: str) -> Mapping[str, Any]:
    """Return what a token of Instagram's own login shows of its account. Changes nothing."""
    return await api.call("GET", "me", token, parameters={"fields": "user_id,username,name"})


def own_id(shown: Mapping[str, Any]) -> str:
    """Return the id of an account that :func:`show` has shown, as webhooks carry it; empty where there is none."""
    return digits(str(shown.get("user_id") or shown.get("id") or ""))


async def look_up(api: GraphApi, token: str, account_id: str, *, subscribe: bool = True) -> InstagramAccount:
    """Try a token of Instagram's own login: read the account and, to ``subscribe``, have its messages delivered to the app.

    Raises ``Temporary`` or a ``Permanent``, :class:`~services.channels.base.TokenRefused` for a token that is not accepted.
    """
    shown = await show(api, token)
    own = own_id(shown)
    # Meta shows two ids for one account. Webhooks carry user_id; whoever copied the other one meant the same account.
    if not own or account_id not in (own, str(shown.get("id") or "")):
        raise Refused(f"the token is of another account than {account_id}")
    subscribed = subscribe and await _subscribe(api, token, own, _FIELDS)
    return InstagramAccount(own, "", str(shown.get("name") or ""), str(shown.get("username") or ""), subscribed)


async def look_up_page(
    api: GraphApi, token: str, account_id: str, page_id: str, app_secret: str, *, subscribe: bool = True
) -> InstagramAccount:
    """Try a token of a Page, as :func:`look_up`; the app's secret is tried as well."""
    fields = {
        "fields": "instagram_business_account{id,username,name}",
        "appsecret_proof": proof_of(token, app_secret),
    }
    linked = mapping((await api.call("GET", page_id, token, parameters=fields)).get("instagram_business_account"))
    if str(linked.get("id") or "") != account_id:
        raise Refused(f"the Page is linked with another account than {account_id}")
    subscribed = subscribe and await _subscribe(api, token, page_id, _PAGE_FIELDS)
    return InstagramAccount(
        account_id, page_id, str(linked.get("name") or ""), str(linked.get("username") or ""), subscribed
    )


async def _subscribe(api: GraphApi, token: str, node: str, fields: str) -> bool:
    """Have events delivered to the app; False where the token may not ask for it: then the owner has to."""
    try:
        await api.call("POST", f"{node}/subscribed_apps", token, body={}, parameters={"subscribed_fields": fields})
    except (Refused, NotAllowed):
        return False
    return True


async def unsubscribe(api: GraphApi, credentials: Mapping[str, str]) -> None:
    """Have nothing delivered any more. Raises ``Temporary`` or a ``Permanent``."""
    await api.call("DELETE", f"{_node(credentials)}/subscribed_apps", credentials["access_token"])


def _node(credentials: Mapping[str, str]) -> str:
    return credentials.get("page_id") or credentials["account_id"]


class InstagramChannel:
    """Updates are pieces of deliveries as :func:`unpack` gives them: one of ``messaging``, ``standby``, ``comment``.

    ``own``: graph.instagram.com, for tokens of Instagram's own login; ``pages``: graph.facebook.com, for tokens of Pages.
    """

    kind = "instagram"
    text_limit = TEXT_LIMIT
    text_unit: TextUnit = "utf8"
    typing_s = 20.0

    def __init__(self, own: GraphApi, pages: GraphApi) -> None:
        self._own, self._pages = own, pages

    def _api(self, credentials: Mapping[str, str]) -> GraphApi:
        return self._pages if credentials.get("page_id") else self._own

    def identify(self, update: Mapping[str, Any]) -> tuple[str, str]:
        """See :class:`services.channels.base.Channel`."""
        if comment := mapping(update.get("comment")):
            return first_id(mapping(comment.get("from")).get("id")), f"comment:{_mid(comment, update, 'id')}"
        event = _event(update)
        chat = first_id(_party(event, "recipient" if _by_us(update) else "sender"))
        for name in _SPEAKS:
            if not (content := mapping(event.get(name))):
                continue
            mid = _mid(content, update)
            if name == "message":
                return chat, f"{mid}:deleted" if content.get("is_deleted") else mid
            if name == "postback":
                return chat, mid
            if name == "message_edit":
                return chat, f"{mid}:edit:{first_id(content.get('num_edit'))[:8]}"
            if name == "read":
                return chat, f"{mid}:read"
            break
        return chat, fingerprint(update)

    def parse(self, update: Mapping[str, Any]) -> Inbound:
        """See :class:`services.channels.base.Channel`."""
        chat, _ = self.identify(update)
        if comment := mapping(update.get("comment")):
            return _comment(chat, comment, update)
        event = _event(update)
        common: dict[str, Any] = {"at": _moment(event.get("timestamp"))}
        sender = Sender(chat)
        message, postback = mapping(event.get("message")), mapping(event.get("postback"))
        if message:
            parsed = _message(chat, sender, message, by_us=_by_us(update), common=common)
        elif _by_us(update):
            parsed = Inbound("system", chat, sender, type="own", reply=False, **common)
        elif postback:
            common["message_id"] = str(postback.get("mid") or "")
            payload, title = str(postback.get("payload") or ""), str(postback.get("title") or "")
            common["extra"] = _source(mapping(postback.get("referral")))
            parsed = _pressed(chat, sender, "postback", payload, title, common)
        else:
            parsed = _notice(chat, sender, event, common)
        if update.get("standby") and parsed.reply:
            # Another app of the business has the talk: it is kept in mind, and answered there.
            parsed = replace(parsed, reply=False)
        return parsed

    async def send(self, credentials: Mapping[str, str], recipient: str, message: Outgoing) -> str:
        """See :class:`services.channels.base.Channel`. A private reply that was written already counts as sent."""
        content: dict[str, Any] = {"text": message.text}
        if message.file is not None:
            type_ = message.file.mime.partition("/")[0]
            type_ = type_ if type_ in ("image", "audio", "video") else "file"
            content = {"attachment": {"type": type_, "payload": {"url": message.file.url}}}
        choices = [button for row in message.buttons for button in row][:_QUICK_REPLIES]
        if choices:
            content["quick_replies"] = [
                {"content_type": "text", "title": each.text[:_QUICK_TITLE], "payload": each.data} for each in choices
            ]
        to = {"comment_id": message.comment} if message.comment else {"id": recipient}
        body: dict[str, Any] = {"recipient": to, "message": content}
        if message.late:
            body |= {"messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT"}
        try:
            answer = await self._post(credentials, body)
        except RepliedAlready:
            return ""
        except NotAllowed as error:
            if message.late:
                # The app was not given this one permission; everything else goes on.
                raise WindowClosed(str(error)) from None
            raise
        return str(answer.get("message_id") or "")

    async def fetch(self, credentials: Mapping[str, str], file: Mapping[str, str], limit: int) -> bytes:
        """See :class:`services.channels.base.Channel`. The address came with the message and needs no token."""
        return await self._api(credentials).download(file["url"], limit)

    async def typing(self, credentials: Mapping[str, str], recipient: str, message_id: str = "") -> None:
        """Mark the talk as seen, and show the sign for about 20 seconds."""
        with contextlib.suppress(Temporary, Permanent):
            for action in ("mark_seen", "typing_on"):
                await self._post(credentials, {"recipient": {"id": recipient}, "sender_action": action})

    async def _post(self, credentials: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
        path = f"{_node(credentials)}/messages"
        return await self._api(credentials).call("POST", path, credentials["access_token"], body=body)

    async def settle(self, credentials: Mapping[str, str], event: Inbound) -> None:
        """Nothing is waited for."""

    async def profile(self, credentials: Mapping[str, str], person: str) -> Sender:
        """See :class:`services.channels.base.Introduces`."""
        shown = await self._api(credentials).call(
            "GET", person, credentials["access_token"], parameters={"fields": "name,username"}
        )
        return Sender(person, str(shown.get("name") or ""), str(shown.get("username") or ""))

    def usage(self, credentials: Mapping[str, str]) -> Usage | None:
        """See :class:`services.channels.base.Metered`."""
        return self._api(credentials).usage(credentials["access_token"])

    async def inspect(self, credentials: Mapping[str, str], place: Place) -> Inspection:
        """See :class:`services.channels.base.Inspectable`: the account, its token, and whether its messages come here."""
        token = credentials["access_token"]
        about: Mapping[str, Any] = {}
        webhook = ""
        if page := credentials.get("page_id"):
            await self._behind(page, token, place.account)
            # A token may be good for sending and not for looking after the Page: then nothing is known of these.
            with contextlib.suppress(Refused, TokenRefused):
                about = mapping(
                    (await self._pages.call("GET", "debug_token", token, parameters={"input_token": token})).get("data")
                )
        else:
            shown = await self._own.call("GET", "me", token, parameters={"fields": "user_id,username,name"})
            if place.account not in (str(shown.get("user_id") or ""), str(shown.get("id") or "")):
                raise TokenRefused("the token does not lead to this account any more")
        with contextlib.suppress(Refused, TokenRefused):
            webhook = await self._webhook(credentials, str(about.get("app_id") or ""), mend=place.mend)
        used = self.usage(credentials)
        return Inspection(
            webhook=webhook,
            token_expires_at=token_end(about) if about else None,
            used=used.percent if used else None,
        )

    async def _behind(self, page: str, token: str, account: str) -> None:
        """Raise :class:`TokenRefused` where the Page does not lead to the account any more."""
        fields = {"fields": "instagram_business_account{id}"}
        with contextlib.suppress(Refused):
            linked = mapping(
                (await self._pages.call("GET", page, token, parameters=fields)).get("instagram_business_account")
            )
            if str(linked.get("id") or "") == account:
                return
        raise TokenRefused("the token does not lead to this account any more")

    async def _webhook(self, credentials: Mapping[str, str], app_id: str, *, mend: bool) -> str:
        """Return whether messages are delivered to the token's app; a Page shows other apps as well."""
        api, node, token = self._api(credentials), _node(credentials), credentials["access_token"]
        for app in listing((await api.call("GET", f"{node}/subscribed_apps", token)).get("data")):
            fields = app.get("subscribed_fields")
            if (not app_id or str(app.get("id")) == app_id) and isinstance(fields, list) and "messages" in fields:
                return "ok"
        wanted = _PAGE_FIELDS if credentials.get("page_id") else _FIELDS
        return "ok" if mend and await _subscribe(api, token, node, wanted) else "missing"

    async def renew(self, credentials: Mapping[str, str]) -> tuple[Mapping[str, str], int] | None:
        """See :class:`services.channels.base.Renewable`: tokens of Instagram's own login last 60 days, those of Pages stay."""
        if credentials.get("page_id"):
            return None
        wanted = {"grant_type": "ig_refresh_token"}
        token = credentials["access_token"]
        answer = await self._own.call("GET", "refresh_access_token", token, parameters=wanted, bare=True)
        fresh, lasts = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(fresh, str) or not fresh or not isinstance(lasts, int) or lasts <= 0:
            raise Temporary("the answer holds no token")
        return {**credentials, "access_token": fresh}, lasts


def _mid(content: Mapping[str, Any], update: Mapping[str, Any], name: str = "mid") -> str:
    found = first_id(content.get(name))
    return found if found != "-" else fingerprint(update)


def _comment(chat: str, comment: Mapping[str, Any], update: Mapping[str, Any]) -> Inbound:
    author, media = mapping(comment.get("from")), mapping(comment.get("media"))
    username = str(author.get("username") or "")
    at = _moment(update.get("time"))
    # Those who answer a comment talk to its writer: only what stands directly under a post is said to the business.
    whose = "system" if chat in ("-", update.get("entry")) or comment.get("parent_id") else "comment"
    return Inbound(
        whose,
        chat,
        Sender(chat, username=username),
        message_id=first_id(comment.get("id")),
        type="comment",
        text=str(comment.get("text") or ""),
        at=at,
        reply=whose == "comment",
        extra={"post": str(media.get("id") or "")},
    )


def _message(
    chat: str, sender: Sender, message: Mapping[str, Any], *, by_us: bool, common: Mapping[str, Any]
) -> Inbound:
    mid, text = str(message.get("mid") or ""), str(message.get("text") or "")
    attachments = listing(message.get("attachments"))
    kinds = [str(each.get("type") or "file")[:16] for each in attachments]
    common = {**common, "message_id": mid}
    if message.get("is_self"):
        return Inbound("system", chat, sender, type="self", reply=False, **common)
    if message.get("is_deleted"):
        return Inbound("delete", chat, sender, type="delete", reply=False, extra={"of": mid}, **common)
    if by_us:
        extra = {"app": str(message.get("app_id") or "")}
        type_ = kinds[0] if kinds else "text"
        return Inbound("echo", chat, sender, type=type_, text=text, reply=False, extra=extra, **common)
    answered = mapping(message.get("reply_to"))
    story = mapping(answered.get("story"))
    extra = {"reply_to": str(answered.get("mid") or "")}
    extra |= {"story": str(story.get("id") or ""), "story_url": str(story.get("url") or "")} if story else {}
    common = {**common, "extra": extra | _source(mapping(message.get("referral")))}
    if message.get("is_unsupported") or not (text.strip() or attachments):
        return Inbound("message", chat, sender, type="unsupported", **common)
    if quick := mapping(message.get("quick_reply")):
        return _pressed(chat, sender, "quick_reply", str(quick.get("payload") or ""), text, common)
    found = COMMAND.fullmatch(text.strip().lower())
    if found is not None and found[1] in COMMANDS and not attachments:
        args = (found[2] or "").strip()[:64]
        return Inbound("command", chat, sender, text=text, command=found[1], args=args, **common)
    # A heart asks nothing.
    reply = bool(text.strip()) or set(kinds) != {"like_heart"}
    files = tuple(
        RemoteFile(_FILES[kind], {"url": url})
        for kind, each in zip(kinds, attachments, strict=True)
        if kind in _FILES and (url := mapping(each.get("payload")).get("url")) and isinstance(url, str)
    )
    type_ = kinds[0] if kinds else "text"
    return Inbound("message", chat, sender, type=type_, text=text, reply=reply, files=files, **common)


def _notice(chat: str, sender: Sender, event: Mapping[str, Any], common: Mapping[str, Any]) -> Inbound:
    """What a customer did without saying anything."""
    if edit := mapping(event.get("message_edit")):
        mid, text = str(edit.get("mid") or ""), str(edit.get("text") or "")
        return Inbound(
            "edit", chat, sender, message_id=mid, text=text, type="edit", reply=False, extra={"of": mid}, **common
        )
    if reaction := mapping(event.get("reaction")):
        mid = str(reaction.get("mid") or "")
        emoji, removed = str(reaction.get("emoji") or ""), reaction.get("action") == "unreact"
        extra = {"of": mid, "emoji": emoji, "removed": removed}
        return Inbound("reaction", chat, sender, message_id=mid, type="reaction", reply=False, extra=extra, **common)
    if read := mapping(event.get("read")):
        mid = str(read.get("mid") or "")
        told = {"delivery": Delivery("", mid, "read", earlier=True)}
        return Inbound("status", chat, sender, message_id=mid, type="status", reply=False, extra=told, **common)
    if referral := mapping(event.get("referral")):
        return Inbound("system", chat, sender, type="referral", reply=False, extra=_source(referral), **common)
    return Inbound("system", chat, sender, type="other", reply=False, **common)


def _source(referral: Mapping[str, Any]) -> dict[str, str]:
    """Where a customer came from: an ig.me link's word, or the advertisement."""
    source = str(referral.get("ref") or referral.get("ad_id") or referral.get("source") or "")
    return {"source": source[:128]} if source else {}


def _pressed(chat: str, sender: Sender, type_: str, payload: str, title: str, common: Mapping[str, Any]) -> Inbound:
    """A button's own data where it is one of ours, else what it says."""
    if payload.startswith("lang:"):
        return Inbound("callback", chat, sender, type=type_, text=title, data=payload, **common)
    extra = {**common.get("extra", {}), "payload": payload}
    # A button without a title, as older menus have: what it stands for is all that is known.
    return Inbound("message", chat, sender, type=type_, text=title or payload, **{**common, "extra": extra})
