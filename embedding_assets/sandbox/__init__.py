"""A local service that speaks OpenAI's batch embedding API with a real small model, and sample receipts to embed.

It stands apart: nothing of the pipeline imports it, and it imports nothing of the pipeline.
"""

from embedding_assets.sandbox.faults import BatchFault, HttpFault, LineFault
from embedding_assets.sandbox.launch import Sandbox, SandboxError
from embedding_assets.sandbox.limits import Limits

__all__ = ["BatchFault", "HttpFault", "Limits", "LineFault", "Sandbox", "SandboxError"]
