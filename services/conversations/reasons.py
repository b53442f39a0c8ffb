"""Why a conversation waits for a person, as it is stored and as operators read it."""

from __future__ import annotations

from collections.abc import Mapping

from db import models
from services.i18n import T, Text

ASKED = "asked"
"""The customer wants a person, or left a telephone number for one."""
GAVE_UP = "gave_up"
"""The bot knew no answer."""
PLAN = "plan"
"""The owner's plan does not let the bot answer."""
ERROR = "error"
"""A message could not be handled and was set aside."""

_WAITING = T("Waiting for a person")
_TITLES: Mapping[str, Text] = {
    ASKED: T("Asked for a person"),
    GAVE_UP: T("The bot knew no answer"),
    ERROR: T("A message failed"),
    PLAN: T("The plan allows no answer"),
}
_SENTENCES: Mapping[str, Text] = {
    ASKED: T("The customer is asking for a person. Meanwhile the bot keeps answering."),
    GAVE_UP: T("The bot knew no answer to what the customer asked. Meanwhile it keeps answering."),
    ERROR: T("A message of the customer could not be answered because of a fault. Meanwhile the bot keeps answering."),
    PLAN: T(
        "The bot may not answer here: the plan has ended, does not include this, or its messages of this month are used up. "
        "Please answer yourself."
    ),
}
_MARKS: Mapping[str, str] = {GAVE_UP: "❓", ERROR: "⚠️", PLAN: "⏳"}


def title(talk: models.Conversation) -> Text:
    """Return in a few words why a waiting conversation waits."""
    return _TITLES.get(talk.waiting_reason or "", _WAITING)


def sentence(talk: models.Conversation) -> Text:
    """Return a sentence that says why a waiting conversation waits, as far as that is known."""
    return _SENTENCES.get(talk.waiting_reason or "", T("A person is wanted here. Meanwhile the bot keeps answering."))


def mark(talk: models.Conversation) -> str:
    """Return the sign of a waiting conversation."""
    return _MARKS.get(talk.waiting_reason or "", "🔔")
