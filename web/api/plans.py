"""Plans, and what the owner has."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from services import allowances, plans
from services.settings import PlanFacts, Settings
from web.api.base import Call, Routes
from web.api.wire import Answer, Listing, UtcMoment

routes = Routes("Plans")


class PriceAnswer(Answer):
    """What a plan costs for one period."""

    period: Annotated[str, Field(description="monthly, quarterly or annual")]
    days: int
    price_uzs: Annotated[int, Field(description="so'm for the whole period")]


class LimitsAnswer(Answer):
    """What a plan allows; null: without a limit."""

    bots: int | None
    channels: Annotated[list[str], Field(description="kinds of channels where bots answer")]
    languages: Annotated[list[str], Field(description="in which bots answer")]
    messages: Annotated[int | None, Field(description="that bots answer in a month of Tashkent's time")]
    knowledge_bytes: Annotated[int | None, Field(description="of all documents together")]
    operators: Annotated[int | None, Field(description="people in the team, open invitations included")]


class PlanAnswer(Answer):
    """A plan that can be bought."""

    key: str
    title: str
    price_uzs: Annotated[int, Field(description="so'm a month")]
    prices: list[PriceAnswer]
    limits: LimitsAnswer


class UsedAnswer(Answer):
    """How much is used."""

    bots: int
    messages: Annotated[int, Field(description="in this month of Tashkent's time")]
    knowledge_bytes: int
    operators: int


class SubscriptionAnswer(Answer):
    """What the owner has now."""

    status: Annotated[
        str,
        Field(
            description="unlimited: an administrator; trial, test: free days; active: paid; grace: the days after a paid "
            "plan's end; expired: bots do not answer"
        ),
    ]
    plan: Annotated[str | None, Field(description="key of the plan; null where there is none, or no limit")]
    title: str | None
    ends_at: Annotated[UtcMoment | None, Field(description="when the status changes by time alone")]
    paid_until: Annotated[UtcMoment | None, Field(description="the end of everything that is paid for")]
    month_ends_at: Annotated[UtcMoment, Field(description="when messages are counted anew")]
    limits: LimitsAnswer
    used: UsedAnswer


def _plan(settings: Settings, key: str, facts: PlanFacts, language: str) -> PlanAnswer:
    prices = [
        PriceAnswer(
            period=period,
            days=plans.period_of(settings, period).days,
            price_uzs=plans.price_tiyin(settings, key, period) // plans.TIYIN,
        )
        for period in plans.PERIODS
    ]
    limits = LimitsAnswer(
        bots=facts.bots,
        channels=list(facts.channels),
        languages=list(facts.languages),
        messages=facts.messages,
        knowledge_bytes=facts.knowledge_mib * 1_048_576,
        operators=facts.operators,
    )
    return PlanAnswer(
        key=key, title=facts.title.called(language), price_uzs=facts.price_uzs, prices=prices, limits=limits
    )


@routes.get("/plans")
async def index(call: Call) -> Listing[PlanAnswer]:
    """List the plans that can be bought, the cheapest first."""
    settings = call.core.settings
    language = call.user.language
    return Listing(items=[_plan(settings, key, facts, language) for key, facts in plans.for_sale(settings).items()])


@routes.get("/subscription")
async def show(call: Call) -> SubscriptionAnswer:
    """Show your plan, its end, what it allows and what is used."""
    core = call.core
    async with core.db.read() as session:
        usage = await allowances.usage(session, core.settings, call.user, core.now())
    standing = usage.standing
    return SubscriptionAnswer(
        status=standing.status,
        plan=standing.plan,
        title=standing.facts.title.called(call.user.language) if standing.facts is not None else None,
        ends_at=standing.ends_at,
        paid_until=standing.paid_until,
        month_ends_at=usage.month_ends_at,
        limits=LimitsAnswer(
            bots=usage.bots.limit,
            channels=list(usage.channels),
            languages=list(usage.languages),
            messages=usage.messages.limit,
            knowledge_bytes=usage.knowledge.limit,
            operators=usage.operators.limit,
        ),
        used=UsedAnswer(
            bots=usage.bots.used,
            messages=usage.messages.used,
            knowledge_bytes=usage.knowledge.used,
            operators=usage.operators.used,
        ),
    )
