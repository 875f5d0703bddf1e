"""The logs and the prepared views that the training tests share."""

from pathlib import Path

import pytest
from make_logs import make_plain_log


@pytest.fixture(scope="session")
def plain_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_plain_log(tmp_path_factory.mktemp("plain") / "log", frames=6, cameras=("front", "left"))


@pytest.fixture(scope="session")
def view_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("views")


@pytest.fixture(scope="session", params=["plain", "generated"])
def any_log(request: pytest.FixtureRequest) -> Path:
    """The plain log and the generated one: twelve views each, of sparse labels and of sparse and dense ones."""
    path: Path = request.getfixturevalue(f"{request.param}_log")
    return path
