"""Dialogs and promises survive the process, on both databases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from db.engine import Database
from handlers.states import NewBot, go_to, leave, note_told
from handlers.storage import (
    Dialog,
    Watch,
    all_watches,
    drop_watch,
    get_watch,
    hold_watches,
    keep_watch,
    release_watches,
)


async def test_states_and_data_are_found_by_the_next_process(database_url: str) -> None:
    first = Database(database_url)
    dialog = await Dialog.open(first, 1, 3, update_id=10)
    note_told(dialog, "something")
    # What no database takes as text must still be kept.
    go_to(dialog, NewBot.token, name="Nur\0 \ud800 Ў")
    await dialog.close()
    await first.close()
    second = Database(database_url)
    dialog = await Dialog.open(second, 1, 3, update_id=11)
    assert dialog.state == NewBot.token.state
    assert dialog.data == {"told": ["something"], "name": "Nur\0 \ud800 Ў"}
    stranger = await Dialog.open(second, 1, 4, update_id=11)
    assert (stranger.state, stranger.data) == (None, {})
    leave(dialog)
    await dialog.close()
    dialog = await Dialog.open(second, 1, 3, update_id=12)
    assert (dialog.state, dialog.data) == (None, {"told": ["something"]})
    await second.close()


async def test_an_update_that_comes_again_begins_where_it_began_and_knows_what_it_said(database_url: str) -> None:
    db = Database(database_url)
    sent: list[str] = []

    def sending(text: str) -> Callable[[], Awaitable[int]]:
        async def send() -> int:
            sent.append(text)
            return len(sent)

        return send

    async def handle(update_id: int, *texts: str) -> tuple[Dialog, list[int | None]]:
        dialog = await Dialog.open(db, 1, 3, update_id)
        assert (dialog.state, dialog.data, dialog.closed) == (None, {}, False)
        assert await dialog.first("new", not sent) is True
        go_to(dialog, NewBot.name, name="Nur")
        return dialog, [await dialog.once(text, sending(text)) for text in texts]

    # Two ends before their time, then what is new: the same words twice are two messages.
    assert (await handle(10, "a"))[1] == [1]
    assert (await handle(10, "a", "b"))[1] == [1, 2]
    dialog, numbers = await handle(10, "a", "b", "b")
    assert (numbers, sent) == ([1, 2, 3], ["a", "b", "b"])
    await dialog.close()
    assert (await Dialog.open(db, 1, 3, 10)).closed
    following = await Dialog.open(db, 1, 3, 11)
    assert (following.closed, following.state, following.data) == (False, NewBot.name.state, {"name": "Nur"})
    assert await following.once("a", sending("a")) == 4
    await db.close()


async def test_a_promise_is_kept_until_it_was_told(database_url: str) -> None:
    db = Database(database_url)
    watches = [Watch(f"document{number}", "bot", 5, number, "uz", holder="one") for number in range(3)]
    for watch in watches:
        await keep_watch(db, watch, 60)
    await keep_watch(db, watches[0], 60)
    assert [replace(watch, held_until=0.0) for watch in await all_watches(db)] == watches
    await drop_watch(db, watches[1].document_id)
    await drop_watch(db, "unknown")
    assert await get_watch(db, watches[1].document_id) is None
    assert [watch.document_id for watch in await all_watches(db)] == ["document0", "document2"]
    await db.close()


async def test_a_promise_has_one_holder_at_a_time(database_url: str) -> None:
    db = Database(database_url)

    async def holds(holder: str, lease_s: float = 60) -> list[str]:
        return [watch.document_id for watch in await hold_watches(db, holder, lease_s)]

    assert await holds("one") == []
    await keep_watch(db, Watch("living", "bot", 5, 1, "uz", holder="one"), 60)
    await keep_watch(db, Watch("left", "bot", 5, 2, "uz", holder="gone"), -1)
    assert await holds("two") == ["left"]
    assert await holds("one") == ["living"]
    # Whoever ends in order gives its own up at once.
    await release_watches(db, "two")
    assert await holds("one") == ["living", "left"]
    assert await holds("two") == []
    # A lease that has run out while its holder lives is taken, and the holder finds that out.
    await holds("one", lease_s=-1)
    assert await holds("two") == ["living", "left"]
    assert await holds("one") == []
    await db.close()
