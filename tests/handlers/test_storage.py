"""Dialogs and promises survive the process, on both databases."""

from __future__ import annotations

from aiogram.fsm.storage.base import StorageKey

from db.engine import Database
from handlers.states import NewBot
from handlers.storage import DialogStorage, Watch, all_watches, drop_watch, get_watch, keep_watch

KEY = StorageKey(bot_id=1, chat_id=2, user_id=3)


async def test_states_and_data_are_found_by_the_next_process(database_url: str) -> None:
    first = Database(database_url)
    storage = DialogStorage(first)
    assert await storage.get_state(KEY) is None
    await storage.set_state(KEY, None)
    await storage.set_data(KEY, {})
    await storage.set_state(KEY, NewBot.token)
    # What no database takes as text must still be kept.
    await storage.set_data(KEY, {"name": "Nur\0 \ud800 Ў"})
    await first.close()
    second = Database(database_url)
    storage = DialogStorage(second)
    assert await storage.get_state(KEY) == NewBot.token.state
    assert await storage.get_data(KEY) == {"name": "Nur\0 \ud800 Ў"}
    assert await storage.get_state(StorageKey(bot_id=1, chat_id=2, user_id=4)) is None
    await storage.set_state(KEY, None)
    assert await storage.get_state(KEY) is None
    await second.close()


async def test_a_promise_is_kept_until_it_was_told(database_url: str) -> None:
    db = Database(database_url)
    watches = [Watch(f"document{number}", "bot", 5, number, "uz") for number in range(3)]
    for watch in watches:
        await keep_watch(db, watch)
    await keep_watch(db, watches[0])
    assert await all_watches(db) == watches
    await drop_watch(db, watches[1].document_id)
    await drop_watch(db, "unknown")
    assert await get_watch(db, watches[1].document_id) is None
    assert await all_watches(db) == [watches[0], watches[2]]
    await db.close()
