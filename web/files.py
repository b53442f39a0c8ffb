"""What customers sent, at addresses that are signed and end: for the panel's pages and for programs."""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from services import attachments
from web import keys

_HEADERS = {
    # Whatever a file is, a browser may neither run it nor guess what it might be.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
}


async def serve(request: web.Request) -> web.Response:
    """Give a file out: pictures that we made anew and sound to be seen and heard, everything else to be saved only."""
    file, content = await attachments.opened(request.app[keys.CORE], request.match_info["token"])
    shown = file.mime in attachments.INLINE
    headers = {**_HEADERS, "Content-Disposition": _disposition(file.name or file.kind, inline=shown)}
    return web.Response(body=content, content_type=file.mime if shown else "application/octet-stream", headers=headers)


def _disposition(name: str, *, inline: bool) -> str:
    """Return the header (RFC 6266) for a name that a stranger chose."""
    title = (
        "".join(c for c in name.replace("\\", "/").rpartition("/")[2] if c.isprintable()).strip(". ")[:150] or "file"
    )
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in title)
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(title, safe='')}"


def setup(app: web.Application) -> None:
    """Add the route."""
    app.router.add_get("/files/{token}", serve)
