"""Money that goes back through Click: a durable job for each refund, until Click has answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import accounts, notices
from services.errors import Permanent, Temporary
from services.jobs import TryLater
from services.payments import ledger
from services.payments.click_api import ClickApi

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

_AGAIN_S = 300.0


async def reverse_click(core: Core, payload: Mapping[str, Any]) -> None:
    """Give the money of a refunded payment back; where Click refuses, the administrators hear of it."""
    secrets, number = core.settings.secrets, int(payload["transaction"])
    async with core.db.read() as session:
        row = await session.get(models.PaymentTransaction, number)
    if row is None or row.state != "performed":
        return
    if not (secrets.click_service_id and secrets.click_merchant_user_id and secrets.click_secret_key):
        await _note(core, number, "the keys of Click are gone")
        return
    api = ClickApi(
        core.http,
        core.settings.payments.click_api,
        secrets.click_service_id,
        secrets.click_merchant_user_id,
        secrets.click_secret_key.get_secret_value(),
    )
    try:
        await api.reverse(str(row.details.get("paydoc_id") or ""))
    except Temporary as error:
        log.warning("reversal_postponed", transaction=number, reason=str(error))
        raise TryLater(_AGAIN_S) from None
    except Permanent as error:
        await _note(core, number, str(error))
        return
    await _note(core, number, "")


async def _note(core: Core, number: int, refusal: str) -> None:
    """Keep what Click has answered."""
    async with core.db.write() as session:
        row = await ledger.reversed_by_us(session, number, now=core.now(), refusal=refusal)
        if row is not None and refusal:
            await _alarm(session, row, refusal)
    core.bell.ring("notices")


async def _alarm(session: AsyncSession, payment: models.Payment, refusal: str) -> None:
    said = {"number": payment.number, "reason": refusal}
    for user_id in await accounts.administrators(session):
        await notices.open_notice(session, user_id, "click_not_reversed", key=f"reversal:{payment.id}", params=said)
