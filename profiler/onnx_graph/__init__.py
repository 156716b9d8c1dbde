"""An ONNX graph, profiled without running it: sizes, counts, memory and receptive fields, as of a torch module.

`prepare` reads the graph, `inputs` settles the sizes of its inputs, `walk` goes through the nodes in order and finds
each in the table of `profiler.onnx_ops`, `analyze` makes the rows. Stored tensors are sizes here: only small ones are
read, and those that lie outside the file never. See docs/onnx.md.
"""

from profiler.onnx_graph.analyze import analyze_onnx

__all__ = ["analyze_onnx"]
