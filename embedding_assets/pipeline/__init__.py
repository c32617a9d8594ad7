"""The way of a record, step by step, without Dagster: submit, land, build deltas; and the proof that none is lost.

It joins `batches` and `vectorstore`, which know nothing of each other.
"""
