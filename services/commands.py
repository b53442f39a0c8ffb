"""The commands that a customer's bot understands; every other text behind a slash is a question."""

from __future__ import annotations

from collections.abc import Mapping

from services.i18n import T, Text

COMMANDS: Mapping[str, Text] = {
    "start": T("Start over"),
    "language": T("Choose the language"),
    "operator": T("Talk to a person"),
    "help": T("What this bot can do"),
}
"""What each does, in the order of the menu."""
UNLISTED = ("stop", "unsubscribe")
"""Commands that stand in no menu, but under every broadcast: see :mod:`services.conversations.optouts`."""
