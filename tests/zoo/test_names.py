"""Names as targets on the real zoos: a sample of each, against what the zoos publish and against torch's counter."""

import json

import pytest
import torch

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

# Names whose published counts are on the picture that is taken here.
PUBLISHED = [
    *("alexnet", "resnet18", "inception_v3", "vit_b_16", "efficientnet_b1", "swin_v2_t", "regnet_y_400mf"),
    *("shufflenet_v2_x0_5", "r3d_18", "s3d", "mvit_v1_b"),
]
TIMM = [
    *("resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto", "eva02_tiny_patch14_224"),
    *("levit_128s", "tf_efficientnet_b1.ns_jft_in1k", "crossvit_tiny_240", "mixer_s32_224", "test_vit"),
]
TRANSFORMERS = [
    *("bert", "gpt2", "llama", "t5", "bart", "mixtral", "mamba2", "deberta-v2", "longformer", "layoutlmv3"),
    *("vit", "resnet", "swinv2", "detr", "videomae", "timesformer", "clip", "blip", "vilt", "llava"),
    *("whisper", "wav2vec2", "speech_to_text", "audio-spectrogram-transformer", "encodec", "patchtst", "informer"),
]


@pytest.fixture(autouse=True)
def operators(scripts):
    from zoos import load

    load("torchvision")


def profile(target, **options):
    from profiler import open_model
    from profiler.targets import Request, profile_of

    opened = open_model(target, **options)
    return opened, profile_of(opened, Request())[0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_torchvisions_published_counts(name):
    from zoos import load

    _, result = profile(f"torchvision:{name}")
    entries = load("torchvision").get_model_weights(name)
    assert round(result.totals.macs / 1e9, 3) in {entry.meta["_ops"] for entry in entries}
    assert result.totals.params in {entry.meta["num_params"] for entry in entries}


@pytest.mark.parametrize("name", ["fcn_resnet50", "segmentation.lraspp_mobilenet_v3_large", "raft_small", "swin3d_t"])
def test_other_kinds_of_torchvision(name):
    _, result = profile(f"torchvision:{name}")
    assert result.totals.macs > 10**9
    assert result.uncounted == {}


@pytest.mark.parametrize("name", TIMM)
def test_timm(name):
    from zoos import load

    _, result = profile(f"timm:{name}")
    assert result.inputs == ((1, *load("timm").get_pretrained_cfg(name).input_size),)
    assert result.crosscheck("torch").unexplained == 0


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_inputs_of_transformers(name):
    from small_transformers import architectures

    from profiler import analyze
    from profiler.inputs import find_inputs

    model, _ = next(a for a in architectures() if a.name == name).build()
    example = find_inputs(model, name)
    result = analyze(model, *example.args, **example.kwargs)
    assert (result.totals.macs > 0) or name == "patchtst"
    assert result.crosscheck("torch").unexplained == 0


def test_a_transformers_type_is_the_one_that_transformers_makes():
    from zoos import load

    transformers = load("transformers")
    options = {"num_hidden_layers": 2, "hidden_size": 48, "intermediate_size": 64}
    _, result = profile("hf:bert", kwargs=options)
    expected = transformers.BertModel(transformers.BertConfig(**options))
    assert result.totals.params == sum(p.numel() for p in expected.parameters())


SAVED = ["bert", "gpt2", "t5", "mixtral", "vit", "clip"]


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("shard", ["1GB", "60KB"])
def test_a_saved_folder_opens_with_its_weights(name, shard, tmp_path):
    from small_transformers import architectures

    model, inputs = next(a for a in architectures() if a.name == name).build()
    model.save_pretrained(tmp_path, max_shard_size=shard)
    index = tmp_path / "model.safetensors.index.json"
    assert index.exists() is (shard == "60KB")
    opened, result = profile(f"hf:{tmp_path}")
    assert type(opened.module) is type(model)
    assert result.totals.params == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        ours, expected = opened.module(**inputs)[0], model(**inputs)[0]
    assert torch.equal(ours, expected)


def test_a_default_configuration_larger_than_memory_is_counted(monkeypatch):
    from profiler.sources import named

    monkeypatch.setattr(named, "available_memory", lambda: 1 << 20)
    opened, result = profile("hf:llama", kwargs={"num_hidden_layers": 3})
    assert result.totals.params == sum(p.numel() for p in opened.module.parameters())
    assert result.totals.macs == 16 * 3 * (4 * 4096**2 + 3 * 4096 * 11008) + 3 * 2 * 16 * 16 * 4096


def test_a_backbone_of_the_hub_is_not_fetched(tmp_path, monkeypatch):
    """DETR's configuration names a backbone of timm's with its published weights."""
    from huggingface_hub import constants
    from zoos import load

    transformers = load("transformers")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    asked = []
    monkeypatch.setattr("huggingface_hub.file_download.hf_hub_download", lambda *a, **k: asked.append(a))
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    values = transformers.DetrConfig(**sizes).to_dict()
    values |= {
        "use_timm_backbone": True,
        "backbone": "resnet18",
        "use_pretrained_backbone": True,
        "backbone_config": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(values, default=str))
    _, result = profile(f"hf:{tmp_path}")
    assert result.totals.macs > 10**9
    assert asked == []
