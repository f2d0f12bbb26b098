"""One process or several under `torchrun`: gloo on CPUs, nccl on GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from .sampling import Share

__all__ = ["broadcast_module", "gathered", "is_first", "ranks_joined", "this_share"]

T = TypeVar("T")

_TIMEOUT = timedelta(minutes=10)  # after which ranks give up a rank that went silent


@contextmanager
def ranks_joined(device: str) -> Iterator[torch.device]:
    """Join the ranks that torchrun started, if it did; the device of this one.

    A rank that dies ends the others: torchrun kills them, and without it the connection's loss or
    the time-out raises in their next step.
    """
    if "RANK" not in os.environ:
        yield torch.device(device)
        return
    own = torch.device(device)
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield own
    finally:
        distributed.destroy_process_group()


def this_share() -> Share:
    """This process among all."""
    if not distributed.is_initialized():
        return Share()
    return Share(distributed.get_rank(), distributed.get_world_size())


def is_first() -> bool:
    """Whether this process writes the files."""
    return this_share().rank == 0


def gathered(value: T) -> list[T]:
    """Every rank's value, on all of them, by rank."""
    if not distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


@torch.no_grad()
def broadcast_module(module: nn.Module) -> None:
    """Give all ranks the first one's weights and batch norm statistics."""
    if distributed.is_initialized():
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, 0)
