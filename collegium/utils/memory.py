"""Settings of the C library's heap, and a test for out-of-memory errors.

A step on a CPU frees and allocates the same tensors repeatedly. glibc may return the memory of
large tensors to the system, and then every page of the next tensor causes a page fault. These
faults take up to a fifth of a small network's step (docs/performance.md).
"""

import ctypes
import errno
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # constants of malloc.h
_LARGEST = 1 << 30
# With its header, below glibc's DEFAULT_MMAP_THRESHOLD_MAX.
_LARGEST_LEARNT = (32 << 20) - (64 << 10)
_RAN_OUT = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


def keep_freed_memory() -> bool:
    """Make glibc's heap keep freed memory for the life of the process.

    Call it only in Collegium's own processes (the command line and its workers), never in a host
    program.

    Returns:
        Whether the settings took effect; False for another C library.
    """
    if not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallopt"):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST))


def settle_heap() -> None:
    """Free one block of 32 MiB, so that glibc's heap keeps the memory that training steps free.

    glibc maps blocks above a threshold anew each time, and returns free memory at the end of its
    heap to the system if it exceeds twice the threshold. When a mapped block of up to 32 MiB is
    freed, glibc raises the threshold to its size (mallopt(3), M_MMAP_THRESHOLD). Without this call
    the threshold becomes the size of the largest activation. Then a step that frees more than two
    such activations at the end of the heap causes page faults when it allocates them again.
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
