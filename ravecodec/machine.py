"""What this process may use of the machine."""

import os


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def bounded_threads(wanted: int) -> int:
    """At most as many threads as cores: more are slower, and very many crash what runs them."""
    return min(wanted, usable_cores())
