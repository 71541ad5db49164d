"""Model cards, 2-bit checkpoints and the hub."""
