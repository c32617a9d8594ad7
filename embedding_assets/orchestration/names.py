"""What one set of collections is called in Dagster, so that several live side by side in a project or an instance."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import dagster as dg

from embedding_assets.errors import ConfigurationError
from embedding_assets.orchestration.resources import AlertsResource, ApiResource, StoreResource

_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True)
class Names:
    """The names of a set's definitions.

    Attributes:
        prefix: the first part of all its asset keys, the beginning of the names of its jobs, sensors, schedules and
            steps, and its assets' group; empty for the only set of an instance.
        store, api, alerts: the keys of the resources that it works with.
        between_steps: the key of the IO manager by which the steps of one compaction tell each other what they did.
    """

    prefix: str = ""
    store: str = "store"
    api: str = "api"
    alerts: str = "alerts"
    between_steps: str = "between_steps"

    def __post_init__(self) -> None:
        if self.prefix and not _PREFIX.fullmatch(self.prefix):
            raise ConfigurationError(
                f"prefix {self.prefix!r}",
                "cannot begin names in Dagster",
                "Use up to 63 letters, digits and '_', a letter first: EMBEDDING_ASSETS_PREFIX=receipts.",
            )

    @property
    def group(self) -> str:
        """The group that the assets are shown in."""
        return self.prefix or "embeddings"

    def asset(self, name: str) -> dg.AssetKey:
        """The key of an asset."""
        return dg.AssetKey([self.prefix, name] if self.prefix else [name])

    def of(self, name: str) -> str:
        """The name of a job, a sensor, a schedule or a step."""
        return f"{self.prefix}_{name}" if self.prefix else name

    def store_in(self, context: Any) -> StoreResource:
        """The store, from the context of a step, a check or a sensor that requires it."""
        found: StoreResource = getattr(context.resources, self.store)
        return found

    def api_in(self, context: Any) -> ApiResource:
        """The API, from the context of a step, a check or a sensor that requires it."""
        found: ApiResource = getattr(context.resources, self.api)
        return found

    def alerts_in(self, context: Any) -> AlertsResource:
        """Where alerts go, from the context of a sensor that requires it."""
        found: AlertsResource = getattr(context.resources, self.alerts)
        return found
