"""Cycles and bytes: an inference as operations and tiles, placed in memories and walked through time."""
