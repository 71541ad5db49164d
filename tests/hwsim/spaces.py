"""Spaces for sweeps of tiny models, and what a sweep leaves."""

from __future__ import annotations

from pathlib import Path

COSTS = """
accelerator = "wearable"
objectives = {latency_ms = "minimise", energy_pj = "minimise"}
workers = {backend = "sequential"}
[axes]
array_rows = [8, 16]
dataflow = ["output_stationary", "weight_stationary"]
fixed.residual_bits = [12, 20]
weight_buffer_bytes = [64, 65536]
[shape]
family = "bert"
layers = 1
hidden = 32
heads = 2
feed_forward = 64
vocabulary = 100
positions = 128
token_types = 2
labels = 2
"""
SCORES = """
accelerator = "wearable"
objectives = {score = "maximise", latency_ms = "minimise"}
workers = {backend = "sequential"}
[axes]
array_rows = {from = 8, to = 32, step = 8}
accumulator_bits = [6, 24]
fixed.residual_bits = [8, 16]
profile = ["exact", "fixed"]
"""


def written(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "space.toml").write_text(text)
    return folder / "space.toml"


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("sweep.json", "points.csv", "sweep.html")}
