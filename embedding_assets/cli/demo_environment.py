"""The demo's environment: everything in one folder, the sandbox as the API, no key and no cloud."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedding_assets.errors import ConfigurationError

DEMO = "demo"
_KEY = "sandbox"
_BATCH_SECONDS = 3.0  # long enough to be seen under way


class DemoEnvironment:
    """The folder `.demo` in a working directory: documents, store, the sandbox's state, Dagster's home."""

    def __init__(self, working_directory: Path) -> None:
        self.folder = working_directory.resolve() / ".demo"

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps runs and events."""
        return self.folder / "dagster_home"

    def variables(self, base_url: str = "http://127.0.0.1:9/v1") -> dict[str, str]:
        """The environment variables that make any part of this package work on the demo's data.

        Args:
            base_url: of the running service; without it, of a port where nothing answers.
        """
        return {
            "EMBEDDING_ASSETS_ENV": DEMO,
            "EMBEDDING_ASSETS_STORE": (self.folder / "store").as_uri(),
            "EMBEDDING_ASSETS_DOCUMENTS": str(self.folder / "documents"),
            "EMBEDDING_ASSETS_CACHE": str(self.folder / "cache"),
            "EMBEDDING_ASSETS_SENSORS": "running",
            "EMBEDDING_ASSETS_SENSOR_SECONDS": "15",
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_KEY": _KEY,
            "DAGSTER_HOME": str(self.dagster_home),
        }

    def prepare(self) -> None:
        """Make the folders, the sample documents, and Dagster's home; what is there stays."""
        from embedding_assets.sandbox.receipts import write_documents

        self.dagster_home.mkdir(parents=True, exist_ok=True)
        (self.folder / "store").mkdir(exist_ok=True)
        settings = self.dagster_home / "dagster.yaml"
        if not settings.exists():
            shutil.copy(Path(__file__).parent.parent / "dagster.yaml", settings)
        if not (self.folder / "documents").exists():
            write_documents(self.folder / "documents")

    def require(self) -> None:
        """Refuse where there is no demo yet."""
        if not self.folder.exists():
            raise ConfigurationError(str(self.folder), "is not there", "Run `embedding-assets demo` first.")

    @contextmanager
    def service(self) -> Iterator[str]:
        """The sandbox's base URL: of the one that runs on this folder already, or of one of our own until the end."""
        try:
            from embedding_assets.sandbox import Sandbox, SandboxError
        except ImportError as error:
            raise ConfigurationError(
                "the demo", f"needs the extra `sandbox` ({error})", "pip install 'embedding-assets[sandbox,ui]'"
            ) from error
        note = self.folder / "sandbox.url"
        if note.exists() and _answers(note.read_text()):
            yield note.read_text()
            return
        try:
            sandbox = Sandbox.start(self.folder / "sandbox", api_key=_KEY, delay=_BATCH_SECONDS)
        except SandboxError as error:
            raise ConfigurationError("the sandbox", str(error), f"Read {self.folder}/sandbox/service.log.") from error
        with sandbox:
            note.write_text(sandbox.base_url)
            try:
                yield sandbox.base_url
            finally:
                note.unlink(missing_ok=True)


def _answers(base_url: str) -> bool:
    try:
        with urllib.request.urlopen(base_url.removesuffix("/v1") + "/sandbox/health", timeout=5):  # noqa: S310
            return True
    except (urllib.error.URLError, OSError, ValueError):
        return False
