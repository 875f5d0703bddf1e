"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pandas as pd
import pytest
from make_logs import make_generated_log

SHARED_DATA = Path(os.environ.get("FUSIONSEG_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real sensor data, or a skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}; set FUSIONSEG_SHARED_DATA")
    return SHARED_DATA


@pytest.fixture(scope="session")
def generated_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of the synthetic world, read by the ordinary loader: twelve frames of 192x128 pixels and 32 beams."""
    return make_generated_log(tmp_path_factory.mktemp("generated") / "log")


@pytest.fixture(scope="session", autouse=True)
def names_as_most_pandas_store_them() -> None:
    """Column names in pickles of test logs are the same whether or not pyarrow happens to be installed."""
    pd.set_option("mode.string_storage", "python")
