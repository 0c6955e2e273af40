"""What baselines are trained with, and what else is tried for them.

Not a section of `flr.config.Config`: a run of the model has nothing to say about its rivals. The settings are kept in
full beside each baseline's results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

from pydantic import Field

from flr.config import AssistantConfig, EaseConfig, NetworkConfig
from flr.sections import Section
from flr.transitions import RELATION_WEIGHTS

BaselineName = Literal[
    "popularity",
    "last-item-markov",
    "item-knn",
    "ease",
    "transitions",
    "assisted-transitions",
    "gru4rec",
    "caser",
    "sasrec",
    "bert4rec",
    "alpharec",
]
NAMES: Final[tuple[BaselineName, ...]] = get_args(BaselineName)
#: Those that nothing is chosen for.
UNTUNED: Final = ("popularity", "last-item-markov")


class NeighbourSettings(Section):
    """Settings of item-kNN."""

    n_neighbours: int = Field(100, ge=1, description="Neighbours kept of each item.")
    shrinkage: float = Field(10.0, ge=0, description="Added to the denominator of the cosine.")
    decay: float = Field(0.5, gt=0, le=1, description="Weight of an item of the history relative to its successor.")


class TransitionSettings(Section):
    """Settings of the mixture of transitions."""

    decay: float = Field(0.7, gt=0, le=1, description="Weight of an item of the history relative to its successor.")
    relations: tuple[float, float, float] = Field(
        RELATION_WEIGHTS, description="Weights of next, soon and together (flr.data.transitions); they sum to 1."
    )


class NetworkSettings(NetworkConfig):
    """Settings of the networks and of their training."""

    window: int = Field(50, ge=2, description="Most recent items of a history that a network reads.")
    mask_share: float = Field(0.3, gt=0, lt=1, description="Share of places masked (BERT4Rec).")
    temperature: float = Field(0.1, gt=0, description="Divides the cosines (AlphaRec).")


class BaselineSettings(Section):
    """Settings of all baselines, and how many of a grid's points are tried for each."""

    trials: int = Field(3, ge=1, description="Points tried for each tuned baseline, the settings as given first.")
    seen_items: Literal["exclude", "include"] = Field(
        "exclude", description="Whether items of the history may be recommended again."
    )
    neighbours: NeighbourSettings = NeighbourSettings()
    ease: EaseConfig = EaseConfig()
    transitions: TransitionSettings = TransitionSettings()
    network: NetworkSettings = NetworkSettings()
    assistant: AssistantConfig = AssistantConfig()
    assistant_window: int = Field(20, ge=1, description="Most recent items of a history that the assistant reads.")
    own: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Settings of registered baselines by name, where not those of registration."
    )


NEIGHBOUR_GRID: Final[Mapping[str, Sequence[Any]]] = {
    "n_neighbours": (20, 100, 500),
    "shrinkage": (0.0, 10.0, 50.0),
    "decay": (0.3, 0.5, 0.8, 1.0),
}
EASE_GRID: Final[Mapping[str, Sequence[Any]]] = {
    "l2": (20.0, 200.0, 1000.0),
    "decay": (0.5, 0.7, 0.9, 1.0),
    "n_neighbours": (100, 500),
}
TRANSITION_GRID: Final[Mapping[str, Sequence[Any]]] = {
    "decay": (0.5, 0.7, 0.85),
    "relations": ((0.0, 1.0, 0.0), RELATION_WEIGHTS, (0.0, 0.0, 1.0)),
}
NETWORK_GRID: Final[Mapping[str, Sequence[Any]]] = {
    "learning_rate": (1e-3, 3e-3, 1e-2),
    "dropout": (0.1, 0.3, 0.5),
    "width": (64, 128),
}
