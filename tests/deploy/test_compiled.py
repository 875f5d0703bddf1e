"""Compiled models are kept for the next process, and never trusted when they are not what was kept."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_exports import Exports

from fusionseg.data.log import Log
from fusionseg.deploy.compiled import MAX_KEPT, CompiledCache
from fusionseg.deploy.parity import pick_views
from fusionseg.deploy.runtime import Model, load


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_what_is_written_is_read_under_the_same_facts_alone(cache_home: Path) -> None:
    cache = CompiledCache("compiler", {"file": "a", "version": 1})
    assert cache.read() is None
    cache.write(b"program")
    assert CompiledCache("compiler", {"version": 1, "file": "a"}).read() == b"program"
    assert CompiledCache("compiler", {"version": 2, "file": "a"}).read() is None
    assert [path.parent for path in cache_home.rglob("*.blob")] == [cache_home / "fusionseg" / "compiler"]


@pytest.mark.parametrize("damage", [b"", b"short", bytes(40)])
def test_damaged_files_count_as_none(cache_home: Path, damage: bytes) -> None:
    cache = CompiledCache("compiler", {})
    cache.write(b"program")
    cache.path.write_bytes(damage)
    assert cache.read() is None


def test_only_the_newest_are_kept(cache_home: Path) -> None:
    caches = [CompiledCache("compiler", {"number": number}) for number in range(MAX_KEPT + 2)]
    for number, cache in enumerate(caches):
        cache.write(b"program")
        # clocks of file systems are coarse
        if cache.path.exists():
            os.utime(cache.path, ns=(number, number))
    assert [cache.read() is not None for cache in caches] == [False, False, *[True] * MAX_KEPT]


def test_a_folder_that_cannot_be_made_is_no_error(cache_home: Path) -> None:
    (cache_home / "fusionseg").write_text("a file in the way")
    cache = CompiledCache("compiler", {})
    cache.write(b"program")
    assert cache.read() is None


def test_openvino_compiles_once_and_again_where_the_file_is_useless(
    exports: Exports, log: Log, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    compilations = []

    class Counting(openvino.Core):  # type: ignore[misc]
        def compile_model(self, *args: Any) -> Any:
            compilations.append(args[0])
            return super().compile_model(*args)

    monkeypatch.setattr(openvino, "Core", Counting)

    def answer(model: Model) -> np.ndarray[Any, Any]:
        return model.predict_views(pick_views(log, model, 1))[0].confidence

    folder = exports.folders["openvino"]
    first, second = answer(load(folder)), answer(load(folder))
    assert len(compilations) == 1
    np.testing.assert_array_equal(first, second)
    # whole, yet nothing that OpenVINO made
    (blob,) = cache_home.rglob("*.blob")
    cache = CompiledCache("openvino", {})
    cache.path = blob
    cache.write(b"no program at all")
    np.testing.assert_array_equal(first, answer(load(folder)))
    assert len(compilations) == 2


def test_the_parity_report_has_no_part_in_what_is_compiled(exports: Exports, tmp_path: Path, cache_home: Path) -> None:
    """The gate compiles an export before its report is written; the first to use it then need not."""
    folder = shutil.copytree(exports.folders["openvino"], tmp_path / "copy")
    load(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]["parity.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    kept = list(cache_home.rglob("*.blob"))
    load(folder)
    assert list(cache_home.rglob("*.blob")) == kept
