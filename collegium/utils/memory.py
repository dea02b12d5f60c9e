"""Memory: settings of the C library's heap, and errors that mean that memory ran out.

A step on a CPU frees and allocates the same tensors again and again. glibc may return the memory of
large ones to the system, and then every page of the next one causes a page fault: up to a fifth of
a small network's step (docs/performance.md).
"""

import ctypes
import errno
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of malloc.h
_LARGEST = 1 << 30
_LARGEST_LEARNT = (32 << 20) - (
    64 << 10
)  # with its header, below glibc's DEFAULT_MMAP_THRESHOLD_MAX
_RAN_OUT = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


def keep_freed_memory() -> bool:
    """Let glibc's heap keep freed memory for the life of the process; False for another C library.

    For processes of our own alone: the command line and its workers, never a host program.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST))


def settle_heap() -> None:
    """Free one block of 32 MiB, after which glibc's heap keeps what the steps of a training free.

    glibc maps blocks above a threshold anew each time, and gives free memory at the end of its heap
    back above twice that. It raises the threshold to the size of any freed block up to 32 MiB
    (mallopt(3), M_MMAP_THRESHOLD). Without, it is the size of the largest activation, and a step
    that frees more than two of them at the end of the heap faults their pages in again.
    """
    bytearray(_LARGEST_LEARNT)


def ran_out(error: BaseException) -> bool:
    """Whether an error means that the memory of the machine or of a device is exhausted.

    >>> ran_out(RuntimeError("CUDA out of memory. Tried to allocate")), ran_out(ValueError("no"))
    (True, False)
    """
    named = isinstance(error, RuntimeError) and any(w in str(error).lower() for w in _RAN_OUT)
    return named or isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM


def return_freed_memory() -> None:
    """Return the heap's free memory to the system, for example before a large model is loaded."""
    if sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
