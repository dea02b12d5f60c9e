"""The command `collegium`: which command it is, and how results and errors are printed.

Nothing imported here imports torch, so `--help` and a refused request answer at once.
"""

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from collegium.cli.commands import VERBS
from collegium.cli.options import Command
from collegium.cli.parser import help_of, read_options
from collegium.errors import CollegiumError, UnknownNameError
from collegium.utils.memory import keep_freed_memory
from collegium.utils.os_errors import describe
from collegium.utils.version import VERSION

UNREAD = 128 + 13
"""Exit code where no process reads the answer: that of a command which SIGPIPE ends."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit code: 0 done, 1 failed, 2 refused, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "--version"):
        _print(f"collegium {VERSION}" if words[:1] == ["--version"] else _overview())
        return 0
    verb, rest = _verb(words)
    try:
        return _run(verb, rest)
    except CollegiumError as error:
        return _fail(verb, error, error.exit_code)
    except KeyboardInterrupt:
        return _fail(verb, "interrupted", 130)
    except (OSError, MemoryError, RuntimeError) as error:
        reason = describe(error) or (error if isinstance(error, OSError) else None)
        if reason is None:  # a fault of ours
            raise
        return _fail(verb, reason, 1)


def _verb(words: list[str]) -> tuple[str, list[str]]:
    """The command's name, which may have two words, and its options."""
    count = 2 if any(verb.startswith(f"{words[0]} ") for verb in VERBS) else 1
    return " ".join(words[:count]), words[count:]


def _run(verb: str, words: list[str]) -> int:
    if verb not in VERBS:
        raise UnknownNameError("command", verb, VERBS)
    command = read(verb, words)
    if command is None:
        return 0
    # Standard output is for the answer alone; what a user's own code prints goes elsewhere.
    with contextlib.redirect_stdout(sys.stderr):
        answer = command.run()
    if _another_process_answers():
        return answer.exit_code
    if command.json:
        _print(json.dumps(answer.result))
    elif answer.text:
        _print(answer.text)
    return answer.exit_code


def _print(text: str) -> None:
    """Print; end silently where no process reads it, as after `| head`."""
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        # Python would try once more at its end to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(UNREAD) from None


def _another_process_answers() -> bool:
    """Whether this is one of several processes of a run, and not the first."""
    return any(int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def read(verb: str, words: Sequence[str]) -> Command | None:
    """The command that a command line names; None where it requests help, which is printed.

    Raises:
        RequestError: an option that does not exist or a value that makes no sense.
    """
    command = VERBS[verb]
    if {"--help", "-h"} & set(words):
        _print(help_of(verb, command, words))
        return None
    return read_options(verb, command, words)


def _fail(verb: str, error: Any, code: int) -> int:
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"collegium {verb}: {message}", file=sys.stderr)  # noqa: T201
    return code


def _overview() -> str:
    title = "collegium: one small network from several large ones"
    usage = "usage: collegium COMMAND [options]        collegium COMMAND --help"
    rows = [f"  {name:<14}{_summary(command)}" for name, command in VERBS.items()]
    return "\n".join([title, "", usage, "", *rows])


def _summary(command: type[Command]) -> str:
    return (command.__doc__ or "").strip().splitlines()[0]


def entry() -> None:
    """What the installed command calls."""
    # Hide torch's notes for its developers; torch reads this when it is imported.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # Two ways to write the strides of a 1x1 convolution: no data are moved.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # Large tensors in huge pages: fewer faults, 2 to 3 % of a small network's step on a CPU.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    _limit_spinning()
    keep_freed_memory()
    _leave(main())


def _limit_spinning() -> None:
    """Let idle threads of OpenMP sleep soon, unless the user has chosen how they wait.

    Beside a busy program a spinning thread takes the core that the thread it waits for needs. torch
    reads these variables when it is imported: libgomp the first, libomp the second.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # 0.1 ms or less
        os.environ.setdefault("KMP_BLOCKTIME", "1")  # ms


def _leave(code: int) -> None:
    """End; at once where another process of a run that failed may have ended already.

    An orderly end waits for the other processes.
    """
    distributed = sys.modules.get("torch.distributed")
    if code == 1 and distributed and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    entry()
