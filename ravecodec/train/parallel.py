"""One run on several devices: every process draws crops of its own, and gradients are averaged before each step.

Lightning Fabric (extra `distributed`) starts and connects the processes, on one machine or many; under torchrun it
joins those that are there. Only the first process validates, reports and writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ravecodec.device import choose_device
from ravecodec.errors import UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class World:
    """The processes of a run: this one is number `rank` of `size`. Without Fabric it is the only one."""

    def __init__(self, device: torch.device, fabric: Fabric | None = None) -> None:
        self.device = device
        self.rank = fabric.global_rank if fabric else 0
        self.size = fabric.world_size if fabric else 1
        self._fabric = fabric

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replaces every tensor by its mean over all processes; they are exchanged as one."""
        if self._fabric is None:
            return
        parts = list(tensors)
        joined = self._fabric.all_reduce(torch.cat([part.flatten() for part in parts]), reduce_op="mean")
        assert isinstance(joined, Tensor)
        for part, mean in zip(parts, joined.split([part.numel() for part in parts]), strict=True):
            part.copy_(mean.view_as(part))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        vote = torch.tensor([float(flag)], device=self.device)
        self.average([vote])
        return vote.item() > 0

    def wait(self) -> None:
        """Returns when all processes are here."""
        if self._fabric is not None:
            self._fabric.barrier()


def gather(device: str, devices: int = 1, nodes: int = 1) -> World:
    """The world of a run on `devices` devices on each of `nodes` machines; starts the other processes of this machine.

    UsageError if Fabric is not installed or there are not so many devices.
    """
    if devices == nodes == 1:
        return World(choose_device(device))
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    except ImportError as error:
        raise UsageError("several devices need Fabric: `pip install 'ravecodec[distributed]'`") from error
    kind = choose_device(device).type
    try:
        fabric = Fabric(accelerator=kind, devices=devices, num_nodes=nodes, strategy="ddp")
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise UsageError(f"{devices} devices of kind {kind}: {str(error).strip().splitlines()[0]}") from error
    fabric.launch()
    return World(fabric.device, fabric)
