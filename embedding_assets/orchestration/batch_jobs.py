"""The commands `embedding-assets batches ...`, as jobs."""

# No `from __future__ import annotations`: Dagster reads the annotations of configuration as objects.
import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration import forms
from embedding_assets.orchestration.forms import pasted
from embedding_assets.orchestration.look_jobs import look_job
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.upkeep_jobs import upkeep_job
from embedding_assets.pipeline import batches


def build_batch_jobs(catalog: Catalog, names: Names) -> list[dg.JobDefinition]:
    """A job per command."""
    return [
        look_job(
            catalog,
            names,
            "batches_list",
            forms.ListBatchesForm,
            "The batches that were sent, what came of each, what each waits for, and which are late.",
            lambda api, s, spec, c, tmp: batches.list_batches(s, spec, api, only_open=c.only_open),
            api=True,
        ),
        upkeep_job(
            catalog,
            names,
            "batches_poll",
            forms.BatchesForm,
            "Poll batches now and land what there is; the next run of their day does the rest.",
            lambda api, s, spec, c, run, tmp: batches.poll_batches(api, s, spec, pasted(c.ids)),
            api=True,
        ),
        upkeep_job(
            catalog,
            names,
            "batches_cancel",
            forms.BatchesForm,
            "Cancel batches of this store at the API; what they have done is landed, and the rest is asked again.",
            lambda api, s, spec, c, run, tmp: batches.cancel_batches(api, s, spec, pasted(c.ids)),
            api=True,
        ),
        upkeep_job(
            catalog,
            names,
            "batches_give_up",
            forms.GiveUpForm,
            "Ask for the records of batches again that never end; what they give late is still taken.",
            lambda s, spec, c, run, tmp: batches.give_up_batches(s, spec, pasted(c.ids)),
        ),
    ]
