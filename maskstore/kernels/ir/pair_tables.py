"""Sums over some chunks of masks by tables of two bits, for x86 processors with AVX.

A chunk's 32 values are sixteen pairs; the four sums of a pair's subsets are a table, which `vpermilps` looks up for
eight masks in one instruction. With the shift and the addition, two bits take three instructions, where masked adds
take eight. `chosen_chunks.py` has the same loop for every processor.
"""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from maskstore.kernels.compile_cache import compiled
from maskstore.kernels.ir.lookup import cpu_features
from maskstore.kernels.ir.vectors import I32, data, function, offset, prefetch, times
from maskstore.kernels.layout import CHUNK, LANES

TABLES = 2 * CHUNK  # floats of a chunk's tables
_TILE = 128  # chunks whose tables (32 KiB) stay in the nearest caches while some blocks pass over them
_AHEAD = 8  # chunks from which on memory is asked for early
_PAIR = 2  # blocks that share the loads of a chunk's tables
_HALF = LANES // 2
_INDICES = ir.VectorType(I32, _HALF)
_SUMS = ir.VectorType(ir.FloatType(), _HALF)
_TABLE = ir.VectorType(ir.FloatType(), 4)
_ZEROS = ir.Constant(_SUMS, [0.0] * _HALF)


@cache
def available() -> bool:
    """Whether the processor has AVX, and Numba compiles for it rather than for another that was asked for."""
    if config.CPU_NAME or config.CPU_FEATURES:  # type: ignore[attr-defined]
        return False
    return "avx" in cpu_features()


def _load(builder: Any, values: Any, index: Any, vector: Any) -> Any:
    value = builder.load(builder.bitcast(builder.gep(values, [index]), vector.as_pointer()))
    value.align = 4
    return value


def _add_lookups_of(blocks: int) -> Any:
    @intrinsic
    def add_lookups(typing_context, bits, at, stride, step, places, first, last, tables, sums):
        """sums[16 b + l] = the sum over the chunks first <= i < last of lane l of the b-th of some blocks.

        Block b's chunk i lies at bits[at + stride * b + step * places[i]], its tables at tables[64 (i - first)].
        `places` goes on for _AHEAD more.
        """
        signature = types.void(bits, types.intp, types.intp, types.intp, places, types.intp, types.intp, tables, sums)

        def codegen(context, builder, signature, arguments):
            bit_data, place_data, table_data, sum_data = (
                data(context, builder, signature.args[i], arguments[i]) for i in (0, 4, 7, 8)
            )
            _, at, stride, step, _, first, last, _, _ = arguments
            lookup = function(builder, "llvm.x86.avx.vpermilvar.ps.256", _SUMS, [_SUMS, _INDICES])
            parts = [(block, half) for block in range(blocks) for half in range(2)]
            totals = [cgutils.alloca_once_value(builder, _ZEROS) for _ in parts]
            both = ir.Constant(_INDICES, [0, 1, 2, 3] * 2)
            with cgutils.for_range_slice(builder, first, last, ir.Constant(at.type, 1)) as (index, _):
                here, later = (
                    builder.add(
                        at, builder.mul(step, builder.load(builder.gep(place_data, [offset(builder, index, by)])))
                    )
                    for by in (0, _AHEAD)
                )
                indices = []
                for block, half in parts:
                    apart = times(builder, stride, block)
                    if not half:
                        prefetch(builder, bit_data, builder.add(later, apart))
                    place = offset(builder, builder.add(here, apart), _HALF * half)
                    indices.append(_load(builder, bit_data, place, _INDICES))
                table_at = times(builder, builder.sub(index, first), TABLES)
                for pair in range(CHUNK // 2):
                    table = _load(builder, table_data, offset(builder, table_at, 4 * pair), _TABLE)
                    table = builder.shuffle_vector(table, table, both)
                    for total, index_of in zip(totals, indices, strict=True):
                        shifted = builder.lshr(index_of, ir.Constant(_INDICES, [2 * pair] * _HALF))
                        found = builder.call(lookup, [table, shifted])
                        builder.store(builder.fadd(builder.load(total), found), total)
            for (block, half), total in zip(parts, totals, strict=True):
                place = builder.gep(sum_data, [ir.Constant(at.type, LANES * block + _HALF * half)])
                builder.store(builder.load(total), builder.bitcast(place, _SUMS.as_pointer())).align = 4
            return context.get_dummy_value()

        return signature, codegen

    return add_lookups


_add_lookups_of_pair = _add_lookups_of(_PAIR)
_add_lookups_of_one = _add_lookups_of(1)


@compiled
def dot_chosen_chunks(bits, stride, step, places, values, out, first, last):
    """As `chosen_chunks.dot_chosen_chunks`."""
    count = len(places)
    ahead = np.zeros(count + _AHEAD, dtype=np.int64)
    ahead[:count] = places
    tables = np.zeros(_TILE * TABLES, dtype=np.float32)
    sums = np.empty(_PAIR * LANES, dtype=np.float32)
    out[LANES * first : LANES * last] = 0.0
    for start in range(0, count, _TILE):
        stop = min(start + _TILE, count)
        for i in range(CHUNK // 2 * (stop - start)):
            a, b = values[CHUNK * start + 2 * i], values[CHUNK * start + 2 * i + 1]
            tables[4 * i + 1], tables[4 * i + 2], tables[4 * i + 3] = a, b, a + b
        block = first
        while block < last:
            together = _PAIR if block + _PAIR <= last else 1
            if together == _PAIR:
                _add_lookups_of_pair(bits, block * stride, stride, step, ahead, start, stop, tables, sums)
            else:
                _add_lookups_of_one(bits, block * stride, stride, step, ahead, start, stop, tables, sums)
            for lane in range(LANES * together):
                out[LANES * block + lane] += sums[lane]
            block += together
