"""Both peers on a fixed sample of published architectures, with random weights."""

import pytest
import torch

from profiler import analyze
from profiler.crosscheck import PEERS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

TORCHVISION = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t"),
    *("mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x1_0", "swin_v2_t", "vgg11_bn", "vit_b_16"),
    *("deeplabv3_mobilenet_v3_large", "fcn_resnet50", "lraspp_mobilenet_v3_large"),
)
TIMM = (
    *("beit_base_patch16_224", "cait_xxs24_224", "coat_tiny", "convit_tiny", "crossvit_tiny_240", "edgenext_xx_small"),
    *("efficientformer_l1", "focalnet_tiny_lrf", "gmlp_ti16_224", "hrnet_w18_small", "levit_384_s8", "pit_ti_224"),
    *("mobilevit_xxs", "pvt_v2_b0", "sequencer2d_s", "test_nfnet", "volo_d1_224", "xcit_nano_12_p8_224"),
)
SMALL = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = SMALL | {"num_key_value_heads": 2}
PAIR = {
    "vocab_size": 100,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
}
T5 = {"vocab_size": 100, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
VISION |= {"image_size": 32, "patch_size": 8}
IDS = torch.arange(3, 19)[None]
MASK = (torch.arange(16) < 13).long()[None]
TRANSFORMERS = {
    "bert": ("BertConfig", "BertForMaskedLM", SMALL, {"input_ids": IDS, "attention_mask": MASK}),
    "deberta": ("DebertaConfig", "DebertaModel", SMALL, {"input_ids": IDS}),
    "fnet, whose pooler is not used": ("FNetConfig", "FNetForMaskedLM", SMALL, {"input_ids": IDS}),
    "llama": ("LlamaConfig", "LlamaForCausalLM", GROUPED, {"input_ids": IDS, "attention_mask": MASK}),
    "gemma 2": ("Gemma2Config", "Gemma2ForCausalLM", GROUPED | {"head_dim": 8}, {"input_ids": IDS}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", GROUPED | {"num_local_experts": 4}, {"input_ids": IDS}),
    "mamba": ("MambaConfig", "MambaForCausalLM", SMALL | {"state_size": 8}, {"input_ids": IDS}),
    "bart": ("BartConfig", "BartForConditionalGeneration", PAIR, {"input_ids": IDS, "decoder_input_ids": IDS}),
    "t5": ("T5Config", "T5ForConditionalGeneration", T5, {"input_ids": IDS, "decoder_input_ids": IDS}),
    "vit": ("ViTConfig", "ViTForImageClassification", VISION, {"pixel_values": torch.zeros(1, 3, 32, 32)}),
    "dinov2": ("Dinov2Config", "Dinov2Model", VISION, {"pixel_values": torch.zeros(1, 3, 32, 32)}),
}


@pytest.fixture(scope="module")
def library():
    """Operators that torchvision's Python code asks for where its own library cannot be loaded."""
    try:
        import torchvision.ops  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        yield library
    else:
        yield None


def holds(model, *inputs, **named):
    profile = analyze(model.eval(), *inputs, **named)
    for peer in PEERS:
        check = profile.crosscheck(peer)
        assert (check.status, check.unexplained) == ("reconciled", 0), (peer, check.reason, check.rows[:5])


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name, library):
    pytest.importorskip("torchvision", exc_type=ImportError)
    from torchvision.models import get_model

    given = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    given |= {"weights_backbone": None} if "fcn" in name or "deeplab" in name or "lraspp" in name else {}
    holds(get_model(name, weights=None, **given), (1, 3, 224, 224))


@pytest.mark.parametrize("name", TIMM)
def test_timm(name, library):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    model = timm.create_model(name, pretrained=False)
    holds(model, (1, *model.default_cfg["input_size"]))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name):
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    config, model, given, inputs = TRANSFORMERS[name]
    holds(getattr(transformers, model)(getattr(transformers, config)(**given)), **inputs)
