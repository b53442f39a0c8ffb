"""The reckoning of plans: what an owner has at a moment, what a plan costs, what is left of one, months of Tashkent's time."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from services import plans
from services.days import TASHKENT
from services.errors import Invalid
from services.i18n import LANGUAGES, T
from services.letters import rendering
from services.plans import Span, Timeline
from services.settings import Settings, SettingsError, read_settings

_SETTINGS = Settings()
_BEGAN = dt.datetime(2026, 11, 1, 9, 30, tzinfo=dt.UTC)
_DAY = dt.timedelta(days=1)
_SECOND = dt.timedelta(seconds=1)


def _span(plan: str, from_day: float, until_day: float, value: int = 0) -> Span:
    return Span(f"{plan}{from_day}", plan, "monthly", _BEGAN + from_day * _DAY, _BEGAN + until_day * _DAY, value)


def _line(*spans: Span, **more: Any) -> Timeline:
    return Timeline(_SETTINGS, _BEGAN, spans, **more)


def _tashkent(*parts: int) -> dt.datetime:
    year, month, day, hour, minute, second = (*parts, 0, 0, 0)[:6]
    return dt.datetime(year, month, day, hour, minute, second, tzinfo=TASHKENT)


def test_without_a_paid_plan_the_clock_decides() -> None:
    """Three days of trial, then test to day 14, then nothing; each change falls on its second."""
    line = _line()
    trial, test, over = line.at(_BEGAN), line.at(_BEGAN + 3 * _DAY), line.at(_BEGAN + 14 * _DAY)
    assert (trial.status, trial.plan, trial.ends_at) == ("trial", "trial", _BEGAN + 3 * _DAY)
    assert line.at(_BEGAN + 3 * _DAY - _SECOND).status == "trial"
    assert (test.status, test.plan, test.ends_at) == ("test", "test", _BEGAN + 14 * _DAY)
    assert line.at(_BEGAN + 14 * _DAY - _SECOND).status == "test"
    assert (over.status, over.plan, over.facts, over.ends_at) == ("expired", None, None, None)
    assert [trial.allows, test.allows, over.allows] == [True, True, False]
    assert trial.facts is not None and trial.facts.messages == 300
    assert test.facts is not None and test.facts.languages == ("uz",)
    assert line.trial_ends_at() == _BEGAN + 3 * _DAY


def test_an_administrator_has_no_limits_at_any_time() -> None:
    """Neither now nor in ten years."""
    for days in (0, 20, 3650):
        standing = _line(unlimited=True).at(_BEGAN + days * _DAY)
        assert (standing.status, standing.facts, standing.allows) == ("unlimited", None, True)


def test_after_a_paid_plan_there_are_three_days_of_grace() -> None:
    """With what the plan allowed; then nothing."""
    line = _line(_span("basic", 20, 50))
    paid = line.at(_BEGAN + 30 * _DAY)
    assert (paid.status, paid.plan, paid.ends_at) == ("active", "basic", _BEGAN + 50 * _DAY)
    assert paid.is_paid and paid.paid_until == _BEGAN + 50 * _DAY
    grace = line.at(_BEGAN + 50 * _DAY)
    assert (grace.status, grace.plan, grace.ends_at, grace.paid_until) == ("grace", "basic", _BEGAN + 53 * _DAY, None)
    assert grace.facts == _SETTINGS.plans["basic"] and grace.is_paid and grace.allows
    assert line.at(_BEGAN + 53 * _DAY).status == "expired"


def test_a_paid_plan_goes_before_the_free_days_and_they_go_on_after_it() -> None:
    """A plan that was taken back at once leaves the trial as it was."""
    line = _line(_span("starter", 1, 2))
    assert line.at(_BEGAN + 1.5 * _DAY).plan == "starter"
    assert line.at(_BEGAN + 2.5 * _DAY).status == "grace"
    assert line.at(_BEGAN + 5.5 * _DAY).status == "test"
    assert _line().at(_BEGAN + 1.5 * _DAY).status == "trial"


def test_renewals_of_one_plan_end_together_and_another_plan_is_a_change() -> None:
    """What is shown as a plan's end is where the plan ends, not one of its payments."""
    line = _line(_span("basic", 0, 30), _span("basic", 30, 60), _span("starter", 60, 90))
    standing = line.at(_BEGAN + 10 * _DAY)
    assert (standing.ends_at, standing.paid_until) == (_BEGAN + 60 * _DAY, _BEGAN + 90 * _DAY)
    assert line.at(_BEGAN + 60 * _DAY).plan == "starter"
    assert [span.plan for span in line.ahead(_BEGAN + 30 * _DAY)] == ["basic", "starter"]


def test_a_plan_that_is_not_configured_any_more_allows_what_the_smallest_paid_one_does() -> None:
    """Whoever paid is never left with nothing."""
    standing = _line(_span("gold", 0, 30)).at(_BEGAN)
    assert (standing.plan, standing.facts) == ("gold", _SETTINGS.plans["starter"])


@pytest.mark.parametrize(
    ("plan", "period", "uzs"),
    [
        ("starter", "monthly", 149_000),
        ("starter", "quarterly", 424_650),
        ("starter", "annual", 1_519_800),
        ("basic", "quarterly", 826_500),
        ("premium", "annual", 6_018_000),
    ],
)
def test_longer_periods_are_cheaper_by_what_is_set(plan: str, period: str, uzs: int) -> None:
    """Months times price less the discount, in whole so'm."""
    price = plans.price_tiyin(_SETTINGS, plan, period)
    assert (price, price % 100) == (uzs * 100, 0)


@pytest.mark.parametrize(
    ("plan", "period", "field"),
    [("gold", "monthly", "plan"), ("trial", "monthly", "plan"), ("basic", "week", "period")],
)
def test_what_is_not_sold_has_no_price(plan: str, period: str, field: str) -> None:
    """Free plans neither."""
    with pytest.raises(Invalid) as refused:
        plans.price_tiyin(_SETTINGS, plan, period)
    assert refused.value.field == field


def test_what_buying_a_plan_would_be() -> None:
    """Larger than the current one: at once. The last one again: a renewal. Anything else: afterwards."""
    now = _BEGAN + 10 * _DAY
    kinds = {
        (spans, plan): plans.kind_of(_SETTINGS, _line(*spans), plan, now)
        for spans in ((), (_span("basic", 0, 30),), (_span("premium", 0, 30), _span("starter", 30, 60)))
        for plan in ("starter", "basic", "premium")
    }
    assert list(kinds.values()) == [
        *("new", "new", "new"),
        *("downgrade", "renewal", "upgrade"),
        *("renewal", "downgrade", "downgrade"),
    ]
    # In the days of grace nothing is ahead any more.
    assert plans.kind_of(_SETTINGS, _line(_span("basic", -25, 9)), "premium", now) == "new"


def test_what_is_left_of_a_plan_is_reckoned_by_the_second_in_whole_som() -> None:
    """Of a running one what has not passed, of a waiting one all, of one that is over nothing."""
    running, waiting, over = (
        _span("basic", 0, 30, 29_000_000),
        _span("basic", 30, 60, 14_900_000),
        _span("basic", -30, 0, 29_000_000),
    )
    assert plans.unused_tiyin([running], _BEGAN) == 29_000_000
    assert plans.unused_tiyin([running], _BEGAN + 15 * _DAY) == 14_500_000
    assert plans.unused_tiyin([running], _BEGAN + 15 * _DAY + _SECOND) == 14_499_900 - 14_499_900 % 100
    assert plans.unused_tiyin([running, waiting, over], _BEGAN + 30 * _DAY - _SECOND) == 14_900_000
    assert plans.unused_tiyin([running, over], _BEGAN + 30 * _DAY) == 0


@pytest.mark.parametrize(
    ("moment", "month"),
    [
        (_tashkent(2026, 11, 30, 23, 59, 59), "2026-11"),
        (_tashkent(2026, 12, 1), "2026-12"),
        (dt.datetime(2026, 12, 31, 18, 59, 59, tzinfo=dt.UTC), "2026-12"),
        (dt.datetime(2026, 12, 31, 19, tzinfo=dt.UTC), "2027-01"),
        (_tashkent(2028, 2, 29, 23, 59, 59), "2028-02"),
        (_tashkent(2028, 3, 1), "2028-03"),
    ],
)
def test_a_month_begins_at_midnight_in_tashkent(moment: dt.datetime, month: str) -> None:
    """Five hours before that of UTC."""
    assert plans.month_of(moment.astimezone(dt.UTC)) == month
    end = plans.month_ends_at(moment)
    assert plans.month_of(end) != month and plans.month_of(end - _SECOND) == month
    assert end.tzinfo is dt.UTC and end.astimezone(TASHKENT).day == 1


def test_a_month_with_29_february_has_29_days() -> None:
    """And the year after it 28."""
    assert plans.month_ends_at(_tashkent(2028, 2, 29, 12)) == _tashkent(2028, 3, 1)
    assert plans.month_ends_at(_tashkent(2027, 2, 28, 12)) == _tashkent(2027, 3, 1)
    # Periods are days, not calendar months: bought on 29 February, a year ends on 28 February.
    bought = _tashkent(2028, 2, 29, 12)
    assert bought + dt.timedelta(days=_SETTINGS.subscriptions.annual.days) == _tashkent(2029, 2, 28, 12)


def test_a_title_is_as_it_is_written_in_each_language_or_in_all(tmp_path: Path) -> None:
    """The free plans' own are translated; what somebody writes as a string is the same everywhere."""
    original = (Path(__file__).parents[2] / "config.toml").read_text("utf-8")
    config = tmp_path / "config.toml"
    config.write_text(original.replace('title = "Starter"', 'title = "Start 24/7"', 1), "utf-8")
    sold = read_settings(config, environment={}, env_file=None).plans
    assert [sold["starter"].title.called(code) for code in LANGUAGES] == ["Start 24/7"] * len(LANGUAGES)
    said = T("Your plan {plan} has ended.", plan=sold["trial"].title)
    shown = [(sold["trial"].title.called(code), said.render(code)) for code in LANGUAGES]
    assert len({title for title, _ in shown}) == len(LANGUAGES) and all(title in text for title, text in shown)
    kept = sold["trial"].title.kept()
    assert [rendering.shown(kept, code) for code in LANGUAGES] == [title for title, _ in shown]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\n[plans.trial]\n", "\n[plans.free]\n", "'trial' is missing"),
        ("price_uzs = 0                 # so'm a month", "price_uzs = 5000", "nobody pays for it"),
        ('title = "Starter"', 'title = {uz = "Boshlang‘ich"}', "one for each language"),
        ('title = "Starter"', 'title = ""', "1 to 40 characters"),
        ("price_uzs = 149000", "price_uzs = 290000", "cost the same"),
        ("price_uzs = 149000", "price_uzs = 999", "1000 or more"),
        ("price_uzs = 149000", 'price_uzs = "a lot"', "price_uzs"),
        ("messages = 1000\n", "messages = -1\n", "messages"),
        ('channels = ["telegram", "web"]', 'channels = ["telegram", "fax"]', "channels"),
        ('languages = ["uz"]', "languages = []", "languages"),
        ('languages = ["uz"]', 'languages = ["uz", "uz"]', "the same thing twice"),
        ("messages = 15000", "mesages = 15000", "mesages"),
        ("test_until_day = 14", "test_until_day = 2", "test_until_day"),
        ("days = 90", "days = 0", "days"),
        ('ikpu = ""                     # 17', 'ikpu = "123"                     # 17', "ikpu"),
    ],
)
def test_a_wrong_plan_is_said_before_anything_starts(tmp_path: Path, old: str, new: str, said: str) -> None:
    """Each fault by its name."""
    original = (Path(__file__).parents[2] / "config.toml").read_text("utf-8")
    assert old in original
    config = tmp_path / "config.toml"
    config.write_text(original.replace(old, new, 1), "utf-8")
    with pytest.raises(SettingsError) as refused:
        read_settings(config, environment={}, env_file=None)
    assert said in str(refused.value)
