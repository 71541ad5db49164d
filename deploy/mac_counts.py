"""How much integer arithmetic a forward pass of a bundle takes, for the manifest."""

from __future__ import annotations

from deploy.blocks import FIRST_TOKEN_ONLY, Block, blocks
from deploy.bundle import MacCounts
from ti_qat.artifact.encoder import Encoder, gemms


def mac_counts(encoder: Encoder) -> MacCounts:
    """Return the coefficients of a sequence's multiply-accumulates, which are a polynomial of its tokens."""
    one, two, three = (_macs(encoder, tokens) for tokens in (1, 2, 3))
    squared = (three - 2 * two + one) // 2
    per_token = two - one - 3 * squared
    return MacCounts(per_token=per_token, per_token_squared=squared, per_sequence=one - per_token - squared)


def _macs(encoder: Encoder, tokens: int) -> int:
    """Count one sequence; of what only the first token is computed for, one row of each product."""
    first_only = {
        op.name
        for step in blocks(encoder)
        if isinstance(step, Block) and FIRST_TOKEN_ONLY in step.inputs
        for op in step.operations
        if not op.name.endswith((".key", ".value"))
    }
    found = gemms(encoder, 1, tokens)
    return sum(gemm.macs // gemm.m if gemm.operation in first_only else gemm.macs for gemm in found)
