"""Rounding to integers and back: q = clip(round(x / scale) + zero_point, low, high), x' = scale (q - zero_point)."""

QUANTIZE = 5  # division, rounding, addition, and two comparisons
DEQUANTIZE = 2  # subtraction and multiplication


def quantize_flops(elements: int) -> int:
    """Quantization of each element."""
    return QUANTIZE * elements


def dequantize_flops(elements: int) -> int:
    """The way back of each element."""
    return DEQUANTIZE * elements


def dynamic_quantize_flops(elements: int) -> int:
    """Quantization with the range of the tensor itself: its minimum and maximum first, a comparison an element each."""
    return quantize_flops(elements) + 2 * elements
