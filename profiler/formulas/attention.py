"""Scaled dot-product attention: softmax(Q K^T / sqrt(d)) V.

Two matrix products per head, Q K^T over the key width and its product with V over the value width. A causal mask does
not lower the count: the documented form computes the whole square.
"""

from profiler.formulas.activation import softmax_flops


def attention_macs(heads: int, queries: int, keys: int, width: int, value_width: int) -> int:
    """Multiply-accumulates.

    Args:
        heads: batch times query heads.
        queries: length of the query sequence.
        keys: length of the key sequence.
        width: width of one head's queries and keys.
        value_width: width of one head's values.
    """
    return heads * queries * keys * (width + value_width)


def attention_flops(heads: int, queries: int, keys: int, width: int, value_width: int, *, masked: bool) -> int:
    """Two per MAC, one scaling per score, one addition per score for a mask, and the softmax of each row."""
    scores = heads * queries * keys
    products = 2 * attention_macs(heads, queries, keys, width, value_width)
    return products + scores * (2 if masked else 1) + softmax_flops(heads * queries, keys)
