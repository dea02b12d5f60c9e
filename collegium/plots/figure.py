"""Figures: a part of a page, an output of a notebook, or an SVG file."""

import abc
from collections.abc import Iterable
from html import escape
from pathlib import Path

from collegium.errors import FolderError
from collegium.utils.files import reporting_writes, write_whole

_COLOURS = {
    "light": "paper:#fcfcfb ink:#1d2330 soft:#5b6475 grid:#e6e9ef "
    "c0:#0072b2 c1:#d55e00 c2:#008a64 c3:#b95f95 c4:#b87a00 c5:#2f8fcb c6:#7a7f87",
    "dark": "paper:#12161d ink:#e7ebf1 soft:#a2acbb grid:#2b333f "
    "c0:#4ba6dd c1:#f0803c c2:#2fbd8f c3:#dd95bd c4:#e8ad2e c5:#8ccbf1 c6:#a3a9b1",
}
"""Colours by scheme; c0 to c6 are the series of Okabe and Ito, adapted to light and dark pages."""
DARK_NOTEBOOKS = ("[data-jp-theme-light=false]", ".vscode-dark", "html[theme=dark]")
"""CSS selectors of the dark themes of Jupyter, VS Code and Colab."""
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif"
_DRAWING_RULES = (".collegium text{font-size:11.5px}", ".collegium .line{fill:none;stroke-width:2}")


class AbstractFigure(abc.ABC):
    """A figure as SVG; its colours are CSS variables of the page around it.

    Attributes:
        name: its title.
        about: how to read it; may be empty.
        size: width and height.
    """

    name: str
    about: str
    size: tuple[float, float]

    @abc.abstractmethod
    def parts(self) -> Iterable[str]:
        """The SVG elements of the drawing."""

    def svg(self, attributes: str = "", before: str = "") -> str:
        """The drawing as an element for a page that sets the colours.

        Args:
            attributes: further ones of the element.
            before: SVG below the drawing.
        """
        width, height = self.size
        box = f'aria-label="{escape(self.name)}" viewBox="0 0 {width:g} {height:g}"'
        return f'<svg role="img" {box}{attributes}>{before}{"".join(self.parts())}</svg>'

    def alone(self) -> str:
        """The drawing as a complete SVG file, in the light scheme."""
        width, height = self.size
        size = f'xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
        look = f".collegium{{{variables('light')};font-family:{FONT}}}{''.join(_DRAWING_RULES)}"
        paper = '<rect width="100%" height="100%" fill="var(--paper)"/>'
        return self.svg(f' {size} class="collegium"', f"<style>{look}</style>{paper}")

    def save(self, path: Path | str) -> Path:
        """Write an SVG file.

        Args:
            path: ends in .svg.

        Raises:
            FolderError: the path has another ending, or cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".svg":
            raise FolderError(f"figures are saved as SVG, not as {path}; try {path.stem}.svg")
        with reporting_writes(path):
            write_whole(path, self.alone().encode())
        return path

    def _repr_svg_(self) -> str:
        return self.alone()

    def _repr_html_(self) -> str:
        return in_notebook(figure_html(self))


def variables(scheme: str) -> str:
    """CSS declarations of a scheme's colours."""
    return ";".join(f"--{colour}" for colour in _COLOURS[scheme].split())


def figure_html(figure: AbstractFigure) -> str:
    """A figure with its title and its note."""
    note = f"<figcaption>{escape(figure.about)}</figcaption>" if figure.about else ""
    return f"<figure><b>{escape(figure.name)}</b>{figure.svg()}{note}</figure>"


def in_notebook(content: str) -> str:
    """HTML for a notebook, in the notebook's scheme and independent of the rest of its page."""
    box = "padding:12px 16px;border-radius:8px;background:var(--paper);color:var(--ink)"
    rules = (
        f".collegium{{{variables('light')};{box};font:14px/1.45 {FONT};max-width:76em}}",
        *(f"{theme} .collegium{{{variables('dark')}}}" for theme in DARK_NOTEBOOKS),
        *_DRAWING_RULES,
        ".collegium figure{margin:8px 16px 8px 0;display:inline-block;width:100%;max-width:34em}",
        ".collegium figure svg{display:block;width:100%;height:auto;margin:4px 0}",
        ".collegium figcaption,.collegium .note{color:var(--soft);font-size:12px}",
        ".collegium table{border-collapse:collapse;margin:8px 0;background:none;color:inherit}",
        ".collegium th,.collegium td{padding:3px 10px;text-align:right;background:none;"
        "border:0;border-bottom:1px solid var(--grid)}",
        ".collegium th:first-child{text-align:left}",
    )
    return f'<div class="collegium"><style>{"".join(rules)}</style>{content}</div>'
