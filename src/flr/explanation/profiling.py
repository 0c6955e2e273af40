"""Factors over many targets -> profiles: attributes, recency, popularity and typical items of what each reads.

All figures are of the last refinement step and compare what a factor reads with an even look at the same histories.
Every user counts once (each of T targets as 1 / T), and a target by the attention that falls on titles at all.
A history of one item leaves no choice, so spreads and recency are of the others.
Intervals of recency and popularity are of ratio estimators over users (linearised, 95 %).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from flr.catalogue.attributes import ATTRIBUTE, attribute_values
from flr.diagnostics.factor_records import FactorRecords, collect_factors
from flr.errors import DataError
from flr.evaluation.metrics import training_counts
from flr.explanation.lifts import attribute_lifts, compared_values
from flr.explanation.looks import Looks
from flr.explanation.naming import factor_names
from flr.explanation.profiles import FactorProfile, FactorProfiles, TypicalItem
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import Catalogue, IntArray, UserSequences
from flr.transitions import RELATIONS

#: Users whose histories hold a value, for it to be compared.
MIN_USERS = 20
#: Users whose histories hold an item, for it to be typical of a factor.
MIN_READ = 5
_N_ITEMS = 8
#: Weight from which a relation is all that a factor votes for.
_ALONE = 0.9


def profile_factors(
    recommender: Recommender,
    sequences: UserSequences,
    *,
    split: Literal["train", "valid", "test"] = "valid",
    min_users: int = MIN_USERS,
    progress: Progress = SILENT,
) -> FactorProfiles:
    """Return what each factor of a model stands for, over the targets of a split.

    Args:
        recommender: A model with a thought.
        sequences: All interactions.
        split: Whose targets are thought about.
        min_users: Users whose histories hold a value of an attribute, for it to be compared.
        progress: Told about targets.

    Raises:
        ConfigError: The model has no thought.
        DataError: The split has no target with an earlier row, or those of one user only.
    """
    records = collect_factors(recommender, sequences, split=split, progress=progress)
    return profiles_from(recommender, records, sequences, split=split, min_users=min_users)


def profiles_from(
    recommender: Recommender,
    records: FactorRecords,
    sequences: UserSequences,
    *,
    split: str,
    min_users: int = MIN_USERS,
) -> FactorProfiles:
    """Return what `profile_factors` does, of what a model thought before.

    Args:
        recommender: The model.
        records: What it thought.
        sequences: All interactions.
        split: Whose targets the records are of, for the label.
        min_users: See `profile_factors`.

    Raises:
        DataError: The records are of fewer than two users.
    """
    counts = training_counts(sequences, recommender.catalogue.n_items)
    reasoner = recommender.model.reasoner
    return profile_records(
        records,
        recommender.catalogue,
        counts,
        split=split,
        min_users=min_users,
        relations=_relations(recommender),
        reads_items=reasoner is not None and reasoner.reads_items,
    )


def profile_records(
    records: FactorRecords,
    catalogue: Catalogue,
    counts: IntArray,
    *,
    split: str,
    min_users: int = MIN_USERS,
    relations: Sequence[str] = (),
    reads_items: bool = False,
) -> FactorProfiles:
    """Return profiles of factor records; see `profile_factors`.

    Args:
        records: What was thought.
        catalogue: Items with their attributes.
        counts: How often each item was taken in training, [N].
        split: Whose targets the records are of, for the label.
        min_users: See `profile_factors`.
        relations: What each factor votes for (`FactorProfile.relation`); none of a model without a memory.
        reads_items: Whether factors read items instead of tokens (`reasoner.reads`).

    Raises:
        DataError: The records are of fewer than two users.
    """
    looks = Looks.of(records)
    if looks.n_users < 2:
        raise DataError(f"the records are of {looks.n_users} user, expected two or more: there is no interval over one")
    values, belongs = compared_values(attribute_values(catalogue), records, catalogue.n_items, min_users)
    percentiles = (rankdata(counts) - 0.5) / len(counts)
    n_compared = max(1, len(values) * records.n_factors)
    n_read = looks.n_read(catalogue.n_items)
    unnamed = [
        FactorProfile(
            factor=k,
            name="",
            gate=looks.mean(records.gates[:, -1, k]),
            elsewhere=max(0.0, 1 - float(looks.attention[:, k].sum()) / looks.n_users),
            spread=looks.spread(k),
            token_spread=looks.mean_of_several(records.token_entropy[:, -1, k]),
            recency=looks.recency(k),
            popularity=looks.popularity(k, percentiles),
            attributes=attribute_lifts(looks, k, values, belongs, n_compared=n_compared),
            items=_typical(looks, k, catalogue, n_read),
            relation=relations[k] if relations else "",
        )
        for k in range(records.n_factors)
    ]
    names = factor_names(unnamed, reads_items=reads_items)
    return FactorProfiles(
        split=split,
        n_targets=len(records),
        n_users=looks.n_users,
        columns=tuple(values[ATTRIBUTE].unique(maintain_order=True).to_list()),
        n_values=len(values),
        factors=tuple(replace(profile, name=name) for profile, name in zip(unnamed, names, strict=True)),
    )


def _relations(recommender: Recommender) -> list[str]:
    memory = recommender.model.memory
    if memory is None:
        return []
    return [
        next((name for name, weight in zip(RELATIONS, weights, strict=True) if weight > _ALONE), "")
        for weights in memory.relations().tolist()
    ]


def _typical(looks: Looks, k: int, catalogue: Catalogue, n_read: IntArray) -> tuple[TypicalItem, ...]:
    read, even = (
        np.bincount(looks.items, weights=weights[:, k], minlength=catalogue.n_items)
        for weights in (looks.attention, looks.even)
    )
    one_user = max(looks.attention[:, k].sum() / looks.n_users, np.finfo(float).tiny)
    lift = (read + one_user) / (even + one_user)
    best = np.argsort(np.where(n_read >= MIN_READ, -lift, 0.0), kind="stable")[:_N_ITEMS]
    return tuple(
        TypicalItem(
            item_index=int(item),
            item_id=str(catalogue.item_ids[item]),
            title=str(catalogue.titles[item]),
            n_read=int(n_read[item]),
            lift=float(lift[item]),
        )
        for item in best
        if n_read[item] >= MIN_READ and lift[item] > 1
    )
