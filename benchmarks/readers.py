"""How fast are Amazon's reviews and metadata read, against unpacking them and against plain Python in the same run?

    python -m benchmarks.readers                                  # 100 MB of JSON each, about a minute in all
    python -m benchmarks.readers --megabytes 2000
    python -m benchmarks.readers --quick

1. Writes synthetic reviews and metadata with the fields and lengths of Amazon's files of 2018, gzipped.
2. Reads them with `flr`.
3. Unpacks them with `gzip` and does nothing else.
4. Reads them with the naive twin: `json.loads` of each line that `gzip` gives, of which the fields are kept in lists.

Megabytes are those of the unpacked JSON. Each figure is the best of three; processor seconds,
of all threads together, tell of a busy machine what it would do alone.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flr.data.readers import amazon
from flr.prepare_config import PrepareConfig

REVIEW_FIELDS = ("reviewerID", "asin", "overall", "unixReviewTime")
ITEM_FIELDS = ("asin", "title", "brand", "category")
BLOCK_BYTES = 1_000_000


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="flr-benchmark-", dir=arguments.folder) as folder:
        reviews = write_objects(Path(folder) / "Toys_5.json.gz", arguments.megabytes, Words().review)
        compare("reviews", reviews, amazon.read_interactions, REVIEW_FIELDS)
        items = write_objects(Path(folder) / "meta_Toys.json.gz", arguments.megabytes, Words().item)
        compare("metadata", items, amazon.read_items, ITEM_FIELDS)


class Words:
    """Writes objects out of made-up words, of which few are frequent and most are rare, as in any language."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        lengths = self._rng.integers(2, 11, 30_000)
        letters = self._rng.choice(list("etaoinshrdlucmfwypvbgk"), size=int(lengths.sum()))
        ends = np.cumsum(lengths)
        self._words = ["".join(letters[end - n : end]) for n, end in zip(lengths, ends, strict=True)]

    def text(self, mean_words: float) -> str:
        """Return a text of about so many words; some are much longer than the mean, and some have odd signs."""
        n_words = 1 + int(self._rng.lognormal(np.log(mean_words) - 0.5, 1.0))
        words = [self._words[rank % len(self._words)] for rank in self._rng.zipf(1.25, n_words).tolist()]
        odd = ["\u00e9t\u00e9", '"best"', "it's.\n\n", "5\\6", "\N{GRINNING FACE}"]
        return " ".join([*words, odd[n_words % 40]] if n_words % 40 < len(odd) else words)

    def review(self) -> dict:
        """Return a review with the fields and the order of the edition of 2018."""
        user, item, time_ = (int(number) for number in self._rng.integers(0, (10**9, 10**5, 10**9)))
        return {
            "overall": float(1 + user % 5),
            "verified": bool(user % 3),
            "reviewTime": "10 15, 2013",
            "reviewerID": f"A{user:013d}",
            "asin": f"B{item:09d}",
            "style": {"Size:": " Large", "Color:": " " + self._words[item % 100]},
            "reviewerName": self.text(2),
            "reviewText": self.text(80),
            "summary": self.text(4),
            "unixReviewTime": 1_000_000_000 + time_ // 3,
        }

    def item(self) -> dict:
        """Return metadata with the fields and the order of the edition of 2018."""
        item = int(self._rng.integers(0, 10**9))
        pictures = [f"https://images-na.ssl-images-amazon.com/images/I/{item + k:011d}._SS40_.jpg" for k in range(4)]
        return {
            "category": ["Toys & Games", *(self.text(2) for _ in range(3))],
            "tech1": "",
            "description": [self.text(90)],
            "fit": "",
            "title": self.text(9),
            "also_buy": [f"B{item + 7 * k:09d}" for k in range(item % 30)],
            "image": pictures,
            "brand": self.text(1.5),
            "feature": [self.text(12) for _ in range(item % 5)],
            "rank": [f">#{item % 10**6:,} in Toys & Games (See Top 100)"],
            "asin": f"B{item:09d}",
        }


def write_objects(path: Path, megabytes: float, make: Callable[[], dict]) -> Path:
    """Write objects, one a line, until there are so many megabytes of them."""
    n_bytes = 0
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=6) as file:
        while n_bytes < megabytes * 1e6:
            n_bytes += file.write(json.dumps(make()) + "\n")
    return path


def compare(name: str, path: Path, read: Callable, fields: tuple[str, ...]) -> None:
    """Print the speeds of the reader, of unpacking alone and of the naive twin, and their ratios."""
    megabytes = naive_unpack(path) / 1e6
    settings = PrepareConfig()
    spent = {
        "flr": best_of(lambda: read(path, settings)),
        "gzip alone": best_of(lambda: naive_unpack(path)),
        "naive twin": best_of(lambda: naive_twin(path, fields)),
    }
    print(f"{name}, {megabytes:.0f} MB of JSON, {path.stat().st_size / 1e6:.0f} MB gzipped:")
    for one, (seconds, processor) in spent.items():
        twin, alone = spent["naive twin"][0] / seconds, seconds / spent["gzip alone"][0]
        print(
            f"  {one:10} {megabytes / seconds:4.0f} MB/s, {megabytes / processor:4.0f} MB a processor second", end="; "
        )
        print(f"{twin:.1f} times as fast as the naive twin, {alone:.2f} times the time of gzip alone")


def best_of(do: Callable[[], object], times: int = 3) -> tuple[float, float]:
    """Return the seconds of the fastest of a few runs, and the least processor seconds of any, threads together."""
    found = []
    for _ in range(times):
        start, processor = time.perf_counter(), time.process_time()
        do()
        found.append((time.perf_counter() - start, time.process_time() - processor))
    return min(seconds for seconds, _ in found), min(processor for _, processor in found)


def naive_unpack(path: Path) -> int:
    """Return the bytes that a gzipped file unpacks to."""
    n_bytes = 0
    with gzip.open(path) as file:
        while block := file.read(BLOCK_BYTES):
            n_bytes += len(block)
    return n_bytes


def naive_twin(path: Path, fields: tuple[str, ...]) -> list[tuple]:
    """Return the fields of each line, parsed one by one."""
    with gzip.open(path) as file:
        return [tuple(found.get(name) for name in fields) for found in map(json.loads, file)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=100, help="of unpacked JSON in each file")
    parser.add_argument("--folder", default=None, help="where to put the files while it runs")
    parser.add_argument("--quick", action="store_true", help="30 MB")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.megabytes = 30
    return arguments


if __name__ == "__main__":
    main()
