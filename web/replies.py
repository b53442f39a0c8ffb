"""What every answer has, whoever makes it: the security headers, and errors in words that programs and people know."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from services.errors import AppError

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
PAGE_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
}
"""What browsers heed where a page is opened: the two dozen files that it loads go without."""
_PARTS = ("text/css", "text/javascript", "font/", "image/")
HSTS = "max-age=31536000; includeSubDomains"


def secure(headers: CIMultiDict[str], *, tls: bool) -> None:
    """Put the security headers among ``headers``; one that is there already stays. ``tls``: people reach us by https."""
    headers["Server"] = "BotFactory"
    is_part = headers.get("Content-Type", "").startswith(_PARTS)
    for name, value in (HEADERS if is_part else HEADERS | PAGE_HEADERS).items():
        headers.setdefault(name, value)
    if tls:
        headers["Strict-Transport-Security"] = HSTS


def json_error(error: AppError, language: str) -> web.Response:
    """Return an error in the words of the API."""
    body: dict[str, Any] = {"code": error.code, "message": error.text.render(language)}
    if error.field:
        body["field"] = error.field
    return web.json_response({"error": body}, status=error.status)
