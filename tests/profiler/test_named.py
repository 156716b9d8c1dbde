"""Names as targets, on packages that stand in for the zoos: what is built, with which inputs, and what goes wrong."""

import json
import runpy
import sys
import textwrap
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from profiler import environment, open_model
from profiler.errors import ModelError, RefusedError, UnavailableError, UsageError
from profiler.settings import arguments
from profiler.sources import hub, named
from profiler.sources.hf_inputs import call_of
from profiler.sources.limits import DEFAULT
from profiler.targets import Request, profile_of

ROOT = Path(__file__).parents[2]
ZOOS = runpy.run_path(str(Path(__file__).with_name("fake_zoos.py")))
TIMM, TORCHVISION, MISFIT, TRANSFORMERS = (ZOOS[name] for name in ("TIMM", "TORCHVISION", "MISFIT", "TRANSFORMERS"))
PACKAGES = ("timm", "torchvision", "transformers", "huggingface_hub")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Write packages to a folder of the path; the zoos that are really installed are out of sight."""
    site = tmp_path / "site"
    site.mkdir()
    for name in [n for n in sys.modules if n.partition(".")[0] in PACKAGES]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])

    def install(files):
        for name, text in files.items():
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return site

    yield install
    for name in [n for n in sys.modules if n.partition(".")[0] in PACKAGES]:
        del sys.modules[name]


def shapes(opened, **dims):
    """Sizes of what the model is called with, by position and by name."""
    example = opened.inputs(dims)
    return [tuple(t.shape) for t in example.args if not isinstance(t, list)], {
        name: tuple(t.shape) for name, t in example.kwargs.items()
    }


def macs(opened, **request):
    return profile_of(opened, Request(**request))[0].totals.macs


# timm


def test_a_timm_network_on_the_size_of_its_configuration(install):
    install(TIMM)
    opened = open_model("timm:small")
    assert shapes(opened) == ([(1, 3, 32, 32)], {})
    assert macs(opened) == 32 * 32 * 4 * 27 + 40
    assert not opened.module.training
    assert import_module("timm").CALLS == [("small", False)]
    assert "random weights" in opened.notes[0]


def test_free_sizes_of_a_timm_network(install):
    install(TIMM)
    opened = open_model("timm:small.tag_in1k")
    assert dict(opened.dims) == {"batch": 1, "height": 32, "width": 32}
    assert shapes(opened, batch=4, width=8) == ([(4, 3, 32, 8)], {})
    assert macs(opened, dims={"batch": 4}) == 4 * macs(opened)
    assert "only" in open_model("timm:fixed").inputs({"batch": 2}).note
    with pytest.raises(UsageError, match="it has batch, height, width"):
        profile_of(opened, Request(dims={"tokens": 3}))
    with pytest.raises(UsageError, match="--input and --inputs replace those"):
        profile_of(opened, Request(dims={"batch": 3}, sizes=("1x3x32x32",)))


def test_arguments_reach_timm_and_move_the_input(install):
    install(TIMM)
    opened = open_model("timm:small", kwargs={"num_classes": 7, "in_chans": 5, "img_size": 16})
    assert opened.module.head.out_features == 7
    assert shapes(opened) == ([(1, 5, 16, 16)], {})
    with pytest.raises(ModelError, match="timm:small: cannot be built: TypeError"):
        open_model("timm:small", kwargs={"nothing": 1})
    with pytest.raises(ModelError, match="whole numbers"):
        open_model("timm:small", kwargs={"img_size": "big"})


@pytest.mark.parametrize("name", ["pretrained", "checkpoint_path", "pretrained_cfg", "cache_dir"])
def test_weights_come_by_no_other_way(install, name):
    install(TIMM)
    with pytest.raises(UsageError, match="--weights FILE"):
        open_model("timm:small", kwargs={name: True})


def test_weights_from_a_local_file(install, tmp_path):
    install(TIMM)
    state = {name: torch.full_like(t, 0.25) for name, t in open_model("timm:small").module.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    module = open_model("timm:small", weights=tmp_path / "w.safetensors").module
    assert all(bool((t == 0.25).all()) for t in module.state_dict().values())
    save_file({"other": torch.zeros(1)}, tmp_path / "no.safetensors")
    with pytest.raises(ModelError, match="does not fit timm:small"):
        open_model("timm:small", weights=tmp_path / "no.safetensors")


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone(install):
    install(TIMM)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = open_model("timm:small").module, open_model("timm:small").module
    assert torch.equal(one.conv.weight, two.conv.weight)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["smal", "hf-hub:timm/small", "local-dir:/x", "", "small/../x"])
def test_unknown_names_of_timm(install, name):
    install(TIMM)
    with pytest.raises(ModelError, match="timm has no"):
        open_model(f"timm:{name}")


def test_names_that_were_meant_are_suggested(install):
    install(TIMM)
    with pytest.raises(ModelError, match="timm has no 'smal'; near it: small"):
        open_model("timm:smal")


# Networks larger than memory


def test_what_does_not_fit_in_memory_is_counted_without_storage(install, monkeypatch):
    install(TIMM)
    expected = macs(open_model("timm:small"))
    monkeypatch.setattr(named, "available_memory", lambda: 100)
    opened = open_model("timm:small")
    assert all(p.is_meta for p in opened.module.parameters())
    assert "no storage" in opened.notes[0]
    profile, _ = profile_of(opened, Request())
    assert profile.totals.macs == expected
    assert profile.crosscheck("fvcore").status == "skipped"
    monkeypatch.setattr(named, "available_memory", lambda: None)
    assert not any(p.is_meta for p in open_model("timm:small").module.parameters())


def test_free_memory_counts_the_file_cache_as_free(monkeypatch):
    monkeypatch.setattr(environment.Path, "read_text", lambda *_, **__: "MemFree: 1 kB\nMemAvailable:    2048 kB\n")
    assert environment.available_memory() == 2 << 20
    monkeypatch.setattr(environment.Path, "read_text", lambda *_, **__: "no such lines")
    assert environment.available_memory() == environment._pages("SC_AVPHYS_PAGES")


def test_one_parameter_larger_than_memory_is_counted_too(install, monkeypatch):
    """Of 2**60 bytes, which no machine has."""
    install(TRANSFORMERS)
    monkeypatch.setattr(named, "available_memory", lambda: None)
    size = 1 << 29
    opened = open_model("hf:text", kwargs={"hidden_size": size, "n_layer": 1})
    assert macs(opened, dims={"tokens": 1}) == size * size
    assert "no storage" in opened.notes[-1]


def test_parameters_are_limited_in_number(install):
    install(TIMM)
    with pytest.raises(RefusedError, match="--limit tensors="):
        open_model("timm:small", limits=replace(DEFAULT, tensors=3))


# torchvision

CALLED = {
    "plain": ([(1, 3, 64, 64)], "published weights"),
    "unpublished": ([(1, 3, 224, 224)], "usual size"),
    "vit": ([(1, 3, 16, 16)], "built for"),
    "googlenet": ([(1, 3, 32, 32)], "published weights"),
    "fcn": ([(1, 3, 40, 40)], "resize"),
    "segmentation.fcn": ([(1, 3, 40, 40)], "resize"),
    "film": ([(1, 3, 16, 24, 24)], "16 frames"),
    "flow": ([(1, 3, 520, 960)] * 2, "two pictures"),
}


@pytest.mark.parametrize(("name", "expected"), CALLED.items(), ids=CALLED)
def test_torchvision_networks_are_called_as_their_kind_is(install, name, expected):
    install(TORCHVISION)
    opened = open_model(f"torchvision:{name}")
    assert shapes(opened) == (expected[0], {})
    assert expected[1] in opened.inputs({}).note
    assert macs(opened) > 0


def test_a_detector_is_called_with_a_list(install):
    install(TORCHVISION)
    opened = open_model("torchvision:detector")
    pictures = opened.inputs({"batch": 3}).args[0]
    assert [tuple(t.shape) for t in pictures] == [(3, 20, 20)] * 3
    assert macs(opened, dims={"batch": 3}) == 3 * macs(opened) == 3 * 18 * 18 * 2 * 27


def test_free_sizes_of_films_and_pairs(install):
    install(TORCHVISION)
    assert shapes(open_model("torchvision:film"), frames=8, batch=2)[0] == [(2, 3, 8, 24, 24)]
    assert shapes(open_model("torchvision:flow"), height=64, width=96)[0] == [(1, 3, 64, 96)] * 2


@pytest.mark.parametrize("name", ["plian", "segmentation.plain", "models.plain", "resnet", ""])
def test_unknown_names_of_torchvision(install, name):
    install(TORCHVISION)
    with pytest.raises(ModelError, match="torchvision has no"):
        open_model(f"torchvision:{name}")


@pytest.mark.parametrize("name", ["weights", "weights_backbone", "pretrained"])
def test_nothing_is_downloaded_for_torchvision(install, name):
    install(TORCHVISION)
    with pytest.raises(UsageError, match="--weights FILE"):
        open_model("torchvision:fcn", kwargs={name: "DEFAULT"})


# Packages that are missing or do not fit


@pytest.mark.parametrize("target", ["timm:x", "torchvision:x", "hf:bert"])
def test_what_is_not_installed_is_said(install, monkeypatch, target):
    install({})
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p])
    with pytest.raises(UnavailableError, match=r"is not installed; pip install"):
        open_model(target)


@pytest.mark.parametrize("target", ["timm:x", "torchvision:x"])
def test_a_torchvision_for_another_torch_is_said(install, target):
    install(MISFIT)
    with pytest.raises(UnavailableError, match="does not go with torch") as error:
        open_model(target)
    assert torch.__version__ in str(error.value)
    assert error.value.exit_code == 4


def test_a_misfit_behind_other_errors_is_found(install):
    install({**MISFIT, **TRANSFORMERS})
    site = install({"transformers/late.py": "import torchvision"})
    text = (site / "transformers/__init__.py").read_text()
    late = "\ndef __getattr__(name):\n    if name.startswith('__'):\n        raise AttributeError(name)\n"
    late += "    try:\n        import transformers.late\n    except RuntimeError as error:\n"
    late += "        raise ModuleNotFoundError('Could not import module') from error\n"
    (site / "transformers/__init__.py").write_text(text + late)
    with pytest.raises(UnavailableError, match="does not go with torch"):
        open_model("hf:SomethingLate")


def test_a_package_that_breaks_is_said(install):
    install({"timm/__init__.py": "raise OSError('libfoo.so: cannot open')"})
    with pytest.raises(UnavailableError, match=r"timm cannot be imported: OSError: libfoo\.so"):
        open_model("timm:x")
    install({"torchvision/__init__.py": "", "torchvision/models/__init__.py": "import no_such_package"})
    with pytest.raises(UnavailableError, match="torchvision needs no_such_package"):
        open_model("torchvision:x")


# transformers


def test_a_model_type_with_its_default_configuration(install):
    install(TRANSFORMERS)
    opened = open_model("hf:text")
    assert shapes(opened) == ([], {"input_ids": (1, 16), "attention_mask": (1, 16)})
    assert macs(opened) == 16 * 2 * 8 * 8
    assert dict(opened.dims) == {"batch": 1, "tokens": 16}
    assert macs(opened, dims={"batch": 2, "tokens": 5}) == 2 * 5 * 2 * 8 * 8
    assert any("default configuration" in note for note in opened.notes)
    assert opened.module.config.use_cache is False


def test_tokens_mean_nothing_special_but_for_the_end(install):
    install(TRANSFORMERS)
    ids = open_model("hf:text").inputs({}).kwargs["input_ids"]
    assert ids[0, -1] == 2
    assert 3 not in ids
    assert int(ids.max()) < 50


def test_a_class_by_its_name(install):
    install(TRANSFORMERS)
    assert type(open_model("hf:TextHead").module).__name__ == "TextHead"
    for name in ("pipeline", "AutoModel", "TextConfig", "_private"):
        with pytest.raises(ModelError, match="transformers has no"):
            open_model(f"hf:{name}")


def test_a_type_without_a_base_model_names_its_classes(install):
    install(TRANSFORMERS)
    with pytest.raises(ModelError, match="no base model; name hf:HeadlessForNothing"):
        open_model("hf:headless")
    assert type(open_model("hf:HeadlessForNothing").module).__name__ == "HeadlessForNothing"


def test_arguments_set_the_configuration(install):
    install(TRANSFORMERS)
    assert macs(open_model("hf:text", kwargs={"num_hidden_layers": 5})) == 16 * 5 * 8 * 8
    assert open_model("hf:pair", kwargs={"text_config.hidden_size": 4}).module.text.embed.embedding_dim == 4
    with pytest.raises(UsageError, match="has no 'hiden_size' in its configuration; near it: hidden_size"):
        open_model("hf:text", kwargs={"hiden_size": 4})
    with pytest.raises(UsageError, match="picks code or weights"):
        open_model("hf:text", kwargs={"_attn_implementation": "org/kernel"})
    with pytest.raises(ModelError, match="no configuration that fits: TypeError: hidden_size is a number"):
        open_model("hf:text", kwargs={"hidden_size": "huge"})


def test_pictures_and_pairs(install):
    install(TRANSFORMERS)
    opened = open_model("hf:picture", kwargs={"num_channels": 2, "image_size": [8, 12]})
    assert shapes(opened) == ([], {"pixel_values": (1, 2, 8, 12)})
    assert shapes(opened, height=20)[1] == {"pixel_values": (1, 2, 20, 12)}
    pair = open_model("hf:pair", kwargs={"vision_config.image_size": {"height": 10, "width": 14}})
    assert shapes(pair)[1] == {"input_ids": (1, 16), "pixel_values": (1, 3, 10, 14), "attention_mask": (1, 16)}
    assert macs(pair) > macs(open_model("hf:text"))


def test_text_with_places_for_pictures_is_called_with_its_text_alone(install):
    install(TRANSFORMERS)
    opened = open_model("hf:pair")
    opened.module.config.image_token_id = 7
    example = call_of(opened.module, "hf:pair").inputs({})
    assert set(example.kwargs) == {"input_ids", "attention_mask"}
    assert "its text alone" in example.note


def test_what_cannot_be_known_is_asked_for_by_its_flag(install):
    install(TRANSFORMERS)
    opened = open_model("hf:series")
    with pytest.raises(ModelError, match="pass --input waves=SIZE"):
        profile_of(opened, Request())
    assert profile_of(opened, Request(sizes=("waves=1x4",)))[0].inputs == ((1, 4),)
    with pytest.raises(ModelError, match=r"what it takes of forward\(this, that\) cannot be told"):
        profile_of(open_model("hf:open"), Request())


# Folders


@pytest.fixture
def folder(tmp_path, install):
    install(TRANSFORMERS)
    path = tmp_path / "model"
    path.mkdir()

    def write(weights=None, **config):
        values = {"model_type": "text", "architectures": ["TextHead"], "hidden_size": 4, **config}
        (path / "config.json").write_text(json.dumps(values))
        if weights is not None:
            save_file(weights, path / "model.safetensors")
        return f"hf:{path}"

    return write


def state_of(target):
    return {name: torch.rand_like(t) for name, t in open_model(target).module.state_dict().items()}


def test_a_folder_with_its_weights(folder):
    target = folder()
    state = state_of(target)
    opened = open_model(folder(state))
    assert type(opened.module).__name__ == "TextHead"
    assert all(torch.equal(t, state[name]) for name, t in opened.module.state_dict().items())
    assert any("model.safetensors" in note for note in opened.notes)
    assert not any("random" in note for note in opened.notes)
    assert import_module("transformers").logging.bars
    assert not import_module("huggingface_hub").constants.HF_HUB_OFFLINE


def test_a_folder_with_weights_in_several_files(folder):
    target = folder()
    state, path = state_of(target), Path(target.removeprefix("hf:"))
    parts = [dict(list(state.items())[:2]), dict(list(state.items())[2:])]
    for number, part in enumerate(parts):
        save_file(part, path / f"part-{number}.safetensors")
    places = {name: f"part-{number}.safetensors" for number, part in enumerate(parts) for name in part}
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert all(torch.equal(t, state[n]) for n, t in open_model(target).module.state_dict().items())
    index.write_text(json.dumps({"weight_map": places | {"head.weight": "../x.safetensors"}}))
    with pytest.raises(RefusedError, match="not a file beside it"):
        open_model(target)


def test_weights_that_do_not_fit(folder):
    state = state_of(folder())
    with pytest.raises(ModelError, match=r"1 are missing, such as embed\.weight"):
        open_model(folder({name: t for name, t in state.items() if name != "embed.weight"}))
    with pytest.raises(ModelError, match="its weights do not fit: RuntimeError"):
        open_model(folder({**state, "embed.weight": torch.zeros(3, 3)}))
    notes = open_model(folder({**state, "extra": torch.zeros(1)})).notes
    assert any("1 of its tensors have no place in the network, such as extra" in note for note in notes)


def test_pickled_weights_are_left_alone(folder):
    target = folder()
    path = Path(target.removeprefix("hf:")) / "pytorch_model.bin"
    state = state_of(target)
    torch.save(state, path)
    opened = open_model(target)
    assert any(f"--weights {path}" in note for note in opened.notes)
    assert not torch.equal(opened.module.head.weight, state["head.weight"])
    loaded = open_model(target, weights=path).module
    assert torch.equal(loaded.head.weight, state["head.weight"])


def test_weights_larger_than_memory_are_not_read(folder, monkeypatch):
    target = folder(state_of(folder()))
    for module in ("named", "hugging_face"):
        monkeypatch.setattr(f"profiler.sources.{module}.available_memory", lambda: 100)
    opened = open_model(target)
    assert any("half of the free memory or more" in note for note in opened.notes)
    assert all(p.is_meta for p in opened.module.parameters())


def test_an_architecture_that_transformers_does_not_have(folder):
    opened = open_model(folder(architectures=["SomebodysModel"]))
    assert type(opened.module).__name__ == "TextModel"
    assert any("SomebodysModel" in note for note in opened.notes)
    assert type(open_model(folder(architectures=["pipeline"])).module).__name__ == "TextModel"
    assert type(open_model(folder(architectures="TextHead")).module).__name__ == "TextModel"


@pytest.mark.parametrize("trust", [False, True])
def test_code_that_comes_with_a_model_is_never_run(folder, trust):
    auto = {"AutoModel": "modeling_x.Model"}
    target = folder(model_type="somebodys", auto_map=auto)
    Path(target.removeprefix("hf:"), "modeling_x.py").write_text("raise SystemExit('was run')")
    with pytest.raises(RefusedError, match=r"auto_map.*FILE\.py:function"):
        open_model(target, trust=trust)
    assert type(open_model(folder(auto_map=auto), trust=trust).module).__name__ == "TextHead"


def test_a_refused_folder_still_lists_its_tensors(folder):
    target = folder({"w": torch.zeros(2, 3)}, model_type="somebodys", auto_map={"AutoModel": "x.Y"})
    with pytest.raises(RefusedError) as refused:
        open_model(target)
    assert [(t.name, t.shape) for t in refused.value.known.tensors] == [("w", (2, 3))]


def test_a_folder_that_happens_to_have_the_name_of_a_type(install, tmp_path, monkeypatch):
    install(TRANSFORMERS)
    (tmp_path / "text").mkdir()
    (tmp_path / "nothing").mkdir()
    monkeypatch.chdir(tmp_path)
    assert type(open_model("hf:text").module).__name__ == "TextModel"
    with pytest.raises(ModelError, match=r"hf:nothing: has no config\.json"):
        open_model("hf:nothing")
    with pytest.raises(ModelError, match="names nothing"):
        open_model("hf:")


def test_keys_that_pick_code_or_fetch_something_are_left_out(folder):
    target = folder(
        _attn_implementation="org/kernel",
        attn_implementation="org/kernel",
        transformers_weights="../x.safetensors",
        auto_map={"AutoModel": "x.Y"},
        backbone_config={"use_pretrained_backbone": True, "auto_map": {}, "depth": 3},
    )
    open_model(target)
    seen = import_module("transformers").SEEN[-1]
    assert not set(seen) & {"_attn_implementation", "attn_implementation", "transformers_weights", "auto_map"}
    assert seen["backbone_config"] == {"use_pretrained_backbone": False, "depth": 3}


def test_numbers_that_json_has_no_word_for(folder):
    open_model(folder(limits=[0.0, float("inf")], other={"__float__": "-Infinity"}, text={"__float__": "many"}))
    seen = import_module("transformers").SEEN[-1]
    assert (seen["limits"], seen["other"]) == ([0.0, float("inf")], float("-inf"))
    assert seen["text"] == {"__float__": "many"}


def test_quantized_weights_are_not_loaded(folder):
    notes = open_model(folder({"x": torch.zeros(1)}, quantization_config={"quant_method": "gptq"})).notes
    assert any("quantized" in note for note in notes)


WRONG = {
    "no type": ({"hidden_size": 3}, ModelError, "has no model_type"),
    "timm": ({"architecture": "resnet18"}, ModelError, "timm:resnet18"),
    "unknown type": ({"model_type": "txt"}, ModelError, "has no 'txt'; near it: text"),
    "code": ({"auto_map": {"AutoModel": "x.Y"}}, RefusedError, "is not run"),
    "a list": ([], ModelError, "no JSON object"),
    "a key twice": ('{"model_type": "text", "model_type": "bert"}', RefusedError, "twice"),
    "no JSON": ("{", ModelError, "no JSON"),
}


@pytest.mark.parametrize(("content", "error", "words"), WRONG.values(), ids=WRONG)
def test_configurations_that_are_none(install, tmp_path, content, error, words):
    install(TRANSFORMERS)
    (tmp_path / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(error, match=words):
        open_model(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("file", "words"),
    [("model_index.json", "several models"), ("adapter_config.json", "adapter"), ("x.txt", r"has no config\.json")],
)
def test_folders_of_another_kind(install, tmp_path, file, words):
    install(TRANSFORMERS)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / file).write_text("{}")
    with pytest.raises(ModelError, match=words):
        open_model(f"hf:{tmp_path}/f")
    with pytest.raises(ModelError, match="no such folder"):
        open_model(f"hf:{tmp_path}/missing")


# The hub

HUB = """
    import time
    from pathlib import Path
    from huggingface_hub import constants, errors

    CALLS = []

    def hf_hub_download(name, file, local_files_only=False, etag_timeout=None):
        assert file == "config.json"
        CALLS.append((name, local_files_only))
        cached = Path(__file__).parent / name.replace("/", "--")
        if cached.exists():
            return str(cached)
        if local_files_only:
            raise errors.LocalEntryNotFoundError
        organisation = name.partition("/")[0]
        if organisation == "slow":
            time.sleep(60)
        if organisation == "fetched":
            cached.write_text('{"model_type": "text"}')
            return str(cached)
        raise getattr(errors, organisation, OSError)("no")
"""
ERRORS = """
    class EntryNotFoundError(Exception): pass
    class LocalEntryNotFoundError(EntryNotFoundError): pass
    class RepositoryNotFoundError(Exception): pass
    class GatedRepoError(RepositoryNotFoundError): pass
"""


@pytest.fixture
def online(install, monkeypatch):
    """A hub whose address is known."""
    install({**TRANSFORMERS, "huggingface_hub/__init__.py": HUB, "huggingface_hub/errors.py": ERRORS})
    monkeypatch.setattr(hub.socket, "getaddrinfo", lambda *_: [])
    monkeypatch.setattr(hub, "getproxies", dict)


def test_the_configuration_of_a_model_on_the_hub(online):
    opened = open_model("hf:fetched/model")
    assert type(opened.module).__name__ == "TextModel"
    assert "its weights are not fetched" in opened.notes[0]
    calls = import_module("huggingface_hub").CALLS
    assert calls == [("fetched/model", True), ("fetched/model", False)]
    open_model("hf:fetched/model")
    assert calls[2:] == [("fetched/model", True)]  # what is in the cache is not asked for again


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("RepositoryNotFoundError", ModelError, "no such model, or it is private"),
        ("GatedRepoError", UnavailableError, "hf auth login"),
        ("EntryNotFoundError", ModelError, r"has no config\.json"),
        ("LocalEntryNotFoundError", UnavailableError, "cannot be reached"),
        ("OSError", UnavailableError, "cannot be reached"),
    ],
)
def test_what_the_hub_answers_is_told(online, name, error, words):
    with pytest.raises(error, match=words):
        open_model(f"hf:{name}/model")


def test_a_hub_that_does_not_answer_is_given_up(online, monkeypatch):
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=r"no answer in 0\.2 seconds"):
        open_model("hf:slow/model")
    assert time.monotonic() - began < 5


def test_without_a_network_the_hub_is_not_asked(online, monkeypatch):
    def no_address(*_):
        raise hub.socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(hub.socket, "getaddrinfo", no_address)
    with pytest.raises(UnavailableError, match=r"name its folder, hf:FOLDER \(no address"):
        open_model("hf:fetched/model")
    assert import_module("huggingface_hub").CALLS == [("fetched/model", True)]


# The command line


@pytest.fixture
def run(monkeypatch, capsys):
    """The command line in this process: exit code, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cli.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            import_module("cli").main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_names_on_the_command_line(install, run):
    install(TIMM)
    options = ("--set", "num_classes=7", "--dim", "batch=2", "--format", "json", "--check", "none")
    code, out, said = run("profile", "timm:small", *options)
    assert code == 0, said
    assert json.loads(out)["totals"]["macs"] == 2 * (32 * 32 * 4 * 27 + 28)
    assert "note: input 2x3x32x32; timm's configuration has 3x32x32" in said
    assert run("profile", "timm:smal") == (4, "", "error: timm:smal: timm has no 'smal'; near it: small\n")


@pytest.mark.parametrize("command", ["profile", "quantize"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "a"), "write NAME=VALUE"),
        (("--set", "=3"), "write NAME=VALUE"),
        (("--set", "a b=3"), "write NAME=VALUE"),
        (("--set", "a=3", "--set", "a=4"), "given twice"),
    ],
)
def test_settings_that_are_none(run, command, options, words):
    code, out, said = run(command, "models/digits_cnn.pt", *options)
    assert (code, out) == (2, "")
    assert words in said


def test_settings_are_json_or_text_or_pythons_words():
    texts = ["a=3", "b=1.5", "c=[1, 2]", "d=true", "e=True", "f=None", "g=gelu", "h=", "i=x=y", 'j="3"', "k.l=2"]
    values = [3, 1.5, [1, 2], True, True, None, "gelu", "", "x=y", "3", 2]
    assert arguments(texts) == dict(zip([text.partition("=")[0] for text in texts], values, strict=True))


def test_settings_reach_a_factory(run, tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\ndef net(width=4):\n    return nn.Linear(2, width)\n")
    options = ("--set", "width=32", "--format", "json", "--check", "none")
    assert json.loads(run("profile", f"{tmp_path}/net.py:net", *options)[1])["totals"]["macs"] == 64
    code, _, said = run("profile", ROOT / "models/digits_cnn.pt", "--set", "width=32")
    assert code == 2
    assert "go with a factory or a name" in said
