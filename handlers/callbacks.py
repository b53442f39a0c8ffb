"""What buttons carry: a version, an action and ids, never a state, so that a button works after a restart.

The digit in a prefix is the version: a button of another one is answered as an old menu. At most 64 bytes. Whose the
object is gets checked at every press by the service that loads it.
"""

from __future__ import annotations

from typing import Annotated

from aiogram.filters.callback_data import CallbackData
from pydantic import Field

Id = Annotated[str, Field(pattern=r"^[0-9a-z]{26}$")]
"""An identifier of ours; what a changed client sends instead is an old menu and never reaches the database."""


class Lang(CallbackData, prefix="l1"):
    """Choose the language of the talk; ``first``: the first steps go on from here."""

    code: str
    first: bool = False


class Join(CallbackData, prefix="j1"):
    """Connect this Telegram account to the panel account behind a one-time ``token``."""

    token: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{20,50}$")]


class Enter(CallbackData, prefix="e1"):
    """Accept the invitation to a team behind a one-time ``token``."""

    token: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{20,50}$")]


class Menu(CallbackData, prefix="m1"):
    """Go ``to`` a place that belongs to no bot: ``bots``, ``new``, ``stats``, ``inbox``, ``news``, ``panel``, ``plan``,
    ``support``, ``leave``, ``stay`` (delete the account, keep it), ``close``."""

    to: str


class BotMenu(CallbackData, prefix="b1"):
    """``do`` something with a bot: ``open``, ``start``, ``stop``, ``docs``, ``asked``, ``prompt``, ``clear``, ``langs``,
    ``lang``, ``channels``, ``link``, ``token``, ``cut``, ``off``, ``page``, ``delete``, ``gone``, ``send``.

    ``arg``: for ``lang`` the language to switch on (``+ru``) or off (``-ru``), for ``off`` the channel that is meant."""

    do: str
    bot: Id
    arg: Annotated[str, Field(pattern=r"^([+-][a-z]{2}|[0-9a-z]{26})?$")] = ""


class Connect(CallbackData, prefix="c1"):
    """``do`` something with a channel of a ``kind``: ``one`` (its menu), ``begin`` and ``skip`` with the number of the step (the
    dialog that connects it), ``check``, ``cut``, ``share``."""

    do: str
    bot: Id
    kind: Annotated[str, Field(pattern=r"^[a-z]{2,12}$")]


class Cut(CallbackData, prefix="x1"):
    """Disconnect a channel that was asked about."""

    bot: Id
    channel: Id


class DocMenu(CallbackData, prefix="d1"):
    """``do`` something with a document: ``open``, ``delete``, ``gone``, ``retry``, ``share`` and ``keep`` (customers receive
    it or do not), ``words`` (what it shows)."""

    do: str
    bot: Id
    doc: Id


class AskedMenu(CallbackData, prefix="q1"):
    """``do`` something with a group of unanswered questions, named by one of them: ``open``, ``drop``."""

    do: str
    bot: Id
    asked: Id


class PutFile(CallbackData, prefix="f1"):
    """Put the document of message ``file`` into a bot's knowledge."""

    bot: Id
    file: int


class TalkMenu(CallbackData, prefix="i1"):
    """``do`` something with a conversation: ``open``, ``answer``, ``human``, ``bot`` and ``closed`` (its new
    state), ``panel``."""

    do: str
    talk: Id


class News(CallbackData, prefix="n1"):
    """``do`` something with a broadcast: ``bot`` (those of a bot), ``new``, ``open``, ``test``, ``send`` (asks), ``sure``,
    ``pause``, ``resume``, ``stop``, ``recall``, ``drop`` (asks), ``gone``."""

    do: str
    bot: Id
    news: Annotated[str, Field(pattern=r"^([0-9a-z]{26})?$")] = ""


class ForumMenu(CallbackData, prefix="g1"):
    """Make the group where the button stands the inbox of a ``bot``; empty: of all of one's own."""

    bot: Annotated[str, Field(pattern=r"^([0-9a-z]{26})?$")] = ""


class Turn(CallbackData, prefix="t1"):
    """Turn to a ``number``-th part of a long list ``of``: ``open`` and ``docs`` (bots to choose), ``files`` (a bot's
    documents), ``asked`` (its unanswered questions), ``put`` (bots for the document of message ``file``), ``inbox``
    (conversations that wait), ``news`` (bots to write for), ``stats`` (for the last ``days``)."""

    of: str
    number: Annotated[int, Field(ge=0, le=1_000_000)]
    bot: Annotated[str, Field(pattern=r"^([0-9a-z]{26})?$")] = ""
    days: int = 0
    file: int = 0


class Buy(CallbackData, prefix="p2"):
    """``do`` a step towards a plan: ``plans``, ``terms`` (the periods of ``plan``), ``ways`` (to pay it for ``period``),
    ``coupon`` (type one), ``balance`` (let it pay, or not), ``order`` (by the gateway ``way``, as things stood at ``basis``)."""

    do: str
    plan: Annotated[str, Field(pattern=r"^[a-z0-9_]{0,32}$")] = ""
    period: Annotated[str, Field(pattern=r"^[a-z]{0,9}$")] = ""
    way: Annotated[str, Field(pattern=r"^[a-z]{0,8}$")] = ""
    basis: Annotated[int, Field(ge=0, lt=1_000_000)] = 0


class Pay(CallbackData, prefix="y1"):
    """``do`` something with a payment of one's own: ``open``, ``code`` (its QR code), ``stop``, ``paper`` (its receipt)."""

    do: str
    number: Annotated[str, Field(pattern=r"^[0-9]{1,20}$")]


class Ask(CallbackData, prefix="r1"):
    """``do`` something with a request for access: ``plans``, ``plan`` (choose its period), ``sure``, ``coupon`` (type one),
    ``send``, ``withdraw`` (the request ``arg``). ``arg``: otherwise the plan."""

    do: str
    arg: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,32}$")] = ""
    period: Annotated[str, Field(pattern=r"^[a-z]{0,10}$")] = ""


class Period(CallbackData, prefix="s1"):
    """Numbers of a bot (empty: of all) for the last ``days``."""

    bot: Annotated[str, Field(pattern=r"^([0-9a-z]{26})?$")]
    days: int
