"""Time and memory of analyzing a Llama-3.1-405B-shaped model, from its configuration, without its weights.

    python benchmarks/scale.py                      all cases at 8, 32 and 126 layers, about 4 minutes
    python benchmarks/scale.py --layers 126 --repeats 1

Every case runs in new processes, so that each time is that of a first call and each peak is the whole process's own,
Python, torch and transformers included. `decode` is one token after a filled cache, the others are a whole prompt.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from _common import RESULTS, declare_torchvision_operators, everything, run_case, table, write_results

MOST_SECONDS = 3.0
MOST_BYTES = 800 * 2**20


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes.

    Attributes:
        hidden, heads, groups, inner, words: width, attention heads, heads of keys and values, width of the
            feed-forward part, vocabulary.
        tokens: of the prompt.
    """

    hidden: int
    heads: int
    groups: int
    inner: int
    words: int
    tokens: int

    def macs(self, layers: int, *, decode: bool) -> int:
        """Counted by hand: projections, feed-forward, scores and weighted sums, the head at every position."""
        new, seen = (1, self.tokens + 1) if decode else (self.tokens, self.tokens)
        narrow = self.hidden * self.groups // self.heads
        weights = 2 * self.hidden * (self.hidden + narrow) + 3 * self.hidden * self.inner
        return new * (layers * (weights + 2 * seen * self.hidden) + self.hidden * self.words)


LLAMA_405B = Shape(hidden=16384, heads=128, groups=8, inner=53248, words=128256, tokens=2048)
TINY = Shape(hidden=16, heads=2, groups=2, inner=32, words=11, tokens=8)


@dataclass(frozen=True)
class Variant:
    """How the model is called.

    Attributes:
        name: as it is shown.
        mask: with an attention mask of ones.
        cache: with `use_cache`.
        decode: one token after a cache filled with a whole prompt.
    """

    name: str
    mask: bool = False
    cache: bool = False
    decode: bool = False


VARIANTS = (
    Variant("prompt"),
    Variant("prompt, mask", mask=True),
    Variant("prompt, cache", cache=True),
    Variant("prompt, mask, cache", mask=True, cache=True),
    Variant("decode", cache=True, decode=True),
    Variant("decode, mask", mask=True, cache=True, decode=True),
)
Built = tuple[Any, tuple[Any, ...], dict[str, Any]]


def llama(layers: int, variant: Variant, shape: Shape = LLAMA_405B) -> Built:
    """Transformers' own model, its parameters on the meta device."""
    import torch
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        intermediate_size=shape.inner,
        vocab_size=shape.words,
        max_position_embeddings=131072,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config).eval()
    keywords: dict[str, Any] = {"use_cache": variant.cache}
    seen = shape.tokens + 1 if variant.decode else shape.tokens
    if variant.mask:
        keywords["attention_mask"] = torch.ones(1, seen, dtype=torch.int64)
    if variant.decode:
        keywords["past_key_values"] = cache = DynamicCache(config=config)
        for layer in range(layers):
            filled = torch.empty(1, shape.groups, shape.tokens, shape.hidden // shape.heads, device="meta")
            cache.update(filled, torch.empty_like(filled), layer)
    ids = torch.zeros(1, 1 if variant.decode else shape.tokens, dtype=torch.int64)
    return model, (ids,), keywords


def plain(layers: int, _variant: Variant, shape: Shape = TINY) -> Built:
    """A stack of torch's own layers, for trying the script out where transformers is not installed."""
    import torch
    from torch import nn

    with torch.device("meta"):
        block = nn.TransformerEncoderLayer(shape.hidden, shape.heads, shape.inner, batch_first=True)
        model = nn.TransformerEncoder(block, layers, enable_nested_tensor=False).eval()
    return model, (torch.empty(1, shape.tokens, shape.hidden, device="meta"),), {}


@dataclass(frozen=True)
class Family:
    """A model that can be made of any depth, what it imports, and how it is called."""

    build: Callable[[int, Variant], Built]
    shape: Shape
    package: str
    variants: tuple[Variant, ...]


FAMILIES = {
    "llama-3.1-405b": Family(llama, LLAMA_405B, "transformers", VARIANTS),
    "plain": Family(plain, TINY, "torch", VARIANTS[:1]),
}


def _peak() -> int:
    """Most bytes that this process ever had in memory, 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def measure(family: Family, layers: int, variant: Variant) -> dict[str, Any]:
    """One case in this process, which is new: seconds by the clock and of the processor, and the peak at each stage."""
    found: dict[str, Any] = {}

    def stage(name: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401  # what the work returns
        clock, processor = time.perf_counter(), time.process_time()
        result = work()
        found[f"{name}_seconds"] = round(time.perf_counter() - clock, 4)
        found[f"{name}_processor_seconds"] = round(time.process_time() - processor, 4)
        found[f"{name}_peak_bytes"] = _peak()
        return result

    def imports() -> None:
        import torch

        import profiler.analyzer  # noqa: F401  # its time and memory are what is measured

        torch.set_num_threads(1)
        if family.package == "transformers":
            declare_torchvision_operators()
            from transformers import LlamaForCausalLM  # noqa: F401  # as above

    def analysis() -> Any:  # noqa: ANN401  # a Profile
        from profiler import analyze

        profile = analyze(model, *inputs, **keywords)
        everything(profile)
        return profile

    found["start_peak_bytes"] = _peak()
    stage("import", imports)
    model, inputs, keywords = stage("build", lambda: family.build(layers, variant))
    profile = stage("analyze", analysis)
    return {
        **found,
        "rows": len(profile.layers),
        "macs": profile.totals.macs,
        "macs_by_hand": family.shape.macs(layers, decode=variant.decode) if family.shape is LLAMA_405B else None,
        "params": profile.totals.params,
        "activation_peak_bytes": profile.totals.peak_bytes,
        "uncounted": dict(profile.uncounted),
        "notes": list(profile.notes),
    }


def fit(seconds: dict[int, float]) -> dict[str, float] | None:
    """The straight line through seconds over layers: per layer, at none, and how well it explains them."""
    if len(seconds) < 2:
        return None
    layers, times = list(seconds), list(seconds.values())
    line = statistics.linear_regression(layers, times)
    return {
        "seconds_per_layer": line.slope,
        "seconds_at_none": line.intercept,
        "r_squared": statistics.correlation(layers, times) ** 2,
    }


def best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of several new processes the one whose analysis was shortest; its memory is the largest of all."""
    done = [run for run in runs if "error" not in run]
    if not done:
        return runs[0]
    chosen = min(done, key=lambda run: float(run["analyze_seconds"]))
    return {
        **chosen,
        "analyze_peak_bytes": max(run["analyze_peak_bytes"] for run in done),
        "analyze_seconds_of_all": [run["analyze_seconds"] for run in done],
    }


def within(case: dict[str, Any]) -> bool:
    """Whether a case keeps to the limits: building and analyzing together, and the whole process."""
    if "error" in case:
        return False
    seconds = case["build_seconds"] + case["analyze_seconds"]
    return bool(seconds < MOST_SECONDS and case["analyze_peak_bytes"] < MOST_BYTES)


def report(cases: list[dict[str, Any]], fits: dict[str, Any]) -> str:
    """The result in Markdown."""
    headers = ["call", "layers", "build, s", "analyze, s", "of processor, s", "after import, MiB", "peak, MiB", "rows"]
    headers += ["MACs", "as by hand", "uncounted", "kept"]
    rows, failed = [], []
    for case in cases:
        if "error" in case:
            failed.append(f"- {case['variant']}, {case['layers']} layers: {case['error']}")
            continue
        times = [case["build_seconds"], case["analyze_seconds"], case["analyze_processor_seconds"]]
        sizes = [case["import_peak_bytes"] / 2**20, case["analyze_peak_bytes"] / 2**20]
        hand = {None: "-", case["macs"]: "yes"}.get(case["macs_by_hand"], f"no: {case['macs_by_hand']}")
        last = [f"{case['macs']:.6g}", hand, sum(case["uncounted"].values()), "yes" if within(case) else "no"]
        rows.append([case["variant"], case["layers"], *times, *sizes, case["rows"], *last])
    lines = [
        f"- {name}, {clock}: {1e3 * line['seconds_per_layer']:.2f} ms a layer, "
        f"{1e3 * line['seconds_at_none']:.0f} ms besides, R² {line['r_squared']:.4f}"
        for name, both in fits.items()
        for clock, line in both.items()
        if line
    ]
    limits = f"Kept: build and analysis under {MOST_SECONDS:.0f} s, the process under {MOST_BYTES >> 20} MiB."
    parts = [table(headers, rows), limits, "## Seconds over layers", "\n".join(lines) or "Only one depth was run."]
    return "\n\n".join([*parts, *(["## Failed", "\n".join(failed)] if failed else [])])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; 1 where a case failed or went beyond the limits."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=FAMILIES, default="llama-3.1-405b")
    parser.add_argument("--layers", type=int, nargs="+", default=[8, 32, 126])
    parser.add_argument("--repeats", type=int, default=3, help="new processes for each case; the shortest time counts")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for scale.json and scale.md")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    if options.case:
        case = options.case
        print(json.dumps(measure(FAMILIES[case["model"]], case["layers"], Variant(**case["variant"]))))
        return 0
    family = FAMILIES[options.model]
    if find_spec(family.package) is None:
        parser.error(f"{options.model} needs the package {family.package}; --model plain needs torch alone")
    cases, fits = [], {}
    for variant in family.variants:
        times: dict[str, dict[int, float]] = {"clock": {}, "processor": {}}
        for layers in options.layers:
            case = {"model": options.model, "layers": layers, "variant": asdict(variant)}
            found = best([run_case(__file__, case) for _ in range(options.repeats)])
            cases.append({"variant": variant.name, "layers": layers, **found})
            if "error" in found:
                print(f"{variant.name}, {layers} layers: {found['error']}", flush=True)
                continue
            times["clock"][layers] = found["analyze_seconds"]
            times["processor"][layers] = found["analyze_processor_seconds"]
            peak = found["analyze_peak_bytes"] >> 20
            print(f"{variant.name}, {layers} layers: {found['analyze_seconds']:.3f} s, {peak} MiB", flush=True)
        fits[variant.name] = {clock: fit(seconds) for clock, seconds in times.items()}
    record = {"model": options.model, "shape": asdict(family.shape), "repeats": options.repeats, "cases": cases}
    print(write_results(options.output, "scale", {**record, "fits": fits}, report(cases, fits), ("transformers",)))
    kept = sum(map(within, cases))
    print(f"{kept} of {len(cases)} cases under {MOST_SECONDS:.0f} s and {MOST_BYTES >> 20} MiB")
    return 0 if kept == len(cases) else 1


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    sys.exit(main())
