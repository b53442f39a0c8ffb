"""``ADMIN_EMAIL`` makes an administrator, and never of whoever had registered with that address before."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.base import utcnow
from db.engine import Database
from services import accounts
from tests.composition import make_settings
from tests.leaks import PASSWORD


@pytest.mark.parametrize("confirmed", [False, True])
async def test_an_account_that_was_there_before(tmp_path: Path, sqlite_url: str, confirmed: bool) -> None:
    """Its password, Telegram, sessions and tokens go, unless the address was shown to be theirs."""
    settings = make_settings(tmp_path, environment={"ADMIN_EMAIL": "boss@example.uz", "ADMIN_PASSWORD": PASSWORD})
    db = Database(sqlite_url, pool_size=2)
    try:
        hashed = await accounts.hash_password("parol-boshqaniki-1")
        async with db.write() as session:
            user = await accounts.register_owner(
                session, email="boss@example.uz", telegram_id=5, password_hash=hashed, phone="+998901112233"
            )
            user.email_confirmed_at = utcnow() if confirmed else None
            value = await accounts.open_session(session, user, "x")
            _, token = await accounts.new_api_token(session, user, "x")
            link = await accounts.login_link(session, user)
        async with db.write() as session:
            admin = await accounts.ensure_admin(session, settings)
        assert (admin.id, admin.role) == (user.id, "admin")
        assert await accounts.verify_password(admin, "parol-boshqaniki-1") is confirmed
        assert await accounts.verify_password(admin, PASSWORD) is not confirmed
        async with db.read() as session:
            assert (await accounts.session_user(session, value) is not None) is confirmed
            assert (await accounts.token_user(session, token) is not None) is confirmed
            assert (await accounts.by_telegram(session, 5) is not None) is confirmed
            if confirmed:
                await accounts.peek_login_link(session, link)
        # The next start changes nothing.
        async with db.write() as session:
            again = await accounts.ensure_admin(session, settings)
        assert again.password_hash == admin.password_hash
    finally:
        await db.close()
