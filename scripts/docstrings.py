"""An extension of griffe that prepares docstrings for the API pages, which are Markdown.

A doctest becomes a code block; a leading > ("> 0, of the student") is escaped, so that it is no
quotation. zensical.toml names this file.
"""

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", flags=re.DOTALL | re.MULTILINE)
QUOTATION = re.compile(r"^( +\w+: )>", flags=re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites every docstring."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each object of the package."""
        if obj.docstring is not None:
            text = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)
            obj.docstring.value = QUOTATION.sub(r"\1\>", text)
