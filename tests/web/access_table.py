"""Who gets what from every address: the written table that the walk in ``test_access.py`` compares with what happens.

A line a route; five statuses: nobody, owner A, owner B, banned A, administrator. ``A`` owns the objects in the address.
A route that has no line here fails the walk, and so does a line without a route.
"""

from __future__ import annotations

Statuses = tuple[int, int, int, int, int]

OPEN: Statuses = (200, 200, 200, 200, 200)
DOOR: Statuses = (200, 303, 303, 200, 303)
PAGE: Statuses = (303, 200, 200, 303, 200)
OWN_PAGE: Statuses = (303, 200, 404, 303, 404)
FORM: Statuses = (401, 303, 303, 401, 303)
OWN_FORM: Statuses = (401, 303, 404, 401, 404)
API: Statuses = (401, 200, 200, 401, 200)
OWN_API: Statuses = (401, 200, 404, 401, 404)
OWN_API_GONE: Statuses = (401, 204, 404, 401, 404)
OWN_API_MADE: Statuses = (401, 201, 404, 401, 404)


def everybody(status: int) -> Statuses:
    """Return the same status for all."""
    return (status, status, status, status, status)


TABLE: dict[tuple[str, str], Statuses] = {
    # Machines
    ("POST", "/telegram/webhook/{channel_id}"): everybody(401),
    ("GET", "/whatsapp/webhook"): everybody(403),
    ("POST", "/whatsapp/webhook"): everybody(401),
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/metrics"): OPEN,  # the walk comes from loopback; from elsewhere: test_machines.py
    ("GET", "/static/{version}/{name}"): OPEN,
    # Strangers
    ("GET", "/"): DOOR,
    ("GET", "/favicon.ico"): everybody(303),
    ("GET", "/robots.txt"): OPEN,
    ("POST", "/preferences"): everybody(303),
    ("GET", "/login"): DOOR,
    ("POST", "/login"): everybody(400),
    ("GET", "/register"): DOOR,
    ("POST", "/register"): everybody(400),
    ("GET", "/login/link"): everybody(400),
    ("POST", "/login/link"): everybody(400),
    # Customers
    ("GET", "/chat/{public_id}"): OPEN,
    ("GET", "/chat/{public_id}/messages"): OPEN,
    ("POST", "/chat/{public_id}/messages"): everybody(400),
    ("GET", "/files/{token}"): everybody(404),  # the address is the key: tests/web/test_files.py
    # Signed in
    ("POST", "/logout"): FORM,
    ("GET", "/dashboard"): PAGE,
    ("POST", "/dashboard/steps"): FORM,
    ("POST", "/notices/{notice}/dismiss"): FORM,
    ("GET", "/notices"): everybody(303),  # a part of a page, for its script
    ("GET", "/events"): (303, 200, 200, 303, 200),
    ("GET", "/settings"): PAGE,
    ("POST", "/settings/profile"): (401, 400, 400, 401, 400),
    ("POST", "/settings/password"): (401, 400, 400, 401, 400),
    ("POST", "/settings/sessions/end-others"): FORM,
    ("POST", "/settings/sessions/{session}/end"): OWN_FORM,
    ("POST", "/settings/tokens"): (401, 200, 200, 401, 200),
    ("POST", "/settings/tokens/{token}/revoke"): OWN_FORM,
    ("POST", "/settings/telegram"): (401, 404, 404, 401, 404),  # no factory bot in the walk
    # Bots
    ("GET", "/bots"): (303, 200, 303, 303, 303),  # who has none is sent to make one
    ("POST", "/bots"): (401, 400, 400, 401, 400),
    ("GET", "/bots/new"): PAGE,
    ("POST", "/bots/example"): FORM,
    ("GET", "/bots/{bot}"): OWN_PAGE,
    ("POST", "/bots/{bot}"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/start"): OWN_FORM,
    ("POST", "/bots/{bot}/stop"): OWN_FORM,
    ("POST", "/bots/{bot}/key"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/delete"): (401, 400, 404, 401, 404),
    ("GET", "/bots/{bot}/setup"): OWN_PAGE,
    ("POST", "/bots/{bot}/try"): (401, 200, 404, 401, 404),
    ("GET", "/bots/{bot}/documents"): OWN_PAGE,
    ("GET", "/bots/{bot}/documents/list"): OWN_PAGE,
    ("POST", "/bots/{bot}/documents"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/documents/{document}/delete"): OWN_FORM,
    ("POST", "/bots/{bot}/documents/{document}/retry"): OWN_FORM,
    ("POST", "/bots/{bot}/answers"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/answers/{answer}"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/answers/{answer}/delete"): OWN_FORM,
    ("POST", "/bots/{bot}/unanswered/{question}/dismiss"): OWN_FORM,
    ("GET", "/bots/{bot}/channels"): OWN_PAGE,
    ("POST", "/bots/{bot}/channels/telegram"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/channels/whatsapp"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/channels/web"): OWN_FORM,
    ("POST", "/bots/{bot}/channels/{channel}/disconnect"): OWN_FORM,
    ("GET", "/bots/{bot}/qr.{kind}"): OWN_PAGE,
    ("GET", "/bots/{bot}/conversations"): OWN_PAGE,
    ("GET", "/bots/{bot}/conversations/{conversation}"): OWN_PAGE,
    ("POST", "/bots/{bot}/conversations/{conversation}"): OWN_FORM,
    ("POST", "/bots/{bot}/conversations/{conversation}/status"): OWN_FORM,
    # The API
    ("GET", "/api/v1/openapi.json"): OPEN,
    ("*", "/api/{path}"): everybody(404),
    ("POST", "/api/v1/bots"): (401, 400, 400, 401, 400),
    ("GET", "/api/v1/bots"): API,
    ("GET", "/api/v1/bots/{bot_id}"): OWN_API,
    ("PATCH", "/api/v1/bots/{bot_id}"): OWN_API,
    ("DELETE", "/api/v1/bots/{bot_id}"): OWN_API_GONE,
    ("POST", "/api/v1/bots/{bot_id}/start"): OWN_API,
    ("POST", "/api/v1/bots/{bot_id}/stop"): OWN_API,
    ("POST", "/api/v1/bots/{bot_id}/documents"): (401, 415, 404, 401, 404),
    ("GET", "/api/v1/bots/{bot_id}/documents"): OWN_API,
    ("GET", "/api/v1/bots/{bot_id}/documents/{document_id}"): OWN_API,
    ("DELETE", "/api/v1/bots/{bot_id}/documents/{document_id}"): OWN_API_GONE,
    ("POST", "/api/v1/bots/{bot_id}/channels"): OWN_API_MADE,
    ("GET", "/api/v1/bots/{bot_id}/channels"): OWN_API,
    ("DELETE", "/api/v1/bots/{bot_id}/channels/{channel_id}"): OWN_API_GONE,
    ("POST", "/api/v1/bots/{bot_id}/chat"): OWN_API,
    ("GET", "/api/v1/bots/{bot_id}/conversations"): OWN_API,
    ("PATCH", "/api/v1/conversations/{conversation_id}"): OWN_API,
    ("GET", "/api/v1/conversations/{conversation_id}/messages"): OWN_API,
    ("POST", "/api/v1/conversations/{conversation_id}/messages"): OWN_API_MADE,
    ("GET", "/api/v1/bots/{bot_id}/unanswered"): OWN_API,
    ("POST", "/api/v1/bots/{bot_id}/answers"): OWN_API_MADE,
    ("GET", "/api/v1/bots/{bot_id}/answers"): OWN_API,
    ("DELETE", "/api/v1/bots/{bot_id}/answers/{answer_id}"): OWN_API_GONE,
    ("GET", "/api/v1/usage"): API,
}

BODIES: dict[tuple[str, str], dict[str, object]] = {
    ("POST", "/api/v1/bots"): {},
    ("PATCH", "/api/v1/bots/{bot_id}"): {"name": "Renamed"},
    ("POST", "/api/v1/bots/{bot_id}/channels"): {"type": "web"},
    ("POST", "/api/v1/bots/{bot_id}/chat"): {"contact": "walk", "text": "Salom"},
    ("POST", "/api/v1/bots/{bot_id}/answers"): {"question": "Savol?", "answer": "Javob."},
    ("PATCH", "/api/v1/conversations/{conversation_id}"): {"status": "bot"},
    ("POST", "/api/v1/conversations/{conversation_id}/messages"): {"text": "Salom"},
    ("POST", "/bots/{bot}/try"): {"text": "Salom"},
    ("POST", "/bots/{bot}/conversations/{conversation}"): {"text": "Salom"},
    ("POST", "/bots/{bot}/conversations/{conversation}/status"): {"status": "human"},
}
"""What the walk sends where an empty body would be refused before the question of who may is answered."""
