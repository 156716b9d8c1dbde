"""Sizes, types and memory layouts by the formulas, against what torch's own kernels do on real tensors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from profiler.aten.allocate import pointwise_strides
from profiler.walk import walk


class Recorder(TorchDispatchMode):
    """Runs the real kernels, below autograd as the walk does, and writes down what comes out."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, _types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        outputs = [t for t in (result if isinstance(result, tuple | list) else [result]) if isinstance(t, torch.Tensor)]
        if outputs:
            self.seen.append((str(func.overloadpacket), [described(t) for t in outputs]))
        return result


def described(tensor):
    strides = [step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1]
    return tuple(tensor.shape), tensor.dtype, strides


def run_for_real(model, inputs):
    recorder = Recorder()
    with torch.no_grad(), torch._C._AutoDispatchBelowAutograd(), recorder:
        model(*inputs)
    return recorder.seen


def walked(model, inputs):
    seen = []
    walk(model, inputs, {}, lambda s: seen.append((s.call.packet, [described(t) for t in s.call.outputs])))
    return seen


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


PICTURE = (2, 8, 12, 10)
LAYERS = {
    "conv": (lambda: nn.Conv2d(8, 6, 3, stride=2, padding=1), PICTURE),
    "conv grouped": (lambda: nn.Conv2d(8, 8, 3, groups=8, dilation=2, bias=False), PICTURE),
    "conv same": (lambda: nn.Conv2d(8, 4, (3, 5), padding="same"), PICTURE),
    "conv unbatched": (lambda: nn.Conv2d(8, 4, 3), (8, 12, 10)),
    "conv 1d": (lambda: nn.Conv1d(8, 4, 3, padding=1), (2, 8, 12)),
    "conv 3d": (lambda: nn.Conv3d(2, 4, 3), (1, 2, 5, 6, 7)),
    "transposed": (lambda: nn.ConvTranspose2d(8, 4, 3, stride=2, output_padding=1, groups=2), PICTURE),
    "max pool": (lambda: nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), PICTURE),
    "average pool": (lambda: nn.AvgPool2d(3, ceil_mode=True), PICTURE),
    "average pool 1d": (lambda: nn.AvgPool1d(3), (2, 8, 12)),
    "adaptive pool": (lambda: nn.AdaptiveAvgPool2d((5, None)), PICTURE),
    "adaptive max pool": (lambda: nn.AdaptiveMaxPool2d(3), PICTURE),
    "batch norm": (lambda: nn.BatchNorm2d(8), PICTURE),
    "group norm": (lambda: nn.GroupNorm(4, 8), PICTURE),
    "instance norm": (lambda: nn.InstanceNorm2d(8), PICTURE),
    "layer norm": (lambda: nn.LayerNorm(10), PICTURE),
    "rms norm": (lambda: nn.RMSNorm(10), PICTURE),
    "linear": (lambda: nn.Linear(10, 3), PICTURE),
    "bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), PICTURE),
    "nearest": (lambda: nn.Upsample(scale_factor=1.7), PICTURE),
    "lstm": (lambda: nn.LSTM(10, 6, num_layers=2, bidirectional=True, batch_first=True), (2, 7, 10)),
    "lstm projected": (lambda: nn.LSTM(10, 6, proj_size=3), (7, 2, 10)),
    "gru": (lambda: nn.GRU(10, 6), (7, 2, 10)),
    "rnn": (lambda: nn.RNN(10, 6, nonlinearity="relu"), (7, 2, 10)),
    "lstm cell": (lambda: nn.LSTMCell(10, 6), (2, 10)),
    "gru cell": (lambda: nn.GRUCell(10, 6), (2, 10)),
    "gelu": (nn.GELU, PICTURE),
    "relu": (nn.ReLU, PICTURE),
    "relu in place": (lambda: nn.ReLU(inplace=True), PICTURE),
    "hardswish": (nn.Hardswish, PICTURE),
    "softmax": (lambda: nn.Softmax(-1), PICTURE),
    "glu": (lambda: nn.GLU(1), PICTURE),
    "prelu": (lambda: nn.PReLU(8), PICTURE),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
}
FUNCTIONS = {
    "add a number": lambda x: x + 1,
    "add broadcast": lambda x: x + x.mean((2, 3), keepdim=True),
    "divide": lambda x: x / (x.abs() + 1),
    "compare": lambda x: (x > 0.5) & (x < 2),
    "where": lambda x: torch.where(x > 0, x, x * 2),
    "masked fill": lambda x: x.masked_fill(x > 0, 0.0),
    "permute and add": lambda x: x.permute(0, 2, 3, 1) + 1,
    "two layouts": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) * x,
    "cat": lambda x: torch.cat([x, x * 2], 1),
    "stack and split": lambda x: torch.stack(x.split(3, 2)[:3]),
    "roll": lambda x: torch.roll(x, (1, -2), (2, 3)),
    "clone": lambda x: x.transpose(1, 2).clone(),
    "index": lambda x: x[:, torch.tensor([0, 2, 2]), :, torch.tensor([1, 3, 4])],
    "index by mask": lambda x: x[:, torch.tensor([True, False] * 4)],
    "slice and assign": lambda x: x[:, :, ::2].add_(1),
    "mean": lambda x: x.mean(1, keepdim=True),
    "sums": lambda x: x.sum((1, 3)) + x.amax((1, 3)),
    "extremes": lambda x: torch.max(x, x * 2).max(1).values,
    "argmax": lambda x: x.argmax(1),
    "matmul": lambda x: x @ x.transpose(-1, -2),
    "small left factor": lambda x: torch.ones(10, 10) @ x.transpose(-1, -2),
    "vector": lambda x: x @ torch.ones(10),
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x).transpose(1, 2).reshape(2, 12, 80),
    "attention of three axes": lambda x: F.scaled_dot_product_attention(x[0], x[0], x[0]),
    "grouped queries": lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True),
    "reshape": lambda x: x.permute(0, 2, 3, 1).reshape(2, 120, 8),
    "flatten": lambda x: x.flatten(1),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1)),
    "wrap around": lambda x: F.pad(x, (1, 2, 0, 1), mode="circular"),
    "reflect": lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "half": lambda x: x.half() + x,
    "double": lambda x: x.double() * 2,
    "vector norm": lambda x: F.normalize(x, dim=1),
    "cumsum": lambda x: x.cumsum(1),
    "clamp": lambda x: x.clamp(0, 1).pow(2).sqrt(),
    "interpolate to a size": lambda x: F.interpolate(x, size=(5, 7), mode="bilinear", align_corners=True),
    "unfold": lambda x: F.unfold(x, 3),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "embedding": lambda x: F.embedding(torch.arange(6).view(2, 3), x[0, 0]),
    "expand": lambda x: x.mean(1, keepdim=True).expand(-1, 5, -1, -1) * 2,
    "squeeze": lambda x: x.mean(1, keepdim=True).squeeze(1).unsqueeze(-1),
    "topk": lambda x: x.topk(2, -1)[0],
    "complex": lambda x: torch.view_as_real(torch.fft.rfft(x)),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("name", [*LAYERS, *FUNCTIONS])
def test_every_result_has_the_size_type_and_layout_of_the_real_one(name, last):
    torch.manual_seed(0)
    make, shape = LAYERS.get(name) or (lambda: Calls(FUNCTIONS[name]), PICTURE)
    x = torch.randn(shape)
    if last and len(shape) == 4:
        x = x.to(memory_format=torch.channels_last)
    elif last and len(shape) == 3:
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    model = make().eval()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        expected = run_for_real(model, [x])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    assert walked(model, [x]) == expected


@st.composite
def operands(draw):
    """Tensors that broadcast, their axes in any order in memory."""
    shape = draw(st.lists(st.integers(2, 4), min_size=1, max_size=4))
    tensors = []
    for _ in range(draw(st.integers(1, 3))):
        sizes = [1 if draw(st.booleans()) and draw(st.booleans()) else n for n in shape]
        order = draw(st.permutations(range(len(shape))))
        back = [order.index(axis) for axis in range(len(shape))]
        tensors.append(torch.empty([sizes[axis] for axis in order]).permute(back))
    return tensors


@given(operands())
def test_strides_of_element_by_element_results(tensors):
    expected = torch.relu(tensors[0]) if len(tensors) == 1 else torch.addcmul(*(*tensors, *tensors, *tensors)[:3])
    if all(t.is_contiguous() for t in tensors):
        return  # the walk makes a contiguous result without asking
    given_operands = tensors if len(tensors) == 1 else [*tensors, *tensors, *tensors][:3]
    strides = pointwise_strides(tuple(expected.shape), tuple((tuple(t.shape), t.stride()) for t in given_operands))
    kept = [n for n, size in enumerate(expected.shape) if size != 1]
    assert [strides[n] for n in kept] == [expected.stride()[n] for n in kept]
