"""Tasks in processes of their own: each loads what it needs once, and the death of one costs no
more than its task.

The processes are spawned, not forked, because torch's threads do not survive a fork. Each has a
pipe to the one that started it, so it is known which task a process died of; the pools of the
standard library give up all tasks then.
With one process wanted, everything is done in the calling one.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from threading import Thread
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

from ravecodec.errors import RavecodecError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
GRACE = 10.0  # seconds that a process has to remove its temporary file before it is killed
PROGRESS_EVERY = 0.5  # seconds

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

Hear = Callable[[float], None]  # of the share, 0 to 1, of a task that is done


class Work(Protocol[T_contra, R_co]):
    """What is to be done with every task. It is sent to the processes, so it can be pickled."""

    def start(self) -> Callable[[T_contra, Hear], R_co]:
        """Loads what all tasks share, and returns the function that does one task.

        That function raises nothing.
        """
        ...


@dataclass(frozen=True)
class Died:
    """What stands in place of a result where the process died.

    code: its exit status, negative for a signal's, None where it is not known. tries: how many
    processes died of the task.
    """

    code: int | None
    tries: int = 1

    def __str__(self) -> str:
        if self.tries > 1:
            return f"{self.tries} workers died of it, one after the other"
        if self.code is not None and self.code < 0:
            with suppress(ValueError):
                return f"its process was ended by {signal.Signals(-self.code).name}"
        return f"its process ended with exit status {self.code}"


class _Stop(BaseException):
    """The calling process wants this one to end; unwinds the stack, so that temporary files are
    removed.
    """


def run_tasks(
    work: Work[T, R],
    tasks: Iterable[T],
    *,
    jobs: int,
    threads: int = 1,
    begin: Callable[[T], None] = lambda task: None,
    hear: Callable[[T, float], None] | None = None,
) -> Generator[tuple[T, R | Died], None, None]:
    """Does all tasks in up to `jobs` processes and yields each with its result, in the order in
    which they end.

    threads: of the numerical libraries in each process. begin: called here before a task is handed
    out. hear: called here with the share of a task that is done, now and then; None where nobody
    wants to know. Close the iterator if it is left early (`contextlib.closing`): tasks in hand are
    then given up, and their temporary files removed.

    Raises:
        What `work.start` raises, from any of the processes.
    """
    if jobs > 1:
        return _Pool(work, tasks, jobs, threads, begin, hear).run()
    return _run_here(work, tasks, begin, hear)


def _run_here(
    work: Work[T, R],
    tasks: Iterable[T],
    begin: Callable[[T], None],
    hear: Callable[[T, float], None] | None,
) -> Generator[tuple[T, R | Died], None, None]:
    do = None
    for task in tasks:
        do = do or work.start()
        begin(task)
        yield task, do(task, _Throttled(partial(hear, task)) if hear else _deaf)


def _deaf(share: float) -> None:
    """Ignore the share that is done."""


class _Throttled:
    """Passes on what it hears at most every PROGRESS_EVERY seconds."""

    def __init__(self, tell: Hear) -> None:
        self._tell = tell
        self._next = 0.0

    def __call__(self, share: float) -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + PROGRESS_EVERY
            self._tell(share)


# ---- the calling process -------------------------------------------------------------------------


class _Worker(Generic[T]):
    """A process, the pipe to it, and the task it has in hand."""

    def __init__(self, work: Work[T, Any], threads: int, reports: bool) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work, reports), daemon=True)
        self.task: T | None = None
        self.started = False
        with _interrupts_held(), _threads_of_children(threads):
            self.process.start()
        theirs.close()  # so that the pipe ends when the process does

    def give(self, task: T) -> None:
        self.task = task
        with suppress(OSError):  # the process died meanwhile, which the next read will find
            self.pipe.send(task)

    def read(self) -> tuple[str, Any]:
        """The next message; ("died", Died) where none will come."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return "died", Died(self.process.exitcode)

    def let_go(self) -> None:
        """Tells a process that has nothing in hand that there is no more to do."""
        self.pipe.close()


class _Pool(Generic[T, R]):
    def __init__(
        self,
        work: Work[T, R],
        tasks: Iterable[T],
        jobs: int,
        threads: int,
        begin: Callable[[T], None],
        hear: Callable[[T, float], None] | None,
    ) -> None:
        self._work = work
        self._tasks = iter(tasks)
        self._jobs = jobs
        self._threads = threads
        self._begin = begin
        self._hear = hear
        self._workers: list[_Worker[T]] = []
        self._idle: list[_Worker[T]] = []  # on their way out

    def run(self) -> Generator[tuple[T, R | Died], None, None]:
        try:
            while len(self._workers) < self._jobs and self._hire():
                continue
            while self._workers:
                yield from self._listen()
        finally:
            self._stop()

    def _hire(self) -> bool:
        """One more process for the next task, if there is one."""
        for task in self._tasks:
            worker = _Worker[T](self._work, self._threads, self._hear is not None)
            self._workers.append(worker)
            self._hand_out(worker, task)
            return True
        return False

    def _hand_out(self, worker: _Worker[T], task: T) -> None:
        self._begin(task)
        worker.give(task)

    def _listen(self) -> Generator[tuple[T, R | Died], None, None]:
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[pipe]  # type: ignore[index]
            word, content = worker.read()
            assert worker.task is not None
            if word == "started":
                worker.started = True
            elif word == "cannot":
                raise content
            elif word == "share" and self._hear is not None:
                self._hear(worker.task, content)
            elif word == "done":
                done, worker.task = worker.task, None
                self._next_for(worker)
                yield done, content
            elif word == "died":
                self._workers.remove(worker)
                if not worker.started:
                    raise RavecodecError(f"no process for the work could be started: {content}")
                done = worker.task
                self._hire()
                yield done, content

    def _next_for(self, worker: _Worker[T]) -> None:
        for task in self._tasks:
            self._hand_out(worker, task)
            return
        self._workers.remove(worker)
        self._idle.append(worker)
        worker.let_go()

    def _stop(self) -> None:
        """Ends the processes that are left, after they have removed what they were writing."""
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE
        for worker in (*self._workers, *self._idle):
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that are started within the block never hear of Ctrl-C: this one decides what
    becomes of them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # starting it lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _threads_of_children(count: int) -> Iterator[None]:
    """Numerical libraries of processes that are started within the block use so many threads."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# ---- the other ones ------------------------------------------------------------------------------


def _serve(pipe: Connection, work: Work[Any, Any], reports: bool) -> None:
    """What a process does from its beginning to its end."""
    # OSError: the calling process is gone.
    with suppress(_Stop, EOFError, OSError), _stopped_by_signals():
        Thread(target=_end_with_parent, daemon=True).start()
        try:
            do = work.start()
        except Exception as error:
            pipe.send(("cannot", error))
            return
        pipe.send(("started", None))
        tell = _Throttled(lambda share: pipe.send(("share", share))) if reports else _deaf
        while True:
            pipe.send(("done", do(pipe.recv(), tell)))


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Within the block the first SIGTERM or SIGHUP raises _Stop; a SIGHUP that is ignored, as
    `nohup` does, stays so. Behind it both are ignored, because the process ends anyway.
    """
    numbers = [signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)

    def stop(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise _Stop

    for each in numbers:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)


def _end_with_parent() -> None:
    """Stops this process when the one that started it has ended, be it by kill -9."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
