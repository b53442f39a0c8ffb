"""Who gets what from every address: the written table that the walk in ``test_access.py`` compares with what happens.

A line a route; five statuses: nobody, owner A, owner B, banned A, administrator. ``A`` owns the objects in the address.
A route that has no line here fails the walk, and so does a line without a route.

A manager and an operator of A stand for one of the five, by the right that the route takes: on a plain line the manager gets
what A gets and the operator what B gets, who is a stranger. :func:`talk` marks what both may do, :func:`own` what neither may,
and :class:`Line` writes down what is neither.
"""

from __future__ import annotations

from dataclasses import dataclass

Statuses = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Line:
    """The statuses of a route for all seven."""

    five: Statuses
    manager: int
    operator: int

    def of(self) -> dict[str, int]:
        """Return the status of each identity by its name."""
        nobody, owner, stranger, banned, administrator = self.five
        return {
            "nobody": nobody,
            "banned A": banned,
            "owner B": stranger,
            "administrator": administrator,
            "operator of A": self.operator,
            "manager of A": self.manager,
            "owner A": owner,
        }


def talk(five: Statuses) -> Line:
    """Conversations: manager and operator like the owner."""
    return Line(five, manager=five[1], operator=five[1])


def manage(five: Statuses) -> Line:
    """What a bot knows, says and is connected to: the manager like the owner, the operator like a stranger."""
    return Line(five, manager=five[1], operator=five[2])


def own(five: Statuses) -> Line:
    """What costs, deletes, gives rights to others or belongs to the account itself: both like a stranger."""
    return Line(five, manager=five[2], operator=five[2])


def line(known: Statuses | Line) -> Line:
    """Return a line of the table as it is meant; a plain one is :func:`manage`."""
    return known if isinstance(known, Line) else manage(known)


OPEN: Statuses = (200, 200, 200, 200, 200)
DOOR: Statuses = (200, 303, 303, 200, 303)
PAGE: Statuses = (303, 200, 200, 303, 200)
OWN_PAGE: Statuses = (303, 200, 404, 303, 404)
FORM: Statuses = (401, 303, 303, 401, 303)
OWN_FORM: Statuses = (401, 303, 404, 401, 404)
OWN_PART: Statuses = (303, 303, 404, 303, 404)
"""A part of a page, for its script: a browser is led to the whole page."""
ADMIN_PAGE: Statuses = (303, 404, 404, 303, 200)
ADMIN_PART: Statuses = (303, 404, 404, 303, 303)
ADMIN_FORM: Statuses = (401, 404, 404, 401, 303)
API: Statuses = (401, 200, 200, 401, 200)
OWN_API: Statuses = (401, 200, 404, 401, 404)
OWN_API_GONE: Statuses = (401, 204, 404, 401, 404)
OWN_API_MADE: Statuses = (401, 201, 404, 401, 404)


def everybody(status: int) -> Statuses:
    """Return the same status for all."""
    return (status, status, status, status, status)


TABLE: dict[tuple[str, str], Statuses | Line] = {
    # Machines
    ("POST", "/telegram/webhook/{channel_id}"): everybody(401),
    ("GET", "/whatsapp/webhook"): everybody(403),
    ("POST", "/whatsapp/webhook"): everybody(401),
    ("GET", "/instagram/webhook"): everybody(403),
    ("POST", "/instagram/webhook"): everybody(401),
    # The gateways: whoever is none is refused in their own words, none of which is a status
    ("*", "/payments/payme"): everybody(200),
    ("*", "/payments/click/prepare"): everybody(200),
    ("*", "/payments/click/complete"): everybody(200),
    ("*", "/payments/uzum/check"): everybody(400),
    ("*", "/payments/uzum/create"): everybody(400),
    ("*", "/payments/uzum/confirm"): everybody(400),
    ("*", "/payments/uzum/reverse"): everybody(400),
    ("*", "/payments/uzum/status"): everybody(400),
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/metrics"): OPEN,  # the walk comes from loopback; from elsewhere: test_machines.py
    ("GET", "/static/{version}/{name}"): OPEN,
    # Strangers
    ("GET", "/"): DOOR,
    ("POST", "/demo"): everybody(400),  # nothing is asked
    ("GET", "/favicon.ico"): everybody(303),
    ("GET", "/robots.txt"): OPEN,
    ("GET", "/guide"): everybody(303),
    ("GET", "/guide/{language}"): OPEN,
    ("GET", "/guide/{language}/{page}"): OPEN,
    ("GET", "/guide/{language}/pictures/{picture}"): everybody(404),  # there is none of this name
    ("POST", "/preferences"): everybody(303),
    ("GET", "/login"): DOOR,
    ("POST", "/login"): everybody(400),
    ("GET", "/register"): DOOR,
    ("POST", "/register"): everybody(400),
    ("GET", "/login/link"): everybody(400),
    ("POST", "/login/link"): everybody(400),
    ("GET", "/login/telegram"): everybody(404),  # the walk's installation has no factory bot
    ("GET", "/login/telegram/callback"): everybody(404),
    ("GET", "/login/code"): everybody(303),
    ("POST", "/login/code"): everybody(303),
    ("GET", "/email/confirm"): everybody(400),
    ("POST", "/email/confirm"): everybody(400),
    ("GET", "/password/forgot"): OPEN,
    ("POST", "/password/forgot"): everybody(409),  # the walk's installation sends no letters
    ("GET", "/password/reset"): everybody(400),
    ("POST", "/password/reset"): everybody(400),
    # Customers
    ("GET", "/chat/{public_id}"): OPEN,
    ("GET", "/chat/{public_id}/messages"): OPEN,
    ("GET", "/chat/{public_id}/events"): everybody(204),
    ("POST", "/chat/{public_id}/messages"): everybody(400),
    ("POST", "/chat/{public_id}/pictures"): everybody(400),
    ("POST", "/chat/{public_id}/ratings"): everybody(400),
    ("GET", "/widget.js"): OPEN,
    ("GET", "/widget/{public_id}/config"): OPEN,
    # What acts says which site it comes from, and what is a visitor's own is opened by their secret: test_widget.py
    ("GET", "/widget/{public_id}/messages"): everybody(400),
    ("GET", "/widget/{public_id}/events"): everybody(400),
    ("GET", "/widget/{public_id}/files/{token}"): everybody(404),
    ("POST", "/widget/{public_id}/messages"): everybody(403),
    ("POST", "/widget/{public_id}/pictures"): everybody(403),
    ("POST", "/widget/{public_id}/ratings"): everybody(403),
    ("OPTIONS", "/widget/{public_id}/config"): everybody(403),
    ("OPTIONS", "/widget/{public_id}/messages"): everybody(403),
    ("OPTIONS", "/widget/{public_id}/events"): everybody(403),
    ("OPTIONS", "/widget/{public_id}/pictures"): everybody(403),
    ("OPTIONS", "/widget/{public_id}/ratings"): everybody(403),
    ("GET", "/files/{token}"): everybody(404),  # the address is the key: tests/web/test_files.py
    # Signed in
    ("POST", "/logout"): FORM,
    ("GET", "/dashboard"): PAGE,
    ("POST", "/dashboard/steps"): FORM,
    ("GET", "/dashboard/days.{table}"): PAGE,
    ("POST", "/notices/{notice}/dismiss"): FORM,
    ("GET", "/notices"): everybody(303),  # a part of a page, for its script
    ("GET", "/events"): (303, 200, 200, 303, 200),
    ("GET", "/settings"): PAGE,
    ("POST", "/settings/profile"): (401, 400, 400, 401, 400),
    ("POST", "/settings/password"): (401, 400, 400, 401, 400),
    ("GET", "/settings/delete"): PAGE,
    ("POST", "/settings/delete"): (401, 400, 400, 401, 400),  # with a code that is wrong
    ("POST", "/settings/delete/keep"): FORM,
    ("POST", "/settings/export"): (401, 200, 200, 401, 200),
    ("GET", "/settings/two-step"): PAGE,
    ("POST", "/settings/two-step/begin"): FORM,
    ("POST", "/settings/two-step/confirm"): (401, 400, 400, 401, 400),
    ("POST", "/settings/two-step/codes"): (401, 409, 409, 401, 409),
    ("POST", "/settings/two-step/off"): (401, 409, 409, 401, 409),
    ("GET", "/settings/email"): PAGE,
    ("POST", "/settings/email"): (401, 409, 409, 401, 409),
    ("POST", "/settings/email/send"): (401, 409, 409, 401, 409),
    ("POST", "/settings/email/code"): (401, 400, 400, 401, 400),
    ("POST", "/settings/sessions/end-others"): FORM,
    ("POST", "/settings/sessions/{session}/end"): own(OWN_FORM),
    ("POST", "/settings/tokens"): (401, 200, 200, 401, 200),
    ("POST", "/settings/tokens/{token}/revoke"): own(OWN_FORM),
    ("POST", "/settings/telegram"): (401, 404, 404, 401, 404),  # no factory bot in the walk
    ("POST", "/settings/telegram/disconnect"): (401, 404, 404, 401, 404),  # nobody in the walk has Telegram
    ("POST", "/settings/offers"): FORM,
    # Everybody's own servers: members of a team have nothing to do with their owner's
    ("GET", "/settings/webhooks"): PAGE,
    ("POST", "/settings/webhooks"): (401, 400, 400, 401, 400),
    ("GET", "/settings/webhooks/guide"): PAGE,
    ("GET", "/settings/api"): PAGE,
    ("GET", "/settings/api/{section}"): PAGE,
    ("GET", "/settings/webhooks/{endpoint}"): own(OWN_PAGE),
    ("POST", "/settings/webhooks/{endpoint}"): own((401, 400, 404, 401, 404)),
    ("POST", "/settings/webhooks/{endpoint}/secret"): own((401, 200, 404, 401, 404)),
    ("POST", "/settings/webhooks/{endpoint}/test"): own(OWN_FORM),
    ("POST", "/settings/webhooks/{endpoint}/on"): own(OWN_FORM),
    ("POST", "/settings/webhooks/{endpoint}/off"): own(OWN_FORM),
    ("POST", "/settings/webhooks/{endpoint}/delete"): own((401, 400, 404, 401, 404)),
    ("GET", "/settings/webhooks/{endpoint}/events.{table}"): own(OWN_PAGE),
    ("GET", "/settings/webhooks/{endpoint}/events/{event}"): own(OWN_PAGE),
    ("POST", "/settings/webhooks/{endpoint}/events/{event}/resend"): own(OWN_FORM),
    # The link in a letter is the key: tests/letters/test_unsubscribing.py
    ("GET", "/unsubscribe/{token}"): everybody(404),
    ("POST", "/unsubscribe/{token}"): everybody(404),
    # Administrators
    ("GET", "/admin/texts"): ADMIN_PAGE,
    ("GET", "/admin/texts/{letter}/{language}"): ADMIN_PAGE,
    ("GET", "/admin/texts/{letter}/{language}/preview"): ADMIN_PAGE,
    ("POST", "/admin/texts/{letter}/{language}"): (401, 404, 404, 401, 400),
    ("POST", "/admin/texts/{letter}/{language}/preview"): (401, 404, 404, 401, 400),
    ("POST", "/admin/texts/{letter}/{language}/reset"): (401, 404, 404, 401, 303),
    ("GET", "/admin/texts/notices"): ADMIN_PAGE,
    ("GET", "/admin/texts/notices/{saying}/{language}"): ADMIN_PAGE,
    ("POST", "/admin/texts/notices/{saying}/{language}"): (401, 404, 404, 401, 400),
    ("POST", "/admin/texts/notices/{saying}/{language}/reset"): (401, 404, 404, 401, 303),
    # Remote views: the walk's are asked for, and nobody looks
    ("GET", "/settings/views"): PAGE,
    ("GET", "/settings/views/{view}"): own(OWN_PAGE),
    ("POST", "/settings/views/{view}/agree"): own(OWN_FORM),
    ("POST", "/settings/views/{view}/refuse"): own(OWN_FORM),
    ("POST", "/settings/views/{view}/end"): own(OWN_FORM),
    ("POST", "/view/ask"): (401, 404, 404, 401, 404),
    ("POST", "/view/end"): (401, 404, 404, 401, 404),
    ("POST", "/admin/owners/{owner}/view"): (
        401,
        404,
        404,
        401,
        400,
    ),  # without a reason: tests/web/test_remote_views.py
    # Support: the administrator is the other side of it
    ("GET", "/support"): (303, 200, 200, 303, 303),
    ("GET", "/support/lines"): everybody(303),  # a part of a page, for its script
    ("POST", "/support"): (401, 400, 400, 401, 404),  # nothing is written
    ("GET", "/admin/support"): ADMIN_PAGE,
    ("GET", "/admin/support/{owner}"): ADMIN_PAGE,
    ("GET", "/admin/support/{owner}/lines"): ADMIN_PART,
    ("POST", "/admin/support/{owner}"): (401, 404, 404, 401, 400),
    ("POST", "/admin/support/{owner}/close"): ADMIN_FORM,
    ("GET", "/search"): PAGE,
    # The team
    ("GET", "/team"): PAGE,
    ("POST", "/team/invitations"): (401, 400, 400, 401, 400),
    ("POST", "/team/invitations/{invitation}/withdraw"): own(OWN_FORM),
    ("POST", "/team/members/{member}/role"): own(OWN_FORM),
    ("POST", "/team/members/{member}/remove"): own(OWN_FORM),
    # The address names the operator's own membership: nobody else can end it here.
    ("POST", "/settings/teams/{membership}/leave"): Line((401, 404, 404, 401, 404), manager=404, operator=303),
    ("GET", "/team/join"): everybody(400),
    ("POST", "/team/join"): everybody(400),
    # Plan and payments: everybody sees their own; what a team's owner pays no member sees
    ("GET", "/billing"): PAGE,
    ("GET", "/billing/order"): (303, 400, 400, 303, 400),  # without a plan
    ("POST", "/billing/order"): (401, 400, 400, 401, 400),  # no gateway is set up in the walk
    ("GET", "/billing/payments.{table}"): PAGE,
    ("GET", "/billing/payments/{number}"): own(OWN_PAGE),
    ("GET", "/billing/payments/{number}/state"): own((303, 303, 404, 303, 404)),  # a part of a page, for its script
    ("POST", "/billing/payments/{number}/cancel"): own(OWN_FORM),
    ("GET", "/billing/payments/{number}/receipt.pdf"): (303, 404, 404, 303, 404),  # not paid: tests/web/test_billing.py
    # The administrator
    ("GET", "/admin"): (303, 404, 404, 303, 303),
    ("GET", "/admin/statistics"): ADMIN_PAGE,
    ("GET", "/admin/statistics/{numbers}.{table}"): ADMIN_PAGE,
    ("GET", "/admin/payments"): ADMIN_PAGE,
    ("GET", "/admin/payments/export.{table}"): ADMIN_PAGE,
    ("GET", "/admin/payments/days"): ADMIN_PAGE,
    ("GET", "/admin/payments/days.{table}"): ADMIN_PAGE,
    ("GET", "/admin/payments/new"): ADMIN_PAGE,
    ("POST", "/admin/payments/new"): (401, 404, 404, 401, 400),
    ("GET", "/admin/payments/{number}"): ADMIN_PAGE,
    ("POST", "/admin/payments/{number}/paid"): (401, 404, 404, 401, 400),
    ("POST", "/admin/payments/{number}/refund"): (401, 404, 404, 401, 400),
    ("GET", "/admin/payments/{number}/receipt.pdf"): (303, 404, 404, 303, 404),  # not paid
    # Bots
    ("GET", "/bots"): (303, 200, 303, 303, 303),  # who has none is sent to make one
    ("POST", "/bots"): (401, 400, 400, 401, 400),
    ("GET", "/bots/new"): PAGE,
    ("POST", "/bots/example"): FORM,
    ("GET", "/bots/{bot}"): OWN_PAGE,
    ("POST", "/bots/{bot}"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/start"): OWN_FORM,
    ("POST", "/bots/{bot}/stop"): OWN_FORM,
    ("POST", "/bots/{bot}/people"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/key"): own((401, 400, 404, 401, 404)),
    ("POST", "/bots/{bot}/delete"): own((401, 400, 404, 401, 404)),
    ("GET", "/bots/{bot}/lines"): OWN_PART,
    ("POST", "/bots/{bot}/draft/discard"): OWN_FORM,
    ("GET", "/bots/{bot}/versions"): OWN_PAGE,
    ("POST", "/bots/{bot}/versions/{version}/restore"): (401, 404, 404, 401, 404),  # the walk's bot was never changed
    ("GET", "/bots/{bot}/setup"): OWN_PAGE,
    ("POST", "/bots/{bot}/try"): (401, 200, 404, 401, 404),
    ("GET", "/bots/{bot}/documents"): OWN_PAGE,
    ("GET", "/bots/{bot}/documents/list"): OWN_PART,
    ("POST", "/bots/{bot}/documents"): (401, 400, 404, 401, 404),
    ("GET", "/bots/{bot}/documents/{document}"): OWN_PAGE,
    ("POST", "/bots/{bot}/documents/{document}/delete"): OWN_FORM,
    ("POST", "/bots/{bot}/documents/{document}/restore"): OWN_FORM,
    ("POST", "/bots/{bot}/documents/{document}/retry"): OWN_FORM,
    ("POST", "/bots/{bot}/documents/{document}/share"): OWN_FORM,
    ("POST", "/bots/{bot}/answers"): (401, 400, 404, 401, 404),
    ("GET", "/bots/{bot}/answers.csv"): OWN_PAGE,
    ("POST", "/bots/{bot}/answers.csv"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/answers/{answer}"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/answers/{answer}/delete"): OWN_FORM,
    ("POST", "/bots/{bot}/unanswered/{question}/dismiss"): OWN_FORM,
    ("POST", "/bots/{bot}/unanswered/{question}/reopen"): OWN_FORM,
    ("POST", "/bots/{bot}/thumbs"): OWN_FORM,
    ("GET", "/bots/{bot}/tests"): OWN_PAGE,
    ("GET", "/bots/{bot}/tests/results"): OWN_PART,
    ("POST", "/bots/{bot}/tests"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/tests/run"): OWN_FORM,
    ("POST", "/bots/{bot}/tests/import"): OWN_FORM,
    ("POST", "/bots/{bot}/tests/{test}"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/tests/{test}/delete"): OWN_FORM,
    ("GET", "/bots/{bot}/broadcasts"): OWN_PAGE,
    ("POST", "/bots/{bot}/broadcasts"): (401, 400, 404, 401, 404),
    ("GET", "/bots/{bot}/broadcasts/new"): OWN_PAGE,
    ("POST", "/bots/{bot}/broadcasts/preview"): (401, 200, 404, 401, 404),
    ("GET", "/bots/{bot}/broadcasts/{broadcast}"): OWN_PAGE,
    ("GET", "/bots/{bot}/broadcasts/{broadcast}/edit"): OWN_PAGE,
    ("POST", "/bots/{bot}/broadcasts/{broadcast}/edit"): (401, 400, 404, 401, 404),
    ("GET", "/bots/{bot}/broadcasts/{broadcast}/progress"): (303, 303, 404, 303, 404),
    ("POST", "/bots/{bot}/broadcasts/{broadcast}/test"): OWN_FORM,
    ("GET", "/bots/{bot}/broadcasts/{broadcast}/send"): OWN_PAGE,
    ("POST", "/bots/{bot}/broadcasts/{broadcast}/send"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/broadcasts/{broadcast}/{step}"): (401, 409, 404, 401, 404),
    ("POST", "/bots/{bot}/broadcasts/{broadcast}/delete"): OWN_FORM,
    ("GET", "/bots/{bot}/broadcasts/{broadcast}/receivers"): OWN_PAGE,
    ("GET", "/bots/{bot}/broadcasts/{broadcast}/receivers.{table}"): OWN_PAGE,
    # A web bot has no WhatsApp number, and so nothing to choose from: tests/web/test_broadcast_pages.py
    ("GET", "/bots/{bot}/broadcasts/{broadcast}/template"): (303, 404, 404, 303, 404),
    ("POST", "/bots/{bot}/broadcasts/{broadcast}/template"): (401, 404, 404, 401, 404),
    ("GET", "/bots/{bot}/channels"): OWN_PAGE,
    ("POST", "/bots/{bot}/channels/telegram"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/channels/whatsapp"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/channels/whatsapp/own"): (401, 409, 404, 401, 404),  # the walk's installation has none
    ("POST", "/bots/{bot}/channels/instagram/own"): (401, 409, 404, 401, 404),
    ("POST", "/bots/{bot}/channels/instagram"): (401, 400, 404, 401, 404),
    ("POST", "/bots/{bot}/channels/{channel}/comments"): (401, 404, 404, 401, 404),
    ("POST", "/bots/{bot}/channels/web"): OWN_FORM,
    ("POST", "/bots/{bot}/channels/{channel}/check"): OWN_FORM,
    ("POST", "/bots/{bot}/channels/{channel}/disconnect"): OWN_FORM,
    ("GET", "/bots/{bot}/widget"): OWN_PAGE,
    ("POST", "/bots/{bot}/widget"): (401, 400, 404, 401, 404),
    ("GET", "/bots/{bot}/qr.{kind}"): OWN_PAGE,
    ("GET", "/contacts/{contact}"): talk(OWN_PAGE),
    ("POST", "/contacts/{contact}"): talk(OWN_FORM),
    ("POST", "/contacts/{contact}/delete"): (401, 400, 404, 401, 404),
    ("GET", "/contacts/{contact}/messages.{table}"): OWN_PAGE,
    ("GET", "/inbox/export.{table}"): PAGE,
    ("GET", "/bots/{bot}/conversations"): talk((303, 303, 404, 303, 404)),
    ("GET", "/bots/{bot}/conversations/{conversation}"): talk((303, 303, 404, 303, 404)),
    # The walk's talk is on the web, where there are no templates.
    ("GET", "/bots/{bot}/conversations/{conversation}/template"): talk((303, 404, 404, 303, 404)),
    ("POST", "/bots/{bot}/conversations/{conversation}/template"): talk((401, 404, 404, 401, 404)),
    # The inbox
    ("GET", "/inbox"): PAGE,
    ("GET", "/inbox/{conversation}"): talk(OWN_PAGE),
    ("POST", "/inbox/{conversation}"): talk(OWN_FORM),
    ("POST", "/inbox/{conversation}/status"): talk(OWN_FORM),
    ("POST", "/inbox/{conversation}/assign"): talk(OWN_FORM),
    ("POST", "/inbox/{conversation}/snooze"): talk(OWN_FORM),
    ("POST", "/inbox/{conversation}/labels"): talk(OWN_FORM),
    ("POST", "/inbox/{conversation}/notes"): talk(OWN_FORM),
    ("POST", "/inbox/{conversation}/notes/{note}/delete"): own(OWN_FORM),
    ("POST", "/inbox/{conversation}/presence/{state}"): talk(OWN_API_GONE),
    ("GET", "/inbox/labels"): PAGE,
    ("POST", "/inbox/labels"): Line((401, 400, 400, 401, 400), 400, 400),
    ("POST", "/inbox/labels/{label}"): OWN_FORM,
    ("POST", "/inbox/labels/{label}/delete"): OWN_FORM,
    ("GET", "/inbox/replies"): PAGE,
    ("POST", "/inbox/replies"): Line((401, 400, 400, 401, 400), 400, 400),
    ("POST", "/inbox/replies/{reply}"): OWN_FORM,
    ("POST", "/inbox/replies/{reply}/delete"): OWN_FORM,
    # The API
    ("GET", "/api/v1/openapi.json"): OPEN,
    ("*", "/api/{path}"): everybody(404),
    ("POST", "/api/v1/bots"): (401, 400, 400, 401, 400),
    ("GET", "/api/v1/bots"): API,
    ("GET", "/api/v1/bots/{bot_id}"): OWN_API,
    ("PATCH", "/api/v1/bots/{bot_id}"): OWN_API,
    ("DELETE", "/api/v1/bots/{bot_id}"): own(OWN_API_GONE),
    ("POST", "/api/v1/bots/{bot_id}/start"): OWN_API,
    ("POST", "/api/v1/bots/{bot_id}/stop"): OWN_API,
    ("POST", "/api/v1/bots/{bot_id}/documents"): (401, 415, 404, 401, 404),
    ("GET", "/api/v1/bots/{bot_id}/documents"): OWN_API,
    ("GET", "/api/v1/bots/{bot_id}/documents/{document_id}"): OWN_API,
    ("PATCH", "/api/v1/bots/{bot_id}/documents/{document_id}"): OWN_API,
    ("DELETE", "/api/v1/bots/{bot_id}/documents/{document_id}"): OWN_API_GONE,
    ("POST", "/api/v1/bots/{bot_id}/channels"): OWN_API_MADE,
    ("GET", "/api/v1/bots/{bot_id}/channels"): OWN_API,
    ("DELETE", "/api/v1/bots/{bot_id}/channels/{channel_id}"): OWN_API_GONE,
    ("POST", "/api/v1/bots/{bot_id}/chat"): OWN_API,
    ("GET", "/api/v1/bots/{bot_id}/conversations"): talk(OWN_API),
    ("PATCH", "/api/v1/conversations/{conversation_id}"): talk(OWN_API),
    ("GET", "/api/v1/conversations/{conversation_id}/messages"): talk(OWN_API),
    ("POST", "/api/v1/conversations/{conversation_id}/messages"): talk(OWN_API_MADE),
    ("GET", "/api/v1/bots/{bot_id}/unanswered"): OWN_API,
    ("POST", "/api/v1/bots/{bot_id}/answers"): OWN_API_MADE,
    ("GET", "/api/v1/bots/{bot_id}/answers"): OWN_API,
    ("DELETE", "/api/v1/bots/{bot_id}/answers/{answer_id}"): OWN_API_GONE,
    ("GET", "/api/v1/usage"): API,
    ("POST", "/api/v1/payments"): (401, 400, 400, 401, 400),  # no gateway in the walk
    ("GET", "/api/v1/payments/{number}"): own(OWN_API),
    ("GET", "/api/v1/plans"): API,
    ("GET", "/api/v1/subscription"): API,
    # Requests, coupons, referrals
    ("GET", "/billing/request"): PAGE,
    # Owner A has a request that waits.
    ("POST", "/billing/request"): Line((401, 409, 303, 401, 409), manager=303, operator=303),
    ("POST", "/billing/request/{request}/withdraw"): own(OWN_FORM),
    ("GET", "/billing/referrals"): PAGE,
    ("POST", "/billing/referrals"): FORM,
    ("GET", "/admin/requests"): ADMIN_PAGE,
    ("POST", "/admin/requests/{request}/grant"): ADMIN_FORM,
    ("POST", "/admin/requests/{request}/decline"): ADMIN_FORM,
    ("GET", "/admin/owners"): ADMIN_PAGE,
    ("GET", "/admin/owners/export.{table}"): ADMIN_PAGE,
    ("GET", "/admin/owners/{owner}"): ADMIN_PAGE,
    ("POST", "/admin/owners/{owner}/ban"): (
        401,
        404,
        404,
        401,
        400,
    ),  # without a reason: tests/web/test_admin_people.py
    ("POST", "/admin/owners/{owner}/unban"): (401, 404, 404, 401, 409),  # who is not blocked
    ("POST", "/admin/owners/{owner}/message"): ADMIN_FORM,
    ("GET", "/admin/conversations"): ADMIN_PAGE,
    ("GET", "/admin/conversations/{conversation}"): ADMIN_PAGE,
    ("POST", "/admin/conversations/{conversation}"): ADMIN_FORM,
    ("GET", "/admin/files"): ADMIN_PAGE,
    ("GET", "/admin/files/sent"): ADMIN_PAGE,
    ("GET", "/admin/files/export.{table}"): ADMIN_PAGE,
    ("GET", "/admin/files/sent/export.{table}"): ADMIN_PAGE,
    ("POST", "/admin/files/{document}/retry"): ADMIN_FORM,
    ("GET", "/admin/channels"): ADMIN_PAGE,
    ("GET", "/admin/channels/webhooks"): ADMIN_PAGE,
    ("GET", "/admin/channels/export.{table}"): ADMIN_PAGE,
    ("POST", "/admin/channels/{channel}/check"): (
        401,
        404,
        404,
        401,
        409,
    ),  # a page of ours: there is no network to ask
    ("GET", "/admin/audit"): ADMIN_PAGE,
    ("GET", "/admin/audit/export.{table}"): ADMIN_PAGE,
    ("GET", "/admin/owners/{owner}/plan"): ADMIN_PAGE,
    ("POST", "/admin/owners/{owner}/plan/grant"): ADMIN_FORM,
    ("POST", "/admin/owners/{owner}/plan/extend"): ADMIN_FORM,
    ("POST", "/admin/owners/{owner}/plan/change"): ADMIN_FORM,
    ("POST", "/admin/owners/{owner}/plan/revoke"): ADMIN_FORM,
    ("GET", "/admin/coupons"): ADMIN_PAGE,
    ("POST", "/admin/coupons"): ADMIN_FORM,
    ("GET", "/admin/coupons/codes.csv"): ADMIN_PAGE,
    ("GET", "/admin/coupons/{coupon}"): ADMIN_PAGE,
    ("POST", "/admin/coupons/{coupon}/disable"): ADMIN_FORM,
    ("GET", "/admin/payouts"): ADMIN_PAGE,
    ("POST", "/admin/payouts/{owner}"): ADMIN_FORM,
    ("POST", "/admin/payouts/{payout}/undo"): ADMIN_FORM,
    ("POST", "/admin/owners/{owner}/mail"): ADMIN_FORM,
    ("GET", "/admin/announcements"): ADMIN_PAGE,
    ("GET", "/admin/announcements/new"): ADMIN_PAGE,
    ("GET", "/admin/announcements/{announcement}"): ADMIN_PAGE,
    ("GET", "/admin/announcements/{announcement}/missed"): ADMIN_PAGE,
    ("GET", "/admin/announcements/{announcement}/missed/export.{table}"): ADMIN_PAGE,
    ("POST", "/admin/announcements"): (401, 404, 404, 401, 400),
    ("POST", "/admin/announcements/{announcement}"): (401, 404, 404, 401, 400),
    ("POST", "/admin/announcements/{announcement}/test"): ADMIN_FORM,
    ("POST", "/admin/announcements/{announcement}/send"): ADMIN_FORM,
    ("POST", "/admin/announcements/{announcement}/stop"): (401, 404, 404, 401, 409),  # a draft
    ("POST", "/admin/announcements/{announcement}/delete"): ADMIN_FORM,
    ("POST", "/announcements/{announcement}/seen"): (401, 404, 404, 401, 404),  # a draft is no banner yet
    ("GET", "/admin/models"): ADMIN_PAGE,
    ("POST", "/admin/models/budgets"): ADMIN_FORM,
    ("POST", "/admin/models/check"): (401, 404, 404, 401, 404),  # no provider is called so
    ("POST", "/admin/models/{what}"): (401, 404, 404, 401, 400),  # nothing is chosen
    ("GET", "/admin/system"): ADMIN_PAGE,
    ("GET", "/admin/system/errors"): ADMIN_PAGE,
    ("POST", "/admin/system/errors/{error}/{change}"): ADMIN_FORM,
    ("POST", "/admin/system/messages/retry"): (401, 404, 404, 401, 404),
    ("POST", "/admin/system/jobs/retry"): (401, 404, 404, 401, 404),
    ("POST", "/admin/system/messages/{item}/retry"): (401, 404, 404, 401, 404),  # nothing is set aside
    ("POST", "/admin/system/messages/{item}/discard"): (401, 404, 404, 401, 404),
    ("POST", "/admin/system/jobs/{job}/retry"): (401, 404, 404, 401, 404),
    ("POST", "/admin/system/jobs/{job}/discard"): (401, 404, 404, 401, 404),
    ("GET", "/admin/system/backups"): ADMIN_PART,
    ("POST", "/admin/system/backups"): ADMIN_FORM,
    ("POST", "/admin/system/backups/{backup}/download"): (401, 404, 404, 401, 404),  # no backup is called so
    ("POST", "/admin/system/backups/{backup}/delete"): (401, 404, 404, 401, 404),
}

BODIES: dict[tuple[str, str], dict[str, object]] = {
    ("POST", "/api/v1/bots"): {},
    ("POST", "/api/v1/payments"): {"plan": "basic", "period": "monthly", "gateway": "payme"},
    ("PATCH", "/api/v1/bots/{bot_id}"): {"name": "Renamed"},
    ("POST", "/api/v1/bots/{bot_id}/channels"): {"type": "web"},
    ("POST", "/api/v1/bots/{bot_id}/chat"): {"contact": "walk", "text": "Salom"},
    ("POST", "/api/v1/bots/{bot_id}/answers"): {"question": "Savol?", "answer": "Javob."},
    ("PATCH", "/api/v1/conversations/{conversation_id}"): {"status": "bot"},
    ("PATCH", "/api/v1/bots/{bot_id}/documents/{document_id}"): {"shared": True},
    ("POST", "/api/v1/conversations/{conversation_id}/messages"): {"text": "Salom"},
    ("POST", "/settings/delete"): {"code": "000000"},
    ("POST", "/bots/{bot}/broadcasts/{broadcast}/delete"): {"version": 0},
    ("POST", "/bots/{bot}/try"): {"text": "Salom"},
    ("POST", "/team/members/{member}/role"): {"role": "manager"},
    ("POST", "/inbox/{conversation}"): {"text": "Salom"},
    ("POST", "/inbox/{conversation}/status"): {"status": "human"},
    ("POST", "/inbox/{conversation}/snooze"): {"until": "hour"},
    ("POST", "/inbox/{conversation}/notes"): {"note": "Qo‘ng‘iroq qilish kerak"},
    ("POST", "/inbox/labels/{label}"): {"name": "Boshqa", "color": "2"},
    ("POST", "/inbox/replies/{reply}"): {"shortcut": "boshqa", "text": "Salom"},
    ("POST", "/billing/request"): {"plan": "basic", "period": "monthly"},
    ("POST", "/admin/requests/{request}/grant"): {"plan": "basic", "period": "monthly", "price": "0"},
    ("POST", "/admin/requests/{request}/decline"): {"answer": "Yo‘q"},
    ("POST", "/admin/owners/{owner}/plan/grant"): {"plan": "basic", "period": "monthly", "price": "0"},
    ("POST", "/admin/owners/{owner}/plan/extend"): {"days": "3"},
    ("POST", "/admin/owners/{owner}/plan/change"): {"plan": "premium"},
    ("POST", "/admin/owners/{owner}/plan/revoke"): {"answer": "Pul kelmadi"},
    ("POST", "/admin/owners/{owner}/message"): {"message": "Salom"},
    ("POST", "/admin/conversations/{conversation}"): {"text": "Salom", "reason": "Egasi so‘radi"},
    ("POST", "/admin/coupons"): {"percent": "10", "count": "1", "per_owner": "1"},
    ("POST", "/admin/payouts/{owner}"): {"price": "100000", "due": "10000000"},
    ("POST", "/admin/payouts/{payout}/undo"): {"reason": "Xato"},
}
"""What the walk sends where an empty body would be refused before the question of who may is answered."""
