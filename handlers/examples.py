"""Questions to try a bot with: only such that its documents answer."""

from __future__ import annotations

import re

from db import models
from services import answers
from services.core import Core
from services.i18n import T, Text, translate

_COMMON: tuple[Text, ...] = (
    T("How much does it cost?"),
    T("What are your opening hours?"),
    T("What is your address?"),
    T("Do you deliver?"),
    T("How can I pay?"),
    T("How can I sign up?"),
    T("Is there a discount?"),
    T("What is your phone number?"),
    T("Is there a guarantee?"),
)
_QUESTION = re.compile(r"[^\n.?!:;|\t]{8,55}\?")
_MOST = 3


async def questions(core: Core, bot: models.Bot, document: models.Document, language: str) -> list[str]:
    """Return up to three questions that the search finds an answer to in ``document``.

    What customers usually ask is tried; questions that stand in the passages found come first.
    """
    written: list[str] = []
    common: list[str] = []
    for text in _COMMON:
        question = translate(language, text.msgid)
        found = await answers.look_up(core, bot, question, 3)
        passages = [passage for passage in found.passages if passage.document_id == document.id]
        if not found.found or not passages:
            continue
        common.append(question)
        for passage in passages:
            written += [part.strip(' -–•*"«»') for part in _QUESTION.findall(f"{passage.heading}\n{passage.text}")]
        if len(common) >= _MOST and len(written) >= _MOST:
            break
    return list(dict.fromkeys([*written[: _MOST - 1], *common, *written]))[:_MOST]
