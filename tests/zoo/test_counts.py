"""A fixed sample of the sweep: no failure of ours, nothing uncounted, every difference to the peers explained."""

from functools import partial

import pytest

pytestmark = pytest.mark.slow

SAMPLE = [
    *("torchvision:mobilenet_v3_small", "torchvision:shufflenet_v2_x0_5", "torchvision:swin_t", "torchvision:vit_b_16"),
    *("torchvision:googlenet", "torchvision:lraspp_mobilenet_v3_large"),
    *("timm:resnet10t", "timm:convnextv2_atto", "timm:eva02_tiny_patch14_224", "timm:halonet_h1", "timm:convit_tiny"),
    *("timm:mobilevitv2_050", "timm:xcit_nano_12_p8_224", "timm:crossvit_tiny_240"),
    *("transformers:bert", "transformers:llama", "transformers:llama, cache", "transformers:gpt2", "transformers:t5"),
    *("transformers:bart", "transformers:mixtral", "transformers:gpt_oss", "transformers:mamba2", "transformers:fnet"),
    *("transformers:wav2vec2", "transformers:whisper", "transformers:clip", "transformers:detr", "transformers:swinv2"),
]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_network_is_counted_and_reconciled(name):
    import catalogue
    import counts
    from isolate import isolated

    entry = next(e for e in catalogue.entries() if e.name == name)
    row = isolated(partial(counts.measure, entry), seconds=300, gibibytes=16)
    assert row["error"] == ""
    assert row["uncounted"] == {}
    assert row["params"] == row["params_expected"]
    assert {peer: check["unexplained"] for peer, check in row["peers"].items()} == {"fvcore": 0, "torch": 0}
    assert "reconciled" in {check["status"] for check in row["peers"].values()}
    assert not {check["status"] for check in row["peers"].values()} & {"crashed", "unexplained"}


def test_a_lost_process_is_one_row():
    import os

    from isolate import isolated

    assert isolated(lambda: os._exit(3), 60, 16) == {"error": "the process ended with exit code 3"}


def test_an_endless_process_is_one_row():
    import time

    from isolate import isolated

    assert isolated(lambda: time.sleep(60), 0.2, 16) == {"error": "stopped after 0.2 s"}
