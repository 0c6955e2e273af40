"""How long does it take to build the trie of a large catalogue, and to compile it for scoring?

python -m benchmarks.trie                     # one million titles
python -m benchmarks.trie --quick
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from benchmarks.worlds import peak_memory_mb
from flr.catalogue.trie import ancestors_of, build_trie, choice_paths
from flr.records import TokenizedTitles


def main() -> None:
    arguments = _arguments()
    titles = random_titles(arguments.titles)
    started = time.perf_counter()
    trie = build_trie(titles)
    built = time.perf_counter() - started
    paths = choice_paths(trie)
    needed = ancestors_of(trie, trie.branching)
    in_all = time.perf_counter() - started
    few = min(arguments.titles, 100_000)
    part = TokenizedTitles(titles.ids[: titles.offsets[few]], titles.offsets[: few + 1], titles.eoi_id)
    started = time.perf_counter()
    build_trie(part)
    array_seconds = time.perf_counter() - started
    started = time.perf_counter()
    dictionary_twin(part)
    naive_seconds = time.perf_counter() - started
    print(f"{arguments.titles:,} titles, {len(titles.ids):,} tokens -> {trie.n_nodes:,} nodes: {built:.1f} s")
    print(f"with choices ({len(paths.nodes):,}) and needed nodes ({int(needed.sum()):,}): {in_all:.1f} s")
    print(f"{few:,} titles: arrays {array_seconds:.2f} s, nested dictionaries {naive_seconds:.2f} s", end="; ")
    print(f"ratio {naive_seconds / array_seconds:.1f}; peak memory {peak_memory_mb():.0f} MB")


def random_titles(n: int, *, vocabulary: int = 3000, seed: int = 0) -> TokenizedTitles:
    """Return n distinct titles of 2 to 13 tokens whose tokens are Zipf-distributed, as words are."""
    rng = np.random.default_rng(seed)
    words = (rng.zipf(1.3, (int(1.3 * n), 12)) % (vocabulary - 1)) + 1
    keep = np.arange(12) < rng.integers(1, 13, len(words))[:, None]
    words = np.unique(np.where(keep, words, 0), axis=0)
    while len(words) < n:  # short titles repeat: make up for them with long ones
        more = (rng.zipf(1.3, (n, 12)) % (vocabulary - 1)) + 1
        words = np.unique(np.concatenate([words, more]), axis=0)
    words = words[rng.permutation(len(words))[:n]]
    lengths = (words > 0).sum(1) + 1
    ids = np.concatenate([words, np.zeros((n, 1), dtype=words.dtype)], axis=1)
    kept = np.arange(13) < lengths[:, None]
    return TokenizedTitles(ids[kept], np.concatenate([[0], np.cumsum(lengths)]), eoi_id=0)


def dictionary_twin(titles: TokenizedTitles) -> dict:
    """Return the trie as nested dictionaries."""
    root: dict = {}
    for start, end in zip(titles.offsets[:-1].tolist(), titles.offsets[1:].tolist(), strict=True):
        node = root
        for token in titles.ids[start:end].tolist():
            node = node.setdefault(token, {})
    return root


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--titles", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="100,000 titles")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.titles = 100_000
    return arguments


if __name__ == "__main__":
    main()
