"""The 8-bit format, written anew in NumPy: what the tests compare with."""

import numpy as np

BLOCK = 128
TOP = 254  # the largest code of a slot that is never negative: 1


def blocks(width):
    """The number of blocks, and of scales, of a row."""
    return -(-width // BLOCK)


def values(is_signed):
    """The share of the scale that each code stands for; the last is not finite."""
    # From 1 downwards, eight steps to each power of two.
    count = 126 if is_signed else 254
    steps = np.arange(count)
    below = steps[1:] - 1  # 15/16, 14/16, ... of each power
    shares = [1.0, *((15 - below % 8) / 8 * 2.0 ** (-1 - below // 8))]
    magnitudes = np.array([0.0, *shares[::-1], np.nan])
    return np.concatenate([magnitudes, -magnitudes]) if is_signed else magnitudes


def split(packed, width):
    """Codes [rows, width] and scales [rows, blocks] of packed rows."""
    codes = packed[:, :width]
    scales = np.ascontiguousarray(packed[:, width:]).view(np.float32)
    return codes, scales


def unpacked(packed, width, is_signed):
    """What packed rows stand for, in float64."""
    codes, scales = split(packed, width)
    each = np.repeat(np.abs(scales.astype(np.float64)), BLOCK, axis=1)[:, :width]
    return values(is_signed)[codes] * each


def neighbours(plain, is_signed):
    """The largest value of the format that is no larger, the smallest no smaller.

    Of magnitudes; of blocks whose elements are finite.
    """
    size = np.abs(np.asarray(plain, np.float64))
    rows, width = size.shape
    padded = np.zeros((rows, blocks(width) * BLOCK))
    padded[:, :width] = size
    scale = padded.reshape(rows, blocks(width), BLOCK).max(-1)
    each = np.repeat(scale, BLOCK, axis=1)[:, :width]
    table = values(bool(is_signed))
    table = table[: 255 if not is_signed else 127]
    share = np.divide(size, each, out=np.zeros_like(size), where=each > 0)
    up = np.searchsorted(table, share * (1 - 1e-7))
    up = np.minimum(up, len(table) - 1)
    exact = np.abs(table[up] - share) <= 1e-6 * share
    down = np.where(exact, up, np.maximum(up - 1, 0))
    return table[down] * each, table[up] * each
