"""A Telegram group with topics as an inbox: each conversation a topic, each operator's message on its way to the customer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from db import models
from services import accounts, forum, jobs, notices
from services.conversations.joining import CLOSE_TOPIC_JOB
from tests.conveyor.harness import until
from tests.fakes.telegram import FakeBot, FakeUser
from tests.fakes.telegram_people import FakeGroup
from tests.handlers.conftest import TENANT, Person, Product, Start
from tests.services.test_pictures import encoded

QUICK = {"telegram": {"chat_messages_per_second": 1000, "group_messages_per_minute": 60_000}}
GROUP = -1_001_234_567_890


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the groups be brought up to date at once."""
    monkeypatch.setattr(forum, "LOOK_EVERY_S", 0.1)


class Desk:
    """An owner with a bot on Telegram, a group that is its inbox, and a customer."""

    def __init__(self, product: Product, owner: Person, group: FakeGroup, tenant: FakeBot, bot: models.Bot) -> None:
        self.product, self.owner, self.group, self.tenant, self.bot = product, owner, group, tenant, bot
        self.customer = product.fake.user(910_500_001, "uz", first_name="Sardor")

    async def one(self, query: Any) -> Any:
        async with self.product.core.db.read() as session:
            return await session.scalar(query)

    async def holds(self, query: Any, words: str) -> None:
        """Wait until the only value of a query contains these words."""

        async def look() -> bool:
            return words in str(await self.one(query))

        await self.until(look)

    async def until(self, look: Callable[[], Awaitable[Any]]) -> Any:
        return await until(look, 20)

    async def thread(self, wanted: str = "Sardor") -> int:
        """Wait for the topic whose name contains this."""
        await self.product.fake.wait_until(lambda: self.group.named(wanted) is not None)
        found = self.group.named(wanted)
        assert found is not None
        return found

    async def shown(self, words: str) -> str:
        """Wait until the group is shown these words."""
        sent = await self.product.fake.wait_message(self.group.id, words, bot=self.product.factory)
        return str(sent.text)

    def writes(self, user: FakeUser, thread: int, text: str) -> dict[str, Any]:
        """Let somebody write in a topic."""
        return user.send(self.product.factory, text, group=self.group, thread=thread)

    async def gets(self, words: str) -> str:
        """Wait until the customer gets these words."""
        sent = await self.product.fake.wait_message(self.customer.id, words, bot=self.tenant)
        return str(sent.text)

    async def settled(self) -> None:
        """Wait until the factory bot has handled everything."""
        await self.product.fake.wait_delivered(self.product.factory)
        waiting = select(func.count()).select_from(models.InboxItem).where(models.InboxItem.status == "new")

        async def done() -> bool:
            return bool(await self.one(waiting) == 0)

        await self.until(done)

    async def talk(self) -> models.Conversation:
        found: models.Conversation = await self.one(select(models.Conversation))
        return found


async def _desk(product: Product, number: int = 900_000_501) -> Desk:
    tenant = product.fake.bots.get(TENANT) or product.fake.add_bot(TENANT, "tenant_bot")
    owner = await product.owner(number, "en")
    bot = await product.make_bot(owner, token=TENANT)
    await product.fake.wait_call("getUpdates", bot=tenant)
    group = product.fake.group(GROUP, "Operatorlar")
    group.forum = True
    group.add(product.factory, owner.user, status="administrator", manages=True)
    question = await product.fake.wait_message(GROUP, "Whose conversations", bot=product.factory)
    owner.user.press(question, bot.name)
    await product.fake.wait_message(GROUP, "This group is now an inbox", bot=product.factory)
    return Desk(product, owner, group, tenant, bot)


async def test_a_conversation_is_a_topic_and_an_operator_answers_in_it(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "Kosmik raketalar bormi?")
        thread = await desk.thread()
        # In one message, or the answer in the next.
        if "🤖" not in await desk.shown("👤 Kosmik raketalar bormi?"):
            await desk.shown("🤖")
        # The bot had no answer: the topic says that somebody waits, and then that they ask for a person.
        await desk.thread("❓ Sardor · Telegram")
        desk.customer.send(desk.tenant, "/operator")
        await desk.thread("🔔 Sardor · Telegram")
        message = desk.writes(desk.owner.user, thread, "Salom, raketalar ertaga keladi")
        await desk.gets("raketalar ertaga keladi")
        await product.fake.wait_until(
            lambda: (GROUP, message["message_id"]) in [mark[:2] for mark in product.factory.reactions]
        )
        await desk.thread("👤 Sardor · Telegram")
        talk = await desk.talk()
        owner = await product.account(desk.owner)
        assert talk.status == "human" and talk.assignee_id == owner.id
        written = await desk.one(select(models.Message).where(models.Message.author == "operator"))
        assert written.author_id == owner.id
        # What was written there is not shown there again, what the customer answers is.
        desk.customer.send(desk.tenant, "Rahmat, kutaman")
        await desk.shown("Rahmat, kutaman")
        assert not [sent for sent in product.fake.messages(GROUP) if "ertaga keladi" in sent.text]


async def test_notes_and_commands_never_reach_the_customer(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        thread = await desk.thread()
        before = len(product.fake.messages(desk.customer.id, desk.tenant))
        desk.writes(desk.owner.user, thread, "/ pul qaytarishni so‘rayapti")
        desk.writes(desk.owner.user, thread, "/note VIP mijoz")
        desk.writes(desk.owner.user, thread, "/take")
        desk.writes(desk.owner.user, thread, "/assign Aziza")
        await desk.settled()
        async with product.core.db.read() as session:
            notes = [note.text for note in await session.scalars(select(models.Note).order_by(models.Note.id))]
        assert notes == ["pul qaytarishni so‘rayapti", "VIP mijoz"]
        talk = await desk.talk()
        assert (talk.status, talk.assignee_id) == ("human", (await product.account(desk.owner)).id)
        desk.writes(desk.owner.user, thread, "/assign Nobody")
        await desk.shown("no single operator")
        desk.writes(desk.owner.user, thread, "/close")
        await desk.thread("✅ Sardor")
        assert len(product.fake.messages(desk.customer.id, desk.tenant)) == before
        desk.writes(desk.owner.user, thread, "/take")
        desk.writes(desk.owner.user, thread, "/bot")
        await desk.gets("Yana men javob beraman")


async def test_rights_are_asked_for_each_message(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        thread = await desk.thread()
        colleague = await product.owner(900_000_502, "en", "Malika")
        account, owner = await product.account(colleague), await product.account(desk.owner)
        stranger = product.fake.user(900_000_503, "en", first_name="Begona")
        desk.writes(stranger, thread, "Men begonaman")
        await desk.shown("not one of this business’s operators")
        desk.writes(colleague.user, thread, "Men hali operator emasman")
        await desk.settled()
        async with product.core.db.write() as session:
            session.add(models.Member(owner_id=owner.id, user_id=account.id, role="operator"))
        hello = desk.writes(colleague.user, thread, "Salom, men Malika")
        await desk.gets("Salom, men Malika")
        async with product.core.db.write() as session:
            await accounts.ban(session, await session.get_one(models.User, account.id))
        desk.writes(colleague.user, thread, "Meni to‘sib qo‘yishdi")
        await desk.settled()
        async with product.core.db.write() as session:
            (await session.get_one(models.User, account.id)).banned_at = None
            await session.delete(await session.scalar(select(models.Member)))
        desk.writes(colleague.user, thread, "Endi ishlamayman")
        colleague.user.edit(product.factory, hello, "Salom, ishlamayman")
        await desk.settled()
        assert not product.fake.called("editMessageText", desk.tenant)
        desk.group.anonymous(product.factory, text="Maskali", **desk.group.within(thread))
        await desk.shown("Remain anonymous")
        said = [sent.text for sent in product.fake.messages(desk.customer.id, desk.tenant)]
        assert not [text for text in said if any(w in text for w in ("begona", "emasman", "to‘sib", "ishlamayman"))]
        assert "Maskali" not in "".join(said)


async def test_edits_go_through_in_both_directions(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        question = desk.customer.send(desk.tenant, "/operator")
        thread = await desk.thread()
        written = desk.writes(desk.owner.user, thread, "Narxi 100 ming")
        await desk.gets("Narxi 100 ming")
        desk.owner.user.edit(product.factory, written, "Narxi 200 ming")
        sent = next(one for one in product.fake.messages(desk.customer.id, desk.tenant) if "Narxi" in one.text)
        await product.fake.wait_edit(sent, "Narxi 200 ming")
        message = await desk.one(select(models.Message).where(models.Message.author == "operator"))
        assert message.text == "Narxi 200 ming" and message.edited_at is not None
        question = desk.customer.send(desk.tenant, "Chilonzorga yetkazasizmi?")
        await desk.shown("Chilonzorga yetkazasizmi?")
        desk.customer.edit(desk.tenant, question, "Yunusobodga yetkazasizmi?")
        assert (await desk.shown("Yunusobodga")).startswith("✏️")


async def test_only_who_may_connects_a_group_and_another_owner_cannot_take_it(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        other = await product.owner(900_000_504, "en", "Boshqa")
        await product.make_bot(other, "Boshqa bot")
        foreign = product.fake.group(GROUP - 1, "Boshqa guruh")
        foreign.forum = True
        foreign.add(product.factory, other.user, status="administrator", manages=True)
        question = await product.fake.wait_message(foreign.id, "Whose conversations", bot=product.factory)
        press = desk.owner.user.press(question, "Boshqa bot")
        await product.fake.wait_until(lambda: press.answered)
        assert press.alert and "Only the owner" in (press.text or "")
        # The button of another group, pressed by a changed client where one's own group is.
        stolen = other.user.press(question, f"g1:{desk.bot.id}", stale=True)
        await product.fake.wait_until(lambda: stolen.answered)
        assert stolen.alert
        assert await desk.one(select(func.count()).select_from(models.ForumGroup)) == 1
        # No rights yet, and no bot yet.
        third = product.fake.group(GROUP - 2, "Huquqsiz")
        third.forum = True
        third.add(product.factory, other.user)
        await product.fake.wait_message(third.id, "Make me an administrator", bot=product.factory)
        nobody = product.fake.user(900_000_505, "en", first_name="Yangi")
        fourth = product.fake.group(GROUP - 3, "Botsiz")
        fourth.forum = True
        fourth.add(product.factory, nobody, status="administrator", manages=True)
        await product.fake.wait_message(fourth.id, "Make your first bot", bot=product.factory)


async def test_a_group_that_is_lost_is_told_and_works_again(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        await desk.thread()
        desk.group.managers.clear()
        second = product.fake.user(910_500_002, "uz", first_name="Dilshod")
        second.send(desk.tenant, "/operator")
        notice = select(models.Notice).where(models.Notice.kind == "forum_lost")
        told = await desk.until(lambda: desk.one(notice))
        assert "no longer works as an inbox" in notices.text(told, "en")
        status = await desk.one(select(models.ForumGroup.status))
        assert status == "lost" and desk.group.named("Dilshod") is None
        desk.group.add(product.factory, desk.owner.user, status="administrator", old="administrator", manages=True)
        question = await product.fake.wait_message(
            GROUP, lambda sent: "Whose" in sent.text and sent.markup, bot=product.factory
        )
        assert question.buttons


async def test_a_topic_that_was_deleted_comes_again_with_the_next_message(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        first = await desk.thread()
        del desk.group.topics[first]
        desk.customer.send(desk.tenant, "Yana men")
        await product.fake.wait_until(lambda: desk.group.named("Sardor") not in (None, first))
        await desk.shown("Yana men")


async def test_after_a_restart_nothing_is_shown_twice_and_nothing_is_missing(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "Birinchi savol bormi?")
        await desk.thread()
        await desk.shown("Birinchi savol")
    desk.customer.send(desk.tenant, "Ikkinchi savol bormi?")
    async with start(overrides=QUICK) as product:
        await product.fake.wait_message(GROUP, "Ikkinchi savol", bot=product.factory)
        texts = [sent.text for sent in product.fake.messages(GROUP)]
        assert sum("Birinchi savol" in text for text in texts) == 1
        assert len(desk.group.topics) == 1


async def test_what_the_network_does_not_take_is_said_in_the_topic(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        thread = await desk.thread()
        desk.writes(desk.owner.user, thread, "x" * 4096)
        await desk.gets("xxxx")
        dice = {"emoji": "🎲", "value": 3}
        desk.owner.user.message(product.factory, desk.group, dice=dice, **desk.group.within(thread))
        await desk.shown("I cannot pass this on")


async def test_a_customers_picture_is_shown_in_the_topic(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        thread = await desk.thread()
        desk.customer.send_photo(desk.tenant, encoded(), caption="Shu modelmi?")
        await desk.shown("Shu modelmi?")
        sent = await product.fake.wait_message(GROUP, lambda found: found.method == "sendPhoto", bot=product.factory)
        assert sent.params["message_thread_id"] == str(thread)
        assert sent.file is not None and sent.file.content.startswith(b"\xff\xd8")


def _sends(
    desk: Desk, thread: int, kind: str, content: bytes, name: str, caption: str = "", size: int = 0
) -> dict[str, Any]:
    """Let the owner send a file to a topic."""
    factory = desk.product.factory
    stored = desk.product.fake.store(factory, f"{kind}s", name, "application/octet-stream", content, size or None)
    wire: Any = {**stored.wire(), "file_name": name}
    if kind == "photo":
        wire = [{**stored.wire(), "width": 90, "height": 60}, {**stored.wire(), "width": 800, "height": 600}]
    if kind == "voice":
        wire = {**stored.wire(), "duration": 3}
    if kind == "video":
        wire |= {"duration": 3, "width": 640, "height": 360}
    more = {"caption": caption} if caption else {}
    return desk.owner.user.message(factory, desk.group, **{kind: wire}, **more, **desk.group.within(thread))


async def test_an_operators_files_go_to_the_customer_once(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        thread = await desk.thread()
        # Telegram is away for a moment: the picture is fetched at the next try.
        product.fake.fail(502, "Bad Gateway", method="getFile", times=1)
        picture = _sends(desk, thread, "photo", encoded("PNG"), "x.png", "Mana shu model")
        sent = await product.fake.wait_message(desk.customer.id, "Mana shu model", bot=desk.tenant, timeout=30)
        assert sent.method == "sendPhoto" and sent.file is not None and sent.file.content.startswith(b"\xff\xd8\xff")
        _sends(desk, thread, "document", b"%PDF-1.4 narxlar", "narxlar.pdf")
        document = await product.fake.wait_message(
            desk.customer.id, lambda one: one.method == "sendDocument", bot=desk.tenant
        )
        assert document.file is not None and (document.file.name, document.file.content) == (
            "narxlar.pdf",
            b"%PDF-1.4 narxlar",
        )
        _sends(desk, thread, "voice", b"OggS\x00\x02" + b"\x00" * 30, "voice.oga")
        await product.fake.wait_message(desk.customer.id, lambda one: one.method == "sendVoice", bot=desk.tenant)
        # What is changed under the picture changes at the customer's.
        product.factory.push("edited_message", {**picture, "caption": "Yangi model", "edit_date": 1_790_000_000})
        await product.fake.wait_until(lambda: sent.text == "Yangi model")
        await desk.settled()
        methods = [one.method for one in product.fake.messages(desk.customer.id, desk.tenant) if one.file is not None]
        assert methods == ["sendPhoto", "sendDocument", "sendVoice"]
        assert not [one for one in product.fake.messages(GROUP) if one.file is not None]
        talk = await desk.talk()
        assert talk.status == "human"


async def test_files_that_cannot_be_passed_on_are_said_in_the_topic(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        thread = await desk.thread()
        before = len(product.fake.messages(desk.customer.id, desk.tenant))
        _sends(desk, thread, "video", b"x", "film.mp4", size=21 * 1024 * 1024)
        await desk.shown("The file is too large: at most 20 MB.")
        _sends(desk, thread, "document", b"<html><script>alert(1)</script>", "narx.pdf")
        await desk.shown("This file cannot be sent")
        _sends(desk, thread, "photo", encoded(), "x.jpg", "/note ichki rasm")
        await desk.shown("carries no file")
        stranger = product.fake.user(900_000_777, "en")
        desk.group.add(product.factory, stranger)
        stored = product.fake.store(product.factory, "documents", "a.pdf", "application/pdf", b"%PDF-1.4")
        stranger.message(product.factory, desk.group, document=stored.wire(), **desk.group.within(thread))
        await desk.shown("not one of this business")
        await desk.settled()
        assert len(product.fake.messages(desk.customer.id, desk.tenant)) == before
        assert await desk.one(select(func.count()).select_from(models.Attachment)) == 0


async def test_what_fails_on_the_way_into_a_topic_is_not_shown_twice(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        await desk.thread("🔔 Sardor")
        # Telegram asks to wait in the middle of a batch, then has an error of its own.
        product.fake.fail(429, method="sendPhoto", retry_after=1, bot=product.factory, times=2)
        product.fake.fail(502, "Bad Gateway", method="sendPhoto", bot=product.factory, times=1)
        desk.customer.send_photo(desk.tenant, encoded(), caption="Shu modelmi?")
        await product.fake.wait_message(GROUP, lambda one: one.method == "sendPhoto", bot=product.factory, timeout=30)
        desk.customer.send(desk.tenant, "Kutyapman")
        await desk.shown("Kutyapman")
        texts = [sent.text for sent in product.fake.messages(GROUP)]
        assert sum("Shu modelmi?" in text for text in texts) == 1
        assert sum(sent.method == "sendPhoto" for sent in product.fake.messages(GROUP)) == 1


async def test_what_telegram_does_not_take_stops_no_topic(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        await desk.thread("🔔 Sardor")
        product.fake.fail(400, "Bad Request: IMAGE_PROCESS_FAILED", method="sendPhoto", bot=product.factory, times=None)
        refused = product.fake.fail(400, "Bad Request: FILE_PART_INVALID", method="sendDocument", times=None)
        desk.customer.send_photo(desk.tenant, encoded(), caption="Shu modelmi?")
        await desk.shown("Telegram does not take this file")
        # Many emoji: two of them fit together by their count and not by Telegram's.
        desk.customer.send(desk.tenant, "🍎" * 1700)
        desk.customer.send(desk.tenant, "🍐" * 1700)
        await desk.shown("🍐")
        desk.customer.send(desk.tenant, "Kutyapman")
        await desk.shown("Kutyapman")
        texts = [sent.text for sent in product.fake.messages(GROUP)]
        assert sum("Shu modelmi?" in text for text in texts) == 1
        assert refused.hits == 1


async def test_a_sign_that_cannot_be_put_repeats_nothing(start: Start, hurry: None) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        thread = await desk.thread()
        lost = product.fake.fail(502, "Bad Gateway", method="setMessageReaction", times=2)
        note = desk.writes(desk.owner.user, thread, "/note VIP mijoz")
        desk.writes(desk.owner.user, thread, "Salom")
        await desk.gets("Salom")
        # Telegram brings the first one once more.
        product.factory.push("message", note)
        await desk.settled()
        assert lost.hits == 2
        async with product.core.db.read() as session:
            assert [one.text for one in await session.scalars(select(models.Note))] == ["VIP mijoz"]


async def test_a_change_into_a_note_does_not_reach_the_customer(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        thread = await desk.thread()
        written = desk.writes(desk.owner.user, thread, "Bu mijoz qarzdor")
        await desk.gets("Bu mijoz qarzdor")
        desk.owner.user.edit(product.factory, written, "/note Bu mijoz juda qarzdor")
        await desk.shown("never goes to a customer")
        await desk.settled()
        message = await desk.one(select(models.Message).where(models.Message.author == "operator"))
        assert message.text == "Bu mijoz qarzdor" and not product.fake.called("editMessageText", desk.tenant)


async def test_the_owner_hears_when_somebody_removes_the_bot_from_the_group(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        admin = product.fake.user(900_000_888, "en", first_name="Admin")
        desk.group.add(product.factory, admin, status="left", old="administrator")
        notice = select(models.Notice).where(models.Notice.kind == "forum_lost")
        await desk.until(lambda: desk.one(notice))
        assert await desk.one(select(models.ForumGroup.status)) == "lost"


async def test_a_place_that_moves_does_not_fill_the_topic(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "/operator")
        await desk.thread("🔔 Sardor")
        place = desk.customer.send_location(desk.tenant)
        await desk.shown("📍")
        newest = select(models.Message.text).where(models.Message.kind == "location")
        for step in range(3):
            moved = {"latitude": 41.3 + step / 100, "longitude": 69.2, "live_period": 900}
            desk.tenant.push("edited_message", {**place, "location": moved, "edit_date": place["date"] + step + 1})
            await desk.holds(newest, f"{moved['latitude']:.2f}")
        desk.customer.send(desk.tenant, "Yetib keldim")
        await desk.shown("Yetib keldim")
        assert sum("📍" in sent.text for sent in product.fake.messages(GROUP)) == 1


async def test_a_topic_whose_conversation_went_into_another_says_where_and_is_closed(start: Start) -> None:
    async with start(overrides=QUICK) as product:
        desk = await _desk(product)
        desk.customer.send(desk.tenant, "Kosmik raketalar bormi?")
        product.fake.user(910_500_002, "uz", first_name="Aziza").send(desk.tenant, "Salom")
        stays, goes = await desk.thread("Sardor"), await desk.thread("Aziza")

        async def kept() -> Any:
            topic = select(models.ForumTopic).where(models.ForumTopic.thread_id.in_((stays, goes)))
            return await desk.one(select(func.count()).select_from(topic.subquery())) == 2

        await desk.until(kept)
        topic = await desk.one(select(models.ForumTopic).where(models.ForumTopic.thread_id == stays))
        async with product.core.db.write() as session:
            payload = {"group": topic.group_id, "thread": goes, "conversation": topic.conversation_id}
            for lane in ("first", "again"):
                await jobs.add(session, CLOSE_TOPIC_JOB, payload, lane=lane)
        product.core.bell.ring("jobs")
        told = await desk.shown("The conversation goes on there")
        assert told.endswith(f"https://t.me/c/{str(GROUP).removeprefix('-100')}/{stays}")
        await product.fake.wait_until(lambda: desk.group.closed == {goes})

        async def done() -> bool:
            job = models.Job
            return bool(
                await desk.one(
                    select(func.count()).select_from(job).where(job.kind == CLOSE_TOPIC_JOB, job.status == "done")
                )
                == 2
            )

        await desk.until(done)
