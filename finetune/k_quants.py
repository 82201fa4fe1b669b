"""Q4_K, Q5_K and Q6_K in numpy, bit for bit what ggml's reference quantiser writes (ggml/src/ggml-quants.c, no imatrix).

A super-block is 256 weights of a row. Q4_K and Q5_K cut it into 8 sub-blocks of 32, each with a 6-bit scale and a 6-bit
minimum; Q6_K cuts it into 16 of 16 with an 8-bit scale. The scale of a sub-block is the best of a few tried ones
by weighted squared error. Equal bits need ggml's order of float32 operations: sums run along a sub-block one weight after
the other, and nothing is computed in higher precision. Sub-blocks are therefore laid out as columns,
``[weight, sub-block]``, and every numpy operation handles the same step of the loop for all of them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["Q4_K", "Q5_K", "Q6_K"]
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SUPER_BLOCK = 256
BLOCK_BYTES: dict[Kind, int] = {"Q4_K": 144, "Q5_K": 176, "Q6_K": 210}
_TINY = np.float32(1e-15)
"""Below it ggml takes a sub-block for zero (GROUP_MAX_EPS)."""
_CHUNK = 256
"""Super-blocks computed together: what they need stays in a core's second-level cache."""
_ROUND = np.float32(12582912.0)
"""1.5 · 2²³: adding it leaves the nearest integer in the lowest bits of a float32."""


def quantise(rows: Floats, kind: Kind) -> Bytes:
    """The bytes of a finite float32 array whose last axis is a multiple of 256: shape ``[…, row bytes]``."""
    if rows.shape[-1] % SUPER_BLOCK:
        raise ValueError(f"rows of {rows.shape[-1]} weights are no multiple of {SUPER_BLOCK}")
    blocks = np.ascontiguousarray(rows, np.float32).reshape(-1, SUPER_BLOCK)
    out = np.empty((len(blocks), BLOCK_BYTES[kind]), np.uint8)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # ggml divides first and looks afterwards
        for start in range(0, len(blocks), _CHUNK):
            part = blocks[start : start + _CHUNK]
            out[start : start + _CHUNK] = _q6(part) if kind == "Q6_K" else _q45(part, 4 if kind == "Q4_K" else 5)
    return out.reshape(*rows.shape[:-1], -1)


def _sum(terms: Floats) -> Floats:
    """Column sums in float32, strictly from the first row to the last (``np.sum`` may add in pairs)."""
    total: Floats = terms[0].copy()
    for row in terms[1:]:
        total += row
    return total


def _nearest(values: Floats) -> NDArray[np.int32]:
    """ggml's ``nearest_int``: half to even, and its own result for what does not fit into 23 bits."""
    return ((values + _ROUND).view(np.int32) & 0x007FFFFF) - 0x00400000


def _columns(blocks: Floats, size: int) -> Floats:
    """``[blocks, 256]`` to sub-blocks of ``size`` weights as columns."""
    return np.ascontiguousarray(blocks.reshape(-1, size).T)


def _search_minimum(x: Floats, top: int, first: float, tries: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Scale and minus the minimum, and how the levels of the best try came about: ``round(inverse · (x - low))``.

    ``x`` is ``[32, sub-blocks]``, levels are 0…``top``; ggml's ``make_qkx2_quants``, each weight weighing its own size
    plus the root mean square. A better minimum that was found is where the next try starts from, as in ggml.
    """
    zero = np.float32(0)
    weights = np.sqrt(_sum(x * x) / np.float32(32)) + np.abs(x)
    sum_w, sum_x = _sum(weights), _sum(weights * x)
    minimum, high = np.minimum(x.min(0), zero), x.max(0)
    flat = high == minimum

    low, inverse = minimum, np.float32(top) / (high - minimum)
    scale: Floats = np.float32(1) / inverse
    levels: Floats = np.clip(np.rint(inverse * (x - minimum)), zero, np.float32(top))
    best = _error(x, weights, scale, minimum, levels)
    for number in range(tries + 1):
        inverse_now = (np.float32(first) + np.float32(0.1) * np.float32(number) + np.float32(top)) / (high - minimum)
        np.subtract(x, minimum, out=levels)
        levels *= inverse_now
        np.clip(np.rint(levels, out=levels), 0, top, out=levels)
        heavy = weights * levels
        sum_l, sum_xl = _sum(heavy), _sum(heavy * x)
        heavy *= levels
        sum_l2 = _sum(heavy)
        determinant = sum_w * sum_l2 - sum_l * sum_l
        slope = np.divide(sum_w * sum_xl - sum_x * sum_l, determinant)
        offset = np.divide(sum_l2 * sum_x - sum_l * sum_xl, determinant)
        positive = offset > 0
        slope = np.where(positive, sum_xl / sum_l2, slope)
        offset = np.where(positive, zero, offset)
        error = _error(x, weights, slope, offset, levels)
        better = (determinant > 0) & (error < best)
        low, inverse = np.where(better, minimum, low), np.where(better, inverse_now, inverse)
        best, scale, minimum = (
            np.where(better, new, old) for new, old in ((error, best), (slope, scale), (offset, minimum))
        )
    return np.where(flat, zero, scale), -minimum, np.where(flat, zero, inverse), low


def _error(x: Floats, weights: Floats, scale: Floats, minimum: Floats, levels: Floats) -> Floats:
    """Weighted squared error of each column when its levels are read back."""
    difference = scale * levels
    difference += minimum
    difference -= x
    difference *= difference
    difference *= weights
    return _sum(difference)


def _q45(blocks: Floats, bits: int) -> Bytes:
    """Super-blocks ``[n, 256]`` as Q4_K or Q5_K: d, dmin, twelve bytes of 6-bit scales and minima, the levels."""
    count, top = len(blocks), 2**bits - 1
    x = _columns(blocks, 32)
    scales, minima, inverse, low = _search_minimum(x, top, *((-1.0, 20) if bits == 4 else (-0.5, 15)))

    by_block = scales.reshape(count, 8), minima.reshape(count, 8)
    largest = [np.maximum(values.max(1), 0) for values in by_block]
    factors = [np.where(value > 0, np.float32(63) / value, np.float32(0)) for value in largest]
    parts = zip(by_block, factors, strict=True)
    # the minimum is taken after the cast to a byte, as in ggml
    sixes = [np.minimum(_nearest(factor[:, None] * values).astype(np.uint8), 63) for values, factor in parts]
    d, dmin = ((value / np.float32(63)).astype(np.float16) for value in largest)

    step = (d.astype(np.float32)[:, None] * sixes[0]).ravel()
    offset = (dmin.astype(np.float32)[:, None] * sixes[1]).ravel()
    levels = np.clip(_nearest((x + offset) / step), 0, top)
    if (none := step == 0).any():  # ggml keeps the levels of the search where a scale rounds to nothing
        levels[:, none] = np.clip(_nearest(inverse[none] * (x - low)[:, none]), 0, top)
    level = levels.T.reshape(count, 4, 2, 32).astype(np.uint8)

    out = np.empty((count, 144 + 32 * (bits - 4)), np.uint8)
    out[:, 0:2] = d.view(np.uint8).reshape(count, 2)
    out[:, 2:4] = dmin.view(np.uint8).reshape(count, 2)
    out[:, 4:16] = _pack_sixes(*sixes)
    if bits == 5:
        fifth = (level >> 4).reshape(count, 8, 32)
        out[:, 16:48] = np.bitwise_or.reduce(fifth << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    four = level & 15
    out[:, -128:] = (four[:, :, 0] | (four[:, :, 1] << 4)).reshape(count, 128)
    return out


def _pack_sixes(scales: Bytes, minima: Bytes) -> Bytes:
    """Eight 6-bit scales and minima a block in twelve bytes: the upper four lend their high bits to the lower."""
    out = np.empty((len(scales), 12), np.uint8)
    out[:, 0:4] = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    out[:, 4:8] = minima[:, :4] | (minima[:, 4:] >> 4) << 6
    out[:, 8:12] = (scales[:, 4:] & 15) | (minima[:, 4:] & 15) << 4
    return out


def _search_scale(x: Floats) -> tuple[Floats, Floats]:
    """Scale of each sub-block, and the inverse scale of the best try (NaN where the sub-block is zero).

    ``x`` is ``[16, sub-blocks]``, levels are -32…31; ggml's ``make_qx_quants`` with weights x².
    """
    size = np.abs(x)
    extreme = np.take_along_axis(x, size.argmax(0)[None], 0)[0]
    zero = size.max(0) < _TINY
    weighted = x * x
    cubed = weighted * x
    best_inverse = best = scale = np.zeros(x.shape[1], np.float32)
    for number in (0, *range(-9, 0), *range(1, 10)):
        inverse = -(np.float32(32) + np.float32(0.1) * np.float32(number)) / extreme
        levels = np.clip(np.rint(inverse * x), -32, 31)
        sum_lx, sum_l2 = _sum(cubed * levels), _sum(weighted * levels * levels)
        quotient = np.where(sum_l2 != 0, sum_lx / sum_l2, np.float32(0))
        better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2) if number else np.ones_like(zero)
        scale = np.where(better, quotient, scale)
        best = np.where(better, quotient * sum_lx, best)
        best_inverse = np.where(better, inverse, best_inverse)
    return np.where(zero, np.float32(0), scale), np.where(zero, np.float32(np.nan), best_inverse)


def _q6(blocks: Floats) -> Bytes:
    """Super-blocks ``[n, 256]`` as Q6_K: low four bits, high two bits, sixteen scales, d."""
    count = len(blocks)
    x = _columns(blocks, 16)
    found, inverse = _search_scale(x)
    scales = found.reshape(count, 16)
    size = np.abs(scales)
    largest = np.take_along_axis(scales, size.argmax(1)[:, None], 1)[:, 0]
    empty = size.max(1) < _TINY

    factor = np.float32(-128) / largest
    d = np.where(empty, np.float32(0), 1 / factor).astype(np.float16)
    eights = np.minimum(_nearest(factor[:, None] * scales), 127).astype(np.int8)
    step = (d.astype(np.float32)[:, None] * eights).ravel()
    levels = np.clip(_nearest(x / step), -32, 31) + 32
    if (none := step == 0).any():  # ggml keeps the levels of the search where a scale rounds to nothing
        kept = np.clip(_nearest(inverse[none] * x[:, none]), -32, 31) + 32
        levels[:, none] = np.where(np.isnan(inverse[none]), 0, kept)
    level = levels.T.reshape(count, 2, 4, 32).astype(np.uint8)

    out = np.empty((count, 210), np.uint8)
    low, high = level & 15, level >> 4
    out[:, :128] = (low[:, :, :2] | low[:, :, 2:] << 4).reshape(count, 128)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    out[:, 128:192] = np.bitwise_or.reduce(high << shifts, axis=2).reshape(count, 64)
    out[:, 192:208] = eights.view(np.uint8)
    out[:, 208:210] = d.view(np.uint8).reshape(count, 2)
    out[empty] = 0
    return out
