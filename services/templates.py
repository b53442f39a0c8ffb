"""WhatsApp's approved templates: the only thing that may be written to a customer who has been silent for 24 hours.

Shapes: developers.facebook.com/documentation/business-messaging/whatsapp/templates (components, positional and named parameters;
authentication-templates, coupon-code templates) and messages/template-messages, checked 2026-11-22.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from db import models
from services.channels import whatsapp
from services.conversations import ConversationRow
from services.conversations.files import NewFile
from services.crypto import Undecryptable
from services.errors import Conflict, Invalid, NotFound, Permanent, Temporary, Unavailable
from services.i18n import T, Text
from services.text import clean, one_line

if TYPE_CHECKING:
    from services.core import Core

_PLACE = re.compile(r"\{\{\s*([A-Za-z0-9_]{1,64})\s*\}\}")
_VALUE_CHARS = 500
_CODE_CHARS = 15
"""So long a code to copy may be, a coupon's or a sign-in code."""
_CODES = "AUTHENTICATION"
# Buttons that ask nothing of whoever sends the template, but for places in a link.
_FREE_BUTTONS = frozenset({"QUICK_REPLY", "PHONE_NUMBER", "VOICE_CALL", "URL"})
_MEDIA: Mapping[str, frozenset[str]] = {
    "image": frozenset({"image/jpeg", "image/png"}),
    "video": frozenset({"video/mp4"}),
    "document": frozenset({"application/pdf"}),
}
"""What a template may begin with, and the types of file that are that."""
_WANTED: Mapping[str, Text] = {
    "image": T("This template begins with a picture: choose a JPEG or PNG file."),
    "video": T("This template begins with a video: choose an MP4 file."),
    "document": T("This template begins with a document: choose a PDF file."),
}
# What only a program can fill, or another part of Meta's tools.
_ONLY_ELSEWHERE: Mapping[str, Text] = {
    "FLOW": T("its button opens a form of WhatsApp Flows, which only a program can handle"),
    "CATALOG": T("it shows products of a WhatsApp catalogue"),
    "MPM": T("it shows products of a WhatsApp catalogue"),
    "SPM": T("it shows products of a WhatsApp catalogue"),
    "PRODUCT": T("it shows products of a WhatsApp catalogue"),
    "ORDER_DETAILS": T("its button opens an order, which only a program can fill"),
    "CAROUSEL": T("it is made of several cards"),
    "LIMITED_TIME_OFFER": T("its offer has a clock that only a program can set"),
    "LOCATION": T("it begins with a place on the map"),
}

REASONS: tuple[tuple[str, Text], ...] = (
    ("132000", T("the number of filled places does not fit the template")),
    ("132001", T("the template does not exist in this language, or is not approved yet")),
    ("132005", T("the filled template is too long")),
    ("132007", T("the template’s content breaks WhatsApp’s rules")),
    ("132008", T("a filled place does not have the form that the template needs")),
    ("132012", T("a filled place does not have the form that the template needs")),
    ("132015", T("WhatsApp has paused the template, because customers did not like it")),
    ("132016", T("WhatsApp has switched the template off for good")),
    ("132068", T("the template’s form is blocked")),
    ("132069", T("the template’s form is limited at the moment")),
    ("131049", T("WhatsApp limits advertising to this customer: try on another day")),
    ("131050", T("the customer does not want advertising from this number")),
)
"""Codes of Meta about templates, and what they mean to the owner."""


_OF_BUTTONS: Mapping[str, tuple[str, str, str]] = {
    "button": ("url", "text", "text"),
    "coupon": ("copy_code", "coupon_code", "coupon_code"),
}
"""Of the places in buttons: the kind of button, the kind of parameter, and what its value is called."""


@dataclass(frozen=True, slots=True)
class Blank:
    """A place of a template to fill in. ``part``: ``header``, ``body``, or ``button`` (a link's ending) and ``coupon`` (the code
    that a button copies), where ``index`` says which button. ``most``: so many characters."""

    part: str
    name: str
    named: bool
    example: str = ""
    index: int = 0
    most: int = _VALUE_CHARS

    @property
    def key(self) -> str:
        """The name of its field in a form."""
        return f"{self.part}{self.index}.{self.name}" if self.part in _OF_BUTTONS else f"{self.part}.{self.name}"


@dataclass(frozen=True, slots=True)
class Template:
    """An approved template. ``unusable``: why it cannot be sent from here, None where it can.

    ``media``: what file it begins with, ``image``, ``video`` or ``document``; empty for none. ``codes``: the buttons that carry
    the sign-in code of the text as well.
    """

    name: str
    language: str
    category: str
    header: str
    body: str
    footer: str
    buttons: tuple[str, ...]
    blanks: tuple[Blank, ...]
    unusable: Text | None = None
    media: str = ""
    codes: tuple[int, ...] = ()

    @property
    def is_code(self) -> bool:
        """Whether it is for sign-in codes, which only a visible telephone number may get (error 131062)."""
        return self.category == _CODES

    @property
    def accept(self) -> str:
        """The types of file that it may begin with, as a form names them."""
        return ",".join(sorted(_MEDIA.get(self.media, ())))

    def check_file(self, file: NewFile | None) -> None:
        """Raise ``Invalid`` where the file that it begins with is missing or is another kind of file."""
        if self.media and (file is None or file.mime not in _MEDIA[self.media]):
            raise Invalid(_WANTED[self.media], field="file")

    def preview(self, values: Mapping[str, str] | None = None) -> str:
        """Return the message as the customer sees it; places without a value stay visible."""

        def filled(part: str, text: str) -> str:
            given = values or {}
            return _PLACE.sub(lambda place: given.get(f"{part}.{place[1]}") or f"[{place[1]}]", text)

        parts = (filled("header", self.header), filled("body", self.body), self.footer)
        return "\n\n".join(part for part in parts if part)

    def payload(self, values: Mapping[str, str]) -> dict[str, Any]:
        """Return the template as it is sent; raises ``Invalid`` naming the place that is empty or too long."""
        components: list[dict[str, Any]] = []
        for blank in self.blanks:
            value = one_line(values.get(blank.key, ""), _VALUE_CHARS + 1)
            if not value:
                raise Invalid(T("Fill in every place of the template."), field=blank.key)
            if len(value) > blank.most:
                raise Invalid(T("This is too long: at most {n} characters.", n=blank.most), field=blank.key)
            parameter = {"type": "text", "text": value}
            if blank.named:
                parameter["parameter_name"] = blank.name
            last = components[-1] if components else {}
            if blank.part in _OF_BUTTONS:
                components.append(_button(blank.part, blank.index, value))
            elif last.get("type") == blank.part:
                last["parameters"].append(parameter)
            else:
                components.append({"type": blank.part, "parameters": [parameter]})
        code = one_line(values.get(self.blanks[0].key, ""), _CODE_CHARS) if self.codes else ""
        components += [_button("button", index, code) for index in self.codes]
        found: dict[str, Any] = {"name": self.name, "language": {"code": self.language}}
        if components:
            found["components"] = components
        return found


def _button(part: str, index: int, value: str) -> dict[str, Any]:
    kind, type_, name = _OF_BUTTONS[part]
    return {"type": "button", "sub_type": kind, "index": str(index), "parameters": [{"type": type_, name: value}]}


def read(told: Mapping[str, Any]) -> Template | None:
    """Read a template as Meta describes it; None for what has no name, language or body."""
    name, language = told.get("name"), told.get("language")
    if not (isinstance(name, str) and isinstance(language, str) and name and language):
        return None
    named = told.get("parameter_format") == "NAMED"
    header = body = footer = media = ""
    codes: list[int] = []
    is_code = told.get("category") == _CODES
    buttons: list[str] = []
    blanks: list[Blank] = []
    unusable: Text | None = None
    for component in told.get("components") or ():
        if not isinstance(component, Mapping):
            continue
        kind, text = component.get("type"), clean(str(component.get("text") or ""), 2000)
        if kind == "HEADER":
            if component.get("format", "TEXT") == "TEXT":
                header = text
                blanks += _blanks("header", text, component, named)
            elif (media := str(component.get("format")).lower()) not in _MEDIA:
                unusable = _elsewhere(component.get("format"))
        elif kind == "BODY":
            body = text
            blanks += _blanks("body", text, component, named)
        elif kind == "FOOTER":
            footer = text
        elif kind == "BUTTONS":
            for index, button in enumerate(component.get("buttons") or ()):
                if not isinstance(button, Mapping):
                    continue
                buttons.append(one_line(str(button.get("text") or ""), 60))
                if is_code and button.get("type") in ("OTP", "URL"):
                    codes.append(index)
                elif button.get("type") == "COPY_CODE":
                    example = button.get("example")
                    shown = str((example[0] if isinstance(example, list) and example else example) or "")
                    blanks.append(Blank("coupon", "code", False, one_line(shown, 100), index, _CODE_CHARS))
                elif button.get("type") not in _FREE_BUTTONS:
                    unusable = _elsewhere(button.get("type"))
                elif button.get("type") == "URL":
                    example, url = button.get("example"), str(button.get("url") or "")
                    shown = str(example[0]) if isinstance(example, list) and example else ""
                    # The example is the whole address, the place only its ending.
                    shown = shown.removeprefix(_PLACE.split(url)[0])
                    places = _PLACE.findall(url)
                    blanks += [Blank("button", place, False, shown, index) for place in places[:1]]
        else:
            unusable = _elsewhere(kind)
    if not body:
        return None
    if is_code:
        # Meta writes these itself: one place for the code in the text, and the same code in the button.
        blanks = [Blank("body", "1", False, most=_CODE_CHARS)]
    category = str(told.get("category") or "")
    shown_as = (name, language, category, header, body, footer)
    return Template(*shown_as, tuple(buttons), tuple(blanks), unusable, media, tuple(codes))


def _elsewhere(kind: Any) -> Text:
    return _ONLY_ELSEWHERE.get(str(kind), T("it has parts that only a program can fill"))


def _blanks(part: str, text: str, component: Mapping[str, Any], named: bool) -> list[Blank]:
    examples = component.get("example")
    shown: dict[str, str] = {}
    if isinstance(examples, Mapping):
        rows = examples.get(f"{part}_text_named_params" if named else f"{part}_text")
        if named and isinstance(rows, list):
            shown = {
                str(row.get("param_name")): str(row.get("example") or "") for row in rows if isinstance(row, Mapping)
            }
        elif isinstance(rows, list) and rows:
            # Of the body there are lists of lists, of the header one list.
            values = rows[0] if isinstance(rows[0], list) else rows
            shown = {str(number): str(value) for number, value in enumerate(values, 1)}
    places = list(dict.fromkeys(_PLACE.findall(text)))
    if not named:
        # They are filled by their number, whatever their order in the text.
        places.sort(key=lambda place: (len(place), place))
    return [Blank(part, place, named, one_line(shown.get(place, ""), 100)) for place in places]


async def approved(core: Core, row: ConversationRow) -> list[Template]:
    """Return the templates of the business account behind a conversation, by name and language.

    Raises ``NotFound`` for a conversation that is not on WhatsApp, ``Conflict`` where the channel has to be mended first,
    ``Unavailable`` where Meta does not answer.
    """
    found = await of_channel(core, row.channel)
    if not row.contact.external_id.isdigit():
        hidden = T("it carries a sign-in code, and this customer’s phone number is hidden")
        found = [replace(each, unusable=hidden) if each.is_code else each for each in found]
    return _in_order(found)


def _in_order(found: Sequence[Template]) -> list[Template]:
    return sorted(found, key=lambda template: (template.unusable is not None, template.name, template.language))


async def of_channel(core: Core, channel: models.Channel) -> list[Template]:
    """Return the templates of the business account behind a channel; raises as :func:`approved` does."""
    if channel.kind != "whatsapp":
        raise NotFound
    mend = Conflict(T("The WhatsApp channel needs attention first: open the channels."), code="channel_broken")
    if channel.external_id is None or channel.credentials is None:
        raise mend
    unseen = Conflict(
        T(
            "The access token may not see the WhatsApp account’s templates: it needs the permission "
            "whatsapp_business_management. Enter a new one on the channels page."
        ),
        code="no_templates",
    )
    if not channel.parent_id:
        raise unseen
    try:
        token = core.credentials(channel.credentials)["access_token"]
        told = await whatsapp.templates(core.graph, token, channel.parent_id)
    except Undecryptable:
        raise mend from None
    except Permanent:
        raise unseen from None
    except Temporary:
        raise Unavailable(T("Meta is not responding right now. Please try again in a minute.")) from None
    return _in_order([template for each in told if (template := read(each)) is not None])


def chosen(found: Sequence[Template], name: str, language: str) -> Template | None:
    """Return the template of a name and a language that can be sent from here."""
    return next(
        (each for each in found if (each.name, each.language) == (name, language) and each.unusable is None), None
    )
