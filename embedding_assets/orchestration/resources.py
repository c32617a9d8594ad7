"""The store and the API as Dagster resources; secrets that are not set are resolved at run time, and shown nowhere."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource
from pydantic import Field

from embedding_assets.alerts.channels import BadChannel, Channel, channels_of
from embedding_assets.alerts.delivery import PER_HOUR
from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.errors import ConfigurationError, without_secrets
from embedding_assets.orchestration.heartbeat import begin_to_beat
from embedding_assets.settings import CHANNELS_VARIABLE, ApiSettings, S3Settings
from embedding_assets.store.objects import ObjectStore, open_store

AWS_KEYS = "Take it out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."


def no_password(place: str, url: str, remedy: str) -> str:
    """A URL that Dagster may keep and show, as it does with all configuration.

    Raises:
        ConfigurationError: it holds a password or a key.
    """
    if without_secrets(url) != url:
        raise ConfigurationError(place, "holds a password or a key, which Dagster would keep and show", remedy)
    return url


def shown(base_url: str | None) -> Any:
    """What Dagster may show of the API's URL: one that holds a password by its variable's name alone."""
    return dg.EnvVar("OPENAI_BASE_URL") if base_url and without_secrets(base_url) != base_url else base_url


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # generic in its value only for type checkers
    """Where batch results, deltas and snapshots are kept."""

    url: str = Field(description="`file:///folder` or `s3://bucket/prefix`.")
    s3: S3Resource = Field(
        default_factory=S3Resource,
        description="How to reach S3; give the one that the rest of the deployment uses. "
        "Credentials that it leaves open are resolved by boto3.",
    )

    cache: str | None = Field(
        default=None,
        description="A folder, also one that machines share, for verified copies of snapshots: a compaction starts "
        "from the copy there and leaves the new snapshot there. Without it every compaction downloads its base.",
    )

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """In the process of a run: let it give signs of life, as nearly all that takes long here needs the store."""
        if context.run is not None and context.instance is not None:
            begin_to_beat(context.instance, context.run.run_id)

    def cache_folder(self) -> Path | None:
        """Where copies of snapshots are kept."""
        return Path(self.cache).expanduser() if self.cache else None

    def s3_settings(self) -> S3Settings:
        """The nested resource's settings, as the rest of the package takes them."""
        return S3Settings(
            region_name=self.s3.region_name,
            endpoint_url=self.s3.endpoint_url,
            profile_name=self.s3.profile_name,
            use_ssl=self.s3.use_ssl,
            verify=self.s3.verify,
            max_attempts=self.s3.max_attempts,
            use_unsigned_session=self.s3.use_unsigned_session,
            aws_access_key_id=self.s3.aws_access_key_id,
            aws_secret_access_key=self.s3.aws_secret_access_key,
            aws_session_token=self.s3.aws_session_token,
        )

    def open(self) -> ObjectStore:
        """The store."""
        return _opened(self.url, self.s3_settings())


@lru_cache(maxsize=8)
def _opened(url: str, s3: S3Settings) -> ObjectStore:
    # One object per store and process: its connections, and what is remembered of its immutable objects, are reused.
    return open_store(url, s3, must_exist=True)


class ApiResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # see above
    """OpenAI, or a server that speaks its batch API."""

    base_url: str | None = Field(default=None, description="OPENAI_BASE_URL, or OpenAI itself, unless given.")
    api_key: str | None = Field(default=None, description="OPENAI_API_KEY unless given; give a dg.EnvVar, not a text.")

    def client(self, **options: Any) -> EmbeddingApi:
        """A client; options as `EmbeddingApi`."""
        return EmbeddingApi(ApiSettings(self.api_key, self.base_url), **options)


class AlertsResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # see above
    """Where alerts go, and how many."""

    channels: str | None = Field(
        default=None,
        description="URLs as apprise knows them, separated by spaces or commas: EMBEDDING_ASSETS_ALERTS unless given. "
        "They hold secrets: give a dg.EnvVar, not a text.",
    )
    ui_url: str | None = Field(default=None, description="Address of the Dagster UI; messages link to it.")
    per_hour: int = Field(
        default=PER_HOUR,
        ge=2,
        description="So many messages a channel gets in an hour at most; the rest is summarised.",
    )

    def channels_now(self) -> tuple[list[Channel], list[BadChannel]]:
        """The channels, and the entries that are none."""
        given = os.environ.get(CHANNELS_VARIABLE, "") if self.channels is None else self.channels
        return channels_of(given, os.environ)
