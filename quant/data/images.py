"""Pictures in files as a column: decoded when asked for, in several threads, a bounded number ahead of what is used.

Pillow lets go of Python's lock while it decodes and resizes. The order of the results is that of the files, whatever
the threads do, and a picture's values do not depend on the batch that it is in.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from struct import error as StructError  # noqa: N812  # an exception
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError, UnavailableError
from quant.data.paths import checked_link

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from PIL.Image import Image

    from quant.data.preprocessing import Preprocessing

# What Pillow decodes by itself; EPS, for one, would run Ghostscript.
# Those that a build of Pillow lacks are left out.
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"),
)
ENDINGS = (
    *(
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".ico",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".jp2",
        ".j2k",
        ".mpo",
        ".pcx",
        ".png",
    ),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".qoi", ".sgi", ".tga", ".tif", ".tiff", ".webp"),
)
_MOST_THREADS = 8
_AHEAD_BYTES = 64 << 20  # of finished pictures that wait for their turn
_TOLERATED = 100  # one picture of so many may be unreadable
# What Pillow's decoders raise over damaged files.
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, IndexError, StructError, OverflowError)


def pillow() -> Any:  # noqa: ANN401  # a module
    """PIL.Image, with the plugins for all formats.

    Raises:
        UnavailableError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise UnavailableError(
            "Pictures are read with Pillow, which is not installed: pip install 'netgauge[images]'."
        ) from error
    return Image


class _Job:
    """A picture that is being decoded, or why it is not."""

    def __init__(
        self, picture: Image | None = None, future: Future[np.ndarray] | None = None, failed: Exception | None = None
    ) -> None:
        self._picture, self._future, self._failed = picture, future, failed

    def result(self) -> np.ndarray:
        """The array; raises what went wrong."""
        if self._failed is not None or self._future is None:
            raise self._failed or ValueError("was never begun")
        return self._future.result()

    def drop(self) -> None:
        """Do not begin it, if it has not begun."""
        if self._future is not None and self._picture is not None and self._future.cancel():
            self._picture.close()


class Pictures:
    """Files as a column of arrays.

    Attributes:
        name: of the data, for messages.
        root: the folder that names are shown relative to, links followed.
        files: one for each sample.
        preprocessing: what is done to each.
        strict: whether one that cannot be read is an error.
        unreadable: position -> file and reason, of those that were found so far.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        files: Sequence[str],
        preprocessing: Preprocessing,
        *,
        strict: bool,
        trust: bool,
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """`sizes`, where labels depend on them: width and height of each picture, which it must have."""
        pillow().init()
        self.name, self.root, self.files, self.preprocessing = name, root, files, preprocessing
        self.strict, self._trust, self._sizes = strict, trust, sizes
        self.unreadable: dict[int, str] = {}
        self._sample = preprocessing.fixed_shape or self._shape_of_first()

    def _shape_of_first(self) -> tuple[int, int, int]:
        """Of the first that can be read: without a crop all must have one size."""
        for position in range(len(self)):
            try:
                found = self._decoded(self._opened(position)).shape
            except _DAMAGED as error:
                self._lost(position, error)
            else:
                return (found[0], found[1], found[2])
        raise DataError(f"{self.name}: none of the {len(self)} pictures can be read; the first: {self.unreadable[0]}")

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an ndarray."""
        return len(self.files), *self._sample

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of an ndarray."""
        return np.dtype(self.preprocessing.dtype)

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.files)

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        """Pictures, all of which must be readable; `stream` leaves gaps instead.

        Raises:
            DataError: one cannot be read.
        """
        positions = np.arange(len(self), dtype=np.intp)[key]
        found = np.empty((len(positions), *self._sample), self.dtype)
        for i, (position, sample) in enumerate(zip(positions, self.stream(positions), strict=True)):
            if sample is None:
                raise DataError(f"{self.name}: {self.unreadable[int(position)]}")
            found[i] = sample
        return found

    def stream(self, positions: np.ndarray) -> Generator[np.ndarray | None]:
        """The pictures at these positions one after the other, None for one that cannot be read.

        Raises:
            DataError: a picture of another size where none is given; more pixels than Pillow takes from a file nobody
                vouches for; with `strict` or where it is more than one in a hundred, one that cannot be read.
            RefusedError: a link that leads out of the folder.
        """
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
        sample_bytes = int(np.prod(self._sample)) * self.dtype.itemsize
        ahead = threads + max(1, min(256, _AHEAD_BYTES // sample_bytes))
        waiting: deque[tuple[int, _Job]] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
            try:
                for position in map(int, positions):
                    waiting.append((position, self._begun(pool, position)))
                    if len(waiting) >= ahead:
                        yield self._ended(*waiting.popleft())
                while waiting:
                    yield self._ended(*waiting.popleft())
            finally:  # whoever asked has had enough
                for _, job in waiting:
                    job.drop()

    def _begun(self, pool: ThreadPoolExecutor, position: int) -> _Job:
        if position in self.unreadable:
            return _Job(failed=ValueError(self.unreadable[position]))
        try:
            picture = self._opened(position)
        except _DAMAGED as error:
            return _Job(failed=error)
        return _Job(picture, pool.submit(self._decoded, picture))

    def _decoded(self, picture: Image) -> np.ndarray:
        with picture:
            return self.preprocessing.apply(picture)

    def _ended(self, position: int, job: _Job) -> np.ndarray | None:
        try:
            sample = job.result()
        except _DAMAGED as error:
            self._lost(position, error)
            return None
        except pillow().DecompressionBombError as error:
            raise self._bomb(position) from error
        if sample.shape != self._sample:
            raise DataError(
                f"{self.name}: {self.files[position]} becomes {_sides(sample.shape)}, others {_sides(self._sample)}; "
                "give --preprocess resize=HEIGHTxWIDTH, or resize=SIDE and crop=SIDE, so that all are of one size"
            )
        return sample

    def _opened(self, position: int) -> Image:
        """A picture of which only the header is read, in the caller's thread: filters of warnings are everybody's."""
        images = pillow()
        path = self.root / self.files[position]
        if not self._trust:
            checked_link(self.root, path, self.name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", images.DecompressionBombWarning)
                warnings.filterwarnings("ignore", category=UserWarning)  # of odd metadata
                picture: Image = images.open(path, formats=[name for name in FORMATS if name in images.OPEN])
        except (images.DecompressionBombWarning, images.DecompressionBombError) as error:
            raise self._bomb(position) from error
        if self._sizes is not None and self.preprocessing.size_of(picture) != self._sizes[position]:
            width, height = picture.size
            picture.close()
            stated = _sides(self._sizes[position])
            raise ValueError(f"is {width}x{height} pixels, and {stated} by its labels")
        return picture

    def _bomb(self, position: int) -> DataError:
        return DataError(
            f"{self.name}: {self.files[position]} has more pixels than Pillow takes from a file nobody vouches for "
            f"({pillow().MAX_IMAGE_PIXELS:,}); shrink it, or leave it out"
        )

    def _lost(self, position: int, error: Exception) -> None:
        if position in self.unreadable:
            return
        reason = " ".join(str(error).replace(f"{self.root}{os.sep}", "").split())[:200] or type(error).__name__
        self.unreadable[position] = text = f"{self.files[position]}: {reason}"
        if self.strict:
            raise DataError(f"{self.name}: a picture cannot be read: {text}; mend or remove it, or leave --strict out")
        if len(self.unreadable) > max(1, len(self) // _TOLERATED):
            names = "; ".join(list(self.unreadable.values())[:3])
            raise DataError(
                f"{self.name}: {len(self.unreadable)} of {len(self)} pictures cannot be read, and one in {_TOLERATED} "
                f"is let pass: {names}"
            )


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
