"""The C library's heap, told to keep what was freed.

A step on a CPU frees and asks again for the same tensors. glibc gives large ones back to the system
each time, and every page of the next one is faulted in anew: a fifth of a small network's step
(docs/performance.md).
"""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of malloc.h
_LARGEST = 1 << 30


def keep_freed_memory() -> bool:
    """Ask for it, for the life of the process; says whether there was anybody to ask."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST))


def return_freed_memory() -> None:
    """Give the system back what is freed now: before something large is loaded, say."""
    if sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
