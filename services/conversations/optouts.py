"""Customers who want no broadcasts: how they say so, and how they come back.

They say it by ``/stop``, by the button under a broadcast, or in words that mean nothing else; ``/start`` takes it back. It holds
whoever leads the talk, and while the bot rests too. What they ask is answered as ever.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, case, func, update

from db import models
from db.base import table_of
from services.channels.base import Button, Inbound
from services.commands import UNLISTED
from services.i18n import T, Text, translate
from services.knowledge.analysis import fold
from services.scripts import APOSTROPHES

_CONTACT = table_of(models.Contact)
_STOP, _START = "news:stop", "news:start"
_NO_APOSTROPHES = dict.fromkeys(map(ord, APOSTROPHES))
_WORD = re.compile(r"[^\W_]+")
_MOST_CHARS = 60
LINE: Text = T("To get no more such messages: /stop")
BUTTON: Text = T("🔕 No more news")
"""At most 20 characters in any language: developers.facebook.com, interactive reply buttons."""
LEFT: Text = T("Done: you will get no more news from us 🔕 I still answer your questions. /start: get the news again.")
BACK: Text = T("You get our news again. /stop: no more of them.")


def _words(text: str) -> str:
    return " ".join(fold(word) for word in _WORD.findall(text.translate(_NO_APOSTROPHES)))


def _phrases(*phrases: str) -> frozenset[str]:
    return frozenset(map(_words, phrases))


_PLAIN = _phrases(
    "stop", "stop all", "stop messages", "stop promotions", "unsubscribe", "unsubscribe me", "opt out", "no more news",
    "стоп", "стоп рассылка", "отписаться", "отписка", "отпишите меня", "отпиши меня", "хочу отписаться",
    "не присылайте рекламу", "не присылайте мне рекламу", "уберите рассылку",
    "obunani bekor qil", "obunani bekor qiling", "obunani bekor qilish", "obunadan chiqish", "reklama yubormang",
    "menga reklama yubormang", "reklama kerak emas",
)  # fmt: skip
_AFTER_NEWS = _phrases(
    "stop it", "no more messages", "no more", "don't send", "do not send", "don't send me messages",
    "do not send me messages", "отпиши", "отпишите", "не присылать", "не присылай", "не присылайте", "не присылайте мне",
    "не присылайте больше", "больше не присылайте", "не надо", "не нужно", "to'xtat", "to'xtating", "yubormang",
    "boshqa yubormang", "menga yubormang", "xabar yubormang", "boshqa xabar yubormang", "menga xabar yubormang",
    "kerak emas", "keragi yo'q",
)  # fmt: skip
"""Words that mean this only where a broadcast was the last thing said: elsewhere they may be about goods."""


def wish(event: Inbound, recent: Sequence[Sequence[str]] = ()) -> bool | None:
    """Return True where a customer says to want no more broadcasts, False where by a button that they do; None else.

    ``recent``: the last turns of the talk.
    """
    if event.kind == "command":
        return True if event.command in UNLISTED else None
    # On Meta's networks a press is a message with what the button carries.
    pressed = event.data if event.kind == "callback" else str(event.extra.get("payload") or "")
    if pressed in (_STOP, _START):
        return pressed == _STOP
    if event.kind != "message" or len(event.text) > _MOST_CHARS:
        return None
    said = _words(event.text)
    news = bool(recent) and recent[-1][0] == "assistant" and recent[-1][1].endswith("/stop")
    return True if said in _PLAIN or (news and said in _AFTER_NEWS) else None


def buttons(language: str) -> tuple[tuple[Button, ...], ...]:
    """Return the button under a broadcast."""
    return ((Button(translate(language, BUTTON.msgid), _STOP),),)


def keep(connection: Connection, wishes: Sequence[tuple[str, bool]], moment: dt.datetime) -> None:
    """Store wishes: (contact, out). When somebody first said so stays."""
    if not wishes:
        return
    connection.execute(
        update(_CONTACT)
        .where(_CONTACT.c.id == bindparam("p_id"))
        .values(
            opted_out_at=case(
                (
                    bindparam("p_out") == 1,
                    func.coalesce(_CONTACT.c.opted_out_at, bindparam("p_now", type_=_CONTACT.c.opted_out_at.type)),
                ),
                else_=None,
            )
        ),
        [{"p_id": id_, "p_out": int(out), "p_now": moment} for id_, out in wishes],
    )
