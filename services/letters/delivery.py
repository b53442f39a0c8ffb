"""Letters on their way: by mail and in Telegram, each until it arrived, was refused, or is of no use any more.

One process at a time sends. A way's number of attempts is raised before anything leaves (who raised it sends, nobody else), so
two processes that both believe to be the one do not send the same letter twice. What is cut off between the server's acceptance
and its mark: an offer is not sent again (``unsure``), everything else is, after a while and under the same Message-ID: rather a
receipt twice than never.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.errors import MessageError
from typing import TYPE_CHECKING, Any, Literal

import structlog
from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.engine import DatabaseUnavailable
from services import accounts, announcements, letters, mail, notices, receipts
from services.crypto import Undecryptable
from services.errors import Invalid
from services.letters import bounced, offering, rendering
from services.letters.rendering import Written
from services.pauses import backoff_s
from services.text import clean

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

BRAND = "BotFactory"
MAIL_KEY = "mail"
"""Of the notice that mail cannot be sent."""
LOOK_EVERY_S = 30.0
_SLICE = 50
_FIRST_S, _MOST_S = 120.0, 6 * 3600.0
_MOST = dt.timedelta(seconds=_MOST_S)
_REST_FIRST_S, _REST_MOST_S = 60.0, 3600.0
_UNREACHABLE_TOLD = 5
"""After so many rounds in which the server could not be reached the administrators are told."""
Way = Literal["mail", "telegram"]


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A letter that is ready to leave. ``attempts``: how often it was tried before. ``paper``: name and content of its PDF."""

    id: str
    user_id: str
    to: Any
    offer: bool
    attempts: int
    expires_at: dt.datetime | None
    written: Written
    paper: tuple[str, bytes] | None = None


class Post:
    """What sends letters in a process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._connection: mail.Connection | None = None
        self._rest_until: dt.datetime | None = None
        self._failures = 0
        self._trouble: bool | None = None
        self._stopping = False
        self._idle = {"mail": asyncio.Event(), "telegram": asyncio.Event()}
        for idle in self._idle.values():
            idle.set()

    # In the process

    async def run_mail(self) -> None:
        """Send mail when the bell rings and every half minute."""
        await self._run("mail", self.send_mail)

    async def run_telegram(self) -> None:
        """The same for Telegram, which does not wait for a slow mail server."""
        await self._run("telegram", self.send_telegram)

    async def _run(self, way: Way, send: Callable[[], Awaitable[int]]) -> None:
        async with self._core.bell.listen("letters", limit=1) as bell:
            while not self._stopping:
                self._idle[way].clear()
                try:
                    await send()
                except DatabaseUnavailable:
                    log.warning("letters_not_sent", way=way)
                finally:
                    self._idle[way].set()
                try:
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await bell.get()
                except TimeoutError:
                    pass

    async def stop(self) -> None:
        """Let the letter in hand arrive and be marked; nothing begins any more."""
        self._stopping = True
        for idle in self._idle.values():
            await idle.wait()

    # Both ways

    async def _due(self, way: Way) -> list[str]:
        """Return the ids of letters that are due: first codes and links, for which somebody waits, then the longest due."""
        letter, at = models.Letter, models.Letter.run_at if way == "mail" else models.Letter.telegram_at
        async with self._core.db.read() as session:
            due = select(letter.id).where(_is_due(way, self._core.now()))
            return list(await session.scalars(due.order_by(letter.secret.is_(None), at, letter.id).limit(_SLICE)))

    async def _prepare(self, letter_id: str, way: Way) -> _Outgoing | None:
        """Return a letter ready to leave; what must not leave is closed, and None returned.

        It is looked at again whether it is due: another process may have taken it in hand, which puts it off.
        """
        core, now = self._core, self._core.now()
        async with core.db.read() as session:
            due = models.Letter.id == letter_id, _is_due(way, now)
            letter = await session.scalar(select(models.Letter).where(*due))
            if letter is None:
                return None
            user = await session.get(models.User, letter.user_id)
            if user is None:
                # The account was deleted between the two looks, and the letter with it.
                return None
            kind = letters.KINDS.get(letter.kind)
            wanted = kind is not None and await offering.is_wanted(session, core.settings, letter, user, now=now)
            wanted = wanted and await announcements.is_wanted(session, letter, user)
            own = await rendering.own_words(session, letter.kind)
        attempts = letter.mail_attempts if way == "mail" else letter.telegram_attempts
        state, why = self._hindrance(letter, user, way, now)
        params: dict[str, Any] = dict(letter.params)
        if kind is None:
            state, why = "failed", "this version knows no such letter"
        elif not state and not wanted:
            state, why = "none", "out of date"
        elif not state and letter.secret is not None:
            try:
                params |= core.crypto.decrypt(letter.secret)
            except Undecryptable:
                state, why = "failed", "its secret cannot be decrypted"
        if state or kind is None:
            await self._mark(letter_id, way, attempts, state, error=why)
            return None
        public_url = core.settings.public_url
        try:
            written = rendering.write_out(
                kind,
                user.language,
                params,
                own=own,
                name=user.full_name,
                public_url=public_url,
                brand=BRAND,
                unsubscribe=rendering.unsubscribe_link(public_url, core.secret, user.id),
            )
            paper = await self._receipt(params, user) if kind.receipt else None
        except DatabaseUnavailable:
            raise
        except Exception:
            # One letter that cannot be written must not hold up all that come after it.
            log.exception("letter_not_rendered", letter=letter.id, kind=letter.kind)
            await self._mark(letter_id, way, attempts, "failed", error="it cannot be put into words")
            return None
        to = (letter.address or user.email) if way == "mail" else user.telegram_id
        return _Outgoing(letter.id, user.id, to, kind.offer, attempts, letter.expires_at, written, paper)

    async def _receipt(self, params: Mapping[str, Any], user: models.User) -> tuple[str, bytes] | None:
        """Return the receipt that a letter is about, None where there is none (any more): the letter goes without it."""
        async with self._core.db.read() as session:
            payment = await session.get(models.Payment, str(params.get("payment")))
        if payment is None or payment.user_id != user.id or not receipts.has_one(payment):
            return None
        return receipts.file_name(payment), await receipts.render(self._core, payment, user.language)

    def _hindrance(self, letter: models.Letter, user: models.User, way: Way, now: dt.datetime) -> tuple[str, str]:
        """Return the state in which a letter ends without being sent, and why; two empty texts where it can leave."""
        if letter.expires_at is not None and letter.expires_at <= now:
            return "failed", letter.mail_error or "too late"
        if way == "telegram":
            told = letters.KINDS[letter.kind].telegram if letter.kind in letters.KINDS else None
            return ("none", "") if user.telegram_id is None or told is None else ("", "")
        if not mail.is_set(self._core.settings):
            return "none", "mail is not set up"
        if (letter.address is None and user.email is None) or bounced.is_barred(letter, user):
            return "none", "no address that takes letters"
        return "", ""

    async def _claim(self, going: _Outgoing, way: Way) -> bool:
        """Take a letter in hand; return False where somebody else has."""
        letter, again = models.Letter, self._later(going)
        attempts = letter.mail_attempts if way == "mail" else letter.telegram_attempts
        state = letter.mail if way == "mail" else letter.telegram
        values: dict[Any, Any] = {attempts: going.attempts + 1}
        values[letter.run_at if way == "mail" else letter.telegram_at] = again
        if going.offer:
            values[state] = "unsure"
        if way == "mail":
            values[letter.message_id] = self._message_id(going)
        async with self._core.db.write() as session:
            mine = await session.scalar(
                update(letter)
                .where(letter.id == going.id, state == "new", attempts == going.attempts)
                .values(values)
                .returning(letter.id)
            )
        return mine is not None

    def _message_id(self, going: _Outgoing) -> str:
        # The same at each attempt: a letter that came twice is shown once by programs that know them by it.
        return f"{going.id}@{self._connection.server.domain}" if self._connection else going.id

    def _later(self, going: _Outgoing) -> dt.datetime:
        """Return when a letter is tried again: after minutes at first, hours later, and by its end at the latest."""
        now = self._core.now()
        at = now + dt.timedelta(seconds=backoff_s(going.attempts + 1, first=_FIRST_S, most=_MOST_S))
        return min(at, going.expires_at) if going.expires_at is not None else at

    async def _mark(
        self, letter_id: str, way: Way, attempts: int, state: str, *, error: str = "", nobody_at: str | None = None
    ) -> None:
        """Write down what became of an attempt; ``nobody_at``: the address at which nobody is.

        Where nothing is left to send, the secret is erased.
        """
        now = self._core.now()
        async with self._core.db.write() as session:
            letter = await session.get(models.Letter, letter_id, with_for_update=True)
            if letter is None or (letter.mail_attempts if way == "mail" else letter.telegram_attempts) != attempts:
                return
            setattr(letter, way, state)
            if way == "mail":
                letter.mail_error = clean(error, 300)
            if state == "sent" and letter.sent_at is None:
                letter.sent_at = now
            if "new" not in (letter.mail, letter.telegram):
                letter.secret = None
            if nobody_at is not None:
                await _note_bounce(session, letter.user_id, nobody_at, now)

    # Mail

    async def send_mail(self) -> int:
        """Send what is due by mail over one connection; return how many letters were accepted.

        While the server cannot be used, letters wait without an attempt being counted.
        """
        now, sent = self._core.now(), 0
        if self._rest_until is not None and now < self._rest_until <= now + _MOST:
            return 0
        try:
            while not self._stopping and (due := await self._due("mail")):
                for letter_id in due:
                    if self._stopping:
                        break
                    going = await self._prepare(letter_id, "mail")
                    if going is None:
                        continue
                    await self._connect()
                    sent += await self._send_one(going)
        except (mail.NotNow, mail.Misconfigured) as error:
            await self._rest(error)
        finally:
            if self._connection is not None:
                await self._connection.close()
        return sent

    async def _connect(self) -> None:
        if self._connection is not None and self._connection.is_open:
            return
        server = mail.server_of(self._core.settings)
        if server is None:
            raise mail.Misconfigured("MAIL_SERVER is not set")
        connection = mail.Connection(server)
        await connection.open()
        self._connection = connection

    async def _send_one(self, going: _Outgoing) -> bool:
        core, connection = self._core, self._connection
        if connection is None:
            raise mail.NotNow("not connected")
        await core.limits.pace("mail", core.settings.mail.per_minute / 60, 1)
        if not await self._claim(going, "mail"):
            return False
        attempts = going.attempts + 1
        try:
            await connection.send(self._composed(going))
        except mail.NotNow as error:
            state = "unsure" if going.offer and error.unsure else "new"
            await self._mark(going.id, "mail", attempts, state, error=str(error))
            log.info("letter_put_off", letter=going.id, reason=str(error)[:3])
            return False
        except mail.Refused as error:
            state, address = ("bounced", going.to) if error.bounced else ("failed", None)
            await self._mark(going.id, "mail", attempts, state, error=str(error), nobody_at=address)
            log.info("letter_refused", letter=going.id, bounced=error.bounced, reason=str(error)[:3])
            return False
        except (ValueError, Invalid, MessageError):
            await self._mark(going.id, "mail", attempts, "failed", error="it cannot be written as a mail")
            log.warning("letter_not_composed", letter=going.id)
            return False
        except mail.Misconfigured as error:
            await self._mark(going.id, "mail", attempts, "new", error=str(error))
            raise
        await core.pause("letter_mailed")
        await self._mark(going.id, "mail", attempts, "sent")
        await self._works()
        return True

    def _composed(self, going: _Outgoing) -> mail.Mail:
        written = going.written
        return mail.Mail(
            to=accounts.clean_email(str(going.to)),
            subject=written.subject,
            text=written.text,
            html=written.html,
            message_id=self._message_id(going),
            date=self._core.now(),
            unsubscribe=written.unsubscribe,
            paper=going.paper,
        )

    async def _rest(self, error: mail.NotNow | mail.Misconfigured) -> None:
        """Leave the server alone for a while; the administrators hear of what will not pass by itself, once."""
        self._failures += 1
        pause = backoff_s(self._failures, first=_REST_FIRST_S, most=_REST_MOST_S)
        self._rest_until = self._core.now() + dt.timedelta(seconds=pause)
        log.warning("mail_server_trouble", reason=str(error), failures=self._failures)
        if isinstance(error, mail.NotNow) and self._failures < _UNREACHABLE_TOLD:
            return
        self._trouble = True
        async with self._core.db.write() as session:
            for user_id in await accounts.administrators(session):
                await notices.open_notice(session, user_id, "mail_failed", key=MAIL_KEY, params={"reason": str(error)})
        self._core.bell.ring("notices")

    async def _works(self) -> None:
        """A letter was accepted: what was said against the server, by this process or one before it, is solved."""
        self._failures, self._rest_until = 0, None
        if self._trouble is False:
            return
        self._trouble = False
        async with self._core.db.write() as session:
            await notices.solve(session, MAIL_KEY)
        self._core.bell.ring("notices")

    # Telegram

    async def send_telegram(self) -> int:
        """Send what is due in Telegram; return how many messages arrived.

        Without a factory bot's token there is no such way; while the bot is only not started yet, letters wait.
        """
        factory, sent = self._core.factory, 0
        if factory is None and self._core.settings.secrets.telegram_bot_token is not None:
            return 0
        while not self._stopping and (due := await self._due("telegram")):
            for letter_id in due:
                if self._stopping:
                    break
                going = await self._prepare(letter_id, "telegram")
                if going is None:
                    continue
                if factory is None:
                    await self._mark(going.id, "telegram", going.attempts, "none")
                    continue
                if not await self._claim(going, "telegram"):
                    continue
                words = going.written
                # A letter about something on this machine alone has no button that anybody could use.
                buttons = [] if notices.opens_only_here(self._core.settings.public_url) else list(words.buttons)
                told = await factory.write(int(going.to), words.telegram or "", buttons, going.paper)
                await self._core.pause("letter_told")
                state = {"sent": "sent", "later": "new", "refused": "failed"}[told]
                await self._mark(going.id, "telegram", going.attempts + 1, state)
                sent += told == "sent"
        return sent


def _is_due(way: Way, now: dt.datetime) -> ColumnElement[bool]:
    """Whether a letter's time has come.

    What is due later than anything is ever put off is due now: the clock was ahead when that was written.
    """
    letter = models.Letter
    state, at = (letter.mail, letter.run_at) if way == "mail" else (letter.telegram, letter.telegram_at)
    return (state == "new") & or_(at <= now, at > now + 2 * _MOST)


async def _note_bounce(session: AsyncSession, user_id: str, address: str, now: dt.datetime) -> None:
    """No further letters go to the account's address, if that is the one where nobody is."""
    user = models.User
    await session.execute(update(user).where(user.id == user_id, user.email == address).values(mail_refused_at=now))
