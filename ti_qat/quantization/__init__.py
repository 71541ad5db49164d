"""Weights and activations as codes: the quantisers, and the layers that train through them."""
