"""A short form of the soak in ``bench``: faults at random under load, then the books must balance."""

from __future__ import annotations

from pathlib import Path

from bench.soak import soak


async def test_short_soak(tmp_path: Path) -> None:
    report = await soak(4, folder=tmp_path, between_faults_s=(0.5, 1.0))
    assert not report.problems, f"seed {report.seed}: {report.problems}"
    assert report.delivered > 0
