"""`batches`: what was sent and is waited for, and what a person does about a batch that never ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.cli.acting import change, look_at
from embedding_assets.cli.options import Env, Json, deployment
from embedding_assets.cli.upkeep import EXIT_CODES, CollectionOption, DryRun, Yes, command_group
from embedding_assets.pipeline import batches
from embedding_assets.pipeline.batches import OpenApi

Ids = Annotated[list[str], typer.Argument(help="Which, from `batches list`.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = command_group(app, "batches", "The batches of a collection.")

    @group.command("list", epilog=EXIT_CODES)
    def listing(
        name: Annotated[str | None, typer.Argument(metavar="[COLLECTION]", help="The same as --collection.")] = None,
        collection: CollectionOption = "all",
        only_open: Annotated[bool, typer.Option("--open", help="Only those of which nothing has landed.")] = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """The batches that were sent, what came of each, what each waits for, and which are late. Changes nothing."""
        with _api(environment, retries=0) as api:
            look_at(
                environment,
                name or collection,
                as_json,
                lambda s, spec, _: batches.list_batches(s, spec, api, only_open=only_open),
            )

    @group.command(epilog=EXIT_CODES)
    def poll(
        ids: Ids,
        collection: CollectionOption = "all",
        dry_run: DryRun = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Poll batches now and land what there is. The next run of their day does the rest."""
        with _api(environment) as api:
            change(
                environment, collection, dry_run, True, as_json,
                lambda s, spec, _: batches.poll_batches(api, s, spec, ids),
                ("batch", ids),
            )  # fmt: skip

    @group.command(epilog=EXIT_CODES)
    def cancel(
        ids: Ids,
        collection: CollectionOption = "all",
        dry_run: DryRun = False,
        yes: Yes = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Cancel batches at the API. What they have done is landed, and the rest is asked again.

        Only batches that were created for this store are cancelled; others are refused.
        """
        with _api(environment) as api:
            change(
                environment, collection, dry_run, yes, as_json,
                lambda s, spec, _: batches.cancel_batches(api, s, spec, ids),
                ("batch", ids),
            )  # fmt: skip

    @group.command("give-up", epilog=EXIT_CODES)
    def give_up(
        ids: Ids,
        collection: CollectionOption = "all",
        dry_run: DryRun = False,
        yes: Yes = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Ask for the records of batches again that never end. What they give late is still taken."""
        change(
            environment, collection, dry_run, yes, as_json,
            lambda s, spec, _: batches.give_up_batches(s, spec, ids),
            ("open batch", ids),
        )  # fmt: skip


@contextmanager
def _api(environment: str | None, retries: int = 2) -> Iterator[OpenApi]:
    """What makes a client; nothing is asked of the API, nor of its settings, before."""
    with deployment(environment, api=True) as found:
        yield lambda: EmbeddingApi(found.settings.api, retries=retries)
