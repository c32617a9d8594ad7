"""Options that several commands share, and what they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from embedding_assets.catalog import Catalog, load_catalog
from embedding_assets.cli.demo_environment import DEMO, DemoEnvironment
from embedding_assets.settings import Settings, load_settings
from embedding_assets.store.objects import ObjectStore, open_store

Env = Annotated[
    str | None,
    typer.Option(
        "--env", help=f"Environment; reads .env.<name> and .env. `{DEMO}` is what the demo made. [default: dev]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, for scripts.")]


@dataclass(frozen=True)
class Deployment:
    """An environment's settings with what they lead to."""

    settings: Settings
    catalog: Catalog
    store: ObjectStore


@contextmanager
def deployment(environment: str | None, *, api: bool = False) -> Iterator[Deployment]:
    """The deployment of an environment; of the demo's with its service running, if the API is needed."""
    if environment == DEMO:
        demo = DemoEnvironment(Path.cwd())
        demo.require()
        if api:
            with demo.service() as base_url:
                yield _deployment(load_settings(DEMO, demo.variables(base_url)), demo.variables(base_url))
        else:
            yield _deployment(load_settings(DEMO, demo.variables()), demo.variables())
    else:
        yield _deployment(load_settings(environment))


def _deployment(settings: Settings, environ: dict[str, str] | None = None) -> Deployment:
    return Deployment(
        settings,
        load_catalog(settings.collections_file, environ),
        open_store(settings.store_url, settings.s3, must_exist=True),
    )
