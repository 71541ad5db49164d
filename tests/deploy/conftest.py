"""ONNX Runtime's official header, for the tests that compile against it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HEADER = "onnxruntime_c_api.h"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# The first Debian release with libonnxruntime-dev.
SUITE = "trixie"


def _debian_archive() -> str:
    """The archive that this system installs from."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        origin, _, uri = line.partition(" ")
        if origin == "Debian" and "security" not in uri:
            return uri
    raise OSError("no Debian archive is configured")


def _download(directory: Path) -> Path:
    """Unpack Debian's libonnxruntime-dev into `directory`; nothing is installed, no system list is touched."""
    for name in ("lists/partial", "archives/partial"):
        (directory / name).mkdir(parents=True)
    source = f"deb [signed-by={KEYRING}] {_debian_archive()} {SUITE} main\n"
    (directory / "sources.list").write_text(source)
    options = {
        "Dir::Etc::sourcelist": directory / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": directory,
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": directory,
        "APT::Sandbox::User": "root",
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": 10,
    }
    flags = [argument for key, value in options.items() for argument in ("-o", f"{key}={value}")]
    for command in ("update", "-qq"), ("download", "-qq", "libonnxruntime-dev"):
        subprocess.run(["apt-get", *flags, *command], cwd=directory, check=True, capture_output=True, timeout=60)
    subprocess.run(["dpkg-deb", "-x", *directory.glob("*.deb"), "unpacked"], cwd=directory, check=True)
    return next((directory / "unpacked").rglob(HEADER)).parent


@pytest.fixture(scope="session")
def official_header(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the official header: $ORT_INCLUDE_DIR, or Debian's package."""
    if given := os.environ.get("ORT_INCLUDE_DIR"):
        return Path(given)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb") and KEYRING.exists()):
        pytest.skip("no official header: ORT_INCLUDE_DIR is not set, and this is no Debian to take it from")
    try:
        return _download(tmp_path_factory.mktemp("headers"))
    except (subprocess.SubprocessError, OSError, StopIteration) as error:
        pytest.skip(f"no official header: libonnxruntime-dev cannot be downloaded: {error}")
