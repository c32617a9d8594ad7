"""What `dg list components` finds: the package inside somebody else's Dagster project."""

from embedding_assets.orchestration.component import EmbeddingCollections

__all__ = ["EmbeddingCollections"]
