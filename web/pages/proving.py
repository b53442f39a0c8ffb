"""Before the things that give an account away: whoever sits at the browser shows once more that the account is theirs."""

from __future__ import annotations

import datetime as dt

from aiohttp import web

from db.base import utcnow
from services import accounts
from services.errors import Invalid
from services.i18n import T
from web import auth, forms
from web.pages.shell import core_of

_FRESH = dt.timedelta(minutes=10)


def is_fresh(request: web.Request) -> bool:
    """Tell whether this person has signed in a moment ago: what stands in for a password that there is not."""
    signed_in = auth.visitor(request).signed_in
    return signed_in is not None and utcnow() - signed_in.session.created_at < _FRESH


async def prove(request: web.Request, form: forms.Form, field: str = "current_password") -> None:
    """Take the password out of ``field``, or without a password a sign-in of the last ten minutes.

    Raises ``Invalid`` (that field) and, where it was tried too often, ``TooMany``.
    """
    core, person = core_of(request), auth.user(request)
    if person.password_hash is None:
        if not is_fresh(request):
            text = T("You signed in a while ago. For this, sign out, sign in again and come back within ten minutes.")
            raise Invalid(text, field=field)
        return
    attempts = core.settings.limits.login_attempts_per_15_min
    # A browser that is signed in is counted by itself: neither its neighbours nor another browser can use its tries up.
    signed_in = auth.visitor(request).signed_in
    here = f"password:{signed_in.session.id if signed_in is not None else person.id}"
    await accounts.allow_attempt(core.limits, person.id, auth.client_address(request), attempts, device=here)
    if not await accounts.verify_password(person, form.secret(field)):
        raise Invalid(T("The current password is wrong."), field=field)
    await accounts.forget_attempts(core.limits, person.id, device=here)
