"""Print what lexical search reaches: recall, refusals and times. ``python -m bench.retrieval [--wrong]``."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from services.knowledge.analysis import analyze_question, lexicon
from services.knowledge.ranking import Ranking
from tests.services.knowledge.cutting import RETRIEVAL, Base, is_right, load, questions

Row = tuple[dict[str, Any], int, Ranking]


def run(name: str, asked: list[dict[str, Any]], folder: Path, show_wrong: bool) -> list[Row]:
    """Search every question, print recall by relation and kind, return (question, rank of the right passage, result)."""
    bases: dict[str, Base] = {}
    start = time.process_time()
    for question in asked:
        tenant = question["tenant"]
        if tenant not in bases:
            bases[tenant] = load(folder / tenant)
    took = time.process_time() - start
    count = sum(len(b.passages) for b in bases.values())
    print(f"\n{name}: {len(bases)} bases, {count} passages, indexed in {took * 1000 / count:.2f} ms a passage")
    rows: list[Row] = []
    spent = []
    for question in asked:
        base = bases[question["tenant"]]
        start = time.perf_counter()
        ranking = base.index.search(analyze_question(question["question"]))
        spent.append(time.perf_counter() - start)
        rank = 0
        if question["answerable"]:
            places = [i for i, hit in enumerate(ranking.hits, 1) if is_right(base.passages[hit.chunk_id], question)]
            rank = places[0] if places else 0
            if show_wrong and rank == 0:
                print("  missed:", question["id"], question["relation"], question["question"])
        rows.append((question, rank, ranking))
    for field in ("relation", "kind"):
        groups: dict[str, list[int]] = defaultdict(list)
        for question, rank, _ in rows:
            if question["answerable"]:
                label = question[field].partition(":")[0]
                groups[label].append(rank)
                if field == "relation":
                    groups["ALL"].append(rank)
        for label, ranks in sorted(groups.items()):
            first = sum(r == 1 for r in ranks) / len(ranks)
            five = sum(r > 0 for r in ranks) / len(ranks)
            mrr = sum(1 / r for r in ranks if r) / len(ranks)
            print(f"  {field} {label:12} n={len(ranks):3}  r@1 {first:.3f}  r@5 {five:.3f}  mrr {mrr:.3f}")
    spent.sort()
    print(f"  question: mean {sum(spent) / len(spent) * 1e3:.2f} ms, p99 {spent[int(len(spent) * 0.99)] * 1e3:.2f} ms")
    return rows


def refusals(rows: list[Row]) -> None:
    """Print how well "not there" is told."""
    good = [r for r in rows if r[0]["answerable"]]
    bad = [r for r in rows if not r[0]["answerable"]]
    refused = sum(not r.found for _, _, r in bad) / len(bad)
    wrongly = sum(not r.found for _, _, r in good) / len(good)
    pairs = [
        (a[2].confidence > b[2].confidence) + 0.5 * (a[2].confidence == b[2].confidence) for a in good for b in bad
    ]
    print(f"  unanswerable refused {refused:.1%}, answerable wrongly refused {wrongly:.1%}")
    print(f"  AUROC of the confidence {sum(pairs) / len(pairs):.3f}")
    limit = sorted(r.confidence for _, _, r in good)[int(0.1 * len(good))]
    print(
        f"  at 10 % wrongly refused: {sum(r.confidence < limit for _, _, r in bad) / len(bad):.1%} (limit {limit:.3f})"
    )


def main() -> None:
    """Run both benchmarks."""
    show = "--wrong" in sys.argv
    start = time.perf_counter()
    lexicon()
    print(f"lexicon read in {(time.perf_counter() - start) * 1e3:.0f} ms")
    refusals(run("six businesses", questions(RETRIEVAL / "questions_dev.jsonl"), RETRIEVAL / "kb", show))
    xquad = RETRIEVAL / "xquad_dev"
    run("XQuAD", questions(xquad / "questions.jsonl"), xquad / "kb", False)


if __name__ == "__main__":
    main()
