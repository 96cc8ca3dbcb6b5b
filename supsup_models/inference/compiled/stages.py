"""Stages of work that several threads go through together inside compiled code, each waiting for the one before.

To wake a thread takes fifty microseconds or more, as long as a stage does: who helps with the first one stays for the
others. Threads count on a *board*, shared and flat int64 in lines of the cache: for each stage the next piece that
nobody has taken, and how many are done. Nobody waits for a thread that has taken nothing, so helpers may come late, or
never.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from maskstore.kernels import compiled
from maskstore.kernels.ir import vectors

_APART = 8  # int64 in a line of the cache
STAGE = 2 * _APART  # int64 of a board for one stage; all are 0 at first


@intrinsic
def _add_one(typing_context, board, index):
    """board[index] += 1, in one step for all threads; what it was before."""
    signature = types.int64(board, types.intp)

    def codegen(context, builder, signature, arguments):
        data = vectors.data(context, builder, signature.args[0], arguments[0])
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", builder.gep(data, [arguments[1]]), one, "seq_cst")

    return signature, codegen


@intrinsic
def _read(typing_context, board, index):
    """board[index], as the other threads have written it; with a breath, since callers ask again and again."""
    signature = types.int64(board, types.intp)

    def codegen(context, builder, signature, arguments):
        builder.call(vectors.function(builder, "llvm.x86.sse2.pause", ir.VoidType(), []), [])
        data = vectors.data(context, builder, signature.args[0], arguments[0])
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "seq_cst", 8)

    return signature, codegen


@compiled
def take(board, stage):
    """The number of a piece of the stage that this thread is to do: as many as there are pieces, or more, are none."""
    return _add_one(board, stage * STAGE)


@compiled
def done(board, stage):
    """Say that one more piece of the stage is done."""
    _add_one(board, stage * STAGE + _APART)


@compiled
def all_done(board, stage, pieces, patience):
    """Whether all pieces of a stage are done, once they are, or after `patience` looks (tens of nanoseconds each)."""
    for _ in range(patience):  # noqa: SIM110 - Numba compiles no generators here
        if _read(board, stage * STAGE + _APART) >= pieces:
            return True
    return False
