"""What a letter is made of; the texts themselves stand beside this, by what they are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.i18n import Text


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of letter. Every text may hold placeholders, which the letter's params fill.

    ``subject`` and ``text`` make the mail (paragraphs are parted by an empty line), ``telegram`` the message; None: it goes by
    mail alone. ``button``: what is written on the link to ``params["path"]``, a path of ours. ``offer``: goes only to those who
    want offers, and says how to end them; ``news``: such a letter that has nothing to do with the plan. ``receipt``: that of
    ``params["payment"]`` goes with it. ``example``: params for a preview; their names are the placeholders that its texts may
    hold, beside ``name`` (the person's).
    """

    subject: Text
    text: Text
    telegram: Text | None = None
    button: Text | None = None
    offer: bool = False
    news: bool = False
    receipt: bool = False
    example: tuple[tuple[str, Any], ...] = ()
