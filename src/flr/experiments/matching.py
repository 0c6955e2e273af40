"""Variants of equal cost: as many weights as the reference has, or as many operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from flr.catalogue.titles import build_catalogue
from flr.config import Config
from flr.data.storage import load_prepared
from flr.errors import ConfigError
from flr.experiments.matrix import MATCHED_WITHIN, Cell, Study, cells
from flr.records import Catalogue, PreparedData
from flr.training.estimate import estimate_run, n_weights

#: Units of the feed-forward layer over which operations are measured to grow.
_STEP = 64


@dataclass(frozen=True)
class _Data:
    folder: Path

    @cached_property
    def prepared(self) -> PreparedData:
        return load_prepared(self.folder)

    @cached_property
    def catalogue(self) -> Catalogue:
        return build_catalogue(self.prepared.items)

    def weights(self, config: Config) -> float:
        """Return the number of weights."""
        return n_weights(config, self.catalogue)

    def operations(self, config: Config) -> float:
        """Return the operations of training per target, padding included."""
        found = estimate_run(config, self.prepared, device_tflops=None, utilisation=1.0)
        return (found.forward_flops + found.backward_flops) / found.targets_per_step


def matched_cells(study: Study, output: Path) -> Iterator[Cell]:
    """Yield the cells with their weights, or operations, matched to the reference's.

    Raises:
        ArtifactError: A prepared folder is missing or damaged.
        ConfigError: A variant that is to be matched differs by more than 1 %.
    """
    all_data = {name: _Data(data.folder) for name, data in study.data.items()}
    all_cells = list(cells(study, output))
    references = {cell.data: cell.config for cell in reversed(all_cells) if cell.variant == study.reference}
    changes: dict[tuple[str, str], dict[str, int]] = {}
    for cell in all_cells:
        key = cell.data, cell.variant
        if key not in changes:
            changes[key] = _matching(study, cell, references[cell.data], all_data[cell.data])
        yield replace(cell, config=_with_backbone(cell.config, changes[key]))


def _matching(study: Study, cell: Cell, reference: Config, data: _Data) -> dict[str, int]:
    """Return the backbone settings that make a variant as large, or as dear, as the reference."""
    variant, config, changes = study.variants[cell.variant], cell.config, dict[str, int]()
    if variant.weights_of is not None:
        variant = study.variants[variant.weights_of]
    asked = f"variant {cell.variant!r} has {{:,.0f}} {{}}, the reference {study.reference!r} {{:,.0f}}; they may "
    asked += f"differ by {MATCHED_WITHIN:.0%}: "
    if variant.match == "operations":
        changes = _widened(config, data.operations, data.operations(reference), _STEP)
        n, wanted = data.operations(_with_backbone(config, changes)), data.operations(reference)
        if abs(n - wanted) > MATCHED_WITHIN * wanted:
            raise ConfigError(asked.format(n, "operations per target", wanted) + "say match: none to leave it so")
        return changes
    wanted = data.weights(reference)
    if variant.match == "feed_forward":
        changes = _widened(config, data.weights, wanted, 1)
    n = data.weights(_with_backbone(config, changes))
    if variant.same_size and abs(n - wanted) > MATCHED_WITHIN * wanted:
        raise ConfigError(
            asked.format(n, "weights", wanted) + "say match: feed_forward, or same_size: false to report it as unequal"
        )
    return changes


def _widened(config: Config, cost: Callable[[Config], float], wanted: float, step: int) -> dict[str, int]:
    """Return the width of the feed-forward layer at which a cost that grows evenly with it is what is wanted."""
    width, n = config.backbone.feed_forward, cost(config)
    per_unit = (cost(_with_backbone(config, {"feed_forward": width + step})) - n) / step
    return {"feed_forward": max(8, width + round((wanted - n) / per_unit))}


def _with_backbone(config: Config, changes: dict[str, int]) -> Config:
    return config.model_copy(update={"backbone": config.backbone.model_copy(update=changes)})
