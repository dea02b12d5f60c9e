"""Figures: a part of a page, an output of a notebook, or an SVG file."""

import abc
from html import escape
from pathlib import Path

from collegium.errors import FolderError
from collegium.utils.files import write_whole

INK = {
    "light": {
        "paper": "#fcfcfb",
        "ink": "#1d2330",
        "soft": "#5b6475",
        "grid": "#e6e9ef",
        "c": "#0072b2 #d55e00 #008a64 #b95f95 #b87a00 #2f8fcb #7a7f87",
    },
    "dark": {
        "paper": "#12161d",
        "ink": "#e7ebf1",
        "soft": "#a2acbb",
        "grid": "#2b333f",
        "c": "#4ba6dd #f0803c #2fbd8f #dd95bd #e8ad2e #8ccbf1 #a3a9b1",
    },
}
"""Colours by scheme: the series of Okabe and Ito, adapted to light and dark pages."""
DARK_NOTEBOOKS = "[data-jp-theme-light=false],.vscode-dark,html[theme=dark]"
"""CSS selectors of the dark themes of Jupyter, VS Code and Colab."""
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif"
LINES = "text{font-size:11.5px}.line{fill:none;stroke-width:2}"


class AbstractFigure(abc.ABC):
    """A figure as SVG; its colours are CSS variables of the page around it."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Its title."""

    @property
    @abc.abstractmethod
    def about(self) -> str:
        """How to read it; may be empty."""

    @property
    @abc.abstractmethod
    def size(self) -> tuple[float, float]:
        """Width and height."""

    @abc.abstractmethod
    def svg(self) -> str:
        """The drawing as an element for a page that sets the colours."""

    def alone(self) -> str:
        """The drawing as a complete SVG file, in the light scheme."""
        width, height = self.size
        start, _, rest = self.svg().partition(">")
        head = f'{start} xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
        rules = "".join(f".collegium {rule}" for rule in _rules())
        style = f"<style>.collegium{{{variables('light')};font-family:{FONT}}}{rules}</style>"
        paper = '<rect width="100%" height="100%" fill="var(--paper)"/>'
        return f'{head} class="collegium">{style}{paper}{rest}'

    def save(self, path: Path | str) -> Path:
        """Write an SVG file.

        Args:
            path: ends in .svg.

        Raises:
            FolderError: the path has another ending, or cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".svg":
            raise FolderError(
                f"figures are saved as SVG, {path} ends otherwise; try {path.stem}.svg"
            )
        try:
            write_whole(path, self.alone().encode())
        except OSError as error:
            raise FolderError(f"cannot write {path}: {error.strerror}") from None
        return path

    def _repr_svg_(self) -> str:
        return self.alone()

    def _repr_html_(self) -> str:
        return in_notebook(figure_html(self))


def variables(scheme: str) -> str:
    """CSS declarations of a scheme's colours."""
    colours = dict(INK[scheme])
    series = enumerate(colours.pop("c").split())
    return ";".join(
        [
            *(f"--{name}:{value}" for name, value in colours.items()),
            *(f"--c{n}:{v}" for n, v in series),
        ]
    )


def _rules() -> list[str]:
    return [f"{rule}}}" for rule in LINES.split("}") if rule]


def figure_html(figure: AbstractFigure) -> str:
    """A figure with its title and its note."""
    note = f"<figcaption>{escape(figure.about)}</figcaption>" if figure.about else ""
    return f"<figure><b>{escape(figure.name)}</b>{figure.svg()}{note}</figure>"


def in_notebook(content: str) -> str:
    """HTML for a notebook, in the notebook's scheme and independent of the rest of its page."""
    box = "padding:12px 16px;border-radius:8px;background:var(--paper);color:var(--ink)"
    rules = [
        f".collegium{{{variables('light')};{box};font:14px/1.45 {FONT};max-width:76em}}",
        *(f"{where} .collegium{{{variables('dark')}}}" for where in DARK_NOTEBOOKS.split(",")),
        *(f".collegium {rule}" for rule in _rules()),
        ".collegium figure{margin:8px 16px 8px 0;display:inline-block;width:100%;max-width:34em}",
        ".collegium figure svg{display:block;width:100%;height:auto;margin:4px 0}",
        ".collegium figcaption,.collegium .note{color:var(--soft);font-size:12px}",
        ".collegium table{border-collapse:collapse;margin:8px 0;background:none;color:inherit}",
        ".collegium th,.collegium td{padding:3px 10px;text-align:right;background:none;"
        "border:0;border-bottom:1px solid var(--grid)}",
        ".collegium th:first-child{text-align:left}",
    ]
    return f'<div class="collegium"><style>{"".join(rules)}</style>{content}</div>'
