"""Instagram's side of Meta's Graph API on loopback: either of its hosts, in the wire format and with Meta's refusals.

``FakeInstagram()`` is graph.instagram.com, whose accounts have tokens of their own; ``FakeInstagram(pages=True)`` is what
graph.facebook.com does for accounts behind Pages. What customers do is composed with :meth:`FakeAccount.message` and
:meth:`FakeAccount.event` and posted to the product's webhook with :meth:`~tests.fakes.graph.FakeGraph.deliver`.

Faults are those of :class:`tests.fakes.graph.FakeGraph`: on ``send``, ``read`` (what shows while a talk goes on), ``number``
(an account, a Page, a person) and ``subscribe``. Facts: ``shared/protocols/instagram.md``.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from aiohttp import web

from tests.fakes.graph import (
    Call,
    FakeGraph,
    GraphError,
    Json,
    _bearer,
    _Changes,
    _dumps,
    _no_object,
    _read,
)

__all__ = ["FakeAccount", "FakeInstagram", "new_mid"]

_FIELDS = frozenset(
    "messages messaging_postbacks message_reactions messaging_seen messaging_referral message_edit comments".split()
)
_PAGE_FIELDS = frozenset(
    "messages messaging_postbacks message_reactions messaging_referrals message_reads standby feed".split()
)
_mids = count(1)
APP = "400000000000401"


def new_mid() -> str:
    """Return a new id of a message."""
    return f"m_MADE{next(_mids):06}"


@dataclass(slots=True, eq=False)
class FakeAccount:
    """A professional account, its token and its people. Attributes may be changed; an old token is then refused.

    ``sent``: accepted messages as they came, plus ``message_id``; ``actions``: ``(person, sender_action)``. ``people``: names
    and usernames by id. ``closed``: those outside of the 24 hours; ``human_agent``: whether the tag for people is allowed.
    ``token_age_s``: how old the token is; a renewed one is new. ``old_tokens`` work until they end.
    """

    id: str
    token: str = field(repr=False)
    app_secret: str = field(repr=False)
    username: str
    name: str
    page_id: str
    _changes: _Changes = field(repr=False)
    scoped_id: str = "26000000000000001"
    may_subscribe: bool = True
    human_agent: bool = True
    token_age_s: int = 2 * 86_400
    token_life_s: int = 60 * 86_400
    old_tokens: set[str] = field(default_factory=set, repr=False)
    subscribed: frozenset[str] = frozenset()
    people: dict[str, tuple[str, str]] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    replied: set[str] = field(default_factory=set)
    sent: list[Json] = field(default_factory=list, repr=False)
    actions: list[tuple[str, str]] = field(default_factory=list, repr=False)

    def event(self, who: str, *, by_us: bool = False, timestamp: float | None = None, **content: Any) -> Json:
        """Return an event of a customer's, or with ``by_us`` one of the account's own; ``timestamp``: seconds."""
        moment = int((time.time() if timestamp is None else timestamp) * 1000)
        sides = (self.id, who) if by_us else (who, self.id)
        return {"sender": {"id": sides[0]}, "recipient": {"id": sides[1]}, "timestamp": moment, **content}

    def message(
        self, who: str, text: str | None, *, mid: str | None = None, timestamp: float | None = None, **more: Any
    ) -> Json:
        """Return the event of a customer's message; ``more``: such as ``attachments``, ``quick_reply``, ``reply_to``."""
        said = {"mid": mid or new_mid(), **({} if text is None else {"text": text}), **more}
        return self.event(who, timestamp=timestamp, message=said)

    def echo(self, who: str, text: str, *, mid: str | None = None) -> Json:
        """Return the event that comes of whatever the account sends."""
        return self.event(who, by_us=True, message={"mid": mid or new_mid(), "text": text, "is_echo": True})

    def comment(self, who: str, text: str, *, comment_id: str, username: str = "mijoz", **more: Any) -> Json:
        """Return the change that tells of a comment under a post."""
        author = {"id": who, "username": username}
        value = {"id": comment_id, "from": author, "text": text, "media": {"id": "17900000000000002"}, **more}
        return {"field": "comments", "value": value}

    def body(self, *parts: Mapping[str, Any], key: str = "messaging", entry: str | None = None) -> bytes:
        """Return a webhook's body with events and changes in an entry of the account's (``entry``: another one's)."""
        events = [part for part in parts if "field" not in part]
        changes = [part for part in parts if "field" in part]
        whole: Json = {"id": entry or self.id, "time": int(time.time() * 1000)}
        whole |= {key: events} if events else {}
        whole |= {"changes": changes} if changes else {}
        return _dumps({"object": "instagram", "entry": [whole]})

    async def wait_sent(self, n: int, timeout: float = 10.0) -> list[Json]:
        """Wait until ``n`` messages have been accepted in all; return these. ``AssertionError`` shows what came instead."""
        try:
            return await self._changes.wait_until(lambda: self.sent[:n] if len(self.sent) >= n else None, timeout)
        except TimeoutError:
            raise AssertionError(f"{len(self.sent)} of {n} messages in {timeout} s: {self.sent[-3:]}") from None

    def texts(self) -> list[str]:
        """Return what was sent."""
        return [sent["message"]["text"] for sent in self.sent]


class FakeInstagram(FakeGraph):
    """One of the two hosts; see :class:`tests.fakes.graph.FakeGraph` for its life and its faults."""

    def __init__(self, *, pages: bool = False) -> None:
        super().__init__()
        self.pages = pages
        self.accounts: dict[str, FakeAccount] = {}

    def add_account(
        self,
        account_id: str,
        *,
        token: str,
        app_secret: str,
        username: str = "texnosavdo",
        name: str = "Texno Savdo",
        page_id: str = "",
    ) -> FakeAccount:
        """Make an account, behind a Page where this host is of Pages."""
        account = FakeAccount(account_id, token, app_secret, username, name, page_id, self._changes)
        self.accounts[account_id] = account
        return account

    def _call(self, request: web.Request) -> Call:
        call = super()._call(request)
        if request.method == "GET" and call.path == "/refresh_access_token":
            call.kind = "refresh"
        return call

    def _refresh(self, request: web.Request) -> Callable[[], Json]:
        """Renew the token of the parameter, as Meta's own examples carry it."""
        token = request.query.get("access_token", "")
        account = next((each for each in self.accounts.values() if token in (each.token, *each.old_tokens)), None)
        if account is None:
            raise GraphError(190, http=401, subcode=463)
        if request.query.get("grant_type") != "ig_refresh_token":
            raise GraphError(100, "(#100) The parameter grant_type is required.")
        if account.token_age_s < 86_400:
            raise GraphError(100, "(#100) The access token must be at least 24 hours old")

        def effect() -> Json:
            account.old_tokens.add(account.token)
            account.token, account.token_age_s = f"IGAACANARY_renewed_{next(_mids):020}", 0
            return {"access_token": account.token, "token_type": "bearer", "expires_in": account.token_life_s}

        return effect

    async def _answer(self, request: web.Request, call: Call) -> web.Response:
        await _read(request, call)
        if "sender_action" in call.body:
            call.kind = "read"
        return await super()._answer(request, call)

    def _plan(self, request: web.Request, call: Call) -> Callable[[], Json | web.Response]:
        if call.kind == "refresh" and not self.pages:
            return self._refresh(request)
        if not re.fullmatch(r"v\d+\.\d+", call.version):
            raise GraphError(2500, f"Unknown path components: {call.path}")
        node = call.path.strip("/").split("/")[1]
        account = self._holder(request)
        if call.kind == "debug" and self.pages:
            about = {"app_id": APP, "is_valid": True, "expires_at": 0, "data_access_expires_at": 0, "type": "PAGE"}
            return lambda: {"data": about}
        own = (account.page_id,) if self.pages else (account.id, account.scoped_id)
        if call.kind == "number" and node not in (*own, "me"):
            return lambda: self._person(account, node)
        if node not in (*own, "me"):
            raise _no_object(call.method, node)
        match call.kind:
            case "number":
                return lambda: self._node(account, request.query.get("fields", "id"))
            case "subscribe" if call.method == "GET":
                return lambda: _subscriptions(account)
            case "subscribe":
                return self._subscription(account, request, call)
            case "read":
                return lambda: self._action(account, call.body)
            case "send":
                _check(account, call.body)
                return lambda: _accept(account, call.body)
        raise _no_object(call.method, node)

    def _holder(self, request: web.Request) -> FakeAccount:
        token = _bearer(request)
        account = next((each for each in self.accounts.values() if token in (each.token, *each.old_tokens)), None)
        if account is None:
            raise GraphError(190, http=401, subcode=467)
        proof = request.query.get("appsecret_proof")
        if proof is not None and proof != hmac.new(account.app_secret.encode(), token.encode(), "sha256").hexdigest():
            raise GraphError(100, "Invalid appsecret_proof provided in the API argument", kind="GraphMethodException")
        return account

    def _node(self, account: FakeAccount, fields: str) -> Json:
        if self.pages:
            linked = {"id": account.id, "username": account.username, "name": account.name}
            return {"id": account.page_id, "instagram_business_account": linked}
        known = {"user_id": account.id, "username": account.username, "name": account.name}
        return {name: known[name] for name in fields.split(",") if name in known} | {"id": account.scoped_id}

    @staticmethod
    def _person(account: FakeAccount, who: str) -> Json:
        if not who.startswith("9"):
            raise _no_object("GET", who)
        if who not in account.people:
            raise GraphError(230, "(#230) User consent is required to access user profile", http=403)
        name, username = account.people[who]
        return {"id": who, "name": name, "username": username}

    def _subscription(self, account: FakeAccount, request: web.Request, call: Call) -> Callable[[], Json]:
        if not account.may_subscribe:
            raise GraphError(200, "(#200) Requires instagram_business_manage_messages permission", http=403)
        wanted = frozenset(filter(None, request.query.get("subscribed_fields", "").split(",")))
        if call.method == "POST" and not wanted:
            raise GraphError(100, "(#100) The parameter subscribed_fields is required.")
        if unknown := wanted - (_PAGE_FIELDS if self.pages else _FIELDS):
            raise GraphError(100, f"(#100) Param subscribed_fields must not have {sorted(unknown)}")

        def effect() -> Json:
            account.subscribed = wanted if call.method == "POST" else frozenset()
            return {"success": True}

        return effect

    @staticmethod
    def _action(account: FakeAccount, body: Json) -> Json:
        if (
            body["sender_action"] not in ("typing_on", "typing_off", "mark_seen", "react", "unreact")
            or "message" in body
        ):
            raise GraphError(100, "(#100) Invalid sender_action")
        account.actions.append((body["recipient"]["id"], body["sender_action"]))
        return {"recipient_id": body["recipient"]["id"]}


def _subscriptions(account: FakeAccount) -> Json:
    """Return who is delivered to: a Page shows another app as well."""
    app = {"id": APP, "name": "BotFactory", "subscribed_fields": sorted(account.subscribed)}
    others = [{"id": "400000000000499", "subscribed_fields": ["messages"]}] if account.page_id else []
    return {"data": [*others, *([app] if account.subscribed else [])]}


def _check(account: FakeAccount, body: Json) -> None:
    """Raise what Meta answers to a message that it does not take."""
    recipient, message = body.get("recipient"), body.get("message")
    if not isinstance(recipient, dict) or len(recipient) != 1 or not isinstance(message, dict):
        raise GraphError(100, "(#100) The parameter recipient is required.")
    if attachment := message.get("attachment"):
        url = str((attachment.get("payload") or {}).get("url") or "")
        if attachment.get("type") not in ("image", "video", "audio", "file") or not url.startswith("https://"):
            raise GraphError(100, "(#100) Param message[attachment] is not valid", subcode=2018034)
        if "text" in message:
            raise GraphError(100, "(#100) Only one of the text, attachment, and dynamic_text fields can be specified.")
    text = message.get("text", "-" if attachment else None)
    if not isinstance(text, str) or not 0 < len(text.encode()) <= 1000:
        raise GraphError(
            100, "(#100) Length of param message[text] must be less than or equal to 1000", subcode=2534037
        )
    replies = message.get("quick_replies", [])
    if len(replies) > 13 or any(
        each["content_type"] != "text" or not 0 < len(each["title"]) <= 20 or not each["payload"] for each in replies
    ):
        raise GraphError(100, "(#100) Param message[quick_replies] is not valid")
    if comment := recipient.get("comment_id"):
        if comment in account.replied:
            raise GraphError(100, "(#100) Activity already replied to", subcode=2534025)
        return
    tag = body.get("tag")
    if tag is not None and (tag != "HUMAN_AGENT" or body.get("messaging_type") != "MESSAGE_TAG"):
        raise GraphError(100, "(#100) Param tag must be HUMAN_AGENT with messaging_type MESSAGE_TAG")
    if tag is not None and not account.human_agent:
        raise GraphError(10, "(#10) Application does not have permission for the Human Agent feature", http=403)
    if tag is None and recipient.get("id") in account.closed:
        raise GraphError(10, "(#10) This message is sent outside of allowed window.", subcode=2534022)


def _accept(account: FakeAccount, body: Json) -> Json:
    recipient = body["recipient"]
    if comment := recipient.get("comment_id"):
        account.replied.add(comment)
    mid = new_mid()
    account.sent.append(body | {"message_id": mid})
    return {"recipient_id": recipient.get("id", "900000000000001"), "message_id": mid}
