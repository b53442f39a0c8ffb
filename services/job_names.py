"""What jobs in the background are called."""

from __future__ import annotations

from collections.abc import Mapping

from services import announcements, backups, bots, forum, health, leaving, resets, trials, upkeep
from services.conversations import joining
from services.i18n import T, Text
from services.knowledge import documents, embedding
from services.letters import offering, partnering
from services.payments import ledger
from services.statistics import counting

NAMES: Mapping[str, Text] = {
    upkeep.CLEAN_UP_JOB: T("Deleting what is no longer needed"),
    health.CHECK_JOB: T("Looking at the channels"),
    ledger.EXPIRE_JOB: T("Ending orders that nobody paid"),
    offering.REMIND_JOB: T("Reminders and offers"),
    partnering.TELL_JOB: T("Letters to partners"),
    leaving.DELETE_JOB: T("Deleting accounts that were left"),
    counting.COUNT_JOB: T("Adding up the days for statistics"),
    backups.BACKUP_JOB: T("Backup"),
    documents.INDEX_JOB: T("Reading a document"),
    documents.PURGE_JOB: T("Clearing away deleted documents"),
    embedding.EMBED_JOB: T("Preparing search by meaning"),
    bots.PURGE_JOB: T("Clearing away a deleted bot"),
    bots.RELEASE_JOB: T("Disconnecting a channel"),
    trials.RUN_JOB: T("Test questions"),
    forum.CORRECT_JOB: T("Correcting a message in a Telegram group"),
    joining.CLOSE_TOPIC_JOB: T("Closing a topic of a Telegram group"),
    ledger.REVERSE_JOB: T("Giving a Click payment back"),
    resets.RESET_JOB: T("Letter for a new password"),
    announcements.SEND_JOB: T("Announcement"),
}
"""What jobs do, for people; one that is not here is shown by the name in the code."""
