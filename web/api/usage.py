"""What model calls used and cost."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field

from db.base import utcnow
from services.errors import Invalid
from services.i18n import T
from services.statistics import costs
from web.api.base import Call, Routes
from web.api.wire import Answer, Listing, Moment, Query, Usd

routes = Routes("Usage")

_DEFAULT_PERIOD = dt.timedelta(days=30)


class Period(Query):
    """Which time; the last 30 days where nothing is given."""

    since: Annotated[Moment | None, Field(alias="from")] = None
    until: Annotated[Moment | None, Field(alias="to")] = None


class UsageAnswer(Answer):
    """Sums of one provider, model, bot and feature."""

    provider: str
    model: str
    bot_id: str | None
    feature: str
    count: Annotated[int, Field(description="model calls, failed ones too")]
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: Usd


@routes.get("/usage")
async def index(call: Call, query: Period) -> Listing[UsageAnswer]:
    """Sum up the model calls of your bots, the dearest first."""
    until = query.until or utcnow() + dt.timedelta(minutes=1)
    since = query.since or until - _DEFAULT_PERIOD
    if since >= until:
        raise Invalid(T("The start must be before the end."), field="from")
    async with call.core.db.read() as session:
        rows = await costs.summary(session, call.user, since, until)
    items = [
        UsageAnswer(
            provider=row.provider,
            model=row.model,
            bot_id=row.bot_id,
            feature=row.feature,
            count=row.calls,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            cached_tokens=row.cached_tokens,
            cost_usd=row.cost_usd,
        )
        for row in rows
    ]
    return Listing(items=items)
