"""Who evaluates: processes of this machine, or those of a cluster, behind joblib."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import joblib

from hwsim.errors import SimulatorError
from hwsim.exploration.space import Workers

Task = TypeVar("Task")
Result = TypeVar("Result")
_RAY_TASKS_PER_JOB = 4
_IDLE_S = 30  # after which a process goes; those of a killed sweep take loky another 30 s
_PACKAGES = {"dask": "distributed", "ray": "ray.util.joblib"}
_PIP = {"dask": "'ti-qat[cluster]'", "ray": "ray"}


@contextmanager
def workforce(source: str, workers: Workers) -> Iterator[None]:
    """Set joblib's backend for the block. Raises SimulatorError naming a package that is absent."""
    jobs = workers.jobs or -1
    if workers.backend == "dask":
        module = _imported(source, workers.backend)
        address = {"address": workers.address} if workers.address else {"n_workers": workers.jobs}
        with module.Client(**address) as client, joblib.parallel_config("dask", n_jobs=jobs, client=client):
            yield
        return
    if workers.backend == "ray":
        module = _imported(source, workers.backend)
        importlib.import_module("ray").init(address=workers.address, ignore_reinit_error=True)
        module.register_ray()
    settings = {"idle_worker_timeout": _IDLE_S} if workers.backend == "loky" else {}
    with joblib.parallel_config(workers.backend, n_jobs=jobs, **settings):
        yield


def _imported(source: str, backend: str) -> Any:
    try:
        return importlib.import_module(_PACKAGES[backend])
    except ModuleNotFoundError as error:
        expected = f"a backend that is installed (pip install {_PIP[backend]})"
        raise SimulatorError(source, "workers.backend", expected=expected, found=f"{backend}, not there") from error


def each(workers: Workers, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Generator[tuple[int, Result]]:
    """Yield the number of every task with its result, as they are done. Closing the iterator drops what is not."""
    calls = [joblib.delayed(_numbered)(function, number, task) for number, task in enumerate(tasks)]
    if workers.backend != "ray":
        yield from joblib.Parallel(return_as="generator_unordered", batch_size=1)(calls)
        return
    stride = _RAY_TASKS_PER_JOB * joblib.effective_n_jobs()  # its backend returns nothing before all calls are done
    for first in range(0, len(calls), stride):
        yield from joblib.Parallel(batch_size=1)(calls[first : first + stride])


def _numbered(function: Callable[[Task], Result], number: int, task: Task) -> tuple[int, Result]:
    return number, function(task)
