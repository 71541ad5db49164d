"""Switching activity of the array: which wire and register bits change, counted from the values that pass."""
