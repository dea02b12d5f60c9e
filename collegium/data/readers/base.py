"""The base class of readers: one class for each kind of data string."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from collegium.data.data_string import DataSpec
from collegium.data.images.load import ImageOptions
from collegium.data.splits import Splits
from collegium.errors import DataError

IMAGE_OPTIONS = ("corrupt", "size", "range", "alpha")
"""Options of data strings for image files, which `load_data` reads into the `ImageOptions`."""
FOLDER_OPTIONS = (*IMAGE_OPTIONS, "val")
"""The same, and `val=test` for folders with val/, which `load_data` handles too."""


class AbstractReader(ABC):
    """Reads the data of one kind of data string, `SLUG:PLACE?key=value`."""

    slug: ClassVar[str]
    """The kind: what a data string begins with."""
    needs: ClassVar[str] = ""
    """What must follow the colon, for messages; empty if nothing must."""
    options: ClassVar[tuple[str, ...]] = ()
    """The keys that may follow a question mark."""
    side: ClassVar[int | None] = None
    """Rows and columns of its images, where only this size is possible."""

    @abstractmethod
    def read(self, spec: DataSpec, image_options: ImageOptions) -> Splits:
        """The splits; train alone is required.

        Raises:
            DataError: the data are missing, damaged, or not what they should be.
        """


def text_lines(path: Path) -> list[str]:
    """The lines of a text file, without blank ones and the spaces around them.

    Raises:
        DataError: it is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text in UTF-8") from error
    return [line.strip() for line in lines if line.strip()]
