"""WhatsApp Cloud API: what a webhook carries, sending, read marks.

Facts: developers.facebook.com/documentation/business-messaging/whatsapp (webhooks/reference, messages/send-messages,
typing-indicators, business-scoped-user-ids), checked 2026-11-21 with version 26.0; ids that change: changelog of 2026-08-11.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.channels.base import (
    Delivery,
    FileGone,
    FileTooLarge,
    Inbound,
    Inspection,
    Outgoing,
    OutgoingFile,
    Piece,
    Place,
    Refused,
    RemoteFile,
    Sender,
    TextUnit,
    TokenRefused,
    Usage,
)
from services.channels.meta import COMMAND as _COMMAND
from services.channels.meta import COMMANDS as _COMMANDS
from services.channels.meta import GraphApi, described, error_code, proof_of, token_end
from services.channels.meta import digits as _digits
from services.channels.meta import fingerprint as _fingerprint
from services.channels.meta import first_id as _id
from services.channels.meta import listing as _list
from services.channels.meta import mapping as _mapping
from services.errors import Permanent, Temporary

TEXT_LIMIT = 4096
_BUTTONS, _BUTTON_BODY, _BUTTON_TITLE = 3, 1024, 20
_ROWS, _ROW_TITLE = 10, 24
_STATUSES = frozenset({"sent", "delivered", "read", "played", "failed"})
_MEDIA = frozenset({"image", "video", "audio", "document", "sticker"})
# States of a number in which it sends nothing: developers.facebook.com/docs/graph-api/reference/whats-app-business-phone-number
_NUMBER_OFF = frozenset({"BANNED", "DELETED", "DISCONNECTED", "MIGRATED"})
_FACTS = ("status", "name_status", "account_mode", "throughput")
_QUALITIES = {"GREEN": "green", "YELLOW": "yellow", "RED": "red"}
_TEMPLATE_PAGES = 5
_MOVES = frozenset({"user_changed_number", "user_changed_user_id"})


def unpack(body: Mapping[str, Any]) -> Iterator[Piece]:
    """Take a delivery apart into its messages, statuses, echoes and errors.

    Each is the phone number's, whose business account may prove it as well. A change that is about none of these has no update.
    """
    for entry in _list(body.get("entry")):
        above = _digits(entry.get("id"))
        for change in _list(entry.get("changes")):
            value = _mapping(change.get("value"))
            number = _digits(_mapping(value.get("metadata")).get("phone_number_id"))
            field = change.get("field")
            updates: list[dict[str, Any]] = []
            if number and field == "messages":
                contacts = _list(value.get("contacts"))
                updates += [{"message": each, "contact": _of(contacts, each)} for each in _list(value.get("messages"))]
                updates += [{"status": each} for each in _list(value.get("statuses"))]
                updates += [{"error": each} for each in _list(value.get("errors"))]
            elif number and field == "smb_message_echoes":
                updates += [{"echo": each} for each in _list(value.get("message_echoes"))]
            accounts = ((number, False),) if number else ()
            proofs = ((above, True),) if above else ()
            for update in updates or (None,):
                yield Piece(accounts, proofs, update)


def _of(contacts: list[Mapping[str, Any]], message: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return who of ``contacts`` wrote ``message``: by either id, since their order says nothing."""
    phone, scoped = message.get("from"), message.get("from_user_id")
    for contact in contacts:
        if (phone and contact.get("wa_id") == phone) or (scoped and contact.get("user_id") == scoped):
            return contact
    return None


def _moment(message: Mapping[str, Any]) -> dt.datetime | None:
    stamp = str(message.get("timestamp") or "")
    return dt.datetime.fromtimestamp(int(stamp), dt.UTC) if stamp.isdigit() and len(stamp) < 12 else None


@dataclass(frozen=True, slots=True)
class WhatsAppNumber:
    """A number as its token shows it. ``token_expires_at``: seconds since 1970, 0 for one that does not expire."""

    id: str
    phone: str
    name: str
    business_account: str
    token_expires_at: int
    quality: str = ""


async def look_up(api: GraphApi, token: str, phone_number_id: str, app_secret: str) -> WhatsAppNumber:
    """Try an owner's credentials: read the number, what the token may do, and have its messages delivered to the app.

    Raises ``Temporary`` or a ``Permanent``, :class:`~services.channels.base.TokenRefused` for a token that is not accepted.
    """
    # Meta refuses the proof if it is not of this token with the secret of the token's app: so the secret is tried as well.
    shown = await show(api, token, phone_number_id, app_secret)
    about: Mapping[str, Any] = {}
    above = ""
    # A token may be good for sending and not for looking after the account: then somebody else has to subscribe the app.
    with contextlib.suppress(Refused):
        about = _mapping((await api.call("GET", "debug_token", token, parameters={"input_token": token})).get("data"))
        above = await _business_account(api, token, phone_number_id, about)
        if above:
            await api.call("POST", f"{above}/subscribed_apps", token, body={})
    expires = about.get("expires_at")
    return WhatsAppNumber(
        phone_number_id,
        str(shown.get("display_phone_number") or ""),
        str(shown.get("verified_name") or ""),
        above,
        expires if isinstance(expires, int) else 0,
        _QUALITIES.get(str(shown.get("quality_rating")), ""),
    )


async def show(api: GraphApi, token: str, phone_number_id: str, app_secret: str = "") -> Mapping[str, Any]:
    """Return what a token shows of a number; with ``app_secret`` only where that is of the token's app. Changes nothing."""
    parameters = {"fields": "display_phone_number,verified_name,quality_rating"}
    if app_secret:
        parameters["appsecret_proof"] = proof_of(token, app_secret)
    return await api.call("GET", phone_number_id, token, parameters=parameters)


async def templates(api: GraphApi, token: str, business_account: str) -> list[Mapping[str, Any]]:
    """Return the approved message templates of a business account as Meta describes them, five hundred at most.

    Raises ``Temporary`` or a ``Permanent``: a token may be good for sending and not for looking after the account.
    """
    found: list[Mapping[str, Any]] = []
    after = ""
    for _ in range(_TEMPLATE_PAGES):
        parameters = {
            "fields": "name,language,status,category,parameter_format,components",
            "status": "APPROVED",
            "limit": "100",
            **({"after": after} if after else {}),
        }
        answer = await api.call("GET", f"{business_account}/message_templates", token, parameters=parameters)
        found += [each for each in _list(answer.get("data")) if each.get("status", "APPROVED") == "APPROVED"]
        paging = _mapping(answer.get("paging"))
        after = str(_mapping(paging.get("cursors")).get("after") or "")
        if not after or not paging.get("next"):
            break
    return found


async def _business_account(api: GraphApi, token: str, phone_number_id: str, about: Mapping[str, Any]) -> str:
    """Return which of the accounts that a token looks after has this number, empty where none shows it."""
    targets: list[str] = []
    for scope in _list(about.get("granular_scopes")):
        named = scope.get("target_ids")
        if scope.get("scope") == "whatsapp_business_management" and isinstance(named, list):
            targets += [found for each in named[:50] if (found := _digits(str(each)))]
    if len(targets) == 1:
        return targets[0]
    for target in targets:
        shown = await api.call("GET", f"{target}/phone_numbers", token, parameters={"fields": "id", "limit": "100"})
        if any(str(each.get("id")) == phone_number_id for each in _list(shown.get("data"))):
            return target
    return ""


class WhatsAppChannel:
    """Updates are pieces of deliveries as :func:`unpack` gives them: one of ``message``, ``status``, ``echo``, ``error``."""

    kind = "whatsapp"
    text_limit = TEXT_LIMIT
    text_unit: TextUnit = "utf16"
    typing_s = 25.0

    def __init__(self, api: GraphApi) -> None:
        self._api = api

    def identify(self, update: Mapping[str, Any]) -> tuple[str, str]:
        """See :class:`services.channels.base.Channel`."""
        if message := _mapping(update.get("message")):
            former = _mapping(message.get("system")).get("previous_user_id")
            who = _id(message.get("from"), former, message.get("from_user_id"))
            return who, _id(message.get("id"), _fingerprint(update))
        if status := _mapping(update.get("status")):
            who = _id(status.get("recipient_id"), status.get("recipient_user_id"))
            return who, f"{_id(status.get('id'))}:{_id(status.get('status'))[:16]}"
        if echo := _mapping(update.get("echo")):
            return _id(echo.get("to"), echo.get("to_user_id")), _id(echo.get("id"), _fingerprint(update))
        return "-", _fingerprint(update)

    def parse(self, update: Mapping[str, Any]) -> Inbound:
        """See :class:`services.channels.base.Channel`."""
        chat, _ = self.identify(update)
        if message := _mapping(update.get("message")):
            return self._message(chat, message, _mapping(update.get("contact")))
        if status := _mapping(update.get("status")):
            return self._status(chat, status)
        if echo := _mapping(update.get("echo")):
            text = str(_mapping(echo.get("text")).get("body") or "")
            type_ = str(echo.get("type") or "text")
            if type_ in ("edit", "revoke"):
                changed = _mapping(echo.get(type_))
                extra = {"of": str(changed.get("original_message_id") or ""), "own": True}
                text = _written(_mapping(changed.get("message")))
                kind = "edit" if type_ == "edit" else "delete"
                return Inbound(kind, chat, Sender(chat), type=type_, text=text, reply=False, extra=extra)
            return Inbound(
                "echo",
                chat,
                Sender(chat),
                message_id=str(echo.get("id") or ""),
                type=type_,
                text=text,
                at=_moment(echo),
                reply=False,
            )
        error = _mapping(update.get("error"))
        extra = {"code": error_code(error), "reason": described(error)}
        return Inbound("account_error", chat, Sender(chat), reply=False, extra=extra)

    def _status(self, chat: str, status: Mapping[str, Any]) -> Inbound:
        errors = _list(status.get("errors"))
        name = str(status.get("status") or "")
        delivery = Delivery(
            str(status.get("biz_opaque_callback_data") or ""),
            str(status.get("id") or ""),
            name,
            described(errors[0]) if errors else None,
            error_code(errors[0]) if errors else None,
        )
        return Inbound(
            "status" if name in _STATUSES else "system",
            chat,
            Sender(chat),
            message_id=delivery.external_id,
            type="status",
            at=_moment(status),
            reply=False,
            extra={"delivery": delivery},
        )

    def _message(self, chat: str, message: Mapping[str, Any], contact: Mapping[str, Any]) -> Inbound:
        profile = _mapping(contact.get("profile"))
        phone = str(message.get("from") or "")
        scoped = _id(message.get("from_user_id"), contact.get("user_id"))
        sender = Sender(
            chat,
            str(profile.get("name") or ""),
            str(profile.get("username") or ""),
            phone=f"+{phone}" if phone.isdigit() else "",
            alias=scoped if scoped not in (chat, "-") else "",
        )
        type_ = str(message.get("type") or "")
        content = _mapping(message.get(type_))
        context = _mapping(message.get("context"))
        common: dict[str, Any] = {
            "message_id": str(message.get("id") or ""),
            "at": _moment(message),
            "extra": {"reply_to": str(context.get("id") or "")},
        }
        if message.get("group_id") or chat == "-":
            return Inbound("unsupported", chat, sender, type="group", reply=False, **common)
        if type_ == "text":
            text = str(content.get("body") or "")
            found = _COMMAND.fullmatch(text.strip().lower())
            if found is not None and found[1] in _COMMANDS:
                args = (found[2] or "").strip()[:64]
                return Inbound("command", chat, sender, text=text, command=found[1], args=args, **common)
            return Inbound("message", chat, sender, text=text, **common)
        if type_ == "button":
            payload = str(content.get("payload") or "")
            return self._pressed(chat, sender, "button", payload, str(content.get("text") or ""), common)
        if type_ == "interactive":
            kind = str(content.get("type") or "")
            choice = _mapping(content.get(kind))
            return self._pressed(
                chat, sender, kind, str(choice.get("id") or ""), str(choice.get("title") or ""), common
            )
        if type_ in _MEDIA:
            text = str(content.get("caption") or "")
            return Inbound("message", chat, sender, type=type_, text=text, files=_files(type_, content), **common)
        if type_ == "location" and (place := _place(content)):
            text, common["extra"]["location"] = place
            return Inbound("message", chat, sender, type=type_, text=text, **common)
        if type_ == "contacts":
            return Inbound("message", chat, sender, type=type_, text=_people(message.get("contacts")), **common)
        if type_ in ("location", "order"):
            return Inbound("message", chat, sender, type=type_, **common)
        if type_ == "request_welcome":
            return Inbound("command", chat, sender, type=type_, command="start", **common)
        if type_ in ("edit", "revoke"):
            common["extra"]["of"] = str(content.get("original_message_id") or "")
            if type_ == "revoke":
                return Inbound("delete", chat, sender, type=type_, reply=False, **common)
            text = _written(_mapping(content.get("message")))
            return Inbound("edit", chat, sender, type=type_, text=text, reply=False, **common)
        if type_ == "reaction":
            return Inbound("reaction", chat, sender, type=type_, reply=False, **common)
        if type_ == "system":
            if content.get("type") in _MOVES and (now := _now(content)):
                common["extra"] = {"moved_to": now["phone"] or now["scoped"], "now": now}
                former = _id(content.get("previous_user_id"))
                sender = Sender(chat, alias=former if former not in (chat, "-") else "")
            return Inbound("system", chat, sender, type=str(content.get("type") or ""), reply=False, **common)
        # Meta says so itself where it cannot pass something on: the customer waits for an answer all the same.
        known = type_ == "unsupported"
        return Inbound("message" if known else "unsupported", chat, sender, type="unsupported", reply=known, **common)

    @staticmethod
    def _pressed(chat: str, sender: Sender, type_: str, payload: str, title: str, common: Mapping[str, Any]) -> Inbound:
        """A button's own data where it is one of ours, else what it says."""
        if payload.startswith("lang:"):
            return Inbound("callback", chat, sender, type=type_, text=title, data=payload, **common)
        extra = {**common["extra"], "payload": payload}
        return Inbound("message", chat, sender, type=type_, text=title, **{**common, "extra": extra})

    async def send(self, credentials: Mapping[str, str], recipient: str, message: Outgoing) -> str:
        """See :class:`services.channels.base.Channel`."""
        body: dict[str, Any] = {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            # Whoever hides the number is written to by the id that the business knows.
            ("to" if recipient.isdigit() else "recipient"): recipient,
            **(await self._with_file(credentials, message, message.file) if message.file else _content(message)),
        }
        if message.ref:
            # Comes back with every status of this message, also where the answer to this call is lost.
            body["biz_opaque_callback_data"] = message.ref
        number = credentials["phone_number_id"]
        answer = await self._api.call("POST", f"{number}/messages", credentials["access_token"], body=body)
        sent = _list(answer.get("messages"))
        return str(sent[0].get("id") or "") if sent else ""

    async def _with_file(self, credentials: Mapping[str, str], message: Outgoing, file: OutgoingFile) -> dict[str, Any]:
        """Bring a file to Meta and return the part of the request that it stands in: of its own, or a template's beginning."""
        number = credentials["phone_number_id"]
        fields = {"messaging_product": "whatsapp", "type": file.mime}
        try:
            answer = await self._api.upload(
                f"{number}/media", credentials["access_token"], fields, file.content, file.name, file.mime
            )
        except Temporary as error:
            if not error.sent:
                raise
            # Nobody sees what only lies there: it is brought once more.
            raise Temporary(str(error)) from None
        type_ = file.mime.partition("/")[0]
        type_ = type_ if type_ in ("image", "audio", "video") else "document"
        part = {"id": str(answer.get("id") or "")}
        if type_ == "document":
            part["filename"] = file.name
        if message.template is not None:
            header = {"type": "header", "parameters": [{"type": type_, type_: part}]}
            filled = {**message.template, "components": [header, *message.template.get("components", ())]}
            return {"type": "template", "template": filled}
        if message.text:
            part["caption"] = message.text
        return {"type": type_, type_: part}

    async def fetch(self, credentials: Mapping[str, str], file: Mapping[str, str], limit: int) -> bytes:
        """See :class:`services.channels.base.Channel`. An address lives five minutes: one that ended is asked for anew, once."""
        token = credentials["access_token"]
        for attempt in (1, 2):
            try:
                found = await self._api.call("GET", file["id"], token)
            except Refused as error:
                raise FileGone(str(error)) from None
            size = found.get("file_size")
            if isinstance(size, int) and size > limit:
                raise FileTooLarge("file is too big")
            try:
                content = await self._api.download(str(found.get("url") or ""), limit, token=token)
            except FileGone:
                if attempt == 2:
                    raise
                continue
            # What arrived must be what the customer sent.
            wanted = str(found.get("sha256") or "")
            if wanted and hashlib.sha256(content).hexdigest() != wanted:
                raise Refused("the file is not the one that was sent")
            return content
        raise FileGone("the file's address ended")

    async def typing(self, credentials: Mapping[str, str], recipient: str, message_id: str = "") -> None:
        """Mark what the customer wrote as read, and show the sign for up to 25 seconds."""
        if not message_id:
            return
        body = {
            "messaging_product": "whatsapp",
            "status": "read",
            "message_id": message_id,
            "typing_indicator": {"type": "text"},
        }
        with contextlib.suppress(Temporary, Permanent):
            await self._api.call(
                "POST", f"{credentials['phone_number_id']}/messages", credentials["access_token"], body=body
            )

    async def settle(self, credentials: Mapping[str, str], event: Inbound) -> None:
        """Nothing is waited for."""

    def usage(self, credentials: Mapping[str, str]) -> Usage | None:
        """See :class:`services.channels.base.Metered`."""
        return self._api.usage(credentials["access_token"])

    async def inspect(self, credentials: Mapping[str, str], place: Place) -> Inspection:
        """See :class:`services.channels.base.Inspectable`: the number, its token, and whether its messages are delivered here."""
        token = credentials["access_token"]
        number = await self._number(token, place.account)
        about: Mapping[str, Any] = {}
        webhook = ""
        # A token may be good for sending and not for looking after the account: then nothing is known of these.
        with contextlib.suppress(Refused):
            about = _mapping(
                (await self._api.call("GET", "debug_token", token, parameters={"input_token": token})).get("data")
            )
        with contextlib.suppress(Refused, TokenRefused):
            webhook = await self._webhook(token, place, str(about.get("app_id") or ""))
        state = str(number.get("status") or "")
        throughput = _mapping(number.get("throughput")).get("level")
        facts = {name: str(number[name])[:40] for name in _FACTS if isinstance(number.get(name), str)}
        if isinstance(throughput, str):
            facts["throughput"] = throughput[:40]
        return Inspection(
            webhook=webhook,
            token_expires_at=token_end(about) if about else None,
            quality=_QUALITIES.get(str(number.get("quality_rating")), ""),
            blocked=f"the number is {state}" if state in _NUMBER_OFF else "",
            facts=facts,
            used=used.percent if (used := self._api.usage(token)) else None,
        )

    async def _number(self, token: str, account: str) -> Mapping[str, Any]:
        """Return what Meta tells of the number; raises :class:`TokenRefused` where the token does not lead to it any more."""
        fields = ",".join(("quality_rating", *_FACTS))
        for wanted in (fields, "quality_rating"):
            # Another version may not know one of the fields, and then refuses all.
            with contextlib.suppress(Refused):
                return await self._api.call("GET", account, token, parameters={"fields": wanted})
        raise TokenRefused("the token does not lead to this number any more")

    async def _webhook(self, token: str, place: Place, app_id: str) -> str:
        if not place.above:
            return ""
        path = f"{place.above}/subscribed_apps"
        for app in _list((await self._api.call("GET", path, token)).get("data")):
            if app_id and str(_mapping(app.get("whatsapp_business_api_data")).get("id")) != app_id:
                continue
            # An address of this account's own goes before the app's, which Meta does not show here.
            override = str(app.get("override_callback_uri") or "")
            return "foreign" if override not in ("", place.webhook) else "ok"
        if not place.mend:
            return "missing"
        await self._api.call("POST", path, token, body={})
        return "ok"


def _now(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the ids that somebody goes by from now on, empty where none is told. A new number brings a new hiding id."""
    phone, scoped = _digits(content.get("wa_id")), _id(content.get("user_id"))
    now = {"phone": phone, "scoped": scoped if scoped != "-" else ""}
    return now if any(now.values()) else {}


def _written(message: Mapping[str, Any]) -> str:
    """Return the text or the caption of a message as it is after an edit."""
    content = _mapping(message.get(str(message.get("type") or "")))
    return str(content.get("body") or content.get("caption") or "")


_KINDS = {"image": "photo", "audio": "audio", "video": "video", "document": "document", "sticker": "sticker"}


def _files(type_: str, content: Mapping[str, Any]) -> tuple[RemoteFile, ...]:
    """Return the file of a message."""
    kind = "voice" if type_ == "audio" and content.get("voice") is True else _KINDS[type_]
    media_id = _digits(content.get("id"))
    if not media_id:
        return ()
    mime = str(content.get("mime_type") or "").partition(";")[0]
    return (RemoteFile(kind, {"id": media_id}, str(content.get("filename") or ""), mime),)


def _place(content: Mapping[str, Any]) -> tuple[str, dict[str, float]] | None:
    """Return a place in words and as numbers, None for what is none."""
    try:
        latitude, longitude = float(content["latitude"]), float(content["longitude"])
    except (KeyError, TypeError, ValueError):
        return None
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        return None
    named = ", ".join(str(content[key]) for key in ("name", "address") if content.get(key))
    return f"📍 {named or f'{latitude:.6f}, {longitude:.6f}'}", {"latitude": latitude, "longitude": longitude}


def _people(contacts: Any) -> str:
    """Return the cards of people in words."""
    lines = []
    for each in _list(contacts)[:5]:
        name = str(_mapping(each.get("name")).get("formatted_name") or "")
        phones = [str(phone.get("phone") or "") for phone in _list(each.get("phones"))[:3]]
        lines.append("👤 " + ", ".join(filter(None, [name, *phones])))
    return "\n".join(lines)[:1000]


def _content(message: Outgoing) -> dict[str, Any]:
    """Return a message's part of the request: a template, text, up to three buttons, or a list of up to ten."""
    if message.template is not None:
        return {"type": "template", "template": dict(message.template)}
    choices = [button for row in message.buttons for button in row][:_ROWS]
    if not choices:
        return {"type": "text", "text": {"body": message.text, "preview_url": False}}
    body = {"text": message.text}
    if len(choices) <= _BUTTONS and len(message.text) <= _BUTTON_BODY:
        buttons = [
            {"type": "reply", "reply": {"id": each.data, "title": each.text[:_BUTTON_TITLE]}} for each in choices
        ]
        return {"type": "interactive", "interactive": {"type": "button", "body": body, "action": {"buttons": buttons}}}
    rows = [{"id": each.data, "title": each.text[:_ROW_TITLE]} for each in choices]
    action = {"button": message.choose[:_BUTTON_TITLE] or "…", "sections": [{"rows": rows}]}
    return {"type": "interactive", "interactive": {"type": "list", "body": body, "action": action}}
