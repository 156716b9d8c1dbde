"""From a picture to what a model takes: resize, crop, colour, scale, mean and deviation, layout.

The geometry is torchvision's: a shorter side of s makes the longer one int(s * long / short), a crop begins at
round((side - crop) / 2), and a picture smaller than its crop is padded on both sides. transformers rounds half pixels
down instead. Every channel value v in 0..255
becomes (v * scale - mean) / std. One object says all of it and is used for calibration and evaluation alike.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from profiler.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

Resize = Literal["shorter", "longer", "exact"]
LARGEST_SIDE = 16_384
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")  # Pillow's own names
COLOURS = {"RGB": 3, "BGR": 3, "grey": 1}
DTYPES = ("float32", "float16", "float64", "uint8", "int8")
_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values that swap width and height
_CHOICES = {
    "resize_by": ("shorter", "longer", "exact"),
    "interpolation": INTERPOLATIONS,
    "layout": ("NCHW", "NHWC"),
    "colour": tuple(COLOURS),
    "dtype": DTYPES,
    "half_pixel": ("round", "floor"),
    "exif": ("ignore", "apply"),
}


@dataclass(frozen=True)
class Geometry:
    """Where a point of a picture lies in the model's input: x * scale_x + shift_x, y * scale_y + shift_y.

    Attributes:
        scale_x: horizontal enlargement.
        scale_y: vertical enlargement.
        shift_x: pixels that are added on the left by padding; negative where a crop takes some away.
        shift_y: the same at the top.
        width: of the input.
        height: of the input.
    """

    scale_x: float
    scale_y: float
    shift_x: int
    shift_y: int
    width: int
    height: int


@dataclass(frozen=True)
class Preprocessing:
    """What is done to every picture, in this order.

    Attributes:
        exif: "apply" turns the picture as its EXIF orientation says; "ignore" does not, as torchvision and timm.
        colour: "RGB", "BGR" or "grey"; transparency is dropped.
        resize_by: "shorter" or "longer" side, or "exact".
        resize: height and width; of a side the first counts. None leaves the size.
        interpolation: Pillow's name of it. It smooths where it shrinks.
        crop: height and width of the middle part, padded where the picture is smaller; None crops nothing.
        half_pixel: where a crop begins that would begin at half a pixel: "round" to the even one, or "floor".
        fill: value of padded pixels, 0 to 255.
        scale: of a channel's value.
        mean: subtracted from the scaled value; one, or one for each channel in the order of `colour`.
        std: divided by, likewise.
        dtype: of the array; whole numbers only where every value of 0..255 becomes one that fits.
        layout: "NCHW" or "NHWC".

    Raises:
        UsageError: a value that makes no sense.
    """

    resize: tuple[int, int] | None = None
    resize_by: Resize = "shorter"
    interpolation: str = "bilinear"
    crop: tuple[int, int] | None = None
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    colour: str = "RGB"
    layout: str = "NCHW"
    dtype: str = "float32"
    half_pixel: str = "round"
    fill: int = 0
    exif: str = "ignore"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"preprocessing: {name}={getattr(self, name)}: choose from {', '.join(choices)}")
        for name in ("resize", "crop"):
            sides = getattr(self, name)
            if sides is not None and not all(1 <= side <= LARGEST_SIDE for side in sides):
                raise UsageError(
                    f"preprocessing: {name}={_sides(sides)}: sides of 1 to {LARGEST_SIDE} pixels are taken"
                )
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                given = len(getattr(self, name))
                raise UsageError(
                    f"preprocessing: {name} has {given} numbers, and {self.colour} {self.channels} channels"
                )
        if not all(map(np.isfinite, (self.scale, *self.mean, *self.std))) or 0 in self.std or self.scale == 0:
            raise UsageError("preprocessing: scale, mean and std are finite numbers, scale and std not 0")
        if not 0 <= self.fill <= 255:
            raise UsageError(f"preprocessing: fill={self.fill}: a value from 0 to 255 is taken")
        _ = self._table

    @property
    def channels(self) -> int:
        """Of the array."""
        return COLOURS[self.colour]

    @cached_property
    def _table(self) -> np.ndarray:
        """What each value 0..255 becomes, by channel: shape (C, 256), worked out in double precision."""
        mean, std = (np.broadcast_to(values, self.channels)[:, None] for values in (self.mean, self.std))
        exact = (np.arange(256)[None] * self.scale - mean) / std
        dtype = np.dtype(self.dtype)
        if dtype.kind in "iu":
            whole = np.rint(exact)
            limits = np.iinfo(dtype)
            if np.abs(whole - exact).max() > 1e-6 or whole.min() < limits.min or whole.max() > limits.max:
                raise UsageError(
                    f"preprocessing: dtype={self.dtype} with scale={self.scale:.6g} gives values that are no "
                    f"{self.dtype}: give scale=1, and mean and std that keep whole numbers"
                )
            exact = whole
        elif not np.isfinite(exact.astype(dtype)).all():
            raise UsageError(f"preprocessing: dtype={self.dtype} cannot hold the values; use float32")
        table: np.ndarray = exact.astype(dtype)
        return table

    def shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Of the array that a picture of this size becomes."""
        geometry = self.geometry(width, height)
        sides = (geometry.height, geometry.width)
        return (self.channels, *sides) if self.layout == "NCHW" else (*sides, self.channels)

    @property
    def fixed_shape(self) -> tuple[int, int, int] | None:
        """Of the array that any picture becomes; None where it depends on the picture's size."""
        exact = self.resize is not None and self.resize_by == "exact"
        return self.shape(1, 1) if exact or self.crop is not None else None

    def geometry(self, width: int, height: int) -> Geometry:
        """What happens to the points of a picture of this size, which it has after `exif`."""
        new_width, new_height = self._resized(width, height)
        left, top = 0, 0
        out_width, out_height = new_width, new_height
        if self.crop is not None:
            out_height, out_width = self.crop
            left, top = (self._shift(*sides) for sides in ((new_width, out_width), (new_height, out_height)))
        return Geometry(new_width / width, new_height / height, left, top, out_width, out_height)

    def _shift(self, size: int, wanted: int) -> int:
        """Pixels added before a side to make it so long, less those cut away."""
        if size <= wanted:
            return (wanted - size) // 2
        return -((size - wanted) // 2 if self.half_pixel == "floor" else round((size - wanted) / 2))

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.resize is None:
            return width, height
        if self.resize_by == "exact":
            return self.resize[1], self.resize[0]
        side = self.resize[0]
        reference = min(width, height) if self.resize_by == "shorter" else max(width, height)
        return (
            side if width == reference else max(1, int(side * width / reference)),
            side if height == reference else max(1, int(side * height / reference)),
        )

    def size_of(self, picture: Image) -> tuple[int, int]:
        """Width and height of a picture after `exif`; its pixels are not read."""
        turned = self.exif == "apply" and picture.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE
        return (picture.height, picture.width) if turned else (picture.width, picture.height)

    def apply(self, picture: Image) -> np.ndarray:
        """A picture's array; its pixels are read here.

        Raises:
            ValueError: it has more than 8 bits a channel.
            OSError: it is damaged, as Pillow says; other exceptions of its decoders, too.
        """
        from PIL import Image as Pillow
        from PIL import ImageOps

        if picture.mode.startswith(("I", "F")):
            raise ValueError("has more than 8 bits a channel, and how to scale them is not known; save it with 8 bits")
        if self.exif == "apply":
            picture = ImageOps.exif_transpose(picture)
        if "transparency" in picture.info:
            picture = picture.convert("RGBA")  # Pillow warns where palettes with transparency lose it
        picture = picture.convert("L" if self.colour == "grey" else "RGB")
        geometry = self.geometry(*picture.size)
        resized = self._resized(*picture.size)
        if resized[0] * resized[1] > (Pillow.MAX_IMAGE_PIXELS or np.inf):  # a picture of one line grows beyond measure
            raise ValueError(f"would become {resized[0]}x{resized[1]} pixels, more than Pillow takes")
        if resized != picture.size:
            picture = picture.resize(resized, Pillow.Resampling[self.interpolation.upper()])
        if (geometry.width, geometry.height) != picture.size:
            canvas = Pillow.new(picture.mode, (geometry.width, geometry.height), (self.fill,) * self.channels)
            canvas.paste(picture, (geometry.shift_x, geometry.shift_y))
            picture = canvas
        return self._values(np.asarray(picture))

    def _values(self, pixels: np.ndarray) -> np.ndarray:
        planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if self.colour == "BGR":
            planes = planes[::-1]
        values = np.stack([table[plane] for table, plane in zip(self._table, planes, strict=True)])
        return values if self.layout == "NCHW" else np.ascontiguousarray(values.transpose(1, 2, 0))

    def described(self) -> str:
        """All of it in one line, by the names that `--preprocess` takes."""
        from quant.data.preprocess_options import written

        return ", ".join(f"{f.name}={written(self, f.name)}" for f in fields(self) if f.name != "resize_by")


def _sides(sides: tuple[int, int]) -> str:
    return "x".join(map(str, sides))
