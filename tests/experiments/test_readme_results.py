"""The tables of the README say what the committed studies measured."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
#: Head of each table -> the study, and its columns after the name and the seeds.
TABLES = {
    "| MovieLens-100K, leave-one-out": ("movielens-100k", ("ndcg@10", "hr@10")),
    "| Amazon CDs, the official rows": ("cds2015", ("hr@5", "ndcg@10")),
}
NAMES = {
    "popularity": "popularity",
    "last-item Markov": "last-item-markov",
    "item-kNN, recency-weighted": "item-knn",
    "EASE, recency-weighted": "ease",
    "transitions: what followed each item, by age": "transitions",
    "the same, and flr's assistant: no language model": "assisted-transitions",
    "SASRec": "sasrec",
    "GRU4Rec": "gru4rec",
    "Caser": "caser",
    "BERT4Rec": "bert4rec",
    "AlphaRec (titles read by SmolLM2-135M)": "alpharec",
    "**flr, K = 4**": "flr",
    "flr, K = 1 (single vector)": "single vector",
    "flr without regularisers": "no regularisers",
    "flr without gates": "no gate",
    "flr with stage two (GRPO)": "flr with stage two",
    "flr without its assistant": "no assistant",
    "flr, K = 1, without its assistant (beside the row above)": "single vector, no assistant",
    "flr without a thought, memory and assistant (titles alone)": "no thought",
    "D3: titles alone, found by a beam, and a text-free guide": "D3",
    "flr without memory and assistant (the published method)": "no memory",
    "flr, K = 1, without memory and assistant (LatentR3; beside the row above)": "single vector, no memory",
}


def shown(value: float, deviation: float | None) -> str:
    spread = "" if deviation is None or deviation < 5e-5 else f" ({deviation:.4f})".replace("(0", "(")
    return f"{value:.4f}".lstrip("0") + spread


def shown_difference(row: dict[str, float]) -> tuple[str, str]:
    if row["difference"] is None:
        return "", ""
    p_value = row["p (Holm)"]
    return f"{row['difference']:+.4f}".replace("0.", ".", 1), "< .001" if p_value < 0.001 else f"{p_value:.3f}".lstrip(
        "0"
    )


@pytest.mark.parametrize("head", TABLES)
def test_the_readme_shows_every_model_of_the_study_as_it_was_measured(head: str) -> None:
    study, columns = TABLES[head]
    measured = {row["model"]: row for row in pl.read_csv(ROOT / "docs/studies" / study / "results.csv").to_dicts()}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index(head) :].split("\n\n")[0].splitlines()[2:]
    told = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    expected = []
    for label, model in NAMES.items():
        if model in measured:
            row = measured[model]
            figures = [shown(row[name], row[f"{name} sd"]) for name in columns]
            expected.append([label, str(row["seeds"]), *figures, *shown_difference(row)])
    assert len(expected) == len(measured), "a model of the study has no name here"
    assert [row for row in told if not row[0].startswith("published")] == expected
