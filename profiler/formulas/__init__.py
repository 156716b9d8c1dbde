"""The documented formulas as pure functions of shapes: integers in, integers out, no torch and no onnx.

`docs/formulas.md` states each with its source. The convention throughout:

* a MAC is one multiply-accumulate of a convolution, matrix product, attention or recurrence, the bias left out;
* a FLOP is one floating-point operation: two per MAC, one per bias addition, and for everything else the costs in
  `activation.COST_PER_ELEMENT` and the functions beside it.
"""
