"""Tasks on a Ray cluster: the same contract as `pool.py`, on many machines (extra `ray`).

Every worker is an actor that loads what all tasks share once. The calling process hands out one
task at a time to each, so it knows which task a worker died of; that one is given to another
worker. So tasks have to be such that doing one twice is as good as once: outputs appear whole under
their names or not at all. Files are reached by the same paths on all machines.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ravecodec import __version__
from ravecodec.errors import InputError, RavecodecError, UsageError
from ravecodec.pool import THREADS, Died, Work

LOCAL, AUTO = "local", "auto"
TRIES = 3  # of a task whose workers die
STARTS = 3  # workers that may die in a row before they have begun, while none has
LOOK_EVERY = 10.0  # seconds between looks at how large the cluster is by now
ENVIRONMENT = {  # of ray, which reads it when it is imported
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # what it would print of dead workers among our results
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a warning otherwise
}
PASSED_ON = ("RAVECODEC_MODELS",)  # of the environment

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster. jobs: workers at most, None for as many as it has room for; gpu: each has
    one.
    """

    address: str
    jobs: int | None = None
    gpu: bool = False


def check_address(address: str) -> None:
    """UsageError unless this can be the address of a cluster: auto, local, HOST:PORT, or with
    ray:// before it.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address not in (AUTO, LOCAL) and not (host and "/" not in host and port.isdigit()):
        raise UsageError(
            f"--ray {address}: is no address, expected --ray before another option, or "
            "--ray=HOST:PORT, --ray=local"
        )


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module ray, connected to the cluster at this address within the block.

    UsageError if the extra is not installed, or there is no such cluster.
    """
    check_address(address)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray needs the extra: pip install 'ravecodec[ray]'") from error
    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "ERROR",
        "configure_logging": True,
    }
    try:
        with _own_signals():
            if address == LOCAL:
                ray.init(include_dashboard=False, **quiet)
            else:
                ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise UsageError(
            f"--ray {address}: no cluster can be reached ({why}); `ray start --head` starts one, "
            "--ray=local one for this call"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """What this process does on SIGTERM stays what it was before the block: Ray would have it print
    a stack.
    """
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


class _Worker:
    """What runs on a machine of the cluster, in a process of its own."""

    def __init__(self, work: Work[Any, Any], folder: str) -> None:
        self._work = work
        self._folder = folder
        self._do: Callable[..., Any] | None = None

    def start(self) -> tuple[str, Exception | None]:
        """Loads what all tasks share; the version of ravecodec, and what went wrong."""
        try:
            os.chdir(self._folder)
            self._do = self._work.start()
        except OSError as error:
            text = f"{self._folder}: is not there on {os.uname().nodename} ({error.strerror})"
            return __version__, InputError(f"{text}, expected storage that all machines share")
        except Exception as error:
            return __version__, error
        return __version__, None

    def do(self, task: Any) -> Any:
        """One task."""
        assert self._do is not None
        return self._do(task, lambda share: None)


def run_on_cluster(
    work: Work[T, R],
    tasks: Iterable[T],
    cluster: Cluster,
    *,
    threads: int = 1,
    begin: Callable[[T], None] = lambda task: None,
    again: Callable[[T], T] = lambda task: task,
) -> Generator[tuple[T, R | Died], None, None]:
    """Does all tasks on a cluster and yields each with its result, in the order in which they end.

    threads: of the numerical libraries in each worker. begin: called here before a task is handed
    out. again: what is given to the next worker where one has died of a task. Workers are added
    where the cluster grows meanwhile. Close the iterator if it is left early; tasks in hand are
    then given up.

    Raises:
        What `work.start` raises on any machine. UsageError: there is no cluster, or no ray.
        RavecodecError: workers die before they begin, or have another version of ravecodec.
    """
    with connected(cluster.address) as ray:
        crew = _Crew(ray, work, deque(tasks), cluster, threads, begin, again)
        try:
            yield from crew.run()
        finally:
            crew.dismiss()


class _Crew(Generic[T, R]):
    def __init__(
        self,
        ray: Any,
        work: Work[T, R],
        tasks: deque[T],
        cluster: Cluster,
        threads: int,
        begin: Callable[[T], None],
        again: Callable[[T], T],
    ) -> None:
        self._ray = ray
        self._tasks = tasks
        self._jobs = cluster.jobs
        self._threads = threads
        self._gpu = cluster.gpu
        self._begin = begin
        self._again = again
        self._work = ray.put(work)
        self._starting: dict[Any, Any] = {}  # reference to come -> actor
        self._busy: dict[Any, tuple[Any, T]] = {}  # reference to come -> actor and its task
        self._tries: dict[int, int] = {}  # by id of a task, which lives as long as it is tried
        self._retries: deque[T] = deque()
        self._failed_starts = 0

    def run(self) -> Generator[tuple[T, R | Died], None, None]:
        while self._tasks or self._retries or self._busy:
            self._hire()
            known = [*self._starting, *self._busy]
            ready, _ = self._ray.wait(known, timeout=LOOK_EVERY) if known else ([], [])
            for reference in ready:
                if reference in self._starting:
                    self._started(self._starting.pop(reference), reference)
                else:
                    yield from self._ended(*self._busy.pop(reference), reference)

    def dismiss(self) -> None:
        """Ends all workers."""
        for actor in (*self._starting.values(), *(actor for actor, _ in self._busy.values())):
            self._end(actor)

    def _hire(self) -> None:
        """As many workers as there is room for and work."""
        waiting = len(self._tasks) + len(self._retries)
        while len(self._starting) + len(self._busy) < self._room() and (
            len(self._starting) < waiting
        ):
            needs: dict[str, Any] = {"num_cpus": self._threads, "num_gpus": int(self._gpu)}
            environment = dict.fromkeys(THREADS, str(self._threads)) | {
                name: os.environ[name] for name in PASSED_ON if name in os.environ
            }
            make = self._ray.remote(**needs, max_restarts=0, max_task_retries=0)(_Worker)
            actor = make.options(runtime_env={"env_vars": environment}).remote(
                self._work, str(Path.cwd())
            )
            self._starting[actor.start.remote()] = actor

    def _room(self) -> int:
        """Workers that the cluster can hold by now; at least one, which may have to wait."""
        has = self._ray.cluster_resources()
        room = int(has.get("CPU", 0)) // self._threads
        if self._gpu:
            room = min(room, int(has.get("GPU", 0)))
        return max(1, room if self._jobs is None else min(room, self._jobs))

    def _started(self, actor: Any, reference: Any) -> None:
        try:
            version, error = self._ray.get(reference)
        except self._ray.exceptions.RayError as failure:
            self._failed_starts += 1
            if self._failed_starts >= STARTS and not self._busy:
                why = " ".join(str(failure).split())[:300]
                raise RavecodecError(
                    f"no worker could be started on the cluster: {why}"
                ) from failure
            return
        self._failed_starts = 0
        if error is not None:
            raise error
        if version != __version__:
            raise RavecodecError(
                f"a machine of the cluster has ravecodec {version}, expected {__version__}"
            )
        self._next_for(actor)

    def _next_for(self, actor: Any) -> None:
        if self._retries:
            task = self._retries.popleft()
        elif self._tasks:
            task = self._tasks.popleft()
            self._begin(task)
        else:
            self._end(actor)
            return
        self._busy[actor.do.remote(task)] = (actor, task)

    def _ended(
        self, actor: Any, task: T, reference: Any
    ) -> Generator[tuple[T, R | Died], None, None]:
        try:
            result: R = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:  # an error of ours: tasks raise nothing
            raise
        except self._ray.exceptions.RayError:
            self._end(actor)
            tries = self._tries.pop(id(task), 1)
            if tries >= TRIES:
                yield task, Died(None, tries)
                return
            task = self._again(task)
            self._tries[id(task)] = tries + 1
            self._retries.append(task)
            return
        self._tries.pop(id(task), None)
        self._next_for(actor)
        yield task, result

    def _end(self, actor: Any) -> None:
        with suppress(Exception):  # it may be dead already
            self._ray.kill(actor)
