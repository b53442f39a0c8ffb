"""A team: invitations that work once, what each role may do, and that what ends ends at once."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from db import models
from db.base import utcnow
from services import accounts, bots, conversations, merging, notices, team
from services.core import Core
from services.errors import AppError, Conflict, Invalid, NotFound
from services.team import Right
from tests.composition import Shop, make_settings, make_shop, running
from tests.conveyor.harness import floor, surroundings
from tests.web.panel import web_talk

MOST = 3
_RIGHTS: tuple[Right, ...] = ("talk", "manage", "own")


@asynccontextmanager
async def _place(folder: Path, url: str) -> AsyncIterator[tuple[Core, Shop]]:
    async with running(make_settings(folder, url), "idle") as core:
        yield core, await make_shop(core, "Chinor", document=None)


async def _person(core: Core, name: str) -> models.User:
    async with core.db.write() as session:
        return await accounts.register_owner(session, full_name=name, email=f"{name.lower()}@team.example.uz")


async def _invited(core: Core, owner: models.User, role: str = "operator", name: str = "Nodira") -> str:
    async with core.db.write() as session:
        return await team.invite(session, owner, role, name, most=MOST)


async def _joins(core: Core, token: str, user: models.User) -> team.Change:
    async with core.db.write() as session:
        return await team.accept(session, token, user)


async def _member(core: Core, owner: models.User, user: models.User) -> models.Member:
    async with core.db.read() as session:
        return next(each.member for each in await team.members(session, owner) if each.user.id == user.id)


async def _rights(core: Core, user: models.User, bot: models.Bot) -> list[str]:
    found: list[str] = []
    async with core.db.read() as session:
        for right in _RIGHTS:
            listed = bot.id in {each.id for each in await bots.list_for(session, user, right)}
            try:
                await bots.get(session, user, bot.id, right)
            except NotFound:
                assert not listed, right
            else:
                assert listed, right
                found.append(right)
    return found


async def _actions(core: Core, owner: models.User) -> list[str]:
    async with core.db.read() as session:
        log = models.AuditLog
        rows = await session.scalars(select(log.action).where(log.object_id == owner.id).order_by(log.id))
        return [action for action in rows if action != "signed_in"]


async def _refused(core: Core, token: str, user: models.User) -> AppError:
    """Return how accepting is refused; the link's page refuses in the same words, unless it is only not for this person."""
    with pytest.raises(AppError) as refused:
        await _joins(core, token, user)
    if refused.value.code == "invitation":
        async with core.db.read() as session:
            with pytest.raises(Invalid) as looked:
                await team.look_at(session, token)
        assert looked.value.text == refused.value.text
    return refused.value


async def test_from_invitation_to_removal(tmp_path: Path, database_url: str) -> None:
    """What each role may do with the owner's bots; only a hash of the link is kept, and everything is written down."""
    async with _place(tmp_path, database_url) as (core, shop):
        user, other = await _person(core, "Nodira"), await make_shop(core, "Nur", email="nur@example.uz", document=None)
        token = await _invited(core, shop.owner)
        async with core.db.read() as session:
            offer = await team.look_at(session, token)
            kept = list(await session.scalars(select(models.Invitation.token_hash)))
        assert (offer.owner.id, offer.role, offer.bots) == (shop.owner.id, "operator", [shop.bot.name])
        assert token not in kept and len(f"team_{token}") <= 64
        assert await _rights(core, user, shop.bot) == []
        assert (await _joins(core, token, user)).role == "operator"
        assert await _rights(core, user, shop.bot) == ["talk"]
        member = await _member(core, shop.owner, user)
        async with core.db.write() as session:
            await team.change_role(session, shop.owner, member.id, "manager")
        assert await _rights(core, user, shop.bot) == ["talk", "manage"]
        # Their own bots are their own, and nobody else's.
        async with core.db.write() as session:
            mine = await bots.create(session, user, "O‘zimniki", limits=core.settings.limits)
        assert await _rights(core, user, mine) == list(_RIGHTS)
        assert await _rights(core, shop.owner, mine) == []
        assert await _rights(core, user, other.bot) == []
        async with core.db.write() as session:
            await team.remove(session, shop.owner, member.id)
        assert await _rights(core, user, shop.bot) == []
        assert await _rights(core, user, mine) == list(_RIGHTS)
        assert await _actions(core, shop.owner) == ["member_invited", "member_joined", "member_role", "member_removed"]
        async with core.db.read() as session:
            written = [str(row) for row in await session.scalars(select(models.AuditLog.details))]
        assert not any(token in row for row in written)


async def test_an_invitation_that_cannot_be_used(tmp_path: Path, sqlite_url: str) -> None:
    """Used, withdrawn, too old, invented, of a banned owner: the same words for all; the owner's own stays open."""
    async with _place(tmp_path, sqlite_url) as (core, shop):
        first, second = await _person(core, "Nodira"), await _person(core, "Sardor")
        used, withdrawn, old = [await _invited(core, shop.owner, name=f"N{n}") for n in range(3)]
        await _joins(core, used, first)
        async with core.db.write() as session:
            kept = {row.name: row for row in await team.invitations(session, shop.owner)}
            await team.withdraw(session, shop.owner, kept["N1"].token_hash)
            kept["N2"].expires_at = utcnow() - dt.timedelta(seconds=1)
            session.add(kept["N2"])
        said = {
            (await _refused(core, token, second)).text.msgid
            for token in (used, withdrawn, old, "x" * 43, "", used + "x")
        }
        assert len(said) == 1
        own = await _invited(core, shop.owner)
        refusal = await _refused(core, own, shop.owner)
        assert isinstance(refusal, Conflict) and refusal.code == "own_invitation"
        async with core.db.write() as session:
            await session.execute(update(models.User).where(models.User.id == shop.owner.id).values(banned_at=utcnow()))
        said.add((await _refused(core, own, second)).text.msgid)
        async with core.db.write() as session:
            await session.execute(update(models.User).where(models.User.id == shop.owner.id).values(banned_at=None))
        await _joins(core, own, second)
        assert len(said) == 1


async def test_a_member_who_is_invited_again_only_rises(tmp_path: Path, sqlite_url: str) -> None:
    async with _place(tmp_path, sqlite_url) as (core, shop):
        user = await _person(core, "Nodira")
        as_manager = await _invited(core, shop.owner, "manager")
        as_operator = await _invited(core, shop.owner)
        assert (await _joins(core, as_operator, user)).role == "operator"
        assert (await _joins(core, as_manager, user)).role == "manager"
        again = await _invited(core, shop.owner)
        assert (await _joins(core, again, user)).role == "manager"
        # Following a used link once more changes nothing for who came by it, and helps nobody who was removed.
        assert (await _joins(core, as_operator, user)).role == "manager"
        member = await _member(core, shop.owner, user)
        async with core.db.write() as session:
            await team.remove(session, shop.owner, member.id)
        assert (await _refused(core, as_operator, user)).code == "invitation"


@pytest.mark.parametrize(
    ("role", "name", "field"),
    [
        ("owner", "N", "role"),
        ("admin", "N", "role"),
        ("", "N", "role"),
        ("operator", " ", "name"),
        ("operator", "x" * 101, "name"),
    ],
)
async def test_what_an_invitation_may_not_be(tmp_path: Path, sqlite_url: str, role: str, name: str, field: str) -> None:
    async with _place(tmp_path, sqlite_url) as (core, shop):
        with pytest.raises(Invalid) as refused:
            await _invited(core, shop.owner, role, name)
        assert refused.value.field == field


async def test_another_owners_team_is_out_of_reach(tmp_path: Path, sqlite_url: str) -> None:
    """Members, invitations and memberships of others are not found, whatever one owns."""
    async with _place(tmp_path, sqlite_url) as (core, shop):
        user, other = await _person(core, "Nodira"), await make_shop(core, "Nur", email="nur@example.uz", document=None)
        await _joins(core, await _invited(core, shop.owner, "manager"), user)
        await _invited(core, shop.owner)
        member = await _member(core, shop.owner, user)
        async with core.db.read() as session:
            invitation = (await team.invitations(session, shop.owner))[0].token_hash
            assert await team.members(session, other.owner) == [] == await team.invitations(session, other.owner)
        for person in (other.owner, user):
            for attempt in (
                lambda session, person=person: team.remove(session, person, member.id),
                lambda session, person=person: team.change_role(session, person, member.id, "manager"),
                lambda session, person=person: team.withdraw(session, person, invitation),
            ):
                async with core.db.write() as session:
                    with pytest.raises(NotFound):
                        await attempt(session)
        async with core.db.write() as session:
            with pytest.raises(NotFound):
                await team.leave(session, other.owner, member.id)
        assert await _rights(core, user, shop.bot) == ["talk", "manage"]


async def test_two_who_accept_at_once_are_one_member(tmp_path: Path, database_url: str) -> None:
    """Of many who press at the same moment one comes in; one person with two links is one member."""
    async with _place(tmp_path, database_url) as (core, shop):
        people = [await _person(core, f"Kimdir{n}") for n in range(4)]
        token = await _invited(core, shop.owner)
        results = await asyncio.gather(*(_joins(core, token, user) for user in people), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Change", "Invalid", "Invalid", "Invalid"]
        one = await _person(core, "Nodira")
        links = [await _invited(core, shop.owner, role) for role in ("operator", "manager")]
        await asyncio.gather(*(_joins(core, link, one) for link in links))
        async with core.db.read() as session:
            members = await team.members(session, shop.owner)
        assert sorted(each.member.role for each in members) == ["manager", "operator"]


async def test_a_team_has_its_limit_also_for_two_at_once(tmp_path: Path, database_url: str) -> None:
    """Members and open invitations count together; what is withdrawn makes room."""
    async with _place(tmp_path, database_url) as (core, shop):
        await _joins(core, await _invited(core, shop.owner), await _person(core, "Nodira"))
        results = await asyncio.gather(*(_invited(core, shop.owner) for _ in range(4)), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Conflict", "Conflict", "str", "str"]
        async with core.db.write() as session:
            await team.withdraw(session, shop.owner, (await team.invitations(session, shop.owner))[0].token_hash)
        await _invited(core, shop.owner)


async def test_what_ends_with_a_membership(tmp_path: Path, database_url: str) -> None:
    """The talks that were theirs are everybody's again and their notices of this owner go; what is of others stays."""
    async with _place(tmp_path, database_url) as (core, shop):
        user, other = await _person(core, "Nodira"), await make_shop(core, "Nur", email="nur@example.uz", document=None)
        for place in (shop, other):
            await _joins(core, await _invited(core, place.owner), user)
        talks = {}
        async with core.db.write() as session:
            for place in (shop, other):
                talk = await web_talk(session, place.bot, assignee_id=user.id)
                talks[place.bot.id] = talk.id
                for person in (user, place.owner):
                    key = notices.talk_key(talk.id)
                    await notices.open_notice(session, person.id, "operator_wanted", key=key, bot_id=place.bot.id)
            await accounts.open_session(session, user, "")
        member = await _member(core, shop.owner, user)
        async with core.db.write() as session:
            change = await team.leave(session, user, member.id)
            device = (await accounts.sessions(session, user))[0]
        assert change.topics == [f"session:{device.id}"]
        async with core.db.read() as session:
            assigned = {row.bot_id: row.assignee_id for row in await session.scalars(select(models.Conversation))}
            told = {row.bot_id for row in await notices.open_for(session, user)}
            told_owner = {row.kind for row in await notices.open_for(session, shop.owner)}
            with pytest.raises(NotFound):
                await conversations.get(session, user, talks[shop.bot.id])
            await conversations.get(session, user, talks[other.bot.id])
        assert assigned == {shop.bot.id: None, other.bot.id: user.id}
        assert told == {other.bot.id}
        assert told_owner == {"operator_wanted"}
        assert (await _actions(core, shop.owner))[-1] == "member_left"


async def test_a_telegram_account_that_gives_way_hands_its_memberships_over(tmp_path: Path, sqlite_url: str) -> None:
    """Whoever joined by the factory bot and connects a panel account later answers with that one."""
    async with _place(tmp_path, sqlite_url) as (core, shop):
        async with core.db.write() as session:
            by_telegram = await accounts.register_owner(session, telegram_id=77, full_name="Nodira")
        await _joins(core, await _invited(core, shop.owner), by_telegram)
        user = await _person(core, "Nodira")
        async with core.db.write() as session:
            link = await accounts.login_link(session, user)
        async with core.db.write() as session:
            await merging.link_telegram(session, core.settings, link, 77, now=utcnow())
        assert await _rights(core, user, shop.bot) == ["talk"]


async def test_everybody_who_answers_hears_of_a_customer_who_waits(tmp_path: Path, database_url: str) -> None:
    """Owner, manager and operator hear; whoever answers solves it for all; who was removed hears no more."""
    async with surroundings() as fakes, floor(tmp_path, database_url, *fakes) as place:
        tenant, stranger = await place.tenant(), await place.tenant()
        core, owner = place.core, tenant.shop.owner
        people = {role: await _person(core, role.capitalize()) for role in team.ROLES}
        for role, user in people.items():
            await _joins(core, await _invited(core, owner, role), user)
        person = tenant.person()
        await tenant.answered([tenant.ask(person)])

        async def waiting() -> dict[str, set[str]]:
            everybody = {**people, "owner": owner, "stranger": stranger.shop.owner}
            async with core.db.read() as session:
                return {
                    name: {row.kind for row in await notices.open_for(session, user)} - {"member_joined"}
                    for name, user in everybody.items()
                }

        all_hear = {"owner": {"operator_wanted"}, "manager": {"operator_wanted"}, "operator": {"operator_wanted"}}
        person.send(tenant.bot, "/operator")
        await place.noticed(tenant, "operator_wanted")
        assert await waiting() == {**all_hear, "stranger": set()}
        talk_id = str(await place.one(select(models.Conversation.id)))
        async with core.db.write() as session:
            row = await conversations.get(session, people["operator"], talk_id)
            await conversations.set_status(session, row, "bot")
        assert not any((await waiting()).values())
        # A notice that comes in the moment in which a membership ends is nobody's.
        member = await _member(core, owner, people["operator"])
        async with core.db.write() as session:
            await team.remove(session, owner, member.id)
            key = notices.talk_key(talk_id)
            gone = people["operator"].id
            await notices.open_notice(session, gone, "operator_wanted", key=key, bot_id=tenant.shop.bot.id)
        person.send(tenant.bot, "/operator")
        await place.until(lambda: _count(place.core, people["manager"], 2))
        assert await waiting() == {**all_hear, "operator": set(), "stranger": set()}


async def _count(core: Core, user: models.User, number: int) -> bool:
    async with core.db.read() as session:
        notice = models.Notice
        found = await session.scalar(
            select(func.count()).where(notice.user_id == user.id, notice.kind == "operator_wanted")
        )
    return int(found or 0) == number
