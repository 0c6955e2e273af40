"""How fast and how large is preparing raw interactions, beside a plain Python twin in the same run?

    python -m benchmarks.preparation                                  # 25 M interactions, about two minutes in all
    python -m benchmarks.preparation --quick

1. Writes a synthetic CSV file of the size asked for, and its first rows as a smaller file.
2. Prepares the large file in a process of its own: seconds and peak memory of reading, filtering (5-core),
   splitting, auditing and writing the folder.
3. Prepares the small file that way and with dictionaries and lists: the ratio of their speeds. The twin does
   less (no k-core, no audit, no hashes, no check for leakage), so the ratio is a lower bound.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from flr.data.preparation import prepare
from flr.data.readers import read
from flr.data.storage import save_prepared
from flr.data.synthetic import synthetic_interactions
from flr.prepare_config import PrepareConfig


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(measure(Path(arguments.child), Path(arguments.child).parent / "items.csv")))
        return
    with tempfile.TemporaryDirectory(prefix="flr-benchmark-", dir=arguments.folder) as folder:
        whole, part = write_files(Path(folder), arguments.interactions, arguments.slice)
        large, small = run_child(whole), run_child(part)
        naive_seconds = naive_twin(part)
    rows_per_second = arguments.interactions / large["seconds"]
    print(
        f"{arguments.interactions:,} interactions: {large['seconds']:.1f} s ({rows_per_second:,.0f} rows/s)", end=", "
    )
    print(f"peak memory {large['peak_gib']:.2f} GiB; {large['counts']}")
    print({name: round(seconds, 1) for name, seconds in large["stages"].items()})
    print(
        f"{arguments.slice:,} interactions: flr {small['seconds']:.2f} s, plain Python {naive_seconds:.2f} s", end=": "
    )
    print(f"{naive_seconds / small['seconds']:.1f} times as fast, and that with k-core, audit and checks")


def write_files(folder: Path, n_interactions: int, n_slice: int) -> tuple[Path, Path]:
    """Write a large and a small CSV file with a table of items; return the paths of the two."""
    made = synthetic_interactions(
        n_users=max(n_interactions // 50, 1), n_items=max(n_interactions // 250, 100), n_interactions=n_interactions
    )
    made.items.write_csv(folder / "items.csv")
    made.frame.write_csv(folder / "whole.csv")
    # Whole users, so that the slice can be split like the large file.
    users = made.frame["user_id"].unique(maintain_order=True).head(max(n_slice // 50, 1))
    part = made.frame.filter(pl.col("user_id").is_in(users.implode())).head(n_slice)
    part.write_csv(folder / "part.csv")
    return folder / "whole.csv", folder / "part.csv"


def run_child(path: Path) -> dict:
    """Return what `measure` finds in a new process, so that peak memory is of this work alone."""
    command = [sys.executable, __file__, "--child", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(interactions: Path, items: Path) -> dict:
    """Return seconds, peak memory and counts of preparing one file."""
    settings = PrepareConfig(min_user_interactions=5, min_item_interactions=5)
    start = time.perf_counter()
    record = read(interactions, items, settings)
    after_read = time.perf_counter()
    data = prepare(record, settings)
    after_prepare = time.perf_counter()
    save_prepared(data, interactions.with_suffix(".prepared"))
    end = time.perf_counter()
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = {name: data.manifest["counts"][name] for name in ("users", "items", "interactions", "test_targets")}
    stages = {"read": after_read - start, "prepare": after_prepare - after_read, "save": end - after_prepare}
    return {"seconds": end - start, "peak_gib": peak_kib / 2**20, "counts": counts, "stages": stages}


def naive_twin(path: Path) -> float:
    """Return the seconds that reading, indexing, ordering, splitting and writing take with dictionaries and lists."""
    start = time.perf_counter()
    histories: dict[str, list[tuple[int, int, int]]] = {}
    index: dict[str, int] = {}
    with path.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            item = index.setdefault(row["item_id"], len(index))
            histories.setdefault(row["user_id"], []).append((int(row["timestamp"]), number, item))
    with path.with_suffix(".naive.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        for user, history in enumerate(histories.values()):
            history.sort()
            for place, (timestamp, _, item) in enumerate(history):
                left = len(history) - place if len(history) >= 3 else 3
                writer.writerow((user, item, timestamp, {1: "test", 2: "valid"}.get(left, "train")))
    return time.perf_counter() - start


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=25_000_000, help="rows of the large file")
    parser.add_argument("--slice", type=int, default=1_000_000, help="rows of the small file")
    parser.add_argument("--folder", default=None, help="where to put the files while it runs")
    parser.add_argument("--quick", action="store_true", help="1 M and 200,000 rows")
    parser.add_argument("--child", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.interactions, arguments.slice = 1_000_000, 200_000
    return arguments


if __name__ == "__main__":
    main()
