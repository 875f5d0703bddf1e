import os
import subprocess
import sys

import numpy as np
import pytest

from fusionseg.deploy import peak
from fusionseg.deploy.machine import THREAD_SETTINGS, describe_machine, fixed_threads, git_commit, peak_memory_mb


def test_threads_get_a_core_each_and_everything_is_as_before_afterwards(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    cores = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError, match="inside"), fixed_threads(1) as threads:
        assert threads == 1
        assert os.sched_getaffinity(0) == {min(cores)}
        assert [os.environ[name] for name in THREAD_SETTINGS] == ["1"] * len(THREAD_SETTINGS)
        raise RuntimeError("inside")
    assert os.sched_getaffinity(0) == cores
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_all_cores_by_default():
    with fixed_threads(None) as threads:
        assert threads == len(os.sched_getaffinity(0))


def test_threads_beyond_the_cores_share_them():
    cores = os.sched_getaffinity(0)
    with fixed_threads(len(cores) + 1) as threads:
        assert threads == len(cores) + 1
        assert os.sched_getaffinity(0) == cores


def test_no_threads_is_an_error():
    with pytest.raises(ValueError, match="threads is 0"), fixed_threads(0):
        pass


def test_the_machine_says_what_decides_its_speed():
    machine = describe_machine()
    assert machine["cpu"]
    assert machine["affinity"] == sorted(os.sched_getaffinity(0))
    assert machine["packages"]["numpy"].count(".") >= 2
    assert machine["memory_gb"] > 0.1


def test_the_commit_is_the_checkouts():
    here = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=os.path.dirname(__file__))
    if here.returncode:
        pytest.skip("not a git checkout")
    assert git_commit().removesuffix("-dirty") == here.stdout[:12]


def test_peak_memory_is_of_the_process_itself_and_not_of_the_one_that_started_it():
    code = "from fusionseg.deploy.machine import peak_memory_mb as p; {}print(p())"
    found = []
    for extra in ("", "x = bytearray(b'1' * 100_000_000); del x; "):
        done = subprocess.run([sys.executable, "-c", code.format(extra)], capture_output=True, text=True, check=True)
        found.append(float(done.stdout))
    # a small process stays small although this one holds pytest and all it has loaded
    assert found[0] < 60
    assert 90 < found[1] - found[0] < 210
    assert peak_memory_mb() > 20


def test_every_library_multiplies_the_same_matrices():
    pytest.importorskip("onnxruntime")
    matrix = np.random.default_rng(0).standard_normal((32, 32), dtype=np.float32)
    products = [np.asarray(product()).squeeze() for product in peak._products(matrix, threads=1)]
    assert len(products) == 3
    for product in products:
        np.testing.assert_allclose(product, matrix @ matrix, rtol=1e-4, atol=1e-4)


def test_the_peak_is_that_of_the_fastest(monkeypatch):
    monkeypatch.setattr(peak, "_products", lambda matrix, threads: ["slow", "fast", "medium"])
    monkeypatch.setattr(peak, "_shortest_s", {"slow": 0.5, "fast": 0.125, "medium": 0.25}.get)
    assert peak.measure_peak(1) == 8 * peak.SIDE**3
