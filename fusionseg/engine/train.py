"""Training: from a configuration to a model file."""

import logging
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fusionseg.config import TrainConfig, save_config
from fusionseg.data.collate import Batch
from fusionseg.data.prepare import POINT_FEATURES, RASTER_CHANNELS
from fusionseg.deploy.costs import count_parameters
from fusionseg.engine.dataset import TrainingViews, prefetch
from fusionseg.engine.distill import Distiller
from fusionseg.engine.distributed import (
    average_statistics,
    barrier,
    first_process_first,
    process_group,
    rank,
    sum_over_processes,
    world_size,
)
from fusionseg.engine.optimizer import MovingAverage, learning_rate, make_optimizer
from fusionseg.engine.progress import Progress
from fusionseg.engine.state import RunProgress, load_state, save_state
from fusionseg.engine.teacher import ModelTeacher, load_teacher
from fusionseg.engine.validate import score, validate
from fusionseg.engine.writer import RunWriter
from fusionseg.losses import class_weights, counts, total_loss
from fusionseg.models.build import build_model
from fusionseg.models.checkpoint import load_fitting, save_checkpoint
from fusionseg.models.fake_quant import fake_quantize
from fusionseg.models.shipped import find_model

logger = logging.getLogger(__name__)


def train(config: TrainConfig, out: str | Path, resume: bool = False) -> Path:
    """Train and write into ``out``: ``best`` and ``last.safetensors``, ``config.yaml``, ``log.jsonl``, ``state.pt``.

    Started by torchrun, the processes share each batch; the first one writes. On a CPU a run that is resumed ends with
    the very weights of a run that was never stopped.

    Args:
        config: the experiment.
        out: folder of the run.
        resume: go on from ``state.pt`` of ``out`` (from the start where the run was stopped before its first state).

    Returns:
        The best model's file, or the last where nothing was validated.

    Raises:
        FileNotFoundError: no such log, model or run.
        ValueError: a setting that cannot be, a folder that holds another run, or a loss that is not finite.
        KeyboardInterrupt: after Ctrl-C, once the state is saved; the message says how to go on.
    """
    out = Path(out)
    with process_group(config.device) as device, _numerics(config, device), _interruptible() as stop:
        _check_folder(out, resume)
        run = _Run(config, out, device)
        if resume and (out / "state.pt").exists():
            run.restore()
        elif config.init is not None:
            run.start_from(config.init)
        return run.train(stop)


class _Run:
    """One run: what it learns from, what it changes, where it writes."""

    def __init__(self, config: TrainConfig, out: Path, device: torch.device) -> None:
        self.config, self.out, self.device = config, out, device
        if config.batch_size % world_size():
            raise ValueError(
                f"batch_size is {config.batch_size}; {world_size()} processes share it, choose a multiple of that"
            )
        cache = out / "cache" if config.data.cache is None else Path(config.data.cache).expanduser()
        self.cache = cache
        teacher = None
        if config.distill is not None:
            if not config.distill.teachers:
                raise ValueError(
                    "distill.teachers is empty; name a model file, or leave the section out for the control"
                )
            teacher = load_teacher(config.distill.teachers, device, config.distill.flip)
        self.views = TrainingViews(config, cache, teacher)
        with first_process_first():
            label_counts = self.views.count_labels()
            teacher_channels = None if teacher is None else self.views.ask_teacher()
        self.table = self.views.table
        self.membership = torch.from_numpy(self.table.membership).to(device)
        weights = class_weights(torch.from_numpy(label_counts), config.loss.class_balance, self.membership.cpu())
        self.class_weights = weights.to(device)
        self.steps_per_epoch = len(self.views.order(0)) // self._views_per_step
        if not self.steps_per_epoch:
            raise ValueError(
                f"{len(self.views.order(0))} training views are fewer than the {self._views_per_step} of one step "
                "(batch_size x accumulate); lower these"
            )
        torch.manual_seed(config.seed)
        self.model = build_model(
            config.model,
            classes=len(self.table),
            raster_channels=len(RASTER_CHANNELS),
            point_features=len(POINT_FEATURES),
        )
        if config.quantize:
            logger.info("%d convolutions round to eight bits", fake_quantize(self.model))
        # depthwise convolutions on a CPU run faster with channels last; the choice is fixed so that runs repeat
        self.model = self.model.to(device).to(memory_format=torch.channels_last)
        self.network: nn.Module = self.model
        if world_size() > 1:
            # a process whose views all lack a sensor has no gradient for that encoder
            self.network = DistributedDataParallel(self.model, find_unused_parameters=True)
        self.distiller: Distiller | None = None
        if config.distill is not None:
            fused = config.model.fusion_channels[1]
            self.distiller = Distiller(config.distill, fused, teacher_channels).to(device)
        if isinstance(teacher, ModelTeacher):
            _warn_of_small_teacher(self.model, teacher)
        trained = nn.ModuleList([self.model] if self.distiller is None else [self.model, self.distiller])
        self.optimizer = make_optimizer(trained, config.optimizer)
        self.average = MovingAverage(self.model, config.optimizer.ema_decay)
        self.progress = RunProgress()

    @property
    def _views_per_step(self) -> int:
        return self.config.batch_size * self.config.accumulate

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.steps_per_epoch * self.config.epochs

    def restore(self) -> None:
        """Go back to the saved state."""
        self.progress = load_state(
            self.out / "state.pt",
            config=self.config,
            model=self.model,
            average=self.average,
            optimizer=self.optimizer,
            distiller=self.distiller,
        )
        logger.info("resumed at step %d of %d", self.progress.step, self.steps)

    def start_from(self, path: str) -> None:
        """Take the weights of another model, a shipped name or a file, where they fit."""
        fresh = load_fitting(self.model, find_model(path))
        if fresh:
            parts = Counter(name.split(".")[0] for name in fresh)
            logger.info("%s: start anew: %s", path, ", ".join(f"{n} tensors of {part}" for part, n in parts.items()))
        self.average = MovingAverage(self.model, self.config.optimizer.ema_decay)

    def train(self, stop: threading.Event) -> Path:
        """All epochs that are left."""
        first = rank() == 0
        if first:
            save_config(self.config, self.out / "config.yaml")
        with RunWriter(self.out if first else None, self.progress.step) as writer:
            while self.progress.epoch < self.config.epochs:
                self._epoch(writer, stop)
                self._end_epoch(writer)
        if first:
            self._save_model("last")
        barrier()
        best = self.out / "best.safetensors"
        return best if self.progress.best is not None else self.out / "last.safetensors"

    def _epoch(self, writer: RunWriter, stop: threading.Event) -> None:
        progress, accumulate = self.progress, self.config.accumulate
        title = f"epoch {progress.epoch + 1} of {self.config.epochs}"
        batches = self._batches(progress.epoch, progress.epoch_step)
        self.network.train()
        with Progress(title, self.steps, done=progress.step, quiet=rank() != 0) as bar:
            while progress.epoch_step < self.steps_per_epoch:
                loss, terms = self._step([next(batches).to(self.device) for _ in range(accumulate)])
                progress.step += 1
                progress.epoch_step += 1
                progress.loss_sum += loss
                writer.step(progress.step, loss, terms, self.optimizer.param_groups[0]["lr"])
                bar.advance(f"loss {progress.loss_sum / progress.epoch_step:.3f}")
                every = self.config.checkpoint_every_steps
                stopping = bool(sum_over_processes(torch.tensor(float(stop.is_set()), device=self.device)) > 0)
                if stopping or (every and progress.step % every == 0):
                    self._save_state()
                if stopping:
                    batches.close()
                    raise KeyboardInterrupt(
                        f"stopped at step {progress.step} of {self.steps}; {self.out / 'state.pt'} is saved, "
                        "run the same command with --resume to go on"
                    )

    def _batches(self, epoch: int, first_step: int) -> Any:
        """The micro-batches of this process from a step of an epoch on."""
        config, order = self.config, self.views.order(epoch)
        share = config.batch_size // world_size()
        first, end = (step * self._views_per_step for step in (first_step, self.steps_per_epoch))
        starts = range(first, end, config.batch_size)
        places = (start + rank() * share for start in starts)
        jobs = (partial(self.views.batch, order, epoch, place, place + share) for place in places)
        return prefetch(jobs, max(1, config.data.workers))

    def _step(self, batches: Sequence[Batch]) -> tuple[float, dict[str, float]]:
        """One optimiser step; the loss is normalised by what is labelled in all parts of the step together."""
        config, parts = self.config, len(batches) * world_size()
        labelled = torch.stack([counts(batch, self.membership, self.class_weights) for batch in batches]).sum(dim=0)
        normalizers = sum_over_processes(labelled)
        terms: dict[str, torch.Tensor] = {}
        loss = torch.zeros((), device=self.device)
        for i, batch in enumerate(batches):
            with self._sync(last=i == len(batches) - 1):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=config.amp):
                    image = batch.image.contiguous(memory_format=torch.channels_last)
                    output = self.network(image, batch.lidar, batch.present, batch.points, batch.cell)
                losses = total_loss(output, batch, self.membership, config.loss, self.class_weights, normalizers, parts)
                total, values = losses
                if self.distiller is not None:
                    taught = self.distiller(output, batch)
                    total = total + taught.total / parts
                    values = values | {name: value / parts for name, value in taught.values.items()}
                # DDP averages gradients over the processes, the loss is a sum over them
                (total * world_size()).backward()
            loss += total.detach()
            terms = {name: terms.get(name, 0.0) + value for name, value in values.items()}
        rate = learning_rate(config.optimizer, self.progress.step, self.steps)
        self._update(sum_over_processes(loss), rate)
        return float(sum_over_processes(loss)), {name: float(value) for name, value in terms.items()}

    def _sync(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged once a step, after its last part."""
        if isinstance(self.network, DistributedDataParallel) and not last:
            return self.network.no_sync()
        return nullcontext()

    def _update(self, loss: torch.Tensor, rate: float) -> None:
        if self.distiller is not None and world_size() > 1:
            # the adapter is no part of what DDP wraps
            for parameter in self.distiller.parameters():
                if parameter.grad is not None:
                    parameter.grad = sum_over_processes(parameter.grad) / world_size()
        clip = self.config.optimizer.clip_norm
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip if clip else float("inf"))
        if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
            raise ValueError(
                f"loss {float(loss)} with gradient norm {float(norm)} at step {self.progress.step + 1}: training "
                f"diverged; lower optimizer.lr (now {self.config.optimizer.lr}) or set amp=false and start again"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.model, self.progress.step)

    def _end_epoch(self, writer: RunWriter) -> None:
        """Validate when it is time, log, and save a state in which the next epoch is about to begin."""
        progress, config = self.progress, self.config
        average_statistics(self.model, self.average.model)
        row: dict[str, Any] = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "loss": progress.loss_sum / progress.epoch_step,
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        last = progress.epoch + 1 == config.epochs
        due = last or (config.validate_every > 0 and (progress.epoch + 1) % config.validate_every == 0)
        if rank() == 0 and config.data.val and due:
            self._save_model("last")
            row["val"] = validate(self.out / "last.safetensors", config, str(self.device), self.cache)
            self._keep_best(score(row["val"]))
        logger.info("epoch %d of %d: loss %.4f%s", row["epoch"], config.epochs, row["loss"], _said(row))
        progress.history.append(row)
        progress.epoch, progress.epoch_step, progress.loss_sum = progress.epoch + 1, 0, 0.0
        writer.epoch(progress.history)
        self._save_state()
        barrier()

    def _keep_best(self, miou: float | None) -> None:
        if miou is not None and (self.progress.best is None or miou > self.progress.best):
            self.progress.best = miou
            self._save_model("best", {"miou": f"{miou:.6f}"})

    def _save_model(self, name: str, extra: dict[str, str] | None = None) -> None:
        about = {"step": str(self.progress.step)} | (extra or {})
        save_checkpoint(self.out / f"{name}.safetensors", self.average.model, self.config, self.table, about)

    def _save_state(self) -> None:
        if rank() == 0:
            save_state(
                self.out / "state.pt",
                config=self.config,
                progress=self.progress,
                model=self.model,
                average=self.average,
                optimizer=self.optimizer,
                distiller=self.distiller,
            )


def _warn_of_small_teacher(student: nn.Module, teacher: ModelTeacher) -> None:
    count = count_parameters(student)
    if count > teacher.parameters:
        logger.warning(
            "the student has %d parameters, its teacher %d; is it the wrong way round?", count, teacher.parameters
        )


def _said(row: dict[str, Any]) -> str:
    miou = score(row["val"]) if "val" in row else None
    return "" if miou is None else f", validation miou {miou:.4f}"


def _check_folder(out: Path, resume: bool) -> None:
    """A folder is never written over, and never resumed when nothing was started there."""
    if not resume and (out / "state.pt").exists():
        raise ValueError(f"{out} holds a run already; go on with --resume, or name another folder with --out")
    if resume and not (out / "config.yaml").exists():
        raise FileNotFoundError(f"{out}: no run to resume here; start it without --resume")
    if rank() == 0:
        # what a killed run was writing
        for part in out.glob(".*.part"):
            part.unlink()


@contextmanager
def _numerics(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Threads, and on a CPU algorithms whose sums do not depend on timing; both as before afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        memory.fill_uninitialized_memory = filled


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets, so that the step is finished; the second one interrupts."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        logger.warning("stopping after this step; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
