"""The pages of broadcasts, from the first draft to the report; on the web and, with its window and templates, on WhatsApp."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from services import bots
from services.conversations import optouts
from services.i18n import translate
from tests.composition import address, asked_of
from tests.conveyor.harness import until
from tests.fakes.graph import FakeGraph
from tests.web.panel import Browser, Site, open_site, web_talk
from tests.web.test_template_page import FORM, NAMED, PICTURE, SECRET, TOKEN

WRITTEN = {"text_uz": "Bayram kunlari ham ishlaymiz!", "text_ru": "Работаем и в праздники!", "title": ""}
# At night the page asks first; the tests must not depend on the hour.
AWAKE = {"broadcasts": {"quiet_from": 0, "quiet_until": 0}}


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str, graph: FakeGraph) -> AsyncIterator[Site]:
    """The product with Meta's address."""
    environment = {"META_GRAPH_BASE": graph.base_url}
    async with open_site(tmp_path, sqlite_url, environment=environment, overrides=AWAKE) as made:
        yield made


async def _shop(site: Site, name: str) -> tuple[models.User, models.Bot, Browser]:
    owner = await site.person(name, language="en")
    bot = await site.bot_of(owner, "Chinor")
    return owner, bot, await site.signed_in(owner)


async def _one(site: Site, bot: models.Bot) -> models.Broadcast:
    async with site.core.db.read() as session:
        newest = select(models.Broadcast).where(models.Broadcast.bot_id == bot.id).order_by(models.Broadcast.id.desc())
        found = await session.scalar(newest.limit(1))
    assert found is not None
    return found


async def _done(site: Site, bot: models.Bot) -> models.Broadcast:
    async def there() -> bool:
        return (await _one(site, bot)).status == "done"

    await until(there)
    return await _one(site, bot)


async def test_from_the_first_draft_to_the_report(site: Site) -> None:
    _, bot, browser = await _shop(site, "News")
    home = f"/bots/{bot.id}/broadcasts"
    assert "Nothing was sent yet" in (await browser.get(home)).visible()
    async with site.core.db.write() as session:
        for name, language, wants in (
            ("Aziza", "uz", True),
            ("Иван", "ru", True),
            ("=1+1", "uz-Cyrl", True),
            ("No", "uz", False),
        ):
            talk = await web_talk(session, bot, name, last_inbound_at=utcnow() - dt.timedelta(days=3))
            values = {"language": language, "opted_out_at": None if wants else utcnow()}
            await session.execute(update(models.Contact).where(models.Contact.id == talk.contact_id).values(**values))
    # What was typed survives an error, which stands at its field.
    page = await browser.post(home, **{**WRITTEN, "text_uz": "a" * 3001})
    assert page.status == 400 and 'aria-invalid="true"' in page.text and "Работаем и в праздники!" in page.text
    page = await browser.post(home, **WRITTEN, seen="within", days="-1")
    assert page.status == 400 and "Write a number of days" in page.visible()
    seen = await browser.post(f"{home}/preview", **WRITTEN, seen="within", days="7")
    assert (
        "3 customers get it" in seen.visible()
        and "Байрам кунлари" in seen.text
        and "do not want broadcasts" in seen.text
    )
    assert "0 customers get it" in (await browser.post(f"{home}/preview", **WRITTEN, seen="within", days="2")).visible()
    made = await browser.post(home, **WRITTEN)
    where = made.location.partition("?")[0]
    page = await browser.get(where)
    assert page.status == 200 and "3 customers get it" in page.visible()
    # A test goes to the one who asks alone.
    tried = await browser.post(f"{where}/test", language="ru")
    assert tried.status == 303 and tried.location.startswith("/inbox/")
    shown = (await browser.get(tried.location)).visible()
    assert "You (test)" in shown and "Работаем и в праздники!" in shown
    # A second hand that still has the page of before.
    first = (await _one(site, bot)).version
    assert (await browser.post(f"{where}/edit", **WRITTEN, version=str(first))).status == 303
    late = await browser.post(f"{where}/edit", **{**WRITTEN, "text_ru": "Моё"}, version=str(first), languages="ru")
    assert late.status == 409 and "Моё" in late.text
    # Both stand there, and who saves again means it.
    saved = late.visible().partition("As it is saved now")[2]
    assert "Работаем и в праздники!" in saved and "Languages all" in " ".join(saved.split())
    shown = re.findall(r'name="version" value="(\d+)"', late.text)[0]
    assert (await browser.post(f"{where}/edit", **WRITTEN, version=shown)).status == 303
    # Named confirmation.
    version = str((await _one(site, bot)).version)
    refused = await browser.post(f"{where}/send", when="now", name="Chinar", version=version)
    assert refused.status == 400 and "Type the bot’s name" in refused.visible()
    past = await browser.post(f"{where}/send", when="later", at="2020-01-01T10:00", name="Chinor", version=version)
    assert past.status == 400 and "Choose a time from now on" in past.visible()
    later = (utcnow() + dt.timedelta(days=2)).strftime("%Y-%m-%dT%H:%M")
    assert (await browser.post(f"{where}/send", when="later", at=later, name="chinor", version=version)).status == 303
    page = await browser.get(where)
    assert "Scheduled" in page.visible() and "Take it back" in page.visible()
    assert (await browser.post(f"{where}/recall", version=str((await _one(site, bot)).version))).status == 303
    version = str((await _one(site, bot)).version)
    assert (await browser.post(f"{where}/send", when="now", name="Chinor", version=version)).status == 303
    # What somebody wrote while it went out is not lost: it can become a broadcast of its own.
    late = await browser.post(f"{where}/edit", **{**WRITTEN, "text_ru": "Опоздало"}, version=version)
    assert late.status == 409 and "Опоздало" in late.text and f'action="{home}"' in late.text
    await _done(site, bot)
    page = await browser.get(f"{where}/progress", **{"HX-Request": "true"})
    assert "3 of 3" in page.visible() and "Left out 1" in " ".join(page.visible().split())
    listed = await browser.get(f"{where}/receivers?fate=skipped")
    assert "do not want broadcasts" in listed.visible() and "Иван" not in listed.visible()
    for kind in ("csv", "xlsx"):
        assert f"{where}/receivers.{kind}" in (await browser.get(where)).text
    assert (await browser.get(f"{where}/receivers.xlsx")).status == 200
    table = await browser.get(f"{where}/receivers.csv")
    rows = list(csv.reader(io.StringIO(table.text.removeprefix("\ufeff"))))
    assert {row[0] for row in rows[1:]} == {"Aziza", "Иван", "'=1+1", "No"} and len(rows) == 5
    async with site.core.db.read() as session:
        said = set(await session.scalars(select(models.Message.text).where(models.Message.author == "system")))
    line = {code: translate(code, optouts.LINE.msgid) for code in ("uz", "uz-Cyrl", "ru")}
    assert said >= {f"Bayram kunlari ham ishlaymiz!\n\n{line['uz']}", f"Работаем и в праздники!\n\n{line['ru']}"}
    assert f"Байрам кунлари ҳам ишлаймиз!\n\n{line['uz-Cyrl']}" in said
    # It stands in the conversation with its fate, and the card says who wants none.
    async with site.core.db.read() as session:
        talks = (
            await session.execute(
                select(models.Conversation.id, models.Contact.name).join(
                    models.Contact, models.Contact.id == models.Conversation.contact_id
                )
            )
        ).all()
    names = {name: id_ for id_, name in talks}
    assert "· broadcast" in (await browser.get(f"/inbox/{names['Aziza']}")).visible()
    assert "does not want them since" in (await browser.get(f"/inbox/{names['No']}")).visible()


async def test_only_who_is_chosen_gets_it_and_it_can_be_held(site: Site) -> None:
    """By channel, language, label and when they last wrote; never outside a network's window; paused, resumed, stopped."""
    owner, bot, browser = await _shop(site, "Chosen")
    home, now = f"/bots/{bot.id}/broadcasts", utcnow()
    async with site.core.db.write() as session:
        web = await bots.connect_web(session, bot)
        gram = models.Channel(bot_id=bot.id, kind="instagram", external_id="17", status="active")
        label = models.Label(owner_id=owner.id, name="Ulgurji", color=1)
        session.add_all([gram, label])
        await session.flush()
        for name, channel, language, hours in (
            ("Aziza", web, "uz", 1),
            ("Иван", web, "ru", 24 * 40),
            ("Kiril", web, "uz-Cyrl", 24 * 3),
            ("Insta", gram, "ru", 1),
            ("Kech", gram, "ru", 25),
        ):
            who = models.Contact(bot_id=bot.id, channel_id=channel.id, external_id=name, name=name, language=language)
            session.add(who)
            await session.flush()
            place = {"bot_id": bot.id, "channel_id": channel.id, "contact_id": who.id}
            talk = models.Conversation(**place, last_inbound_at=now - dt.timedelta(hours=hours))
            session.add(talk)
            await session.flush()
            if name == "Kiril":
                session.add(models.ConversationLabel(conversation_id=talk.id, label_id=label.id))
    for chosen, reached, silent in (
        ({}, 4, True),
        ({"channels": "web"}, 3, False),
        ({"channels": "instagram"}, 1, True),
        ({"languages": "uz"}, 2, False),
        ({"languages": "ru"}, 2, True),
        ({"labels": label.id}, 1, False),
        ({"seen": "within", "days": "2"}, 2, True),
        ({"seen": "before", "days": "2"}, 2, False),
    ):
        page = (await browser.post(f"{home}/preview", **WRITTEN, **chosen)).visible()
        assert f"{reached} customer{'s get' if reached > 1 else ' gets'} it" in page, (chosen, page)
        assert ("have not written for 24 hours" in page) is silent, chosen
    where = (await browser.post(home, **WRITTEN, channels="web", languages="uz")).location.partition("?")[0]

    async def press(step: str) -> str:
        version = str((await _one(site, bot)).version)
        assert (await browser.post(f"{where}/{step}", version=version)).status == 303
        return (await browser.get(where)).visible()

    # As if it were in the middle: chosen and begun, the next step far away.
    async with site.core.db.write() as session:
        row = await session.get_one(models.Broadcast, (await _one(site, bot)).id)
        row.status, row.started_at, row.cursor, row.run_at = "sending", now, "", now + dt.timedelta(days=2)
    assert "Paused" in await press("pause")
    assert (await _one(site, bot)).status == "paused"
    await press("resume")
    await _done(site, bot)
    listed = (await browser.get(f"{where}/receivers")).visible()
    assert all(name in listed for name in ("Aziza", "Kiril")) and not any(name in listed for name in ("Иван", "Insta"))
    async with site.core.db.write() as session:
        (await session.get_one(models.Broadcast, row.id)).status = "paused"
    assert "Stopped" in await press("stop")
    version = str((await _one(site, bot)).version)
    assert (await browser.post(f"{where}/resume", version=version)).status == 409


async def test_what_reaches_nobody_is_not_offered(site: Site) -> None:
    _, bot, browser = await _shop(site, "Empty")
    where = (await browser.post(f"/bots/{bot.id}/broadcasts", **WRITTEN)).location.partition("?")[0]
    soon = (utcnow() + dt.timedelta(days=2)).strftime("%Y-%m-%dT%H:%M")

    async def told(words: str, way: str) -> None:
        for path in (where, f"{where}/send"):
            page = await browser.get(path)
            assert words in page.visible() and f'href="{way}"' in page.text, (path, words)
            assert f'action="{where}/send"' not in page.text and f'href="{where}/send"' not in page.text, path
        version = str((await _one(site, bot)).version)
        for at in ({"when": "now"}, {"when": "later", "at": soon}):
            refused = await browser.post(f"{where}/send", **at, name="Chinor", version=version)
            assert refused.status == 409 and words in refused.visible()
        assert (await _one(site, bot)).status == "draft"

    await told("Nobody has written to this bot yet", f"/bots/{bot.id}/channels#share")
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, "Aziza", last_inbound_at=utcnow())
        mine = models.Contact.id == talk.contact_id
        await session.execute(update(models.Contact).where(mine).values(opted_out_at=utcnow(), language="uz"))
    version = str((await _one(site, bot)).version)
    assert (await browser.post(f"{where}/edit", **WRITTEN, languages="ru", version=version)).status == 303
    await told("No customer fits what you chose", f"{where}/edit")
    version = str((await _one(site, bot)).version)
    assert (await browser.post(f"{where}/edit", **WRITTEN, version=version)).status == 303
    page = await browser.get(f"{where}/send")
    assert "do not want broadcasts" in page.visible() and "until they allow it again" in page.visible()
    assert f'action="{where}/send"' not in page.text
    async with site.core.db.write() as session:
        await session.execute(update(models.Contact).where(mine).values(opted_out_at=None))
        await session.execute(
            update(models.Conversation).where(models.Conversation.id == talk.id).values(status="human")
        )
    await told("Give these conversations back", f"/inbox?status=human&amp;bot={bot.id}")
    async with site.core.db.write() as session:
        await session.execute(update(models.Conversation).where(models.Conversation.id == talk.id).values(status="bot"))
    assert f'action="{where}/send"' in (await browser.get(f"{where}/send")).text


async def test_nobody_is_woken_without_a_tick(site: Site) -> None:
    _, bot, browser = await _shop(site, "Night")
    made = await browser.post(f"/bots/{bot.id}/broadcasts", **WRITTEN)
    where = made.location.partition("?")[0]
    async with site.core.db.write() as session:
        await web_talk(session, bot, "Aziza", last_inbound_at=utcnow())
    hour = utcnow().astimezone(dt.timezone(dt.timedelta(hours=5))).hour
    settings = site.core.settings
    quiet = settings.broadcasts.model_copy(update={"quiet_from": hour, "quiet_until": (hour + 2) % 24})
    site.core.settings = settings.model_copy(update={"broadcasts": quiet})
    try:
        refused = await browser.post(f"{where}/send", when="now", name="Chinor", version="0")
        assert refused.status == 400 and "Send it at night all the same" in refused.visible()
        assert (await browser.post(f"{where}/send", when="now", name="Chinor", version="0", awake="yes")).status == 303
    finally:
        site.core.settings = settings
    await _done(site, bot)


async def test_whatsapp_only_within_its_window_or_by_a_template(site: Site, graph: FakeGraph) -> None:
    number = graph.add_number(
        FORM["phone_number_id"], token=TOKEN, app_secret=SECRET, waba_id="20", display_phone_number="+998 90 123 45 67"
    )
    number.templates = [PICTURE, NAMED]
    _, bot, browser = await _shop(site, "Window")
    assert (await browser.post(f"/bots/{bot.id}/channels/whatsapp", **FORM)).status == 303
    webhook = f"{address(site.core)}/whatsapp/webhook"
    fresh, silent = "998900000001", "998900000002"
    for who in (fresh, silent):
        sent = len(number.sent)
        assert await graph.deliver(browser.http, webhook, graph.body(number.message(who, "Salom")), SECRET) == 200
        await number.wait_sent(sent + 1)
    async with site.core.db.write() as session:
        ids = select(models.Contact.id).where(models.Contact.external_id == silent)
        before = utcnow() - dt.timedelta(hours=25)
        await session.execute(
            update(models.Conversation).where(models.Conversation.contact_id.in_(ids)).values(last_inbound_at=before)
        )
    made = await browser.post(f"/bots/{bot.id}/broadcasts", **WRITTEN)
    where = made.location.partition("?")[0]
    page = (await browser.get(where)).visible()
    assert "1 customer gets it" in page and "have not written for 24 hours" in page and "approved template" in page
    listed = await browser.get(f"{where}/template")
    assert "order_ready" in listed.text and "with_picture" not in listed.text
    picked = {"name": "order_ready", "language": "ru", "version": "0"}
    assert (await browser.post(f"{where}/template", **picked, **{"body.order": "5"})).status == 400
    filled = {"body.order": "№ 5", "body.customer": "друзья"}
    assert (await browser.post(f"{where}/template", **picked, **filled)).status == 303
    assert "2 customers get it" in (await browser.get(where)).visible()
    already = len(number.sent)
    assert (await browser.post(f"{where}/send", when="now", name="Chinor", version="1")).status == 303
    await _done(site, bot)
    got: dict[str, Any] = {each["to"]: each for each in number.sent[already:]}
    assert set(got) == {fresh, silent} and len(number.sent) == already + 2
    assert got[silent]["type"] == "template" and got[silent]["template"]["name"] == "order_ready"
    button = got[fresh]["interactive"]["action"]["buttons"][0]["reply"]
    assert "Bayram kunlari" in json.dumps(got[fresh]) or "праздники" in json.dumps(got[fresh], ensure_ascii=False)
    assert len(button["title"]) <= 20
    # What the network tells later is in the report, and the button ends it for this customer.
    async with site.core.db.read() as session:
        wamid = await session.scalar(
            select(models.Message.external_id)
            .join(models.Conversation, models.Conversation.id == models.Message.conversation_id)
            .join(models.Contact, models.Contact.id == models.Conversation.contact_id)
            .where(models.Contact.external_id == fresh, models.Message.author == "system")
            .order_by(models.Message.id.desc())
            .limit(1)
        )
    told = graph.body(number.status(str(wamid), "read", recipient=fresh))
    assert await graph.deliver(browser.http, webhook, told, SECRET) == 200

    async def read() -> bool:
        shown = (await browser.get(f"{where}/progress", **{"HX-Request": "true"})).visible()
        return "Read 1" in " ".join(shown.split())

    await until(read)
    choice = {"type": "button_reply", "button_reply": {"id": button["id"], "title": button["title"]}}
    pressed = number.message(fresh, None, type="interactive", interactive=choice)
    assert await graph.deliver(browser.http, webhook, graph.body(pressed), SECRET) == 200

    async def out() -> bool:
        async with site.core.db.read() as session:
            gone = select(models.Contact.external_id).where(models.Contact.opted_out_at.is_not(None))
            return list(await session.scalars(gone)) == [fresh]

    await until(out)


async def test_a_large_broadcast_costs_its_pages_no_more(site: Site) -> None:
    _, bot, browser = await _shop(site, "Large")
    home = f"/bots/{bot.id}/broadcasts"

    async def asked(path: str) -> list[str]:
        with asked_of(site.core) as seen:
            page = await browser.get(path, **{"HX-Request": "true"})
        assert page.status == 200, path
        about = [each for each in seen if each.reads and "broadcast" in each.statement]
        async with site.core.db.read() as session:
            connection = await session.connection()
            for statement, values, _by_request in about:
                plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
                steps = [str(row[-1]) for row in plan]
                whole = [step for step in steps if step.startswith("SCAN") and "broadcast" in step]
                assert not whole, (statement, steps)
        return [each.statement for each in about]

    counts: list[list[int]] = []
    for n in (3, 400):
        async with site.core.db.write() as session:
            web = await bots.connect_web(session, bot)
            news = models.Broadcast(
                bot_id=bot.id, title="Katta", texts={"uz": "Salom"}, status="done", started_at=utcnow(), chosen=n
            )
            session.add(news)
            session.add_all(
                models.Broadcast(bot_id=bot.id, title=f"№ {i}", texts={"uz": "Salom"}) for i in range(n // 4)
            )
            people = [models.Contact(bot_id=bot.id, channel_id=web.id, external_id=f"v{n}-{i}") for i in range(n)]
            session.add_all(people)
            await session.flush()
            session.add_all(models.Conversation(bot_id=bot.id, channel_id=web.id, contact_id=p.id) for p in people)
            fates = ("sent", "skipped", "failed", "waiting")
            session.add_all(
                models.BroadcastDelivery(
                    broadcast_id=news.id, contact_id=p.id, status=fates[i % 4], reason="" if i % 4 in (0, 3) else "plan"
                )
                for i, p in enumerate(people)
            )
        where = f"{home}/{news.id}"
        paths = [home, f"{where}/progress", f"{where}/receivers", f"{where}/receivers?fate=skipped"]
        counts.append([len(await asked(path)) for path in paths])
    assert counts[0] == counts[1] and max(counts[1]) <= 6, counts
    page = await browser.get(f"{where}/receivers")
    assert page.text.count("/inbox/") >= 50 and 'rel="next"' in page.text
    seen: list[str] = []
    following = f"{where}/receivers"
    while following:
        page = await browser.get(following)
        seen += re.findall(r'href="/inbox/([0-9a-z]{26})"', page.text)
        found = re.search(r'rel="next" href="([^"]*)"', page.text)
        following = found[1].replace("&amp;", "&") if found else ""
    assert len(seen) == len(set(seen)) == 400
    assert (await browser.get(f"{where}/receivers?cursor=nonsense")).status == 400
