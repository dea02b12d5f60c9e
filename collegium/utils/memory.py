"""Memory: the C library's heap, told to keep what was freed, and how to see that there is none.

A step on a CPU frees and asks again for the same tensors. glibc gives large ones back to the system
each time, and every page of the next one is faulted in anew: a fifth of a small network's step
(docs/performance.md).
"""

import ctypes
import errno
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of malloc.h
_LARGEST = 1 << 30
_RAN_OUT = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


def keep_freed_memory() -> bool:
    """Ask for it, for the life of the process; says whether there was anybody to ask."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST))


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, of the machine or of a device.

    >>> ran_out(RuntimeError("CUDA out of memory. Tried to allocate")), ran_out(ValueError("no"))
    (True, False)
    """
    said = isinstance(error, RuntimeError) and any(w in str(error).lower() for w in _RAN_OUT)
    return said or isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM


def return_freed_memory() -> None:
    """Give the system back what is freed now: before something large is loaded, say."""
    if sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
