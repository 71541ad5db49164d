"""Latency, throughput and memory of a bundle on this machine, and how near they come to its int8 peak."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.runtime.classifier import Classifier
from deploy.runtime.int8_peak import int8_peak_macs_per_second
from deploy.runtime.machine import machine, peak_rss_bytes
from deploy.runtime.session import RuntimeConfigurationError, active_isa
from deploy.runtime.timing import Inputs, time_calls_ms


@dataclass(frozen=True)
class Benchmark:
    """Times of `calls` calls with `batch` sequences of `seq_len` tokens each, percentiles in milliseconds.

    `macs_per_call` counts integer multiply-accumulates; None for a bundle that does not say.
    `int8_peak_macs_per_second` is what int8 dot products on registers reach on the threads of the calls,
    `int8_peak_fraction` the calls' share of it at the median; None without `macs_per_call` or without the
    compiled operators. A kernel that looks sums up instead of multiplying may exceed 1.
    """

    isa: str
    threads: int | None
    seq_len: int
    batch: int
    calls: int
    load_ms: float
    latency_ms_p50: float
    latency_ms_p90: float
    latency_ms_p99: float
    sequences_per_second: float
    tokens_per_second: float
    peak_rss_bytes: int
    bundle_bytes: int
    macs_per_call: int | None
    int8_peak_macs_per_second: float | None
    int8_peak_fraction: float | None
    machine: dict[str, str | int]


def benchmark(
    path: Path | str,
    *,
    threads: int | None = None,
    isa: str | None = None,
    seq_len: int | None = None,
    batch: int = 1,
    calls: int = 100,
) -> Benchmark:
    """Time `calls` calls on padding tokens; `seq_len` defaults to the bundle's max_length.

    The work of a call depends on the shape alone, not on the tokens. Raises BundleError, or
    RuntimeConfigurationError for a size that the bundle cannot take.
    """
    start_ns = time.perf_counter_ns()
    classifier = Classifier.load(path, threads=threads, isa=isa)
    load_ms = (time.perf_counter_ns() - start_ns) / 1e6
    longest = classifier.bundle.manifest.max_length
    tokens = longest if seq_len is None else seq_len
    if not 1 <= tokens <= longest:
        raise RuntimeConfigurationError(f"seq-len: expected 1 to {longest}, found {tokens}")
    times_ms = np.array(time_calls_ms(classifier.logits, [_inputs(classifier, batch, tokens)] * calls))
    p50, p90, p99 = (float(p) for p in np.percentile(times_ms, (50, 90, 99)))
    sequences_per_second = batch * 1e3 / float(times_ms.mean())
    manifest = classifier.bundle.manifest
    memory_bytes, used_isa = peak_rss_bytes(), active_isa(isa, standard=manifest.is_standard)
    counts = manifest.macs
    macs = None if counts is None else counts.of(batch, tokens)
    peak = None if macs is None else int8_peak_macs_per_second(used_isa, threads or os.cpu_count() or 1)
    return Benchmark(
        isa=used_isa,
        threads=threads,
        seq_len=tokens,
        batch=batch,
        calls=calls,
        load_ms=load_ms,
        latency_ms_p50=p50,
        latency_ms_p90=p90,
        latency_ms_p99=p99,
        sequences_per_second=sequences_per_second,
        tokens_per_second=sequences_per_second * tokens,
        peak_rss_bytes=memory_bytes,
        bundle_bytes=classifier.bundle.size_bytes,
        macs_per_call=macs,
        int8_peak_macs_per_second=peak,
        int8_peak_fraction=None if macs is None or peak is None else macs / (p50 / 1e3) / peak,
        machine=machine(),
    )


def _inputs(classifier: Classifier, batch: int, tokens: int) -> Inputs:
    return {
        "input_ids": np.full((batch, tokens), classifier.bundle.manifest.pad_token_id, np.int32),
        "token_type_ids": np.zeros((batch, tokens), np.int32),
        "lengths": np.full(batch, tokens, np.int32),
    }
