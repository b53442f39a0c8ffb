"""What the administrator's lists share: the filters of an address, and the filtered rows as a table for other programs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from services.days import day_of, today
from services.errors import AppError, Invalid
from services.i18n import Text
from web import auth, tables
from web.pages.shell import core_of, fault_of

Filters = TypeVar("Filters")
Make = Callable[[Mapping[str, str]], Filters]


@dataclass(frozen=True, slots=True)
class Asked(Generic[Filters]):
    """Which rows an address asks for. ``typed``: its filters as they were typed; ``fault``: what is wrong with them."""

    filters: Filters
    typed: Mapping[str, str]
    cursor: str
    fault: AppError | None

    @property
    def given(self) -> dict[str, str]:
        """The filters that are not empty, as they were typed."""
        return {name: value for name, value in self.typed.items() if value}

    def shown(self, request: web.Request, error: AppError | None = None) -> dict[str, Any]:
        """Return what a list's page needs beside its rows. ``error``: what else went wrong, said in place of the fault."""
        fault = error or self.fault
        return {
            "status": fault.status if fault else 200,
            "fault": fault_of(fault, request) if fault else None,
            "first": not self.cursor,
            "values": self.typed,
            "query": urlencode(self.given),
        }


def asked(
    request: web.Request, names: Sequence[str], make: Callable[[Mapping[str, str]], Filters], *, strict: bool = False
) -> Asked[Filters]:
    """Return what an address asks for by the filters ``names``, which ``make`` reads as they were typed.

    Where it raises ``Invalid``, all rows are asked for; ``strict``: that is raised instead.
    """
    typed, fault = {name: request.query.get(name, "")[:200].strip() for name in names}, None
    try:
        filters = make(typed)
    except Invalid as error:
        if strict:
            raise
        filters, fault = make(dict.fromkeys(names, "")), error
    return Asked(filters, typed, request.query.get("cursor", "")[:60], fault)


def days(typed: Mapping[str, str]) -> tuple[dt.date | None, dt.date | None]:
    """Return the days ``since`` and ``until`` as they were typed; raises ``Invalid`` at the field."""
    return day_of(typed["since"], "since"), day_of(typed["until"], "until")


async def send(request: web.Request, parts: tables.Parts, name: str, title: Text) -> web.StreamResponse:
    """Send a list as a table for other programs; its file is called after the list and the day."""
    dated = f"{name}-{today(core_of(request).now()).isoformat()}"
    return await tables.sent(request, parts, dated, title.render(auth.visitor(request).language))
