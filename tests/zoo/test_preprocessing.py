"""Pictures are prepared as the zoos' own code prepares them: torchvision, timm, transformers' processors on Pillow."""

import json

import numpy as np
import pytest
from PIL import Image

from quant.data.preprocess_options import as_preprocessing

pytestmark = pytest.mark.slow

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = ((500, 375), (300, 457), (288, 432), (640, 243), (225, 225), (61, 40))
TIMM = ("resnet18", "vit_base_patch16_224", "convnext_tiny", "tf_efficientnet_b0", "inception_v3", "volo_d4_448")
PROCESSORS = (
    *("ViT", "DeiT", "Beit", "Pvt", "Siglip", "CLIP", "ChineseCLIP", "Bit", "MobileNetV1", "MobileNetV2", "ConvNext"),
    "MobileViT",
)


@pytest.fixture(scope="module")
def pictures():
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (h, w, 3), np.uint8)) for w, h in SIZES]


@pytest.fixture
def zoos():
    import zoos

    return zoos


def same(ours, theirs, pictures):
    for picture in pictures:
        assert np.allclose(ours.apply(picture), np.asarray(theirs(picture)), atol=2e-6), picture.size


@pytest.mark.parametrize("side", [256, 243])
@pytest.mark.parametrize("crop", [(224, 224), (200, 301)])
def test_torchvision(zoos, pictures, side, crop):
    zoos.load("torchvision")
    from torchvision import transforms

    chain = [transforms.Resize(side), transforms.CenterCrop(crop), transforms.ToTensor()]
    theirs = transforms.Compose([*chain, transforms.Normalize(MEAN, STD)])
    ours, _ = as_preprocessing({"resize": side, "crop": list(crop), "mean": MEAN, "std": STD})
    same(ours, theirs, pictures)


@pytest.mark.parametrize("name", TIMM)
def test_timm(zoos, pictures, name):
    timm = zoos.load("timm")
    from timm.data import create_transform, resolve_data_config

    theirs = create_transform(**resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict()))
    same(as_preprocessing(f"timm:{name}")[0], theirs, pictures)


def test_most_of_timms_configurations_are_followed(zoos):
    timm = zoos.load("timm")
    from profiler.errors import DataError

    names, refused = timm.list_pretrained(), []
    for name in names:
        try:
            as_preprocessing(f"timm:{name}")
        except DataError as error:
            refused.append(str(error))
    assert len(refused) < len(names) / 100
    assert all("crop_mode 'border'" in reason for reason in refused)


@pytest.mark.parametrize("family", PROCESSORS)
def test_transformers(zoos, pictures, tmp_path, family):
    zoos.load("torchvision")  # before transformers looks for it
    transformers = zoos.load("transformers")
    processor = getattr(transformers, f"{family}ImageProcessorPil")()
    processor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["image_processor_type"].startswith(family)
    ours, _ = as_preprocessing(f"hf:{tmp_path}")
    large = [picture for picture in pictures if min(picture.size) > 200]  # it pads small ones by another rounding
    same(ours, lambda picture: processor(picture, return_tensors="np")["pixel_values"][0], large)
