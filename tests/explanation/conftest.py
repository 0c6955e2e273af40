"""Recommenders whose explanations are known, or can be asked of a trained model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flr.config import load_config
from flr.recommender import Recommender
from flr.training.run import train_run
from toy import TINY, TITLES, prepared_ring, toy_catalogue, toy_model, toy_tokenizer

Make = Callable[..., Recommender]


@pytest.fixture(scope="session")
def make() -> Make:
    """Make a small random recommender."""

    def recommender(*overrides: str, titles: list[str] = TITLES) -> Recommender:
        model, compiled, config = toy_model(*overrides, titles=titles)
        return Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(titles), config)

    return recommender


@pytest.fixture
def edit_meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recommender], None]:
    """Let an item come as soon as a recommender begins to read."""

    def edit(recommender: Recommender) -> None:
        read, n_items = recommender.model.read, recommender.catalogue.n_items

        def edited(*given: Any) -> Any:
            if recommender.catalogue.n_items == n_items:
                recommender.add_items([{"item_id": "new", "title": "Brand New (2026)"}])
            return read(*given)

        monkeypatch.setattr(recommender.model, "read", edited)

    return edit


@pytest.fixture(scope="session")
def ring_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in the world in which the next item is a function of the last one alone; its data are beside it."""
    folder = tmp_path_factory.mktemp("explained ring")
    train_run(load_config(None, TINY), prepared_ring(folder / "data"), folder / "run")
    return folder / "run"
