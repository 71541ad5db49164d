"""Single-event upsets: bits that flip in weights, accumulators or activations, and what guards against them."""
