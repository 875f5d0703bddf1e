"""Data-parallel training under torchrun: who am I, add up numbers, let the first process go first."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

# the others wait while the first process prepares views and validates; torch would give up after 10 or 30 minutes
PATIENCE = timedelta(hours=12)


def rank() -> int:
    """This process's number; 0 when there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes, the same on each."""
    if dist.is_initialized():
        values = values.clone()
        dist.all_reduce(values)
    return values


@torch.no_grad()
def average_statistics(*models: nn.Module) -> None:
    """Give every process the mean of all processes' running statistics (batch norm's), which DDP leaves apart."""
    if world_size() > 1:
        for model in models:
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(sum_over_processes(buffer) / world_size())


def barrier() -> None:
    """Wait for the other processes."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def first_process_first() -> Iterator[None]:
    """The first process runs the block alone (and fills the cache), then the others run it."""
    if rank() != 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """Join the processes that torchrun started, if any, and name this process's device.

    ``device`` is ``auto`` (a GPU when there is one), ``cpu``, ``cuda`` or ``cuda:N``. A group that exists stays.

    Raises:
        ValueError: a device torch does not know or does not find.
    """
    chosen = _device(device)
    started = "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized()
    if started:
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield chosen
    finally:
        if started:
            dist.destroy_process_group()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown to torch; choose auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device {name!r} was asked for, but torch finds no CUDA GPU; choose cpu or auto")
        index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
        return torch.device("cuda", index)
    return device
