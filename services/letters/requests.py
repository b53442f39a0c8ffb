"""Letters about access that was asked for, and about plans that an administrator gives, changes or takes."""

from __future__ import annotations

from collections.abc import Mapping

from services.i18n import T
from services.letters.base import Kind

_UNTIL = ("until", {"day": "2026-12-22T12:00:00+00:00"})
_PLAN = (("plan", "Basic"), ("period", T("Monthly")), _UNTIL)

KINDS: Mapping[str, Kind] = {
    "request_received": Kind(
        subject=T("{owner} asks for the plan {plan}"),
        text=T("{owner} asks for access: {plan}, {period}.\n\n{note}"),
        button=T("Open the requests"),
        example=(
            ("owner", "Dilnoza"),
            ("plan", "Basic"),
            ("period", T("Monthly")),
            ("note", T("We pay by bank transfer.")),
        ),
    ),
    "access_granted": Kind(
        subject=T("You have the plan {plan}"),
        text=T(
            "Your access is open: {plan}, {period}. It lasts until {until}.\n\n{answer}\n\nThank you for being with us!"
        ),
        telegram=T("🎉 Your access is open: {plan}, {period}. It lasts until {until}.\n\n{answer}"),
        button=T("Open the panel"),
        example=(*_PLAN, ("answer", T("Welcome!"))),
    ),
    "access_declined": Kind(
        subject=T("Your request for access was declined"),
        text=T(
            "Your request for the plan {plan} was declined.\n\n{answer}\n\nYou can ask again at any time, or pay online."
        ),
        telegram=T(
            "Your request for the plan {plan} was declined.\n\n{answer}\n\nYou can ask again at any time: /request"
        ),
        button=T("Request access"),
        example=(("plan", "Basic"), ("answer", T("Please write which company this is for."))),
    ),
    "plan_moved": Kind(
        subject=T("Your plan now lasts until {until}"),
        text=T("The end of your plan {plan} has changed: it now lasts until {until}.\n\n{answer}"),
        telegram=T("📅 The end of your plan {plan} has changed: it now lasts until {until}.\n\n{answer}"),
        button=T("Open the panel"),
        example=(("plan", "Basic"), _UNTIL, ("answer", T("With apologies for yesterday."))),
    ),
    "plan_changed": Kind(
        subject=T("Your plan is now {plan}"),
        text=T("Your plan has changed: you now have {plan}, until {until}.\n\n{answer}"),
        telegram=T("🔁 Your plan has changed: you now have {plan}, until {until}.\n\n{answer}"),
        button=T("Open the panel"),
        example=(("plan", "Premium"), _UNTIL, ("answer", T("As agreed by phone."))),
    ),
    "plan_taken": Kind(
        subject=T("Your plan was ended"),
        text=T(
            "Your plan was ended by the administrator.\n\n{answer}\n\nNothing was deleted. You can ask for access again."
        ),
        telegram=T("Your plan was ended by the administrator.\n\n{answer}\n\nNothing was deleted. Ask again: /request"),
        button=T("Request access"),
        example=(("answer", T("The transfer has not arrived.")),),
    ),
}
