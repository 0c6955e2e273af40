"""How fast do networks learn beside the naive twin, which keeps the scores of all items for all states of a batch?

    python -m benchmarks.networks                 # the networks' defaults on MovieLens-100K
    python -m benchmarks.networks --quick

Both take the same steps on the same batches, by turns, from the same weights.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch.nn import functional

from benchmarks.worlds import movielens
from flr.baselines.sequential import build_network
from flr.baselines.settings import NetworkSettings
from flr.seeding import generator
from flr.sequential.fitting import cross_entropy
from flr.sequential.networks import SequenceNetwork
from flr.sequential.windows import SequenceBatch, TrainingWindows


def main() -> None:
    arguments, settings, prepared = _arguments(), NetworkSettings(), movielens()
    n_items = prepared.items.height
    windows = TrainingWindows(prepared.sequences, n_items, settings.window)
    for name in ("gru4rec", "sasrec", "caser", "bert4rec"):
        torch.manual_seed(0)
        network = build_network(name, n_items, settings).train()
        share = settings.mask_share if network.is_cloze else None
        batches = list(windows.epoch(generator(0, "benchmark"), settings.batch_targets, share))[: arguments.steps]
        seconds = np.array(
            [[_step(network, batch, is_naive=is_naive) for is_naive in (False, True)] for batch in batches]
        )
        ours, naive = np.median(seconds[1:], axis=0) * 1e3
        print(f"{name}: {ours:.0f} ms a step, naive twin {naive:.0f} ms, ratio {naive / ours:.2f}")


def _step(network: SequenceNetwork, batch: SequenceBatch, *, is_naive: bool) -> float:
    """Return the seconds of one forward and backward."""
    started = time.perf_counter()
    asked = batch.targets >= 0
    states, targets = network(batch.items)[asked], batch.targets[asked]
    if is_naive:
        loss = functional.cross_entropy(network.logits(states), targets)
    else:
        loss = cross_entropy(network, states, targets, None)
    network.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - started


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_const", dest="steps", const=3, default=20, help="few steps")
    return parser.parse_args()


if __name__ == "__main__":
    main()
