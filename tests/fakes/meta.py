"""What the tests connect on Meta's networks: one number, one account, and the hosts they are at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.fakes.graph import FakeGraph, FakeNumber
from tests.fakes.instagram import FakeAccount, FakeInstagram

SECRET = "meta-app-secret-for-tests-0001"
VERIFY = "verify-me-01"

WHATSAPP_TOKEN = "EAACANARY_whatsapp_token_not_real_0123456789"
NUMBER, ABOVE = "100000000000101", "200000000000201"
WHATSAPP_ASKER = "998900000001"

INSTAGRAM_TOKEN = "IGAACANARY_instagram_token_not_real_0123456789"
ACCOUNT, PAGE = "17840000000000001", "300000000000301"
INSTAGRAM_ASKER = "900000000000001"


def add_number(graph: FakeGraph, **changes: Any) -> FakeNumber:
    """Return the number that the tests connect."""
    facts: dict[str, Any] = {
        "token": WHATSAPP_TOKEN,
        "app_secret": SECRET,
        "waba_id": ABOVE,
        "display_phone_number": "+998 00 000 01 01",
    }
    return graph.add_number(NUMBER, **(facts | changes))


@dataclass
class Meta:
    """Meta's two hosts of Instagram."""

    own: FakeInstagram
    pages: FakeInstagram

    @property
    def environment(self) -> dict[str, str]:
        """What leads the product there."""
        return {"INSTAGRAM_GRAPH_BASE": self.own.base_url, "META_GRAPH_BASE": self.pages.base_url}

    def add(self, page: str = "", **changes: Any) -> FakeAccount:
        """Make the account that the tests connect; with a ``page`` behind that."""
        facts: dict[str, Any] = {"token": INSTAGRAM_TOKEN, "app_secret": SECRET, "page_id": page}
        return (self.pages if page else self.own).add_account(changes.pop("account_id", ACCOUNT), **(facts | changes))
