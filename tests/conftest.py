"""What tests of several stations share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes depends on what else the machine does, and is none of these tests' business.
settings.register_profile("flr", deadline=None)
settings.load_profile("flr")

_SHARED_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data sets beside the project; tests that need it are skipped without it."""
    if not _SHARED_DATA.is_dir():
        pytest.skip(f"no real data sets at {_SHARED_DATA}")
    return _SHARED_DATA.resolve()
