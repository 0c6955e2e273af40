"""Train on rows that you hold in memory, then recommend and steer: frames in, a run folder and lists out.

    python examples/own_rows.py --output runs/own-rows

The rows are made up: people who watch series from part to part, and two series each, turn about.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

import flr

SERIES = {
    "alien": ["Alien (1979)", "Aliens (1986)", "Alien 3 (1992)", "Alien Resurrection (1997)"],
    "trek": ["Star Trek II (1982)", "Star Trek III (1984)", "Star Trek IV (1986)", "Star Trek VI (1991)"],
    "godfather": ["The Godfather (1972)", "The Godfather Part II (1974)", "The Godfather Part III (1990)"],
    "toys": ["Toy Story (1995)", "Toy Story 2 (1999)", "Toy Story 3 (2010)", "Toy Story 4 (2019)"],
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="gets the folders data and run")
    parser.add_argument("--steps", type=int, default=150, help="training steps")
    chosen = parser.parse_args(arguments)
    rows, items = made_up()
    prepared = flr.prepare(flr.read_frames(rows, items))
    flr.save_prepared(prepared, chosen.output / "data")

    # Every setting has a default that suits MovieLens-100K; a catalogue of fifteen films needs a smaller model.
    config = flr.load_config(
        None,
        [
            *("backbone.width=64", "backbone.n_layers=2", "backbone.feed_forward=128"),
            *(f"training.max_steps={chosen.steps}", f"training.eval_steps={max(chosen.steps // 3, 1)}"),
            *("training.batch_tokens=2000", "assistant.networks=[]"),
        ],
    )
    print(flr.train_run(config, chosen.output / "data", chosen.output / "run"))

    recommender = flr.Recommender.load(chosen.output / "run")
    history = ["alien-1", "toys-1", "alien-2"]
    show("as it is", recommender.recommend([history], k=3))
    show("factor 1 off, factor 2 doubled", recommender.recommend([history], k=3, factor_weights=[0, 2, 1, 1]))
    recent = flr.ItemFilter(where={"year": flr.Between(low=1995)})
    show("since 1995 only", recommender.recommend([history], k=3, filters=recent))


def made_up(n_people: int = 400) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return who took what when, and what each item is called; any further column is an attribute."""
    random = np.random.default_rng(0)
    rows = []
    for person in range(n_people):
        first, second = random.choice(list(SERIES), 2, replace=False)
        parts = zip(SERIES[first], SERIES[second], strict=False)
        watched = [f"{name}-{number}" for number, _ in enumerate(parts, 1) for name in (first, second)]
        rows += [(f"person {person}", item, time) for time, item in enumerate(watched)]
    items = [
        (f"{name}-{number}", title, int(title[-5:-1]))
        for name, titles in SERIES.items()
        for number, title in enumerate(titles, 1)
    ]
    return (
        pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"),
        pl.DataFrame(items, schema=["item_id", "title", "year"], orient="row"),
    )


def show(how: str, lists: list[list[flr.Recommendation]]) -> None:
    print(how)
    for item in lists[0]:
        print(f"  {item.probability:6.1%}  {item.title}")


if __name__ == "__main__":
    main()
