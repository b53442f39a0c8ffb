"""Letters about plans, payments, requests and referrals."""

from __future__ import annotations

from collections.abc import Mapping

from services.letters.base import Kind

KINDS: Mapping[str, Kind] = {}
