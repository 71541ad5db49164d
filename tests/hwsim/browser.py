"""Debian's chromium, headless, as a reader sees a page: through its DevTools pipe, which needs no library.

The protocol: JSON messages that end in a zero byte, commands into descriptor 3, answers and events out of
descriptor 4 (--remote-debugging-pipe).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
_SECONDS = 120
# What is seen of a page once it has settled; runs in the page.
_LOOK = """(() => {
  document.querySelectorAll("details").forEach(details => details.open = true);
  const shown = element => element.checkVisibility();
  const texts = [...document.querySelectorAll("body *")].filter(element => shown(element) &&
    [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim()) &&
    !["SCRIPT", "STYLE"].includes(element.tagName));
  const plots = [...document.querySelectorAll(".plot")].map(plot => {
    const frame = plot.getBoundingClientRect();
    const svg = plot.querySelector("svg.main-svg");
    const inner = [...plot.querySelectorAll("svg text")].filter(text => shown(text) && text.textContent.trim());
    return {
      name: plot.id.replace("figure-", ""),
      width: frame.width,
      svg_width: svg ? svg.getBoundingClientRect().width : 0,
      marks: [...plot.querySelectorAll(".plot .trace path, .plot .points path, .scatterlayer path")]
        .filter(path => path.getAttribute("d") && path.getTotalLength() > 0).length,
      left: frame.left, right: frame.right,
      clipped: inner.filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < frame.left - 1 || box.right > frame.right + 1 ||
               box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
      }).map(text => text.textContent),
      title: plot.parentElement.querySelector("h3").textContent,
      caption: plot.parentElement.querySelector("figcaption").textContent,
    };
  });
  return {
    page_width: document.documentElement.scrollWidth,
    window_width: document.documentElement.clientWidth,
    smallest_text_pixels: Math.min(...texts.map(element => parseFloat(getComputedStyle(element).fontSize))),
    plots: plots,
  };
})()"""


@dataclass(frozen=True)
class Plot:
    """One figure in the page; `marks` are its drawn bars, lines and points, `clipped` its texts outside of it."""

    name: str
    width: float
    svg_width: float
    marks: int
    left: float
    right: float
    clipped: list[str]
    title: str
    caption: str


@dataclass(frozen=True)
class Seen:
    """What a reader sees of a page at one width; `messages` are the console's and uncaught exceptions."""

    page_width: int
    window_width: int
    smallest_text_pixels: float
    plots: tuple[Plot, ...]
    messages: tuple[str, ...]


class Chromium:
    """A running browser with one tab."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number, self._buffer = 0, b""
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def look(self, page: Path, width_pixels: int, picture: Path | None = None) -> Seen:
        """Open a page at a width, as on a telephone or a desk; write what is seen as a PNG where `picture` says."""
        self._events.clear()
        phone = width_pixels < 600
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width_pixels, height=900, deviceScaleFactor=1, mobile=phone
        )
        self._call("Page.navigate", url=page.as_uri())
        self._wait_for("Page.loadEventFired")
        seen = self._evaluate("new Promise(done => setTimeout(() => done(null), 400))") or self._evaluate(_LOOK)
        if picture is not None:
            shot = self._call("Page.captureScreenshot", captureBeyondViewport=True)
            picture.write_bytes(base64.b64decode(shot["data"]))
        plots = tuple(Plot(**plot) for plot in seen.pop("plots"))
        return Seen(**seen, plots=plots, messages=tuple(self._messages()))

    def _messages(self) -> Iterator[str]:
        for event in self._events:
            if event["method"] == "Runtime.consoleAPICalled":
                yield json.dumps(event["params"]["args"])
            elif event["method"] == "Runtime.exceptionThrown":
                yield json.dumps(event["params"]["exceptionDetails"])
            elif event["method"] == "Log.entryAdded":
                yield event["params"]["entry"]["text"]

    def _evaluate(self, expression: str) -> Any:
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._events.append(answer)

    def _wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._receive())

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            read = os.read(self._answers, 1 << 20)
            assert read, "the browser has ended"
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


@contextmanager
def chromium(profile_dir: Path) -> Iterator[Chromium]:
    """Start the browser, and end it."""
    pipes = [os.pipe(), os.pipe()]
    # Above 10, so that the shell below does not overwrite one of them with the other.
    theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (pipes[0][0], pipes[1][1])]
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars",
        f"--user-data-dir={profile_dir}", "about:blank",
    ]  # fmt: skip
    browser = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]}', "bash", *command],
        pass_fds=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for end in (*theirs, pipes[0][0], pipes[1][1]):
        os.close(end)
    try:
        yield Chromium(pipes[0][1], pipes[1][0])
    finally:
        browser.terminate()
        browser.wait()
        os.close(pipes[0][1])
        os.close(pipes[1][0])
