"""The few places where the factory bot waits for a particular answer. Menus need none: their buttons say all."""

from __future__ import annotations

from typing import Any

from aiogram.fsm.state import State, StatesGroup

from handlers.storage import Dialog
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


class Connecting(StatesGroup):
    """Connecting a channel by entering values; the data holds the ``bot``, the ``kind``, and encrypted as ``kept`` what was
    entered so far."""

    value = State()


class Editing(StatesGroup):
    """Changing a bot; the data holds its id as ``bot``. ``answer``: to the group of the open question ``asked``. ``caption``: of
    the document ``doc``. ``picture``: what the picture ``file`` of ``message`` shows; its bot may not be known yet."""

    prompt = State()
    answer = State()
    caption = State()
    picture = State()


class Answering(StatesGroup):
    """Writing to a customer; the data holds the ``talk``, and as ``seen`` its last message when this began."""

    text = State()


class Buying(StatesGroup):
    """Paying less than the price: the data holds ``coupon`` and ``balance`` (whether that pays), and while a coupon is typed
    (``code``) what was chosen: ``plan``, ``period``."""

    code = State()
    ways = State()


class Broadcasting(StatesGroup):
    """Writing to all customers of the ``bot`` in the data."""

    text = State()


class Supporting(StatesGroup):
    """Writing to those who run the installation."""

    text = State()


class Requesting(StatesGroup):
    """Asking for access; the data holds what is chosen so far: ``plan``, ``period``, ``coupon``. ``code``: a coupon is typed."""

    code = State()
    sure = State()


DROPPED: dict[str, Text] = {
    str(Onboarding.phone.state): T("Skipped. You can add a phone number in the panel later."),
    str(NewBot.managed.state): T("Creating a bot was cancelled."),
    str(NewBot.name.state): T("Creating a bot was cancelled."),
    str(NewBot.token.state): T("Connecting a bot was cancelled."),
    str(Connecting.value.state): T("Connecting the channel was cancelled. What you had entered is forgotten."),
    str(Editing.prompt.state): T("The instructions were not changed."),
    str(Editing.answer.state): T("The question is still unanswered."),
    str(Editing.caption.state): T("The description was not changed."),
    str(Editing.picture.state): T("The picture was not added."),
    str(Buying.code.state): T("No coupon was entered."),
    str(Buying.ways.state): T("Nothing was ordered."),
    str(Requesting.code.state): T("No coupon was entered."),
    str(Requesting.sure.state): T("The request was not sent."),
    str(Broadcasting.text.state): T("No broadcast was written."),
    str(Supporting.text.state): T("You are no longer writing to support. The answers come here."),
    str(Answering.text.state): T("Nothing was written to the customer."),
}
"""What ``/cancel`` says about each."""


def go_to(dialog: Dialog, state: State | None, **data: Any) -> None:
    """Drop the present dialog and wait in ``state``, with ``data``, for the answer; what has to outlive dialogs stays."""
    dialog.state = state.state if state else None
    dialog.data = {**{key: dialog.data[key] for key in _KEPT if key in dialog.data}, **data}


def leave(dialog: Dialog) -> None:
    """End the dialog; what has to outlive dialogs stays."""
    go_to(dialog, None)


def keep_file(dialog: Dialog, message_id: int, info: dict[str, Any]) -> None:
    """Remember a document that was sent until its bot is known; the last twenty are kept."""
    files = {**dialog.data.get("files", {}), str(message_id): info}
    dialog.data["files"] = dict(list(files.items())[-_MOST_KEPT:])


def take_file(dialog: Dialog, message_id: int) -> dict[str, Any] | None:
    """Return a remembered document; it stays remembered until :func:`forget_file`."""
    found: dict[str, Any] | None = dialog.data.get("files", {}).get(str(message_id))
    return found


def forget_file(dialog: Dialog, message_id: int) -> None:
    """The document has found its bot."""
    dialog.data.get("files", {}).pop(str(message_id), None)


def waiting_files(dialog: Dialog) -> list[int]:
    """Return the message ids of the documents that wait for a bot."""
    return [int(key) for key in dialog.data.get("files", {})]


def was_told(dialog: Dialog, what: str) -> bool:
    """Whether :func:`note_told` was called for this lately: the update at hand is the twin of that one."""
    return what in dialog.data.get("told", [])


def note_told(dialog: Dialog, what: str) -> None:
    """Remember that the person has been told; the last twenty things are kept."""
    told = [entry for entry in dialog.data.get("told", []) if entry != what]
    dialog.data["told"] = [*told, what][-_MOST_KEPT:]
