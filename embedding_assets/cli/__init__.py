"""The command line: `embedding-assets --help`."""

from embedding_assets.cli.app import main

__all__ = ["main"]
