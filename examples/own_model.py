"""Put a model of your own beside a trained run: the same targets, the same protocol, an honest comparison.

    python examples/own_model.py --run runs/ml-100k --data data/ml-100k --output runs/own-model

Whatever has a name and scores the whole catalogue can be evaluated. This one recommends what others took right after
one of the last three items.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

import flr


class Followers:
    """What was taken right after the last items of a history, the latest counting most.

    Args:
        sequences: All interactions.
        n_items: Size of the catalogue.
    """

    name = "followers"

    def __init__(self, sequences: flr.UserSequences, n_items: int) -> None:
        # Only what training may see: held-out rows would answer the question that is asked.
        seen = np.flatnonzero(sequences.is_seen)
        pairs = seen[:-1][(np.diff(seen) == 1) & (np.diff(sequences.users[seen]) == 0)]
        before, after = sequences.item_index[pairs], sequences.item_index[pairs + 1]
        counts = sparse.csr_matrix((np.ones(len(pairs)), (before, after)), shape=(n_items, n_items))
        self._shares = sparse.diags(1 / np.maximum(counts.sum(1).A1, 1)) @ counts

    def score(self, histories: flr.Histories) -> np.ndarray:
        """Return scores, higher is better, [B, N]."""
        n_items = self._shares.shape[0]
        recent = histories.window(3)
        person = np.repeat(np.arange(len(recent)), recent.lengths)
        age = np.repeat(recent.offsets[1:], recent.lengths) - np.arange(len(recent.item_index))
        read = sparse.csr_matrix((0.5**age, (person, recent.item_index)), shape=(len(recent), n_items))
        scores: np.ndarray = (read @ self._shares).toarray()
        return scores


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a trained run; it is evaluated anew")
    parser.add_argument("--data", type=Path, required=True, help="the prepared folder it was trained on")
    parser.add_argument("--output", type=Path, required=True, help="gets the results of the model of your own")
    chosen = parser.parse_args(arguments)
    flr.evaluate_run(chosen.run, data=chosen.data)

    prepared = flr.load_prepared(chosen.data)
    sequences, n_items = prepared.sequences, len(prepared.items)
    report = flr.evaluate(Followers(sequences, n_items), sequences, n_items)
    flr.save_report(report, chosen.output)

    first, other = flr.compare_folders([chosen.run, chosen.output])
    print(f"NDCG@10 {first.figure.mean:.4f} ({first.name}), {other.figure.mean:.4f} ({other.name})")
    comparison = other.first_less_this
    assert comparison is not None
    gain = comparison.difference
    print(f"difference {gain.mean:+.4f}, 95 % {gain.low:+.4f} to {gain.high:+.4f}, p = {comparison.p_value:.3f}")


if __name__ == "__main__":
    main()
