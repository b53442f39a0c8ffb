"""What travels: strict JSON in, exact JSON out, and the kinds of fields that bodies and addresses are made of."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Generic, Protocol, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
)

from services.errors import Invalid
from services.i18n import T, Text
from services.text import one_line

Row = TypeVar("Row", bound=BaseModel)


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


Kept = TypeVar("Kept", bound=_Identified)

_QUOTED = re.compile(r"'([^']*)'")
_FAULTS: dict[str, Text] = {
    "missing": T("This field is required."),
    "string_type": T("This must be a text."),
    "list_type": T("This must be a list."),
    "int_parsing": T("This must be a whole number."),
    "int_type": T("This must be a whole number."),
    "none_not_allowed": T("This must not be null."),
    "model_type": T("Send a JSON object."),
    "model_attributes_type": T("Send a JSON object."),
    "dict_type": T("Send a JSON object."),
    "union_tag_not_found": T("This field is required."),
}


class Fault(ValueError):
    """A value that a validator of ours refuses; ``text`` says why to people."""

    def __init__(self, text: Text) -> None:
        super().__init__(text.msgid)
        self.text = text


class Body(BaseModel):
    """What a program sends. Unknown and read-only fields are refused, types are taken as they are written."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Query(BaseModel):
    """What stands behind the question mark; names that a call does not know are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Answer(BaseModel):
    """What a program gets."""

    model_config = ConfigDict(frozen=True)


class Listing(Answer, Generic[Row]):
    """Part of a list; ``next`` is the ``cursor`` of the following part, null at the end."""

    items: list[Row]
    next: str | None = None


def _readable(value: str) -> str:
    # PostgreSQL refuses NUL, UTF-8 refuses lone surrogates; neither is ever meant.
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise Fault(T("The text contains characters that cannot be saved."))
    return value


def _given(value: Any) -> Any:
    if value is None:
        raise Fault(T("This must not be null."))
    return value


def _moment(value: Any) -> Any:
    """Read RFC 3339, or a day; without an offset it is UTC. A ``+`` that an address turned into a space is understood."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if len(text) > 10 and text[10] in "Tt":
        text = text.replace(" ", "+")
    try:
        moment = dt.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        if not 1970 < moment.year < 2200:
            raise ValueError("out of range")
        return moment.astimezone(dt.UTC)
    except ValueError:
        raise Fault(T("This must be a time like 2026-11-21T09:00:00Z.")) from None


Word = Annotated[str, AfterValidator(_readable)]
"""A text that can be stored."""
NotNull = BeforeValidator(_given)
"""For fields that may be left out but not be null."""
Moment = Annotated[dt.datetime, BeforeValidator(_moment)]
Cursor = Annotated[str, Field(pattern=r"^[0-9a-z]{26}$", description="`next` of the part before")]
MomentCursor = Annotated[str, Field(pattern=r"^\d{1,16}-[0-9a-z]{26}$", description="`next` of the part before")]
NumberCursor = Annotated[str, Field(pattern=r"^\d{1,18}$", description="`next` of the part before")]
Limit = Annotated[int, Field(ge=1, le=100, description="items in a part")]
Usd = Annotated[
    Decimal,
    PlainSerializer(lambda value: value, when_used="unless-none"),
    WithJsonSchema({"type": "number", "description": "US dollars, exact"}),
]
UtcMoment = Annotated[dt.datetime, WithJsonSchema({"type": "string", "format": "date-time"})]


class Part(Query):
    """Which part of a list."""

    cursor: Cursor | None = None
    limit: Limit = 50


class NumberedPart(Query):
    """Which part of a list whose items are numbered."""

    cursor: NumberCursor | None = None
    limit: Limit = 50


def part_of(
    rows: Sequence[Kept], part: Part, show: Callable[[Kept], Row], *, newest_first: bool = False
) -> Listing[Row]:
    """Return the part that was asked for of a list that is bounded and at hand, in the order of its ids."""
    if (last := part.cursor) is not None:
        rows = [row for row in rows if (row.id < last if newest_first else row.id > last)]
    shown = rows[: part.limit]
    return Listing(items=[show(row) for row in shown], next=shown[-1].id if len(rows) > part.limit else None)


def fault_of(error: ValidationError, *, tagged: bool = False) -> Invalid:
    """Return the first fault as the API tells it. ``tagged``: the place begins with the kind that was chosen."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = [str(part) for part in first["loc"]]
    if tagged and len(place) > 1:
        place = place[1:]
    # Names that a stranger chose are shown back: as one short line.
    field = one_line(".".join(place), 100) or None
    kind, context = first["type"], first.get("ctx", {})
    if kind == "extra_forbidden":
        return Invalid(T("Unknown field: {name}.", name=field or ""), code="unknown_field", field=field)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        field = "type"
    if isinstance(context.get("error"), Fault):
        text = context["error"].text
    elif kind in ("literal_error", "enum", "union_tag_invalid"):
        names = ", ".join(_QUOTED.findall(str(context.get("expected") or context.get("expected_tags") or "")))
        text = T("Unknown value. Use one of: {names}.", names=names)
    elif kind == "too_long" and context["field_type"] == "List":
        text = T("These are too many: at most {n}.", n=context["max_length"])
    elif kind in ("string_too_long", "too_long"):
        text = T("This is too long: at most {n} characters.", n=context["max_length"])
    elif kind in ("string_too_short", "too_short"):
        text = T("This must not be empty.")
    elif kind in ("greater_than_equal", "less_than_equal"):
        text = T("This must be a number from {least} to {most}.", least=1, most=100)
    elif kind == "string_pattern_mismatch":
        text = T("This page address is not valid; start again from the first page.")
    else:
        text = _FAULTS.get(kind) or T("Please check what you entered.")
    return Invalid(text, field=field)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def loads(raw: bytes) -> Any:
    """Read JSON as RFC 8259 means it: UTF-8, no NaN, no name twice, no depth without end. Raises ``Invalid``."""
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise Invalid(T("This is not valid JSON."), code="invalid_json") from None


def _plain(value: Any) -> Any:
    # A Decimal becomes a JSON number digit by digit, never a float.
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f").encode())
    raise TypeError(type(value).__name__)


def dumps(answer: BaseModel) -> bytes:
    """Return an answer as JSON; moments in RFC 3339 with ``Z``."""
    return orjson.dumps(answer.model_dump(by_alias=True), default=_plain, option=orjson.OPT_UTC_Z)
