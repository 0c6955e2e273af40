"""A rival of your own: as many trials as the built-in ones, the same rows, the same tests, in studies too.

    python examples/own_rows.py --output runs/own-rows
    python examples/own_baseline.py --run runs/own-rows/run --data runs/own-rows/data --output runs/rivals

A study names it like any other (``baselines: [item-knn, item-vectors]``); its script registers it at the top level, as
here, and calls ``flr.run_study(flr.load_study("study.yaml"), "studies/mine")`` below ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.linalg import svds

import flr
from flr.records import FloatArray, Histories, UserSequences


class ItemVectors:
    """Likes items whose vectors are near those of the last ones taken; a singular value decomposition makes them."""

    name = "item-vectors"

    def __init__(self, vectors: FloatArray, decay: float) -> None:
        self.vectors, self.decay = vectors, decay

    @classmethod
    def fit(cls, sequences: UserSequences, n_items: int, *, seed: int, rank: int, decay: float) -> Self:
        """Decompose who took what in the rows that training may see; test rows are not among those given."""
        places = (sequences.users[sequences.is_seen], sequences.item_index[sequences.is_seen])
        taken = coo_array((np.ones(len(places[0])), places), shape=(sequences.n_users, n_items))
        rank = min(rank, *(size - 1 for size in taken.shape))
        _, lengths, vectors = svds(taken.tocsr(), k=rank, rng=np.random.default_rng(seed))
        return cls((vectors * lengths[:, None]).T, decay)

    @property
    def n_weights(self) -> int:
        """What a report shows as its weights."""
        return self.vectors.size

    def score(self, histories: Histories) -> FloatArray:
        """Return scores of all items, [B, N]."""
        rows = np.repeat(np.arange(len(histories)), histories.lengths)
        age = histories.offsets[1:][rows] - 1 - np.arange(len(rows))
        person = np.zeros((len(histories), self.vectors.shape[1]))
        np.add.at(person, rows, self.decay ** age[:, None] * self.vectors[histories.item_index])
        return person @ self.vectors.T

    def save(self, folder: Path) -> None:
        """Write it into its own folder."""
        np.savez(folder / "vectors.npz", vectors=self.vectors, decay=self.decay)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return what `save` wrote."""
        with np.load(folder / "vectors.npz") as saved:
            return cls(saved["vectors"], float(saved["decay"]))


flr.register_baseline(
    "item-vectors",
    ItemVectors,
    settings={"rank": 16, "decay": 0.8},
    grid={"rank": [4, 16, 64], "decay": [0.5, 0.8, 1.0]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a finished run to compare with")
    parser.add_argument("--data", type=Path, required=True, help="the prepared folder it was trained on")
    parser.add_argument("--output", type=Path, required=True, help="gets a folder for each baseline")
    chosen = parser.parse_args(arguments)
    flr.evaluate_run(chosen.run)
    results = flr.run_baselines(chosen.data, chosen.output, only=["item-knn", "item-vectors"])
    for result in results:
        print(f"{result.name}: NDCG@10 {result.test.metrics['ndcg@10']:.4f}, best of {result.n_trials} trials")
    for model in flr.compare_folders([chosen.run, *(chosen.output / result.name for result in results)]):
        if model.first_less_this is not None:
            print(f"the run is better by {model.first_less_this.difference.mean:+.4f} than {model.name}")


if __name__ == "__main__":
    main()
