"""COCO's JSON of pictures and boxes, the boxes brought into the model's input.

A box x, y, w, h of the picture becomes x1 y1 x2 y2 in pixels of the input by the geometry that the picture goes
through, cut at the input's edges; the area is multiplied by both scales and by the part of the box that is left.
Categories become 0 to C - 1 in the order of their ids, as most networks are trained.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError, ModelError
from profiler.sources.strict_json import read_json
from quant.data.images import Pictures
from quant.data.paths import inside, root_of
from quant.data.samples import Samples

if TYPE_CHECKING:
    from pathlib import Path

    from quant.data.options import Options
    from quant.data.preprocessing import Geometry, Preprocessing

PADDING = -1
_MOST_BOXES = 10_000  # of one picture: the arrays are as wide as the fullest one
_LARGEST = 1 << 20  # sides of a picture
_FARTHEST = 1e15  # a coordinate or an area


@dataclass(frozen=True)
class _Box:
    """An annotation in the model's input."""

    corners: tuple[float, float, float, float]
    kind: int
    crowd: bool
    area: float


def open_coco(path: Path, name: str, preprocessing: Preprocessing, options: Options) -> Samples:
    """Samples from a COCO annotation file (`instances_*.json`).

    `further` has `boxes` float32 (n, M, 4), `classes` int64 (n, M), `crowd` bool (n, M) and `area` float32 (n, M) in
    pixels of the input; M is the largest number of boxes of a picture, and what a picture lacks is -1 (crowd: False).

    Raises:
        DataError: it is damaged, or an annotation lacks what it needs.
        RefusedError: it is too long, or a path leads out of the folder.
    """
    content = _content(path, name, options)
    root = root_of(options.images or path.parent, name)
    pictures = [_picture(entry, name) for entry in content["images"]]
    if not pictures:
        raise DataError(f"{name}: lists no pictures")
    numbers = {identity: number for number, identity in enumerate(sorted(_categories(content["categories"], name)))}
    places = {identity: i for i, (identity, _, _) in enumerate(pictures)}
    if len(places) < len(pictures):
        raise DataError(f"{name}: two pictures have the same id")
    for _, file, _ in pictures:
        inside(root, file, name, trust=options.trust)
    geometries = [preprocessing.geometry(*size) for _, _, size in pictures]
    found: dict[int, list[_Box]] = defaultdict(list)
    gone = 0
    for entry in content["annotations"]:
        place, box = _box(entry, places, numbers, geometries, name)
        if box is None:
            gone += 1
        else:
            found[place].append(box)
    names = _categories(content["categories"], name)
    listed = ", ".join(f"{names[identity]}={number}" for identity, number in list(numbers.items())[:5])
    notes = [
        f"{name}: {len(numbers)} categories, numbered from 0 in the order of their ids: {listed}"
        + (", ..." if len(numbers) > 5 else "")
    ]
    if gone:
        notes.append(f"{name}: left out {gone} boxes that have no area or lie outside what the model sees")
    column = Pictures(
        name,
        root,
        [file for _, file, _ in pictures],
        preprocessing,
        strict=options.strict,
        trust=options.trust,
        sizes=[size for _, _, size in pictures],
    )
    return Samples({"x": column}, None, name, None, _padded(found, len(pictures), name), tuple(notes))


def _content(path: Path, name: str, options: Options) -> Mapping[str, Any]:
    options.progress(f"reading {name}", None)
    try:
        content = read_json(path, options.limits)
    except ModelError as error:
        raise DataError(str(error)) from error
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise DataError(
            f"{name}: is JSON without the lists images, annotations and categories; a COCO annotation file of boxes "
            "(instances_*.json) is expected"
        )
    return content


def _picture(entry: Any, name: str) -> tuple[int, str, tuple[int, int]]:  # noqa: ANN401  # JSON
    """Id, file, and width and height."""
    try:
        identity, file, width, height = (entry[key] for key in ("id", "file_name", "width", "height"))
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{name}: a picture lacks one of id, file_name, width and height: {str(entry)[:100]}"
        ) from error
    if not isinstance(file, str) or not file or type(identity) is not int:
        raise DataError(f"{name}: the picture {str(identity)[:40]} has no file_name, or no number as its id")
    if not all(type(side) is int and 0 < side <= _LARGEST for side in (width, height)):
        raise DataError(f"{name}: the picture {file} has the size {str(width)[:20]}x{str(height)[:20]}")
    return identity, file, (width, height)


def _categories(entries: Any, name: str) -> dict[int, str]:  # noqa: ANN401  # JSON
    found = {}
    for entry in entries:
        if not isinstance(entry, Mapping) or type(entry.get("id")) is not int:
            raise DataError(f"{name}: a category has no number as its id: {str(entry)[:100]}")
        found[entry["id"]] = str(entry.get("name", entry["id"]))
    if not found or len(found) < len(entries):
        raise DataError(f"{name}: has no categories, or two with the same id")
    return found


def _box(
    entry: Any,  # noqa: ANN401  # JSON
    places: Mapping[int, int],
    numbers: Mapping[int, int],
    geometries: list[Geometry],
    name: str,
) -> tuple[int, _Box | None]:
    """The picture that an annotation belongs to, and its box; None where nothing of it can be seen."""
    what = f"{name}: annotation {str(entry.get('id'))[:20] if isinstance(entry, Mapping) else '?'}"
    try:
        place, kind = places[entry["image_id"]], numbers[entry["category_id"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{what} belongs to no picture, or to no category, of the file") from error
    sides = entry.get("bbox")
    if not isinstance(sides, list) or len(sides) != 4 or not all(_is_number(side) for side in sides):
        raise DataError(f"{what} has no bbox of four finite numbers: {str(sides)[:80]}")
    area = entry.get("area", max(0.0, sides[2]) * max(0.0, sides[3]))
    if not _is_number(area):
        raise DataError(f"{what} has the area {str(area)[:40]}, which is no finite number")
    geometry = geometries[place]
    x, y, width, height = (
        sides[0] * geometry.scale_x + geometry.shift_x,
        sides[1] * geometry.scale_y + geometry.shift_y,
        sides[2] * geometry.scale_x,
        sides[3] * geometry.scale_y,
    )
    left, right = max(0.0, x), min(float(geometry.width), x + width)
    top, bottom = max(0.0, y), min(float(geometry.height), y + height)
    if np.float32(right) <= np.float32(left) or np.float32(bottom) <= np.float32(top):  # as they will be kept
        return place, None
    part = (right - left) / width * ((bottom - top) / height)
    scaled = area * geometry.scale_x * geometry.scale_y * min(1.0, part)
    return place, _Box((left, top, right, bottom), kind, bool(entry.get("iscrowd", 0)), scaled)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _FARTHEST


def _padded(found: Mapping[int, list[_Box]], count: int, name: str) -> dict[str, np.ndarray]:
    most = max(1, max(map(len, found.values()), default=0))
    if most > _MOST_BOXES:
        raise DataError(f"{name}: a picture has {most:,} boxes, more than {_MOST_BOXES:,}")
    arrays: dict[str, np.ndarray] = {
        "boxes": np.full((count, most, 4), PADDING, np.float32),
        "classes": np.full((count, most), PADDING, np.int64),
        "crowd": np.zeros((count, most), bool),
        "area": np.full((count, most), PADDING, np.float32),
    }
    for place, boxes in found.items():
        for i, box in enumerate(boxes):
            arrays["boxes"][place, i] = box.corners
            arrays["classes"][place, i] = box.kind
            arrays["crowd"][place, i] = box.crowd
            arrays["area"][place, i] = box.area
    return arrays
