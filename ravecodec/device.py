"""Where the networks run, and on how many threads."""

from __future__ import annotations

import torch

from ravecodec.errors import UsageError


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU; any other name of torch's is tried. UsageError if it fails."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device is {name!r}; expected auto, cpu, cuda, cuda:1 or another of torch's") from error
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} is not available ({str(error).splitlines()[0]})") from error
    return device
