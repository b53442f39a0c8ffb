"""Questions with their answers as a table: taken in and given out many at once.

A table has two columns. Whoever wrote the answers to a hundred questions in a spreadsheet need not type them again.
"""

from __future__ import annotations

import asyncio
import csv
import io
from typing import TYPE_CHECKING

from db import models
from services import sheets
from services.errors import Invalid, TooLarge
from services.i18n import T
from services.knowledge import documents
from services.knowledge.base import ReadError
from services.knowledge.csv import find_delimiter
from services.knowledge.letters import decode
from services.text import clean

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from db.engine import Database
    from services.core import Core

MOST = 1000
"""So many rows a table may have."""
HEADINGS = ("question", "answer")
_BYTES = 2 * 1_048_576
_HEADINGS = frozenset({"question", "questions", "savol", "savollar", "савол", "саволлар", "вопрос", "вопросы", "q"})
_AT_ONCE = 25
_QUESTION_CHARS, _ANSWER_CHARS = 1000, 4000


def read(data: bytes) -> list[tuple[str, str]]:
    """Return the pairs of a table, the last one to a question; raises ``Invalid`` that names the row, or ``TooLarge``."""
    if len(data) > _BYTES:
        raise TooLarge(T("The file is larger than {n} MB. Split it or send a smaller one.", n=_BYTES // 1_048_576))
    unreadable = Invalid(T("This is not a table in CSV. Save it in the spreadsheet as CSV (UTF-8)."))
    try:
        text = decode(data).replace("\0", "")
    except ReadError:
        raise unreadable from None
    if text[:4].lower() == "sep=":
        text = text.partition("\n")[2]
    pairs: dict[str, str] = {}
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=find_delimiter(text))
        for number, cells in enumerate(rows, 1):
            cells = [_plain(cell) for cell in cells]
            if not any(cells) or (number == 1 and cells[0].casefold() in _HEADINGS):
                continue
            if len(cells) < 2 or not cells[0] or not cells[1]:
                raise Invalid(T("Row {n} lacks the question or the answer: nothing was taken in.", n=number))
            if len(cells[0]) > _QUESTION_CHARS or len(cells[1]) > _ANSWER_CHARS:
                raise Invalid(
                    T(
                        "Row {n} is too long: a question may have {q} characters, an answer {a}. Nothing was taken in.",
                        n=number,
                        q=_QUESTION_CHARS,
                        a=_ANSWER_CHARS,
                    )
                )
            pairs[cells[0]] = cells[1]
            if len(pairs) > MOST:
                raise Invalid(T("The table has more than {n} questions. Split it.", n=MOST))
    except csv.Error:
        raise unreadable from None
    if not pairs:
        raise Invalid(T("The table holds no question with an answer."))
    return list(pairs.items())


def _plain(cell: str) -> str:
    return clean(sheets.unshielded(cell)).strip()


async def table(db: Database, bot: models.Bot) -> AsyncIterator[list[tuple[str, str]]]:
    """Yield what a bot was taught as a table that can be taken in again, the oldest first; each part is read by itself."""
    yield [HEADINGS]
    cursor = ""
    while True:
        async with db.read() as session:
            part, cursor = await documents.answers_page(
                session, bot, cursor=cursor, limit=sheets.ROWS_AT_ONCE, oldest_first=True
            )
        yield [(one.question, one.text) for one in part]
        if not cursor:
            return


async def take_in(core: Core, bot: models.Bot, data: bytes) -> int:
    """Teach a bot the pairs of a table, some in a transaction, so that others need not wait; return how many they were.

    No session may be open. Raises what :func:`read` does, and ``Conflict`` before anything is taken in where there is no room.
    """
    pairs = await asyncio.to_thread(read, data)
    async with core.db.write() as session:
        room = await core.allowances.room_for_bytes(session, bot)
        if room is not None and sum(len(text.encode()) for pair in pairs for text in pair) > room:
            raise await core.allowances.no_room(session, bot)
    for start in range(0, len(pairs), _AT_ONCE):
        async with core.db.write() as session:
            for question, answer in pairs[start : start + _AT_ONCE]:
                await documents.add_answer(session, bot, question, answer, plan=core.allowances)
    return len(pairs)
