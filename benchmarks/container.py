"""Which container should hold stored teacher answers: size, writing, looking up; JSON lines.

The answers are fp16 rows: one for each view of each example, `view * examples + example`, each
teacher on its own, in shards of 4,096 rows. Each line gives, for one container and one width,
`megabytes` on disk and `files`, `write_s` (from memory to the page cache, no fsync, least of five:
the disk disturbs some), `open_ms`, and `lookup_ms`: 128 random rows of all teachers into one array
(median of 50, warm cache). `row_by_range` says whether single rows were found in the files' bytes
where `layout` says, so that a range request would do. Every lookup is checked against what was
written. The values are noise as wide as logits: compression finds little in it.

The last lines are hint maps, one teacher, 2,000 rows of 16,384 values, in mapped files only.

    pip install zarr pyarrow
    python benchmarks/container.py --classes 10 100
"""

import argparse
import importlib
import importlib.util
import json
import platform
import statistics
import struct
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

Array = np.ndarray
Lookup = Callable[[Array], Array]
"""Rows (K,) to values (T, K, C)."""
Place = tuple[Path, int]
"""A file and the byte in it where a row begins."""
HALF = np.dtype("<f2")
KEY = "logits"


@dataclass(frozen=True)
class Shape:
    """What is stored: T teachers of N rows of C values, in shards of so many rows."""

    teachers: int
    rows: int
    width: int
    shard: int

    @property
    def row_bytes(self) -> int:
        """Of one teacher's row."""
        return self.width * HALF.itemsize

    def files(self, folder: Path, suffix: str) -> list[list[Path]]:
        """One for each teacher and shard."""
        shards = range(-(-self.rows // self.shard))
        names = [[f"teacher{t}-{s:05d}{suffix}" for s in shards] for t in range(self.teachers)]
        return [[folder / name for name in own] for own in names]


class Container(ABC):
    """A way to write the answers and to look rows up.

    Attributes:
        name: of its line.
        layout: how a row is found among the bytes.
        needs: a package that not everybody has.
    """

    name: str
    layout: str
    needs: str | None = None

    @abstractmethod
    def write(self, folder: Path, values_TNC: Array, shape: Shape) -> None:
        """Write every row of every teacher."""

    @abstractmethod
    def open(self, folder: Path, shape: Shape) -> Lookup:
        """Everything ready for lookups."""

    @abstractmethod
    def place(self, folder: Path, teacher: int, row: int, shape: Shape) -> Place | None:
        """Where the bytes of a row begin; None if a row is no run of bytes."""


class ShardFiles(Container):
    """One file for each shard of each teacher, looked up as numpy views unless said otherwise."""

    suffix: str

    @abstractmethod
    def write_shard(self, file: Path, values_KC: Array) -> None:
        """Write one shard of one teacher."""

    @abstractmethod
    def start(self, file: Path) -> int:
        """The byte where a shard's first row begins."""

    def write(self, folder: Path, values_TNC: Array, shape: Shape) -> None:
        """Write every shard of every teacher."""
        for files, values_NC in zip(shape.files(folder, self.suffix), values_TNC, strict=True):
            for shard, file in enumerate(files):
                self.write_shard(file, values_NC[shard * shape.shard :][: shape.shard])

    def open(self, folder: Path, shape: Shape) -> Lookup:
        """Views of the shards' bytes."""
        files_TS = shape.files(folder, self.suffix)
        shards = [[self.view(file, shape.width) for file in files] for files in files_TS]
        return lambda rows_K: gather(shards, rows_K, shape)

    def view(self, file: Path, width: int) -> Array:
        """A shard as an array over its mapped file."""
        # A plain array: a numpy.memmap takes microseconds longer for a few rows.
        values = np.asarray(np.memmap(file, HALF, mode="r", offset=self.start(file)))
        return values.reshape(-1, width)

    def place(self, folder: Path, teacher: int, row: int, shape: Shape) -> Place:
        """So many rows after the start of its shard."""
        shard, within = divmod(row, shape.shard)
        file = shape.files(folder, self.suffix)[teacher][shard]
        return file, self.start(file) + within * shape.row_bytes


def gather(shards: Sequence[Sequence[Array]], rows_K: Array, shape: Shape) -> Array:
    """Rows of every teacher, shard by shard."""
    shard_K, within_K = np.divmod(rows_K, shape.shard)
    values_TKC = np.empty((shape.teachers, len(rows_K), shape.width), HALF)
    for shard in np.unique(shard_K):
        at = np.flatnonzero(shard_K == shard)
        for teacher in range(shape.teachers):
            values_TKC[teacher, at] = shards[teacher][shard][within_K[at]]
    return values_TKC


class Npy(ShardFiles):
    """Plain numpy files."""

    name, suffix = "npy + memmap", ".npy"
    layout = "header of 128 bytes (its length is at byte 8), then rows"

    def write_shard(self, file: Path, values_KC: Array) -> None:
        """By `numpy.save`."""
        np.save(file, values_KC)

    def start(self, file: Path) -> int:
        """After magic, version, length and header."""
        with file.open("rb") as stream:
            return 10 + int(struct.unpack("<H", stream.read(10)[8:])[0])


class Safetensors(ShardFiles):
    """Safetensors files, mapped by numpy."""

    name, suffix = "safetensors + memmap", ".safetensors"
    layout = "8 bytes length, JSON header with data_offsets, then rows"

    def write_shard(self, file: Path, values_KC: Array) -> None:
        """By the library."""
        save_file({KEY: values_KC}, file)

    def start(self, file: Path) -> int:
        """After length and header, where the header says."""
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        return 8 + int(length) + int(header[KEY]["data_offsets"][0])


class SafetensorsSlices(Safetensors):
    """The same files, read through the library, row by row: it cannot take a list of rows."""

    name = "safetensors + get_slice"

    def open(self, folder: Path, shape: Shape) -> Lookup:
        """One open handle a file."""
        files_TS = shape.files(folder, self.suffix)
        opener: Any = safe_open  # its annotations are incomplete
        slices = [[opener(file, "numpy").get_slice(KEY) for file in files] for files in files_TS]

        def lookup(rows_K: Array) -> Array:
            places = [divmod(int(row), shape.shard) for row in rows_K]
            rows = [[own[shard][row : row + 1] for shard, row in places] for own in slices]
            return np.stack([np.concatenate(parts) for parts in rows])

        return lookup


class Zarr(Container):
    """One zarr array a teacher, in chunks of one shard."""

    needs = "zarr"

    def __init__(self, compressors: Literal["auto"] | None) -> None:
        self.compressors = compressors
        self.name = f"zarr, {'default' if compressors else 'no'} compression"
        whole = "a chunk is compressed whole: fetch it whole"
        self.layout = whole if compressors else "a file without header a chunk, rows only"

    def write(self, folder: Path, values_TNC: Array, shape: Shape) -> None:
        """All chunks of a teacher at once; zarr brings its own threads."""
        zarr: Any = importlib.import_module("zarr")
        for teacher, values_NC in enumerate(values_TNC):
            array = zarr.create_array(
                store=str(folder / f"teacher{teacher}"),
                shape=values_NC.shape,
                chunks=(shape.shard, shape.width),
                dtype="float16",
                compressors=self.compressors,
                zarr_format=3,
            )
            array[:] = values_NC

    def open(self, folder: Path, shape: Shape) -> Lookup:
        """One array a teacher."""
        zarr: Any = importlib.import_module("zarr")
        stores = [str(folder / f"teacher{t}") for t in range(shape.teachers)]
        arrays = [zarr.open_array(store, mode="r") for store in stores]
        return lambda rows_K: np.stack([array.oindex[rows_K] for array in arrays])

    def place(self, folder: Path, teacher: int, row: int, shape: Shape) -> Place | None:
        """In the file of its chunk, if that is not compressed."""
        if self.compressors:
            return None
        shard, within = divmod(row, shape.shard)
        return folder / f"teacher{teacher}" / "c" / str(shard) / "0", within * shape.row_bytes


class Arrow(ShardFiles):
    """Arrow IPC files of one record batch, one column of FixedSizeList, mapped; views by numpy."""

    name, suffix, needs = "arrow ipc + numpy views", ".arrow", "pyarrow"
    layout = "rows in one buffer, its place in the metadata of the record batch"

    def write_shard(self, file: Path, values_KC: Array) -> None:
        """One record batch."""
        arrow: Any = importlib.import_module("pyarrow")
        flat = arrow.array(values_KC.reshape(-1), type=arrow.float16())
        column = arrow.FixedSizeListArray.from_arrays(flat, values_KC.shape[1])
        batch = arrow.record_batch([column], names=[KEY])
        with arrow.OSFile(str(file), "wb") as sink, arrow.ipc.new_file(sink, batch.schema) as to:
            to.write_batch(batch)

    def column(self, file: Path) -> tuple[Any, int]:
        """A shard's column, and the address its mapping begins at."""
        arrow: Any = importlib.import_module("pyarrow")
        mapped = arrow.memory_map(str(file))
        address = int(mapped.read_buffer().address)
        mapped.seek(0)
        return arrow.ipc.open_file(mapped).get_batch(0).column(0), address

    def view(self, file: Path, width: int) -> Array:
        """Of the column's values, nothing copied."""
        values: Array = self.column(file)[0].values.to_numpy(zero_copy_only=True)
        return values.reshape(-1, width)

    def start(self, file: Path) -> int:
        """Where the buffer of the values lies in the file."""
        column, address = self.column(file)
        return int(column.values.buffers()[1].address) - address


class ArrowTake(Arrow):
    """The same files, rows taken by Arrow from all shards as one column."""

    name = "arrow ipc + take"

    def open(self, folder: Path, shape: Shape) -> Lookup:
        """One chunked column a teacher."""
        arrow: Any = importlib.import_module("pyarrow")
        files_TS = shape.files(folder, self.suffix)
        chunks = [[self.column(file)[0] for file in files] for files in files_TS]
        columns = [arrow.chunked_array(own) for own in chunks]

        def lookup(rows_K: Array) -> Array:
            taken = [column.take(arrow.array(rows_K)).combine_chunks() for column in columns]
            flat = np.stack([rows.flatten().to_numpy(zero_copy_only=False) for rows in taken])
            return flat.reshape(shape.teachers, len(rows_K), shape.width)

        return lookup


PLAIN: tuple[Container, ...] = (Npy(), Safetensors())
OTHERS = (SafetensorsSlices(), Zarr("auto"), Zarr(None), Arrow(), ArrowTake())


def lookup_seconds(lookup: Lookup, values_TNC: Array, options: argparse.Namespace) -> float:
    """The median time of a batch.

    Raises:
        RuntimeError: a lookup gave other values than were written.
    """
    draws = np.random.default_rng(1)
    seconds = []
    for _ in range(options.lookups + 1):
        rows_K = draws.choice(values_TNC.shape[1], options.batch, replace=False)
        started = time.perf_counter()
        found_TKC = lookup(rows_K)
        seconds.append(time.perf_counter() - started)
        if not np.array_equal(found_TKC, values_TNC[:, rows_K]):
            raise RuntimeError("a lookup gave other values than were written")
    # The first warms up.
    return statistics.median(seconds[1:])


def row_by_range(container: Container, folder: Path, values_TNC: Array, shape: Shape) -> bool:
    """Whether the first, the last and a middle row lie where the layout says."""
    for teacher in range(shape.teachers):
        for row in (0, shape.rows // 2, shape.rows - 1):
            place = container.place(folder, teacher, row, shape)
            if place is None:
                return False
            with place[0].open("rb") as stream:
                stream.seek(place[1])
                if stream.read(shape.row_bytes) != values_TNC[teacher, row].tobytes():
                    return False
    return True


def measure(
    container: Container, values_TNC: Array, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Everything about one container; it is left in the last of some folders."""
    teachers, rows, width = values_TNC.shape
    shape = Shape(teachers, rows, width, options.shard_rows)
    folders = [folder / str(turn) for turn in range(5)]
    written = []
    for place in folders:
        place.mkdir()
        started = time.perf_counter()
        container.write(place, values_TNC, shape)
        written.append(time.perf_counter() - started)
    files = [file for file in folders[-1].rglob("*") if file.is_file()]
    started = time.perf_counter()
    lookup = container.open(folders[-1], shape)
    opened = time.perf_counter() - started
    return {
        "megabytes": sum(file.stat().st_size for file in files) / 1e6,
        "files": len(files),
        "write_s": min(written),
        "open_ms": 1e3 * opened,
        "lookup_ms": 1e3 * lookup_seconds(lookup, values_TNC, options),
        "row_by_range": row_by_range(container, folders[-1], values_TNC, shape),
        "layout": container.layout,
    }


def report(
    containers: Sequence[Container], values_TNC: Array, title: str, options: argparse.Namespace
) -> None:
    """Print a line for each container, one after the other in folders that go away."""
    about = {"what": title, "shape": list(values_TNC.shape), "machine": platform.machine()}
    for container in containers:
        if container.needs and importlib.util.find_spec(container.needs) is None:
            found: dict[str, Any] = {"skipped": f"pip install {container.needs}"}
        else:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                found = measure(container, values_TNC, Path(folder), options)
        print(json.dumps({"row": container.name, **found, **about}), flush=True)


def noise(teachers: int, rows: int, width: int) -> Array:
    """Values of the size of logits, (T, N, C)."""
    draws = np.random.default_rng(0)
    return (4 * draws.standard_normal((teachers, rows, width), "f4")).astype(HALF)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=45_000)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--teachers", type=int, default=3)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--shard-rows", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lookups", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    options = parser.parse_args()
    for classes in options.classes:
        values_TNC = noise(options.teachers, options.examples * options.views, classes)
        report((*PLAIN, *OTHERS), values_TNC, f"logits, C={classes}", options)
    hints_TNC = noise(1, 2000, 16_384)
    report(PLAIN, hints_TNC, "hint maps", options)


if __name__ == "__main__":
    main()
