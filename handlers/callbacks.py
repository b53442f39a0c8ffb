"""What buttons carry: a version, an action and ids, never a state, so that a button works after a restart.

The digit in a prefix is the version: a button of another one is answered as an old menu. At most 64 bytes. Whose the
object is gets checked at every press by the service that loads it.
"""

from __future__ import annotations

from aiogram.filters.callback_data import CallbackData


class Lang(CallbackData, prefix="l1"):
    """Choose the language of the talk; ``first``: the first steps go on from here."""

    code: str
    first: bool = False


class Menu(CallbackData, prefix="m1"):
    """Go ``to`` a place that belongs to no bot: ``bots``, ``new``, ``stats``, ``panel``, ``send``, ``close``."""

    to: str


class BotMenu(CallbackData, prefix="b1"):
    """``do`` something with a bot: ``open``, ``start``, ``stop``, ``docs``, ``prompt``, ``clear``, ``langs``, ``lang``,
    ``link``, ``delete``, ``gone``, ``send``."""

    do: str
    bot: str
    arg: str = ""


class DocMenu(CallbackData, prefix="d1"):
    """``do`` something with a document: ``open``, ``delete``, ``gone``, ``retry``."""

    do: str
    bot: str
    doc: str


class PutFile(CallbackData, prefix="f1"):
    """Put the document of message ``file`` into a bot's knowledge."""

    bot: str
    file: int


class Period(CallbackData, prefix="s1"):
    """Numbers of a bot (empty: of all) for the last ``days``."""

    bot: str
    days: int
