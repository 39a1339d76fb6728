"""The browser for the tests of the page: the machine's Chromium, or one that is installed for them.

`python -m tests.page.browser` sees to it that there is one.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Containers often run as root and have a small /dev/shm; neither suits Chromium by itself.
OPTIONS = ["--no-sandbox", "--disable-dev-shm-usage"]


def launch(playwright: Playwright) -> Browser:
    """Starts the browser."""
    return playwright.chromium.launch(executable_path=find(), args=OPTIONS)


def find() -> str | None:
    """The machine's Chromium; None where Playwright is to take its own."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def install() -> None:
    """Sees to it that there is a browser: Debian's package where that can be had, else Playwright's own."""
    if find() is not None or _has_own():
        return
    apt = shutil.which("apt-get")
    if apt and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run([apt, "update", "-qq"], check=False, env=quiet)
        packages = ["chromium", "fonts-dejavu-core"]
        done = subprocess.run([apt, "install", "-y", "-qq", "--no-install-recommends", *packages], env=quiet)
        if done.returncode == 0 and find() is not None:
            return
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True)


def _has_own() -> bool:
    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path).exists()


if __name__ == "__main__":
    install()
