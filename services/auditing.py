"""The audit log as administrators read it: what each action is called, and finding rows. Nothing here changes a row."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import ColumnElement, Select, bindparam, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import first_id
from db.engine import Database
from services import audit_words, naming, requests, sheets
from services.audit_words import Known
from services.days import midnight
from services.errors import Invalid
from services.i18n import T, Text
from services.paging import Page, few, newest_first
from services.settings import Settings
from services.sheets import Cell
from services.text import clean

ACTIONS: Mapping[str, Text] = {
    **requests.ACTIONS,
    "access_requested": T("Asked for access"),
    "request_withdrawn": T("Withdrew a request"),
    "accounts_joined": T("Joined two accounts"),
    "telegram_disconnected": T("Disconnected Telegram"),
    "forum_connected": T("Connected a Telegram group"),
    "signed_in": T("Signed in"),
    "password_changed": T("Changed the password"),
    "password_reset": T("Chose a new password by a letter"),
    "address_parted": T("An address got an account of its own"),
    "email_confirmed": T("Confirmed an e-mail"),
    "confirm_email_asked": T("Asked for a letter to confirm the e-mail"),
    "change_email_asked": T("Asked to change the e-mail"),
    "second_factor_on": T("Turned two-step sign-in on"),
    "second_factor_off": T("Turned two-step sign-in off"),
    "recovery_codes_made": T("Made new recovery codes"),
    "token_made": T("Made an API token"),
    "token_revoked": T("Revoked an API token"),
    "data_exported": T("Downloaded the data of the account"),
    "deletion_asked": T("Asked for the account to be deleted"),
    "deletion_taken_back": T("Kept the account after all"),
    "account_deleted": T("Account deleted"),
    "member_invited": T("Invited somebody to the team"),
    "invitation_withdrawn": T("Withdrew an invitation"),
    "member_joined": T("Joined a team"),
    "member_role": T("Changed a role in the team"),
    "member_removed": T("Removed somebody from the team"),
    "member_left": T("Left a team"),
    "bot_deleted": T("Deleted a bot"),
    "channel_connected": T("Connected a channel"),
    "channel_replaced": T("Connected a channel anew"),
    "channel_disconnected": T("Disconnected a channel"),
    "conversation_taken": T("Took over a conversation"),
    "conversation_given_back": T("Gave a conversation back to the bot"),
    "conversation_closed": T("Closed a conversation"),
    "conversation_assigned": T("Assigned a conversation"),
    "mail_retried": T("Let letters go to an address again"),
    "letter_text_changed": T("Changed the text of a letter or a notice"),
    "letter_text_reset": T("Brought back the text of a letter or a notice"),
    "coupons_made": T("Made coupons"),
    "coupon_disabled": T("Disabled a coupon"),
    "coupons_exported": T("Downloaded coupons"),
    "payments_exported": T("Downloaded payments"),
    "payment_ordered": T("Ordered a plan for an owner"),
    "payment_marked_paid": T("Noted a payment as paid"),
    "payment_refunded": T("Noted a refund"),
    "owners_exported": T("Downloaded the list of owners"),
    "owner_banned": T("Blocked an owner"),
    "owner_unbanned": T("Unblocked an owner"),
    "owner_written": T("Wrote to an owner"),
    "conversation_opened": T("Opened a customer’s conversation"),
    "customer_written": T("Wrote to a customer for a business"),
    "view_begun": T("Began to look at an owner’s panel"),
    "view_asked": T("Asked an owner to allow changes"),
    "view_agreed": T("Allowed an administrator to change things"),
    "view_refused": T("Did not allow changes"),
    "view_changed": T("Changed something in an owner’s panel"),
    "view_ended": T("Stopped looking at an owner’s panel"),
    "audit_exported": T("Downloaded the audit log"),
    "statistics_exported": T("Downloaded statistics"),
    "conversations_exported": T("Downloaded conversations"),
    "join_asked": T("Asked to join two accounts"),
    "contact_changed": T("Changed a customer’s card"),
    "contact_deleted": T("Deleted a customer’s data"),
    "broadcast_made": T("Wrote a broadcast"),
    "broadcast_deleted": T("Deleted a broadcast"),
    "broadcast_launched": T("Sent or scheduled a broadcast"),
    "broadcast_recalled": T("Took a scheduled broadcast back"),
    "broadcast_paused": T("Paused a broadcast"),
    "broadcast_resumed": T("Went on with a broadcast"),
    "broadcast_stopped": T("Stopped a broadcast"),
    "endpoint_made": T("Added a server"),
    "endpoint_changed": T("Changed a server"),
    "endpoint_secret_changed": T("Made a new secret for a server"),
    "endpoint_on": T("Switched a server on"),
    "endpoint_off": T("Switched a server off"),
    "endpoint_gone": T("Switched off a server that is no longer there"),
    "endpoint_deleted": T("Deleted a server"),
    "support_answered": T("Answered an owner in the support chat"),
    "support_closed": T("Closed an owner’s support chat"),
    "announcement_saved": T("Saved an announcement"),
    "announcement_tested": T("Sent an announcement to themselves"),
    "announcement_sent": T("Sent or scheduled an announcement"),
    "missed_exported": T("Downloaded whom an announcement did not reach"),
    "announcement_stopped": T("Stopped an announcement"),
    "announcement_deleted": T("Deleted the draft of an announcement"),
    "key_checked": T("Checked a provider’s key"),
    "override_changed": T("Chose another setting"),
    "override_ended": T("Let a setting of the file hold again"),
    "message_retried": T("Let a message be tried again"),
    "message_discarded": T("Gave a message up"),
    "job_retried": T("Let a job be tried again"),
    "job_discarded": T("Gave a job up"),
    "error_hidden": T("Took an error off the list"),
    "error_shown": T("Put an error back on the list"),
    "backup_begun": T("Began a backup"),
    "backup_downloaded": T("Downloaded a backup"),
    "backup_deleted": T("Deleted a backup"),
    "channels_exported": T("Downloaded the list of channels"),
    "channel_checked": T("Checked an owner’s channel"),
    "files_exported": T("Downloaded the list of files"),
    "document_retried": T("Let an owner’s document be read again"),
    "backup_restored": T("Restored the installation from a backup"),
}
"""What each action is called; one that is not here is shown by its own word."""
OBJECTS: Mapping[str, Text] = {
    "user": T("Account"),
    "bot": T("Bot"),
    "conversation": T("Conversation"),
    "payment": T("Payment"),
    "request": T("Request"),
    "coupon": T("Coupon"),
    "api_token": T("API token"),
    "letter_text": T("Text of a letter or a notice"),
    "forum_group": T("Telegram group"),
    "document": T("Document"),
    "channel": T("Channel"),
    "audit": T("Audit log"),
    "contact": T("Customer"),
    "broadcast": T("Broadcast"),
    "endpoint": T("Server"),
    "announcement": T("Announcement"),
    "override": T("Setting"),
    "provider_key": T("Key of a provider"),
    "message": T("Message"),
    "job": T("Background job"),
    "error": T("Error in the log"),
    "backup": T("Backup"),
    "statistics": T("Statistics"),
}
_log = models.AuditLog
_PEOPLE_AT_MOST = 200
_NUMBER_DIGITS = 6
"""So short a number is that of a job or a message, not part of a phone."""
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Filters:
    """What of the log is shown; empty values filter nothing.

    ``actor``: an id, name, e-mail, phone or Telegram number; ``admins``: only what administrators did. ``object``: a whole id, or
    what names an owner to whom it was done.
    ``since`` and ``until``: days of Tashkent, both included.
    """

    actor: str = ""
    admins: bool = False
    action: str = ""
    object: str = ""
    since: dt.date | None = None
    until: dt.date | None = None


def name(action: str, language: str) -> str:
    """Return what an action is called."""
    return ACTIONS[action].render(language) if action in ACTIONS else action.replace("_", " ")


async def _conditions(session: AsyncSession, filters: Filters) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if filters.actor:
        people = await naming.ids_called(session, filters.actor, _PEOPLE_AT_MOST)
        by = _log.actor_id.in_(people)
        # Of one person the index holds everything in order; of several who did little the whole log would be walked along.
        found.append(await few(session, _log.id, by, _log.actor_id.concat("").in_(people)) if len(people) > 1 else by)
    if filters.admins:
        found.append(_log.actor_id.in_(select(models.User.id).where(models.User.role == "admin")))
    if filters.action:
        found.append(_log.action == clean(filters.action, 64))
    if filters.object:
        thing = clean(filters.object, 64).strip()
        # With the kinds the index over both is used, whatever kind it is.
        about = [_about(kind, thing) for kind in OBJECTS]
        if not thing.isdigit() or len(thing) > _NUMBER_DIGITS:
            owners = await naming.ids_called(session, thing, _PEOPLE_AT_MOST)
            about.append((_log.object_kind == "user") & _log.object_id.in_(owners))
        found.append(or_(*about))
    # Rows are never written later than they are made, so that their identifiers are moments too.
    if filters.since:
        found.append(_log.id >= first_id(midnight(filters.since)))
    if filters.until:
        found.append(_log.id < first_id(midnight(filters.until + dt.timedelta(days=1))))
    return found


def _about(kind: str, thing: str) -> ColumnElement[bool]:
    return (_log.object_kind == kind) & (_log.object_id == thing)


async def find(session: AsyncSession, filters: Filters, *, cursor: str = "") -> tuple[Page[models.AuditLog], Known]:
    """Return a page of the log, the newest first, and whom and what it names; raises ``Invalid`` for a malformed cursor."""
    page = await newest_first(session, select(_log).where(*await _conditions(session, filters)), _log.id, cursor=cursor)
    return page, await audit_words.known(session, page.items)


async def of_owner(session: AsyncSession, user_id: str) -> tuple[Sequence[models.AuditLog], Known]:
    """Return the last things that were done to an owner or by them, the newest first, and whom and what they name."""
    last = (await session.scalars(_of_owner(), {"p_user": user_id})).all()
    return last, await audit_words.known(session, last)


@cache
def _of_owner() -> Select[models.AuditLog]:
    # Each of the two is read from an index of its own.
    done_to = select(_log.id).where(_log.object_kind == "user", _log.object_id == bindparam("p_user"))
    done_by = select(_log.id).where(_log.actor_id == bindparam("p_user"))
    lasts = (query.order_by(_log.id.desc()).limit(_SHOWN).subquery() for query in (done_to, done_by))
    either = union_all(*(select(last.c.id) for last in lasts))
    return select(_log).where(_log.id.in_(either)).order_by(_log.id.desc()).limit(_SHOWN)


def who(row: models.AuditLog, known: Known) -> tuple[models.User | None, models.User | None]:
    """Return who did something, and for whom: an administrator who acts in an owner's panel, and that owner."""
    by = (row.details or {}).get("by")
    actor = known.people.get(row.actor_id or "")
    return (known.people.get(str(by)), actor) if by else (actor, None)


_HEADINGS = (T("Time"), T("Who"), T("For"), T("Action"), T("Object"), T("Id"), T("Name"), T("Details"))


def _stamp(moment: dt.datetime | dt.date) -> str:
    return sheets.moment(moment) if isinstance(moment, dt.datetime) else moment.isoformat()


async def table(db: Database, settings: Settings, filters: Filters, language: str) -> AsyncIterator[list[list[Cell]]]:
    """Yield the table of the filtered rows in parts, its headings first; each part is read by itself."""
    yield [[heading.render(language) for heading in _HEADINGS]]
    cursor: str | None = ""
    while cursor is not None:
        async with db.read() as session:
            query = select(_log).where(*await _conditions(session, filters))
            page = await newest_first(session, query, _log.id, cursor=cursor, limit=sheets.ROWS_AT_ONCE)
            known = await audit_words.known(session, page.items)
        yield [
            [
                sheets.moment(row.at),
                *(audit_words.called(person) for person in who(row, known)),
                name(row.action, language),
                OBJECTS[row.object_kind].render(language) if row.object_kind in OBJECTS else row.object_kind,
                row.object_id,
                audit_words.thing(row, known, language),
                ", ".join(audit_words.details(row, known, settings, language, _stamp)),
            ]
            for row in page.items
        ]
        cursor = page.next


def check(filters: Filters) -> Filters:
    """Return the filters; raises ``Invalid`` where the last day is before the first."""
    if filters.since and filters.until and filters.until < filters.since:
        raise Invalid(T("The last day is before the first."), field="until")
    return filters
