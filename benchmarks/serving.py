"""How fast does a server answer: alone, at 20 requests a second, as fast as it can, and when people return?

    python -m benchmarks.serving                        # an untrained compact model on MovieLens-100K
    python -m benchmarks.serving --run runs/ml-100k     # a trained run
    python -m benchmarks.serving --soak 50000           # memory over many requests
    python -m benchmarks.serving --fuzz 10000           # made-up requests, with and without keys: none may fail

The server is a process of its own on this machine, asked over HTTP; histories are those of the test split, cut to ten
films. The naive twin reads and scores every history by itself with the whole catalogue, without batches, pruning or
cache.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import torch

from benchmarks.worlds import compact_on_movielens
from flr.data.storage import load_prepared
from flr.recommender import Recommender
from flr.records import TEST, Histories, PreparedData
from flr.scoring.ranking import top_items

_N_ITEMS = 10


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run
        if run is None:
            recommender, prepared = compact_on_movielens()
            run = Path(folder) / "model"
            recommender.save(run)
        else:
            recommender, prepared = Recommender.load(run), load_prepared(arguments.data)
        options = arguments.serve.split()
        if arguments.fuzz:
            _fuzz(run, arguments.fuzz, options)
            return
        histories = _histories(recommender, prepared)
        with _server(run, *options) as (url, process):
            if arguments.soak:
                asyncio.run(_soak(url, process, histories, arguments.soak))
            else:
                _measure(url, recommender, histories, arguments.seconds)


def _measure(url: str, recommender: Recommender, histories: list[list[str]], seconds: float) -> None:
    torch.set_num_threads(1)
    naive = _times(lambda history: _naive(recommender, history), histories[:40])
    print(
        f"naive twin, in this process:  p50 {_ms(naive, 50)}, p99 {_ms(naive, 99)}, {1 / naive.mean():6.1f} histories/s"
    )
    quiet = asyncio.run(_at_rate(url, histories, 20.0, seconds))
    print(f"20 requests/s for {seconds:.0f} s:      p50 {_ms(quiet, 50)}, p99 {_ms(quiet, 99)}, {len(quiet)} answers")
    rate = asyncio.run(_saturated(url, histories, seconds))
    print(f"16 clients, no pause:         {rate:6.1f} requests/s; {rate * naive.mean():.1f} times the naive twin")
    with httpx.Client(base_url=url) as client:
        for length in (_N_ITEMS, recommender.config.text.window - 1):
            _returning(client, recommender, length)


def _returning(client: httpx.Client, recommender: Recommender, length: int) -> None:
    """Print what a new history costs beside one that grew by an item, whole requests and reading alone."""
    rng = np.random.default_rng(length)
    ids = recommender.catalogue.item_ids
    whole = [[str(ids[item]) for item in rng.choice(len(ids), length + 1, replace=False)] for _ in range(60)]
    ask = lambda history: client.post("/v1/recommend", json={"histories": [history]}).raise_for_status()  # noqa: E731
    new = _times(lambda history: ask(history[:-1]), whole)
    grown = _times(ask, whole)
    read_new, read_grown = _reading(recommender, whole)
    print(
        f"{length} films and one more:  new {_ms(new, 50)}, returning {_ms(grown, 50)} "
        f"({np.median(new) / np.median(grown):.1f} times cheaper); reading alone "
        f"{_ms(read_new, 50)} and {_ms(read_grown, 50)} ({np.median(read_new) / np.median(read_grown):.1f} times)"
    )


def _reading(recommender: Recommender, whole: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    from flr.serving.prefix_cache import PrefixCache

    cache = PrefixCache(recommender.model.read, 1_000_000)
    template = recommender.compiled.template
    streams = [template.streams(recommender.resolve([history])) for history in whole]
    with torch.inference_mode():
        anew = _times(recommender.model.read, streams)
        for history in whole:
            cache(template.streams(recommender.resolve([history[:-1]])))
        return anew, _times(cache, streams)


def _naive(recommender: Recommender, history: list[str]) -> object:
    scores = recommender.score(recommender.resolve([history]))
    return top_items(torch.from_numpy(scores), 10)


async def _at_rate(url: str, histories: list[list[str]], per_second: float, seconds: float) -> np.ndarray:
    found: list[float] = []

    async def one(client: httpx.AsyncClient, history: list[str]) -> None:
        started = time.perf_counter()
        (await client.post("/v1/recommend", json={"histories": [history]})).raise_for_status()
        found.append(time.perf_counter() - started)

    async with httpx.AsyncClient(base_url=url, timeout=60) as client, asyncio.TaskGroup() as tasks:
        started = time.perf_counter()
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(max(0.0, started + number / per_second - time.perf_counter()))
            tasks.create_task(one(client, histories[number % len(histories)]))
    return np.array(found)


async def _saturated(url: str, histories: list[list[str]], seconds: float) -> float:
    n_answers, until = 0, time.perf_counter() + seconds

    async def keep_asking(client: httpx.AsyncClient, first: int) -> None:
        nonlocal n_answers
        number = first
        while time.perf_counter() < until:
            history = histories[number % len(histories)]
            (await client.post("/v1/recommend", json={"histories": [history]})).raise_for_status()
            n_answers, number = n_answers + 1, number + 16

    async with httpx.AsyncClient(base_url=url, timeout=60) as client, asyncio.TaskGroup() as tasks:
        for first in range(16):
            tasks.create_task(keep_asking(client, first + 500))
    return n_answers / seconds


async def _soak(url: str, process: psutil.Process, histories: list[list[str]], n_requests: int) -> None:
    rng = np.random.default_rng(0)
    left = iter(range(n_requests))

    async def keep_asking(client: httpx.AsyncClient) -> None:
        for number in left:
            history = list(rng.permutation(histories[number % len(histories)]))
            (await client.post("/v1/recommend", json={"histories": [history]})).raise_for_status()
            if number % max(1, n_requests // 20) == 0:
                print(f"{number:7,} requests: {process.memory_info().rss / 2**20:7.0f} MB", flush=True)

    async with httpx.AsyncClient(base_url=url, timeout=60) as client, asyncio.TaskGroup() as tasks:
        for _ in range(16):
            tasks.create_task(keep_asking(client))
    print(f"{n_requests:7,} requests: {process.memory_info().rss / 2**20:7.0f} MB")


def _fuzz(run: Path, n_requests: int, options: list[str]) -> None:
    """Send half of the requests to a server without keys, and half to one with keys."""
    from benchmarks.fuzzing import Caller, Tally, callers, fuzz
    from flr.serving.security import new_key

    whole: Tally = Counter()
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.json"
        known = callers(new_key(keys, "read"), new_key(keys, "admin"))
        for name, more, who in (("without keys", [], [Caller()]), ("with keys", ["--keys", str(keys)], known)):
            with _server(run, *options, *more) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
                found = fuzz(client, n_requests // 2, callers=who)
            print(f"{name}: {_by_status(found)}", flush=True)
            for operation in sorted({operation for operation, _ in found}):
                print(f"    {operation}: {_by_status({key: n for key, n in found.items() if key[0] == operation})}")
            whole += found
    print(f"all: {_by_status(whole)}")


def _by_status(tally: Mapping[tuple[str, int], int]) -> str:
    counts: Counter[int] = Counter()
    for (_, status), n in tally.items():
        counts[status] += n
    return f"{counts.total():,} requests, " + ", ".join(f"{status}: {counts[status]:,}" for status in sorted(counts))


@contextmanager
def _server(run: Path, *arguments: str) -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, "-m", "flr", "serve", "--run", str(run), "--port", "0", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    port = 0
    for line in process.stderr:
        if found := re.search(r"Uvicorn running on http://[^:]+:(\d+)", line):
            port = int(found[1])
        if '"message": "ready' in line:
            break
    assert port, "the server did not start"
    threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True).start()
    try:
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _histories(recommender: Recommender, prepared: PreparedData) -> list[list[str]]:
    users, rows = prepared.sequences.targets(TEST)
    found = Histories.before(prepared.sequences, users, rows).window(_N_ITEMS)
    ids = recommender.catalogue.item_ids
    bounds = zip(found.offsets[:-1], found.offsets[1:], strict=True)
    return [[str(ids[item]) for item in found.item_index[start:end]] for start, end in bounds]


def _times(work: object, inputs: list) -> np.ndarray:  # type: ignore[type-arg]
    found = []
    for one in inputs:
        started = time.perf_counter()
        work(one)  # type: ignore[operator]
        found.append(time.perf_counter() - started)
    return np.array(found)


def _ms(seconds: np.ndarray, percentile: int) -> str:
    return f"{np.percentile(seconds, percentile) * 1000:6.1f} ms"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a trained run on MovieLens-100K")
    parser.add_argument("--data", type=Path, help="its prepared data")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement")
    parser.add_argument("--quick", action="store_true", help="measurements of 3 seconds")
    parser.add_argument("--serve", default="", help="further options of flr serve, in one string")
    parser.add_argument("--soak", type=int, default=0, metavar="N", help="print memory over N requests")
    parser.add_argument("--fuzz", type=int, default=0, metavar="N", help="send N made-up requests")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds = 3.0
    if (arguments.run is None) != (arguments.data is None):
        parser.error("--run and --data go together")
    return arguments


if __name__ == "__main__":
    main()
