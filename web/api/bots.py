"""Bots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import bots, manner
from services.allowances import Quiet
from services.core import Core
from services.i18n import T
from web.api.base import Call, Routes
from web.api.wire import Answer, Body, Fault, Listing, NotNull, Part, UtcMoment, Word, part_of

routes = Routes("Bots")

Language = Literal["uz", "ru", "en"]


def _some(value: Any) -> Any:
    if value == []:
        raise Fault(T("Choose at least one language: Uzbek (uz), Russian (ru) or English (en)."))
    return value


Languages = Annotated[
    list[Language],
    Field(min_length=1, max_length=20, description="languages of answers, the first is the default"),
    BeforeValidator(_some),
]


_TIME = r"^([01]\d|2[0-4]):[0-5]\d$"
Clock = Annotated[str, Field(pattern=_TIME, description="HH:MM, Tashkent time; 24:00 is midnight at the end")]


Span = Annotated[list[Clock], Field(min_length=2, max_length=2, description="from, until")]


class Hours(Body):
    """When people answer, by day; a day that is missing: nobody does."""

    mon: Span | None = None
    tue: Span | None = None
    wed: Span | None = None
    thu: Span | None = None
    fri: Span | None = None
    sat: Span | None = None
    sun: Span | None = None


class NewBot(Body):
    """A bot to make."""

    name: Word
    system_prompt: Annotated[Word, Field(description="how the bot should behave, in plain words")] = ""
    languages: Annotated[Languages | None, NotNull] = None


class BotChanges(Body):
    """What is given is changed, the rest stays."""

    name: Annotated[Word | None, NotNull] = None
    system_prompt: Annotated[Word | None, NotNull] = None
    languages: Annotated[Languages | None, NotNull] = None
    office_hours: Annotated[
        Hours | None,
        NotNull,
        Field(description="outside of them customers are told when somebody will write; {}: not known"),
    ] = None
    return_after_min: Annotated[
        int | None,
        NotNull,
        Field(ge=0, le=10080, description="minutes after a person's last message when the bot answers again; 0: never"),
    ] = None
    silent_text: Annotated[
        Word | None,
        NotNull,
        Field(
            description="what customers read where the owner's plan lets the bot answer nothing; empty: words of ours in "
            "their language"
        ),
    ] = None


class OfficeHours(Answer):
    """From when until when people answer, by day; null: nobody does."""

    mon: list[str] | None = None
    tue: list[str] | None = None
    wed: list[str] | None = None
    thu: list[str] | None = None
    fri: list[str] | None = None
    sat: list[str] | None = None
    sun: list[str] | None = None


class BotAnswer(Answer):
    """A bot. Its chat page is `/chat/{public_id}`."""

    id: str
    public_id: str
    name: str
    status: Annotated[str, Field(description="active or stopped")]
    silenced: Annotated[
        str | None,
        Field(
            description="why the owner's plan keeps an active bot from answering: over: it has ended; bots: it allows fewer; "
            "messages: those of this month are used up; null: it answers"
        ),
    ]
    silent_channels: Annotated[
        list[str], Field(description="kinds of its channels that the plan does not include: it is silent there")
    ]
    system_prompt: str
    languages: list[str]
    office_hours: OfficeHours
    return_after_min: int
    silent_text: str
    created_at: UtcMoment


async def show(session: AsyncSession, core: Core, bot: models.Bot) -> BotAnswer:
    """Return a bot as the API shows it."""
    return _shown(bot, await core.allowances.quiet(session, [bot]))


def _shown(bot: models.Bot, quiet: Mapping[str, Quiet]) -> BotAnswer:
    kept_from = quiet.get(bot.id, Quiet())
    kept = manner.manner_of(bot.settings)
    return BotAnswer(
        id=bot.id,
        public_id=bot.public_id,
        name=bot.name,
        status=bot.status,
        silenced=kept_from.why or None,
        silent_channels=list(kept_from.channels),
        system_prompt=bot.system_prompt,
        languages=bot.languages,
        office_hours=OfficeHours(**manner.shown(kept)),
        return_after_min=kept.return_after_min,
        silent_text=kept.silent_text,
        created_at=bot.created_at,
    )


@routes.post(
    "/bots",
    201,
    errors=(409,),
    example={"name": "Chinor Dental", "system_prompt": "Invite people to a free check-up.", "languages": ["uz", "ru"]},
)
async def create(call: Call, body: NewBot) -> BotAnswer:
    """Make a bot; it answers on its chat page at once."""
    async with call.core.db.write() as session:
        bot = await bots.create(
            session,
            call.user,
            body.name,
            system_prompt=body.system_prompt,
            languages=body.languages,
            limits=call.core.settings.limits,
            plan=call.core.allowances,
        )
        return await show(session, call.core, bot)


@routes.get("/bots")
async def index(call: Call, query: Part) -> Listing[BotAnswer]:
    """List your bots, oldest first."""
    async with call.core.db.read() as session:
        own = await bots.list_for(session, call.user)
        quiet = await call.core.allowances.quiet(session, own)
        return part_of(own, query, lambda bot: _shown(bot, quiet))


@routes.get("/bots/{bot_id}")
async def read(call: Call, bot_id: str) -> BotAnswer:
    """Show a bot."""
    async with call.core.db.read() as session:
        return await show(session, call.core, await bots.get(session, call.user, bot_id))


@routes.patch("/bots/{bot_id}", example={"name": "Chinor Dental Clinic", "languages": ["uz"]})
async def update(call: Call, bot_id: str, body: BotChanges) -> BotAnswer:
    """Change a bot's name, instructions, languages, or when its people answer."""
    async with call.core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        await bots.update(
            session,
            bot,
            name=body.name,
            system_prompt=body.system_prompt,
            languages=body.languages,
            limits=call.core.settings.limits,
            actor=call.user,
        )
        hours = None
        if body.office_hours is not None:
            given = body.office_hours.model_dump(exclude_none=True)
            hours = {day: (span[0], span[1]) for day, span in given.items()}
        await bots.set_manner(
            session,
            bot,
            hours=hours,
            return_after_min=body.return_after_min,
            silent_text=body.silent_text,
            actor=call.user,
        )
        return await show(session, call.core, bot)


@routes.delete("/bots/{bot_id}")
async def delete(call: Call, bot_id: str) -> None:
    """Delete a bot with everything that it knows and said."""
    async with call.core.db.write() as session:
        await bots.delete(session, await bots.get(session, call.user, bot_id, "own"), actor=call.user)
    call.core.bell.ring("channels")
    call.core.bell.ring("jobs")


@routes.post("/bots/{bot_id}/start")
async def start(call: Call, bot_id: str) -> BotAnswer:
    """Let a bot answer."""
    async with call.core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        await bots.start(session, bot)
        shown = await show(session, call.core, bot)
    call.core.bell.ring("channels")
    return shown


@routes.post("/bots/{bot_id}/stop")
async def stop(call: Call, bot_id: str) -> BotAnswer:
    """Let a bot rest: customers get one polite line."""
    async with call.core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        await bots.stop(session, bot)
        shown = await show(session, call.core, bot)
    call.core.bell.ring("channels")
    return shown
