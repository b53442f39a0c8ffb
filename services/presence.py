"""Who is looking at a conversation in the panel right now, and who is writing in it.

Nothing of it is kept: browsers say it again while it lasts, and what is not said again ends by itself. The bell carries it to
other processes and to everybody who watches the bot.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.bell import Bell

STATES = ("looking", "typing", "gone")
LOOKING_S = 45.0
"""So long a person is taken to look on after the last word of their browser, which speaks every 20 seconds."""
TYPING_S = 8.0
_TOPIC = "presence"
_TALKS_AT_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Present:
    """A person at a conversation; ``until`` and ``typing_until`` by the monotonic clock."""

    id: str
    name: str
    until: float
    typing_until: float = 0.0
    typing: bool = False


class Presence:
    """The people at each conversation, as far as this process has heard."""

    def __init__(self, bell: Bell, clock: Callable[[], float] = time.monotonic) -> None:
        self._bell = bell
        self._clock = clock
        self._talks: dict[str, dict[str, Present]] = {}
        self._signs: dict[str, float] = {}

    def tell(self, bot_id: str, conversation_id: str, person_id: str, name: str, state: str) -> None:
        """Note that a person looks at a conversation (``looking``), writes in it (``typing``) or left it (``gone``)."""
        said = {"presence": conversation_id, "person": person_id, "name": name, "state": state}
        self._note(said)
        self._bell.ring_elsewhere(_TOPIC, said)
        self._bell.ring(f"bot:{bot_id}", said)

    def at(self, conversation_id: str) -> list[Present]:
        """Return who is at a conversation now, by name."""
        now = self._clock()
        people = [person for person in self._talks.get(conversation_id, {}).values() if person.until > now]
        return sorted(
            (
                Present(person.id, person.name, person.until, person.typing_until, person.typing_until > now)
                for person in people
            ),
            key=lambda person: (person.name, person.id),
        )

    def typing_s(self, conversation_id: str) -> float:
        """Return for how many seconds more somebody is taken to write in a conversation, 0 where nobody does."""
        now = self._clock()
        people = self._talks.get(conversation_id, {}).values()
        return max([0.0, *(person.typing_until - now for person in people if person.until > now)])

    def sign_due(self, conversation_id: str, every_s: float) -> bool:
        """Whether the customer should be shown the sign of typing again; true at most once in ``every_s`` seconds."""
        now = self._clock()
        if self._signs.get(conversation_id, 0.0) > now:
            return False
        self._signs = {talk: until for talk, until in self._signs.items() if until > now}
        self._signs[conversation_id] = now + every_s
        return True

    async def run(self) -> None:
        """Hear what other processes know, until cancelled."""
        async with self._bell.listen(_TOPIC) as heard:
            while True:
                self._note(await heard.get())

    def _note(self, said: dict[str, str]) -> None:
        now = self._clock()
        people = self._talks.setdefault(said["presence"], {})
        if said["state"] == "gone":
            people.pop(said["person"], None)
        else:
            typing_until = now + TYPING_S if said["state"] == "typing" else 0.0
            people[said["person"]] = Present(said["person"], said["name"], now + LOOKING_S, typing_until)
        if not people:
            del self._talks[said["presence"]]
        elif len(self._talks) > _TALKS_AT_MOST:
            self._forget(now)

    def _forget(self, now: float) -> None:
        self._talks = {
            talk: people for talk, people in self._talks.items() if any(one.until > now for one in people.values())
        }
