"""The chat on other sites: how it looks, what it says first, and which sites may show it.

The owner's choices lie in the web channel's ``settings``: ``color``, ``position``, ``greetings`` by language, ``origins``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import lines
from services.errors import Invalid
from services.i18n import CATALOGS, T
from services.scripts import to_cyrillic
from services.text import clean

POSITIONS = ("right", "left")
COLOR = "#2459d3"
GREETING_CHARS = 300
MOST_ORIGINS = 50
_COLOR = re.compile(r"#[0-9a-f]{6}")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*|\[[0-9a-f:.]{2,45}\]")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Look:
    """The owner's choices. ``origins``: the sites that may show the chat, as browsers name them; none: every site may."""

    color: str = COLOR
    position: str = "right"
    greetings: Mapping[str, str] = field(default_factory=dict)
    origins: tuple[str, ...] = ()

    @property
    def ink(self) -> str:
        """Return black or white, whichever is read more easily on the colour: at least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
        light = _luminance(self.color) + 0.05
        return "#000000" if light / 0.05 > 1.05 / light else "#ffffff"

    def greeting(self, bot: models.Bot, language: str) -> str:
        """Return the first words in a language: the owner's for this chat, else those that the bot says everywhere."""
        own = self.greetings.get(language.split("-")[0], "")
        if own:
            return to_cyrillic(own) if language == "uz-Cyrl" else own
        return lines.said(bot.settings, "greeting", language, name=bot.name)

    def allows(self, origin: str) -> bool:
        """Tell whether a site may show the chat; ``origin`` as the browser says it. A page without an origin may not."""
        return origin in self.origins if self.origins else origin.startswith(("https://", "http://"))


def _luminance(color: str) -> float:
    """Return the relative luminance, 0 to 1 (WCAG 2.2)."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def look(channel: models.Channel) -> Look:
    """Return what is chosen for a web channel."""
    chosen = channel.settings or {}
    return Look(
        chosen.get("color", COLOR),
        chosen.get("position", "right"),
        chosen.get("greetings", {}),
        tuple(chosen.get("origins", ())),
    )


def origin_of(address: str) -> str:
    """Return the origin of a site as browsers name it: lower case, punycode, no port where it goes without saying.

    Raises ``Invalid`` for what names more or less than a site.
    """
    wrong = Invalid(
        T(
            "“{address}” is not a site’s address. Write it like https://example.uz, without a page.",
            address=address[:100],
        ),
        field="origins",
    )
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        host, port = (parts.hostname or "").rstrip("."), parts.port
        host = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        raise wrong from None
    if (
        parts.scheme not in _PORTS
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise wrong
    # A name without a dot is nobody's site, but for one's own machine.
    if not _HOST.fullmatch(host) or len(host) > 253 or not ("." in host or ":" in host or host == "localhost"):
        raise wrong
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")


def origins_in(text: str) -> list[str]:
    """Return the origins of a list, one a line; raises ``Invalid``."""
    found = list(dict.fromkeys(origin_of(word) for word in text.replace(",", " ").split()))
    if len(found) > MOST_ORIGINS:
        raise Invalid(T("At most {n} sites can be listed.", n=MOST_ORIGINS), field="origins")
    return found


async def save(
    session: AsyncSession,
    channel: models.Channel,
    *,
    color: str,
    position: str,
    greetings: Mapping[str, str],
    origins: str,
) -> None:
    """Keep the owner's choices; raises ``Invalid`` naming the field. An empty greeting leaves the product's words."""
    color = color.strip().lower()
    if not _COLOR.fullmatch(color):
        raise Invalid(T("Write the colour like {example}.", example=COLOR), field="color")
    if position not in POSITIONS:
        raise Invalid(field="position")
    words = {}
    for language in CATALOGS:
        # Browsers send a new line as two characters; the person saw one.
        text = clean(greetings.get(language, "").replace("\r\n", "\n")).strip()
        if len(text) > GREETING_CHARS:
            raise Invalid(
                T("This is too long: at most {n} characters.", n=GREETING_CHARS), field=f"greeting_{language}"
            )
        if text:
            words[language] = text
    chosen = {"color": color, "position": position, "greetings": words, "origins": origins_in(origins)}
    channel.settings = {**(channel.settings or {}), **chosen}
    session.add(channel)
    await session.flush()
