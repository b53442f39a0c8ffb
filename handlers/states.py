"""The few places where the factory bot waits for a particular answer. Menus need none: their buttons say all."""

from __future__ import annotations

from typing import Any

from aiogram.fsm.context import FSMContext
from aiogram.fsm.state import State, StatesGroup

from services.i18n import T, Text

_KEPT = ("files", "told")
_MOST_KEPT = 20


class Onboarding(StatesGroup):
    """The first steps."""

    phone = State()


class NewBot(StatesGroup):
    """Making a bot. ``token`` holds the ``name`` that was given, or the ``bot`` that is to be connected."""

    managed = State()
    name = State()
    token = State()


class Editing(StatesGroup):
    """Changing a bot; the data holds its id as ``bot``."""

    prompt = State()


DROPPED: dict[str, Text] = {
    str(Onboarding.phone.state): T("Skipped. You can add a phone number in the panel later."),
    str(NewBot.managed.state): T("Creating a bot was cancelled."),
    str(NewBot.name.state): T("Creating a bot was cancelled."),
    str(NewBot.token.state): T("Connecting a bot was cancelled."),
    str(Editing.prompt.state): T("The instructions were not changed."),
}
"""What ``/cancel`` says about each."""


async def leave(state: FSMContext) -> None:
    """End the dialog; what has to outlive dialogs stays."""
    data = await state.get_data()
    await state.set_state(None)
    kept = {key: data[key] for key in _KEPT if key in data}
    if kept != data:
        await state.set_data(kept)


async def keep_file(state: FSMContext, message_id: int, info: dict[str, Any]) -> None:
    """Remember a document that was sent until its bot is known; the last twenty are kept."""
    data = await state.get_data()
    files = {**data.get("files", {}), str(message_id): info}
    await state.set_data({**data, "files": dict(list(files.items())[-_MOST_KEPT:])})


async def take_file(state: FSMContext, message_id: int) -> dict[str, Any] | None:
    """Return a remembered document; it stays remembered, since this update may come again."""
    found: dict[str, Any] | None = (await state.get_data()).get("files", {}).get(str(message_id))
    return found


async def forget_file(state: FSMContext, message_id: int) -> None:
    """The document has found its bot."""
    data = await state.get_data()
    files = {key: value for key, value in data.get("files", {}).items() if key != str(message_id)}
    await state.set_data({**data, "files": files})


async def waiting_files(state: FSMContext) -> list[int]:
    """Return the message ids of the documents that wait for a bot."""
    return [int(key) for key in (await state.get_data()).get("files", {})]


async def was_told(state: FSMContext, what: str) -> bool:
    """Whether :func:`note_told` was called for this lately: the update at hand is a repeat or its twin."""
    return what in (await state.get_data()).get("told", [])


async def note_told(state: FSMContext, what: str) -> None:
    """Remember that the person has been told; the last twenty things are kept."""
    data = await state.get_data()
    told = [entry for entry in data.get("told", []) if entry != what]
    await state.set_data({**data, "told": [*told, what][-_MOST_KEPT:]})
