"""The commands `alerts list` and `alerts test` as jobs."""

# No `from __future__ import annotations`: Dagster reads the annotations of configuration as objects.
import dagster as dg
from pydantic import Field

from embedding_assets.alerts.delivery import send_test
from embedding_assets.alerts.listing import failures, messages
from embedding_assets.alerts.outbox import Outbox, scopes
from embedding_assets.errors import ConfigurationError
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.tables import rows_table
from embedding_assets.settings import CHANNELS_VARIABLE


class AlertsForm(dg.Config):
    """Options of `alerts list`."""

    last: int = Field(default=50, ge=1, description="So many of the latest messages.")


def build_alert_jobs(names: Names) -> list[dg.JobDefinition]:
    """A job per command."""

    @dg.op(
        name=names.of("alerts_list"),
        description="The latest messages and which channels have them; what fails just now. Changes nothing.",
        required_resource_keys={names.store, names.alerts},
    )
    def list_alerts(context: dg.OpExecutionContext, config: AlertsForm) -> dg.Output[None]:
        store, (channels, _) = names.store_in(context).open(), names.alerts_in(context).channels_now()
        sets = {scope: Outbox(store, scope).read() for scope in scopes(store)}
        told = [row for scope, contents in sets.items() for row in messages(scope, contents, channels)]
        wrong = [row for scope, contents in sets.items() for row in failures(scope, contents)]
        told = sorted(told, key=lambda row: row["at"])[-config.last :]
        context.log.info(f"{len(wrong)} fail just now; {len(told)} of the latest messages are shown")
        return dg.Output(None, metadata={"failing_now": rows_table(wrong), "messages": rows_table(told)})

    @dg.op(
        name=names.of("alerts_test"),
        description="Send a test to every channel of EMBEDDING_ASSETS_ALERTS; fails where one does not accept it.",
        required_resource_keys={names.alerts},
    )
    def test_alerts(context: dg.OpExecutionContext) -> None:
        settings = names.alerts_in(context)
        channels, bad = settings.channels_now()
        if not channels and not bad:
            raise ConfigurationError(CHANNELS_VARIABLE, "is not set", "Set it to URLs; see docs/operations.md.")
        refused = [f"{entry.label}: {entry.reason}" for entry in bad]
        for channel in channels:
            reason = send_test(channel, settings.ui_url or "")
            context.log.info(f"{channel.label}: {f'did not accept: {reason}' if reason else 'accepted'}")
            refused += [f"{channel.label}: {reason}"] if reason else []
        if refused:
            raise ConfigurationError(
                f"{len(refused)} of {len(channels) + len(bad)} channels", "; ".join(refused), "Correct their URLs."
            )

    @dg.job(
        name=names.of("upkeep_alerts_list"),
        description="The latest messages and which channels have them; what fails just now. Changes nothing.",
        executor_def=dg.in_process_executor,
    )
    def listing() -> None:
        list_alerts()

    @dg.job(
        name=names.of("upkeep_alerts_test"),
        description="Send a test to every channel of EMBEDDING_ASSETS_ALERTS.",
        executor_def=dg.in_process_executor,
    )
    def testing() -> None:
        test_alerts()

    return [listing, testing]
