"""Tests of the room that knows one ChromaDB folder on disk."""
