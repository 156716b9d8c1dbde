"""Pickles that would run code, take all memory or break their reader, in the archives that torch.save writes."""

from collections.abc import Callable

from .assemble import (
    APPEND,
    BINPERSID,
    BUILD,
    DUP,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    MARK,
    MEMOIZE,
    NEWOBJ,
    NEWOBJ_EX,
    NONE,
    OBJ,
    POP,
    PROTO4,
    REDUCE,
    SETITEM,
    STACK_GLOBAL,
    TUPLE1,
    blob,
    call,
    get,
    instance,
    mapping,
    name,
    number,
    pickled,
    put,
    sequence,
    storage,
    tensor,
    text,
    torch_zip,
)
from .case import Case, Harmless, Scene

Body = Callable[[Scene], bytes]


def canary(scene: Scene) -> bytes:
    """The path that code in the file makes a folder of."""
    return text(str(scene.canary))


def mkdir(scene: Scene) -> bytes:
    """A call that makes it."""
    return call("os", "mkdir", canary(scene))


def evaluated(scene: Scene) -> bytes:
    """Source text that makes it."""
    return text(f"__import__('os').mkdir({str(scene.canary)!r})")


def nested(scene: Scene) -> bytes:
    """A whole pickle that makes it, as bytes."""
    return blob(pickled(mkdir(scene)))


def _hub(scene: Scene) -> bytes:
    scene.put("hubconf.py", f"import os\ndef net():\n    os.mkdir({str(scene.canary)!r})\n".encode())
    return call("torch.hub", "_load_local", text(str(scene.model)), text("net"))


def _load_from_bytes(scene: Scene) -> bytes:
    return call("torch.storage", "_load_from_bytes", blob(torch_zip(mkdir(scene))))


def _partial(scene: Scene) -> bytes:
    """functools.partial made by NEWOBJ, then called."""
    made = name("functools", "partial") + sequence(name("os", "mkdir"), canary(scene)) + NEWOBJ
    return made + EMPTY_TUPLE + REDUCE


def _partial_ex(scene: Scene) -> bytes:
    made = name("functools", "partial") + sequence(name("os", "mkdir"), canary(scene)) + EMPTY_DICT + NEWOBJ_EX
    return made + EMPTY_TUPLE + REDUCE


def _setstate(scene: Scene) -> bytes:
    """A harmless partial whose __setstate__ puts os.mkdir into it."""
    made = name("functools", "partial") + sequence(name("builtins", "len")) + NEWOBJ
    state = sequence(name("os", "mkdir"), sequence(canary(scene)), EMPTY_DICT, NONE)
    return made + state + BUILD + EMPTY_TUPLE + REDUCE


def _memo(scene: Scene) -> bytes:
    """The name is put into the memo, thrown away, and taken out again where it is called."""
    return (
        name("os", "mkdir") + put(7) + POP + mapping({"w": number(1)}) + POP + get(7) + sequence(canary(scene)) + REDUCE
    )


def _duplicated(scene: Scene) -> bytes:
    return name("os", "mkdir") + DUP + POP + canary(scene) + TUPLE1 + REDUCE


def _computed(scene: Scene) -> bytes:
    """getattr(posix, "mkdir"): the function itself is never named."""
    module = call("importlib", "import_module", text("posix"))
    return call("builtins", "getattr", module, text("mkdir")) + sequence(canary(scene)) + REDUCE


def _in_a_storage(scene: Scene) -> bytes:
    """The call stands where a storage's element type should."""
    parts = (text("storage"), mkdir(scene), text("0"), text("cpu"), number(4))
    return mapping({"w": tensor((4,), (1,), stored=sequence(*parts) + BINPERSID)})


def _in_a_key(scene: Scene) -> bytes:
    parts = (text("storage"), name("torch", "FloatStorage"), mkdir(scene), text("cpu"), number(4))
    return mapping({"w": tensor((4,), (1,), stored=sequence(*parts) + BINPERSID)})


def _beside_a_tensor(scene: Scene) -> bytes:
    return mapping({"w": tensor((4,), (1,)), "epoch": mkdir(scene)})


def _thrown_away(scene: Scene) -> bytes:
    """The call is made and its result dropped: what the pickle builds is a plain state_dict."""
    return mkdir(scene) + POP + mapping({"w": tensor((4,), (1,))})


def _backward_hooks(scene: Scene) -> bytes:
    """The call is the last argument of an allowed function."""
    return mapping({"w": call("torch._utils", "_rebuild_parameter", tensor((4,), (1,)), b"\x88", mkdir(scene))})


def _dotted(scene: Scene) -> bytes:
    """torch imports os: `torch`, `os.mkdir` reads like one of torch's own names."""
    return text("torch") + text("os.mkdir") + STACK_GLOBAL + canary(scene) + TUPLE1 + REDUCE


def _file_in(scene: Scene) -> bytes:
    script = scene.put("script.py", f"import os\nos.mkdir({str(scene.canary)!r})\n".encode())
    return call("runpy", "run_path", text(str(script)))


# Ways to have os.mkdir called: name -> (what the pickle does, protocol 4?).
ROUTES: dict[str, tuple[Body, bool]] = {
    "GLOBAL and REDUCE": (mkdir, False),
    "STACK_GLOBAL": (lambda s: text("os") + text("mkdir") + STACK_GLOBAL + canary(s) + TUPLE1 + REDUCE, True),
    "STACK_GLOBAL from the memo": (
        lambda s: text("os") + MEMOIZE + text("mkdir") + MEMOIZE + STACK_GLOBAL + canary(s) + TUPLE1 + REDUCE,
        True,
    ),
    "STACK_GLOBAL, dotted": (_dotted, True),
    "INST": (lambda s: MARK + canary(s) + b"ios\nmkdir\n", False),
    "OBJ": (lambda s: MARK + name("os", "mkdir") + canary(s) + OBJ, False),
    "NEWOBJ of a partial": (_partial, False),
    "NEWOBJ_EX of a partial": (_partial_ex, True),
    "BUILD with __setstate__": (_setstate, False),
    "computed function": (_computed, False),
    "memo": (_memo, False),
    "DUP": (_duplicated, False),
    "eval": (lambda s: call("builtins", "eval", evaluated(s)), False),
    "eval, old name": (lambda s: call("__builtin__", "eval", evaluated(s)), False),
    "exec": (lambda s: call("builtins", "exec", evaluated(s)), False),
    "posix": (lambda s: call("posix", "mkdir", canary(s)), False),
    "nt names on posix": (lambda s: call("os", "makedirs", canary(s)), False),
    "subprocess": (lambda s: call("subprocess", "check_call", sequence(text("mkdir"), canary(s))), False),
    "nested pickle": (lambda s: call("pickle", "loads", nested(s)), False),
    "nested pickle by _pickle": (lambda s: call("_pickle", "loads", nested(s)), False),
    "torch.storage._load_from_bytes": (_load_from_bytes, False),
    "torch.hub from a folder": (_hub, False),
    "runpy": (_file_in, False),
    "timeit": (lambda s: call("timeit", "timeit", evaluated(s), text("pass"), name("time", "time"), number(1)), False),
    "cProfile": (lambda s: call("cProfile", "run", evaluated(s), blob(b"")), False),
    "numpy's runstring": (lambda s: call("numpy.testing._private.utils", "runstring", evaluated(s), EMPTY_DICT), False),
    "in a storage's type": (_in_a_storage, False),
    "in a storage's key": (_in_a_key, False),
    "beside a tensor": (_beside_a_tensor, False),
    "result thrown away": (_thrown_away, False),
    "argument of an allowed function": (_backward_hooks, False),
}


def routed(body: Body, *, four: bool) -> Callable[[Scene], bytes]:
    """The whole pickle of a route."""
    return lambda scene: pickled(body(scene), PROTO4) if four else pickled(body(scene))


def _archive(body: Body, *, four: bool) -> Callable[[Scene], object]:
    return lambda s: s.put("model.pt", torch_zip(body(s), protocol=PROTO4 if four else b"\x80\x02"))


def plain(body: bytes, **storages: bytes) -> Callable[[Scene], object]:
    """A torch.save archive whose pickle does not depend on where it lies."""
    stored = {key.removeprefix("s"): value for key, value in storages.items()} or None
    return lambda s: s.put("model.pt", torch_zip(body, stored))


LINEAR = ("torch.nn.modules.linear", "Linear")


def linear(**more: bytes) -> bytes:
    """A Linear(2, 2), with more attributes or others."""
    empty = call("collections", "OrderedDict")
    flat = {
        "training": b"\x88",
        "_parameters": mapping({"weight": parameter(tensor((2, 2), (2, 1))), "bias": NONE}),
        "_buffers": EMPTY_DICT,
        "_non_persistent_buffers_set": call("builtins", "set", EMPTY_LIST),
        "_backward_pre_hooks": empty,
        "_backward_hooks": empty,
        "_is_full_backward_hook": NONE,
        "_forward_hooks": empty,
        "_forward_hooks_with_kwargs": empty,
        "_forward_hooks_always_called": empty,
        "_forward_pre_hooks": empty,
        "_forward_pre_hooks_with_kwargs": empty,
        "_state_dict_hooks": empty,
        "_state_dict_pre_hooks": empty,
        "_load_state_dict_pre_hooks": empty,
        "_load_state_dict_post_hooks": empty,
        "_modules": EMPTY_DICT,
        "in_features": number(2),
        "out_features": number(2),
    }
    return instance(*LINEAR, {**flat, **more})


def parameter(stored: bytes) -> bytes:
    """A parameter, as torch.save writes it."""
    return call("torch._utils", "_rebuild_parameter", stored, b"\x88", call("collections", "OrderedDict"))


def filled(pairs: bytes) -> bytes:
    """An OrderedDict with items."""
    return call("collections", "OrderedDict") + MARK + pairs + b"u"


def _deep(levels: int) -> bytes:
    """Tuples in each other."""
    return EMPTY_TUPLE + TUPLE1 * levels


def _doubling(levels: int) -> bytes:
    """Lists that hold the next one twice: 2**levels paths to the tensor."""
    body = tensor((4,), (1,))
    for level in range(levels):
        body = EMPTY_LIST + body + put(level) + APPEND + get(level) + APPEND
    return body


# Whole modules of stock classes that would do more than their class does.
SMUGGLED: dict[str, Case] = {
    "constructor by REDUCE": Case(plain(call(*LINEAR, number(20000), number(20000))), r"call|construct|stock|refused"),
    "constructor by NEWOBJ": Case(
        plain(name(*LINEAR) + sequence(number(20000), number(20000)) + NEWOBJ), "constructed with the file's own"
    ),
    "constructor as an argument": Case(
        plain(mapping({"w": parameter(call(*LINEAR, number(20000), number(20000)))})),
        "call|construct|refused|describ",
        (3, 4),
    ),
    "torch.zeros by REDUCE": Case(plain(call("torch", "zeros", number(1 << 40))), "torch.zeros"),
    "own forward": Case(plain(linear(forward=linear())), "carries forward"),
    "own forward, a function": Case(plain(linear(forward=name("torch", "relu"))), "carries forward"),
    "own __call__": Case(plain(linear(__call__=name("torch", "relu"))), "carries __call__"),
    "own __class__": Case(plain(linear(__class__=name("torch.nn.modules.conv", "Conv2d"))), "carries __class__"),
    "own call implementation": Case(plain(linear(_call_impl=name("torch", "relu"))), "carries _call_impl"),
    "compiled call": Case(
        plain(linear(_compiled_call_impl=name("torch", "relu"))), "_compiled_call_impl|stored|refused"
    ),
    "forward hook": Case(
        plain(linear(_forward_hooks=filled(number(0) + name("torch", "relu")))), r"hooks of its own \(_forward_hooks\)"
    ),
    "pre-hook": Case(
        plain(linear(_forward_pre_hooks=filled(number(0) + linear()))), r"hooks of its own \(_forward_pre_hooks\)"
    ),
    "state hook": Case(
        plain(linear(_state_dict_hooks=filled(number(0) + name("torch", "relu")))),
        r"hooks of its own \(_state_dict_hooks\)",
    ),
    "hooks of another type": Case(plain(linear(_forward_hooks=linear())), "hooks|never|refused"),
    "without its parameters": Case(plain(instance(*LINEAR, {"training": b"\x88"})), "lacks what every module has"),
    "state that is no dictionary": Case(plain(name(*LINEAR) + EMPTY_TUPLE + NEWOBJ + EMPTY_TUPLE + BUILD), "state"),
    "class outside torch.nn": Case(
        plain(instance("torch.utils.data.dataset", "Dataset", {})), "torch.utils.data.dataset.Dataset"
    ),
    "class of torch.nn's utilities": Case(
        plain(instance("torch.nn.utils.parametrize", "ParametrizationList", {})), "ParametrizationList"
    ),
    "storage class called": Case(plain(call("torch", "FloatStorage", number(1 << 40))), "FloatStorage|call|refused"),
    "class as a value": Case(plain(mapping({"a": name(*LINEAR)})), "stored as a value"),
    "OrderedDict subclass": Case(plain(instance("collections", "Counter", {"a": number(1)})), "collections.Counter"),
    "OrderedDict with a state": Case(
        plain(call("collections", "OrderedDict") + mapping({"items": name("os", "mkdir")}) + BUILD), "os.mkdir"
    ),
}

_HUGE = b"\x8a\xff" + b"\xff" * 254 + b"\x7f"  # LONG1 of 255 bytes
_REACH = "reaches beyond its storage"
_NEGATIVE = "reaches beyond its storage|never does"

# Sizes that lie.
SIZES: dict[str, Case] = {
    "tensor beyond its storage": Case(plain(mapping({"w": tensor((5,), (1,))})), _REACH),
    "tensor beyond its storage by stride": Case(plain(mapping({"w": tensor((2,), (1 << 40,))})), _REACH),
    "tensor beyond its storage by offset": Case(plain(mapping({"w": tensor((4,), (1,), offset=1 << 40)})), _REACH),
    "tensor before its storage": Case(plain(mapping({"w": tensor((4,), (1,), offset=-1)})), _NEGATIVE, (3, 4)),
    "negative stride": Case(plain(mapping({"w": tensor((4,), (-1,))})), _NEGATIVE, (3, 4)),
    "negative size": Case(plain(mapping({"w": tensor((-4,), (1,))})), _NEGATIVE, (3, 4)),
    "more strides than sizes": Case(plain(mapping({"w": tensor((4,), (1, 1))})), "never does|strides", (3, 4)),
    "sizes of 255 bytes": Case(
        plain(
            mapping(
                {
                    "w": call(
                        "torch._utils",
                        "_rebuild_tensor_v2",
                        storage(),
                        number(0),
                        sequence(*[_HUGE] * 300),
                        sequence(*[number(0)] * 300),
                        b"\x89",
                        call("collections", "OrderedDict"),
                    )
                }
            )
        ),
        "elements|dimensions|describ|beyond",
        (3, 4),
    ),
    "stride 0, 2**60 elements": Case(
        plain(mapping({"w": tensor((1 << 30, 1 << 30), (0, 0))})), "elements in one tensor"
    ),
    "sizes that are text": Case(
        plain(
            mapping(
                {
                    "w": call(
                        "torch._utils",
                        "_rebuild_tensor_v2",
                        storage(),
                        number(0),
                        sequence(text("4")),
                        sequence(text("1")),
                        b"\x89",
                        call("collections", "OrderedDict"),
                    )
                }
            )
        ),
        "never does|describ",
        (3, 4),
    ),
    "storage larger than its member": Case(
        plain(mapping({"w": tensor((4,), (1,), stored=storage(elements=1 << 30))})), "storage 0", (3, 4)
    ),
    "storage smaller than its member": Case(
        plain(mapping({"w": tensor((1,), (1,), stored=storage(elements=1))})), "storage 0", (3, 4)
    ),
    "storage without a member": Case(
        plain(mapping({"w": tensor((4,), (1,), stored=storage(key="1"))})), "storage 1", (3, 4)
    ),
    "storage of two sizes": Case(
        plain(
            mapping({"a": tensor((4,), (1,)), "b": tensor((1,), (1,), stored=storage(elements=9, kind="ByteStorage"))})
        ),
        "storage 0",
        (3, 4),
    ),
    "storage key outside the archive": Case(
        plain(mapping({"w": tensor((4,), (1,), stored=storage(key="../../outside/secret.bin"))})), "storage", (3, 4)
    ),
    "negative storage": Case(plain(mapping({"w": tensor((0,), (1,), stored=storage(elements=-4))})), "storage", (3, 4)),
}


# Pickles that are made to break their reader.
BREAKING: dict[str, Case] = {
    "EXT1": Case(plain(b"\x82\x01"), "EXT1"),
    "EXT2": Case(plain(b"\x83\x01\x00"), "EXT2"),
    "EXT4": Case(plain(b"\x84\x01\x00\x00\x00"), "EXT4"),
    "PERSID": Case(plain(b"Pstorage\n"), "PERSID"),
    "persistent id that is no storage": Case(
        plain(mapping({"w": tensor((4,), (1,), stored=text("x") + BINPERSID)})), "never does|storage|describ", (3, 4)
    ),
    "BYTEARRAY8": Case(plain(b"\x96\x01\x00\x00\x00\x00\x00\x00\x00x"), "BYTEARRAY8"),
    "NEXT_BUFFER": Case(plain(b"\x97"), "NEXT_BUFFER"),
    "tuples in each other": Case(plain(_deep(300_000)), "nest|deep", (3, 4)),
    "tuples in each other as a key": Case(
        plain(EMPTY_DICT + _deep(300_000) + number(1) + SETITEM), "nest|deep|key|damaged", (3, 4)
    ),
    "tuples in each other as a name": Case(
        plain(
            text("torch") + _deep(100_000) + STACK_GLOBAL,
        ),
        "name|nest|deep|damaged",
        (3, 4),
    ),
    "dictionaries in each other": Case(
        plain(b"".join([EMPTY_DICT + text("a")] * 100_000) + NONE + SETITEM * 100_000), "nest|deep", (3, 4)
    ),
    "module in itself": Case(
        plain(
            name("torch.nn.modules.container", "Sequential")
            + EMPTY_TUPLE
            + NEWOBJ
            + put(9)
            + mapping({"_modules": filled(text("0") + get(9))})
            + BUILD
        ),
        ".",
        (3, 4),
    ),
    "empty stack": Case(plain(b""), "damaged", (3, 4)),
    "REDUCE of nothing": Case(plain(REDUCE), "damaged", (3, 4)),
    "TUPLE without a mark": Case(plain(number(1) + b"t"), "damaged", (3, 4)),
    "memo that was never filled": Case(plain(get(200)), "damaged", (3, 4)),
    "memo index 2**32 - 1": Case(plain(NONE + b"r\xff\xff\xff\xff" + b"j\xff\xff\xff\xfe"), "damaged", (3, 4)),
    "list as a key": Case(plain(EMPTY_DICT + EMPTY_LIST + TUPLE1 + NONE + SETITEM), "damaged|key", (3, 4)),
    "odd number of items": Case(plain(EMPTY_DICT + MARK + NONE + b"u"), "damaged", (3, 4)),
    "string longer than the pickle": Case(plain(b"X\xff\xff\xff\x7fabc"), "damaged", (3, 4)),
    "string of 2**63 bytes": Case(plain(b"\x8d" + b"\xff" * 7 + b"\x7fabc"), "damaged", (3, 4)),
    "LONG4 of 2**31 bytes": Case(plain(b"\x8b\xff\xff\xff\x7f"), "LONG4|damaged", (3, 4)),
    "INT of 100,000 digits": Case(plain(b"I" + b"9" * 100_000 + b"\n"), "damaged|INT", (3, 4)),
    "text that is no text": Case(plain(b"X\x02\x00\x00\x00\xff\xfe"), "damaged", (3, 4)),
    "unknown opcode": Case(plain(b"\xff"), "damaged", (3, 4)),
    "name of a megabyte": Case(plain(mapping({"n" * (1 << 20): tensor((4,), (1,))})), "name"),
}


# Files that ask for nothing wrong, strange as they are.
HARMLESS: dict[str, Harmless] = {
    "stride 0, 10**12 elements": Harmless(
        plain(mapping({"w": tensor((10**6, 10**6), (0, 0), stored=storage(elements=1))}), s0=bytes(4)),
        ("1000000x1000000", "4 B"),
    ),
    "2**40 paths to one tensor": Harmless(plain(mapping({"w": _doubling(40)})), ("w",)),
    "hooks with attributes of their own": Harmless(
        plain(linear(_forward_hooks=call("collections", "OrderedDict") + mapping({"items": number(1)}) + BUILD)),
        ("",),
        codes=(0, 3, 4),
    ),
    "list in itself": Harmless(plain(EMPTY_LIST + put(0) + get(0) + APPEND), ("",), codes=(0, 3, 4)),
    "dictionary in itself": Harmless(plain(EMPTY_DICT + put(0) + text("a") + get(0) + SETITEM), ("",), codes=(0, 3, 4)),
    "FRAME of 2**63 bytes": Harmless(
        lambda s: s.put("model.pt", torch_zip(b"\x95" + b"\xff" * 7 + b"\x7f" + EMPTY_DICT, protocol=PROTO4)),
        ("",),
        codes=(0, 3, 4),
    ),
    "protocol 255": Harmless(
        lambda s: s.put("model.pt", torch_zip(EMPTY_DICT, protocol=b"\x80\xff")), ("",), codes=(0, 3, 4)
    ),
    "names with escapes": Harmless(
        plain(mapping({"\x1b[2J\x1b]0;owned\x07</script>\x00\r\u202e": tensor((4,), (1,))})),
        ("script",),
        ("\x1b", "\x07", "\x00", "\u202e"),
    ),
}


CASES: dict[str, Case] = {
    **{
        f"pickle, {route}": Case(_archive(body, four=four), "run code|refused|never", naive="torch.load")
        for route, (body, four) in ROUTES.items()
    },
    **{f"module, {name}": case for name, case in SMUGGLED.items()},
    **{f"sizes, {name}": case for name, case in SIZES.items()},
    **{f"reader, {name}": case for name, case in BREAKING.items()},
}
