"""A short form of the soak in ``bench``: faults at random under load, then the books must balance."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.soak import soak


# The programs that it starts need long on a machine with much else to do.
@pytest.mark.timeout(300)
async def test_short_soak(tmp_path: Path) -> None:
    report = await soak(20, folder=tmp_path)
    assert not report.problems, f"seed {report.seed}: {report.problems}"
    assert report.delivered > 0
