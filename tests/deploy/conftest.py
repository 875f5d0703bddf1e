"""Fixtures of exports."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_exports import Exports, make_exports

from fusionseg.data.log import Log
from fusionseg.data.open import open_log


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where compiled models are kept: not in the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def log(generated_log: Path) -> Log:
    return open_log(generated_log)


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory, log: Log) -> Exports:
    """The exports of a tiny network."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    return make_exports(tmp_path_factory.mktemp("exports"), log)
