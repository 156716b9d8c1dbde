"""A fixed sample of torchvision's published figures: equal to three decimals, and exactly."""

from functools import partial

import pytest

pytestmark = pytest.mark.slow

SAMPLE = [
    *("alexnet IMAGENET1K_V1", "resnet18 IMAGENET1K_V1", "efficientnet_b0 IMAGENET1K_V1", "swin_v2_t IMAGENET1K_V1"),
    *("googlenet IMAGENET1K_V1", "inception_v3 IMAGENET1K_V1", "vit_b_16 IMAGENET1K_SWAG_E2E_V1"),
    *("fcn_resnet50 COCO_WITH_VOC_LABELS_V1", "lraspp_mobilenet_v3_large COCO_WITH_VOC_LABELS_V1"),
    *("r3d_18 KINETICS400_V1", "mvit_v1_b KINETICS400_V1", "swin3d_t KINETICS400_V1", "s3d KINETICS400_V1"),
]


@pytest.mark.parametrize("name", SAMPLE)
def test_published_figures_are_met(name):
    import published
    from isolate import isolated

    entry = next(e for e in published.entries() if e.name == name)
    row = isolated(partial(published.compare, entry), seconds=300, gibibytes=16)
    assert (row["our_gmacs"], row["our_params"]) == (entry.gmacs, entry.params)
    assert row["uncounted"] == {}


def test_all_published_entries_are_listed():
    import published

    required = [e for e in published.entries() if e.kind != "detection"]
    assert len(required) == 131
