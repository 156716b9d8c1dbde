"""Attention in a training step: the kernel that torch takes on a CPU.

Without storage, torch would compose attention from matrix products and keep every score for the backward pass, which
no kernel in use does. So torch is asked which kernel it would take for such tensors with storage.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

_FLASH = 1  # torch.nn.attention.SDPBackend.FLASH_ATTENTION, whose import takes long
_LOCK = Lock()  # torch takes one kernel at a time
_Kind = tuple[tuple[int, ...], torch.dtype, bool]


@contextmanager
def attention_as_on_cpu() -> Iterator[None]:
    """Give scaled_dot_product_attention on tensors without storage the operators that it has on a CPU."""
    with _LOCK, torch.library._scoped_library("aten", "IMPL") as library:  # noqa: SLF001  # pinned by a test
        library.impl("scaled_dot_product_attention", _attention, "AutogradMeta")
        yield


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002  # the operator's own signature
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:  # noqa: ANN401  # the operator's result
    kinds = tuple(None if t is None else _kind(t) for t in (query, key, value, attn_mask))
    if _choice(kinds, dropout_p, is_causal, enable_gqa) != _FLASH:
        composed = torch.ops.aten.scaled_dot_product_attention.default.decompose
        return composed(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(attn_mask.logical_not(), -torch.inf)
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001  # pinned by a test
    return fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]


def _kind(tensor: torch.Tensor) -> _Kind:
    return tuple(tensor.shape), tensor.dtype, tensor.requires_grad


@lru_cache(maxsize=1024)
def _choice(
    kinds: tuple[_Kind | None, ...],
    dropout: float,
    causal: bool,  # noqa: FBT001  # entries of a cache's key
    grouped: bool,  # noqa: FBT001  # as above
) -> int:
    with _disable_current_modes():
        tensors = [None if kind is None else _probe(*kind) for kind in kinds]
        choose: Any = torch._fused_sdp_choice  # noqa: SLF001  # pinned by a test
        return int(choose(*tensors, dropout, causal, enable_gqa=grouped))


def _probe(shape: tuple[int, ...], dtype: torch.dtype, requires_grad: bool) -> torch.Tensor:  # noqa: FBT001  # as above
    """A tensor of that size which takes the memory of one row."""
    row = torch.empty(shape[-1:], dtype=dtype).expand(shape)
    return row.requires_grad_() if requires_grad and dtype.is_floating_point else row
