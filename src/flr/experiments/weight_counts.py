"""How many weights lie in the folders of runs and baselines, by the heads of their files: no weight is read.

A weight is what a training or a regression has set. Counts of who took what, and what is computed from them by a fixed
formula (popularity, last-item-markov, item-knn, transitions, a model's memory), are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

from flr.baselines.item_neighbours import Ease
from flr.baselines.storage import META_FILE, OWN_FOLDER
from flr.errors import ArtifactError
from flr.persistence import read_json
from flr.training.folder import RunFolder

#: Tensors of an assistant that are no weights, and those of a baseline's network: title embeddings, read not trained.
_NOT_OF_ASSISTANT: Final = ("log_popularity", "neighbours")
_NOT_OF_NETWORK: Final = "network.titles"


def assistant_weights(run: Path) -> int | None:
    """Return how many weights the second opinion of a run has, 0 without one; None where the weights are gone.

    Raises:
        ArtifactError: The file cannot be read.
    """
    return _counted(RunFolder(run).model / "model.safetensors", _is_assistants)


def baseline_weights(folder: Path, name: str) -> int | None:
    """Return how many weights a fitted baseline has; None for one that counts, or where they are gone.

    Args:
        folder: Of the baseline.
        name: Which one it is.

    Raises:
        ArtifactError: The file cannot be read.
    """

    if (folder / OWN_FOLDER).exists():  # a baseline of one's own says so itself, or nothing
        said = read_json(folder / META_FILE, "saved baseline").get("n_weights")
        return said if isinstance(said, int) else None

    def is_weight(tensor: str) -> bool:
        of_network = tensor.startswith("network.") and tensor != _NOT_OF_NETWORK
        return of_network or (name == Ease.name and tensor == "similarities") or _is_assistants(tensor)

    return _counted(folder / "arrays.safetensors", is_weight) or None


def _is_assistants(tensor: str) -> bool:
    return tensor.startswith("assistant.") and not tensor.endswith(_NOT_OF_ASSISTANT)


def _counted(path: Path, is_weight: Callable[[str], bool]) -> int | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as tensors:
            names = [name for name in tensors.keys() if is_weight(name)]  # noqa: SIM118, it is no dictionary
            shapes: list[list[int]] = [tensors.get_slice(name).get_shape() for name in names]
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"cannot read the weights {str(path)!r}: {error}; remove the folder and run again"
        ) from error
    return sum(map(math.prod, shapes))
