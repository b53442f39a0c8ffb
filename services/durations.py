"""How long something took, for people: "4 s", "3 min"."""

from __future__ import annotations

from services.i18n import translate


def text(seconds: float | None, language: str) -> str:
    """Return a duration in its largest fitting unit; a dash of None."""
    if seconds is None:
        return "–"
    if seconds < 9.5:
        return translate(language, "{n} s", n=f"{seconds:.1f}".replace(".", "." if language == "en" else ","))
    if seconds < 90:
        return translate(language, "{n} s", n=round(seconds))
    if seconds < 90 * 60:
        return translate(language, "{n} min", n=round(seconds / 60))
    if seconds < 36 * 3600:
        return translate(language, "{n} h", n=round(seconds / 3600))
    return translate(language, "{n} d", n=round(seconds / 86_400))
