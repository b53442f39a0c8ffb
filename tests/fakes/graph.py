"""Meta's Graph API for WhatsApp Cloud on loopback: it speaks the wire format and refuses what Meta refuses.

Numbers are made with :meth:`FakeGraph.add_number`; what the product sends through them is recorded. What customers do is
composed with :meth:`FakeNumber.message` and :meth:`FakeNumber.status` and posted to the product's webhook, signed.

::

    async with FakeGraph() as graph:
        number = graph.add_number("100000000000101", token="EAA…", app_secret="…", waba_id="200000000000201",
                                  display_phone_number="+998 00 000 01 01")
        raw = graph.body(number.message("998000000001", "Salom"))
        assert await graph.deliver(session, webhook, raw, number.app_secret) == 200
        (answer,) = await number.wait_sent(1)

Faults: :meth:`FakeGraph.fail`, :meth:`~FakeGraph.cut`, :meth:`~FakeGraph.hang`, :meth:`~FakeGraph.answer_raw`; the oldest
that fits a request spoils it. Facts: ``shared/protocols/whatsapp.md``, and answers of the real API that others published.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import ClientSession, web

__all__ = ["Call", "FakeGraph", "FakeMedia", "FakeNumber", "Fault", "GraphError", "Value", "new_wamid"]

Json = dict[str, Any]
R = TypeVar("R")

MANAGEMENT, MESSAGING = "whatsapp_business_management", "whatsapp_business_messaging"
SCOPES = (MANAGEMENT, MESSAGING)
APP_ID = "400000000000401"
KINDS = ("send", "read", "number", "debug", "subscribe", "media", "download", "upload", "templates", "refresh")
"""What a request is about; a fault is for one of them, or for ``any``."""

_VERSION = re.compile(r"v\d+\.\d+")
_PHONE = re.compile(r"\+?\d{5,15}")
_USER_ID = re.compile(r"[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}")
_TYPES = frozenset("audio contacts document image interactive location reaction sticker template text video".split())
_MEDIA = frozenset("audio document image sticker video".split())
_INTERACTIVE = frozenset(
    "address_message button call_permission_request carousel catalog_message cta_url flow list "
    "location_request_message product product_list".split()
)
_MB = 2**20
_UPLOADS = {
    **dict.fromkeys(("image/jpeg", "image/png"), 5 * _MB),
    "image/webp": 500 * 1024,
    **dict.fromkeys(("audio/aac", "audio/amr", "audio/mp4", "audio/mpeg", "audio/ogg"), 16 * _MB),
    **dict.fromkeys(("video/mp4", "video/3gpp"), 16 * _MB),
    **dict.fromkeys(("text/plain", "application/pdf", "application/msword"), 100 * _MB),
    **dict.fromkeys(("application/vnd.ms-excel", "application/vnd.ms-powerpoint"), 100 * _MB),
    **{
        f"application/vnd.openxmlformats-officedocument.{kind}": 100 * _MB
        for kind in ("wordprocessingml.document", "spreadsheetml.sheet", "presentationml.presentation")
    },
}
_USUAL_FIELDS = "verified_name,code_verification_status,display_phone_number,quality_rating,platform_type,throughput,id"

_TITLES = {
    1: "An unknown error occurred",
    2: "Service temporarily unavailable",
    4: "Application request limit reached",
    10: "Application does not have permission for this action",
    100: "Invalid parameter",
    200: "Permissions error",
    368: "Temporarily blocked for policies violations",
    80007: "Rate limit issues",
    130429: "Rate limit hit",
    130472: "User's number is part of an experiment",
    130497: "Business account is restricted from messaging users in this country",
    131000: "Something went wrong",
    131005: "Access denied",
    131008: "Required parameter is missing",
    131009: "Parameter value is not valid",
    131016: "Service unavailable",
    131021: "Recipient cannot be sender",
    131026: "Message undeliverable",
    131030: "Recipient phone number not in allowed list",
    131031: "Business Account locked",
    131037: "WhatsApp provided number needs display name approval before message can be sent",
    131042: "Business eligibility payment issue",
    131045: "Incorrect certificate",
    131047: "Re-engagement message",
    131048: "Spam rate limit hit",
    131049: "This message was not delivered to maintain healthy ecosystem engagement",
    131050: "User has stopped marketing messages from this business",
    131051: "Unsupported message type",
    131052: "Media download error",
    131053: "Media upload error",
    131056: "(Business Account, Consumer Account) pair rate limit hit",
    131057: "Account in maintenance mode",
    131062: "Business-scoped user ID is not supported for this message",
    132000: "Number of parameters does not match the expected number of params",
    132001: "Template name does not exist in the translation",
    132005: "Template hydrated text too long",
    132007: "Template format character policy violated",
    132012: "Template parameter format mismatch",
    132015: "Template is paused",
    132016: "Template is disabled",
    133010: "Account not registered",
    133016: "Account register deregister rate limit exceeded",
    135000: "Generic user error",
}
_HREF = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"
_TOKEN_TROUBLE = {
    463: "Error validating access token: Session has expired",
    467: "Error validating access token: The session is invalid",
}


class GraphError(Exception):
    """An answer that refuses a request, in Meta's words."""

    def __init__(
        self,
        code: int,
        message: str = "",
        *,
        http: int = 400,
        subcode: int | None = None,
        details: str = "",
        kind: str = "OAuthException",
    ) -> None:
        if not message:
            message = _TOKEN_TROUBLE.get(subcode or 463, "") if code == 190 else ""
            message = message or f"(#{code}) {_TITLES.get(code, 'Something went wrong')}"
        super().__init__(message)
        self.http = http
        error: Json = {"message": message, "type": kind, "code": code}
        if subcode is not None:
            error["error_subcode"] = subcode
        if details or code >= 130_000:
            error["error_data"] = {"messaging_product": "whatsapp", "details": details or _TITLES.get(code, message)}
        self.error = error

    def wire(self) -> Json:
        """Return the body of the answer, traceable by an id of its own."""
        return {"error": self.error | {"fbtrace_id": f"A{secrets.token_hex(11)}"}}


class _Cut(Exception):
    """The connection is to be closed without an answer."""


class Value(Json):
    """What a change of a webhook carries; knows to which account it belongs."""

    waba_id: str = ""


class _Changes:
    """Wakes up those who wait for something to happen."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def touch(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait_until(self, check: Callable[[], R | None], timeout: float) -> R:
        async with asyncio.timeout(timeout):
            while True:
                changed = self._changed
                if result := check():
                    return result
                await changed.wait()


@dataclass(slots=True, eq=False)
class Call:
    """One request. ``status`` is 0 while it is under way and when it was cut off; ``to`` also holds a ``recipient``."""

    kind: str
    method: str
    path: str
    version: str
    phone_number_id: str
    to: str = ""
    status: int = 0
    at: float = field(default_factory=time.monotonic)
    body: Json = field(default_factory=dict, repr=False)


@dataclass(slots=True, eq=False)
class Fault:
    """A rule that spoils matching requests: await ``reached``, :meth:`release` those that hang, count by ``hits``."""

    on: str
    times: int | None
    to: str | None = None
    phone_number_id: str | None = None
    error: Callable[[], GraphError] | None = None
    raw: tuple[int, bytes, str] | None = None
    cut: bool = False
    seconds: float = 0.0
    after_effect: bool = False
    hits: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _gate: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def fits(self, call: Call) -> bool:
        """Tell whether the rule applies to this request."""
        return (
            (self.times is None or self.hits < self.times)
            and self.on in ("any", call.kind)
            and self.to in (None, call.to)
            and self.phone_number_id in (None, call.phone_number_id)
        )

    def release(self) -> None:
        """Let the requests that hang go on, and those to come."""
        self._gate.set()

    def count(self) -> None:
        """Note that the rule spoils a request."""
        self.hits += 1
        self.reached.set()

    async def spoil(self) -> None:
        """Do what is not an error answer."""
        if self.seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gate.wait(), self.seconds)
        if self.cut:
            raise _Cut


@dataclass(slots=True, eq=False)
class FakeMedia:
    """A file with an id. ``sha256`` (hexadecimal) and ``file_size`` are what the API claims, be it true or not."""

    id: str
    mime_type: str
    content: bytes = field(repr=False)
    sha256: str
    file_size: int
    filename: str = ""
    phone_number_id: str | None = None
    _key: str = field(default_factory=lambda: secrets.token_hex(10), repr=False)

    def part(self, **more: Any) -> Json:
        """Return what stands in a message that brings this file, such as ``image`` or ``audio``."""
        digest = base64.b64encode(hashlib.sha256(self.content).digest()).decode()
        return {"mime_type": self.mime_type, "sha256": digest, "id": self.id} | more


@dataclass(slots=True, eq=False)
class FakeNumber:
    """A number of a business, its token and app. Attributes may be changed; an old token is then refused (subcode 467).

    ``sent``: accepted messages as they came, plus ``id``. ``reads`` and ``typing``: ids of the customers' messages.
    ``usage_percent``: told with every answer in ``X-Business-Use-Case-Usage``.
    """

    phone_number_id: str
    waba_id: str
    display_phone_number: str
    verified_name: str
    app_id: str
    token: str = field(repr=False)
    app_secret: str = field(repr=False)
    token_expires_at: int
    scopes: tuple[str, ...]
    _changes: _Changes = field(repr=False)
    quality_rating: str = "GREEN"
    state: str = "CONNECTED"
    data_access_expires_at: int = 0
    templates: list[Json] = field(default_factory=list, repr=False)
    usage_percent: int | None = None
    subscribed: bool = False
    override_callback_uri: str | None = field(default=None, repr=False)
    verify_token: str | None = field(default=None, repr=False)
    sent: list[Json] = field(default_factory=list, repr=False)
    reads: list[str] = field(default_factory=list, repr=False)
    typing: list[str] = field(default_factory=list, repr=False)
    uploads: list[FakeMedia] = field(default_factory=list, repr=False)

    @property
    def digits(self) -> str:
        """The number as webhooks write it."""
        return re.sub(r"\D", "", self.display_phone_number)

    @property
    def expired(self) -> bool:
        """Tell whether the token's time is over; 0 is never."""
        return 0 < self.token_expires_at <= time.time()

    def fields(self) -> Json:
        """Return everything that can be asked about the number."""
        return {
            "id": self.phone_number_id,
            "display_phone_number": self.display_phone_number,
            "verified_name": self.verified_name,
            "quality_rating": self.quality_rating,
            "code_verification_status": "VERIFIED",
            "name_status": "APPROVED",
            "status": self.state,
            "account_mode": "LIVE",
            "platform_type": "CLOUD_API",
            "messaging_limit_tier": "TIER_250",
            "is_official_business_account": False,
            "throughput": {"level": "STANDARD"},
        }

    # What customers do

    def value(self, **more: Any) -> Value:
        """Return the value of a change about this number."""
        metadata = {"display_phone_number": self.digits, "phone_number_id": self.phone_number_id}
        value = Value({"messaging_product": "whatsapp", "metadata": metadata} | more)
        value.waba_id = self.waba_id
        return value

    def message(
        self,
        wa_id: str | None,
        text: str | None,
        *,
        wamid: str | None = None,
        name: str | None = "Mijoz",
        timestamp: float | str | None = None,
        user_id: str | None = None,
        username: str | None = None,
        **more: Any,
    ) -> Value:
        """Return the value with one message of a customer, who may hide the number (``wa_id=None``) behind ``user_id``.

        ``more``: fields of the message, such as ``context``, or ``type="image", image=media.part()`` instead of a text.
        ``name=None`` leaves the contact out, as for system messages.
        """
        kind = more.pop("type", "text")
        message: Json = {"from": wa_id, "from_user_id": user_id}
        message |= {"id": wamid or new_wamid(wa_id or user_id or ""), "timestamp": _seconds(timestamp), "type": kind}
        if kind == "text":
            message["text"] = {"body": text}
        contact: Json = {"profile": _given({"name": name, "username": username}), "wa_id": wa_id, "user_id": user_id}
        contacts = {} if name is None or kind == "system" else {"contacts": [_given(contact)]}
        return self.value(**contacts, messages=[_given(message) | more])

    def status(
        self,
        message_id: str,
        status: str,
        *,
        recipient: str,
        errors: Sequence[int | Json] | None = None,
        opaque: str | None = None,
        timestamp: float | str | None = None,
        **more: Any,
    ) -> Value:
        """Return the value with one status of a sent message; ``errors`` may be just codes, ``recipient`` either id."""
        whose = "recipient_user_id" if _USER_ID.fullmatch(recipient) else "recipient_id"
        state: Json = {"id": message_id, "status": status, "timestamp": _seconds(timestamp), whose: recipient}
        if status == "sent":
            state["conversation"] = {"id": secrets.token_hex(8), "origin": {"type": "service"}}
        if status in ("sent", "delivered"):
            pricing = {"billable": True, "pricing_model": "PMP", "category": "service", "type": "regular"}
            state["pricing"] = pricing
        if errors is not None:
            state["errors"] = [_trouble(error) if isinstance(error, int) else error for error in errors]
        if opaque is not None:
            state["biz_opaque_callback_data"] = opaque
        return self.value(statuses=[state | more])

    # Waiting

    async def wait_sent(self, n: int, timeout: float = 10.0) -> list[Json]:
        """Wait until ``n`` messages have been accepted in all; return these. ``AssertionError`` shows what came instead."""
        try:
            return await self._changes.wait_until(lambda: self.sent[:n] if len(self.sent) >= n else None, timeout)
        except TimeoutError:
            came = f"{len(self.sent)} of {n} messages in {timeout} s, the last ones: {self.sent[-3:]}"
            raise AssertionError(came) from None


class FakeGraph:
    """The Graph API server. Use it as an asynchronous context manager, or :meth:`start` and :meth:`stop` it.

    ``app_usage``: told with every answer in ``X-App-Usage``. ``media_url_seconds``: how long the address of a file is good;
    below 0 for addresses that are already too old.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, FakeNumber] = {}
        self.media: dict[str, FakeMedia] = {}
        self.calls: list[Call] = []
        self.app_usage: Json | None = None
        self.faults: list[Fault] = []
        self.media_url_seconds = 300.0
        self.port = 0
        self._changes = _Changes()
        self._runner: web.AppRunner | None = None

    # Life

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Begin to serve; :attr:`base_url` is then the address without the version."""
        app = web.Application(client_max_size=101 * _MB)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop serving and let go of everyone who still hangs."""
        self.clear_faults()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def base_url(self) -> str:
        """The address of the server, without a version and without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    # What exists

    def add_number(
        self,
        phone_number_id: str,
        *,
        token: str,
        app_secret: str,
        waba_id: str,
        display_phone_number: str,
        verified_name: str = "Do‘kon",
        token_expires_at: int = 0,
        scopes: Sequence[str] = SCOPES,
        app_id: str = APP_ID,
    ) -> FakeNumber:
        """Make a number. Several may share a token, an account and an app."""
        number = FakeNumber(
            phone_number_id=phone_number_id,
            waba_id=waba_id,
            display_phone_number=display_phone_number,
            verified_name=verified_name,
            app_id=app_id,
            token=token,
            app_secret=app_secret,
            token_expires_at=token_expires_at,
            scopes=tuple(scopes),
            _changes=self._changes,
        )
        self.numbers[phone_number_id] = number
        return number

    def add_media(
        self,
        media_id: str,
        content: bytes,
        mime_type: str,
        *,
        filename: str = "",
        phone_number_id: str | None = None,
        sha256: str | None = None,
        file_size: int | None = None,
    ) -> FakeMedia:
        """Keep a file that a customer sent, for one number or for any. ``sha256`` and ``file_size``: claimed ones."""
        media = FakeMedia(
            id=media_id,
            mime_type=mime_type,
            content=content,
            sha256=sha256 or hashlib.sha256(content).hexdigest(),
            file_size=len(content) if file_size is None else file_size,
            filename=filename,
            phone_number_id=phone_number_id,
        )
        self.media[media_id] = media
        return media

    # Waiting

    async def wait_until(self, check: Callable[[], R | None], timeout: float = 10.0) -> R:
        """Return the first true result of ``check``, asked again after every request. Raises ``TimeoutError``."""
        return await self._changes.wait_until(check, timeout)

    def called(self, kind: str, phone_number_id: str | None = None) -> list[Call]:
        """Return the requests of one of :data:`KINDS`, refused ones too, oldest first."""
        return [call for call in self.calls if call.kind == kind and phone_number_id in (None, call.phone_number_id)]

    # Faults

    def fail(
        self,
        code: int,
        *,
        http: int = 400,
        times: int | None = 1,
        subcode: int | None = None,
        to: str | None = None,
        phone_number_id: str | None = None,
        details: str = "",
        on: str = "send",
    ) -> Fault:
        """Refuse the next ``times`` (``None``: all) good requests that match; a bad one is refused for its own fault."""

        def error() -> GraphError:
            return GraphError(code, http=http, subcode=subcode, details=details)

        return self._rule(Fault(on, times, to=to and to.lstrip("+"), phone_number_id=phone_number_id, error=error))

    def cut(
        self,
        times: int | None = 1,
        *,
        after_effect: bool = True,
        on: str = "send",
        phone_number_id: str | None = None,
    ) -> Fault:
        """Close the connection without an answer, after the message counted or, with ``after_effect=False``, before."""
        return self._rule(Fault(on, times, phone_number_id=phone_number_id, cut=True, after_effect=after_effect))

    def hang(
        self,
        seconds: float,
        *,
        times: int | None = 1,
        after_effect: bool = True,
        on: str = "send",
        phone_number_id: str | None = None,
    ) -> Fault:
        """Answer so much later, the message counted at once or, with ``after_effect=False``, at the end."""
        rule = Fault(on, times, phone_number_id=phone_number_id, seconds=seconds, after_effect=after_effect)
        return self._rule(rule)

    def answer_raw(
        self,
        status: int,
        body: bytes | str,
        content_type: str = "text/html",
        *,
        times: int | None = 1,
        on: str = "send",
        phone_number_id: str | None = None,
    ) -> Fault:
        """Answer with these very bytes, as a proxy would; nothing takes effect."""
        raw = body.encode() if isinstance(body, str) else body
        return self._rule(Fault(on, times, phone_number_id=phone_number_id, raw=(status, raw, content_type)))

    def _rule(self, fault: Fault) -> Fault:
        if fault.on not in (*KINDS, "any"):
            raise ValueError(f"unknown kind of request {fault.on!r}")
        self.faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        """Remove all rules and let what hangs go on."""
        for fault in self.faults:
            fault.release()
        self.faults.clear()

    # Webhooks

    @staticmethod
    def entry(waba_id: str, *changes: Mapping[str, Any]) -> Json:
        """Return an entry for :meth:`body` that is not joined with its neighbours."""
        return {"id": waba_id, "changes": [_change(change) for change in changes]}

    @staticmethod
    def together(*values: Value) -> Value:
        """Return one value with the contacts, messages and statuses of several of the same number."""
        if len({value["metadata"]["phone_number_id"] for value in values}) != 1:
            raise ValueError("a value is about one number")
        joined = Value(values[0])
        joined.waba_id = values[0].waba_id
        for kind in ("contacts", "messages", "statuses", "errors"):
            items = [item for value in values for item in value.get(kind, ())]
            if items:
                joined[kind] = [item for at, item in enumerate(items) if kind != "contacts" or item not in items[:at]]
        return joined

    @staticmethod
    def body(*changes: Mapping[str, Any]) -> bytes:
        """Return a webhook's body as Meta writes it, ``\\uXXXX`` and ``\\/`` escaped.

        ``changes``: values, whole changes (``field`` and ``value``) and entries. Neighbours of one account share an entry.
        """
        entries: list[Json] = []
        last: Json | None = None
        for part in changes:
            if "changes" in part:
                entries.append(dict(part))
                last = None
                continue
            change = _change(part)
            value = change["value"]
            waba_id = value.waba_id if isinstance(value, Value) else "0"
            if last is None or last["id"] != waba_id:
                last = {"id": waba_id, "changes": []}
                entries.append(last)
            last["changes"].append(change)
        return _dumps({"object": "whatsapp_business_account", "entry": entries})

    @staticmethod
    def sign(app_secret: str, raw: bytes) -> str:
        """Return the value of ``X-Hub-Signature-256``."""
        return "sha256=" + hmac.new(app_secret.encode(), raw, hashlib.sha256).hexdigest()

    @classmethod
    async def deliver(cls, session: ClientSession, url: str, raw: bytes, app_secret: str) -> int:
        """Post a body to a webhook, signed; return the HTTP status."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "facebookexternalua",
            "X-Hub-Signature-256": cls.sign(app_secret, raw),
        }
        async with session.post(url, data=raw, headers=headers) as answer:
            await answer.read()
            return answer.status

    @staticmethod
    async def verify(
        session: ClientSession, url: str, verify_token: str, challenge: str = "1158201444"
    ) -> tuple[int, str]:
        """Ask a webhook what Meta asks before it uses one; return the HTTP status and the body."""
        query = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": verify_token}
        async with session.get(url, params=query) as answer:
            return answer.status, await answer.text()

    # Serving

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = self._call(request)
        self.calls.append(call)
        try:
            try:
                response = await self._answer(request, call)
            except GraphError as error:
                response = self._reply(error.http, error.wire(), call)
            call.status = response.status
            return response
        except _Cut:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        finally:
            self._changes.touch()

    def _call(self, request: web.Request) -> Call:
        parts = request.path.strip("/").split("/")
        call = Call("", request.method, request.path, "", "")
        if parts[0] == "media-download" and len(parts) == 2:
            call.kind = "download"
        elif _VERSION.fullmatch(parts[0]):
            call.version = parts[0]
            match (request.method, *parts[1:]):
                case ("GET", "debug_token"):
                    call.kind = "debug"
                case ("GET", node):
                    call.kind, call.phone_number_id = ("media", "") if node in self.media else ("number", node)
                case ("POST", node, "messages"):
                    call.kind, call.phone_number_id = "send", node
                case ("POST", node, "media"):
                    call.kind, call.phone_number_id = "upload", node
                case ("GET", _, "phone_numbers"):
                    call.kind = "numbers"
                case ("GET", _, "message_templates"):
                    call.kind = "templates"
                case ("GET" | "POST" | "DELETE", _, "subscribed_apps"):
                    call.kind = "subscribe"
        return call

    async def _answer(self, request: web.Request, call: Call) -> web.Response:
        await _read(request, call)
        fault = next((fault for fault in self.faults if fault.fits(call)), None)
        if fault is not None and fault.error is None:
            fault.count()
            if fault.raw is not None:
                status, raw, content_type = fault.raw
                return web.Response(status=status, body=raw, headers={"Content-Type": content_type})
            if not fault.after_effect:
                await fault.spoil()
        effect = self._plan(request, call)
        if fault is not None and fault.error is not None:
            fault.count()
            raise fault.error()
        result = effect()
        if fault is not None and fault.after_effect:
            self._changes.touch()
            await fault.spoil()
        return result if isinstance(result, web.Response) else self._reply(200, result, call)

    def _reply(self, status: int, body: Json, call: Call) -> web.Response:
        headers = {"Content-Type": "application/json; charset=UTF-8"}
        if call.version:
            headers["facebook-api-version"] = call.version
        if self.app_usage is not None:
            headers["X-App-Usage"] = json.dumps(self.app_usage)
        number = self.numbers.get(call.phone_number_id)
        if number is not None and number.usage_percent is not None:
            usage = {"type": "whatsapp", "call_count": number.usage_percent, "total_cputime": 0, "total_time": 0}
            headers["X-Business-Use-Case-Usage"] = json.dumps(
                {number.waba_id: [usage | {"estimated_time_to_regain_access": 0}]}
            )
        return web.Response(status=status, body=_dumps(body), headers=headers)

    def _plan(self, request: web.Request, call: Call) -> Callable[[], Json | web.Response]:
        """Check a request; return what it does."""
        match call.kind:
            case "debug":
                return lambda: self._debug(request)
            case "media" | "download":
                return self._media(request, call)
            case "subscribe":
                return self._subscribe(request, call)
            case "numbers":
                return self._numbers(request, call)
            case "templates":
                return self._templates(request, call)
            case "":
                if call.version:
                    raise _no_object(call.method, call.path)
                raise GraphError(2500, f"Unknown path components: {call.path}")
        number = self._number(request, call)
        if call.kind == "number":
            return lambda: _asked(number, request.query.get("fields") or _USUAL_FIELDS)
        _permit(MESSAGING in number.scopes, 131005)
        if call.body.get("messaging_product") != "whatsapp":
            raise GraphError(100, "(#100) The parameter messaging_product is required.")
        if call.kind == "upload":
            return self._upload(number, call)
        if call.kind == "read":
            return _mark(number, call)
        _check(call.body, number, self.media)
        return lambda: _accept(number, call)

    # Who asks

    def _holders(self, request: web.Request) -> list[FakeNumber]:
        """Return the numbers that the token is for. Raises 401 for a missing, unknown or expired token.

        Where ``appsecret_proof`` is given it must be right.
        """
        token = _bearer(request)
        holders = self._of_token(token)
        if not holders:
            raise GraphError(190, http=401, subcode=467)
        if all(number.expired for number in holders):
            raise GraphError(190, http=401, subcode=463)
        proof = request.query.get("appsecret_proof")
        if (
            proof is not None
            and proof != hmac.new(holders[0].app_secret.encode(), token.encode(), "sha256").hexdigest()
        ):
            trouble = "Invalid appsecret_proof provided in the API argument"
            raise GraphError(100, trouble, kind="GraphMethodException")
        return holders

    def _of_token(self, token: str) -> list[FakeNumber]:
        return [number for number in self.numbers.values() if token and number.token == token]

    def _number(self, request: web.Request, call: Call) -> FakeNumber:
        holders = self._holders(request)
        number = self.numbers.get(call.phone_number_id)
        if number is None or number not in holders:
            raise _no_object(call.method, call.phone_number_id)
        return number

    # What is asked

    def _debug(self, request: web.Request) -> Json:
        own = [number for number in self.numbers.values() if _bearer(request) == f"{number.app_id}|{number.app_secret}"]
        app_id = (own or self._holders(request))[0].app_id
        token = request.query.get("input_token")
        if not token:
            raise GraphError(100, "(#100) The parameter input_token is required.")
        numbers = self._of_token(token)
        if not numbers:
            error: Json = {"code": 190, "message": "Invalid OAuth access token."}
            return {"data": {"error": error, "is_valid": False, "scopes": []}}
        number = numbers[0]
        if number.app_id != app_id:
            raise GraphError(100, "(#100) The App_id in the input_token did not match the Viewing App")
        accounts = list(dict.fromkeys(one.waba_id for one in numbers))
        data: Json = {
            "app_id": app_id,
            "type": "USER" if number.token_expires_at else "SYSTEM_USER",
            "application": "BotFactory",
            "data_access_expires_at": number.data_access_expires_at,
            "expires_at": number.token_expires_at,
            "is_valid": not number.expired,
            "issued_at": int(time.time()) - 60,
            "scopes": list(number.scopes),
            "granular_scopes": [
                {"scope": scope, "target_ids": accounts} if scope in SCOPES else {"scope": scope}
                for scope in number.scopes
            ],
            "user_id": "500000000000501",
        }
        if number.expired:
            data["error"] = {"code": 190, "message": _TOKEN_TROUBLE[463], "subcode": 463}
        return {"data": data}

    def _numbers(self, request: web.Request, call: Call) -> Callable[[], Json]:
        waba_id = call.path.strip("/").split("/")[1]
        found = [number for number in self._holders(request) if number.waba_id == waba_id]
        if not found:
            raise _no_object(call.method, waba_id)
        return lambda: {"data": [{"id": number.phone_number_id} for number in found]}

    def _templates(self, request: web.Request, call: Call) -> Callable[[], Json]:
        """Answer in pages, as Meta does; ``templates`` of the first number of the account are all of it."""
        waba_id = call.path.strip("/").split("/")[1]
        numbers = [number for number in self._holders(request) if number.waba_id == waba_id]
        if not numbers:
            raise _no_object(call.method, waba_id)
        _permit(MANAGEMENT in numbers[0].scopes, 200)
        wanted = request.query.get("status")
        found = [each for each in numbers[0].templates if wanted in (None, each.get("status"))]
        limit, start = int(request.query.get("limit") or 25), int(request.query.get("after") or 0)
        part = found[start : start + limit]
        paging: Json = {"cursors": {"before": str(start), "after": str(start + len(part))}}
        if start + len(part) < len(found):
            paging["next"] = f"{self.base_url}/next"
        return lambda: {"data": part, "paging": paging}

    def _subscribe(self, request: web.Request, call: Call) -> Callable[[], Json]:
        waba_id = call.path.strip("/").split("/")[1]
        numbers = [number for number in self._holders(request) if number.waba_id == waba_id]
        if not numbers:
            raise _no_object(call.method, waba_id)
        first = numbers[0]
        _permit(MANAGEMENT in first.scopes, 200)
        concerned = [one for one in self.numbers.values() if (one.waba_id, one.app_id) == (waba_id, first.app_id)]
        if call.method == "GET":
            return lambda: {"data": _apps([one for one in self.numbers.values() if one.waba_id == waba_id])}
        given = {**request.query, **call.body} if call.method == "POST" else {}
        address, verify_token = given.get("override_callback_uri"), given.get("verify_token")
        if bool(address) != bool(verify_token):
            missing = "verify_token" if address else "override_callback_uri"
            raise GraphError(100, f"(#100) The parameter {missing} is required.")

        def effect() -> Json:
            for number in concerned:
                number.subscribed = call.method == "POST"
                number.override_callback_uri, number.verify_token = address, verify_token
            return {"success": True}

        return effect

    def _media(self, request: web.Request, call: Call) -> Callable[[], Json | web.Response]:
        holders = self._holders(request)
        media = self.media.get(call.path.strip("/").split("/")[1])
        owners = {None, *(number.phone_number_id for number in holders)}
        if media is None or media.phone_number_id not in owners:
            raise _no_object(call.method, call.path.strip("/").split("/")[1])
        if call.kind == "download":
            ext = request.query.get("ext", "")
            good = request.query.get("hash") == media._key and ext.isdecimal() and int(ext) > time.time()
            return lambda: (
                web.Response(body=media.content, headers={"Content-Type": media.mime_type})
                if good
                else web.Response(status=404, text="URL signature expired")
            )
        if request.query.get("phone_number_id", media.phone_number_id) not in owners:
            raise _no_object(call.method, media.id)
        until = int(time.time() + self.media_url_seconds)
        return lambda: {
            "url": f"{self.base_url}/media-download/{media.id}?ext={until}&hash={media._key}",
            "mime_type": media.mime_type,
            "sha256": media.sha256,
            "file_size": media.file_size,
            "id": media.id,
            "messaging_product": "whatsapp",
        }

    def _upload(self, number: FakeNumber, call: Call) -> Callable[[], Json]:
        content = call.body.get("file")
        if not isinstance(content, bytes) or not call.body.get("type"):
            missing = "type" if isinstance(content, bytes) else "file"
            raise GraphError(100, f"(#100) The parameter {missing} is required.")
        mime_type = call.body["content_type"]
        most = _UPLOADS.get(mime_type.split(";")[0])
        if most is None:
            raise GraphError(
                100, f"(#100) Param file must be a file with one of the following types: {', '.join(_UPLOADS)}."
            )
        if not 0 < len(content) <= most:
            raise GraphError(131053, details=f"File of {len(content)} bytes, at most {most} are allowed.")

        def effect() -> Json:
            media_id = str(secrets.randbelow(9 * 10**15) + 10**15)
            media = self.add_media(
                media_id,
                content,
                mime_type,
                filename=call.body["filename"],
                phone_number_id=number.phone_number_id,
            )
            number.uploads.append(media)
            return {"id": media_id}

        return effect


# Wire format


def new_wamid(who: str) -> str:
    """Return a new id of a message from or to ``who``."""
    raw = b"\x1d\x18" + who.encode() + b"\x15\x02\x00\x11\x18\x12" + secrets.token_hex(12).upper().encode() + b"\x00"
    return "wamid." + base64.b64encode(raw).decode()


def _dumps(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/").encode()


def _seconds(timestamp: float | str | None) -> str:
    return str(int(time.time() if timestamp is None else float(timestamp)))


def _given(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def _trouble(code: int) -> Json:
    title = _TITLES.get(code, "Something went wrong")
    return {"code": code, "title": title, "message": title, "error_data": {"details": f"{title}."}, "href": _HREF}


def _change(part: Mapping[str, Any]) -> Json:
    return dict(part) if "field" in part and "value" in part else {"value": part, "field": "messages"}


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _read(request: web.Request, call: Call) -> None:
    """Fill in what the body of a request says."""
    if call.kind == "upload" and request.content_type == "multipart/form-data":
        form = await request.post()
        call.body = {name: value for name, value in form.items() if isinstance(value, str)}
        file = form.get("file")
        if isinstance(file, web.FileField):
            call.body |= {"file": file.file.read(), "content_type": file.content_type, "filename": file.filename}
    elif request.content_type == "application/x-www-form-urlencoded":
        call.body = dict(await request.post())
    elif request.content_type == "application/json":
        with contextlib.suppress(ValueError):
            body = json.loads(await request.read() or b"{}")
            call.body = body if isinstance(body, dict) else {}
    if call.kind == "send" and call.body.get("status") == "read":
        call.kind = "read"
    call.to = str(call.body.get("to") or call.body.get("recipient") or "").lstrip("+")


def _no_object(method: str, node: str) -> GraphError:
    message = (
        f"Unsupported {method.lower()} request. Object with ID '{node}' does not exist, cannot be loaded due to missing "
        "permissions, or does not support this operation. Please read the Graph API documentation at "
        "https://developers.facebook.com/docs/graph-api"
    )
    return GraphError(100, message, subcode=33, kind="GraphMethodException")


def _permit(allowed: bool, code: int) -> None:
    if not allowed:
        raise GraphError(code, http=403)


def _asked(number: FakeNumber, wanted: str) -> Json:
    fields = number.fields()
    result: Json = {}
    for name in (name.strip() for name in wanted.split(",")):
        if name not in fields:
            raise GraphError(
                100, f"(#100) Tried accessing nonexisting field ({name}) on node type (WhatsAppBusinessPhoneNumber)"
            )
        result[name] = fields[name]
    return result | {"id": number.phone_number_id}


def _apps(numbers: list[FakeNumber]) -> list[Json]:
    apps: dict[str, Json] = {}
    for number in numbers:
        if number.subscribed:
            link = f"https://www.facebook.com/games/?app_id={number.app_id}"
            app: Json = {"whatsapp_business_api_data": {"id": number.app_id, "link": link, "name": "BotFactory"}}
            if number.override_callback_uri:
                app["override_callback_uri"] = number.override_callback_uri
            apps[number.app_id] = app
    return list(apps.values())


# Messages


def _mark(number: FakeNumber, call: Call) -> Callable[[], Json]:
    """Check a read call; return what it does."""
    message_id, typing = call.body.get("message_id"), call.body.get("typing_indicator")
    if not isinstance(message_id, str) or not message_id:
        raise GraphError(100, "(#100) The parameter message_id is required.")
    if typing is not None and typing != {"type": "text"}:
        raise GraphError(100, "(#100) Param typing_indicator['type'] must be one of {TEXT}.")

    def effect() -> Json:
        number.reads.append(message_id)
        if typing is not None:
            number.typing.append(message_id)
        return {"success": True}

    return effect


def _accept(number: FakeNumber, call: Call) -> Json:
    body = call.body
    given = str(body.get("to") or body.get("recipient"))
    contact = {"input": given, "wa_id": call.to} if "to" in body else {"input": given, "user_id": given}
    message = {"id": new_wamid(call.to)}
    number.sent.append(body | message)
    if body["type"] == "template":
        message["message_status"] = "accepted"
    return {"messaging_product": "whatsapp", "contacts": [contact], "messages": [message]}


def _check(body: Json, number: FakeNumber, media: Mapping[str, FakeMedia]) -> None:
    """Raise what Meta answers to a message that it does not take."""
    if body.get("recipient_type", "individual") != "individual":
        raise GraphError(100, "(#100) Param recipient_type must be one of {INDIVIDUAL}.")
    to, recipient = body.get("to"), body.get("recipient")
    if (to is None) == (recipient is None):
        raise GraphError(100, details="Exactly one of the parameters to and recipient is required.")
    if to is not None and not (isinstance(to, str) and _PHONE.fullmatch(to)):
        raise GraphError(100, "(#100) Param to is not a valid phone number.")
    if recipient is not None and not (isinstance(recipient, str) and _USER_ID.fullmatch(recipient)):
        raise GraphError(100, "(#100) Param recipient is not a valid user id.")
    if to is not None and to.lstrip("+") == number.digits:
        raise GraphError(131021)
    kind = body.get("type")
    if kind not in _TYPES:
        raise GraphError(100, f"(#100) Param type must be one of {{{', '.join(sorted(_TYPES)).upper()}}}.")
    content: Any = body.get(kind)
    shape: type[Any] = list if kind == "contacts" else dict
    if not isinstance(content, shape) or not content:
        raise GraphError(100, f"(#100) The parameter {kind} is required.")
    if "context" in body:
        _string(body["context"], "message_id", "context['message_id']")
    if "biz_opaque_callback_data" in body:
        _string(body, "biz_opaque_callback_data", "biz_opaque_callback_data", 512)
    match kind:
        case "text":
            _string(content, "body", "text['body']", 4096)
        case "interactive":
            _check_interactive(content)
        case "template":
            _string(content, "name", "template['name']", 512)
            _string(content.get("language"), "code", "template['language']['code']")
            _check_template(content, number, media)
        case "reaction":
            _string(content, "message_id", "reaction['message_id']")
        case "location":
            if not all(isinstance(content.get(name), int | float | str) for name in ("latitude", "longitude")):
                raise GraphError(131008, details="location must have a latitude and a longitude.")
        case _ if kind in _MEDIA:
            _check_media(kind, content, number, media)


def _check_template(content: Json, number: FakeNumber, media: Mapping[str, FakeMedia]) -> None:
    """Compare what is filled in with the template, where the number has any."""
    if not number.templates:
        return
    code = content["language"]["code"]
    template = next((t for t in number.templates if (t["name"], t["language"]) == (content["name"], code)), None)
    if template is None:
        raise GraphError(132001, http=404, details=f"template name ({content['name']}) does not exist in {code}")
    trouble = {"PAUSED": 132015, "DISABLED": 132016}.get(template["status"])
    if trouble is not None:
        raise GraphError(trouble)
    given = {(part["type"], part.get("index", "")): part["parameters"] for part in content.get("components", ())}
    named = template.get("parameter_format") == "NAMED"
    for component in template["components"]:
        kind = component["type"].lower()
        begins = component.get("format", "TEXT").lower()
        if kind == "header" and begins != "text":
            filled = given.pop((kind, ""), [])
            if len(filled) != 1 or filled[0].get("type") != begins:
                raise GraphError(132012, details=f"header: Format mismatch, expected {begins.upper()}")
            _check_media(begins, filled[0].get(begins) or {}, number, media)
            continue
        if kind == "buttons":
            _check_codes(component["buttons"], given)
        texts = {(kind, ""): component.get("text", "")}
        if kind == "buttons":
            texts = {("button", str(at)): each.get("url", "") for at, each in enumerate(component["buttons"])}
        for place, text in texts.items():
            wanted = set(re.findall(r"\{\{(\w+)\}\}", text))
            filled = given.pop(place, [])
            if len(wanted) != len(filled):
                details = f"{kind}: number of localizable_params ({len(filled)}) does not match {len(wanted)}"
                raise GraphError(132000, details=details)
            if named and wanted != {each.get("parameter_name") for each in filled}:
                raise GraphError(132012, details=f"{kind}: parameter names do not match")
    if given:
        raise GraphError(132000, details=f"unexpected components {sorted(given)}")


def _check_codes(buttons: list[Json], given: dict[tuple[str, str], Any]) -> None:
    """Take out what fills the buttons that copy a code."""
    for at, button in enumerate(buttons):
        wanted = {"COPY_CODE": "coupon_code", "OTP": "text"}.get(button["type"])
        if wanted is not None:
            filled = given.pop(("button", str(at)), [])
            if len(filled) != 1 or filled[0].get("type") != wanted or not 0 < len(filled[0].get(wanted, "")) <= 15:
                raise GraphError(132012, details=f"buttons: button at {at} needs a {wanted} of at most 15 characters")


def _string(holder: Any, name: str, path: str, most: int | None = None) -> None:
    value = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(value, str) or not value:
        raise GraphError(100, f"(#100) The parameter {path} is required.")
    if most is not None and len(value) > most:
        raise GraphError(100, f"(#100) Param {path} must be at most {most} characters long.")


def _check_media(kind: str, content: Json, number: FakeNumber, media: Mapping[str, FakeMedia]) -> None:
    if ("id" in content) == ("link" in content):
        raise GraphError(100, f"(#100) Param {kind} must have exactly one of id and link.")
    if "id" in content:
        known = media.get(content["id"]) if isinstance(content["id"], str) else None
        if known is None or known.phone_number_id not in (None, number.phone_number_id):
            remark = "is not a valid whatsapp business account media attachment ID"
            raise GraphError(100, f"(#100) Param {kind}['id'] {remark}")
    elif not re.match(r"https?://[^/\s]+", str(content["link"])):
        raise GraphError(100, f"(#100) Param {kind}['link'] is not a valid URI.")
    if "caption" in content:
        if kind in ("audio", "sticker"):
            raise GraphError(100, f'(#100) Unexpected key "caption" on param "{kind}".')
        _string(content, "caption", f"{kind}['caption']", 1024)


def _bounded(holder: Any, name: str, what: str, most: int, *, optional: bool = False) -> str:
    """Return a text of an interactive message that is neither empty nor too long."""
    value = holder.get(name) if isinstance(holder, dict) else None
    if value is None and optional:
        return ""
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise GraphError(131009, details=f"{what} length invalid. Min length: 1, Max length: {most}")
    return value


def _several(holder: Any, name: str, what: str, most: int) -> list[Any]:
    items = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(items, list) or not 1 <= len(items) <= most:
        raise GraphError(131009, details=f"Invalid {what} count. Min allowed {what}: 1, Max allowed {what}: {most}")
    return items


def _distinct(values: list[str], what: str) -> None:
    if len(set(values)) < len(values):
        raise GraphError(131009, details=f"Duplicated {what}.")


def _check_interactive(content: Json) -> None:
    kind = content.get("type")
    if kind not in _INTERACTIVE:
        raise GraphError(131009, details=f"Interactive type {kind!r} is not valid.")
    if kind not in ("button", "list", "cta_url"):
        return
    _bounded(content.get("body"), "text", "Body text", 4096 if kind == "list" else 1024)
    if "footer" in content:
        _bounded(content["footer"], "text", "Footer text", 60)
    header = content.get("header")
    if header is not None:
        allowed = ("text",) if kind == "list" else ("text", "image", "video", "document")
        if not isinstance(header, dict) or header.get("type") not in allowed:
            raise GraphError(131009, details="Header type is not valid.")
        if header["type"] == "text":
            _bounded(header, "text", "Header text", 60)
    action = content.get("action")
    if not isinstance(action, dict):
        raise GraphError(131008, details="Parameter action is missing.")
    if kind == "button":
        _check_buttons(action)
    elif kind == "list":
        _check_list(action)
    else:
        parameters: Any = action.get("parameters")
        _bounded(parameters, "display_text", "Display text", 20)
        if action.get("name") != "cta_url" or not re.match(r"https?://[^/\s]+", str(parameters.get("url"))):
            raise GraphError(131009, details="Action of a cta_url must have its name and a valid url.")


def _check_buttons(action: Json) -> None:
    replies = [
        button.get("reply") if isinstance(button, dict) and button.get("type") == "reply" else None
        for button in _several(action, "buttons", "buttons", 3)
    ]
    _distinct([_bounded(reply, "id", "Button id", 256) for reply in replies], "button id")
    _distinct([_bounded(reply, "title", "Button title", 20) for reply in replies], "button title")


def _check_list(action: Json) -> None:
    _bounded(action, "button", "Button text", 20)
    sections = _several(action, "sections", "sections", 10)
    rows: list[Any] = []
    for section in sections:
        _bounded(section, "title", "Section title", 24, optional=len(sections) == 1)
        rows += _several(section, "rows", "rows", 10)
    if len(rows) > 10:
        raise GraphError(131009, details="Total row count exceed max allowed count: 10")
    for row in rows:
        _bounded(row, "title", "Row title", 24)
        _bounded(row, "description", "Row description", 72, optional=True)
    _distinct([_bounded(row, "id", "Row id", 200) for row in rows], "row id")
