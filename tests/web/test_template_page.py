"""Writing to a customer who has been silent for more than a day: why not freely, and what is sent instead."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from services import templates
from tests.composition import address
from tests.fakes.graph import FakeGraph, FakeNumber
from tests.services.test_pictures import encoded
from tests.web.panel import Browser, Site, open_site

TOKEN = "EAACANARY_token_on_the_page_0123456789"
SECRET = "CANARY_app_secret_on_the_page_01"
FORM = {"phone_number_id": "100000000000101", "access_token": TOKEN, "app_secret": SECRET}
ASKER = "998900000001"
PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer <<>>\n%%EOF\n"

VISIT: dict[str, Any] = {
    "name": "visit_reminder",
    "language": "uz",
    "status": "APPROVED",
    "category": "UTILITY",
    "parameter_format": "POSITIONAL",
    "components": [
        {"type": "HEADER", "format": "TEXT", "text": "Eslatma: {{1}}", "example": {"header_text": ["Chinor Stom"]}},
        {
            "type": "BODY",
            "text": "Hurmatli {{1}}, sizni {{2}} kuni kutamiz. Savol bo‘lsa, {{1}}, yozing.",
            "example": {"body_text": [["Aziza", "dushanba"]]},
        },
        {"type": "FOOTER", "text": "Chinor Stom"},
        {
            "type": "BUTTONS",
            "buttons": [
                {"type": "QUICK_REPLY", "text": "Boraman"},
                {"type": "URL", "text": "Manzil", "url": "https://chinor.uz/{{1}}", "example": ["https://chinor.uz/a"]},
            ],
        },
    ],
}
NAMED: dict[str, Any] = {
    "name": "order_ready",
    "language": "ru",
    "status": "APPROVED",
    "category": "MARKETING",
    "parameter_format": "NAMED",
    "components": [
        {
            "type": "BODY",
            "text": "Заказ {{order}} готов, {{customer}}!",
            "example": {"body_text_named_params": [{"param_name": "order", "example": "№ 15"}]},
        }
    ],
}
PLAIN: dict[str, Any] = {
    "name": "hello",
    "language": "en",
    "status": "APPROVED",
    "category": "UTILITY",
    "components": [{"type": "BODY", "text": "Hello! <b>Are you there?</b>"}],
}
PICTURE: dict[str, Any] = {
    **PLAIN,
    "name": "with_picture",
    "components": [{"type": "HEADER", "format": "IMAGE"}, *PLAIN["components"]],
}
DOCUMENT: dict[str, Any] = {
    **PLAIN,
    "name": "with_document",
    "components": [{"type": "HEADER", "format": "DOCUMENT"}, {"type": "BODY", "text": "Narxlar, {{1}}"}],
}
COUPON: dict[str, Any] = {
    **PLAIN,
    "name": "coupon",
    "category": "MARKETING",
    "components": [
        *PLAIN["components"],
        {
            "type": "BUTTONS",
            "buttons": [
                {"type": "QUICK_REPLY", "text": "Rahmat"},
                {"type": "COPY_CODE", "text": "Copy", "example": "YOZ25"},
            ],
        },
    ],
}
CODE: dict[str, Any] = {
    "name": "sign_in",
    "language": "uz",
    "status": "APPROVED",
    "category": "AUTHENTICATION",
    "components": [
        {"type": "BODY", "text": "*{{1}}* — tasdiqlash kodingiz.", "add_security_recommendation": True},
        {"type": "FOOTER", "text": "Kod 10 daqiqa amal qiladi.", "code_expiration_minutes": 10},
        {"type": "BUTTONS", "buttons": [{"type": "OTP", "otp_type": "COPY_CODE", "text": "Nusxalash"}]},
    ],
}


def _with_button(kind: str) -> dict[str, Any]:
    button = {"type": kind, "text": "Go"}
    return {**PLAIN, "components": [*PLAIN["components"], {"type": "BUTTONS", "buttons": [button]}]}


REJECTED: dict[str, Any] = {**PLAIN, "name": "rejected_one", "status": "REJECTED"}


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str, graph: FakeGraph) -> AsyncIterator[Site]:
    """The product with Meta's address."""
    async with open_site(tmp_path, sqlite_url, environment={"META_GRAPH_BASE": graph.base_url}) as made:
        yield made


class Silent:
    """A shop on WhatsApp and a customer who wrote two days ago."""

    def __init__(self, site: Site, graph: FakeGraph, number: FakeNumber, browser: Browser, bot: models.Bot) -> None:
        self.site, self.graph, self.number, self.browser, self.bot = site, graph, number, browser, bot
        self.conversation = ""

    @property
    def page(self) -> str:
        return f"/bots/{self.bot.id}/conversations/{self.conversation}"

    @property
    def inbox(self) -> str:
        return f"/inbox/{self.conversation}"

    async def writes(self) -> None:
        """Let the customer write, and wait for the answer."""
        raw = self.graph.body(self.number.message(ASKER, "Salom, ishlaysizmi?"))
        webhook = f"{address(self.site.core)}/whatsapp/webhook"
        sent = len(self.number.sent)
        assert await self.graph.deliver(self.browser.http, webhook, raw, SECRET) == 200
        await self.number.wait_sent(sent + 1)

    async def age(self, hours: float) -> None:
        """Let so much time pass since the customer wrote."""
        async with self.site.core.db.write() as session:
            await session.execute(
                update(models.Conversation).values(last_inbound_at=utcnow() - dt.timedelta(hours=hours))
            )

    async def last(self) -> models.Message:
        """Return the last message of the talk."""
        async with self.site.core.db.read() as session:
            found = await session.scalar(
                select(models.Message)
                .where(models.Message.conversation_id == self.conversation)
                .order_by(models.Message.id.desc())
                .limit(1)
            )
        assert found is not None
        return found

    async def seen(self) -> str:
        return (await self.last()).id

    async def until_status(self, status: str) -> models.Message:
        """Wait until the last message has this status."""
        async with asyncio.timeout(20):
            while (found := await self.last()).status != status:
                await asyncio.sleep(0.02)
        return found


@pytest.fixture
async def silent(site: Site, graph: FakeGraph) -> Silent:
    """A customer who has been silent for two days."""
    number = graph.add_number(
        FORM["phone_number_id"], token=TOKEN, app_secret=SECRET, waba_id="20", display_phone_number="+998 90 123 45 67"
    )
    number.templates = [REJECTED, PICTURE, VISIT, NAMED, PLAIN]
    user = await site.person("Silent", language="en")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    assert (await browser.post(f"/bots/{bot.id}/channels/whatsapp", **FORM)).status == 303
    made = Silent(site, graph, number, browser, bot)
    await made.writes()
    async with site.core.db.read() as session:
        made.conversation = str(await session.scalar(select(models.Conversation.id)))
    await made.age(48)
    return made


async def test_why_not_freely_and_what_instead(silent: Silent) -> None:
    page = await silent.browser.get(silent.inbox)
    assert "More than 24 hours have passed" in page.visible()
    assert f'href="{silent.page}/template"' in page.text and 'name="text"' not in page.text
    # Free text is not tried, whatever a page of before still offers.
    before = len(silent.graph.called("send"))
    assert (await silent.browser.post(silent.inbox, text="Salom")).status == 409
    assert len(silent.graph.called("send")) == before
    listed = await silent.browser.get(f"{silent.page}/template")
    for shown in (
        "visit_reminder",
        "Hurmatli [1], sizni [2] kuni kutamiz.",
        "Заказ [order] готов",
        "with_picture",
    ):
        assert shown in listed.visible(), shown
    assert "rejected_one" not in listed.text and "<b>Are you there?" not in listed.text
    await silent.age(1)
    page = await silent.browser.get(silent.inbox)
    assert "More than 24 hours" not in page.visible() and 'name="text"' in page.text


async def test_a_template_is_filled_in_and_sent_once(silent: Silent) -> None:
    where = f"{silent.page}/template"
    form = await silent.browser.get(f"{where}?name=visit_reminder&language=uz")
    for shown in ("Eslatma: [1]", "Example: Aziza", "Example: dushanba", "Ending of the button’s link", "Boraman"):
        assert shown in form.visible(), shown
    assert "Example: a " in " ".join(form.visible().split()) and "Example: https" not in form.visible()
    given = {"name": "visit_reminder", "language": "uz", "seen": await silent.seen()}
    filled = {"header.1": "bugun", "body.1": "Aziza", "body.2": "seshanba", "button1.1": "karta"}
    # What is missing is said at its place, and what was typed stays.
    refused = await silent.browser.post(where, **given, **(filled | {"body.2": " "}))
    assert refused.status == 400 and "Fill in every place" in refused.visible() and 'value="bugun"' in refused.text
    for _ in range(2):
        done = await silent.browser.post(where, **given, **filled)
        assert done.location == f"{silent.page}?done=template_sent"
    (sent,) = (await silent.number.wait_sent(2))[1:]
    assert sent["type"] == "template" and sent["to"] == ASKER
    assert sent["template"] == {
        "name": "visit_reminder",
        "language": {"code": "uz"},
        "components": [
            {"type": "header", "parameters": [{"type": "text", "text": "bugun"}]},
            {"type": "body", "parameters": [{"type": "text", "text": "Aziza"}, {"type": "text", "text": "seshanba"}]},
            {"type": "button", "sub_type": "url", "index": "1", "parameters": [{"type": "text", "text": "karta"}]},
        ],
    }
    message = await silent.until_status("sent")
    assert message.text == (
        "Eslatma: bugun\n\nHurmatli Aziza, sizni seshanba kuni kutamiz. Savol bo‘lsa, Aziza, yozing.\n\nChinor Stom"
    )
    assert message.author == "operator" and len(silent.number.sent) == 2


async def test_named_places_and_none(silent: Silent) -> None:
    where = f"{silent.page}/template"
    done = await silent.browser.post(
        where, name="order_ready", language="ru", **{"body.order": "№ 7 {{customer}}", "body.customer": "Ali"}
    )
    assert done.status == 303
    assert (await silent.browser.post(where, name="hello", language="en")).status == 303
    named, plain = (await silent.number.wait_sent(3))[1:]
    assert named["template"]["components"][0]["parameters"] == [
        {"type": "text", "text": "№ 7 {{customer}}", "parameter_name": "order"},
        {"type": "text", "text": "Ali", "parameter_name": "customer"},
    ]
    assert plain["template"] == {"name": "hello", "language": {"code": "en"}}


@pytest.mark.parametrize(("code", "said"), [(code, text.msgid) for code, text in templates.REASONS])
async def test_why_a_template_was_not_delivered(silent: Silent, code: str, said: str) -> None:
    silent.graph.fail(int(code), on="send")
    await silent.browser.post(f"{silent.page}/template", name="hello", language="en")
    message = await silent.until_status("failed")
    assert message.error and message.error.startswith(f"{code}:")
    assert said in (await silent.browser.get(silent.inbox)).visible()
    # The number goes on, and nothing is tried again.
    assert len(silent.graph.called("send")) == 2
    async with silent.site.core.db.read() as session:
        status = await session.scalar(select(models.Channel.status).where(models.Channel.kind == "whatsapp"))
    assert status == "active"


async def test_a_template_that_is_gone_meanwhile(silent: Silent) -> None:
    where = f"{silent.page}/template"
    for name in ("rejected_one", "nobody_made_it"):
        refused = await silent.browser.post(where, name=name, language="en")
        assert refused.status == 409 and "cannot be sent any more" in refused.visible(), name
    silent.number.templates = []
    assert "no approved template yet" in (await silent.browser.get(where)).visible()
    silent.graph.answer_raw(502, "<html>", on="templates")
    assert (await silent.browser.get(where)).status == 503
    silent.number.scopes = ("whatsapp_business_messaging",)
    away = await silent.browser.get(where)
    assert away.status == 409 and "whatsapp_business_management" in away.visible()
    assert len(silent.number.sent) == 1


async def test_many_templates_come_in_pages(silent: Silent) -> None:
    silent.number.templates = [{**PLAIN, "name": f"hello_{n:03}"} for n in range(230)]
    listed = await silent.browser.get(f"{silent.page}/template")
    assert listed.text.count("hello_") >= 230 and len(silent.graph.called("templates")) == 3


async def test_anothers_conversation_is_not_there(silent: Silent) -> None:
    other = await silent.site.person("Other", language="en")
    browser = await silent.site.signed_in(other)
    own = await silent.site.bot_of(other)
    for bot in (silent.bot.id, own.id):
        where = f"/bots/{bot}/conversations/{silent.conversation}/template"
        assert (await browser.get(where)).status == 404
        assert (await browser.post(where, name="hello", language="en")).status == 404
    assert len(silent.number.sent) == 1 and not silent.graph.called("templates")


def test_odd_templates_are_read_or_left_out() -> None:
    for odd in (
        {},
        {"name": "x"},
        {"name": "x", "language": "uz", "components": "?"},
        {**PLAIN, "components": [1, {}]},
    ):
        assert templates.read(json.loads(json.dumps(odd))) is None
    # A code for which Meta shows no place has one all the same.
    code = templates.read({**PLAIN, "category": "AUTHENTICATION"})
    assert code is not None and [blank.key for blank in code.blanks] == ["body.1"]
    many = {**PLAIN, "components": [{"type": "BODY", "text": "".join(f"{{{{{n}}}}}" for n in range(11, 0, -1))}]}
    found = templates.read(many)
    assert found is not None and [blank.name for blank in found.blanks] == [str(n) for n in range(1, 12)]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (_with_button("FLOW"), "opens a form"),
        (_with_button("CATALOG"), "WhatsApp catalogue"),
        (_with_button("MPM"), "WhatsApp catalogue"),
        (_with_button("ORDER_DETAILS"), "opens an order"),
        (_with_button("SOMETHING_NEW"), "only a program can fill"),
        ({**PLAIN, "components": [*PLAIN["components"], {"type": "CAROUSEL", "cards": []}]}, "several cards"),
        ({**PLAIN, "components": [*PLAIN["components"], {"type": "LIMITED_TIME_OFFER"}]}, "clock"),
        ({**PLAIN, "components": [{"type": "HEADER", "format": "LOCATION"}, *PLAIN["components"]]}, "on the map"),
        ({**PLAIN, "components": [{"type": "HEADER", "format": ["?"]}, *PLAIN["components"]]}, "only a program"),
    ],
)
async def test_what_cannot_be_sent_from_here_says_why(silent: Silent, told: dict[str, Any], reason: str) -> None:
    silent.number.templates = [told]
    where = f"{silent.page}/template"
    listed = await silent.browser.get(where)
    assert "Cannot be sent from here" in listed.visible() and reason in listed.visible()
    assert "name=hello" not in listed.text
    assert (await silent.browser.post(where, name="hello", language="en")).status == 409
    assert len(silent.number.sent) == 1


async def test_a_template_that_begins_with_a_file(silent: Silent) -> None:
    silent.number.templates = [PICTURE, DOCUMENT]
    where = f"{silent.page}/template"
    form = await silent.browser.get(f"{where}?name=with_document&language=en")
    assert 'type="file"' in form.text and 'accept="application/pdf"' in form.text
    fields = {"name": "with_document", "language": "en", "seen": await silent.seen(), "body.1": "Aziza"}
    # Without a file, with another kind of file, with an empty one and with too large a one nothing is sent.
    for name, data, status in (
        ("", b"", 400),
        ("rasm.png", encoded("PNG"), 400),
        ("narx.pdf", b"", 400),
        ("narx.pdf", b"MZ not a document", 400),
    ):
        refused = await silent.browser.upload_with(where, fields, name, data)
        assert refused.status == status, name
        assert 'value="Aziza"' in refused.text and 'type="file"' in refused.text
    assert not silent.graph.called("upload") and len(silent.number.sent) == 1
    for _ in range(2):
        done = await silent.browser.upload_with(where, fields, "narx.pdf", PDF)
        assert done.location == f"{silent.page}?done=template_sent"
    (sent,) = (await silent.number.wait_sent(2))[1:]
    header, body = sent["template"]["components"]
    part = header["parameters"][0]
    assert (header["type"], part["type"], part["document"]["filename"]) == ("header", "document", "narx.pdf")
    assert silent.graph.media[part["document"]["id"]].content == PDF
    assert body["parameters"] == [{"type": "text", "text": "Aziza"}]
    message = await silent.until_status("sent")
    assert (message.text, message.kind) == ("Narxlar, Aziza", "document")
    assert "narx.pdf" in (await silent.browser.get(silent.inbox)).visible()
    picture = {"name": "with_picture", "language": "en", "seen": await silent.seen()}
    assert (await silent.browser.upload_with(where, picture, "rasm.png", encoded("PNG"))).status == 303
    shown = (await silent.number.wait_sent(3))[2]["template"]["components"]
    assert [part["parameters"][0]["type"] for part in shown] == ["image"]
    assert len(silent.number.sent) == 3


async def test_codes_that_a_button_copies(silent: Silent) -> None:
    silent.number.templates = [COUPON, CODE]
    where = f"{silent.page}/template"
    assert "Example: YOZ25" in (await silent.browser.get(f"{where}?name=coupon&language=en")).visible()
    long = await silent.browser.post(where, name="coupon", language="en", **{"coupon1.code": "x" * 16})
    assert long.status == 400 and "at most 15" in long.visible()
    assert (await silent.browser.post(where, name="coupon", language="en", **{"coupon1.code": "QISH10"})).status == 303
    form = await silent.browser.get(f"{where}?name=sign_in&language=uz")
    assert "The code" in form.visible() and "Nusxalash" in form.visible()
    assert (await silent.browser.post(where, name="sign_in", language="uz", **{"body.1": "480 112"})).status == 303
    coupon, code = (await silent.number.wait_sent(3))[1:]
    assert coupon["template"]["components"] == [
        {
            "type": "button",
            "sub_type": "copy_code",
            "index": "1",
            "parameters": [{"type": "coupon_code", "coupon_code": "QISH10"}],
        }
    ]
    told = [{"type": "text", "text": "480 112"}]
    assert code["template"]["components"] == [
        {"type": "body", "parameters": told},
        {"type": "button", "sub_type": "url", "index": "0", "parameters": told},
    ]
    assert "*480 112*" in (await silent.until_status("sent")).text


async def test_sign_in_codes_go_to_visible_numbers_only(silent: Silent) -> None:
    silent.number.templates = [CODE]
    async with silent.site.core.db.write() as session:
        await session.execute(update(models.Contact).values(external_id="UZ.13491208655302741918"))
    listed = await silent.browser.get(f"{silent.page}/template")
    assert "phone number is hidden" in listed.visible()
    refused = await silent.browser.post(f"{silent.page}/template", name="sign_in", language="uz", **{"body.1": "1"})
    assert refused.status == 409 and len(silent.number.sent) == 1
