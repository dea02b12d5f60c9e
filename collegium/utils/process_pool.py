"""Work in several processes that stop on request and end with the process that started them."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.synchronize import Event
from typing import TypeVar

from collegium.utils.memory import keep_freed_memory
from collegium.utils.signals import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")

_stopped: Event | None = None
"""In a worker: set when it must begin nothing new."""


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int
) -> Iterator[Result]:
    """Results in the order of the items, several at a time.

    Args:
        function: of a module, as it is sent to other processes.
        items: what it is given, one by one.
        jobs: processes.

    Raises:
        KeyboardInterrupt: stopped; every worker was given the time to stop well.
        BrokenProcessPool: a worker died.
    """
    context = multiprocessing.get_context("spawn")
    stopped, others = context.Event(), set(multiprocessing.active_children())
    with ProcessPoolExecutor(min(jobs, len(items)), context, _begin, (stopped,)) as pool:
        try:
            yield from pool.map(partial(_do, function), items)
        except KeyboardInterrupt:
            stopped.set()
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(stopped: Event) -> None:
    """Ignore Ctrl-C, which reaches all processes of a terminal: the first one stops the others."""
    global _stopped
    _stopped = stopped
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    end_with_parent()


def _do(function: Callable[[Item], Result], item: Item) -> Result:
    if _stopped is not None and _stopped.is_set():
        raise KeyboardInterrupt
    return function(item)
