"""How fast is exact scoring of the whole catalogue, beside writing each title and beside a dictionary-trie beam?

    python -m benchmarks.scoring                  # the default compact model on MovieLens-100K
    python -m benchmarks.scoring --quick

All run the same untrained model on the same histories, in one process, and are timed after a warm-up. The
beams (width 20) are approximate; the dictionary-trie beam runs the prompt again at every step, as a decoder without a
cache does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks import naive
from benchmarks.worlds import compact_on_movielens, peak_memory_mb
from flr.recommender import Recommender
from flr.records import TEST, Histories
from flr.scoring.beam import Beam


def main() -> None:
    arguments = _arguments()
    recommender, prepared = compact_on_movielens()
    model, compiled = recommender.model.eval(), recommender.compiled
    users, rows = prepared.sequences.targets(TEST)
    histories = Histories.before(prepared.sequences, users, rows).window(recommender.config.text.window)
    few = [histories.take(np.array([row])).item_index.tolist() for row in range(arguments.naive_users)]
    trie = naive.dict_trie(compiled)
    print(
        f"{len(histories)} histories of {histories.lengths.mean():.1f} items, {compiled.catalogue.n_items:,} items, "
        f"{compiled.trie.n_nodes:,} trie nodes of which {compiled.n_needed_nodes:,} are evaluated"
    )
    with torch.inference_mode():
        recommender.score(histories.take(np.arange(32)))
        exact = _rate(len(histories), lambda: recommender.score(histories))
        peak = peak_memory_mb()
        one_by_one = _rate(1, lambda: naive.score_titles(model, few[0], compiled))
        searched = _rate(len(histories), lambda: _search(recommender, histories))
        beam = _rate(len(few), lambda: [naive.beam_search(model, items, compiled, trie, width=20) for items in few])
    print(f"exact, tree-masked:   {exact:9.2f} users/s, peak memory {peak:.0f} MB")
    print(f"one title at a time:  {one_by_one:9.4f} users/s; exact is {exact / one_by_one:,.0f} times as fast")
    print(f"beam search, width 20: {searched:8.2f} users/s; reading each prefix once")
    print(f"the same, no cache:    {beam:8.3f} users/s; exact is {exact / beam:.1f} times as fast")


def _search(recommender: Recommender, histories: Histories) -> None:
    order = np.argsort(histories.lengths, kind="stable")
    for start in range(0, len(order), 32):
        state = recommender.think(histories.take(order[start : start + 32]))
        recommender.model.search(state, recommender.compiled, Beam(20))


def _rate(n_users: int, work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return n_users / (time.perf_counter() - started)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--naive-users", type=int, default=20, help="users of the beam search")
    parser.add_argument("--quick", action="store_true", help="fewer")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.naive_users = 3
    return arguments


if __name__ == "__main__":
    main()
