"""How much integer arithmetic a forward pass takes, for the manifest."""

from __future__ import annotations

from deploy.bundle import MacCounts
from ti_qat.artifact.encoder import Encoder, gemms


def mac_counts(encoder: Encoder) -> MacCounts:
    """Return the coefficients of a sequence's multiply-accumulates, which are a polynomial of its tokens."""
    none, one, two = (sum(gemm.macs for gemm in gemms(encoder, 1, tokens)) for tokens in range(3))
    squared = (two - 2 * one + none) // 2
    return MacCounts(per_token=one - none - squared, per_token_squared=squared, per_sequence=none)
