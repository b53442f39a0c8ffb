"""Reading what browsers send: forms and uploads, within their limits."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

import structlog
from aiohttp import web
from multidict import MultiDict

from services import outfiles
from services.errors import Invalid, TooLarge, Unavailable
from services.i18n import T
from services.text import clean
from web import keys

log = structlog.get_logger(__name__)

_FIELDS_MAX = 200
FILES_AT_ONCE = 20
_FORM_OVERHEAD = 256 * 1024
_HALVES = re.compile("[\ud800-\udfff]")
"""Halves of characters, which no text in UTF-8 has: some of the encodings that a request may name make them."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a form; ``name`` is what the browser says and proves nothing."""

    name: str
    data: bytes


class Form:
    """Fields and files of one form."""

    def __init__(self, fields: MultiDict[str], files: MultiDict[Upload]) -> None:
        self.fields = fields
        self.files = files

    def text(self, name: str, limit: int = 500) -> str:
        """Return a field without invisible characters; raises ``Invalid`` for one longer than ``limit`` characters."""
        value = self.fields.get(name, "")
        if len(value) > limit:
            raise Invalid(T("This is too long: at most {n} characters.", n=limit), field=name)
        return clean(value)

    def basis(self) -> int | None:
        """Return the hidden field ``basis``: the version of what the page was drawn from. None where the form has no such field;
        what was tampered with fits no version.
        """
        typed = self.fields.get("basis")
        if typed is None:
            return None
        return int(typed) if typed.isascii() and typed.isdigit() and len(typed) < 10 else -1

    def secret(self, name: str) -> str:
        """Return a password or key exactly as typed, at most 4,096 characters."""
        return self.fields.get(name, "")[:4096]

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return [clean(value, 500) for value in self.fields.getall(name, [])]

    def upload(self, name: str) -> Upload:
        """Return a file; raises ``Invalid`` where none was chosen."""
        found = self.files.get(name)
        if found is None or (not found.name and not found.data):
            raise Invalid(T("Choose a file first."), field=name)
        return found

    def uploads(self, name: str) -> list[Upload]:
        """Return all files of a field; raises ``Invalid`` for more than :data:`FILES_AT_ONCE`: none is left out unsaid."""
        found = self.files.getall(name, [])
        if len(found) > FILES_AT_ONCE:
            raise Invalid(T("At most {n} files at once: send the others afterwards.", n=FILES_AT_ONCE), field=name)
        return found


_FORM: web.RequestKey[Form] = web.RequestKey("form", Form)
ASKED: web.RequestKey[bool] = web.RequestKey("asked", bool)
"""Set where the answer to a form is only the question whether it shall really be done."""


def is_upload(request: web.Request) -> bool:
    """Tell whether the request carries files, and so may be larger than others."""
    return request.content_type == "multipart/form-data"


def body_limit(request: web.Request) -> int:
    """Return the largest body in bytes that this request may have."""
    settings = request.app[keys.CORE].settings
    if is_upload(request):
        # What people send to customers may be larger than documents that a bot reads.
        sends = request.method == "POST" and request.path.startswith("/inbox/")
        largest = outfiles.largest(request.app[keys.CORE]) if sends else 0
        return max(settings.knowledge.max_file_bytes, largest) + _FORM_OVERHEAD
    return settings.server.body_limit_kib * 1024


async def read(request: web.Request) -> Form:
    """Return the form of a request, read once.

    Raises ``TooLarge``, ``Invalid`` for a broken one, and ``Unavailable`` when the disk has no room for its files.
    """
    known: Form | None = request.get(_FORM)
    if known is not None:
        return known
    fields: MultiDict[str] = MultiDict()
    files: MultiDict[Upload] = MultiDict()
    try:
        if is_upload(request):
            posted = await request.clone(client_max_size=body_limit(request)).post()
        else:
            posted = await request.post()
        for name, value in posted.items():
            if isinstance(value, web.FileField):
                # At most some megabytes, already received: reading it from the spool is a copy, not a wait.
                files.add(name, Upload(value.filename, value.file.read()))
                value.file.close()
            elif isinstance(value, str):
                fields.add(name, value)
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge from None
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        log.warning("upload_not_spooled", reason=error.strerror)
        raise Unavailable from None
    except (ValueError, LookupError, AssertionError):
        raise Invalid(T("This form arrived damaged. Please send it again.")) from None
    halved = any(_HALVES.search(text) for field in fields.items() for text in field)
    if halved or len(fields) + len(files) > _FIELDS_MAX:
        raise Invalid(T("This form arrived damaged. Please send it again."))
    form = Form(fields, files)
    request[_FORM] = form
    return form
