"""The JSON of a torch.export program as small values: every field checked, nothing evaluated, nothing resolved.

`models/NAME.json` holds the graph, the signature that says what each input of the graph stands for, and the ranges of
sizes that were left free; `data/weights/NAME_weights_config.json` and `data/constants/NAME_constants_config.json` say
which file of the archive holds the bytes of which tensor. What is read here is schema 8, which torch 2.13
writes; its earlier minor versions differ in fields that are not needed here.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from profiler.errors import ModelError
from profiler.sources.limits import Limits
from profiler.sources.program_arguments import ARGUMENTS, DTYPES, Malformed, Ref, as_list, as_text, as_whole, tagged
from profiler.sources.program_schema import Expression, Frame, Graph, InputSpec, Node, Payload, Program, TensorMeta

MAJOR = 8
_MOST_SIZE = 1 << 62


class Reader:
    """Reads one file's JSON within limits.

    Args:
        source: the file, for messages.
        limits: how much it may ask for.
    """

    def __init__(self, source: str, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._nodes = 0

    def program(self, data: bytes) -> Program:
        """The program in `models/NAME.json`.

        Raises:
            ModelError: it is damaged, or of a schema that is not read here.
            RefusedError: it goes beyond a limit.
        """
        program: Program = self._checked(self._program, self._parsed(data), "the program")
        return program

    def payloads(self, data: bytes, what: str) -> dict[str, Payload]:
        """Where the tensors of a `*_config.json` are kept, by their dotted names.

        Raises:
            ModelError: it is damaged.
            RefusedError: it goes beyond a limit.
        """
        payloads: dict[str, Payload] = self._checked(self._payloads, self._parsed(data), what)
        return payloads

    def tensor(self, graph: Graph, name: str) -> TensorMeta:
        """What the graph declares of one of its tensors.

        Raises:
            ModelError: nothing, or nothing sensible.
        """
        if name not in graph.values:
            self._damaged(f"nothing is said of the tensor {name!r}")
        meta: TensorMeta = self._checked(self._meta, graph.values[name], f"the tensor {name!r}")
        return meta

    def size(self, graph: Graph, name: str) -> int | Expression:
        """What the graph declares of a size among its inputs.

        Raises:
            ModelError: nothing sensible.
        """
        size: int | Expression = self._checked(self._size, graph.sizes[name], f"the size {name!r}")
        return size

    def _checked(self, read: Callable[[Any], Any], value: object, what: str) -> Any:  # noqa: ANN401  # what `read` gives
        try:
            return read(value)
        except (Malformed, KeyError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            self._damaged(f"{what}: {reason}", error)

    def _damaged(self, reason: str, cause: Exception | None = None) -> NoReturn:
        raise ModelError(f"{self._source}: is no whole torch.export program ({reason[:300]})") from cause

    def _parsed(self, data: bytes) -> Any:  # noqa: ANN401  # any JSON
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            self._damaged(f"its JSON cannot be read: {error}", error)

    # Program -----------------------------------------------------------------------------------------------------

    def _program(self, value: Any) -> Program:  # noqa: ANN401  # any JSON
        version = _mapping(value, "schema_version") if "schema_version" in _as_mapping(value) else {}
        major = version.get("major")
        if major != MAJOR:
            writer = _shown(value.get("torch_version", "another version"))
            raise ModelError(
                f"{self._source}: is a torch.export program of schema {_shown(major)}, written by torch "
                f"{writer}; schema {MAJOR}, as torch 2.13 writes it, is read. Export it anew, or to ONNX"
            )
        module = _mapping(value, "graph_module")
        signature = _mapping(module, "signature")
        outputs = [self._tag(spec) for spec in as_list(signature["output_specs"])]
        return Program(
            graph=self._graph(module["graph"], 0),
            inputs=tuple(self._spec(spec, n) for n, spec in enumerate(as_list(signature["input_specs"]))),
            outputs=tuple(self._argument(_field(s, "arg"), 0) for kind, s in outputs if kind == "user_output"),
            ranges=dict(self._ranges(_as_mapping(value.get("range_constraints") or {}))),
            modules=tuple(self._path(_field(e, "fqn")) for e in as_list(module.get("module_call_graph") or [])),
            written_by=_shown(value.get("torch_version", "2.4 or older")),
        )

    def _ranges(self, value: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int | None, int | None]]]:
        for name, limits in value.items():
            least, most = _field(limits, "min_val"), _field(limits, "max_val")
            yield name, (None if least is None else as_whole(least), None if most is None else as_whole(most))

    def _tag(self, value: Any) -> tuple[str, Any]:  # noqa: ANN401  # any JSON
        return tagged(value)

    def _spec(self, value: Any, number: int) -> InputSpec:  # noqa: ANN401  # any JSON
        kind, spec = tagged(value)
        if kind == "user_input":
            return InputSpec(kind, self._argument(_field(spec, "arg"), 0), f"arg{number}")
        if kind == "constant_input":
            held_as, constant = tagged(_field(spec, "value"))
            return InputSpec(kind, None, self._name(_field(spec, "name")), None if held_as == "as_none" else constant)
        target = _TARGETS.get(kind)
        if target is None:
            raise Malformed(f"an input of the kind {kind!r} is not known")
        named = self._path(_field(spec, target)) if target else ""
        return InputSpec(kind, Ref(self._name(_field(_field(spec, "arg"), "name"))), named)

    def _graph(self, value: Any, depth: int) -> Graph:  # noqa: ANN401  # any JSON
        self._limits.check("nesting", depth, f"{self._source}, its graphs")
        nodes = as_list(_field(value, "nodes"))
        self._nodes += len(nodes)
        self._limits.check("nodes", self._nodes, self._source)
        return Graph(
            inputs=tuple(self._argument(v, depth) for v in as_list(_field(value, "inputs"))),
            outputs=tuple(self._argument(v, depth) for v in as_list(_field(value, "outputs"))),
            nodes=tuple(self._node(node, depth) for node in nodes),
            values=_mapping(value, "tensor_values"),
            sizes=_as_mapping(value.get("sym_int_values") or {}),
        )

    def _node(self, value: Any, depth: int) -> Node:  # noqa: ANN401  # any JSON
        metadata = _as_mapping(_as_mapping(value).get("metadata") or {})
        return Node(
            target=self._name(_field(value, "target")),
            inputs=tuple(
                (self._name(_field(v, "name")), self._argument(_field(v, "arg"), depth))
                for v in as_list(_field(value, "inputs"))
            ),
            outputs=tuple(self._argument(v, depth) for v in as_list(_field(value, "outputs"))),
            stack=self._stack(metadata.get("nn_module_stack") or ""),
        )

    def _stack(self, text: Any) -> tuple[Frame, ...]:  # noqa: ANN401  # any JSON
        """Frames from "key,path,type;key,path,type"; keys and types may have commas within brackets."""
        frames = []
        entries = as_text(text).split(";") if text else []
        self._limits.check("nesting", len(entries), f"{self._source}, its modules")
        for entry in entries:
            key, _, rest = entry.partition(",")
            path, _, kind = rest.partition(",")
            frames.append(Frame(key, self._path(path), self._name(kind).rpartition(".")[2] or "Module"))
        return tuple(frames)

    def _argument(self, value: Any, depth: int) -> Any:  # noqa: ANN401  # any argument
        kind, held = tagged(value)
        if kind == "as_graph":
            return self._graph(_field(held, "graph"), depth + 1)
        if kind == "as_string_to_argument":
            self._limits.check("nesting", depth, f"{self._source}, its arguments")
            return {as_text(k): self._argument(v, depth + 1) for k, v in _as_mapping(held).items()}
        read = ARGUMENTS.get(kind)
        if read is None:
            raise Malformed(f"an argument of the kind {kind!r} is not known")
        return read(held)

    def _path(self, value: Any) -> str:  # noqa: ANN401  # any JSON
        """A dotted name, of a module or of a tensor in one."""
        path = self._name(value)
        self._limits.check("nesting", path.count("."), f"{self._source}, its modules")
        return path

    def _name(self, value: Any) -> str:  # noqa: ANN401  # any JSON
        text = as_text(value)
        if not text.isprintable():
            raise Malformed("a name has characters that cannot be shown")
        if len(text) > 256:  # a name in use is shorter, and its bytes need not be counted
            self._limits.check("name_bytes", len(text.encode("utf-8", "surrogatepass")), f"{self._source}, a name")
        return text

    # Tensors -----------------------------------------------------------------------------------------------------

    def _payloads(self, value: Any) -> dict[str, Payload]:  # noqa: ANN401  # any JSON
        config = _mapping(value, "config")
        self._limits.check("tensors", len(config), self._source)
        return {self._name(name): self._payload(entry) for name, entry in config.items()}

    def _payload(self, value: Any) -> Payload:  # noqa: ANN401  # any JSON
        meta = _as_mapping(value).get("tensor_meta")
        return Payload(
            file=self._name(_field(value, "path_name")),
            is_param=bool(value.get("is_param")),
            pickled=value.get("use_pickle") is not False,
            meta=None if meta is None else self._meta(meta),
        )

    def _meta(self, value: Any) -> TensorMeta:  # noqa: ANN401  # any JSON
        dtype = DTYPES.get(as_whole(_field(value, "dtype")))
        if dtype is None:
            raise Malformed(f"no element type has the number {value['dtype']}")
        sizes = tuple(self._size(v) for v in as_list(_field(value, "sizes")))
        strides = tuple(self._size(v) for v in as_list(value.get("strides") or []))
        return TensorMeta(
            dtype=dtype,
            sizes=sizes,
            strides=strides,
            offset=self._size(value.get("storage_offset") or {"as_int": 0}),
            requires_grad=value.get("requires_grad") is True and (dtype.is_floating_point or dtype.is_complex),
        )

    def _size(self, value: Any) -> int | Expression:  # noqa: ANN401  # any JSON
        kind, held = tagged(value)
        if kind == "as_expr":
            hint = _as_mapping(held).get("hint")
            number = None if hint is None else _as_mapping(hint).get("as_int")
            return Expression(self._name(_field(held, "expr_str")), None if number is None else as_whole(number))
        size = as_whole(held)
        if kind != "as_int" or not 0 <= size <= _MOST_SIZE:
            raise Malformed(f"{size} is no size")
        return size


# By the kind of an input: the field that names what it stands for.
_TARGETS = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
    "custom_obj": "custom_obj_name",
    "token": "",
}


def _shown(value: object) -> str:
    """A value for a message, cut and without what could drive a terminal."""
    return "".join(c for c in str(value)[:40] if c.isprintable())


def _as_mapping(value: Any) -> Mapping[str, Any]:  # noqa: ANN401  # any JSON
    if not isinstance(value, dict):
        raise Malformed(f"a {type(value).__name__} is where an object belongs")
    return value


def _field(value: Any, name: str) -> Any:  # noqa: ANN401  # any JSON
    return _as_mapping(value)[name]


def _mapping(value: Any, name: str) -> Mapping[str, Any]:  # noqa: ANN401  # any JSON
    return _as_mapping(_field(value, name))
