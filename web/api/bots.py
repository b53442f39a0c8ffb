"""Bots."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from db import models
from services import bots
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


class BotAnswer(Answer):
    """A bot. Its chat page is `/chat/{public_id}`."""

    id: str
    public_id: str
    name: str
    status: Annotated[str, Field(description="active or stopped")]
    system_prompt: str
    languages: list[str]
    created_at: UtcMoment


def show(bot: models.Bot) -> BotAnswer:
    """Return a bot as the API shows it."""
    return BotAnswer(
        id=bot.id,
        public_id=bot.public_id,
        name=bot.name,
        status=bot.status,
        system_prompt=bot.system_prompt,
        languages=bot.languages,
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
        )
    return show(bot)


@routes.get("/bots")
async def index(call: Call, query: Part) -> Listing[BotAnswer]:
    """List your bots, oldest first."""
    async with call.core.db.read() as session:
        return part_of(await bots.list_for(session, call.user), query, show)


@routes.get("/bots/{bot_id}")
async def read(call: Call, bot_id: str) -> BotAnswer:
    """Show a bot."""
    async with call.core.db.read() as session:
        return show(await bots.get(session, call.user, bot_id))


@routes.patch("/bots/{bot_id}", example={"name": "Chinor Dental Clinic", "languages": ["uz"]})
async def update(call: Call, bot_id: str, body: BotChanges) -> BotAnswer:
    """Change a bot's name, instructions or languages."""
    async with call.core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        await bots.update(
            session,
            bot,
            name=body.name,
            system_prompt=body.system_prompt,
            languages=body.languages,
            limits=call.core.settings.limits,
        )
    return show(bot)


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
    call.core.bell.ring("channels")
    return show(bot)


@routes.post("/bots/{bot_id}/stop")
async def stop(call: Call, bot_id: str) -> BotAnswer:
    """Let a bot rest: customers get one polite line."""
    async with call.core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        await bots.stop(session, bot)
    call.core.bell.ring("channels")
    return show(bot)
