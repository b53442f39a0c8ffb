"""Everything that can go wrong in words a person understands.

An :class:`AppError` carries a stable code for programs, an HTTP status, and a text for people. It is rendered in one
place for pages and the API (``web/middlewares.py``) and in one place for the factory bot (``handlers/errors.py``).
Adapters of outside services raise :class:`Temporary` or :class:`Permanent`.
"""

from __future__ import annotations

from services.i18n import T, Text


class AppError(Exception):
    """An expected failure.

    Attributes: ``code`` (for programs), ``status`` (HTTP), ``text`` (for people), ``field`` (the input that was wrong).
    """

    code = "error"
    status = 500
    default = T("Something went wrong on our side. Please try again in a minute.")

    def __init__(self, text: Text | None = None, *, code: str | None = None, field: str | None = None) -> None:
        self.text = text or self.default
        if code:
            self.code = code
        self.field = field
        super().__init__(f"{self.code}: {self.text.msgid}")


class Invalid(AppError):
    """Input that must be corrected by the person who sent it."""

    code = "invalid"
    status = 400
    default = T("Please check what you entered.")


class NotSignedIn(AppError):
    """No or no longer valid sign-in or API token."""

    code = "unauthorized"
    status = 401
    default = T("Please sign in first.")


class Forbidden(AppError):
    """Known person, not allowed."""

    code = "forbidden"
    status = 403
    default = T("You are not allowed to do this.")


class NotFound(AppError):
    """Missing, or another owner's: the two must not be told apart."""

    code = "not_found"
    status = 404
    default = T("There is nothing here, or it belongs to someone else.")


class Conflict(AppError):
    """The request does not fit the present state."""

    code = "conflict"
    status = 409
    default = T("This cannot be done right now. Refresh the page and try again.")


class TooLarge(AppError):
    """More bytes than allowed."""

    code = "too_large"
    status = 413
    default = T("This is too large.")


class TooMany(AppError):
    """A limit in time or number was reached; ``retry_after_s`` says when to come back."""

    code = "too_many"
    status = 429
    default = T("Too many requests. Please wait a little and try again.")

    def __init__(self, text: Text | None = None, *, retry_after_s: int = 60, code: str | None = None) -> None:
        super().__init__(text, code=code)
        self.retry_after_s = retry_after_s


class Unavailable(AppError):
    """The database or another needed part does not answer now; nothing was accepted."""

    code = "unavailable"
    status = 503
    default = T("We cannot take your request right now. Please try again in a minute.")


class Temporary(Exception):
    """An outside service failed in a way that may pass.

    ``retry_after_s``: how long it asked us to wait, if it did. ``sent``: the request may have taken effect there (it
    left us and no answer came), so it must not be repeated blindly.
    """

    def __init__(self, reason: str, *, retry_after_s: float | None = None, sent: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.sent = sent


class Permanent(Exception):
    """An outside service refused for good; repeating the same request is useless."""
