"""Exact int32 products of int8 matrices, at the speed of the machine's multiply-add instructions.

A tile of 4 x 4 dot products shares its operands in registers. LLVM's loop vectoriser does not find that form: a
plain loop over k reads two operands for every multiply-add and reaches a third of the speed, and the tile written
out in Python comes back as int32 multiplications at less than that. So the tile is given to LLVM as vectors: two
neighbouring products added, which every back end knows (vpdpwssd, vpmaddwd, smull with addp), and nothing that a
machine may lack. A float32 BLAS would be exact too (sums below 2**24) at half the speed, with threads of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils as _cgutils
from numba.core import types
from numba.extending import intrinsic, overload

from hwsim.compiled_numerics import compiled

Array = np.ndarray[Any, Any]
cgutils: Any = _cgutils  # untyped

TILE = 4
LANES = 32  # of k in one step: a 512-bit vector of int16, or two or four shorter ones
_INDEX, _INT8, _INT32 = ir.IntType(64), ir.IntType(8), ir.IntType(32)
_WIDE, _SUMS = ir.VectorType(_INT32, LANES), ir.VectorType(_INT32, LANES // 2)


def _load(builder: Any, row: Any, k: Any) -> Any:
    """Emit the load of LANES int8 from `row` at k, widened to int32: the back end narrows it to what it multiplies."""
    address = builder.bitcast(builder.gep(row, [k]), ir.VectorType(_INT8, LANES).as_pointer())
    narrow = builder.load(address)
    narrow.align = 1
    return builder.sext(narrow, _WIDE)


def _neighbours_added(builder: Any, products: Any) -> Any:
    even, odd = (ir.Constant(_SUMS, list(range(first, LANES, 2))) for first in (0, 1))
    nothing = ir.Constant(_WIDE, ir.Undefined)
    return builder.add(builder.shuffle_vector(products, nothing, even), builder.shuffle_vector(products, nothing, odd))


def _vector_tile_code(typing_context, x, w, m, n, out):  # type: ignore[no-untyped-def]
    """Write the tile's sums over the first K - K % LANES values of k."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        x_type, w_type, _, _, out_type = signature.args
        x_array, w_array, out_array = (
            context.make_array(kind)(context, builder, argument)
            for kind, argument in ((x_type, arguments[0]), (w_type, arguments[1]), (out_type, arguments[4]))
        )
        firsts = arguments[2:4]

        def element(array: Any, kind: Any, *index: Any) -> Any:
            return cgutils.get_item_pointer(context, builder, kind, array, list(index))

        def after(first: Any, offset: int) -> Any:
            return builder.add(first, ir.Constant(_INDEX, offset))

        start = ir.Constant(_INDEX, 0)
        x_rows = [element(x_array, x_type, after(firsts[0], i), start) for i in range(TILE)]
        w_rows = [element(w_array, w_type, after(firsts[1], j), start) for j in range(TILE)]
        sums = [cgutils.alloca_once_value(builder, ir.Constant(_SUMS, None)) for _ in range(TILE * TILE)]
        steps = builder.udiv(builder.extract_value(x_array.shape, 1), ir.Constant(_INDEX, LANES))
        with cgutils.for_range(builder, steps) as loop:
            k = builder.mul(loop.index, ir.Constant(_INDEX, LANES))
            left = [_load(builder, row, k) for row in x_rows]
            right = [_load(builder, row, k) for row in w_rows]
            for number, total in enumerate(sums):
                product = builder.mul(left[number // TILE], right[number % TILE])
                builder.store(builder.add(builder.load(total), _neighbours_added(builder, product)), total)
        reduce = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_INT32, [_SUMS]), f"llvm.vector.reduce.add.v{LANES // 2}i32"
        )
        for number, total in enumerate(sums):
            place = element(out_array, out_type, after(firsts[0], number // TILE), after(firsts[1], number % TILE))
            builder.store(builder.call(reduce, [builder.load(total)]), place)
        return context.get_dummy_value()

    return types.void(x, w, types.intp, types.intp, out), generate


_vector_tile: Any = intrinsic(_vector_tile_code)


def dot_tile(x: Array, w: Array, m: int, n: int, out: Array) -> None:
    """Write rows m to m + 4 of x times rows n to n + 4 of w into `out`; compiled, it is the vectors above."""
    rows, columns = slice(m, m + TILE), slice(n, n + TILE)
    out[rows, columns] = x[rows].astype(np.int32) @ w[columns].T.astype(np.int32)


@overload(dot_tile)
def _compiled_dot_tile(x, w, m, n, out):  # type: ignore[no-untyped-def]
    def tile(x, w, m, n, out):  # type: ignore[no-untyped-def]
        _vector_tile(x, w, m, n, out)
        for k in range(x.shape[1] - x.shape[1] % LANES, x.shape[1]):
            for i in range(m, m + TILE):
                for j in range(n, n + TILE):
                    out[i, j] += np.int32(x[i, k]) * np.int32(w[j, k])

    return tile


@compiled
def exact_dot(x, w):  # type: ignore[no-untyped-def]
    """Return the exact dot product of two int8 vectors (K,) as int32; K <= 2**17."""
    accumulator = np.int32(0)
    for k in range(x.shape[0]):
        accumulator = np.int32(accumulator + np.int32(np.int32(x[k]) * np.int32(w[k])))
    return accumulator


@compiled
def exact_product(x, w, out):  # type: ignore[no-untyped-def]
    """Write the exact x times w transposed into `out` int32 (M, N); x (M, K) and w (N, K) int8, K <= 2**17.

    Values of a row lie side by side; rows may lie anywhere.
    """
    whole_rows, whole_columns = x.shape[0] - x.shape[0] % TILE, w.shape[0] - w.shape[0] % TILE
    for n in range(0, whole_columns, TILE):
        for m in range(0, whole_rows, TILE):
            dot_tile(x, w, m, n, out)
    for m in range(x.shape[0]):
        for n in range(whole_columns if m < whole_rows else 0, w.shape[0]):
            out[m, n] = exact_dot(x[m], w[n])
