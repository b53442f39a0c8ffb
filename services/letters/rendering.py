"""What a letter says: its texts in a person's language, an administrator's own words where there are any, and its looks."""

from __future__ import annotations

import datetime as dt
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import css_inline
import jinja2
from babel.dates import format_date
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import money
from services.crypto import derive, same
from services.errors import NotFound
from services.i18n import CATALOGS, LOCALES_DIR, Text, Words, fill, in_cyrillic, translate, translator
from services.letters.base import Kind
from services.plans import TASHKENT
from services.text import one_line

PARTS = ("subject", "text", "telegram")
NAME = "name"
"""The placeholder that every letter knows."""
_LOCALES: Mapping[str, str] = {"uz": "uz", "uz-Cyrl": "uz_Cyrl", "ru": "ru", "en": "en_GB"}
_DAYS: Mapping[str, str] = {"uz": "y-'yil' d-MMMM", "uz-Cyrl": "y-'йил' d-MMMM", "ru": "d MMMM y", "en": "d MMMM y"}
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_SUBJECT_LIMIT = 200
Own = Mapping[tuple[str, str], str]
"""An administrator's own words for one kind of letter, by language and part."""


@dataclass(frozen=True, slots=True)
class Written:
    """A letter in words. ``buttons``: label and address of what stands under it in Telegram, the main one first."""

    subject: str
    text: str
    html: str
    telegram: str | None
    buttons: tuple[tuple[str, str], ...]
    unsubscribe: str | None


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(LOCALES_DIR.parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    return environment.get_template("email/letter.html")


@cache
def _inliner() -> css_inline.CSSInliner:
    # Mail programs drop style sheets, so rules stand at their elements; what depends on the screen can only stay a sheet.
    return css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)


def day(moment: dt.datetime, language: str) -> str:
    """Return a day of Tashkent in words."""
    known = language if language in _DAYS else "uz"
    return str(format_date(moment.astimezone(TASHKENT), _DAYS[known], locale=_LOCALES[known]))


def shown(value: Any, language: str) -> str:
    """Return a param of a letter as its language writes it.

    ``{"day": …}``, ``{"time": …}`` and ``{"moment": …}`` hold a moment in ISO 8601, shown as Tashkent's calendar and clock have
    it; ``{"tiyin": …}`` an amount; ``{"count": …}`` how many; ``{"words": …}`` words in several languages. A text of an example
    is translated, everything else is shown as it is.
    """
    if isinstance(value, Text):
        return value.render(language)
    if not isinstance(value, Mapping):
        return str(value)
    (form, inner), *_ = value.items()
    if form == "words":
        return Words.of(inner).called(language)
    if form == "tiyin":
        return money.text(int(inner), language)
    if form == "count":
        return money.count(int(inner), language)
    moment = dt.datetime.fromisoformat(str(inner))
    time = moment.astimezone(TASHKENT).strftime("%H:%M")
    return {"day": day(moment, language), "time": time}.get(form) or f"{day(moment, language)}, {time}"


def placeholders(kind: Kind) -> list[str]:
    """Return the names of what the texts of a kind may hold."""
    return [NAME, *(name for name, _ in kind.example if name not in (NAME, "path"))]


async def own_words(session: AsyncSession, kind: str) -> Own:
    """Return an administrator's own words for a kind of letter."""
    rows = await session.scalars(select(models.LetterText).where(models.LetterText.kind == kind))
    return {(row.language, row.part): row.text for row in rows}


def pattern(kind: Kind, part: str, language: str, own: Own) -> str | None:
    """Return a text of a letter with its placeholders; None where the kind has no such part.

    Uzbek in Cyrillic follows the Uzbek text in Latin letters, an administrator's own too.
    """
    built_in = getattr(kind, part)
    if built_in is None:
        return None
    base = "uz" if language == "uz-Cyrl" else language if language in CATALOGS else "uz"
    words = own.get((base, part))
    if words is None:
        return translate(language, built_in.msgid)
    return in_cyrillic(words) if language == "uz-Cyrl" else words


def write_out(
    kind: Kind,
    language: str,
    params: Mapping[str, Any],
    *,
    own: Own,
    name: str,
    public_url: str,
    brand: str,
    unsubscribe: str | None = None,
    telegram_beside: bool = False,
) -> Written:
    """Return a letter in words. ``name``: the person's. ``unsubscribe``: the address that ends offers, for those.

    ``telegram_beside``: the mail shows below itself what comes in Telegram, for a preview.
    """
    _ = translator(language)
    values = {key: shown(value, language) for key, value in params.items()} | {NAME: name}

    def said(part: str) -> str | None:
        words = pattern(kind, part, language, own)
        # What was left out leaves no hole.
        return None if words is None else _BLANK_LINES.sub("\n\n", fill(words, values).replace("\r\n", "\n")).strip()

    subject = one_line(said("subject") or "", _SUBJECT_LIMIT)
    text = said("text") or ""
    greeting = _("Hello, {name}!", name=name) if name else _("Hello!")
    path = str(params.get("path") or "")
    # A path of ours and nothing else: a letter never leads to another site by what was written into its row.
    leads = kind.button is not None and path.startswith("/") and not path.startswith("//")
    button = (kind.button.render(language), f"{public_url}{path}") if leads and kind.button is not None else None
    ends = unsubscribe if kind.offer else None
    why = (
        _("You receive this news because you have an account at {brand}.", brand=brand)
        if ends and kind.news
        else _("You receive this offer because you have an account at {brand} without a paid plan.", brand=brand)
        if ends
        else _("You receive this letter because you have an account at {brand}.", brand=brand)
    )
    lines = [greeting, text, *([f"{button[0]}: {button[1]}"] if button else []), f"--\n{why}"]
    if ends:
        lines[-1] += f"\n{_('No more offers')}: {ends}"
    telegram = said("telegram")
    buttons = [*([button] if button else []), *([(_("No more offers"), ends)] if ends else [])]
    html = _template().render(
        _=_,
        language=language,
        brand=brand,
        subject=subject,
        greeting=greeting,
        paragraphs=[piece.split("\n") for piece in _BLANK_LINES.split(text) if piece],
        button=button,
        unsubscribe=ends,
        telegram=telegram.split("\n") if telegram is not None and telegram_beside else None,
        telegram_buttons=[label for label, _address in buttons],
    )
    return Written(
        subject=subject,
        text="\n\n".join(lines) + "\n",
        html=_inliner().inline(html),
        telegram=telegram,
        buttons=tuple(buttons),
        unsubscribe=ends,
    )


# The link that ends offers --------------------------------------------------------------------------------------------


def unsubscribe_link(public_url: str, secret: str, user_id: str) -> str:
    """Return the address that ends offers to a person, without signing in; ``secret``: the installation's."""
    return f"{public_url}/unsubscribe/{user_id}.{_signature(secret, user_id)}"


def whose_link(secret: str, token: str) -> str:
    """Return whose offers the last part of such an address ends; raises ``NotFound`` for one that is not ours."""
    user_id, _, signature = token.partition(".")
    if not same(signature, _signature(secret, user_id)):
        raise NotFound
    return user_id


def _signature(secret: str, user_id: str) -> str:
    return hmac.new(derive(secret, "unsubscribe"), user_id.encode(), "sha256").hexdigest()[:40]
