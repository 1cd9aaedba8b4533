"""Where the networks run, and on how many threads."""

from __future__ import annotations

import os
import warnings

import torch
from torch import nn

from ravecodec.errors import UsageError
from ravecodec.machine import bounded_threads

_forked = False


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU; any other name of torch's is tried.

    UsageError if it fails.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    expected = "expected auto, cpu, cuda, cuda:1 or another of torch's"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"device is {name!r}; {expected}") from error
    if device.type == "cpu" and device.index:
        raise UsageError(f"device is {name!r}, but there is one cpu; {expected}")
    try:
        works = float(torch.ones(1, device=device).add(1)) == 2
    except Exception as error:  # what a backend that is not there raises is of many kinds
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise UsageError(f"device {name!r} is not available ({reason}); {expected}") from error
    if not works:
        raise UsageError(f"device {name!r} does not compute; {expected}")
    return device


def set_threads(count: int) -> None:
    """CPU threads of torch in this whole process: at most one per core, and one in a forked child
    (see below).

    UsageError for less than one.
    """
    if count < 1:
        raise UsageError(f"threads are {count}, expected 1 or more")
    torch.set_num_threads(1 if _forked else bounded_threads(count))


def _one_thread_in_child() -> None:
    """Threads do not survive a fork: a child that waits for those of its parent's pool waits for
    ever.
    """
    global _forked
    _forked = True
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread_in_child)


def device_of(network: nn.Module) -> torch.device:
    """Where the weights of a network are."""
    return next(network.parameters()).device
