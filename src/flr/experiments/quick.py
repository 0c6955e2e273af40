"""A study of a toy world whose answer is known: the last two items decide the next, the last alone says nothing."""

from __future__ import annotations

from pathlib import Path

from flr.data.preparation import prepare
from flr.data.storage import load_prepared, save_prepared
from flr.data.synthetic import pattern_world
from flr.errors import ArtifactError
from flr.experiments.matrix import Study
from flr.prepare_config import PrepareConfig

_SETTINGS = {
    "text.window": 6,
    "text.vocabulary_size": 300,
    "backbone.width": 32,
    "backbone.n_layers": 2,
    "backbone.n_heads": 2,
    "backbone.feed_forward": 64,
    "backbone.dropout": 0.0,
    "training.max_steps": 240,
    "training.batch_tokens": 1024,
    "training.learning_rate": 0.01,
    "training.warmup_steps": 10,
    "training.eval_steps": 120,
    "assistant.width": 32,
    "assistant.max_epochs": 30,
    "grpo.max_steps": 4,
    "grpo.eval_steps": 2,
    "grpo.batch_tokens": 512,
}
#: Of the three regularisers.
_WEIGHTS = ("objective.lambda_orth", "objective.lambda_div", "objective.lambda_sparse")


def quick_study(output: Path) -> Study:
    """Return a study that takes about a minute; its data is prepared below the study's folder.

    Args:
        output: The study's folder.

    Raises:
        ArtifactError: The folder holds something else where the data belongs.
    """
    folder = output / "data"
    try:
        load_prepared(folder)
    except ArtifactError:
        save_prepared(
            prepare(pattern_world(n_items=17, n_users=200, length=8, order=2).interactions, PrepareConfig()), folder
        )
    return Study.model_validate(
        {
            "title": "A toy world in which the last two items decide",
            "data": {"toy": {"folder": folder}},
            "variants": {
                "flr": {},
                "single vector": {"settings": {"reasoner.n_factors": 1}},
                "no thought": {"settings": {"reasoner.kind": "none"}, "match": "feed_forward"},
                "no regularisers": {"settings": dict.fromkeys(_WEIGHTS, 0.0)},
                "flr, stage two": {"stage_two_of": "flr"},
            },
            "reference": "flr",
            "controls": ["single vector", "no thought"],
            "baselines": ["popularity", "last-item-markov", "item-knn"],
            "trials": 2,
            "seeds": [0, 1],
            "settings": _SETTINGS,
            "evidence": {
                "control": "no regularisers",
                "single_vector": "single vector",
                "disentanglement": {"n_resamples": 100},
                "mutual_information": {"n_permutations": 10, "n_permutations_infonce": 1, "n_halves": 10},
            },
        }
    )
