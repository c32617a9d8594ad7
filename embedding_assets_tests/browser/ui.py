"""The Dagster UI as a person uses it: pages that are waited for, dialogs that are filled in."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Error, Locator, Page

_PATIENCE_SECONDS = 90.0
_RELOAD_MILLISECONDS = 8_000.0


class Ui:
    """The UI in a browser's page."""

    def __init__(self, page: Page, url: str, screenshots: Path) -> None:
        self.page = page
        self._url, self._screenshots, self._count = url, screenshots, 0
        page.set_default_timeout(30_000)

    def open(self, path: str) -> None:
        """Go to a page."""
        self.page.goto(self._url + path)

    def see(self, path: str, *texts: str) -> None:
        """Go to a page and wait until it shows all of these, loading it anew now and then as a person would."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                self.open(path)
                for text in texts:
                    self.text(text).wait_for(timeout=_RELOAD_MILLISECONDS)
            except Error:
                if time.monotonic() > deadline:
                    self.shoot("not-seen")
                    raise
            else:
                return

    def text(self, text: str) -> Locator:
        """The first visible element with this text."""
        return self.page.get_by_text(text).locator("visible=true").first

    def scroll_to(self, entry: str) -> None:
        """Bring an entry of the metadata into view."""
        self.page.get_by_text(entry, exact=True).locator("visible=true").first.scroll_into_view_if_needed()

    def show_picture(self, entry: str) -> None:
        """Open a picture of the metadata, look at it, and close it again."""
        self.page.get_by_role("row").filter(has_text=re.compile(f"^{entry}")).get_by_text("Show Markdown").click()
        image = self.page.get_by_role("dialog").get_by_role("img", name=entry)
        image.wait_for()
        assert image.evaluate("image => image.complete && image.naturalWidth > 0"), f"{entry} is not drawn"
        self.shoot(f"snapshot-{entry}")
        self.page.keyboard.press("Escape")
        image.wait_for(state="detached")

    def shoot(self, name: str) -> None:
        """Take a screenshot, once nothing is loading any more."""
        self._count += 1
        with suppress(Error):  # the UI goes on polling; what was waited for is there
            self.page.wait_for_load_state("networkidle", timeout=3_000)
        self.page.screenshot(path=self._screenshots / f"{self._count:02d}-{name}.png", animations="disabled")

    def materialize(self, asset: str, collection: str, name: str) -> None:
        """Materialize today's cell of a collection through the asset's dialog."""
        self.open(f"/assets/{asset}")
        self.page.get_by_role("button", name="Materialize…").click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("button", name="Latest").click()
        dialog.get_by_text("Select a partition or create one").click()
        self.page.get_by_text(collection, exact=True).locator("visible=true").last.click()
        dialog.get_by_text("Launch runs to materialize").click()  # closes the list
        self.shoot(name)
        dialog.get_by_role("button", name=re.compile("^Launch 1 run|^Launch run")).click()
        self.text("Launched run").wait_for()

    def launch(self, location: str, job: str, name: str, config: str) -> None:
        """Launch a job from its launchpad with this configuration."""
        self.open(f"/locations/{location}/jobs/{job}/playground/setup?config={quote(config)}")
        button = self.page.get_by_role("button", name="Launch Run")
        self.text("No errors").wait_for()
        self.shoot(name)
        button.click()
        self.page.wait_for_url("**/runs/**")
