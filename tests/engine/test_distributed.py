"""Two processes give what one process gives that accumulates their half batches."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from tiny import tiny_config, weights

from fusionseg.config import LossConfig, OptimizerConfig, TrainConfig, save_config
from fusionseg.engine.distributed import barrier, process_group, rank, sum_over_processes, world_size
from fusionseg.engine.train import train


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def torchrun(config: TrainConfig, folder: Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Train in ``folder / "two"`` as torchrun would start it."""
    save_config(config, folder / "config.yaml")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--master-addr", "127.0.0.1"]
    command += ["--master-port", str(free_port()), "--nproc-per-node", str(processes)]
    command += [tiny.__file__, str(folder / "config.yaml"), str(folder / "two")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_two_processes_equal_one_that_accumulates(plain_log: Path, view_cache: Path, tmp_path: Path) -> None:
    """Three steps of SGD, whose result follows the gradients closely (Adam would amplify rounding)."""
    one = tiny_config(
        plain_log,
        view_cache,
        epochs=1,
        batch_size=2,
        accumulate=2,
        loss=LossConfig(perception=0.1, lovasz=0.5),
        optimizer=OptimizerConfig(name="sgd", lr=0.05, warmup_steps=0, clip_norm=1.0, ema_decay=0.5),
    )
    train(one, tmp_path / "one")
    result = torchrun(replace(one, batch_size=4, accumulate=1), tmp_path)
    assert result.returncode == 0, result.stderr
    state_one = torch.load(tmp_path / "one" / "state.pt", weights_only=True)
    state_two = torch.load(tmp_path / "two" / "state.pt", weights_only=True)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    for part in ("model", "average"):
        names = [name for name in state_one[part] if not name.endswith(statistics)]
        assert len(names) > 100
        for name in names:
            torch.testing.assert_close(state_two[part][name], state_one[part][name], rtol=1e-4, atol=2e-6, msg=name)
    # both moved away from where they began, so the comparison says something
    train(replace(one, seed=0, optimizer=replace(one.optimizer, lr=1e-12)), tmp_path / "still")
    still = weights(tmp_path / "still" / "last.safetensors")
    moved = weights(tmp_path / "two" / "last.safetensors")
    assert (still["head.logits.weight"] - moved["head.logits.weight"]).abs().max() > 1e-3


STATISTICS = """
import torch
from fusionseg.engine.distributed import average_statistics, process_group, rank
with process_group("cpu"):
    layer = torch.nn.BatchNorm1d(3)
    layer.running_mean.fill_(float(rank()))
    before = layer.weight.clone()
    average_statistics(layer)
    assert layer.running_mean.tolist() == [0.5, 0.5, 0.5], layer.running_mean
    assert layer.num_batches_tracked.item() == 0 and torch.equal(layer.weight, before)
"""


def test_running_statistics_are_those_of_all_processes(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(STATISTICS)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--master-addr", "127.0.0.1"]
    command += ["--master-port", str(free_port()), "--nproc-per-node", "2", str(tmp_path / "script.py")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


def test_only_the_first_process_writes(plain_log: Path, view_cache: Path, tmp_path: Path) -> None:
    result = torchrun(tiny_config(plain_log, view_cache, epochs=1, batch_size=6), tmp_path)
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "two" / "log.jsonl").read_text().splitlines()) == 1
    assert not list((tmp_path / "two").glob(".*.part"))


def test_a_batch_that_cannot_be_shared_is_refused(plain_log: Path, view_cache: Path, tmp_path: Path) -> None:
    result = torchrun(tiny_config(plain_log, view_cache, batch_size=3), tmp_path)
    assert result.returncode != 0
    assert "batch_size is 3; 2 processes share it" in result.stderr


def test_alone_there_is_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with process_group("cpu") as device:
        assert (device.type, rank(), world_size()) == ("cpu", 0, 1)
        assert sum_over_processes(torch.tensor([2.0])).item() == 2.0
        barrier()


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(ValueError, match="device 'tractor' is unknown"), process_group("tractor"):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="finds no CUDA GPU"), process_group("cuda"):
            pass
