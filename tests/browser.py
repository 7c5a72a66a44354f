"""A headless Chromium for tests of pages, and why there is none where there is none."""

from __future__ import annotations

import base64
import functools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SETTLED = "return Boolean(document.documentElement.dataset.ready)"


@functools.cache
def missing() -> str:
    """What a browser test lacks here; empty if nothing."""
    try:
        import selenium  # noqa: F401
    except ModuleNotFoundError:
        return "selenium is not installed: pip install '.[test]'"
    if not shutil.which("chromium"):
        return "chromium is not installed: apt-get install chromium chromium-driver"
    if not shutil.which("chromedriver"):
        return "chromedriver is not installed: apt-get install chromium-driver"
    return ""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser that logs everything that its pages complain of."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """One page in a browser."""

    def __init__(self, driver: Any, path: Path, *, width: int = 1280, scheme: str = "light") -> None:
        self.driver = driver
        self.look(width, scheme)
        driver.get_log("browser")  # of the page before
        driver.get(path.absolute().as_uri())
        self.settle()

    def look(self, width: int, scheme: str) -> None:
        """Set the width of the window and the colour scheme of the system."""
        command = self.driver.execute_cdp_cmd
        command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        command("Emulation.setDeviceMetricsOverride", metrics)

    def settle(self) -> None:
        """Wait for the last chart."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 30, poll_frequency=0.02).until(lambda driver: driver.execute_script(SETTLED))

    def run(self, script: str, *arguments: object) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def problems(self) -> list[str]:
        """What the console says."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def colours(self, chart: str) -> int:
        """Different colours on the canvas of a chart; an empty one has one."""
        script = """
            const canvas = document.querySelector(`#${arguments[0]} canvas`);
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const found = new Set();
            for (let i = 0; i < pixels.length; i += 4)
                found.add((pixels[i] << 24) | (pixels[i + 1] << 16) | (pixels[i + 2] << 8) | pixels[i + 3]);
            return found.size;
        """
        return int(self.run(script, chart))

    def column(self, table: str, index: int) -> list[str]:
        """The text of a column of a table, without the parts below."""
        script = """
            return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].map((row) => {
              const cell = row.children[arguments[1]].cloneNode(true);
              for (const part of cell.querySelectorAll("small")) part.remove();
              return cell.textContent;
            });
        """
        return [str(text) for text in self.run(script, table, index)]

    def picture(self, path: Path, width: int = 1280) -> Path:
        """Save the whole page as PNG."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": width, "height": min(size["height"], 9000), "scale": 1}
        shot = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        data = self.driver.execute_cdp_cmd("Page.captureScreenshot", shot)["data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(data))
        return path


def artefacts(fallback: Path) -> Path:
    """Where pictures are kept: the folder that AIWQ_ARTEFACTS names, else that of the test."""
    return Path(os.environ.get("AIWQ_ARTEFACTS") or fallback)
