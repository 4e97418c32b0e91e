"""Pictures of the live page for the README, from a real crash: three stills and an animation of the whole.

To make them: PYTHONPATH=tests .venv/bin/python -m ui.pictures docs/pictures
"""

import argparse
import io
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from PIL import Image
from playwright.sync_api import expect

from ui.browser import Tab, chromium, running, tab_of
from ui.demo import Demo

SIZE = {"width": 1400, "height": 740}
ID = "order-42"
EARLIER = ("order-39", "order-40", "order-41")
WORK = 3.0
"""Seconds for which bar works."""

MOVING_WIDTH = 1120
LAST_FRAME_MS = 4_000


class Frame(Struct, frozen=True):
    at: float
    jpeg: bytes


class Film:
    """Frames as fast as the browser delivers them, each with its time."""

    def __init__(self, tab: Tab) -> None:
        self._tab = tab
        self.frames: list[Frame] = []

    def roll(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Record for that many seconds, or until the condition holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            self.frames.append(Frame(time.monotonic(), self._tab.page.screenshot(type="jpeg", quality=95)))

    def write(self, path: Path) -> None:
        images = [shrunk(frame.jpeg) for frame in self.frames]
        times = [frame.at for frame in self.frames]
        lasting = [round((after - at) * 1_000) for at, after in itertools.pairwise(times)] + [LAST_FRAME_MS]
        first, *others = images
        first.save(path, save_all=True, append_images=others, duration=lasting, loop=0, quality=60, method=4)


def shrunk(picture: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    return image.resize((MOVING_WIDTH, round(image.height * MOVING_WIDTH / image.width)), Image.Resampling.LANCZOS)


def write_picture(tab: Tab, path: Path) -> None:
    Image.open(io.BytesIO(tab.page.screenshot())).convert("RGB").save(path, optimize=True)


def prepare(demo: Demo, tab: Tab) -> None:
    """Make some requests, and open the page."""
    for id in EARLIER:
        demo.send(id, pause=0.4)
        time.sleep(1.2)
    tab.open()
    expect(tab.find("#chains [data-state=resolved]")).to_have_count(len(EARLIER))
    time.sleep(2.5)  # the page shows a finished chain that long before it follows the next


def shoot(demo: Demo, tab: Tab, folder: Path) -> None:
    film = Film(tab)
    film.roll(0.7)
    demo.send(ID, running=WORK)
    film.roll(10, tab.stripe("bar", "running").is_visible)
    film.roll(1.6)
    write_picture(tab, folder / "running.png")

    demo.kill("bar")
    film.roll(4.2)
    expect(tab.find("#headline")).to_contain_text("Bar is gone")  # on a busy machine the kill might come too late
    write_picture(tab, folder / "bar-dead.png")

    demo.launch("bar")
    film.roll(30, tab.find("#headline[data-tone=good]").is_visible)
    film.roll(1.5)
    write_picture(tab, folder / "recovered.png")
    film.write(folder / "crash.webp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    folder: Path = parser.parse_args().folder
    program = chromium()
    if program is None:
        parser.error("there is no Chromium; scripts/browser.sh installs it")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, running(program) as browser, Demo(Path(scratch)) as demo:
        tab = tab_of(browser, demo.page, viewport=SIZE)
        prepare(demo, tab)
        shoot(demo, tab, folder)


if __name__ == "__main__":
    main()
