"""Sending a table for other programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from services import sheets
from services.sheets import Cell

Parts = AsyncIterator[Sequence[Sequence[Cell]]]


async def sent(request: web.Request, parts: Parts, name: str, title: str) -> web.StreamResponse:
    """Send a table as the file that the address asks for by its ``table``: ``csv`` or ``xlsx``; ``name`` without an ending."""
    if request.match_info["table"] == "csv":
        return await as_csv(request, parts, name)
    data = await sheets.as_xlsx(parts, title)
    return web.Response(body=data, headers=_headers(f"{name}.xlsx", sheets.XLSX_TYPE))


async def as_csv(request: web.Request, parts: Parts, name: str) -> web.StreamResponse:
    """Send a table as CSV, part by part as it is read; ``name`` without an ending."""
    response = web.StreamResponse(headers=_headers(f"{name}.csv", sheets.CSV_TYPE))
    await response.prepare(request)
    async for part in sheets.as_csv(parts):
        await response.write(part)
    await response.write_eof()
    return response


def _headers(file: str, kind: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{file}"', "Content-Type": kind}
