"""A reasoner of your own, with its own gate and its own loss: trained, saved, loaded and compared as any other.

    python examples/own_rows.py --output runs/own-rows
    python examples/own_reasoner.py --run runs/own-rows/run --data runs/own-rows/data --output runs/sparse-gate

Whoever loads such a model calls `flr.register_reasoner` first. A study's script does so at its top level, as here, and
names the kind in a variant: ``settings: {reasoner.kind: sparse_gate}``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

import flr
from flr.reasoner.factors import MultiFactorAttention
from flr.records import Thought


class SparseGate(MultiFactorAttention):
    """Listens to no factor that has less than half of an even share, and likes gates that do not need to be cut."""

    def gates(self, factor: Tensor, state: Tensor) -> Tensor:
        """Return the gates, small ones cut away, [B, P, K]."""
        gates = super().gates(factor, state)
        kept = gates * (gates > 0.5 / self.n_factors)
        return kept / kept.sum(-1, keepdim=True)

    def regularizers(self, thought: Thought, n_readable: Tensor) -> dict[str, Tensor]:
        """Return the usual losses and how far gates are from even, a hundredth of it, [B, P] each."""
        evenness = (thought.gates - 1 / self.n_factors).abs().sum(-1).mean(0)
        return {**super().regularizers(thought, n_readable), "evenness": 0.01 * evenness}


flr.register_reasoner("sparse_gate", SparseGate)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a finished run to compare with")
    parser.add_argument("--data", type=Path, required=True, help="the prepared folder it was trained on")
    parser.add_argument("--output", type=Path, required=True, help="gets the run")
    chosen = parser.parse_args(arguments)
    config = flr.load_config(chosen.run / "config.yaml", ["reasoner.kind=sparse_gate"])
    flr.train_run(config, chosen.data, chosen.output)
    for run in (chosen.run, chosen.output):
        flr.evaluate_run(run)
    _, ours = flr.compare_folders([chosen.run, chosen.output])
    assert ours.first_less_this is not None
    print(f"NDCG@10 {ours.figure.mean:.4f}, the other has {ours.first_less_this.difference.mean:+.4f}")

    thought = flr.Recommender.load(chosen.output).think(flr.Histories.of([[0, 4, 1]])).thought
    assert thought is not None
    print("gates of the last step after three films:", thought.gates[-1, 0, 0].numpy().round(3))


if __name__ == "__main__":
    main()
