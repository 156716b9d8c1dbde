"""What the catalogue promises: enough networks, of all the families, each once."""

from collections import Counter

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def entries():
    import catalogue

    return catalogue.entries()


def test_every_network_has_a_name_of_its_own(entries):
    assert [name for name, n in Counter(e.name for e in entries).items() if n > 1] == []


def test_all_of_torchvisions_classification_and_segmentation(entries):
    from zoos import load

    models = load("torchvision")
    names = {e.name.removeprefix("torchvision:") for e in entries if e.name.startswith("torchvision:")}
    assert set(models.list_models(models)) | set(models.list_models(models.segmentation)) <= names


def test_every_module_of_timm_is_there(entries):
    from zoos import load

    rows = [e for e in entries if e.name.startswith("timm:")]
    assert {e.family for e in rows} == set(load("timm").list_modules())
    assert len(rows) >= 150


def test_transformers_of_every_kind(entries):
    rows = [e for e in entries if e.name.startswith("transformers:")]
    kinds = {"encoder", "decoder", "encoder-decoder", "mixture of experts", "vision", "audio", "state space"}
    assert len(rows) >= 60
    assert kinds <= {e.family for e in rows}


def test_inputs_of_the_small_transformers_hold_padding(entries):
    llama = next(e for e in entries if e.name == "transformers:llama")
    _, args, kwargs = llama.build()
    assert args == ()
    assert kwargs["attention_mask"].tolist() == [[1] * 16, [1] * 12 + [0] * 4]


def test_zeros_stand_for_random_weights_and_nothing_else(entries):
    resnet, _, _ = next(e for e in entries if e.name == "timm:resnet10t").build()
    assert not resnet.conv1[0].weight.any()
    assert resnet.bn1.weight.all()
    assert resnet.bn1.running_var.all()
