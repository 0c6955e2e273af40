"""Named random streams: equal names give equal streams, different names independent ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flr.seeding import derive_seed, generator


def test_a_stream_is_the_same_on_every_machine() -> None:
    assert derive_seed(0, "windows") == 8225412461612985062
    assert generator(0, "windows").integers(1_000_000, size=3).tolist() == [255260, 894299, 371743]


def test_drawing_more_from_one_stream_moves_no_other() -> None:
    first = generator(3, "windows")
    first.random(1000)
    assert generator(3, "weights").random() == generator(3, "weights").random()
    assert generator(3, "windows").random() != first.random()


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.sampled_from(["windows", "weights", "order"]))
def test_seed_purpose_and_counters_all_matter(seed: int, counter: int, purpose: str) -> None:
    here = derive_seed(seed, purpose, counter)
    assert 0 <= here < 2**63
    elsewhere = {derive_seed(seed + 1, purpose, counter), derive_seed(seed, purpose + "s", counter)}
    elsewhere |= {derive_seed(seed, purpose, counter + 1), derive_seed(seed, purpose)}
    assert here not in elsewhere and len(elsewhere) == 4


def test_streams_of_different_purposes_are_uncorrelated() -> None:
    draws = np.stack([generator(0, name).standard_normal(4000) for name in ("windows", "weights", "order")])
    correlation = np.corrcoef(draws) - np.eye(3)
    assert np.abs(correlation).max() < 0.06
