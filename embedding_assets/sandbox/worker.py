"""The thread that works off the batches, beside the one that answers requests."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from embedding_assets.sandbox.execution import Executor, Stopped
from embedding_assets.sandbox.index import Index
from embedding_assets.sandbox.state import BatchRecord, InputProblem

_log = logging.getLogger(__name__)
_LONGEST_SLEEP = 60.0


class Worker:
    """Looks for batches with something to do, and does it, at most `concurrency` at a time.

    It keeps no list of its own: what is to be done is read from the index each time, which is also how a restarted
    service goes on with what the last one left.
    """

    def __init__(self, index: Index, executor: Executor, stop: threading.Event, concurrency: int) -> None:
        self._index = index
        self._executor = executor
        self._stop = stop
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._concurrency = concurrency
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="batch")
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)

    def start(self) -> None:
        """Begin, with whatever the index holds."""
        self._thread.start()

    def nudge(self) -> None:
        """Say that there is something new in the index."""
        self._wake.set()

    def close(self) -> None:
        """Stop at the next pause; unfinished batches stay unfinished."""
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self._pool.shutdown(wait=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self._wake.wait(self._dispatch())

    def _dispatch(self) -> float:
        """Start what is due; answer the seconds until the next batch is."""
        now = time.time()
        pause = _LONGEST_SLEEP
        for batch in self._index.unfinished():
            with self._lock:
                if batch.id in self._busy:
                    continue
                wait = _due(batch) - now
                if wait > 0:
                    pause = min(pause, wait)
                    continue
                if len(self._busy) >= self._concurrency:
                    break
                self._busy.add(batch.id)
            self._pool.submit(self._step, batch.id)
        return pause

    def _step(self, batch_id: str) -> None:
        try:
            batch = self._index.batch(batch_id)
            if batch is None or batch.ended or _due(batch) > time.time():
                return  # it went on while it was being dispatched
            if batch.status == "validating":
                self._executor.validate(batch)
            else:
                self._executor.execute(batch)
        except Stopped:
            pass
        except Exception:
            # Ended rather than tried again for ever: it would fail the same way each time.
            _log.exception("batch %s could not be worked on", batch_id)
            self._executor.fail(batch_id, (InputProblem("server_error", "The service failed on this batch."),))
        finally:
            with self._lock:
                self._busy.discard(batch_id)
            self._wake.set()


def _due(batch: BatchRecord) -> float:
    if batch.status in ("validating", "cancelling"):
        return 0.0
    return min(batch.due, float(batch.expires_at))
