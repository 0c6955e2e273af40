"""What tests of several stations share."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data sets beside the project; tests that need it are skipped without it."""
    if not _SHARED_DATA.is_dir():
        pytest.skip(f"no real data sets at {_SHARED_DATA}")
    return _SHARED_DATA.resolve()
