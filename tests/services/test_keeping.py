"""What was counted is kept for a short time."""

from __future__ import annotations

from services.keeping import Kept


def test_the_latest_are_kept_and_only_for_a_time() -> None:
    kept: Kept[str] = Kept(60, 2)
    for key in ("a", "b", "a", "c"):
        kept.put(key, key.upper())
    assert [kept.get(key) for key in ("a", "b", "c", "d")] == ["A", None, "C", None]
    gone: Kept[str] = Kept(0, 2)
    gone.put("a", "A")
    assert gone.get("a") is None
