"""What every page of the administrator begins with, and tables for other programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from db import models
from services import sheets
from services.errors import NotFound
from services.i18n import T
from services.sheets import Cell
from web import auth


def administrator(request: web.Request) -> models.User:
    """Return the signed-in administrator; raises ``NotFound`` for anybody else, as for an address that there is not."""
    person = auth.user(request)
    if not person.is_admin:
        raise NotFound(T("There is no such page."))
    return person


async def send_table(
    request: web.Request, parts: AsyncIterator[Sequence[Sequence[Cell]]], name: str, title: str
) -> web.StreamResponse:
    """Send a table as the kind of file that the address ends with."""
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
