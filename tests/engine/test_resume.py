"""A stopped run goes on as if it had not stopped, however it was stopped."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import tiny
import torch
from tiny import differing, tiny_config, weights

from fusionseg.config import save_config
from fusionseg.engine.state import save_state
from fusionseg.engine.train import train
from fusionseg.models.checkpoint import load_checkpoint

KILLS = int(os.environ.get("FUSIONSEG_TEST_KILLS", "3"))
EPOCHS = max(2, KILLS // 2)
STEPS = 6 * EPOCHS


@pytest.fixture(scope="module")
def undisturbed(view_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """The folder of a run on a log that nothing stopped."""

    @cache
    def run(log: Path) -> Path:
        out = tmp_path_factory.mktemp("reference") / "run"
        train(tiny_config(log, view_cache, epochs=EPOCHS), out)
        return out

    return run


@pytest.fixture
def reference(undisturbed: Callable[[Path], Path], plain_log: Path) -> Path:
    """The folder of a run on the plain log that nothing stopped."""
    return undisturbed(plain_log)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Press Ctrl-C when the state of step ``steps`` is being saved."""

    pressed = []

    def save_and_stop(path: Path, **content: object) -> None:
        save_state(path, **content)
        if content["progress"].step == steps and not pressed:
            pressed.append(steps)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("fusionseg.engine.train.save_state", save_and_stop)


@pytest.mark.parametrize(("log", "steps"), [("plain", 2), ("plain", 5), ("plain", 6), ("generated", 4)])
def test_an_interrupted_run_ends_with_the_same_bits(
    log: str,
    steps: int,
    undisturbed: Callable[[Path], Path],
    view_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    path: Path = request.getfixturevalue(f"{log}_log")
    reference = undisturbed(path)
    config = tiny_config(path, view_cache, epochs=EPOCHS)
    stop_after(monkeypatch, steps)
    with pytest.raises(KeyboardInterrupt, match="--resume") as stopped:
        train(config, tmp_path)
    # Ctrl-C in the middle of step n ends the run after a whole step
    assert f"stopped at step {steps + 1} of {STEPS}" in str(stopped.value)
    monkeypatch.undo()
    train(config, tmp_path, resume=True)
    assert differing(tmp_path / "last.safetensors", reference / "last.safetensors") == []
    assert (tmp_path / "log.jsonl").read_text() == (reference / "log.jsonl").read_text()


def test_the_comparison_would_see_a_difference(
    reference: Path, plain_log: Path, view_cache: Path, tmp_path: Path
) -> None:
    train(tiny_config(plain_log, view_cache, epochs=EPOCHS, seed=1), tmp_path)
    assert differing(tmp_path / "last.safetensors", reference / "last.safetensors")


def test_a_finished_run_resumes_to_itself(reference: Path, plain_log: Path, view_cache: Path) -> None:
    before = weights(reference / "last.safetensors")
    assert (
        train(tiny_config(plain_log, view_cache, epochs=EPOCHS), reference, resume=True)
        == reference / "last.safetensors"
    )
    after = weights(reference / "last.safetensors")
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_state_needs_no_pickle(reference: Path) -> None:
    state = torch.load(reference / "state.pt", weights_only=True)
    assert {"model", "average", "optimizer", "random", "progress"} <= state.keys()


def check_readable(out: Path) -> int:
    """Every file of a killed run opens; the step it stands at."""
    for path in out.glob("*.safetensors"):
        load_checkpoint(path)
    if not (out / "state.pt").exists():
        return 0
    # not the optimiser's own count: a weight of a sensor that no view had so far has none
    return int(json.loads(torch.load(out / "state.pt", weights_only=True)["progress"])["step"])


def test_kill_9_loses_nothing_but_the_steps_since_the_last_state(
    reference: Path, plain_log: Path, view_cache: Path, tmp_path: Path
) -> None:
    """FUSIONSEG_TEST_KILLS=10 for the long version."""
    out = tmp_path / "run"
    save_config(tiny_config(plain_log, view_cache, epochs=EPOCHS), tmp_path / "config.yaml")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }
    rng, reached, kills = random.Random(7), 0, 0
    while kills < KILLS:
        resume = ["resume"] if (out / "config.yaml").exists() else []
        command = [sys.executable, tiny.__file__, str(tmp_path / "config.yaml"), str(out), *resume]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
            # wait for the first sign of life, then strike at a random moment
            marks = [path.stat().st_mtime_ns for path in out.glob("state.pt")]
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                if [path.stat().st_mtime_ns for path in out.glob("state.pt")] != marks:
                    break
                time.sleep(0.005)
            time.sleep(rng.uniform(0.0, 0.15))
            process.kill()
            kills += 1
            _, errors = process.communicate()
        # 0: the last step was done before the kill
        assert process.returncode in (0, -signal.SIGKILL), errors.decode()
        step = check_readable(out)
        assert step >= reached
        reached = step
        if step == STEPS:
            break
    assert reached > 0
    (out / ".state.pt.abc.part").write_bytes(b"what the killed run was writing")
    train(tiny_config(plain_log, view_cache, epochs=EPOCHS), out, resume=True)
    assert differing(out / "last.safetensors", reference / "last.safetensors") == []
    assert not list(out.glob(".*.part"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "not a complete training state"),
        (lambda content: b"", "not a complete training state"),
        (lambda content: b"no archive at all", "not a complete training state"),
    ],
)
def test_a_broken_state_is_named(
    damage: object, message: str, reference: Path, plain_log: Path, view_cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_bytes((reference / "config.yaml").read_bytes())
    (tmp_path / "state.pt").write_bytes(damage((reference / "state.pt").read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        train(tiny_config(plain_log, view_cache, epochs=EPOCHS), tmp_path, resume=True)
    assert str(tmp_path / "state.pt") in str(error.value) and "\n" not in str(error.value)


def test_a_state_of_another_configuration_is_refused(reference: Path, plain_log: Path, view_cache: Path) -> None:
    config = tiny_config(plain_log, view_cache, epochs=EPOCHS, seed=5)
    with pytest.raises(ValueError, match="seed was 0, is 5"):
        train(config, reference, resume=True)
    # where the data lies and how many threads prepare it are nobody's concern
    data = replace(config.data, workers=2)
    assert train(replace(config, seed=0, data=data, threads=2), reference, resume=True).exists()


def test_an_existing_run_is_not_written_over(reference: Path, plain_log: Path, view_cache: Path) -> None:
    with pytest.raises(ValueError, match="--resume"):
        train(tiny_config(plain_log, view_cache, epochs=EPOCHS), reference)


def test_nothing_to_resume_is_said(plain_log: Path, view_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        train(tiny_config(plain_log, view_cache, epochs=EPOCHS), tmp_path / "none", resume=True)


def test_training_in_a_thread_leaves_signals_alone(plain_log: Path, view_cache: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    config = tiny_config(plain_log, view_cache, epochs=1)
    thread = threading.Thread(target=train, args=(config, tmp_path))
    thread.start()
    thread.join()
    assert (tmp_path / "last.safetensors").exists() and signal.getsignal(signal.SIGINT) is before
