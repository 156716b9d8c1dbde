"""Receptive fields: exact intervals, carried through the executed graph in integers.

`index_map` says which inputs feed which outputs along one axis, `view` what a tensor sees of one input axis, `field`,
`reshape` and `merge` what happens to whole tensors, `rules` which operator does what. See docs/formulas.md,
"Receptive field".
"""
