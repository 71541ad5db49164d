"""Bit-level simulation of a ternary Transformer accelerator: values, cycles, memory and energy."""
