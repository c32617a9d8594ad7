"""A set of collections as a Dagster component: declared in YAML, inside somebody else's project."""

# No `from __future__ import annotations`: Dagster reads the annotations of the fields as objects.
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from dagster.components import Scaffolder, ScaffoldRequest
from dagster_aws.s3 import S3Resource
from pydantic import BaseModel, Field

from embedding_assets.alerts.delivery import PER_HOUR
from embedding_assets.catalog import Catalog, CollectionSpec, load_catalog, parse_catalog
from embedding_assets.errors import ConfigurationError
from embedding_assets.orchestration.assemble import build_definitions
from embedding_assets.orchestration.resources import (
    AWS_KEYS,
    AlertsResource,
    ApiResource,
    StoreResource,
    no_password,
    shown,
)
from embedding_assets.orchestration.yaml_schema import yaml_model

_EXAMPLE = """\
type: {type}
attributes:
  prefix: receipts
  store:
    url: "{{{{ env.EMBEDDING_ASSETS_STORE }}}}"   # s3://bucket/prefix or file:///a/folder
  api: {{}}                                     # OpenAI, with the key in OPENAI_API_KEY
  collections:
    lines:
      model: text-embedding-3-small
      dimensions: 1536
      documents: s3://my-bucket/documents/lines
"""


class StoreAttributes(dg.Model):
    """Where everything is kept. Credentials are resolved by boto3 (environment, shared files, instance roles)."""

    url: str = Field(description="`s3://bucket/prefix` or `file:///a/folder`.")
    region_name: str | None = Field(default=None, description="Region of the bucket; boto3's own unless given.")
    endpoint_url: str | None = Field(default=None, description="Of a server that speaks S3; AWS unless given.")
    profile_name: str | None = Field(default=None, description="A profile of the shared AWS files.")


class ApiAttributes(dg.Model):
    """How to reach the embedding API."""

    base_url: str | None = Field(default=None, description="OPENAI_BASE_URL, or OpenAI itself, unless given.")
    api_key_variable: str = Field(
        default="OPENAI_API_KEY",
        description="Name of the environment variable that holds the key. The key itself would be shown in the UI.",
    )


class AlertsAttributes(dg.Model):
    """Where alerts of failures and recoveries go."""

    channels_variable: str = Field(
        default="EMBEDDING_ASSETS_ALERTS",
        description="Name of the environment variable that holds the channels' URLs, which hold secrets.",
    )
    ui_url: str | None = Field(default=None, description="Address of the Dagster UI; messages link to it.")
    per_hour: int = Field(default=PER_HOUR, description="So many messages a channel gets in an hour at most.")


# `name` is the key above it.
CollectionAttributes: type[BaseModel] = yaml_model(CollectionSpec, frozenset({"name"}))


def _filled_in(context: dg.ResolutionContext, given: Any) -> Any:
    """The templates filled in; a file's path, or collections by name, each with the keys that were given."""
    if isinstance(given, Mapping):
        given = {name: _given(body) for name, body in given.items()}
    return context.resolve_value(_given(given))


def _given(body: Any) -> Any:
    return body.model_dump(exclude_unset=True) if isinstance(body, BaseModel) else body


def _store(context: dg.ResolutionContext, given: Any) -> StoreAttributes:
    return StoreAttributes.model_validate(_filled_in(context, given))


def _api(context: dg.ResolutionContext, given: Any) -> ApiAttributes:
    return ApiAttributes.model_validate(_filled_in(context, given))


def _alerts(context: dg.ResolutionContext, given: Any) -> AlertsAttributes:
    return AlertsAttributes.model_validate(_filled_in(context, given))


class _EmbeddingCollectionsScaffolder(Scaffolder):
    """Writes an example to go on from."""

    def scaffold(self, request: ScaffoldRequest) -> None:
        if request.scaffold_format != "yaml":
            raise ConfigurationError(
                request.type_name, "is declared in YAML", "In Python, call build_definitions of orchestration.assemble."
            )
        path = request.target_path if request.append else request.target_path / "defs.yaml"
        with path.open("a" if request.append else "w", encoding="utf-8") as file:
            file.write(("---\n" if request.append else "") + _EXAMPLE.format(type=request.type_name))


@dg.scaffold_with(_EmbeddingCollectionsScaffolder)
class EmbeddingCollections(dg.Component, dg.Resolvable, dg.Model):
    """Collections of embedded text: OpenAI batches become verified ChromaDB snapshots on an object store.

    Four assets per set (embedding_requests, batch_results, deltas, snapshots) with their checks, jobs, sensors and
    schedules.
    """

    # Described by their resolvers: of a field with a default Dagster's schema keeps no other description.
    prefix: Annotated[
        str,
        dg.Resolver.default(
            description="Begins all asset keys and names, and names the group, so that several sets live side by "
            "side. A letter, then letters, digits and '_'.",
            examples=["receipts"],
        ),
    ] = ""
    collections: Annotated[
        Any,
        dg.Resolver(
            _filled_in,
            model_field_type=dict[str, CollectionAttributes] | str,
            description="The collections by name, or the path of a collections.yaml beside this file. The command "
            "line and open_collection read such a file, too: EMBEDDING_ASSETS_COLLECTIONS.",
        ),
    ]
    start: Annotated[
        Any,
        dg.Resolver(
            _filled_in,
            model_field_type=date | str,
            description="The first day that has partitions. With a file of collections it stands there.",
            examples=["2026-01-01"],
        ),
    ] = None
    owners: Annotated[
        list[str] | None,
        dg.Resolver.default(
            description="Whose the assets are: e-mail addresses or `team:name`. With a file of collections it "
            "stands there.",
        ),
    ] = None
    foreign_days: Annotated[
        int | None,
        dg.Resolver.default(
            description="Batches that other programs submitted longer ago, in days, are left alone: 30 unless given, "
            "34 at most. With a file of collections it stands there.",
        ),
    ] = None
    store: Annotated[
        StoreAttributes | None,
        dg.Resolver(
            _store,
            model_field_type=StoreAttributes,
            description="Where everything is kept. Unless given, the project's resource `store`.",
        ),
    ] = None
    api: Annotated[
        ApiAttributes | None,
        dg.Resolver(
            _api,
            model_field_type=ApiAttributes,
            description="How to reach the embedding API. Unless given, the project's resource `api`.",
        ),
    ] = None
    alerts: Annotated[
        AlertsAttributes | None,
        dg.Resolver(
            _alerts,
            model_field_type=AlertsAttributes,
            description="Where alerts go. Unless given, to the channels of EMBEDDING_ASSETS_ALERTS.",
        ),
    ] = None
    sensors_running: Annotated[
        bool,
        dg.Resolver.default(description="Whether sensors and audit run as soon as the project is loaded."),
    ] = False
    sensor_seconds: Annotated[int, dg.Resolver.default(description="How often each sensor looks.")] = 60

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """What the lists of components say of this one."""
        return dg.ComponentTypeSpec(
            description="Collections of embedded text: OpenAI batches become verified ChromaDB snapshots.",
            tags=["openai", "chromadb", "embeddings"],
            produces=["asset", "asset_check", "job", "sensor", "schedule", "resource"],
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions of the set.

        Raises:
            ConfigurationError: names the file, the place in it, and what would be right.
        """
        return build_definitions(
            self._catalog(context.path),
            self._resources(),
            prefix=self.prefix,
            sensors_running=self.sensors_running,
            sensor_seconds=self.sensor_seconds,
        )

    def _catalog(self, place: Path) -> Catalog:
        whole = {key: value for key in ("start", "owners", "foreign_days") if (value := getattr(self, key)) is not None}
        if isinstance(self.collections, str):
            if whole:
                raise ConfigurationError(
                    str(place),
                    f"has {' and '.join(f'`{key}`' for key in whole)} beside the path of a collections file",
                    "Move it into that file.",
                )
            return load_catalog((place if place.is_dir() else place.parent) / self.collections)
        return parse_catalog({**whole, "collections": self.collections}, str(place))

    @staticmethod
    def _base_url(url: str | None) -> Any:
        if url is None or url == os.environ.get("OPENAI_BASE_URL"):
            return shown(url)
        return no_password("api.base_url", url, "Leave `base_url` out, and set the variable OPENAI_BASE_URL to it.")

    def _resources(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.store:
            how = self.store
            endpoint = how.endpoint_url and no_password("store.endpoint_url", how.endpoint_url, AWS_KEYS)
            s3 = S3Resource(region_name=how.region_name, endpoint_url=endpoint, profile_name=how.profile_name)
            found["store"] = StoreResource(url=no_password("store.url", how.url, AWS_KEYS), s3=s3)
        if self.api:
            # By name, so that Dagster shows the variable and not what is in it.
            key = dg.EnvVar(self.api.api_key_variable)
            found["api"] = ApiResource(base_url=self._base_url(self.api.base_url), api_key=key)
        if self.alerts:
            told = self.alerts
            # A variable that is not set means that there is no channel, as everywhere.
            channels = dg.EnvVar(told.channels_variable) if os.environ.get(told.channels_variable) else ""
            found["alerts"] = AlertsResource(channels=channels, ui_url=told.ui_url, per_hour=told.per_hour)
        return found
