"""COCO's annotations: boxes where the picture's pixels go, and files that lie."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from profiler.errors import DataError, NetgaugeError, RefusedError
from quant.data import Options, data_options, open_data

CONTENT = {
    "images": [
        {"id": 30, "file_name": "a.png", "width": 40, "height": 20},
        {"id": 10, "file_name": "sub/b.png", "width": 20, "height": 20},
        {"id": 20, "file_name": "c.png", "width": 10, "height": 30},
    ],
    "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "bird"}],
    "annotations": [
        {"id": 1, "image_id": 30, "category_id": 90, "bbox": [4, 2, 8, 6], "area": 40, "iscrowd": 1},
        {"id": 2, "image_id": 10, "category_id": 3, "bbox": [0.5, 1.5, 10, 5]},
        {"id": 3, "image_id": 30, "category_id": 7, "bbox": [20, 10, 20, 10], "area": 200.0, "iscrowd": 0},
    ],
}


@pytest.fixture
def folder(tmp_path):
    for image in CONTENT["images"]:
        path = tmp_path / image["file_name"]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (image["width"], image["height"]), (image["id"], 0, 0)).save(path)
    return tmp_path


def opened(folder, content=CONTENT, *texts, **options):
    path = folder / "instances.json"
    path.write_text(json.dumps(content) if not isinstance(content, str) else content)
    how = data_options(texts or ["resize=20x20", "scale=1"])
    return open_data(path, split="evaluation", options=Options(how.preprocessing, **options))


def test_boxes_in_the_models_input(folder):
    samples = opened(folder)
    (batch,) = samples.batches(8)
    assert batch.inputs["x"][:, 0, 0, 0].tolist() == [30, 10, 20]
    assert samples.labels is None
    boxes, classes, crowd, area = (batch.labels[name] for name in ("boxes", "classes", "crowd", "area"))
    assert boxes.tolist() == [
        [[2, 2, 6, 8], [10, 10, 20, 20]],
        [[0.5, 1.5, 10.5, 6.5], [-1] * 4],
        [[-1] * 4, [-1] * 4],
    ]
    assert classes.tolist() == [[2, 1], [0, -1], [-1, -1]]
    assert crowd.tolist() == [[True, False], [False, False], [False, False]]
    assert area.tolist() == [[20, 100], [50, -1], [-1, -1]]
    assert (boxes.dtype, classes.dtype, crowd.dtype, area.dtype) == (np.float32, np.int64, np.bool_, np.float32)
    assert "3 categories, numbered from 0 in the order of their ids: cat=0, dog=1, bird=2" in " ".join(samples.notes)


def test_a_crop_cuts_boxes_and_their_areas(folder):
    """The middle 20x20 of 40x20: x from 10 to 30."""
    samples = opened(folder, CONTENT, "crop=20", "scale=1")
    assert samples.further["boxes"][0].tolist() == [[0, 2, 2, 8], [10, 10, 20, 20]]
    assert samples.further["area"][0].tolist() == [10, 100]
    gone = copy.deepcopy(CONTENT)
    gone["annotations"][0]["bbox"] = [4, 2, 6, 6]
    gone["annotations"][1]["bbox"] = [3, 3, 0, 5]
    samples = opened(folder, gone, "crop=20", "scale=1")
    assert samples.further["classes"].tolist() == [[1], [-1], [-1]]
    assert "left out 2 boxes that have no area or lie outside" in samples.notes[-1]


@given(
    st.tuples(*[st.integers(8, 60)] * 2),
    st.sampled_from([("resize=40",), ("resize=longer:32", "crop=32"), ("resize=24x48",), ("resize=40", "crop=24")]),
    st.data(),
)
@settings(max_examples=50, deadline=None)
def test_boxes_go_where_pixels_go(tmp_path_factory, size, texts, data):
    """A picture that is white inside its box: so is the model's input inside the mapped one, but for the edge."""
    width, height = size
    left, top = data.draw(st.integers(0, width - 6)), data.draw(st.integers(0, height - 6))
    wide, high = data.draw(st.integers(5, width - left)), data.draw(st.integers(5, height - top))
    folder = tmp_path_factory.getbasetemp()
    pixels = np.zeros((height, width), np.uint8)
    pixels[top : top + high, left : left + wide] = 255
    Image.fromarray(pixels).save(folder / "one.png")
    content = {
        "images": [{"id": 1, "file_name": "one.png", "width": width, "height": height}],
        "categories": [{"id": 1, "name": "white"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [left, top, wide, high]}],
    }
    (batch,) = opened(folder, content, *texts, "interpolation=nearest").batches(1)
    plane, (x1, y1, x2, y2) = batch.inputs["x"][0, 0], batch.labels["boxes"][0, 0]
    if batch.labels["classes"][0, 0] == -1:
        assert plane.max() == 0 or min(plane.any(axis=0).sum(), plane.any(axis=1).sum()) <= 1
        return
    middles_y, middles_x = np.indices(plane.shape) + 0.5
    inside = (middles_x > x1 + 1) & (middles_x < x2 - 1) & (middles_y > y1 + 1) & (middles_y < y2 - 1)
    outside = (middles_x < x1 - 1) | (middles_x > x2 + 1) | (middles_y < y1 - 1) | (middles_y > y2 + 1)
    assert plane[inside].min(initial=1) == 1
    assert plane[outside].max(initial=0) == 0


def test_labels_follow_their_pictures(folder):
    samples = opened(folder)
    (batch,) = samples.take([1, 0]).batches(2)
    assert batch.labels["classes"].tolist() == [[0, -1], [2, 1]]
    (folder / "a.png").write_bytes(b"")
    (batch,) = opened(folder).batches(4)
    assert batch.labels["classes"].tolist() == [[0, -1], [-1, -1]]


def test_a_picture_of_another_size_than_stated(folder):
    Image.new("RGB", (41, 20)).save(folder / "a.png")
    samples = opened(folder)
    assert sum(map(len, samples.batches(2))) == 2
    assert samples.skipped == ("a.png: is 41x20 pixels, and 40x20 by its labels",)


def changed(**fields):
    """The content with one field of one entry changed: `images_0_id=...`."""
    content = copy.deepcopy(CONTENT)
    for path, value in fields.items():
        key, number, name = path.split("_", 2)
        if value is None:
            del content[key][int(number)][name]
        else:
            content[key][int(number)][name] = value
    return content


BAD = {
    "no JSON": ("{", "is damaged"),
    "a list": ([], "without the lists images"),
    "no annotations": ({"images": [], "categories": []}, "without the lists images, annotations and categories"),
    "no pictures": (CONTENT | {"images": []}, "lists no pictures"),
    "no categories": (CONTENT | {"categories": []}, "has no categories"),
    "id twice": (changed(images_1_id=30), "two pictures have the same id"),
    "category twice": (changed(categories_1_id=7), "two with the same id"),
    "no width": (changed(images_0_width=None), "lacks one of id, file_name, width and height"),
    "size of nothing": (changed(images_0_width=0), "has the size 0x20"),
    "size of text": (changed(images_0_width="40"), "has the size 40x20"),
    "no name": (changed(images_0_file_name=""), "has no file_name"),
    "unknown picture": (changed(annotations_0_image_id=99), "annotation 1 belongs to no picture"),
    "unknown category": (
        changed(annotations_0_category_id=99),
        "annotation 1 belongs to no picture, or to no category",
    ),
    "odd category": (changed(annotations_0_category_id=[1]), "annotation 1 belongs to no"),
    "no box": (changed(annotations_1_bbox=None), "annotation 2 has no bbox of four finite numbers"),
    "three numbers": (changed(annotations_1_bbox=[1, 2, 3]), "annotation 2 has no bbox"),
    "text in a box": (changed(annotations_1_bbox=[1, 2, 3, "4"]), "annotation 2 has no bbox"),
    "no area": (changed(annotations_0_area="big"), "annotation 1 has the area big"),
    "entries of text": (CONTENT | {"annotations": ["x"]}, r"annotation \? belongs to no picture"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_files_that_do_not_do(folder, content, message):
    with pytest.raises(DataError, match=f"instances.json.*{message}"):
        opened(folder, content)


@pytest.mark.parametrize("path", ["../x.png", "/etc/passwd"])
def test_paths_that_lead_out(folder, path):
    with pytest.raises(RefusedError, match="leads out of"):
        opened(folder, changed(images_0_file_name=path))


def test_a_key_twice(folder):
    with pytest.raises(RefusedError, match="key 'images' twice"):
        opened(folder, '{"images": [], "images": []}')


def test_pictures_in_another_folder(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("annotations")
    samples = opened(other, CONTENT, images=folder)
    assert sum(map(len, samples.batches(2))) == 3


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
PLACES = [
    (key, number, name) for key, entries in CONTENT.items() for number, entry in enumerate(entries) for name in entry
]


@given(
    st.dictionaries(st.sampled_from(PLACES), VALUES | st.sampled_from([1e-300, 10**400, -1e14, "\ud800", "a/" * 999]))
)
@settings(max_examples=150, deadline=None)
def test_any_values_are_read_or_refused(tmp_path_factory, changes):
    content = copy.deepcopy(CONTENT)
    for (key, number, name), value in changes.items():
        content[key][number][name] = value
    folder = tmp_path_factory.getbasetemp()
    try:
        samples = opened(folder, json.dumps(content, allow_nan=True))
    except NetgaugeError as error:
        assert "instances.json" in str(error)  # noqa: PT017  # either outcome is right; any other error is not
    else:
        assert samples.further["boxes"].shape[0] == 3


@given(st.lists(st.floats(0, 1e3, allow_subnormal=False) | st.just(1e-300), min_size=4, max_size=4))
def test_boxes_stay_in_the_input(tmp_path_factory, box):
    samples = opened(tmp_path_factory.getbasetemp(), changed(annotations_0_bbox=box), "crop=9", "scale=1")
    boxes = samples.further["boxes"][samples.further["classes"] >= 0]
    assert boxes.min() >= 0
    assert boxes.max() <= 9
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert np.isfinite(samples.further["area"]).all()
