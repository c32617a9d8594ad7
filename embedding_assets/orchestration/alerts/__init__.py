"""What Dagster knows of failures, as changes for `embedding_assets.alerts`."""
