"""Dagster, thin: a function here turns a partition key into arguments, calls `pipeline`, and reports what it did."""
