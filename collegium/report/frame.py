"""The frame of every page: style, script and numbers in one HTML file that needs no network."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from collegium.plots.chart import Chart, script_json
from collegium.plots.figure import variables
from collegium.plots.tables import colours


def render(template: str, charts: Iterable[tuple[str, Chart]], **content: Any) -> str:
    """A page as HTML; every name is escaped.

    Args:
        template: file name in `templates`.
        charts: the key of each chart on the page, and the chart; the script shows its values.
        **content: variables of the template: `title`, `kind`, and what its blocks use.
    """
    numbers = {key: chart.numbers() for key, chart in charts if chart.lines}
    parts = {"numbers": script_json(numbers), "style": _style(), "script": _file("page.js")}
    return str(_environment().get_template(template).render(content, **parts))


@functools.cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("collegium.report", "templates")
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)


@functools.cache
def _file(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text()


@functools.cache
def _style() -> str:
    """The colours of both schemes, style.css, and the colours of a heat-map's cells."""
    light, dark = variables("light"), variables("dark")
    schemes = f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    cells = (f"{{background:{back};color:{ink}}}" for back, ink in colours())
    heat = "".join(f".h{step}{cell}" for step, cell in enumerate(cells))
    return schemes + _file("style.css") + heat
