"""Preparing pictures: against the same steps by Pillow and NumPy, and every way to say what is wanted."""

import json
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from profiler.errors import DataError, UsageError
from quant.data import Preprocessing
from quant.data.preprocess_options import as_preprocessing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(width, height, mode="RGB", seed=0):
    bands = len(mode) if mode in ("RGB", "RGBA", "CMYK", "LA") else 1
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, bands), np.uint8)
    return Image.fromarray(pixels[..., 0] if bands == 1 else pixels, mode if mode != "P" else "L")


def prepared(*texts):
    return as_preprocessing(texts)[0]


def by_hand(image, side, crop):
    """torchvision's Resize, CenterCrop, ToTensor and Normalize, step by step as its source has them."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    new_short, new_long = side, int(side * long / short)
    size = (new_short, new_long) if width <= height else (new_long, new_short)
    pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
    high, wide = pixels.shape[:2]
    if crop > wide or crop > high:
        left, top = max(0, (crop - wide) // 2), max(0, (crop - high) // 2)
        right, bottom = max(0, (crop - wide + 1) // 2), max(0, (crop - high + 1) // 2)
        pixels = np.pad(pixels, ((top, bottom), (left, right), (0, 0)))
        high, wide = pixels.shape[:2]
    top, left = round((high - crop) / 2.0), round((wide - crop) / 2.0)
    values = pixels[top : top + crop, left : left + crop].transpose(2, 0, 1) / 255.0
    return (values - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_the_usual_steps_by_hand(width, height, side, crop):
    image = picture(width, height)
    recipe = Preprocessing(resize=(side, side), crop=(crop, crop), mean=MEAN, std=STD)
    found = recipe.apply(image)
    assert found.dtype == np.float32
    assert found.shape == recipe.shape(width, height) == recipe.fixed_shape == (3, crop, crop)
    assert np.allclose(found, by_hand(image, side, crop), rtol=1e-6, atol=1e-6)


@given(st.integers(8, 64), st.integers(8, 64), st.sampled_from(["shorter", "longer", "exact"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_geometry_is_where_pixels_go(width, height, by, cropped):
    """A bright square's middle is found again where the geometry says."""
    recipe = Preprocessing(resize=(96, 80), resize_by=by, crop=(70, 90) if cropped else None)
    pixels = np.zeros((height, width, 3), np.uint8)
    x, y = width // 3, height // 2
    pixels[y : y + 3, x : x + 3] = 255
    mass = recipe.apply(Image.fromarray(pixels)).sum(axis=0)
    geometry = recipe.geometry(width, height)
    middle_x = (x + 1.5) * geometry.scale_x + geometry.shift_x
    middle_y = (y + 1.5) * geometry.scale_y + geometry.shift_y
    inside = all(
        2.5 * scale + 2 < middle < end - 2.5 * scale - 2
        for scale, middle, end in (
            (geometry.scale_x, middle_x, geometry.width),
            (geometry.scale_y, middle_y, geometry.height),
        )
    )
    if not inside:  # a part is cut off, and the middle moves
        return
    rows, columns = np.indices(mass.shape) + 0.5
    assert (columns * mass).sum() / mass.sum() == pytest.approx(middle_x, abs=0.6)
    assert (rows * mass).sum() / mass.sum() == pytest.approx(middle_y, abs=0.6)


def test_order_of_colours_and_axes():
    image = Image.new("RGB", (5, 4), (10, 20, 30))
    bgr = prepared("colour=bgr", "scale=1", "mean=103.939,116.779,123.68", "layout=NHWC").apply(image)
    assert bgr.shape == (4, 5, 3)
    assert bgr[0, 0] == pytest.approx([30 - 103.939, 20 - 116.779, 10 - 123.68], rel=1e-6)
    grey = prepared("color=gray", "scale=1").apply(image)
    assert grey.shape == (1, 4, 5)
    assert grey[0, 0, 0] == image.convert("L").getpixel((0, 0))


@pytest.mark.parametrize(("dtype", "texts"), [("uint8", ()), ("int8", ("mean=128",)), ("float16", ()), ("float64", ())])
def test_types(dtype, texts):
    found = prepared(f"dtype={dtype}", *texts).apply(Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)))
    assert found.dtype == dtype
    expected = {"uint8": np.arange(256), "int8": np.arange(256) - 128}.get(dtype, np.arange(256) / 255)
    assert np.allclose(found[0].ravel().astype(float), expected, atol=1e-3)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1"])
def test_modes_of_pictures(mode):
    image = picture(6, 7).convert(mode)
    found = prepared("scale=1").apply(image)
    rgb = image.convert("RGBA").convert("RGB") if mode == "LA" else image.convert("RGB")
    assert np.array_equal(found, np.asarray(rgb).transpose(2, 0, 1))


def test_transparent_palettes_do_not_warn():
    image = picture(6, 7).convert("P")
    image.info["transparency"] = b"\x00\x80"
    assert prepared("scale=1").apply(image).shape == (3, 7, 6)


def test_more_than_eight_bits_are_refused():
    with pytest.raises(ValueError, match="more than 8 bits"):
        Preprocessing().apply(Image.fromarray(np.ones((4, 4), np.uint16)))


def test_a_line_that_would_grow_beyond_measure():
    with pytest.raises(ValueError, match="more than Pillow takes"):
        prepared("resize=10000").apply(Image.new("L", (60_000, 1)))


@pytest.mark.parametrize(("exif", "corner"), [("ignore", (0, 0)), ("apply", (0, -1))])
def test_orientation(exif, corner, tmp_path):
    """Orientation 6: the camera was turned, and row 0 is the right side of the scene."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = 255
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=tags)
    with Image.open(tmp_path / "a.png") as image:
        recipe = prepared(f"exif={exif}")
        size = recipe.size_of(image)
        found = recipe.apply(image)
    assert found.shape[1:] == size[::-1] == ((4, 6) if exif == "ignore" else (6, 4))
    assert found[0][corner] == 1


@pytest.mark.parametrize(("half_pixel", "begin"), [("round", 2), ("floor", 1)])
def test_half_pixels(half_pixel, begin):
    """Seven pixels cut to four: from 1.5 on."""
    found = prepared("crop=4", "scale=1", f"half_pixel={half_pixel}").apply(
        Image.fromarray(np.arange(49, dtype=np.uint8).reshape(7, 7))
    )
    assert found[0, 0, 0] == begin * 7 + begin


def test_letter_box():
    recipe = prepared("resize=longer:8", "crop=8", "fill=114", "scale=1")
    found = recipe.apply(Image.new("RGB", (16, 8), (1, 2, 3)))
    assert found[0, 0].tolist() == [114] * 8
    assert found[1, 2:6].min() == found[1, 2:6].max() == 2
    geometry = recipe.geometry(16, 8)
    assert (geometry.scale_x, geometry.shift_x, geometry.scale_y, geometry.shift_y) == (0.5, 0, 0.5, 2)


# What is asked for.

WRITTEN = {
    "resize=256": {"resize": (256, 256), "resize_by": "shorter"},
    "resize=longer:640": {"resize": (640, 640), "resize_by": "longer"},
    "resize=224x320": {"resize": (224, 320), "resize_by": "exact"},
    "resize=none": {"resize": None},
    "crop=224": {"crop": (224, 224)},
    "crop=200x100": {"crop": (200, 100)},
    "mean=0.5": {"mean": (0.5,)},
    "std=0.1, 0.2,0.3": {"std": (0.1, 0.2, 0.3)},
    "scale=1/127.5": None,
    "scale=1/256": {"scale": 1 / 256},
    "interpolation=bicubic": {"interpolation": "bicubic"},
    "layout=nhwc": {"layout": "NHWC"},
    "colour=BGR": {"colour": "BGR"},
    "dtype=uint8": {"dtype": "uint8", "scale": 1.0},
    "fill=114": {"fill": 114},
    "half_pixel=floor": {"half_pixel": "floor"},
    "half_pixel=up": None,
    "exif=apply": {"exif": "apply"},
    "colour=purple": None,
    "mean=": None,
    "std=0": None,
    "std=nan": None,
    "mean=1,2": None,
    "resize=0": None,
    "resize=-3": None,
    "resize=1x2x3": None,
    "resize=wider:3": None,
    "crop=1000000": None,
    "fill=300": None,
    "scale=0": None,
    "scale=1/0": None,
    "dtype=int32": None,
    "size=224": None,
}


@pytest.mark.parametrize(("text", "expected"), WRITTEN.items(), ids=list(WRITTEN))
def test_keys_and_values(text, expected):
    if expected is None:
        with pytest.raises(UsageError, match=text.partition("=")[0] if "scale=0" not in text else "scale"):
            prepared(text)
    else:
        recipe = prepared(text)
        assert {key: getattr(recipe, key) for key in expected} == expected


def test_whole_numbers_that_do_not_come_out():
    with pytest.raises(UsageError, match="give scale=1"):
        prepared("dtype=uint8", "mean=0.5")


@given(
    st.sampled_from([None, "256", "longer:300", "200x100"]),
    st.sampled_from(["none", "224", "10x20"]),
    st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    st.sampled_from(["1/255", "1", "1/128", "0.017"]),
)
def test_what_is_described_can_be_read_again(resize, crop, mean, scale):
    mean = [float(f"{value:.6g}") for value in mean]
    texts = [f"crop={crop}", "mean=" + ",".join(map(repr, mean)), f"scale={scale}", "std=0.5", "interpolation=bicubic"]
    recipe = prepared(*texts, *([f"resize={resize}"] if resize else []))
    assert prepared(*recipe.described().split(", ")) == recipe


def test_forms_in_scripts():
    assert as_preprocessing(None) is as_preprocessing(()) is None
    recipe = Preprocessing(resize=(8, 8))
    assert as_preprocessing(recipe)[0] is recipe
    assert as_preprocessing({"resize": 8, "mean": [0.1, 0.2, 0.3], "crop": [4, 6]})[0].crop == (4, 6)
    assert as_preprocessing("resize=8")[0] == recipe


# Configurations of zoos.

TIMM = {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.95, "mean": list(MEAN), "std": list(STD)}
TRANSFORMERS = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "resample": 2,
    "size": {"height": 224, "width": 224},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
CLIP = TRANSFORMERS | {
    "image_processor_type": "CLIPImageProcessorFast",
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
}
CONVNEXT = TRANSFORMERS | {
    "image_processor_type": "ConvNextImageProcessor",
    "size": {"shortest_edge": 224},
    "resample": 3,
}
CONFIGURATIONS = {
    "timm": (TIMM, "resize=235 crop=224 interpolation=bicubic"),
    "timm on the hub": ({"architecture": "x", "pretrained_cfg": TIMM}, "resize=235 crop=224 interpolation=bicubic"),
    "timm, squashed": (
        TIMM | {"crop_mode": "squash", "crop_pct": 1.0},
        "resize=224x224 crop=224 interpolation=bicubic",
    ),
    "timm, silent": (
        {"input_size": [3, 160, 160]},
        f"resize={floor(160 / 0.875)} crop=160 interpolation=bicubic",
    ),
    "ViT": (TRANSFORMERS, "resize=224x224"),
    "old ViT": (
        {
            "feature_extractor_type": "ViTFeatureExtractor",
            "size": 224,
            "resample": 2,
            "image_mean": [0.5],
            "image_std": [0.5],
        },
        "resize=224x224",
    ),
    "CLIP": (CLIP, "resize=224 crop=224 interpolation=bicubic"),
    "CLIP, short": (CLIP | {"size": 224, "crop_size": 224}, "resize=224 crop=224 interpolation=bicubic"),
    "ConvNext": (CONVNEXT, "resize=256 crop=224 interpolation=bicubic"),
    "ConvNext, large": (
        CONVNEXT | {"size": {"shortest_edge": 384}, "crop_pct": 0.9},
        "resize=384x384 interpolation=bicubic",
    ),
    "not rescaled": (TRANSFORMERS | {"do_rescale": False}, "resize=224x224 scale=1"),
    "BGR": (CLIP | {"do_flip_channel_order": True}, "resize=224 crop=224 interpolation=bicubic colour=BGR"),
    "our own": ({"resize": "256", "crop": 224, "mean": MEAN, "std": STD}, "resize=256 crop=224"),
}


@pytest.mark.parametrize(("content", "texts"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_configurations(tmp_path, content, texts):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    mean, std = (
        (MEAN, STD) if any(key in content for key in ("input_size", "pretrained_cfg", "mean")) else ((0.5,), (0.5,))
    )
    texts += " half_pixel=floor" if content.keys() & {"image_processor_type", "feature_extractor_type"} else ""
    expected = prepared(*texts.split(), "mean=" + ",".join(map(str, mean)), "std=" + ",".join(map(str, std)))
    found, source = as_preprocessing(str(path))
    picked = picture(33, 47)
    assert np.array_equal(found.apply(picked), expected.apply(picked))
    assert source == f"by {path}"
    assert as_preprocessing([str(path), "resize=10"])[0].resize == (10, 10)


UNKNOWN = {
    "a step of its own": (TRANSFORMERS | {"do_pad": True}, "do_pad is not done here"),
    "another processor": (
        TRANSFORMERS | {"image_processor_type": "LevitImageProcessor"},
        "LevitImageProcessor is not known",
    ),
    "no processor": ({"image_mean": [0.5]}, r"\(none named\) is not known"),
    "two edges": (CLIP | {"size": {"shortest_edge": 800, "longest_edge": 1333}}, "has no single meaning"),
    "no filter": ({k: v for k, v in TRANSFORMERS.items() if k != "resample"}, "does not say resample"),
    "no size": ({k: v for k, v in TRANSFORMERS.items() if k != "size"}, "does not say size"),
    "timm's border": (TIMM | {"crop_mode": "border"}, "crop_mode 'border'"),
    "a filter of its own": (TIMM | {"interpolation": "random"}, "interpolation 'random'"),
    "timm, absurd": (TIMM | {"input_size": 3}, "cannot be followed"),
    "a list": ([1, 2], "no JSON object"),
}


@pytest.mark.parametrize(("content", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_configurations_that_are_not_followed(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"config.json.*{message}"):
        as_preprocessing(str(path))


def test_own_keys_in_a_file_are_checked(tmp_path):
    (tmp_path / "p.json").write_text('{"resize": 8, "croop": 3}')
    with pytest.raises(UsageError, match=r"p\.json: croop: no such key; there is resize, "):
        as_preprocessing(str(tmp_path / "p.json"))
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(DataError, match=r"p\.json: is damaged"):
        as_preprocessing(str(tmp_path / "p.json"))


def test_a_folder_with_a_processor(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(TRANSFORMERS))
    assert as_preprocessing(f"hf:{tmp_path}")[0].resize == (224, 224)


def test_neither_key_nor_file():
    with pytest.raises(UsageError, match="neither KEY=VALUE nor a file"):
        prepared("nothing.json")
    with pytest.raises(UsageError, match="two configurations"):
        prepared("timm:a", "timm:b")
