"""`python -m embedding_assets.sandbox`: the service in the foreground."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from embedding_assets.sandbox.launch import KEY_VARIABLE, PARENT_VARIABLE, READY
from embedding_assets.sandbox.limits import Limits
from embedding_assets.sandbox.model import MODEL_ID
from embedding_assets.sandbox.server import HOST, bind, run
from embedding_assets.sandbox.service import DEFAULT_KEY, Settings


def main() -> None:
    """Read the command line and serve."""
    defaults = Limits()
    parser = argparse.ArgumentParser(
        prog="python -m embedding_assets.sandbox",
        description=f"A local service that speaks OpenAI's batch embedding API, with the model {MODEL_ID}. "
        "It listens on 127.0.0.1 only, keeps its state in a folder and goes on there when it is started again.",
        epilog="Exit code 0 after SIGINT or SIGTERM.",
    )
    parser.add_argument("--folder", type=Path, required=True, help="where the state is kept")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port (default)")
    parser.add_argument("--api-key", default=os.environ.get(KEY_VARIABLE, DEFAULT_KEY), help=f"or ${KEY_VARIABLE}")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that a batch takes at least")
    parser.add_argument("--concurrency", type=int, default=2, help="batches worked on at once")
    parser.add_argument("--max-requests", type=int, default=defaults.requests, help="requests in a batch")
    parser.add_argument("--max-inputs", type=int, default=defaults.embedding_inputs, help="texts in a batch")
    parser.add_argument("--max-file-bytes", type=int, default=defaults.file_bytes, help="size of an input file")
    parser.add_argument("--max-enqueued-tokens", type=int, default=None, help="tokens in all unfinished batches")
    asked = parser.parse_args()
    limits = Limits(asked.max_requests, asked.max_file_bytes, asked.max_inputs, asked.max_enqueued_tokens)
    settings = Settings(asked.folder, asked.api_key, asked.delay, limits, asked.concurrency)
    listener = bind(asked.port)
    port = listener.getsockname()[1]
    parent = os.environ.get(PARENT_VARIABLE)
    run(
        settings,
        listener,
        lambda: print(f"{READY}http://{HOST}:{port}/v1", flush=True),
        int(parent) if parent else None,
    )


if __name__ == "__main__":
    main()
