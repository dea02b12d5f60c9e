"""Weight of a report page, seconds to make it, and seconds to open it in Chromium: JSON lines.

One line a page. `make` is `page()` of the library with its modules and templates loaded; `open` is
from the request to the page's load event, in a browser that is running (Playwright and `chromium`
on the path; left out where they are missing), the median of several times.

    python benchmarks/report.py runs/student runs/compared
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from collegium.records.run_folder import RUN, Record
from collegium.report.page import page

TIMES = 5


def records_in(folder: Path) -> list[Record]:
    """The run of a folder, or the runs of a comparison."""
    if (folder / RUN).is_file():
        return [Record(folder)]
    return [Record(path.parent) for path in sorted(folder.glob(f"runs/*/seed-*/{RUN}"))]


def seconds(do: Callable[[], object]) -> float:
    """The median of several times."""
    taken = []
    for _ in range(TIMES):
        started = time.perf_counter()
        do()
        taken.append(time.perf_counter() - started)
    return round(statistics.median(taken), 3)


def opened(path: Path) -> float | None:
    """Seconds to open a page; None without a browser."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if program is None:
        return None
    options = ["--headless", "--no-sandbox", "--disable-gpu"]
    with (
        sync_playwright() as play,
        play.chromium.launch(executable_path=program, args=options) as browser,
    ):
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        return seconds(lambda: tab.goto(path.as_uri(), wait_until="load"))


def main() -> None:
    """A line for each folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    with tempfile.TemporaryDirectory() as place:
        for folder in parser.parse_args().folders:
            records = records_in(folder)
            path = Path(place) / "report.html"
            path.write_text(page(records))
            line = {"folder": folder.name, "runs": len(records), "bytes": path.stat().st_size}
            line |= {"make": seconds(lambda records=records: page(records)), "open": opened(path)}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
