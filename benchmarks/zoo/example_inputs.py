"""What the small transformers architectures are called with, under the names that their documentation gives.

Two sequences, the second padded by a quarter, so that attention masks do something. All values are reproducible.
"""

import torch

BATCH, LENGTH, VOCABULARY = 2, 16, 128
PICTURE_TOKEN, PATCHES = 5, 16

Inputs = dict[str, torch.Tensor]


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0))


def _ids(length: int = LENGTH, vocabulary: int = VOCABULARY) -> torch.Tensor:
    """Tokens above the special ones."""
    tokens = range(PICTURE_TOKEN + 1, vocabulary)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(tokens.start, tokens.stop, (BATCH, length), generator=generator)


def _mask(length: int) -> torch.Tensor:
    mask = torch.ones(BATCH, length, dtype=torch.int64)
    mask[1, length * 3 // 4 :] = 0
    return mask


def _decoder_ids(vocabulary: int = VOCABULARY) -> Inputs:
    return {"decoder_input_ids": _ids(LENGTH // 2, vocabulary)}


# Text


def text(length: int = LENGTH) -> Inputs:
    return {"input_ids": _ids(length), "attention_mask": _mask(length)}


def long_text() -> Inputs:
    return text(4 * LENGTH)


def plain_text() -> Inputs:
    """For architectures that take no mask."""
    return {"input_ids": _ids()}


def positions() -> Inputs:
    return {**text(), "position_ids": torch.arange(LENGTH).expand(BATCH, LENGTH)}


def boxes() -> Inputs:
    return {**text(), "bbox": torch.tensor([10, 20, 30, 40]).repeat(BATCH, LENGTH, 1)}


def pairs() -> Inputs:
    return {**text(), **_decoder_ids()}


# Pictures


def picture(side: int = 64) -> Inputs:
    return {"pixel_values": _noise(3, side, side)}


def small_picture() -> Inputs:
    return picture(16)


def video() -> Inputs:
    return {"pixel_values": _noise(4, 3, 64, 64)}


def videos() -> Inputs:
    return {"pixel_values_videos": _noise(4, 3, 64, 64)}


# Sound


def waveform(samples: int = 4000) -> Inputs:
    return {"input_values": _noise(samples), "attention_mask": _mask(samples)}


def waveform_and_text() -> Inputs:
    return {**waveform(), **_decoder_ids(32)}


def sound(samples: int = 4000) -> Inputs:
    return {"input_values": _noise(1, samples)}


def long_sound() -> Inputs:
    return sound(4096)


def mel_spectrogram() -> Inputs:
    return {"input_features": _noise(20, 16)}


def masked_spectrogram(frames: int = 64, bins: int = 80) -> Inputs:
    return {"input_features": _noise(frames, bins), "attention_mask": _mask(frames)}


def stacked_spectrogram() -> Inputs:
    return masked_spectrogram(32, 160)


def spectrogram_and_text() -> Inputs:
    return {**masked_spectrogram(), **_decoder_ids()}


def spectrogram_values() -> Inputs:
    return {"input_values": _noise(64, 32)}


def whisper() -> Inputs:
    return {"input_features": _noise(16, 64), **_decoder_ids()}


# Several at once


def text_and_picture() -> Inputs:
    return {**text(), **picture()}


def text_and_masked_picture() -> Inputs:
    return {**text_and_picture(), "pixel_mask": torch.ones(BATCH, 64, 64, dtype=torch.int64)}


def boxes_and_picture() -> Inputs:
    return {**boxes(), **picture()}


def picture_and_text() -> Inputs:
    return {**picture(), **_decoder_ids()}


def text_with_picture() -> Inputs:
    """Text in which a token of its own stands for each of a picture's patches."""
    ids = _ids(LENGTH + PATCHES)
    ids[:, 2 : 2 + PATCHES] = PICTURE_TOKEN
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **picture()}


def text_and_regions() -> Inputs:
    regions = {"visual_embeds": _noise(4, 32), "visual_attention_mask": torch.ones(BATCH, 4)}
    return {**text(), **regions, "visual_token_type_ids": torch.ones(BATCH, 4, dtype=torch.int64)}


def text_and_boxed_regions() -> Inputs:
    return {**text(), "visual_feats": _noise(6, 32), "visual_pos": _noise(6, 4).sigmoid()}


# Time series


def series(past: int = 23, future: int = 8) -> Inputs:
    return {
        "past_values": _noise(past),
        "past_time_features": _noise(past, 1),
        "past_observed_mask": torch.ones(BATCH, past),
        "future_values": _noise(future),
        "future_time_features": _noise(future, 1),
    }


def patches() -> Inputs:
    return {"past_values": _noise(32, 2)}
