"""The fake Bot API server against aiogram: what other tests rely on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    TelegramBadRequest,
    TelegramConflictError,
    TelegramForbiddenError,
    TelegramMigrateToChat,
    TelegramNetworkError,
    TelegramRetryAfter,
    TelegramServerError,
    TelegramUnauthorizedError,
)
from aiogram.methods import DeleteWebhook, SetWebhook
from aiogram.types import (
    BotCommand,
    BufferedInputFile,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    KeyboardButton,
    ReplyKeyboardMarkup,
    Update,
)
from aiohttp import web

from tests.fakes.telegram import FakeBot, FakeTelegram
from tests.fakes.telegram_format import ApiError, Json, parse_text
from tests.fakes.telegram_load import Load, Plan

PAYLOADS = Path(__file__).resolve().parent.parent / "payloads"
TOKEN = "7700000001:TEST_token_not_real_AAAAAAAAAAAAAAAA"


@pytest.fixture
def shop(telegram: FakeTelegram) -> FakeBot:
    return telegram.add_bot(TOKEN, "dokon_bot", name="Do‘kon")


@pytest.fixture
async def bot(telegram: FakeTelegram, shop: FakeBot) -> AsyncIterator[Bot]:
    session = AiohttpSession(api=TelegramAPIServer.from_base(telegram.base_url))
    async with Bot(shop.token, session=session) as client:
        yield client


def keyboard(data: str) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text="O‘zbekcha", callback_data=data)]])


async def test_a_dialog_by_polling(telegram: FakeTelegram, shop: FakeBot, bot: Bot) -> None:
    aziza = telegram.user(900000101, "uz")
    assert (await bot.get_me()).username == "dokon_bot"
    aziza.start(shop, "ref_7")
    (update,) = await bot.get_updates(timeout=5)
    assert update.message is not None and update.message.text == "/start ref_7"
    assert update.message.entities is not None and update.message.entities[0].length == 6

    await bot.send_message(aziza.id, "Tilni tanlang", reply_markup=keyboard("lang:uz"))
    question = await telegram.wait_message(aziza.id, "Tilni")
    press = aziza.press(question, "O‘zbekcha")
    (update,) = await bot.get_updates(offset=update.update_id + 1, timeout=5)
    assert update.callback_query is not None and update.callback_query.data == "lang:uz"
    await bot.answer_callback_query(update.callback_query.id, "Tayyor")
    assert press.answered and press.text == "Tayyor"

    await bot.edit_message_text("Assalomu alaykum!", chat_id=aziza.id, message_id=question.message_id)
    assert (await telegram.wait_edit(question)).text == "Assalomu alaykum!" and question.markup is None
    with pytest.raises(TelegramBadRequest, match="message is not modified"):
        await bot.edit_message_text("Assalomu alaykum!", chat_id=aziza.id, message_id=question.message_id)
    await bot.delete_message(aziza.id, question.message_id)
    with pytest.raises(TelegramBadRequest, match="message to edit not found"):
        await bot.edit_message_text("?", chat_id=aziza.id, message_id=question.message_id)


async def test_every_kind_of_update_is_one_that_aiogram_reads(telegram: FakeTelegram, shop: FakeBot, bot: Bot) -> None:
    aziza = telegram.user(900000101)
    factory = telegram.add_bot("7700000002:AAAA", can_manage_bots=True)
    message = aziza.send(shop, "Salom 😀 /help")
    aziza.edit(shop, message, "Salom!")
    aziza.share_contact(shop)
    aziza.share_contact(shop, own=False)
    aziza.send_document(shop, "narx.pdf", b"%PDF-1.7", caption="Narxlar")
    aziza.send_photo(shop)
    aziza.send_voice(shop)
    aziza.send_sticker(shop)
    aziza.send_location(shop)
    sent = telegram.deliver(shop, "sendMessage", {"chat_id": aziza.id}, {"text": "?"}, "?")
    aziza.press(shop.messages[aziza.id, sent["message_id"]], "old:1", stale=True)
    aziza.stop_draft(shop, 5)
    aziza.block(shop)
    aziza.unblock(shop)
    assert shop.push("message_reaction", {}) is None, "not among the kinds given by default"
    managed = aziza.create_managed_bot(factory, "Gul", "gul_bot")
    given = [*shop.pending.values(), *factory.pending.values()]
    updates = [Update.model_validate(update) for update in given]
    assert [next(iter(set(update.model_fields_set) - {"update_id"})) for update in updates] == [
        "message",
        "edited_message",
        *["message"] * 7,
        "callback_query",
        "stopped_message_generation",
        "my_chat_member",
        "my_chat_member",
        "managed_bot",
        "message",
    ]
    assert await Bot(factory.token, session=bot.session).get_managed_bot_token(managed.id) == managed.token
    with pytest.raises(TelegramBadRequest):
        await bot.get_managed_bot_token(managed.id)


async def test_polling_confirms_by_offset_and_has_one_consumer(telegram: FakeTelegram, shop: FakeBot, bot: Bot) -> None:
    aziza = telegram.user(900000101)
    for number in range(5):
        aziza.send(shop, str(number))
    first = await bot.get_updates(limit=2)
    assert [update.message and update.message.text for update in first] == ["0", "1"]
    again = await bot.get_updates(offset=first[0].update_id + 1)
    assert [update.message and update.message.text for update in again] == ["1", "2", "3", "4"]
    assert await bot.get_updates(offset=again[-1].update_id + 1) == []

    waiting = asyncio.ensure_future(bot.get_updates(timeout=30))
    await telegram.wait_until(lambda: shop.polled)
    second = asyncio.ensure_future(bot.get_updates(timeout=30))
    with pytest.raises(TelegramConflictError, match="terminated by other getUpdates"):
        await waiting
    await telegram.wait_until(lambda: shop.polled)
    aziza.send(shop, "5")
    assert len(await second) == 1
    await bot(SetWebhook(url="https://bots.example.uz/hook"))
    with pytest.raises(TelegramConflictError, match="webhook is active"):
        await bot.get_updates()


async def test_webhooks_are_repeated_until_taken_and_keep_the_order_of_a_chat(
    telegram: FakeTelegram, shop: FakeBot, bot: Bot
) -> None:
    took: list[tuple[int, str]] = []
    refusals = iter([503, 500])

    async def receive(request: web.Request) -> web.Response:
        assert request.headers["X-Telegram-Bot-Api-Secret-Token"] == "s3cret"
        status = next(refusals, 200)
        if status == 200:
            update = Update.model_validate(await request.json())
            assert update.message is not None and update.message.text is not None
            took.append((update.message.chat.id, update.message.text))
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    telegram.route("https://bots.example.uz", f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        people = [telegram.user(900000101 + number) for number in range(3)]
        people[0].send(shop, "0")
        await bot.set_webhook("https://bots.example.uz/hook", secret_token="s3cret", allowed_updates=["message"])
        for number in range(1, 5):
            for person in people:
                person.send(shop, str(number))
        await telegram.wait_delivered(shop)
        assert [text for chat, text in took if chat == people[0].id] == ["0", "1", "2", "3", "4"]
        assert shop.webhook_posts == {200: 13, 503: 1, 500: 1}
        info = await bot.get_webhook_info()
        assert info.pending_update_count == 0 and info.last_error_message
        assert info.allowed_updates == ["message"]
        with pytest.raises(TelegramBadRequest, match="HTTPS"):
            await bot.set_webhook("http://bots.example.uz/hook")
    finally:
        await runner.cleanup()
    people[0].send(shop, "while it is down")
    await telegram.wait_until(lambda: shop.webhook_posts[0])
    await bot(DeleteWebhook())
    assert len(await bot.get_updates()) == 1


async def test_files_go_both_ways(telegram: FakeTelegram, shop: FakeBot, bot: Bot) -> None:
    aziza = telegram.user(900000101)
    document = aziza.send_document(shop, "narx.pdf", b"%PDF-1.7 ...")["document"]
    stored = await bot.get_file(document["file_id"])
    assert stored.file_path is not None
    content = await bot.download_file(stored.file_path)
    assert content is not None and content.read() == b"%PDF-1.7 ..."
    huge = aziza.send_document(shop, "film.pdf", b"", size=30_000_000)["document"]
    with pytest.raises(TelegramBadRequest, match="file is too big"):
        await bot.get_file(huge["file_id"])
    await bot.send_document(aziza.id, BufferedInputFile(b"a,b\n", "hisobot.csv"), caption="Hisobot")
    sent = await telegram.wait_message(aziza.id)
    assert sent.file is not None and (sent.file.name, sent.file.content) == ("hisobot.csv", b"a,b\n")
    await bot.send_photo(aziza.id, BufferedInputFile(b"\xff\xd8", "qr.jpg"))
    async with aiohttp.ClientSession() as client:
        other = telegram.add_bot("7700000002:AAAA")
        response = await client.get(f"{telegram.base_url}/file/bot{other.token}/{stored.file_path}")
        assert response.status == 404


async def test_json_form_and_query_mean_the_same(telegram: FakeTelegram, shop: FakeBot) -> None:
    aziza = telegram.user(900000101)
    aziza.start(shop)
    markup = {"inline_keyboard": [[{"text": "1", "callback_data": "a"}]]}
    text: dict[str, str] = {"chat_id": str(aziza.id), "text": "Salom"}
    url = f"{telegram.base_url}/bot{TOKEN}/sendMessage"
    async with aiohttp.ClientSession() as client:
        await client.post(url, json={**text, "reply_markup": markup})
        await client.post(url, data={**text, "reply_markup": json.dumps(markup)})
        await client.get(url, params={**text, "reply_markup": json.dumps(markup)})
        multipart = aiohttp.FormData(default_to_multipart=True)
        for name, value in {**text, "reply_markup": json.dumps(markup)}.items():
            multipart.add_field(name, value)
        await client.post(url, data=multipart)
    messages = telegram.messages(aziza.id)
    assert [(sent.text, sent.markup) for sent in messages] == [("Salom", markup)] * 4


@pytest.mark.parametrize(
    ("problem", "text", "data"),
    [
        ("message is too long", "😀" * 2049, "ok"),
        ("message text is empty", " \n", "ok"),
        ("BUTTON_DATA_INVALID", "Salom", "ў" * 33),
    ],
)
async def test_limits_are_enforced(
    telegram: FakeTelegram, shop: FakeBot, bot: Bot, problem: str, text: str, data: str
) -> None:
    telegram.user(900000101).start(shop)
    with pytest.raises(TelegramBadRequest, match=problem):
        await bot.send_message(
            900000101,
            text,
            reply_markup=InlineKeyboardMarkup.model_construct(
                inline_keyboard=[[InlineKeyboardButton.model_construct(text="x", callback_data=data)]]
            ),
        )
    await bot.send_message(900000101, "😀" * 2048, reply_markup=keyboard("ў" * 32))


async def test_buttons_and_commands_that_telegram_refuses(telegram: FakeTelegram, shop: FakeBot, bot: Bot) -> None:
    telegram.user(900000101).start(shop)
    contact = ReplyKeyboardMarkup(keyboard=[[KeyboardButton(text="Raqam", request_contact=True)]])
    await bot.send_message(900000101, "Raqamingiz?", reply_markup=contact)
    keys = await telegram.wait_message(900000101)
    assert telegram.user(900000101).press_key(keys, "Raqam")["contact"]["user_id"] == 900000101
    local = InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text="Panel", url="http://localhost:8080/x")]])
    with pytest.raises(TelegramBadRequest, match="Wrong HTTP URL"):
        await bot.send_message(900000101, "Panel", reply_markup=local)
    commands = [BotCommand(command="start", description="Boshlash")]
    await bot.set_my_commands(commands, language_code="uz")
    assert [command.command for command in await bot.get_my_commands(language_code="uz")] == ["start"]
    assert await bot.get_my_commands() == []
    with pytest.raises(TelegramBadRequest):
        await bot.set_my_commands(commands, language_code="uz-Cyrl")


@pytest.mark.parametrize(
    ("text", "mode"), [("2 < 3", "HTML"), ("<b>x", "HTML"), ("Narx 5.000", "MarkdownV2"), ("*narx", "Markdown")]
)
def test_broken_markup_is_refused(text: str, mode: str) -> None:
    with pytest.raises(ApiError, match="can't parse entities"):
        parse_text(text, mode)


def test_markup_is_taken_out() -> None:
    assert parse_text("<b>A</b> &lt; 😀<i>B</i>", "HTML")[0] == "A < 😀B"
    plain, entities = parse_text("*A* 5\\.0 [x](https://a.uz)", "MarkdownV2")
    assert plain == "A 5.0 x" and [entity["type"] for entity in entities] == ["bold", "text_link"]


async def test_recipients_who_cannot_be_reached(telegram: FakeTelegram, shop: FakeBot, bot: Bot) -> None:
    aziza = telegram.user(900000101)
    with pytest.raises(TelegramForbiddenError, match="can't initiate"):
        await bot.send_message(aziza.id, "Salom")
    with pytest.raises(TelegramBadRequest, match="chat not found"):
        await bot.send_message(900000999, "Salom")
    aziza.start(shop)
    aziza.block(shop)
    with pytest.raises(TelegramForbiddenError, match="blocked"):
        await bot.send_message(aziza.id, "Salom")
    aziza.unblock(shop)
    await bot.send_message(aziza.id, "Salom")
    aziza.deactivated = True
    with pytest.raises(TelegramForbiddenError, match="deactivated"):
        await bot.send_message(aziza.id, "Salom")
    group = telegram.group(-500, "Oila")
    aziza.send(shop, "/start", group=group)
    group.migrate(shop, -100500)
    with pytest.raises(TelegramMigrateToChat) as moved:
        await bot.send_message(-500, "Salom")
    assert moved.value.migrate_to_chat_id == -100500
    await bot.send_message(-100500, "Salom")


async def test_faults_touch_only_what_they_name(telegram: FakeTelegram, shop: FakeBot, bot: Bot) -> None:
    other = telegram.add_bot("7700000002:AAAA")
    other_bot = Bot(other.token, session=bot.session)
    aziza = telegram.user(900000101)
    aziza.start(shop)
    aziza.start(other)
    telegram.fail(429, retry_after=7, bot=shop, method="sendMessage")
    with pytest.raises(TelegramRetryAfter) as refused:
        await bot.send_message(aziza.id, "Salom")
    assert refused.value.retry_after == 7
    await bot.send_message(aziza.id, "after the one fault")
    telegram.fail(502, bot=shop, times=None)
    with pytest.raises(TelegramServerError):
        await bot.get_me()
    await other_bot.send_message(aziza.id, "others go on")
    telegram.clear_faults()
    shop.revoke()
    with pytest.raises(TelegramUnauthorizedError):
        await bot.get_me()
    await other_bot.get_me()


async def test_a_cut_before_and_after_the_effect(telegram: FakeTelegram, shop: FakeBot, bot: Bot) -> None:
    aziza = telegram.user(900000101)
    aziza.start(shop)
    telegram.cut("before")
    with pytest.raises(TelegramNetworkError):
        await bot.send_message(aziza.id, "before")
    telegram.cut("after")
    with pytest.raises(TelegramNetworkError):
        await bot.send_message(aziza.id, "after")
    telegram.slow(5, after=True, times=1)
    with pytest.raises(TelegramNetworkError):
        await bot.send_message(aziza.id, "late", request_timeout=1)
    assert [sent.text for sent in telegram.messages(aziza.id)] == ["after", "late"]


async def test_a_held_request_has_no_effect_until_it_is_released(
    telegram: FakeTelegram, shop: FakeBot, bot: Bot
) -> None:
    aziza = telegram.user(900000101)
    aziza.start(shop)
    held = telegram.hold()
    sending = asyncio.ensure_future(bot.send_message(aziza.id, "Salom"))
    await held.reached.wait()
    assert telegram.messages(aziza.id) == []
    held.release()
    assert (await sending).text == "Salom"


VECTORS = [
    case
    for case in json.loads((PAYLOADS / "outgoing_errors.json").read_text())["cases"]
    if case["channel"] == "telegram"
]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: str(case["id"]))
async def test_recorded_errors_are_given_literally(telegram: FakeTelegram, shop: FakeBot, case: Json) -> None:
    telegram.answer_with(case["http"], case["body"], bot=shop, method="sendMessage")
    async with aiohttp.ClientSession() as client:
        answer = await client.post(f"{telegram.base_url}/bot{TOKEN}/sendMessage", json={"chat_id": 1, "text": "x"})
        assert (answer.status, await answer.json()) == (case["http"], case["body"])
        unknown = await client.get(f"{telegram.base_url}/bot7700000009:AAAA/getMe")
        malformed = await client.get(f"{telegram.base_url}/botnonsense/getMe")
        assert (unknown.status, malformed.status) == (401, 404)


async def test_pace_is_enforced_when_asked(shop: FakeBot, telegram: FakeTelegram, bot: Bot) -> None:
    telegram.per_chat = 1
    telegram.user(900000101).start(shop)
    telegram.user(900000102).start(shop)
    await bot.send_message(900000101, "1")
    with pytest.raises(TelegramRetryAfter):
        await bot.send_message(900000101, "2")
    await bot.send_message(900000102, "another chat")
    assert telegram.violations == 1


async def test_load_measures_every_message(telegram: FakeTelegram, shop: FakeBot) -> None:
    telegram.strict_chats = False

    async def answer(request: web.Request) -> web.Response:
        message = (await request.json())["message"]
        telegram.deliver(shop, "sendMessage", {"chat_id": message["chat"]["id"]}, {"text": "!"}, "!")
        return web.Response()

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    shop.set_webhook({"url": f"http://127.0.0.1:{runner.addresses[0][1]}/"})
    try:
        result = await Load(telegram, Plan(total=40, chats=4)).run()
    finally:
        await runner.cleanup()
    assert (result["sent"], result["answered"], result["unanswered"]) == (40, 40, 0)
    assert result["latency_ms"]["p50"] > 0 and result["acks"] == {200: 40}
