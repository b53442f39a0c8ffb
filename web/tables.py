"""Sending a table for other programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from services import sheets
from services.sheets import Cell


async def sent(
    request: web.Request, parts: AsyncIterator[Sequence[Sequence[Cell]]], name: str, title: str
) -> web.StreamResponse:
    """Send a table as the file that the address asks for by its ``table``: ``csv`` or ``xlsx``; ``name`` without an ending."""
    kind = request.match_info["table"]
    headers = {"Content-Disposition": f'attachment; filename="{name}.{kind}"'}
    if kind == "xlsx":
        data = await sheets.as_xlsx(parts, title)
        return web.Response(body=data, headers={**headers, "Content-Type": sheets.XLSX_TYPE})
    response = web.StreamResponse(headers={**headers, "Content-Type": sheets.CSV_TYPE})
    await response.prepare(request)
    async for part in sheets.as_csv(parts):
        await response.write(part)
    await response.write_eof()
    return response
