"""The command `collegium`: a table of verbs, how their options are read, how errors end.

Nothing imported here imports torch: `--help` and a refused request answer at once.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tyro

from collegium.cli.commands import VERBS, Call, distill_with
from collegium.errors import CollegiumError, RequestError, UnknownNameError
from collegium.methods import DEFAULT, all_methods, find_method
from collegium.utils.memory import keep_freed_memory
from collegium.utils.os_errors import describe
from collegium.utils.version import VERSION

UNREAD = 128 + 13
"""Exit code where nobody reads the answer: that of a command which SIGPIPE ends."""

_CONFIG = (tyro.conf.CascadeSubcommandArgs,)
"""Common options may come after the method's name too."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit code: 0 done, 1 failed, 2 refused, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "--version"):
        _say(_version() if words[:1] == ["--version"] else _overview())
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
    """The verb, which may have two words, and its options."""
    long = any(verb.startswith(f"{words[0]} ") for verb in VERBS)
    count = 2 if long else 1
    return " ".join(words[:count]), words[count:]


def _run(verb: str, words: list[str]) -> int:
    if verb not in VERBS:
        raise UnknownNameError("command", verb, VERBS)
    call = read(verb, words)
    if call is None:
        return 0
    # What code of a user's prints is not the answer, which alone is on standard output.
    with contextlib.redirect_stdout(sys.stderr):
        answer = call()
    if _another_process_tells():
        return answer.exit_code
    if "--json" in words:
        _say(json.dumps(answer.result))
    elif answer.text:
        _say(answer.text)
    return answer.exit_code


def _say(text: str) -> None:
    with _ends_with_its_reader():
        print(text)  # noqa: T201


@contextlib.contextmanager
def _ends_with_its_reader() -> Iterator[None]:
    """Where nobody reads on what is printed inside, as after `| head`, end without a word."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # What was not written goes nowhere: it would be tried once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(UNREAD) from None


def _another_process_tells() -> bool:
    """Whether this is one of several processes of a run, and not the first."""
    return any(int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def read(verb: str, words: list[str]) -> Call | None:
    """The call a command line asks for, ready to be made; None where it asked for help.

    Raises:
        RequestError: an option that does not exist or a value that makes no sense.
    """
    function = VERBS[verb]
    words, preset = _take_preset(words)
    if verb == "distill":
        words = _check_teachers(words)
        function = distill_with(preset)
    elif preset:
        raise RequestError("--preset belongs to the methods of distill")
    messages = io.StringIO()
    try:
        with _ends_with_its_reader(), contextlib.redirect_stderr(messages):
            call: Call = tyro.cli(function, prog=f"collegium {verb}", args=words, config=_CONFIG)
            return call
    except SystemExit as end:
        if end.code == UNREAD:
            raise
        if not end.code:
            return None
        raise _one_line(messages.getvalue(), verb) from None


def _check_teachers(words: list[str]) -> list[str]:
    """Refuse a run without teachers here: methods have an option of that name too.

    Without the first one given, the option reader stumbles over the second, also where help is
    asked for: then one is given that nobody will look at.
    """
    places = [place for place, word in enumerate(words) if word in all_methods()]
    end = places[-1] if places else len(words)
    slug = words[end] if places else DEFAULT
    given = any(
        place < end or "=" in "".join(words[place : place + 2])
        for place, word in enumerate(words)
        if word.partition("=")[0] == "--teacher"
    )
    asked = {"--help", "-h"} & set(words)
    if not given and not asked and find_method(slug).uses_teachers:
        raise RequestError(
            f"method {slug} hears teachers and none was given: add --teacher NAME=MODEL, or use "
            "vanilla"
        )
    return words if given or not asked else ["--teacher", "NAME=MODEL", *words]


def _take_preset(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Take `--preset NAME` out: it changes the defaults that the other options are read with."""
    for place, word in enumerate(words):
        name, _, value = word.partition("=")
        if name == "--preset":
            slug = next((w for w in reversed(words[:place]) if w in all_methods()), "")
            if not slug:
                raise RequestError(
                    "--preset comes after the name of a method: METHOD --preset NAME"
                )
            rest = words[place + 1 :] if value else words[place + 2 :]
            chosen = value or "".join(words[place + 1 : place + 2])
            find_method(slug).preset(chosen)
            return words[:place] + rest, {slug: chosen}
    return words, {}


def _one_line(box: str, verb: str) -> RequestError:
    """What the option reader says in a box, as one line."""
    parts = _parts(box)
    if not parts:
        return RequestError(f"the options make no sense; see collegium {verb} --help")
    word = parts[0].removeprefix("Unrecognized options: ").split(",")[0]
    if verb == "distill" and word and not word.startswith("-"):
        return UnknownNameError("method", word, all_methods())
    return RequestError("; ".join([*parts, f"see collegium {verb} --help"]))


def _parts(box: str) -> list[str]:
    """The sections of a box without its frame and its title, each as one line."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:]]
    sections: list[list[str]] = [[]]
    for line in lines:
        if set(line) <= {"─"}:
            sections.append([])
        elif line:
            sections[-1].append(line)
    whole = [" ".join(section) for section in sections if section]
    return [text for text in whole if not text.startswith("For full helptext")]


def _fail(verb: str, error: Any, code: int) -> int:
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"collegium {verb}: {message}", file=sys.stderr)  # noqa: T201
    return code


def _version() -> str:

    return f"collegium {VERSION}"


def _overview() -> str:
    rows = [f"  {name:<14}{_summary(function)}" for name, function in VERBS.items()]
    return "\n".join(
        [
            "collegium: one small network from several large ones",
            "",
            "usage: collegium COMMAND [options]        collegium COMMAND --help",
            "",
            *rows,
        ]
    )


def _summary(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().splitlines()[0]


def entry() -> None:
    """What the installed command calls."""
    # torch's notes on its own workings are for its developers; read when torch is imported.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
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
    """End, and at once where another process of a run that failed may be gone.

    An orderly end takes leave of the others, and may wait for them.
    """
    distributed = sys.modules.get("torch.distributed")
    if code == 1 and distributed and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    entry()
