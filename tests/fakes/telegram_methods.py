"""The methods of the fake Bot API server, and the ways in which their parameters come."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import BodyPartReader, web

from tests.fakes.telegram_bots import Edit, FakeBot, Sent
from tests.fakes.telegram_format import (
    MAX_CAPTION,
    MAX_TEXT,
    ApiError,
    Json,
    bad,
    checked_markup,
    checked_text,
    flag,
    integer,
    parse_text,
    units,
)

if TYPE_CHECKING:
    from tests.fakes.telegram import FakeTelegram
    from tests.fakes.telegram_people import FakeGroup

MAX_DOWNLOAD_BYTES = 20 * 1024 * 1024
MAX_UPLOAD_BYTES = 50 * 1024 * 1024
MAX_PHOTO_BYTES = 10 * 1024 * 1024
CHAT_ACTIONS = {"typing", "choose_sticker", "find_location"} | {
    f"{doing}_{what}"
    for doing, kinds in (("upload", "photo video voice document video_note"), ("record", "video voice video_note"))
    for what in kinds.split()
}
_JSON_FIELDS = {
    *("reply_markup", "entities", "caption_entities", "allowed_updates", "commands", "scope", "reply_parameters"),
    *("link_preview_options", "menu_button", "message_ids", "media"),
}


@dataclass(slots=True)
class Upload:
    """A file part of a multipart request."""

    name: str
    mime_type: str
    content: bytes


async def read_request(request: web.Request) -> tuple[Json, dict[str, Upload]]:
    """Return the parameters of a request in any of the forms that Telegram takes, and its files."""
    params: Json = dict(request.query)
    files: dict[str, Upload] = {}
    kind = request.content_type
    if kind == "application/json":
        try:
            body = json.loads(await request.read() or b"{}")
        except ValueError:
            raise bad("can't parse JSON request") from None
        if not isinstance(body, dict):
            raise bad("can't parse JSON request")
        params |= body
    elif kind == "multipart/form-data":
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name is None:
                continue
            if part.filename is not None:
                content = bytes(await part.read())
                if len(content) > MAX_UPLOAD_BYTES:
                    raise ApiError(413, "Request Entity Too Large")
                files[part.name] = Upload(part.filename, part.headers.get("Content-Type", ""), content)
            else:
                params[part.name] = await part.text()
    elif request.can_read_body:
        params |= dict(await request.post())
    for name in _JSON_FIELDS & params.keys():
        if isinstance(params[name], str):
            try:
                params[name] = json.loads(params[name])
            except ValueError:
                raise bad(f"can't parse {name.replace('_', ' ')} JSON object") from None
    return params, files


Files = dict[str, Upload]
Method = Callable[..., Any]
METHODS: dict[str, Method] = {}


def _method(*names: str) -> Callable[[Method], Method]:
    def register(function: Method) -> Method:
        for name in names:
            METHODS[name.lower()] = function
        return function

    return register


@_method("getMe")
def _get_me(_fake: FakeTelegram, bot: FakeBot, _params: Json, _files: Files) -> Json:
    return {
        **bot.user(),
        "can_join_groups": True,
        "can_read_all_group_messages": False,
        "supports_inline_queries": False,
        "has_main_web_app": False,
        "can_connect_to_business": False,
        **bot.abilities,
    }


@_method("getUpdates")
async def _get_updates(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> list[Json]:
    return await bot.get_updates(params)


@_method("setWebhook")
def _set_webhook(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> tuple[bool, str]:
    return True, bot.set_webhook(params)


@_method("deleteWebhook")
def _delete_webhook(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> tuple[bool, str]:
    return True, bot.delete_webhook(params)


@_method("getWebhookInfo")
def _get_webhook_info(_fake: FakeTelegram, bot: FakeBot, _params: Json, _files: Files) -> Json:
    return bot.webhook_info()


@_method("close")
def _close(_fake: FakeTelegram, _bot: FakeBot, _params: Json, _files: Files) -> bool:
    return True


@_method("logOut")
def _log_out(_fake: FakeTelegram, bot: FakeBot, _params: Json, _files: Files) -> bool:
    bot.logged_out = True
    return True


@_method("sendMessage")
def _send_message(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> Json:
    text, entities = checked_text(params)
    content: Json = {"text": text}
    if entities:
        content["entities"] = entities
    return fake.deliver(bot, "sendMessage", params, content, text)


def _send_file(kind: str, method: str, fake: FakeTelegram, bot: FakeBot, params: Json, files: Files) -> Json:
    caption, entities = checked_text(params, "caption", MAX_CAPTION)
    given = params.get(kind)
    upload = files.get(kind)
    if isinstance(given, str) and given.startswith("attach://"):
        upload = files.get(given.removeprefix("attach://"))
    if upload is not None:
        if not upload.content:
            raise bad("file must be non-empty")
        if kind == "photo" and len(upload.content) > MAX_PHOTO_BYTES:
            raise bad(f"file of size {len(upload.content)} bytes is too big for a photo")
        fake.target(bot, params)
        stored = fake.store(bot, f"{kind}s", upload.name, upload.mime_type, upload.content)
    elif isinstance(given, str) and given in bot.files:
        stored = bot.files[given]
    elif not given:
        raise bad(f"there is no {kind} in the request")
    else:
        raise bad("wrong file identifier/HTTP URL specified")
    wire: Any = {**stored.wire(), "file_name": stored.name, "mime_type": stored.mime_type}
    if kind == "photo":
        wire = [{**stored.wire(), "width": 800, "height": 600}]
    content: Json = {kind: wire}
    if caption:
        content["caption"] = caption
        if entities:
            content["caption_entities"] = entities
    return fake.deliver(bot, method, params, content, caption, stored)


for _kind in ("document", "photo", "video", "audio", "voice", "animation"):
    _name = f"send{_kind.capitalize()}"
    METHODS[_name.lower()] = partial(_send_file, _kind, _name)


def _own_message(bot: FakeBot, params: Json, doing: str) -> Sent:
    try:
        key = int(params["chat_id"]), int(params["message_id"])
    except (KeyError, TypeError, ValueError):
        raise bad("message identifier is not specified") from None
    sent = bot.messages.get(key)
    if sent is None or sent.deleted:
        raise bad(f"message to {doing} not found")
    return sent


def _apply_edit(fake: FakeTelegram, bot: FakeBot, sent: Sent, params: Json, changes: Json, text: str) -> Json:
    chat_id, chat = fake.target(bot, params)
    markup = checked_markup(params.get("reply_markup"), chat["type"] == "private")
    if markup and not markup.get("inline_keyboard"):
        markup = None
    same = all(sent.wire.get(key) == value for key, value in changes.items())
    if same and sent.wire.get("reply_markup") == markup:
        raise bad(
            "message is not modified: specified new message content and reply markup are exactly the same as a current "
            "content and reply markup of the message"
        )
    fake.pace(bot, chat_id, time.monotonic())
    wire = {**sent.wire, **changes, "edit_date": int(time.time())}
    wire.pop("reply_markup", None)
    if markup:
        wire["reply_markup"] = markup
    sent.wire, sent.markup, sent.text = wire, markup, text
    sent.edits.append(Edit(text, markup, time.monotonic()))
    return wire


@_method("editMessageText")
def _edit_text(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> Json:
    text, entities = checked_text(params)
    sent = _own_message(bot, params, "edit")
    if "text" not in sent.wire:
        raise bad("there is no text in the message to edit")
    changes: Json = {"text": text}
    if entities:
        changes["entities"] = entities
    return _apply_edit(fake, bot, sent, params, changes, text)


@_method("editMessageCaption")
def _edit_caption(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> Json:
    caption, _ = checked_text(params, "caption", MAX_CAPTION)
    sent = _own_message(bot, params, "edit")
    return _apply_edit(fake, bot, sent, params, {"caption": caption}, caption)


@_method("editMessageReplyMarkup")
def _edit_markup(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> Json:
    sent = _own_message(bot, params, "edit")
    return _apply_edit(fake, bot, sent, params, {}, sent.text)


@_method("deleteMessage")
def _delete_message(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    _own_message(bot, params, "delete").deleted = True
    return True


@_method("deleteMessages")
def _delete_messages(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    for number in params.get("message_ids") or []:
        sent = bot.messages.get((int(params["chat_id"]), int(number)))
        if sent is not None:
            sent.deleted = True
    return True


@_method("sendChatAction")
def _send_chat_action(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    if params.get("action") not in CHAT_ACTIONS:
        raise bad("wrong parameter action in request")
    chat_id, _ = fake.target(bot, params)
    if fake.record:
        fake.actions.append((bot, chat_id, str(params["action"]), time.monotonic()))
    return True


@_method("answerCallbackQuery")
def _answer_callback(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    press = bot.presses.get(str(params.get("callback_query_id", "")))
    if press is None:
        raise bad("query is too old and response timeout expired or query ID is invalid")
    text = str(params.get("text") or "")
    if units(text) > 200:
        raise bad("MESSAGE_TOO_LONG")
    press.answered, press.text, press.alert = True, text, flag(params, "show_alert")
    return True


@_method("sendMessageDraft")
def _send_draft(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    if integer(params, "draft_id", 0) == 0:
        raise bad("draft identifier must be non-zero")
    chat_id, chat = fake.target(bot, params)
    if chat["type"] != "private":
        raise bad("message drafts can be sent only to private chats")
    text, _ = parse_text(str(params.get("text") or ""), str(params.get("parse_mode") or ""))
    if units(text) > MAX_TEXT:
        raise bad("message is too long")
    bot.drafts.append({**params, "chat_id": chat_id, "text": text, "at": time.monotonic()})
    fake.touch()
    return True


def _audience(params: Json) -> tuple[str, str]:
    scope = params.get("scope") or {"type": "default"}
    language = str(params.get("language_code") or "")
    if language and not re.fullmatch(r"[a-z]{2}", language):
        raise bad("invalid language code specified")
    return json.dumps(scope, sort_keys=True), language


@_method("setMyCommands")
def _set_commands(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    commands = params.get("commands")
    if not isinstance(commands, list) or len(commands) > 100:
        raise bad("can't parse commands list")
    for command in commands:
        if not re.fullmatch(r"[a-z0-9_]{1,32}", str(command.get("command", "")).removeprefix("/")):
            raise bad("BOT_COMMAND_INVALID")
        if not 1 <= len(str(command.get("description", ""))) <= 256:
            raise bad("BOT_COMMAND_DESCRIPTION_INVALID")
    bot.commands[_audience(params)] = commands
    return True


@_method("getMyCommands")
def _get_commands(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> list[Json]:
    return bot.commands.get(_audience(params), [])


@_method("deleteMyCommands")
def _delete_commands(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    bot.commands.pop(_audience(params), None)
    return True


def _set_profile(name: str, limit: int, _fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    text = str(params.get(name) or "")
    if len(text) > limit:
        raise bad(f"{name.replace('_', ' ')} is too long")
    bot.texts[name, _audience(params)[1]] = text
    return True


def _get_profile(name: str, _fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> Json:
    language = _audience(params)[1]
    usual = bot.texts.get((name, ""), bot.name if name == "name" else "")
    return {name: bot.texts.get((name, language), usual)}


for _field, _title, _limit in (
    ("name", "Name", 64),
    ("description", "Description", 512),
    ("short_description", "ShortDescription", 120),
):
    METHODS[f"setmy{_title}".lower()] = partial(_set_profile, _field, _limit)
    METHODS[f"getmy{_title}".lower()] = partial(_get_profile, _field)


@_method("setChatMenuButton")
def _set_menu_button(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    bot.menu_buttons[str(params.get("chat_id", ""))] = params.get("menu_button") or {"type": "default"}
    return True


@_method("getChatMenuButton")
def _get_menu_button(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> Json:
    return bot.menu_buttons.get(str(params.get("chat_id", "")), {"type": "commands"})


@_method("getChat")
def _get_chat(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> Json:
    _, chat = fake.target(bot, params)
    return {**chat, "accent_color_id": 0, "max_reaction_count": 11}


@_method("getFile")
def _get_file(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> Json:
    stored = bot.files.get(str(params.get("file_id", "")))
    if stored is None:
        raise bad("wrong file_id or the file is temporarily unavailable")
    if stored.size > MAX_DOWNLOAD_BYTES:
        raise bad("file is too big")
    return {**stored.wire(), "file_path": stored.path}


def _managed(fake: FakeTelegram, bot: FakeBot, params: Json) -> FakeBot:
    wanted = integer(params, "user_id", 0)
    for other in fake.bots.values():
        if other.id == wanted and other.managed_by is bot and bot.abilities.get("can_manage_bots"):
            return other
    raise bad("managed bot not found")


@_method("getBusinessConnection")
def _get_connection(_fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> Json:
    connection = bot.connections.get(str(params.get("business_connection_id", "")))
    if connection is None:
        raise bad("business connection not found")
    return connection


@_method("getManagedBotToken")
def _get_managed_token(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> str:
    return _managed(fake, bot, params).token


@_method("replaceManagedBotToken")
def _replace_managed_token(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> str:
    other = _managed(fake, bot, params)
    del fake.bots[other.token]
    other.token = f"{other.id}:replaced_{next(fake.numbers)}_AAAAAAAAAAAAAAAAAAAA"
    fake.bots[other.token] = other
    return other.token


@_method("setManagedBotAccessSettings")
def _set_managed_access(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    _managed(fake, bot, params)
    return True


def _forum(fake: FakeTelegram, bot: FakeBot, params: Json) -> FakeGroup:
    """Return the group with topics in which the bot may manage them."""
    chat_id, _ = fake.target(bot, params)
    group = fake.groups.get(chat_id)
    if group is None or not group.forum:
        raise bad("the chat is not a forum")
    if bot.id not in group.managers:
        raise bad("not enough rights to create a topic")
    return group


@_method("createForumTopic")
def _create_topic(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> Json:
    group, name = _forum(fake, bot, params), str(params.get("name") or "")
    if not 1 <= len(name) <= 128:
        raise bad("TOPIC_TITLE_EMPTY")
    thread = group.topic(bot, name)
    fake.touch()
    return {"message_thread_id": thread, "name": name, "icon_color": 7322096}


@_method("editForumTopic")
def _edit_topic(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    group, thread = _forum(fake, bot, params), integer(params, "message_thread_id", 0)
    if thread not in group.topics:
        raise bad("message thread not found")
    created = group.topics[thread]["forum_topic_created"]
    if created["name"] == params.get("name"):
        raise bad("TOPIC_NOT_MODIFIED")
    created["name"] = params.get("name")
    fake.touch()
    return True


@_method("closeForumTopic")
def _close_topic(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    group, thread = _forum(fake, bot, params), integer(params, "message_thread_id", 0)
    if thread not in group.topics:
        raise bad("message thread not found")
    if thread in group.closed:
        raise bad("TOPIC_NOT_MODIFIED")
    group.closed.add(thread)
    fake.touch()
    return True


@_method("setMessageReaction")
def _react(fake: FakeTelegram, bot: FakeBot, params: Json, _files: Files) -> bool:
    chat_id, _ = fake.target(bot, params)
    number = integer(params, "message_id", 0)
    if not number:
        raise bad("message to react not found")
    bot.reactions.append((chat_id, number, str(params.get("reaction"))))
    fake.touch()
    return True
