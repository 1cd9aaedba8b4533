"""One run on several devices: every process draws crops of its own, and gradients are averaged
before each step.

Lightning Fabric (extra `distributed`) starts and connects the processes, on one machine or many;
under torchrun it joins those that are there. Only the first process validates, reports and writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ravecodec.device import choose_device
from ravecodec.errors import UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


PATIENCE = timedelta(days=2)  # for the first process to decode all audio, or to validate


class World:
    """The processes of a run: this one is number `rank` of `size`.

    Without Fabric it is the only one.
    """

    def __init__(self, device: torch.device, fabric: Fabric | None = None) -> None:
        self.device = device
        self.rank = fabric.global_rank if fabric else 0
        self.size = fabric.world_size if fabric else 1
        self._fabric = fabric

    @property
    def leads(self) -> bool:
        """Whether this is the first process: it validates, reports and writes."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replaces every tensor by its mean over all processes; they are exchanged as one."""
        if self._fabric is None:
            return
        if not (parts := list(tensors)):
            return
        joined = self._fabric.all_reduce(
            torch.cat([part.flatten() for part in parts]), reduce_op="mean"
        )
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

    def abandon(self) -> None:
        """Ends the processes that this one started: it is about to fail, and they would wait for
        it.
        """
        launcher = self._fabric.strategy.launcher if self._fabric else None
        for process in getattr(launcher, "procs", []):
            process.terminate()


def gather(device: str, devices: int = 1, nodes: int = 1) -> World:
    """The world of a run on `devices` devices on each of `nodes` machines; starts the other
    processes of this machine.

    UsageError if Fabric is not installed, there are not so many devices, or torchrun started more
    or fewer processes.
    """
    started = int(os.environ.get("WORLD_SIZE", devices * nodes))
    if started != devices * nodes:
        asked = f"--devices {devices} and --nodes {nodes} ask for {devices * nodes}"
        raise UsageError(f"torchrun started {started} processes, but {asked}")
    if devices == nodes == 1:
        return World(choose_device(device))
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    except ImportError as error:
        raise UsageError(
            "several devices need Fabric: `pip install 'ravecodec[distributed]'`"
        ) from error
    chosen, threads = choose_device(device), torch.get_num_threads()
    if chosen.index is not None:
        raise UsageError(
            f"device is {device!r}; expected a kind of device, like cuda, where there are several"
        )
    strategy = DDPStrategy(timeout=PATIENCE)
    try:
        fabric = Fabric(
            accelerator=chosen.type, devices=devices, num_nodes=nodes, strategy=strategy
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{devices} devices of kind {chosen.type}: {str(error).strip().splitlines()[0]}"
        ) from error
    fabric.launch()
    torch.set_num_threads(threads)  # which Fabric has changed
    return World(fabric.device, fabric)
