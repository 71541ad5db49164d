"""The verb `ti-qat bench`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from deploy.runtime.benchmark import benchmark
from deploy.runtime.options import bundle_argument, isa_option, json_option, threads_option


@click.command(short_help="Measure a bundle's latency on this machine.")
@bundle_argument
@threads_option
@isa_option
@click.option("--seq-len", type=click.IntRange(min=1), help="Tokens a sequence (default: the bundle's max_length).")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences a call.")
@click.option("--calls", type=click.IntRange(min=1), default=100, show_default=True, help="Calls to time.")
@json_option
def bench(
    bundle: Path, threads: int | None, isa: str | None, seq_len: int | None, batch: int, calls: int, as_json: bool
) -> None:
    """Time a bundle: latency percentiles, throughput, peak memory, load time, and the machine they hold for.

    The last line holds the median call against the int8 dot products that this machine does on registers.

    \b
    Example:
      ti-qat bench runs/movie_reviews/bundle --threads 2 --seq-len 64 --batch 8
    """
    result = benchmark(bundle, threads=threads, isa=isa, seq_len=seq_len, batch=batch, calls=calls)
    if as_json:
        click.echo(json.dumps(asdict(result)))
        return
    click.echo(f"{result.machine['processor']}, {result.machine['cores']} cores, kernels {result.isa}")
    click.echo(f"{batch} x {result.seq_len} tokens, {calls} calls, threads {threads or 'all'}")
    click.echo(
        f"latency p50 {result.latency_ms_p50:.2f} ms, p90 {result.latency_ms_p90:.2f} ms, "
        f"p99 {result.latency_ms_p99:.2f} ms"
    )
    click.echo(f"{result.sequences_per_second:.1f} sequences/s, {result.tokens_per_second:.0f} tokens/s")
    click.echo(
        f"peak memory {result.peak_rss_bytes / 1e6:.0f} MB, bundle {result.bundle_bytes / 1e6:.2f} MB, "
        f"loaded in {result.load_ms:.0f} ms"
    )
    if result.macs_per_call and result.int8_peak_macs_per_second and result.int8_peak_fraction:
        click.echo(
            f"roofline: {result.macs_per_call / 1e9:.3f} G multiply-accumulates a call, int8 peak "
            f"{result.int8_peak_macs_per_second / 1e9:.1f} G/s: {result.int8_peak_fraction:.1%} of it"
        )
