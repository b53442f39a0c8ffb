"""How every call of the API runs: token, limit, body, answer. A resource module only says what its calls take and give.

The signature of a handler is the description of its call: parameters named as in the path, ``body`` and ``query`` for what is
sent, the return type for what is answered. The document at ``/api/v1/openapi.json`` is made from the same.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, get_type_hints

import structlog
from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError

from db import models
from db.base import ID_LENGTH
from db.engine import DatabaseUnavailable
from services import accounts
from services.core import Core
from services.crypto import digest
from services.errors import AppError, Invalid, NotFound, NotSignedIn, TooMany
from services.i18n import T
from web import auth, keys
from web.api import wire

log = structlog.get_logger(__name__)

PREFIX = "/api/v1"
# Rows have texts for ids; what is numbered (an answer) has at most the digits that every database takes.
_ID = re.compile(rf"[0-9a-z]{{{ID_LENGTH}}}|[0-9]{{1,18}}")
_PLACE = re.compile(r"\{(\w+)\}")
_SEEN_EVERY_S = 300
_JSON_TYPES = ("application/octet-stream", "application/json")

Handler = Callable[..., Awaitable[BaseModel | None]]


class UnsupportedType(AppError):
    """The body is of a kind that this call does not take."""

    code = "unsupported_media_type"
    status = 415
    default = T("Send the data as {name}.", name="application/json")


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, and what the handler needs to answer. ``language``: of texts for people."""

    request: web.Request
    core: Core
    user: models.User
    language: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call of the API. ``upload``: it takes a file; ``errors``: statuses beside those that every call may have."""

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    status: int
    upload: bool
    errors: tuple[int, ...]
    example: Any
    body: TypeAdapter[Any] | None
    query: TypeAdapter[Any] | None
    answer: TypeAdapter[Any] | None
    tagged: bool

    @property
    def places(self) -> list[str]:
        """The names in the path."""
        return _PLACE.findall(self.path)

    async def __call__(self, request: web.Request) -> web.Response:
        """Run the call."""
        call = await _admit(request)
        arguments: dict[str, Any] = {}
        for name in self.places:
            value = request.match_info[name]
            if not _ID.fullmatch(value):
                raise NotFound
            arguments[name] = value
        try:
            if self.query is not None:
                arguments["query"] = self.query.validate_python(_query(request))
            if self.body is not None:
                arguments["body"] = self.body.validate_python(await _body(request))
        except ValidationError as error:
            raise wire.fault_of(error, tagged=self.tagged) from None
        answer = await self.handler(call, **arguments)
        if answer is None:
            return web.Response(status=self.status)
        return web.Response(status=self.status, body=wire.dumps(answer), content_type="application/json")


@dataclass
class Routes:
    """The calls of one resource. ``tag`` groups them in the document."""

    tag: str
    endpoints: list[Endpoint] = field(default_factory=list)

    def _add(
        self,
        method: str,
        path: str,
        status: int,
        *,
        upload: bool = False,
        errors: tuple[int, ...] = (),
        example: Any = None,
    ) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            hints = get_type_hints(handler, include_extras=True)
            body, query, answer = hints.get("body"), hints.get("query"), hints["return"]
            self.endpoints.append(
                Endpoint(
                    method,
                    path,
                    handler,
                    self.tag,
                    (inspect.getdoc(handler) or "").partition("\n")[0],
                    status,
                    upload,
                    errors,
                    example,
                    TypeAdapter(body) if body is not None else None,
                    TypeAdapter(query) if query is not None else None,
                    TypeAdapter(answer) if answer is not type(None) else None,
                    body is not None and not inspect.isclass(body),
                )
            )
            return handler

        return register

    def get(self, path: str, *, errors: tuple[int, ...] = ()) -> Callable[[Handler], Handler]:
        """Register a call that reads."""
        return self._add("GET", path, 200, errors=errors)

    def post(
        self, path: str, status: int = 200, *, upload: bool = False, errors: tuple[int, ...] = (), example: Any = None
    ) -> Callable[[Handler], Handler]:
        """Register a call that makes or does something."""
        return self._add("POST", path, status, upload=upload, errors=errors, example=example)

    def patch(self, path: str, *, example: Any = None) -> Callable[[Handler], Handler]:
        """Register a call that changes some fields."""
        return self._add("PATCH", path, 200, example=example)

    def delete(self, path: str) -> Callable[[Handler], Handler]:
        """Register a call that removes."""
        return self._add("DELETE", path, HTTPStatus.NO_CONTENT)


def _bearer(request: web.Request) -> str:
    """Return the token of the header; never one from the address, which ends in logs."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > 200 or not token.isascii():
        raise NotSignedIn(T("Send your API token: Authorization: Bearer TOKEN."))
    return token


async def _admit(request: web.Request) -> Call:
    """Return the caller; raises ``NotSignedIn`` and ``TooMany``."""
    core = request.app[keys.CORE]
    token = _bearer(request)
    limits = core.settings.limits
    async with core.db.read() as session:
        user = await accounts.token_user(session, token)
    if user is None:
        # By the address alone: whoever invents tokens would get a limit with each of them.
        if not await auth.limit_address(request, "api-token", limits.login_attempts_per_15_min * 4, 900):
            raise TooMany(retry_after_s=900)
        raise NotSignedIn(T("This API token is not valid. It may have been revoked."))
    key = digest(token)[:32]
    if not await core.limits.hit(f"api:{key}", limits.api_requests_per_minute, 60):
        raise TooMany(retry_after_s=60)
    if await core.limits.hit(f"api-seen:{key}", 1, _SEEN_EVERY_S):
        core.tasks.start(_seen(core, token), name="api:seen")
    accepted = request.headers.get("Accept-Language")
    return Call(request, core, user, auth.accepted_language(accepted) if accepted else user.language)


async def _seen(core: Core, token: str) -> None:
    """Note that a token is in use; a busy database may forget it."""
    try:
        async with core.db.write() as session:
            await accounts.used_api_token(session, token)
    except DatabaseUnavailable:
        log.info("token_use_not_noted")


def _query(request: web.Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if name in found:
            raise Invalid(T("This value is given twice."), field=name[:100])
        found[name] = value
    # A form sends its empty fields too.
    return {name: value for name, value in found.items() if value}


async def _body(request: web.Request) -> Any:
    kind = request.content_type
    if kind not in _JSON_TYPES and not kind.endswith("+json"):
        raise UnsupportedType
    try:
        return wire.loads(await request.read())
    except (web.RequestPayloadError, UnicodeDecodeError):
        raise Invalid(T("This is not valid JSON."), code="invalid_json") from None
