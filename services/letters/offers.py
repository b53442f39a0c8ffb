"""Letters that remind of an end and offer a plan."""

from __future__ import annotations

from collections.abc import Mapping

from services.i18n import T
from services.letters.base import Kind

_MOMENT = "2026-12-01T12:00:00+00:00"
_SOON = "2026-12-04T12:00:00+00:00"
_PLAN = (("plan", "Basic"), ("day", {"day": _MOMENT}), ("time", {"time": _MOMENT}))
_COUPON = (
    ("code", "SAVE10_K7PM_2026"),
    ("percent", 10),
    ("until", {"day": _SOON}),
    ("price", {"tiyin": 14_900_000}),
)
_CHOOSE = T("Choose a plan")
_RENEW = T("Renew the plan")

REMINDERS: Mapping[str, Kind] = {
    "plan_ends": Kind(
        subject=T("Your {plan} plan ends on {day}"),
        text=T(
            "Your {plan} plan is paid until {day}, {time}.\n\n"
            "Renew it before then, and your bots go on answering without a pause. You lose nothing by being early: the new "
            "period begins where this one ends."
        ),
        telegram=T(
            "⏳ Your {plan} plan ends on {day}. Renew it before then, and your bots go on answering without a pause. You lose "
            "nothing by being early."
        ),
        button=_RENEW,
        example=_PLAN,
    ),
    "plan_ends_today": Kind(
        subject=T("Your {plan} plan ends today"),
        text=T(
            "Your {plan} plan ends today at {time}.\n\nRenew it now: it takes two minutes, and your customers notice nothing."
        ),
        telegram=T(
            "⏰ Your {plan} plan ends today at {time}. Renew it now: it takes two minutes, and your customers notice nothing."
        ),
        button=_RENEW,
        example=_PLAN,
    ),
    "plan_over": Kind(
        subject=T("Your {plan} plan has ended, your bots still answer"),
        text=T(
            "Your {plan} plan ended on {day}. So that your customers are not left alone, your bots go on answering until "
            "{until}.\n\nRenew the plan by then, and nothing stops."
        ),
        telegram=T(
            "⚠️ Your {plan} plan ended on {day}. Your bots go on answering until {until}. Renew the plan by "
            "then, and nothing stops."
        ),
        button=_RENEW,
        example=(*_PLAN, ("until", {"moment": _SOON})),
    ),
    "plan_stopped": Kind(
        subject=T("Your bots have stopped answering"),
        text=T(
            "Your {plan} plan ended on {day} and was not renewed, so your bots have stopped answering. Who "
            "writes to them gets a short, polite message.\n\n"
            "Nothing was deleted: bots, documents and conversations are all there. Choose a plan, and the bots "
            "answer again at once."
        ),
        telegram=T(
            "🔕 Your {plan} plan ended on {day}, and your bots have stopped answering. Nothing was deleted: "
            "choose a plan, and they answer again at once."
        ),
        button=_CHOOSE,
        example=_PLAN,
    ),
    "trial_over": Kind(
        subject=T("Your trial is over, your bot goes on in test mode"),
        text=T(
            "Thank you for trying BotFactory! The free trial with everything in it has ended.\n\n"
            "Until {until} your bot goes on in test mode, with smaller limits. With a plan it keeps all of its channels and "
            "languages, and everything you have set up stays as it is."
        ),
        telegram=T(
            "👋 Your trial is over. Until {until} your bot goes on in test mode, with smaller limits. With a plan "
            "everything stays as you have set it up."
        ),
        button=_CHOOSE,
        example=(("until", {"moment": _SOON}),),
    ),
    "test_over": Kind(
        subject=T("The free days are over: your bot waits for you"),
        text=T(
            "The free days are over, and your bot has stopped answering. Who writes to it gets a short, polite message.\n\n"
            "Nothing was deleted. Choose a plan, and the bot answers your customers again at once, with everything you have "
            "taught it."
        ),
        telegram=T(
            "🔕 The free days are over, and your bot has stopped answering. Nothing was deleted: choose a plan, "
            "and it answers again at once."
        ),
        button=_CHOOSE,
        example=(("until", {"moment": _SOON}),),
    ),
}

OFFERS: Mapping[str, Kind] = {
    "offer_night": Kind(
        subject=T("A customer writes at eleven at night. Who answers?"),
        text=T(
            "Most questions are the same ones every day: the price, the delivery, the opening hours. Who gets an "
            "answer at once buys; who waits until morning asks somewhere else.\n\n"
            "Your bot answers within seconds, day and night, out of your own price list.\n\n"
            "Here is a discount of {percent}%, on any plan and for you alone, until {until}: {code}\n\n"
            "Plans begin at {price} a month."
        ),
        telegram=T(
            "🌙 A customer writes at eleven at night. Who answers?\n\n"
            "Your bot can, within seconds, out of your own price list. Here is a discount of {percent}%, on any "
            "plan, until {until}:\n\n{code}\n\nPlans begin at {price} a month."
        ),
        button=_CHOOSE,
        offer=True,
        example=_COUPON,
    ),
    "offer_time": Kind(
        subject=T("How much of your day goes into the same answers?"),
        text=T(
            "Thirty messages a day, two minutes each: that is an hour, every day, for questions whose answers "
            "stand in your price list.\n\n"
            "Leave those to your bot, and keep the conversations that need you.\n\n"
            "With the code {code} any plan costs {percent}% less, until {until}. Plans begin at {price} a month."
        ),
        telegram=T(
            "⏱ Thirty messages a day are an hour of your time. Leave the usual questions to your bot.\n\n"
            "Until {until} any plan costs {percent}% less:\n\n{code}\n\nPlans begin at {price} a month."
        ),
        button=_CHOOSE,
        offer=True,
        example=_COUPON,
    ),
    "offer_ready": Kind(
        subject=T("Your account is ready, only the plan is missing"),
        text=T(
            "Everything you have set up is kept: nothing has to be done twice.\n\n"
            "Choose a plan, and your bot works for you from this minute on. With your own code it costs "
            "{percent}% less, until {until}: {code}\n\n"
            "Plans begin at {price} a month. If something keeps you from it, just reply and tell us."
        ),
        telegram=T(
            "🎁 Everything you have set up is kept, only the plan is missing. With your own code it costs "
            "{percent}% less, until {until}:\n\n{code}\n\nPlans begin at {price} a month."
        ),
        button=_CHOOSE,
        offer=True,
        example=_COUPON,
    ),
}
"""Sent in turn."""

KINDS: Mapping[str, Kind] = {**REMINDERS, **OFFERS}
