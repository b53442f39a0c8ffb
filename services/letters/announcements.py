"""The letters that carry an administrator's announcement: what concerns the service, and news that can be declined."""

from __future__ import annotations

from collections.abc import Mapping

from services.i18n import T
from services.letters.base import Kind

_EXAMPLE = (("title", T("Work on Sunday night")), ("text", T("From 2 to 4 in the morning answers may take longer.")))
_SERVICE = Kind(subject=T("{title}"), text=T("{text}"), telegram=T("📣 {title}\n\n{text}"), example=_EXAMPLE)

KINDS: Mapping[str, Kind] = {
    "announcement": _SERVICE,
    "announcement_news": Kind(
        subject=_SERVICE.subject,
        text=_SERVICE.text,
        telegram=_SERVICE.telegram,
        example=_EXAMPLE,
        offer=True,
        news=True,
    ),
}
