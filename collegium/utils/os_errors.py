"""Errors of the operating system in one line, with what would help."""

import errno

from collegium.utils.memory import ran_out

_FILES = {
    errno.ENOSPC: "the disk is full: free some room",
    errno.EDQUOT: "your share of the disk is full: free some room",
    errno.EFBIG: "a file would be larger than is allowed: see ulimit -f",
    errno.EROFS: "it cannot be written",
    errno.EACCES: "that is not permitted",
    errno.EPERM: "that is not permitted",
    errno.EMFILE: "too many files are open: raise ulimit -n, or give fewer --workers",
    errno.ENFILE: "too many files are open on this machine",
    errno.EIO: "the disk does not answer",
}
_PROCESSES = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")


def describe(error: BaseException) -> str | None:
    """What is missing and what would help; None for an error of another kind."""
    text = str(error).lower()
    if ran_out(error):
        return (
            "out of memory: give --micro-batches 2 or more, --teacher-batch auto, a smaller "
            "--batch-size, or keep the teachers' outputs with --store and --teacher-memory bounded"
        )
    if isinstance(error, OSError):
        advice = _FILES.get(error.errno or 0)
        return f"{error.filename}: {advice}" if advice and error.filename else advice
    if "dataloader worker" in text:
        return "a process that decodes images died: with less memory each, try fewer --workers"
    if any(mark in text for mark in _PROCESSES):
        return "another process of this run has ended: see its messages, or whether it was killed"
    return None
