"""Dagster assets for OpenAI batch embeddings kept as verified ChromaDB databases on an object store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "open_collection"]

if TYPE_CHECKING:
    from embedding_assets.reading import open_collection


def __getattr__(name: str) -> Any:
    # Lazy: reading imports chromadb, which takes more than a second.
    if name == "open_collection":
        from embedding_assets.reading import open_collection

        return open_collection
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
