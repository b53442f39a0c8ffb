"""The rules of a talk with a customer: what the bot does with each thing that arrives.

No transaction is open here. The result is an :class:`Outcome` that ``records.SETTLE`` stores as a whole.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from db.base import utcnow
from services import (
    allowances,
    answers,
    attachments,
    languages,
    lines,
    manner,
    metrics,
    notices,
    outfiles,
    quotas,
    ratings,
    testers,
)
from services.ai.router import CallRecord
from services.channel_names import CHANNEL_NAMES
from services.channels import WINDOWS, split_for
from services.channels.base import (
    Blocked,
    Button,
    Delivery,
    Inbound,
    Outgoing,
    Sender,
    TokenRefused,
    Unreachable,
    WindowClosed,
)
from services.channels.meta import problem
from services.conversations import albums, business, files, groups, optouts, reasons, returning
from services.conversations.networks import UNSETTLED
from services.conversations.records import RECENT_CHARS, RECENT_TURNS, RETURNED, BotCard, Outcome, Reply, Talk
from services.errors import Temporary
from services.i18n import LANGUAGE_NAMES, translate
from services.knowledge.analysis import fold, question_key
from services.languages import Detection
from services.notices import Occurrence
from services.scripts import APOSTROPHES
from services.text import clean

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

LANGUAGE_DATA = "lang:"
_NEWS = dt.timedelta(hours=1)
_COMMENTS = dt.timedelta(days=7)
"""For so long a comment may be answered in private; the network's rule."""
_NAMED = re.compile(r"[@#]\S+")
_UNSETTLED_S = 1.0
REOPENING = ("message", "command", "contact")
_HOURS_TOLD_S = 6 * 3600.0
"""Who writes to a person outside office hours is told when somebody will be there, and so soon not again."""
_LANGUAGES_TOLD_S = 24 * 3600.0
_SILENCE_TOLD_S = 6 * 3600.0
"""Who writes to a bot that its owner's plan keeps silent is told so, and so soon not again."""
_SURE = 0.8
"""A language that the bot does not speak is named where a message is surely written in it."""
"""A customer who writes opens a talk again that was put away."""
SHOWN = frozenset({"location", "venue", "contacts", "sticker"})
"""What customers show rather than ask."""
_GESTURES = frozenset({"animation", "dice"})
"""The same where they write nothing under it."""
_NO_APOSTROPHES = dict.fromkeys(map(ord, APOSTROPHES))
# Words as ``fold`` leaves them: one spelling for both scripts of Uzbek, for Russian and for its Latin typing.
_PERSON = re.compile(
    r"(?:operator|menejer|manager|konsultant|administrator|admin)(?:lar|s)?(?:im|ing|imiz|ingiz)?(?:ni|ga|dan)?"
    r"|(?:operator|menejer|konsultant|administrator|admin)(?:a|u|om|e|i|ov|ami)|human|agent"
)
_SOMEBODY = re.compile(
    r"(?:odam|inson|kishi)(?:lar)?(?:ni|ga)?|chelovek(?:a|u|om)?|ludmi|ludi|ludey|sotrudnik(?:a|u|om|i)?|hodim(?:ni|ga)?"
    r"|person|people|somebody|someone|anyone|representative|kem|kimdir"
)
_WISH = re.compile(
    r"gaplash(?:ay|aman|ish|ishni|ishga|ishim|sam|salar|mokchi|mokchiman|mokchimiz|moki|tir\w*)?"
    r"|gapir(?:ay|ish|sam|mokchiman|tir\w*)|bogla(?:ng|b|nay|nish|nishni|nsam|nmokchiman|sangiz|y|sh)|ula(?:ng|b|sangiz|sh)"
    r"|chakir(?:ing|ib|ingiz|sangiz|ish|tir\w*)|kerak|yuboring"
)
_WISHES = frozenset(
    fold(word)
    for word in (
        "хочу хотел хотела хотим хотелось хотелось нужен нужна нужно надо позовите позови позвать соедините соедини соединить "
        "переключите переключи переведите свяжите связаться свяжитесь дайте дай пригласите подключите вызовите поговорить "
        "говорить пообщаться общаться разговаривать talk talking speak speaking chat connect call transfer contact need want get"
    ).split()
)
_ALIVE = frozenset(
    fold(word)
    for word in (
        "jonli tirik haqiqiy real живой живого живым живому живые живыми реальный реальным реального настоящий настоящим live "
        "actual"
    ).split()
)
_AROUND = frozenset(
    fold(word)
    for word in (
        "men man menga manga meni mani iltimos bilan bn bir bitta hozir tez tezroq tezda yerda shu bormi bor mumkinmi bo'ladimi "
        "qil qiling qilib ber bering bersangiz berolasizmi bera olasizmi edi edim xohlayman xohlardim istayman rahmat salom "
        "assalom assalomu alaykum aleykum aka opa ha mumkin emas yo'q bot robot kk "
        "можно могу можете мог могла могли ли бы я мы мне меня с со на к от пожалуйста пж здесь тут есть а и не нет "
        "ботом бот боту робот роботом сейчас срочно скорее лучше просто нибудь то кто здравствуйте привет добрый день вечер утро "
        "алло давайте спасибо you your i id i'd d would like may can could let give me my please pls a an the to with of is "
        "there here being not bot robot instead now just hi hello hey don t dont thanks"
    ).split()
)
_SPEAKERS = frozenset(fold(word) for word in ("men", "man", "я", "i"))
_DENIALS = frozenset(fold(word) for word in ("не", "emas", "нет", "yo'q", "not", "don", "dont"))
_MACHINES = frozenset(fold(word) for word in ("bot", "ботом", "боту", "robot", "роботом"))
_WORD = re.compile(r"[^\W_]+")
_MOST_WORDS = 14
# A number with its country, or as it is dialled in Uzbekistan and Russia; "100 000 000" is a sum.
_PHONE = re.compile(
    r"\+\d(?:[\s().-]{0,2}\d){8,14}|998(?:[\s().-]{0,2}\d){9}|[78][\s(.-]{0,2}9(?:[\s().-]{0,2}\d){9}"
    r"|\(?(?:20|33|50|55|6[125679]|7\d|8[78]|9[01345789])\)?[\s.-]?\d{3}[\s.-]?\d\d[\s.-]?\d\d"
)
_AROUND_PHONE = frozenset(
    fold(word)
    for word in (
        "men mening raqamim raqam nomerim nomer telefonim telefon tel mana manga menga bu salom iltimos rahmat qo'ng'iroq qiling "
        "мой мне номер телефон телефона тел вот это позвоните перезвоните пожалуйста спасибо здравствуйте "
        "my phone number is call me please"
    ).split()
)


def is_shown(type_: str, text: str) -> bool:
    """Whether a message of this type with this text shows something and asks nothing."""
    return type_ in SHOWN or (type_ in _GESTURES and not text.strip())


def gives_phone(text: str) -> bool:
    """Whether a message gives a telephone number and says nothing else."""
    if len(text) > 200 or (found := _PHONE.search(text)) is None:
        return False
    around = f"{text[: found.start()]} {text[found.end() :]}".translate(_NO_APOSTROPHES)
    if "?" in around or any(map(str.isdigit, around)):
        return False
    return all(fold(word) in _AROUND_PHONE for word in _WORD.findall(around))


def asks_for_person(text: str) -> bool:
    """Whether a message says nothing but that its writer wants a person; "what does an operator earn?" says more."""
    if len(text) > 200:
        return False
    words = [fold(word) for word in _WORD.findall(text.translate(_NO_APOSTROPHES))]
    if not 0 < len(words) <= _MOST_WORDS:
        return False
    named = somebody = wished = alive = False
    for word in words:
        if _PERSON.fullmatch(word):
            named = True
        elif word in _WISHES or _WISH.fullmatch(word):
            wished = True
        elif _SOMEBODY.fullmatch(word):
            somebody = True
        elif word in _ALIVE:
            alive = True
        elif word not in _AROUND:
            return False
    if not _DENIALS.isdisjoint(words) and _MACHINES.isdisjoint(words):
        return False
    if not wished and not _SPEAKERS.isdisjoint(words):
        return False
    return named or (somebody and (wished or alive))


class Listener:
    """Somebody who watches an answer being made (the web channel): gets pieces, and a restart makes them void."""

    def __init__(self, ring: Callable[[str, Any], None], topics: list[str]) -> None:
        self._ring, self._topics = ring, topics

    def delta(self, text: str) -> None:
        """Another piece of the answer."""
        for topic in self._topics:
            self._ring(topic, {"kind": "delta", "text": text})

    def restart(self) -> None:
        """Forget the pieces: another model begins anew."""
        for topic in self._topics:
            self._ring(topic, {"kind": "restart"})


def spoken(bot: BotCard) -> list[str]:
    """Return the interface languages that a bot answers in; Uzbek counts in both scripts."""
    result: list[str] = []
    for language in bot.languages or ("uz",):
        result += ["uz", "uz-Cyrl"] if language == "uz" else [language]
    return result


def known_language(talk: Talk, bot: BotCard, event: Inbound) -> str | None:
    """Return what is known of a customer's language: chosen, last spoken, the application's; None where nothing is."""
    allowed = spoken(bot)
    code = (event.sender.language_code or "").replace("_", "-")
    guess = "uz-Cyrl" if code.lower().startswith("uz-cyrl") else code.split("-")[0].lower()
    for candidate in (event.language, talk.language, guess):
        if candidate in allowed:
            return str(candidate)
    return None


def first_language(talk: Talk, bot: BotCard, event: Inbound) -> str:
    """Return the language for texts of ours where the customer said nothing: what is known, else the bot's first."""
    return known_language(talk, bot, event) or spoken(bot)[0]


def answer_language(talk: Talk, bot: BotCard, event: Inbound, text: str, detected: Detection) -> str:
    """Return the language to answer a message in; ``detected``: of its ``text``.

    The customer's choice holds; without one a clear detection decides, then what was spoken before, then the application's
    language. Uzbek follows the script that the customer writes in.
    """
    allowed = spoken(bot)
    known = known_language(talk, bot, event)
    if talk.language_chosen and known is not None:
        if known.startswith("uz") and detected.language in ("uz", "uz-Cyrl"):
            return detected.language
        return known
    if event.language in allowed:
        return str(event.language)
    if detected.language in allowed and languages.outweighs(text, detected, known):
        return str(detected.language)
    return known or allowed[0]


def language_buttons(bot: BotCard) -> tuple[tuple[Button, ...], ...]:
    """Return the buttons to choose a language with, two in a row; none where there is no choice."""
    allowed = spoken(bot)
    buttons = [Button(name, f"{LANGUAGE_DATA}{code}") for code, name in LANGUAGE_NAMES.items() if code in allowed]
    return tuple(tuple(buttons[i : i + 2]) for i in range(0, len(buttons), 2)) if len(buttons) > 1 else ()


class _Turn:
    """Works through the updates of one claim and gathers what is to be stored."""

    def __init__(self, core: Core, talk: Talk, bot: BotCard, listener: Listener | None) -> None:
        self.core, self.talk, self.bot, self.listener = core, talk, bot, listener
        self.manner = manner.manner_of(bot.settings)
        self.outcome = Outcome(talk, [row["id"] for _, row, _ in talk.messages])
        self.recent = [list(turn) for turn in talk.recent]
        self.questions: list[tuple[str | None, Inbound, str]] = []
        self.said_unreadable = False
        self.reply_to = ""
        self.comment_id = ""
        self.back = False

    def say(
        self,
        text: str,
        language: str,
        *,
        author: str = "system",
        buttons: tuple[tuple[Button, ...], ...] = (),
        **columns: Any,
    ) -> Reply:
        """Add a message of ours, cut to what the channel carries."""
        outgoing: tuple[Outgoing, ...] = ()
        if self.talk.channel_kind != "web":
            parts = split_for(self.talk.channel_kind, text) or ["…"]
            if self.comment_id:
                # One message is all that a comment may get.
                parts = parts[:1]
                text = parts[0]
            choose = translate(language, "Choose") if buttons else ""
            outgoing = tuple(
                Outgoing(
                    part,
                    buttons if part is parts[-1] else (),
                    choose,
                    reply_to=self.reply_to if part is parts[0] else "",
                    comment=self.comment_id,
                )
                for part in parts
            )
        elif buttons:
            columns["usage"] = {"buttons": [[[b.text, b.data] for b in row] for row in buttons]}
        reply = Reply(text, author, outgoing, {"language": language, **columns})
        self.outcome.replies.append(reply)
        return reply

    def hear(self, event: Inbound, text: str, detected: Detection) -> str:
        """Return the language to answer a message in; it is kept, unless nothing speaks for it but the bot's settings."""
        language = answer_language(self.talk, self.bot, event, text, detected)
        sure = language == detected.language or known_language(self.talk, self.bot, event) is not None
        if sure and not self.talk.language_chosen and language != self.talk.language:
            self.outcome.language = self.talk.language = language
        return language

    def remember(self, role: str, text: str) -> None:
        """Add a turn to what the model will see of this talk, within bounds."""
        turn = [role, text[:RECENT_CHARS]]
        self.recent = [*self.recent, turn][-RECENT_TURNS:]
        self.outcome.turns.append(turn)

    def read(self, message_id: str | None, status: str = "answered") -> None:
        """Note what became of a customer's message."""
        if message_id is not None:
            self.outcome.incoming[message_id] = status

    async def work(self) -> Outcome:
        """Handle every update in order; neighbouring questions are answered together."""
        if self.talk.status == "closed" and any(event.kind in REOPENING for _, _, event in self.talk.messages):
            self.talk.status = self.outcome.status = "bot"
        heard = await self.files()
        if self.talk.returning:
            await self.take_up()
        speaking = {
            album
            for message_id, _, event in self.talk.messages
            if (album := albums.album_of(self.talk.channel_kind, event))
            and attachments.heard_in(event, heard.get(message_id or "")).text
        }
        for message_id, _, arrived in self.talk.messages:
            event = attachments.heard_in(arrived, heard.get(message_id or ""))
            if event.extra.get("late"):
                await self.late(message_id, event)
                continue
            if not event.text and albums.album_of(self.talk.channel_kind, arrived) in speaking and not self.led():
                # The others of its album are the question: nothing is to be said of this one.
                self.read(message_id)
                continue
            speaks = event.reply and self.bot.status == "active" and not self.led() and not self.too_old(event)
            if speaks and event.text and event.extra.get("trouble", "unread") not in ("unread", "no_model"):
                self.reply_to = groups.reply_to(self.talk, event)
                await self.unreadable(event, first_language(self.talk, self.bot, event))
            asks = event.kind == "message" and event.reply and not is_shown(event.type, event.text)
            is_question = asks and bool(clean(event.text).strip())
            if self.questions and groups.in_group(self.talk) and event.sender.id != self.questions[-1][1].sender.id:
                await self.flush()
            if event.type == "comment":
                await self.flush()
                await self.comment(message_id, event)
                continue
            if optouts.wish(event, self.talk.recent) is not None and not groups.is_shared(self.talk):
                is_question = False
            if is_question and not asks_for_person(event.text) and not gives_phone(event.text):
                self.questions.append((message_id, event, clean(event.text, self.core.settings.limits.message_chars)))
                continue
            await self.flush()
            await self.one(message_id, event)
        await self.flush()
        return self.outcome

    async def files(self) -> dict[str, attachments.Heard]:
        """Fetch what came with the messages, and find out what it says where the bot is to answer."""
        wanted: dict[str, attachments.Wanted] = {}
        for message_id, _, event in self.talk.messages:
            if message_id is not None and event.files and event.kind == "message":
                language = first_language(self.talk, self.bot, event)
                if said := clean(event.text).strip():
                    language = answer_language(self.talk, self.bot, event, said, languages.detect(said))
                due = event.reply and event.type != "story_mention"
                read = due and self.bot.status == "active" and not self.led() and not self.too_old(event)
                read = read and await quotas.hold(self.core, self.talk, message_id)
                wanted[message_id] = attachments.Wanted(event, language, read)
        return await attachments.hear(self.core, self.talk, self.bot, wanted)

    async def late(self, message_id: str | None, event: Inbound) -> None:
        """Note what a customer did before a backup that was restored; nothing is said, for that may have been done since."""
        if (unwanted := optouts.wish(event, self.talk.recent)) is not None and not groups.is_shared(self.talk):
            self.outcome.opted_out = unwanted
        elif event.kind not in ("added", "callback"):
            await self.one(message_id, replace(event, reply=False))
        self.read(message_id, "skipped")

    async def one(self, message_id: str | None, event: Inbound) -> None:
        """Handle one update that is not a question."""
        self.reply_to = groups.reply_to(self.talk, event)
        language = first_language(self.talk, self.bot, event)
        if (unwanted := optouts.wish(event, self.talk.recent)) is not None and not groups.is_shared(self.talk):
            await self.news(message_id, event, language, unwanted=unwanted)
            return
        if event.command == "start" and self.talk.opted_out:
            self.outcome.opted_out = False
        if event.kind == "contact" and event.extra.get("own"):
            self.outcome.phone = clean(str(event.extra.get("phone") or ""), 32)
        if event.kind == "blocked":
            self.outcome.unreachable = True
        elif event.kind == "unblocked":
            self.outcome.unreachable = False
        elif event.kind == "connection":
            await self.connected(event)
        elif event.kind == "added":
            self.reply_to = ""
            if self.bot.status == "active" and not await self.held_back(language):
                self.say(groups.how_to_ask(self.talk, language, self.bot.name), language)
        elif event.kind == "callback" and groups.in_group(self.talk):
            # The bot shows none there, and whoever presses one does not speak for the others.
            said = translate(language, "This button is old. Please write your question.")
            await self.core.settle_event(self.talk, replace(event, extra={**event.extra, "say": said}))
        elif event.kind == "callback" and (rating := ratings.pressed(event.data)) is not None:
            await self.rated(event, rating, language)
        elif event.kind == "callback":
            await self.core.settle_event(self.talk, event)
            if not await self.held_back(language):
                self.chosen(
                    event.data.removeprefix(LANGUAGE_DATA) if event.data.startswith(LANGUAGE_DATA) else "", language
                )
        elif event.kind == "status":
            await self.delivered(event.extra["delivery"], event)
        elif event.kind == "echo":
            self.taken_over(event)
        elif event.kind == RETURNED:
            await self.returned(event, language)
        elif event.kind == "account_error":
            if not self.too_old(event):
                await self.core.network_trouble(self.talk.channel_id, event.extra["code"], event.extra["reason"])
        elif event.kind == "system" and event.extra.get("moved_to"):
            self.outcome.moved_to = str(event.extra["moved_to"])
        elif not event.reply:
            metrics.UPDATES_SKIPPED.labels(event.kind if event.kind != "unsupported" else event.type[:20]).inc()
        elif self.passed_over(event):
            self.read(message_id, "skipped")
        elif self.led() and (event.kind in ("message", "contact") or event.command == "operator"):
            heard = [groups.signed(self.talk, event, clean(event.text))] if event.text else []
            await self.pass_on(event, heard, language)
            self.read(message_id, "received")
        elif await self.held_back(language):
            self.read(message_id, "skipped")
        elif event.kind == "command":
            self.read(message_id, "answered" if self.bot.status == "active" else "skipped")
            await self.command(event, language, message_id)
        elif event.kind == "message" and is_shown(event.type, event.text) and self.bot.status == "active":
            await self.shown(event, language)
            self.read(message_id)
        elif event.kind == "message" and clean(event.text).strip():
            language = self.hear(event, event.text, languages.detect(event.text))
            if self.bot.status == "active":
                if gives_phone(event.text):
                    self.phoned(event, language)
                else:
                    self.person(event, language)
                self.read(message_id)
            else:
                await self.rest(event, language)
                self.read(message_id, "skipped")
        elif event.kind == "contact":
            if event.extra.get("own"):
                self.say(translate(language, "Thank you! I have noted your phone number 📞"), language)
            else:
                self.say(translate(language, "Please share your own contact, not another person's."), language)
            self.read(message_id)
        elif event.type == "story_mention":
            self.say(translate(language, "Thank you for mentioning us in your story! 💛"), language)
            self.read(message_id)
        elif event.files and (self.talk.refused or self.bot.status == "silenced"):
            await self.rest(event, language)
            self.read(message_id, "skipped")
        else:
            await self.unreadable(event, language)
            self.read(message_id)

    async def news(self, message_id: str | None, event: Inbound, language: str, *, unwanted: bool) -> None:
        """The customer wants no broadcasts any more, or wants them again: that holds whoever leads the talk."""
        if event.kind == "callback":
            await self.core.settle_event(self.talk, event)
        self.outcome.opted_out = unwanted
        said = optouts.LEFT if unwanted else optouts.BACK
        self.say(translate(language, said.msgid), language)
        self.read(message_id)

    async def comment(self, message_id: str | None, event: Inbound) -> None:
        """Answer what was asked under a post by the one private message that the network allows for it."""
        text = clean(event.text, self.core.settings.limits.message_chars).strip()
        late = event.at is not None and utcnow() - event.at >= _COMMENTS
        # Hearts, and names of friends who should see the post, ask nothing.
        speaks = any(map(str.isalnum, _NAMED.sub("", text)))
        wanted = event.kind == "message" and event.reply and speaks and not late
        silenced = self.bot.silenced if self.bot.status == "silenced" else ""
        if not wanted or not (self.bot.status == "active" or silenced):
            self.read(message_id, "skipped")
        elif self.led():
            await self.pass_on(event, [text])
            self.read(message_id, "received")
        elif await self.over_limit(first_language(self.talk, self.bot, event), 1) is not None:
            self.read(message_id, "skipped")
        elif silenced or not await quotas.hold(self.core, self.talk, message_id):
            # No word of it, neither under the post nor by the one private message that a comment allows: whoever asked before
            # others is answered there by a person. Who writes in private is told.
            await self.leave_to_person(event, silenced)
            self.read(message_id, "skipped")
        else:
            detected = languages.detect(text)
            self.comment_id = event.message_id
            language = self.hear(event, text, detected)
            await self.answer(event, [text], language, message_id, detected, text, whole=True)
            self.comment_id = ""
            self.read(message_id)

    async def delivered(self, told: Delivery, event: Inbound) -> None:
        """The network tells what became of a message of ours; the owner hears of one that was lost."""
        self.outcome.deliveries.append(told)
        if told.status != "failed" or told.code is None:
            return
        reason = problem(told.code, told.error or "")
        if isinstance(reason, Unreachable):
            self.outcome.unreachable = True
            return
        # What failed long ago may be mended by now, and what others send through the number is their matter.
        lately = event.at is None or utcnow() - event.at < _NEWS
        ours = bool(self.talk.conversation_id)
        if isinstance(reason, TokenRefused | Blocked):
            if lately:
                await self.core.network_trouble(self.talk.channel_id, told.code, told.error or "")
        elif ours:
            kind = "window_closed" if isinstance(reason, WindowClosed) else "send_failed"
            key = notices.lost_key(kind, self.talk.channel_id)
            self.tell_owner(kind, key, conversation=self.talk.conversation_id)

    async def connected(self, event: Inbound) -> None:
        """The bot was connected to a business account, or that changed: the owner hears what the bot does there now."""
        if event.sender.id.isdigit() and event.extra["connection"]:
            kind = await business.keep(self.core, self.talk.channel_id, event)
            self.tell_owner(kind, f"business:{event.extra['connection']}", name=clean(event.sender.name, 100) or "—")

    def taken_over(self, event: Inbound) -> None:
        """A person of the business answered by other means: the bot falls silent in this talk."""
        self.talk.status = self.outcome.status = "human"
        self.outcome.reason = None
        self.outcome.by_person, self.outcome.left = True, False
        if text := clean(event.text):
            self.remember("assistant", text)

    async def unreadable(self, event: Inbound, language: str) -> None:
        """Say what the bot can read: once to what came at once, such as an album of ten pictures."""
        album = event.extra.get("album")
        known = album and not await self.core.limits.hit(f"album:{self.talk.contact_id}:{album}", 1, 60)
        if known or self.said_unreadable:
            return
        self.said_unreadable = True
        trouble = event.extra.get("trouble")
        if trouble in ("too_large", "too_long"):
            text = translate(
                language,
                "This file is too large for me 🙂 Please send a shorter one, or write your question in words. Write /operator to "
                "talk to a person.",
            )
        elif trouble in ("gone", "refused", "failed"):
            text = translate(
                language,
                "I could not open this file 🙂 Please send it once more, or write your question in words. Write /operator to "
                "talk to a person.",
            )
        elif trouble == "no_room":
            text = translate(
                language,
                "I cannot take files at the moment 🙂 Please write your question in words. Write /operator to talk to a person.",
            )
        elif trouble == "unread" and any(file.kind == "video" for file in event.files):
            text = translate(
                language,
                "I have kept your video for a person, but I cannot watch it myself 🎬 Please write your question in words. Write "
                "/operator to talk to a person.",
            )
        elif trouble == "busy":
            text = translate(language, "You write faster than I can answer 🙂 Please wait a minute.")
        else:
            text = translate(
                language,
                "I can read text messages only 🙂 Please write your question in words. Write /operator to talk to a person.",
            )
        self.say(text, language)

    async def shown(self, event: Inbound, language: str) -> None:
        """A place, somebody's card, a sticker or a moving picture: nothing to look up, yet nobody is left without a word."""
        if not await self.core.limits.hit(f"shown:{self.talk.contact_id}:{event.type}", 1, 60):
            return
        if event.type in ("location", "venue"):
            text = translate(
                language,
                "Thank you, I have received the location 📍 What would you like to know? Write /operator to talk to a person.",
            )
        elif event.type == "contacts":
            text = translate(
                language,
                "Thank you, I have received the contact 👤 What would you like to know? Write /operator to talk to a person.",
            )
        elif self.recent:
            text = translate(language, "All right 😊 If you have a question, just write.")
        else:
            text = translate(language, "Hello! 👋 I am {name}. What would you like to know?", name=self.bot.name)
        self.say(text, language)

    async def command(self, event: Inbound, language: str, message_id: str | None) -> None:
        """Handle a command; an unknown one is a question without its slash."""
        if self.bot.status != "active":
            await self.rest(event, language)
        elif event.command == "start":
            self.greet(language)
        elif event.command == "language":
            if event.args:
                self.chosen(event.args, language)
            elif groups.is_shared(self.talk):
                self.say(translate(language, "I answer in the language that you write in."), language)
            elif buttons := language_buttons(self.bot):
                self.say(translate(language, "Choose the language 👇"), language, buttons=buttons)
            else:
                self.say(
                    translate(language, "I speak one language only: {name}.", name=LANGUAGE_NAMES[language]), language
                )
        elif event.command == "operator":
            self.person(event, language)
        elif event.command == "help":
            self.say(
                translate(
                    language,
                    "Write your question and I will answer at once. /language – choose the language, "
                    "/operator – talk to a person.",
                ),
                language,
            )
        else:
            self.questions.append((message_id, event, clean(event.text.lstrip("/"), 1000) or event.command))
            await self.flush()

    def greet(self, language: str) -> None:
        """The first words of a bot, with the choice of languages where there is one."""
        if groups.in_group(self.talk):
            self.say(groups.how_to_ask(self.talk, language, self.bot.name), language)
            return
        buttons = language_buttons(self.bot) if not groups.is_shared(self.talk) else ()
        text = lines.said(self.bot.settings, "greeting", language, name=self.bot.name)
        if self.talk.language_chosen or self.recent or self.talk.status != "bot":
            text = translate(language, "Welcome back! 👋 {state}", state=self.state(language))
            buttons = () if self.talk.language_chosen else buttons
        if self.outcome.opted_out is False:
            text += "\n\n" + translate(language, optouts.BACK.msgid)
        if buttons:
            text += "\n\n" + translate(language, "Choose the language 👇")
        self.say(text, language, buttons=buttons)

    def state(self, language: str) -> str:
        """Return who answers in this talk, for somebody who comes back."""
        if self.talk.status == "human":
            return translate(language, "A person is answering you in this chat: just write.")
        if self.talk.status == "waiting":
            return translate(language, "A person has been called and will write to you here. Meanwhile you can ask me.")
        return translate(language, "What would you like to know?")

    def chosen(self, code: str, language: str) -> None:
        """The customer chose a language."""
        if code in spoken(self.bot):
            self.outcome.language, self.outcome.language_chosen = code, True
            self.talk.language, self.talk.language_chosen = code, True
            self.say(
                translate(
                    code, "Good, we speak {language} now. What would you like to know?", language=LANGUAGE_NAMES[code]
                ),
                code,
            )
        else:
            self.say(translate(language, "This button is old. Write /language to choose the language."), language)

    def person(self, event: Inbound, language: str) -> None:
        """The customer wants a person."""
        self.call_person(event)
        absent = self.absent(language)
        if called := lines.own(self.bot.settings, "handed_over", language):
            said = f"{called}\n\n{absent}" if absent else called
        elif absent:
            said = translate(
                language, "I have called a person 🙋 {absent} Meanwhile you can go on asking me.", absent=absent
            )
        else:
            said = translate(
                language, "I have called a person 🙋 They will write to you here. Meanwhile you can go on asking me."
            )
        self.say(said, language)

    def phoned(self, event: Inbound, language: str) -> None:
        """The customer gave a telephone number: that is for a person to use."""
        self.call_person(event)
        said = translate(language, "Thank you! 📞 I have passed your number on. Meanwhile you can go on asking me.")
        absent = self.absent(language)
        self.say(f"{said}\n\n{absent}" if absent else said, language)

    def absent(self, language: str) -> str:
        """Return a sentence that says when people will be there; empty where they are, or nobody knows."""
        moment = utcnow()
        opening = self.manner.next_opening(moment)
        if opening is None:
            return ""
        opens = manner.when(opening, moment).render(language)
        return lines.said(self.bot.settings, "closed_hours", language, when=opens)

    def call_person(self, event: Inbound, kind: str = "operator_wanted") -> None:
        """The talk is flagged, the owner hears of it."""
        if self.talk.recipient == testers.contact_of(self.bot.owner_id) and kind != "operator_wanted":
            return
        self.waits()
        if self.outcome.reason != reasons.ASKED:
            self.outcome.reason = reasons.GAVE_UP if kind == "gave_up" else reasons.ASKED
        self.tell_owner(
            kind,
            notices.talk_key(self.talk.conversation_id),
            name=clean(event.sender.name, 100),
        )

    def waits(self) -> None:
        """The talk waits for a person from now on, if it did not before."""
        self.outcome.called = self.outcome.called or self.talk.status != "waiting"
        self.talk.status = self.outcome.status = "waiting"

    def led(self) -> bool:
        """Whether a person leads this talk: the bot keeps what is said in mind and stays silent."""
        return self.talk.status == "human"

    async def take_up(self) -> None:
        """The bot leads again: what the person left is answered first."""
        if self.led() or self.bot.status != "active":
            return
        sender = Sender(self.talk.recipient)
        limit = self.core.settings.limits.message_chars
        open_ones, self.back = await returning.left_open(self.core, self.talk.channel_id, self.talk.conversation_id)
        left = {
            message.id: Inbound(
                "message",
                self.talk.recipient,
                sender,
                type=message.kind,
                text=clean(message.text, limit),
                at=message.created_at,
            )
            for message in open_ones
            if not is_shown(message.kind, message.text)
        }
        language = first_language(self.talk, self.bot, self.talk.messages[0][2])
        wanted = {}
        for id_, asked in left.items():
            read = not self.too_old(asked) and await quotas.hold(self.core, self.talk, id_)
            wanted[id_] = attachments.Wanted(asked, language, read)
        heard = await attachments.hear(self.core, self.talk, self.bot, wanted)
        for id_, asked in left.items():
            said = attachments.heard_in(asked, heard.get(id_))
            if said.text.strip():
                self.questions.append((id_, said, said.text))
                if len(self.questions) == self.core.settings.queue.max_answer_batch:
                    await self.flush()
            elif id_ in heard:
                await self.unreadable(said, language)
                self.read(id_)

    async def returned(self, event: Inbound, language: str) -> None:
        """Where a person gave the talk back and left nothing, the bot says that it is there again."""
        leads = self.talk.status == "bot" and self.bot.status == "active" and not self.back
        if leads and event.extra.get("by_person") and not self.outcome.replies:
            self.say(
                translate(language, "I am answering again 🙂 Write your question, or /operator to call a person."),
                language,
            )

    async def pass_on(self, event: Inbound, texts: list[str], language: str = "") -> None:
        """The owner hears that the customer has written to the person who leads the talk.

        Who writes outside office hours is told when somebody will be there; without ``language`` nothing is said.
        """
        self.outcome.left = True
        absent = self.absent(language) if language else ""
        if absent and await self.core.limits.hit(f"hours:{self.talk.contact_id}", 1, _HOURS_TOLD_S):
            self.say(translate(language, "Your message is here 👍 {absent}", absent=absent), language)
        if texts:
            self.remember("user", "\n".join(texts))
        if not testers.is_tester(self.talk.recipient):
            self.tell_owner(
                "customer_wrote",
                notices.talk_key(self.talk.conversation_id),
                name=clean(event.sender.name, 100),
            )

    def passed_over(self, event: Inbound) -> bool:
        """Whether nobody waits for an answer: it waited too long where answers are late as well."""
        return self.talk.channel_kind in WINDOWS and not self.led() and self.too_old(event)

    def tell_owner(self, kind: str, key: str, **params: str) -> None:
        """Note something that the owner should hear of; it is stored with the rest of the outcome."""
        params["bot"] = self.bot.name
        self.outcome.notices.append(Occurrence(self.bot.owner_id, kind, key, self.bot.id, params))

    async def rest(self, event: Inbound, language: str) -> None:
        """The bot answers nothing: one polite line. Where the owner's plan is the reason, the talk waits for a person."""
        silenced = self.bot.silenced if self.bot.status == "silenced" else ""
        if not silenced and not self.talk.refused:
            self.say(lines.said(self.bot.settings, "stopped", language), language)
            return
        text = self.manner.silent_text or translate(
            language, "I cannot answer at the moment 🙏 Your message is here, and a person will write to you."
        )
        if testers.is_tester(self.talk.recipient):
            self.say(text, language)
            return
        if await self.core.limits.hit(f"silence:{self.talk.conversation_id}", 1, _SILENCE_TOLD_S):
            self.say(text, language)
        await self.leave_to_person(event, silenced)

    async def leave_to_person(self, event: Inbound, silenced: str) -> None:
        """The owner's plan keeps the bot from answering: the talk waits for a person, and the owner hears why."""
        if event.command == "operator" or asks_for_person(event.text) or gives_phone(event.text):
            self.call_person(event)
        else:
            self.waits()
            self.outcome.reason = self.outcome.reason or reasons.PLAN
        await self.tell_of_plan(silenced)

    async def tell_of_plan(self, silenced: str) -> None:
        """The owner hears once why a bot is silent; of a month's messages the count itself tells."""
        about = {allowances.BOTS: f":{self.bot.id}", allowances.CHANNEL: f":{self.talk.channel_id}"}.get(silenced, "")
        key = f"plan:{silenced}:{self.bot.owner_id}{about}"
        if not silenced or not await self.core.limits.hit(f"silence:{key}", 1, _SILENCE_TOLD_S):
            return
        channel = CHANNEL_NAMES.get(self.talk.channel_kind, "")
        plan = self.talk.terms.title.kept() if self.talk.terms else ""
        params = {"bot": self.bot.name, "plan": plan, "channel": channel}
        self.outcome.notices.append(Occurrence(self.bot.owner_id, f"plan_{silenced}", key, None, params))

    async def flush(self) -> None:
        """Answer the questions gathered so far, together."""
        waiting, self.questions = self.questions, []
        questions = []
        for question in waiting:
            if self.talk.status != "human" and self.too_old(question[1]):
                self.read(question[0], "skipped")
            else:
                questions.append(question)
        if not questions:
            return
        message_id, event, _ = questions[-1]
        self.reply_to = groups.reply_to(self.talk, event)
        texts = [text for _, _, text in questions]
        # As it was written: an unknown command is a question, but its slash keeps it out of what tells a language.
        written = "\n".join(asked.text if asked.kind == "command" else text for _, asked, text in questions)
        detected = languages.detect(written)
        language = self.hear(event, written, detected)
        status = "answered"
        if self.led():
            await self.pass_on(event, [groups.signed(self.talk, event, "\n".join(texts))], language)
            status = "received"
        elif await self.held_back(language, len(texts)):
            status = "skipped"
        elif self.bot.status != "active" or not await quotas.hold(self.core, self.talk, message_id):
            await self.rest(event, language)
            status = "skipped"
        else:
            whole = len(texts) == 1 and event.kind != "command"
            said = groups.signed(self.talk, event, "\n".join(texts))
            await self.answer(event, texts, language, message_id, detected, said, whole=whole)
        for id_, _, _ in questions:
            self.read(id_, status)

    async def answer(
        self,
        event: Inbound,
        questions: list[str],
        language: str,
        message_id: str | None,
        detected: Detection,
        remembered: str,
        *,
        whole: bool,
    ) -> None:
        """Ask the knowledge and the models; keep the answer, its sources and its cost.

        ``remembered``: the questions as the talk keeps them.
        """
        listener = self.listener
        request_id = self.talk.claim.items[-1]["request_id"]
        calls: list[CallRecord] = []
        try:
            result = await answers.answer(
                self.core,
                self.bot,
                questions,
                language,
                self.recent,
                detected=detected.language if whole else None,
                on_delta=listener.delta if listener else None,
                on_restart=listener.restart if listener else None,
                calls=calls,
                # A comment may get one message, and no more.
                fits=partial(outfiles.goes, self.core, self.talk.channel_kind) if not self.comment_id else None,
            )
        finally:
            self.talk.usage += [
                answers.usage_values(call, self.bot.owner_id, self.bot.id, request_id) for call in calls
            ]
        text = result.text
        if result.answered:
            quotas.count(self.talk)
        if result.unanswered:
            # The customer is told that it was passed on: so somebody has to see it.
            self.call_person(event, "gave_up")
            absent = self.absent(result.language)
            text = f"{text}\n\n{absent}" if absent else text
        if why := await self.other_language(detected, result.language):
            text = f"{why}\n\n{text}"
        reply = self.say(
            text,
            result.language,
            author="bot",
            reply_to=message_id,
            answered=result.answered,
            provider=result.provider,
            model=result.model,
            sources=answers.sources_json(result.sources),
            usage=result.usage(),
        )
        if not groups.is_shared(self.talk):
            ratings.put_under(reply, self.talk.channel_kind, self.bot.settings)
        if result.files:
            link_text = translate(result.language, "Open it here; the address works for 3 days:")
            files.give(reply, self.talk.channel_kind, result.files, link_text=link_text)
        self.remember("user", remembered)
        self.remember("assistant", result.text)
        self.outcome.unanswered += [(clean(text, 1000), question_key(text), language) for text in result.unanswered]

    async def rated(self, event: Inbound, rating: ratings.Rating, language: str) -> None:
        """The customer pressed a thumb under an answer: the press is answered, and kept unless they come too fast."""
        await self.core.settle_event(self.talk, ratings.answered(event, rating, language))
        if await self.core.limits.hit(f"rate:{self.talk.contact_id}", ratings.PER_MINUTE, 60):
            self.outcome.ratings.append((rating.message_id, rating.value))

    async def other_language(self, detected: Detection, language: str) -> str:
        """Return a line for somebody who writes in a language that this bot does not speak: which ones it does. Once a day."""
        theirs = detected.language
        if theirs is None or theirs not in LANGUAGE_NAMES or detected.confidence < _SURE or theirs in spoken(self.bot):
            return ""
        if theirs == language or not await self.core.limits.hit(
            f"language:{self.talk.contact_id}", 1, _LANGUAGES_TOLD_S
        ):
            return ""
        names = ", ".join(LANGUAGE_NAMES[code] for code in self.bot.languages)
        return translate(theirs, "I can answer in this language: {names}.", names=names)

    def too_old(self, event: Inbound) -> bool:
        """Whether a question waited so long that an answer would only confuse."""
        oldest = utcnow() - dt.timedelta(hours=self.core.settings.queue.max_age_h)
        return bool(event.extra.get("late")) or (event.at is not None and event.at < oldest)

    async def held_back(self, language: str, new: int = 1) -> bool:
        """Return whether a limit is reached, and say so unless that was just done. ``new``: how many messages are in hand."""
        refusal = await self.over_limit(language, new)
        if refusal:
            self.say(refusal, language)
        return refusal is not None

    async def over_limit(self, language: str, new: int) -> str | None:
        """Return None when all limits hold, else what to say now ("" where the customer has just been told).

        ``new``: how many messages are in hand.
        """
        limits, settings = self.core.limits, self.core.settings.limits
        owner = self.bot.owner_id
        checks: Mapping[str, tuple[str, int, float]] = {
            "contact": (f"contact:{self.talk.contact_id}", settings.contact_messages_per_minute, 60),
            "contact_hour": (f"contact-hour:{self.talk.contact_id}", settings.contact_messages_per_hour, 3600),
            "bot": (f"bot-in:{self.bot.id}", settings.bot_messages_per_minute, 60),
        }
        exceeded = "owner_pending" if self.core.backlog.of(owner) > settings.owner_pending_messages else None
        for name, (key, limit, window_s) in checks.items():
            if not all([await limits.hit(key, limit, window_s) for _ in range(new)]):
                exceeded = name
                break
        if exceeded is None and await self.core.spending.heard(self.core, owner, new) > settings.owner_messages_per_day:
            exceeded = "owner_day"
        if exceeded is None:
            return None
        metrics.OVER_LIMIT.labels(exceeded).inc()
        if exceeded not in ("contact", "contact_hour"):
            self.tell_owner("over_limit", f"limit:{self.bot.id}:{exceeded}:{utcnow().date()}")
        # Another bot answers even this: for the hour that it is told once, there is nothing to answer.
        told_s = 3600 if exceeded == "contact_hour" else 60
        if not await limits.hit(f"told-{told_s}:{self.talk.contact_id}", 1, told_s):
            return ""
        if exceeded == "contact_hour":
            return translate(language, "That is a lot of messages for one hour 🙂 Please write again later.")
        if exceeded == "contact":
            return translate(language, "You write faster than I can answer 🙂 Please wait a minute.")
        return translate(language, "Very many people are writing to us right now. Please write again a little later 🙏")


async def respond(core: Core, talk: Talk, listener: Listener | None = None) -> Outcome:
    """Decide what to do with the updates of one claimed lane."""
    if talk.bot is None or talk.bot.deleted:
        return Outcome(talk, [row["id"] for _, row, _ in talk.messages])
    if talk.unread:
        await business.learn(core, talk)
        return Outcome(talk, [row["id"] for _, row, _ in talk.messages])
    if any(event.extra.get(UNSETTLED) for _, _, event in talk.messages):
        raise Temporary("a message of ours is under way", retry_after_s=_UNSETTLED_S)
    if delay_s := albums.wait_s(talk, utcnow(), core.settings.queue.max_answer_batch):
        raise albums.Gathering(delay_s)
    return await _Turn(core, talk, talk.bot, listener).work()
