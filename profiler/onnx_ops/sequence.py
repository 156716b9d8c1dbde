"""Sequences of tensors and optional values: free, and followed as far as their positions are known.

What these operators give is not a matter of sizes alone: `onnx_graph.sequences` builds the values.
"""

from profiler.onnx_ops.call import Operator

_NAMES = (
    *("SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceAt", "SequenceLength"),
    *("SplitToSequence", "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement"),
)

TABLE = {name: Operator("sequence", "Data movement", None) for name in _NAMES}
