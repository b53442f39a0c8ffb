"""The texts of letters in the administrator's hands: every kind in every language, checked, shown before it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import pytest
from sqlalchemy import func, select

from db import models
from services import letters, notices
from services.i18n import LANGUAGES
from services.letters import rendering, texts
from tests.fakes.smtp import FakeMail
from tests.letters.office import PUBLIC, Office
from tests.web.panel import Browser, Site, open_site

PATH = "/admin/texts/offer_night/ru"
GOOD = {"subject": "Скидка {percent} %", "text": "Здравствуйте!\n\nКод: {code}", "telegram": "Код: {code}"}


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Site]:
    async with open_site(tmp_path, sqlite_url) as opened:
        yield opened


@pytest.fixture
async def admin(site: Site) -> Browser:
    user = await site.person("Karim", language="en")
    async with site.core.db.write() as session:
        (await session.get_one(models.User, user.id)).role = "admin"
    return await site.signed_in(user)


async def _kept(site: Site) -> int:
    async with site.core.db.read() as session:
        return int(await session.scalar(select(func.count()).select_from(models.LetterText)) or 0)


async def test_every_letter_in_every_language_can_be_shown(site: Site, admin: Browser) -> None:
    page = await admin.get("/admin/texts")
    assert page.status == 200
    for kind in letters.KINDS:
        assert f"/admin/texts/{kind}/uz" in page.text
        for language in texts.LANGUAGES:
            assert (await admin.get(f"/admin/texts/{kind}/{language}")).status == 200
            preview = await admin.get(f"/admin/texts/{kind}/{language}/preview")
            assert preview.status == 200
            assert not [
                place for place in rendering.placeholders(letters.KINDS[kind]) if f"{{{place}}}" in preview.text
            ]
            assert "sandbox" in preview.headers["Content-Security-Policy"]
            assert "script" not in preview.text


def test_no_letter_leaves_a_placeholder_open() -> None:
    for name, kind in letters.KINDS.items():
        for language in LANGUAGES:
            written = rendering.write_out(
                kind, language, dict(kind.example), own={}, name="Aziza", public_url=PUBLIC, brand="BotFactory"
            )
            for text in (written.subject, written.text, written.telegram or ""):
                assert "{" not in text, f"{name} in {language}: {text}"
            assert written.subject
            assert len(written.telegram or "") < 1000


def test_what_is_left_out_of_a_letter_leaves_no_hole() -> None:
    kind = letters.KINDS["plan_taken"]
    written = rendering.write_out(
        kind, "uz", {"answer": "", "path": "/billing"}, own={}, name="Aziza", public_url=PUBLIC, brand="BotFactory"
    )
    assert "\n\n\n" not in written.text
    assert written.telegram and "\n\n\n" not in written.telegram


async def test_own_words_are_kept_shown_and_put_back(site: Site, admin: Browser) -> None:
    answer = await admin.post(PATH, **GOOD)
    assert answer.location.startswith(PATH)
    assert await _kept(site) == 3
    assert "Скидка" in unescape((await admin.get(PATH)).text)
    assert "Скидка 10 %" in unescape((await admin.get(f"{PATH}/preview")).text)
    assert (await admin.get("/admin/texts")).text.count("– changed") == 1
    await admin.post(f"{PATH}/reset")
    assert "– changed" not in (await admin.get("/admin/texts")).text
    assert await _kept(site) == 0
    async with site.core.db.read() as session:
        actions = set(await session.scalars(select(models.AuditLog.action)))
    assert {"letter_text_changed", "letter_text_reset"} <= actions


async def test_the_built_in_words_are_not_kept_as_own(site: Site, admin: Browser) -> None:
    async with site.core.db.read() as session:
        built_in = {part.name: part.words for part in await texts.parts(session, "offer_night", "ru")}
    await admin.post(PATH, **{**built_in, "subject": "Своя тема"})
    assert await _kept(site) == 1
    await admin.post(PATH, **built_in)
    assert await _kept(site) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": "Код: {cupon}"}, "This letter does not know {cupon}. It knows: {name}, {code}, {percent}"),
        ({"subject": ""}, "This cannot be empty"),
        ({"subject": "x" * 151}, "at most 150 characters"),
        ({"text": "x" * 5001}, "at most 5000 characters"),
        ({"telegram": "{code"}, "A brace stands alone"),
        ({"telegram": "{__class__.x}"}, "A brace stands alone"),
    ],
)
async def test_what_cannot_be_sent_is_refused_with_the_reason(
    site: Site, admin: Browser, change: dict[str, str], said: str
) -> None:
    page = await admin.post(PATH, **{**GOOD, **change})
    assert page.status == 400
    assert said in page.visible()
    assert "Скидка" in unescape(page.text) or "subject" in change
    assert await _kept(site) == 0
    preview = await admin.post(f"{PATH}/preview", **{**GOOD, **change})
    assert preview.status == 400
    assert said in unescape(preview.text)


@pytest.mark.parametrize(
    ("letter", "place"),
    [("banned", "reason"), ("join", "code"), ("from_administrator", "message"), ("announcement", "text")],
)
async def test_what_a_letter_is_sent_for_cannot_be_left_out(
    site: Site, admin: Browser, letter: str, place: str
) -> None:
    """A code that nothing else brings, and what somebody wrote to be read. A coupon comes with the button too."""
    path = f"/admin/texts/{letter}/ru"
    page = await admin.post(path, subject="Тема", text="Здравствуйте!", telegram="Здравствуйте!")
    assert page.status == 400 and f"{{{place}}} cannot be left out" in page.visible()
    assert await _kept(site) == 0
    assert (await admin.post(path, subject="Тема", text=f"{{{place}}}!", telegram=f"{{{place}}}!")).status == 303
    assert (await admin.post(PATH, **{**GOOD, "telegram": "Скидка"})).status == 303


async def test_two_administrators_do_not_overwrite_each_other(site: Site, admin: Browser) -> None:
    other = await site.administrator("Sherik")

    async def seen(browser: Browser) -> str:
        return str((await browser.get(PATH)).text.partition('name="seen" value="')[2][:16])

    old = await seen(admin)
    await other.get(PATH)
    assert (await other.post(PATH, **{**GOOD, "subject": "Их тема"}, seen=old)).status == 303
    page = await admin.post(PATH, **GOOD, seen=old)
    assert page.status == 409 and "Another administrator has changed these texts" in page.visible()
    assert GOOD["subject"] in page.text and "Их тема" in (await admin.get(f"{PATH}/preview")).text
    assert (await admin.post(PATH, **GOOD, seen=await seen(admin))).status == 303
    assert "Их тема" not in (await admin.get(PATH)).text


async def test_every_notice_has_a_text_that_can_be_shown(admin: Browser) -> None:
    page = await admin.get("/admin/texts/notices")
    assert page.status == 200 and "{" not in page.visible().partition("Texts of notices")[2]
    for kind in notices.TEXTS:
        assert f"/admin/texts/notices/{kind}/uz" in page.text
        one = await admin.get(f"/admin/texts/notices/{kind}/en")
        assert one.status == 200 and "{" not in one.visible().rpartition("Preview")[2]


async def test_own_words_of_a_notice_reach_the_owner(site: Site, admin: Browser) -> None:
    """In the panel at once, in either script; a broken text is refused with what was typed; what is built in comes back."""
    owner, path = await site.person("Dilnoza", language="uz"), "/admin/texts/notices/plan_bots"
    bot = await site.bot_of(owner, "Chinor")
    async with site.core.db.write() as session:
        params = {"bot": "Chinor", "plan": {"words": {"uz": "Oddiy", "ru": "Базовый", "en": "Basic"}}}
        session.add(models.Notice(user_id=owner.id, bot_id=bot.id, kind="plan_bots", key="x", params=params))
    browser = await site.signed_in(owner)
    before = (await browser.get("/dashboard")).visible()
    for text, said in (
        ("Bot {boot}", "This notice does not know {boot}. It knows: {bot}, {plan}."),
        ("", "This cannot be empty"),
        ("{bot", "A brace stands alone"),
        ("x" * 1001, "at most 1000 characters"),
    ):
        page = await admin.post(f"{path}/uz", text=text)
        assert page.status == 400 and said in page.visible() and text[:40] in page.text
    look = await admin.post(f"{path}/uz", text="Salom <b>{bot}</b> jim", look="1")
    assert look.status == 200 and "Salom <b>Texno Savdo</b> jim" in look.visible() and await _kept(site) == 0
    old = look.text.partition('name="seen" value="')[2][:16]
    assert (
        await admin.post(f"{path}/uz", text="“{bot}” jim turibdi: “{plan}” tarifi.\n Yozing!", seen=old)
    ).status == 303
    assert (await admin.post(f"{path}/uz", text="Boshqa {bot}", seen=old)).status == 409
    told = (await browser.get("/dashboard")).visible()
    assert "“Chinor” jim turibdi: “Oddiy” tarifi. Yozing!" in told and told != before
    async with site.core.db.write() as session:
        (await session.get_one(models.User, owner.id)).language = "uz-Cyrl"
    assert (
        "жим турибди: “Оддий” тарифи. Ёзинг!"
        in (await browser.get("/notices?at=/dashboard", **{"HX-Request": "true"})).visible()
    )
    audit = (await admin.get("/admin/audit?action=letter_text_changed")).visible()
    assert "“Texno Savdo” is silent" in audit
    assert (
        "– changed" in (await admin.get("/admin/texts/notices")).text
        and "– changed" not in (await admin.get("/admin/texts")).text
    )
    assert (await admin.post(f"{path}/uz/reset")).status == 303 and await _kept(site) == 0
    assert "jim turibdi" not in (await browser.get("/dashboard")).visible()
    reason = await admin.post("/admin/texts/notices/view_asked/ru", text="Разрешите?")
    assert reason.status == 400 and "{reason} cannot be left out" in reason.visible()
    braces = await admin.post("/admin/texts/notices/team_whole/ru", text="Команда {bot}")
    assert braces.status == 400 and "Nothing is put in here by itself" in braces.visible()
    for address in (f"{path}/uz-Cyrl", f"{path}/xx", "/admin/texts/notices/nothing/uz"):
        assert (await admin.get(address)).status == 404
    assert (await browser.get("/admin/texts/notices")).status == 404


def test_no_value_acts_in_any_letter() -> None:
    """Whatever a name, a title, a reason holds: no tag, no template, no format, no header of a letter in any language."""
    hostile = "\"'><img src=x>{{7*7}}{0.__class__}{name}%(a)s${x}\r\nBcc: a@b.uz"
    for name, kind in letters.KINDS.items():
        for language in LANGUAGES:
            params = {
                key: value if key == "path" or not isinstance(value, str) else hostile
                for key, value in dict(kind.example).items()
            }
            written = rendering.write_out(
                kind,
                language,
                params,
                own={},
                name=hostile,
                public_url=PUBLIC,
                brand="BotFactory",
                telegram_beside=True,
            )
            where = f"{name} in {language}"
            assert "<img src=x" not in written.html and "&lt;img src=x&gt;" in written.html, where
            assert len(written.subject.splitlines()) == 1, where
            for text in (written.subject, written.text, written.html, written.telegram or ""):
                assert "49{" not in text and "<class" not in text, where
            assert hostile.partition("\r")[0] in written.text, where


async def test_the_preview_of_what_is_typed_is_not_kept(site: Site, admin: Browser) -> None:
    page = await admin.post(f"{PATH}/preview", **{**GOOD, "text": "<script>alert(1)</script> {name}"})
    assert page.status == 200
    assert "&lt;script&gt;" in page.text
    assert "Karim" in page.text
    assert await _kept(site) == 0


async def test_nobody_else_finds_these_pages(site: Site) -> None:
    owner = await site.signed_in(await site.person("Owner", language="en"))
    for path in ("/admin/texts", PATH, f"{PATH}/preview"):
        assert (await owner.get(path)).status == 404
    for path in (PATH, f"{PATH}/preview", f"{PATH}/reset"):
        assert (await owner.post(path, **GOOD)).status == 404


@pytest.mark.parametrize(
    "path", ["/admin/texts/nothing/ru", "/admin/texts/offer_night/uz-Cyrl", "/admin/texts/offer_night/xx"]
)
async def test_what_is_no_letter(admin: Browser, path: str) -> None:
    assert (await admin.get(path)).status == 404
    assert (await admin.post(path, **GOOD)).status == 404


async def test_a_value_is_never_a_template(desk: Office, mail: FakeMail) -> None:
    """What a person is called fills a place and nothing else."""
    person = await desk.person()
    await desk.change(person, full_name="{number} {{ 7*7 }} <i>")
    await desk.write(person, "receipt", params={"number": "{name} %s"})
    await desk.post.send_mail()
    plain = mail.letters[0].part("plain")
    assert "Hello, {number} {{ 7*7 }} <i>!" in plain
    assert "Paid: {name} %s." in plain
    assert "&lt;i&gt;" in mail.letters[0].part("html")
