"""The pictures of docs/draw.md: the tape of the network that adds binary numbers, for three bits, as a picture and as a page.

python docs/pictures/draw.py     writes docs/images/tape.svg and docs/images/tape_ja.svg; where there are Chromium, its driver and selenium,
also docs/images/stepper.png and docs/images/stepper_ja.png, the page where the gradient arrives at the product with W of step 1
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

import tinygrad_ja as tg

IMAGES = Path(__file__).resolve().parent.parent / "images"
BITS = 3
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

sys.path.insert(0, str(IMAGES.parent.parent))  # the programs in models/ are no part of the package
from models.binary_addition import SimpleRNN, make_batch, squared_error  # noqa: E402


def drawing() -> tg.viz.Drawing:
    """The first BITS bits of 3 + 5 through the network."""
    tg.manual_seed(0)
    model = SimpleRNN(2, 4, 1)
    model.initialize("normal")
    x, d = make_batch(tg.tensor([3]), tg.tensor([5]))
    return tg.draw(squared_error(model(x[:BITS]), d[:BITS]), model)


def photograph(page: Path, path: Path) -> None:
    """The page in a browser, where the gradient arrives at the product with W of step 1."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        size = {"width": 1280, "height": 820, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        browser.execute_script("show(steps.length - 7)")
        browser.save_screenshot(str(path))
    finally:
        browser.quit()
    print(path.relative_to(IMAGES.parent.parent))


def main() -> None:
    """Both languages of each picture."""
    for language, ending in (("en", ""), ("ja", "_ja")):
        os.environ["TINYGRAD_JA_LANG"] = language
        made = drawing()
        print(made.save(IMAGES / f"tape{ending}.svg").relative_to(IMAGES.parent.parent))
        if importlib.util.find_spec("selenium") and CHROMIUM and DRIVER:
            with tempfile.TemporaryDirectory() as folder:
                photograph(made.save(Path(folder, "tape.html")), IMAGES / f"stepper{ending}.png")


if __name__ == "__main__":
    main()
