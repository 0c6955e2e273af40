"""Which values of attributes a factor reads more of than histories hold, beyond what chance gives.

``share = sum_t sum_i a_ti [i has the value] / sum_t m_t``, ``base`` the same with m_t / n_t for a_ti, and
``lift = (share + s) / (base + s)``: m_t is the attention on a target's n_t items, s one average user's, so that rare
values are drawn towards 1.

The null of a lift: each history's attention falls on its items in any order. Its variance is known,
``sum_i (a_ti - m_t / n_t)^2 sum_i (x_ti - mean x_t)^2 / (n_t - 1)`` per target, targets of one user taken as wholly
dependent. Bernstein's inequality then bounds what chance gives, for all values of all factors at once (Bonferroni),
without trust in a normal approximation, which rare values and attention on single items would break.

Users are many, but items may be few: a factor that likes one film of many histories is sure to read more of whatever
that film has, and less of the rest. So a lift beyond chance has to remain when one item is taken out of all histories:
the item of the value that does most for the lift, or the other item that does.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import polars as pl
from scipy.sparse import csc_array, csr_array

from flr.catalogue.attributes import ATTRIBUTE, VALUE
from flr.diagnostics.factor_records import FactorRecords
from flr.explanation.looks import CONFIDENCE, Looks
from flr.explanation.profiles import AttributeLift
from flr.records import ITEM_INDEX, BoolArray, FloatArray

_N_HIGHEST, _N_LOWEST = 8, 4


def compared_values(
    pairs: pl.DataFrame, records: FactorRecords, n_items: int, min_users: int
) -> tuple[pl.DataFrame, csr_array]:
    """Return the values that enough users' histories hold, and which items have each, [N, V] of 0 and 1."""
    owners = np.repeat(records.users, records.histories.lengths)
    read = pl.DataFrame({ITEM_INDEX: records.histories.item_index.astype(np.int64), "user": owners}).unique()
    frequent = (
        pairs.join(read, on=ITEM_INDEX)
        .group_by(ATTRIBUTE, VALUE)
        .agg(pl.col("user").n_unique().alias("n_users"), pl.col(ITEM_INDEX).n_unique().alias("n_items"))
        .filter(pl.col("n_users") >= min_users, pl.col("n_items") > 1)
        .sort(ATTRIBUTE, VALUE)
        .with_row_index("place")
    )
    kept = pairs.join(frequent, on=[ATTRIBUTE, VALUE])
    place = (kept[ITEM_INDEX].to_numpy(), kept["place"].to_numpy())
    return frequent, csr_array((np.ones(len(kept)), place), shape=(n_items, len(frequent)))


def attribute_lifts(
    looks: Looks, k: int, values: pl.DataFrame, belongs: csr_array, *, n_compared: int
) -> tuple[AttributeLift, ...]:
    """Return the values that a factor reads most above, and most below, their base; the sure ones come first."""
    total = float(looks.attention[:, k].sum())
    if not len(values) or total <= 0:
        return ()
    has = belongs[looks.items]  # [E, V]
    read, even = has.T @ looks.attention[:, k], has.T @ looks.even[:, k]
    one_user = total / looks.n_users
    least, most = _chance(looks, k, belongs, read, n_compared=n_compared)
    lift, low, high = ((np.maximum(mass, 0) + one_user) / (even + one_user) for mass in (read, least, most))
    found = [
        AttributeLift(
            attribute=attribute,
            value=value,
            share=float(read[place] / total),
            base=float(even[place] / total),
            lift=float(lift[place]),
            chance_low=float(low[place]),
            chance_high=float(high[place]),
        )
        for place, (attribute, value) in enumerate(values.select(ATTRIBUTE, VALUE).iter_rows())
    ]
    found.sort(key=lambda one: (not one.is_sure, one.base - one.share))
    above = [one for one in found if one.share >= one.base][:_N_HIGHEST]
    below = sorted(
        (one for one in found if one.share < one.base), key=lambda one: (not one.is_sure, one.share - one.base)
    )
    return (*above, *below[:_N_LOWEST])


def _chance(
    looks: Looks, k: int, belongs: csr_array, read: FloatArray, *, n_compared: int
) -> tuple[FloatArray, FloatArray]:
    """Return the least and the most that a factor reads of each value if it looks at no attribute, [V] each.

    Args:
        looks: Where factors look.
        k: The factor.
        belongs: Which items have each value, [N, V].
        read: What it reads of each value, [V]; where that is outside, it may also look at one item.
        n_compared: Values of factors that are looked at.
    """
    even, variance = _null(looks, k, belongs)
    reach = _bernstein(variance, n_compared)
    least, most = even - reach, even + reach
    beyond = np.flatnonzero((read < least) | (read > most))
    more = looks.attention[:, k] - looks.even[:, k]
    gain = np.bincount(looks.items, weights=more, minlength=belongs.shape[0]).astype(np.float64)
    for item, places in _decisive_items(gain, (read > even)[beyond], belongs[:, beyond]).items():
        some, is_it = beyond[places], looks.items == item
        holds = np.zeros(looks.n_users, dtype=np.bool_)
        holds[looks.users[is_it]] = True
        whole = looks.only(holds[looks.users])  # what other users read stays as it is
        rest = whole.only(whole.items != item)
        (even_whole, variance_whole), (even_rest, variance_rest) = (
            _null(part, k, belongs[:, some]) for part in (whole, rest)
        )
        own = belongs[[item]].toarray()[0, some] * looks.attention[is_it, k].sum()
        middle = own + even[some] - even_whole + even_rest
        reach = _bernstein(np.maximum(variance[some] - variance_whole + variance_rest, 0), n_compared)
        least[some], most[some] = np.minimum(least[some], middle - reach), np.maximum(most[some], middle + reach)
    return least, most


def _decisive_items(gain: FloatArray, is_more: BoolArray, belongs: csr_array) -> dict[int, list[int]]:
    """Return the items that do most for lifts -> places of the values; each has an item of its own, and another one.

    Args:
        gain: Attention that each item gets beyond an even look, [N].
        is_more: Whether the factor reads more of each value than of an even look, [V]; else less.
        belongs: Which items have each value, [N, V].
    """
    columns, found = csc_array(belongs), defaultdict[int, list[int]](list)
    for place, more in enumerate(is_more):
        members = columns.indices[columns.indptr[place] : columns.indptr[place + 1]]
        leaning = gain if more else -gain
        others = leaning.copy()
        others[members] = np.inf
        for item in (members[leaning[members].argmax()], others.argmin()):
            found[int(item)].append(place)
    return found


def _null(looks: Looks, k: int, belongs: csr_array) -> tuple[FloatArray, FloatArray]:
    """Return mean and variance of what a factor reads of each value if its attention fell in any order, [V] each."""
    has = belongs[looks.items]  # [E, V]
    n_targets, n_users = len(looks.lengths), looks.n_users
    uneven = np.bincount(looks.targets, (looks.attention[:, k] - looks.even[:, k]) ** 2, minlength=n_targets)
    entries = np.arange(len(looks.targets))
    to_target = csr_array((np.ones(len(entries)), (looks.targets, entries)), shape=(n_targets, len(entries)))
    n_having = (to_target @ has).tocoo()  # [T, V]: history items that have the value
    target, value = n_having.coords
    n = looks.lengths[target]
    variance = uneven[target] * n_having.data * (1 - n_having.data / n) / np.maximum(n - 1, 1)
    user_of_target = np.zeros(n_targets, dtype=np.int64)
    user_of_target[looks.targets] = looks.users
    of_user = csr_array((np.sqrt(variance), (user_of_target[target], value)), shape=(n_users, has.shape[1]))
    return has.T @ looks.even[:, k], np.asarray(of_user.multiply(of_user).sum(axis=0)).ravel()


def _bernstein(variance: FloatArray, n_compared: int) -> FloatArray:
    """Return how far a sum of independent values of at most 1 strays from its mean, for `n_compared` sums at once."""
    log = np.log(2 * n_compared / (1 - CONFIDENCE))
    reach: FloatArray = log / 3 + np.sqrt(log**2 / 9 + 2 * variance * log)
    return reach
