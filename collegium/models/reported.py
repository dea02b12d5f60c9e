"""Errors of libraries and of users' code, in one line."""

import contextlib
from collections.abc import Iterator

from collegium.errors import RequestError
from collegium.utils.extras import broken_torchvision
from collegium.utils.text import first_line


@contextlib.contextmanager
def reported(
    failure: str, advice: str = "", error_type: type[RequestError] = RequestError
) -> Iterator[None]:
    """Report any error inside in one line; those of ours pass as they are.

    Args:
        failure: what failed; the reason follows.
        advice: what to do; follows the reason.
        error_type: of the error that is raised.

    Raises:
        RequestError: something inside failed.
    """
    try:
        yield
    except RequestError:
        raise
    except Exception as error:
        reason = first_line(error)
        # transformers' image models need no torchvision, and fail without naming a broken one.
        reason = (broken_torchvision() if "Could not import" in reason else "") or reason
        raise error_type("; ".join(filter(None, (f"{failure}: {reason}", advice)))) from error
