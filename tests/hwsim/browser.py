"""What a real browser makes of a page."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium")


def drawn_figures(page: Path, width_pixels: int, profile_dir: Path) -> dict[str, str]:
    """Open a page; return the elements of each figure, by name. Fails on a message on the console or a wider figure."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
        "--virtual-time-budget=20000", f"--window-size={width_pixels},3000", f"--user-data-dir={profile_dir}",
        page.as_uri(),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in result.stderr
    bodies = re.split(r'id="figure-', result.stdout)[1:]
    figures = {body.partition('"')[0]: body for body in bodies}
    for name, body in figures.items():
        drawn = re.search(r'class="main-svg"[^>]*width="(\d+)', body)
        assert drawn, name
        assert int(drawn.group(1)) <= width_pixels, name
    return figures
