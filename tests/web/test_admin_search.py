"""What an administrator types to find something is looked for as it stands: no sign of it is a wildcard or an operator."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from urllib.parse import quote

import pytest

from db import models
from db.base import new_id, utcnow
from services import access, bots
from tests import servers
from tests.web.panel import Site, open_site, web_talk

SIGNS, DECOY = "50%_\\b", "50xx\\b"
"""What is looked for, and what it would find too if its signs meant anything."""
BOXES = (
    "/admin/owners?q=",
    "/admin/coupons?q=",
    "/admin/channels?q=",
    "/admin/channels?owner=",
    "/admin/channels/webhooks?owner=",
    "/admin/files?name=",
    "/admin/files?owner=",
    "/admin/files/sent?name=",
    "/admin/files/sent?owner=",
    "/admin/conversations?owner=",
    "/admin/payments?owner=",
    "/admin/audit?actor=",
    "/search?q=",
)
NOTHING = (
    "%%%",
    "___",
    '"*"',
    "NEAR(Egasi x)",
    "Egasi*",
    "Egasi OR x",
    "' OR 1=1 --",
    "x'::tsquery",
    "(Egasi",
    "^Egasi",
    "\\%",
    "Egasi:*",
)


async def _everything_called(site: Site, name: str) -> None:
    """Make an owner, and one of everything that can be looked for, with this in its name."""
    async with site.core.db.write() as session:
        owner = models.User(full_name=f"Egasi {name}", email=f"{new_id()}@example.uz")
        session.add(owner)
        await session.flush()
        bot = await bots.create(session, owner, f"Bot {name}", limits=site.core.settings.limits)
        talk = await web_talk(session, bot, f"Mijoz {name}", last_inbound_at=utcnow())
        channel = await session.get_one(models.Channel, talk.channel_id)
        channel.title = f"Kanal {name}"
        message = models.Message(conversation_id=talk.id, author="customer", kind="document")
        session.add(message)
        await session.flush()
        facts = {"gateway": "payme", "plan": "basic", "period": "monthly", "price_tiyin": 1, "amount_tiyin": 1}
        session.add_all(
            [
                models.Document(bot_id=bot.id, name=f"Hujjat {name}.txt", kind="txt", status="ready"),
                models.Attachment(bot_id=bot.id, message_id=message.id, kind="document", name=f"Fayl {name}", status="stored"),
                models.Coupon(code=new_id()[:12].upper(), percent=10, note=f"Kupon {name}"),
                models.Payment(number=new_id()[-12:], user_id=owner.id, expires_at=utcnow() + dt.timedelta(days=1), **facts),
                models.Endpoint(owner_id=owner.id, url=f"https://{new_id()}.example.uz/", secret=""),
            ]
        )  # fmt: skip
        await access.record(session, owner, "bot_created", "bot", bot.id)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_every_box_looks_for_what_was_typed(tmp_path: Path, servers_run: servers.Run, kind: str) -> None:
    """In a name, a title, a note, a file's name: found with the very signs, and nothing else is; odd queries find nothing."""
    with servers_run.database(kind, tmp_path) as url:
        async with open_site(tmp_path, url) as site:
            boss = await site.administrator()
            for name in (SIGNS, DECOY):
                await _everything_called(site, name)
            wrong: list[tuple[object, ...]] = []
            for box in BOXES:
                page = await boss.get(box + quote(SIGNS, safe=""))
                shown = page.visible()
                # The box itself keeps what was typed, in an attribute.
                if page.status != 200 or SIGNS not in shown or DECOY in shown:
                    wrong.append((box, page.status, SIGNS in shown, DECOY in shown))
                for odd in NOTHING:
                    page = await boss.get(box + quote(odd, safe=""))
                    if page.status not in (200, 400) or SIGNS in page.visible() or DECOY in page.visible():
                        wrong.append((box, odd, page.status))
            assert wrong == []
