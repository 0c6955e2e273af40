"""A world whose audit is known by hand.

Ten items are popular (0..9, two trainers each), four are not (10..13, one trainer), item 14 is cold. Three users are
tested: a on items 1 (at the time of the row before) and 14, b on an item taken before, c on item 12.

==========  =============  ===============  ==================================================
target      seen included  seen excluded    why
==========  =============  ===============  ==================================================
a, item 1   1              1                popular
a, item 14  0              0                cold
b, item 1   1              0                a repeat
c, item 12  0              1/4              nine popular ones left, four tie for the last place
==========  =============  ===============  ==================================================
"""

from __future__ import annotations

import numpy as np
import polars as pl

from flr.records import CONTEXT, TEST, TRAIN, PreparedData, UserSequences

#: Item 12 is called what item 0 is called; item 14 is markup.
TITLES = ["Same", *(f"Title {n}" for n in range(1, 12)), " Same", "Rock &amp; Roll", '<span class="a-size">']


def audited_sequences() -> UserSequences:
    users = {
        "t1": (list(range(10)), 0),
        "t2": (list(range(10)), 0),
        "t3": ([10, 11, 12, 13], 0),
        "a": ([0, 1, 14], 2),
        "b": ([1, 1], 1),
        "c": ([2, 12], 1),
    }
    split = []
    for items, n_test in users.values():
        n_train = len(items) - 1 - n_test
        split += [CONTEXT, *[TRAIN] * n_train, *[TEST] * n_test]
    times = np.arange(100, 100 + len(split))
    times[25] = times[24]  # the first target of a
    return UserSequences(
        user_ids=np.array(list(users), dtype=object),
        offsets=np.concatenate([[0], np.cumsum([len(items) for items, _ in users.values()])]).astype(np.int64),
        item_index=np.concatenate([items for items, _ in users.values()]).astype(np.int32),
        timestamps=times,
        split=np.array(split, dtype=np.int8),
    )


def audited_data() -> PreparedData:
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(len(TITLES))], "title": TITLES})
    return PreparedData(audited_sequences(), items, {"data_hash": "9f2c51e0" * 8, "split": "given"})
