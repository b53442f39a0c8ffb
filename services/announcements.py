"""Announcements: what administrators tell owners at once, in Telegram, by mail, and on every page of the panel.

An owner is written to once, whatever dies: the letter's key is the announcement, and a slice of owners, their letters and the
place that was reached are one transaction. What concerns the service goes to everybody it is meant for; news go to nobody who has
unsubscribed, except as a banner, which is put away by a button.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import insert_for, new_id
from db.engine import DatabaseUnavailable
from services import access, jobs, letters, subscriptions
from services.days import midnight
from services.errors import Conflict, Invalid, NotFound
from services.i18n import T, in_cyrillic
from services.paging import Page, newest_first
from services.settings import Settings
from services.shown import mark_of
from services.text import clean, one_line

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

SEND_JOB = "announce"
BELL = "announcements"
LANGUAGES = ("uz", "ru", "en")
PLANS = ("all", "paid", "free", "expired")
TITLE_CHARS, TEXT_CHARS = 120, 3000
_SLICE = 200
_COUNTED = 5000
_BANNERS_FRESH_S = 30.0
_LIFE = dt.timedelta(days=3)


@dataclass(frozen=True, slots=True)
class Wish:
    """What an administrator typed. ``texts``: title and text by language; ``languages``: of those who are meant, none for all;
    ``banner_until``: when the last day of the banner is over, None without one.
    """

    texts: Mapping[str, Mapping[str, str]]
    plan: str
    languages: Sequence[str]
    service: bool
    by_telegram: bool
    by_mail: bool
    as_banner: bool
    banner_until: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Report:
    """What became of an announcement: letters by state of each way, and how many put the banner away."""

    mail: Mapping[str, int]
    telegram: Mapping[str, int]
    put_away: int


@dataclass(frozen=True, slots=True)
class Banner:
    """What a page shows: the announcement's id, title and text."""

    id: str
    title: str
    text: str


# What administrators do


async def listed(session: AsyncSession, cursor: str = "") -> Page[models.Announcement]:
    """Return announcements, the newest first."""
    row = models.Announcement
    return await newest_first(session, select(row), row.id, cursor=cursor or None)


async def get(session: AsyncSession, announcement_id: str, *, locked: bool = False) -> models.Announcement:
    """Return an announcement; raises ``NotFound``."""
    found = await session.get(models.Announcement, announcement_id, with_for_update=locked or None)
    if found is None:
        raise NotFound
    return found


def _checked(wish: Wish, now: dt.datetime) -> dict[str, Any]:
    texts: dict[str, dict[str, str]] = {}
    languages = [each for each in LANGUAGES if each in wish.languages]
    for language in LANGUAGES:
        given = wish.texts.get(language, {})
        title = one_line(given.get("title", ""), TITLE_CHARS + 1)
        body = clean(given.get("text", "").replace("\r\n", "\n")).strip()
        if len(title) > TITLE_CHARS:
            raise Invalid(T("This is too long: at most {n} characters.", n=TITLE_CHARS), field=f"title-{language}")
        if len(body) > TEXT_CHARS:
            raise Invalid(T("This is too long: at most {n} characters.", n=TEXT_CHARS), field=f"text-{language}")
        is_read = not languages or language in languages
        if is_read and not title:
            raise Invalid(
                T("Write the title: owners who read in this language are meant too."), field=f"title-{language}"
            )
        if is_read and not body:
            raise Invalid(
                T("Write the text: owners who read in this language are meant too."), field=f"text-{language}"
            )
        texts[language] = {"title": title, "text": body}
    if wish.plan not in PLANS:
        raise Invalid(T("Choose who is meant."), field="plan")
    if not (wish.by_telegram or wish.by_mail or wish.as_banner):
        raise Invalid(T("Choose at least one way: Telegram, mail or banner."), field="ways")
    if wish.as_banner and (wish.banner_until is None or wish.banner_until <= now):
        raise Invalid(T("Until which day is the banner shown? Choose today or a later day."), field="banner_until")
    return {
        "texts": texts,
        "audience": {"plan": wish.plan, "languages": languages, "service": wish.service},
        "by_telegram": wish.by_telegram,
        "by_mail": wish.by_mail,
        "as_banner": wish.as_banner,
        "banner_until": wish.banner_until if wish.as_banner else None,
    }


def mark(row: models.Announcement) -> str:
    """Return what tells whether a draft is still the one that was looked at: a form carries it back as ``seen``."""
    ways = (row.by_telegram, row.by_mail, row.as_banner, row.banner_until and row.banner_until.isoformat())
    return mark_of((row.texts, row.audience, ways))


def _unchanged(row: models.Announcement, seen: str) -> None:
    if seen and seen != mark(row):
        raise Conflict(
            T("Another administrator has changed this draft. Look at it as it is now, then press again."),
            code="changed",
        )


async def save(
    session: AsyncSession,
    person: models.User,
    wish: Wish,
    *,
    now: dt.datetime,
    announcement_id: str = "",
    seen: str = "",
) -> models.Announcement:
    """Make a draft or change the one that was ``seen`` (:func:`mark`, empty for any).

    Raises ``Invalid`` with the field, ``NotFound``, and ``Conflict`` where another changed it or it is on its way.
    """
    values = _checked(wish, now)
    if announcement_id:
        row = await get(session, announcement_id, locked=True)
        _must_be(row, "draft")
        _unchanged(row, seen)
        for name, value in values.items():
            setattr(row, name, value)
    else:
        row = models.Announcement(author_id=person.id, created_at=now, **values)
        session.add(row)
    await session.flush()
    await access.record(session, person, "announcement_saved", "announcement", row.id, title=said(row, "uz")[0])
    return row


def _must_be(row: models.Announcement, *states: str) -> None:
    if row.status not in states:
        raise Conflict(T("This announcement is on its way or over. Load the page again."))


async def test(session: AsyncSession, person: models.User, announcement_id: str, *, now: dt.datetime) -> None:
    """Write the announcement to the administrator who asks, by every way that this account has."""
    row = await get(session, announcement_id)
    key = f"announcement-test:{row.id}:{new_id()}"
    await letters.write(session, person.id, "announcement", key=key, now=now, params=_said(row, person))
    await access.record(session, person, "announcement_tested", "announcement", row.id)


async def send(
    session: AsyncSession,
    person: models.User,
    announcement_id: str,
    *,
    at: dt.datetime | None,
    now: dt.datetime,
    seen: str = "",
) -> models.Announcement:
    """Send the draft that was ``seen`` (:func:`mark`, empty for any) now, or ``at`` a moment ahead.

    Raises ``Invalid``, ``NotFound``, and ``Conflict`` where another changed it or it is on its way. Rings nothing itself.
    """
    row = await get(session, announcement_id, locked=True)
    _must_be(row, "draft")
    _unchanged(row, seen)
    if at is not None and at <= now:
        raise Invalid(T("This moment is over. Choose a later one, or send it now."), field="run_at")
    if row.as_banner and row.banner_until is not None and row.banner_until <= (at or now):
        raise Invalid(T("The banner would be over before it is shown. Choose a later day for it."), field="run_at")
    row.status, row.run_at = ("scheduled", at) if at is not None else ("sending", now)
    delay = max(0.0, (at - now).total_seconds()) if at is not None else 0.0
    payload = {"announcement": row.id}
    await jobs.add(
        session, SEND_JOB, payload, lane=f"announce:{row.id}", unique_key=f"announce:{row.id}", delay_s=delay
    )
    moment = (at or now).isoformat()
    await access.record(session, person, "announcement_sent", "announcement", row.id, at=moment)
    return row


async def stop(session: AsyncSession, person: models.User, announcement_id: str, *, now: dt.datetime) -> None:
    """End an announcement: nobody else is written to, letters that wait do not go, the banner is gone."""
    row = await get(session, announcement_id, locked=True)
    if row.status not in ("scheduled", "sending", "done"):
        raise Conflict(T("This announcement is not on its way."))
    row.status, row.finished_at = "stopped", now
    await access.record(session, person, "announcement_stopped", "announcement", row.id)


async def remove(session: AsyncSession, person: models.User, announcement_id: str) -> None:
    """Delete a draft."""
    row = await get(session, announcement_id, locked=True)
    _must_be(row, "draft")
    await session.delete(row)
    await access.record(session, person, "announcement_deleted", "announcement", row.id)


async def report(session: AsyncSession, announcement_id: str) -> Report:
    """Return what became of an announcement so far."""
    letter, seen = models.Letter, models.AnnouncementSeen
    # Word for word what the partial index says, or SQLite does not take it.
    ours = text("letters.kind IN ('announcement', 'announcement_news')")
    rows = await session.execute(
        select(letter.mail, letter.telegram, func.count())
        .where(ours, letter.key == f"announcement:{announcement_id}")
        .group_by(letter.mail, letter.telegram)
    )
    mail: Counter[str] = Counter()
    telegram: Counter[str] = Counter()
    for by_mail, by_telegram, count in rows:
        mail[by_mail] += count
        telegram[by_telegram] += count
    put_away = await session.scalar(select(func.count()).where(seen.announcement_id == announcement_id))
    return Report(mail, telegram, int(put_away or 0))


# Who is meant


async def receivers(
    session: AsyncSession, settings: Settings, row: models.Announcement, now: dt.datetime
) -> tuple[int, bool]:
    """Return how many owners are meant, and whether that is all of them: of very many not every one is looked at."""
    count, after, looked = 0, "", 0
    while looked < _COUNTED:
        users = await _owners(session, after)
        count += len(await _meant(session, settings, row, users, now))
        looked += len(users)
        if len(users) < _SLICE:
            return count, True
        after = users[-1].id
    return count, False


async def _owners(session: AsyncSession, after: str) -> list[models.User]:
    user = models.User
    query = (
        select(user)
        .where(user.id > after, user.role == "owner", user.banned_at.is_(None), user.delete_at.is_(None))
        .order_by(user.id)
        .limit(_SLICE)
    )
    return list(await session.scalars(query))


async def _meant(
    session: AsyncSession, settings: Settings, row: models.Announcement, users: Sequence[models.User], now: dt.datetime
) -> list[models.User]:
    audience = row.audience
    spoken = [each for each in users if not audience["languages"] or _base(each.language) in audience["languages"]]
    if audience["plan"] == "all" or not spoken:
        return spoken
    lines = await subscriptions.timelines(session, settings, spoken)
    return [each for each in spoken if _fits(audience["plan"], lines[each.id].at(now).status)]


def _fits(plan: str, status: str) -> bool:
    return status in {"paid": ("active", "grace"), "free": ("trial", "test"), "expired": ("expired",)}[plan]


def _base(language: str) -> str:
    return language if language in LANGUAGES else "uz"


def languages_of(row: models.Announcement) -> Sequence[str]:
    """Return the languages in which an announcement is read: those that were chosen, without a choice all."""
    return row.audience["languages"] or LANGUAGES


def said(row: models.Announcement, language: str) -> tuple[str, str]:
    """Return title and text as somebody reads them; who reads in a language that is not meant gets the first that is."""
    read_in = languages_of(row)
    base = _base(language) if _base(language) in read_in else read_in[0]
    title, body = str(row.texts[base]["title"]), str(row.texts[base]["text"])
    in_their_script = language == "uz-Cyrl" and base == "uz"
    return (in_cyrillic(title), in_cyrillic(body)) if in_their_script else (title, body)


def _said(row: models.Announcement, user: models.User) -> dict[str, str]:
    title, body = said(row, user.language)
    return {"title": title, "text": body, "announcement": row.id}


# On its way


async def run_job(core: Core, payload: Mapping[str, Any]) -> None:
    """Write the letters of an announcement, a slice of owners at a time. Runs as a job; safe to begin again at any point."""
    announcement_id = str(payload["announcement"])
    while True:
        now = core.now()
        async with core.db.write() as session:
            await jobs.still_ours(session)
            row = await session.get(models.Announcement, announcement_id, with_for_update=True)
            if row is None or row.status not in ("scheduled", "sending"):
                return
            if row.status == "scheduled" and row.run_at is not None and row.run_at > now:
                raise jobs.TryLater(min(3600.0, (row.run_at - now).total_seconds()))
            row.status = "sending"
            users = await _owners(session, row.cursor or "")
            for user in await _meant(session, core.settings, row, users, now):
                row.chosen += 1
                if row.by_mail or row.by_telegram:
                    await _write(session, row, user, now)
            if users:
                row.cursor = users[-1].id
            over = len(users) < _SLICE
            if over:
                row.status, row.finished_at = "done", now
        core.bell.ring("letters")
        if row.as_banner:
            await refresh(core)
            core.bell.ring_elsewhere(BELL)
        await core.pause("announced_slice")
        if over:
            return


async def _write(session: AsyncSession, row: models.Announcement, user: models.User, now: dt.datetime) -> None:
    service = bool(row.audience.get("service"))
    wants = service or user.unsubscribed_at is None
    mail = wants and row.by_mail and bool(user.email) and user.mail_refused_at is None
    telegram = wants and row.by_telegram and user.telegram_id is not None
    kind = "announcement" if service else "announcement_news"
    await letters.write(
        session,
        user.id,
        kind,
        key=f"announcement:{row.id}",
        now=now,
        # One without a way is kept to tell who was not reached.
        params=_said(row, user) if mail or telegram else None,
        mail=mail,
        telegram=telegram,
        expires_at=now + _LIFE,
    )


async def is_wanted(session: AsyncSession, letter: models.Letter, user: models.User) -> bool:
    """Tell whether a letter may go: not one of an announcement that was stopped, nor news to who has unsubscribed meanwhile."""
    if not letter.kind.startswith("announcement"):
        return True
    if user.banned_at is not None or (letter.kind == "announcement_news" and user.unsubscribed_at is not None):
        return False
    if letter.key.startswith("announcement-test:"):
        return True
    status = await session.scalar(
        select(models.Announcement.status).where(models.Announcement.id == str(letter.params.get("announcement")))
    )
    return status in ("sending", "done")


# On every page


async def refresh(core: Core) -> None:
    """Look up which banners there are; pages go by what was found."""
    row, now = models.Announcement, core.now()
    async with core.db.read() as session:
        shown = select(row).where(row.as_banner.is_(True), row.banner_until > now, row.status.in_(("sending", "done")))
        core.banners = list(await session.scalars(shown.order_by(row.id)))


async def follow(core: Core) -> None:
    """Look them up when the bell rings and every half minute, until cancelled."""
    async with core.bell.listen(BELL, limit=1) as bell:
        while True:
            try:
                await refresh(core)
            except DatabaseUnavailable:
                log.warning("banners_not_read")
            try:
                async with asyncio.timeout(_BANNERS_FRESH_S):
                    await bell.get()
            except TimeoutError:
                pass


async def banners(core: Core, session: AsyncSession, user: models.User, language: str) -> list[Banner]:
    """Return the banners for a person's pages. Where there is none for anybody, which is nearly always, nothing is asked."""
    now = core.now()
    if user.is_admin:
        return []
    open_ones = [row for row in core.banners if row.banner_until is not None and row.banner_until > now]
    if not open_ones:
        return []
    seen = models.AnnouncementSeen
    gone = set(
        await session.scalars(
            select(seen.announcement_id).where(
                seen.user_id == user.id, seen.announcement_id.in_([row.id for row in open_ones])
            )
        )
    )
    return [
        Banner(row.id, *said(row, language))
        for row in open_ones
        if row.id not in gone and await _meant(session, core.settings, row, [user], now)
    ]


async def put_away(session: AsyncSession, user: models.User, announcement_id: str, *, now: dt.datetime) -> None:
    """Show a banner to this person no more; said twice it changes nothing. Raises ``NotFound``."""
    row = await get(session, announcement_id)
    if not row.as_banner or row.status not in ("sending", "done", "stopped"):
        raise NotFound
    seen = models.AnnouncementSeen
    await session.execute(
        insert_for(session.get_bind().dialect.name, seen)
        .values(announcement_id=announcement_id, user_id=user.id, at=now)
        .on_conflict_do_nothing(index_elements=["announcement_id", "user_id"])
    )


def end_of(text_: str, field: str) -> dt.datetime:
    """Return when a day of Tashkent is over; raises ``Invalid``."""
    try:
        return midnight(dt.date.fromisoformat(text_.strip()) + dt.timedelta(days=1))
    except (ValueError, OverflowError):
        raise Invalid(T("Enter a day, for example 2026-12-31."), field=field) from None
