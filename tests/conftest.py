"""What tests of several stations share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from browsers import Open, chromium, opening

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a browser; tests that need one are skipped without it."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open pages; see `browsers.opening`."""
    with opening(browser) as open_one:
        yield open_one
