"""The embedding API: the one place that talks to it, and the one that names its errors."""

from __future__ import annotations

import base64
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np
import openai
import orjson

from embedding_assets.batches.answers import ENDPOINT, ApiBatch, batch_of, vector_of
from embedding_assets.batches.api_errors import QuotaError, TokenLimitError, masked, retry_after
from embedding_assets.batches.refusals import ACCOUNT_LIMIT_MET, ACCOUNT_LIMITS, TOKEN_LIMIT, limit_in
from embedding_assets.catalog import KNOWN_MODELS
from embedding_assets.errors import ApiError, ApiUnavailableError, ConfigurationError, without_secrets
from embedding_assets.records import Vectors, slices
from embedding_assets.settings import ApiSettings

WINDOW: Final = "24h"  # the only completion window of POST /v1/batches

# Limits of POST /v1/embeddings (OpenAI's API reference): 2,048 inputs and 300,000 tokens over all of them. A token
# covers at least one byte, so 300,000 bytes cannot be more tokens than that.
MAX_INPUTS = 2048
MAX_INPUT_BYTES = 300_000
PAGE: Final = 100  # the most that GET /v1/batches gives at once

T = TypeVar("T")
_CHUNK = 1024 * 1024
_LONGEST_WAIT = 60.0


class ApiMissingError(ApiError):
    """The API answered 404: it does not know, or no longer has, what was asked for."""


class _Unavailable(ApiUnavailableError):
    """Keeps the status, so that the client's own error, which may quote a key, need not be kept."""

    status: int | None = None


@dataclass(frozen=True)
class BatchPage:
    """A page of the API's batches, those on other endpoints among them; `more` where others follow."""

    batches: tuple[ApiBatch, ...]
    more: bool


def goes_back(times: Sequence[float]) -> bool:
    """Whether no time is later than the one before."""
    return all(later >= earlier for later, earlier in pairwise(times))


def takes_dimensions(model: str) -> bool:
    """Whether `dimensions` may be sent: not to a model with one size only (text-embedding-ada-002 refuses it)."""
    fewest, most = KNOWN_MODELS.get(model, (1, 65_536))
    return fewest != most


class EmbeddingApi:
    """The few verbs that are needed of an OpenAI-compatible API. Safe to use from several threads.

    Args:
        settings: key and address; what is None is left to the official client's own resolution.
        retries: how often a request is repeated after 429, 5xx and transport errors, with growing pauses or the
            server's `Retry-After`.

    Raises:
        ConfigurationError: there is no key.
    """

    def __init__(self, settings: ApiSettings, retries: int = 4, timeout: float = 120.0) -> None:
        try:
            # The official client logs its URL: user and password go into the header that they stand for.
            url, headers = _apart(settings.base_url or os.environ.get("OPENAI_BASE_URL"))
            self._client = openai.OpenAI(
                api_key=settings.api_key or None,
                base_url=url,
                default_headers=headers,
                max_retries=retries,
                timeout=timeout,
            )
        except openai.OpenAIError:
            raise ConfigurationError(
                "OPENAI_API_KEY", "is not set", "Set it in the environment or in an .env file."
            ) from None
        except Exception:  # the URL is not repeated: it may hold a password
            raise ConfigurationError("OPENAI_BASE_URL", "is no URL", "Write it as https://host/v1.") from None
        self._retries = retries
        self.url = without_secrets(str(self._client.base_url))

    def __repr__(self) -> str:
        return f"EmbeddingApi({self.url!r})"

    def embed(
        self, texts: Sequence[str], model: str, dimensions: int, answers_as: Callable[[str], bool] = lambda name: True
    ) -> Vectors:
        """Embeddings of some texts, float32 of shape (n, dimensions), in the order of the texts.

        Args:
            answers_as: whether an answer that names this model is of the declared one.

        Raises:
            ApiError: the API refused, or its vectors have another dimension, or are another model's.
        """
        vectors = np.empty((len(texts), dimensions), dtype=np.float32)
        start = 0
        for stop in _ends(texts):
            some = texts[start:stop]
            extra: dict[str, Any] = {"dimensions": dimensions} if takes_dimensions(model) else {}
            answer = self._ask(
                f"model {model!r}",
                lambda some=some, extra=extra: self._client.embeddings.create(  # type: ignore[misc]
                    input=list(some), model=model, encoding_format="base64", **extra
                ),
            )
            named = getattr(answer, "model", None)
            if isinstance(named, str) and named and not answers_as(named):
                raise ApiError(
                    f"model {model!r}",
                    f"is declared, but the API answers as model {named!r}",
                    f"If they are the same, declare `model_answers_as: [{named}]` in the collection; else correct "
                    "`model` or OPENAI_BASE_URL.",
                )
            if len(answer.data) != len(some):
                raise ApiError(
                    f"model {model!r}", f"answered {len(answer.data)} of {len(some)} texts", "Ask the API's operator."
                )
            for position, item in enumerate(answer.data):
                index = item.index if isinstance(item.index, int) else position
                try:
                    vector = vector_of(item.embedding)
                except ValueError as error:
                    raise ApiError(f"model {model!r}", str(error), "Ask the API's operator.") from None
                if vector.shape != (dimensions,):
                    raise ApiError(
                        f"model {model!r}",
                        f"gives vectors of {vector.size} dimensions, not {dimensions}",
                        "Correct `dimensions` in the collections file.",
                    )
                vectors[start + index] = vector
            start = stop
        return vectors

    def upload(self, path: Path) -> str:
        """Upload a batch's input file; returns the file's id. Repeating it costs nothing: unused files are idle."""

        def send() -> Any:
            with path.open("rb") as file:
                return self._client.files.create(file=(path.name, file), purpose="batch")

        return str(self._ask(f"file {path.name}", send).id)

    def create_batch(self, input_file_id: str, metadata: Mapping[str, str]) -> ApiBatch:
        """Create a batch. Not repeated after an answer that may have been lost: whoever repeats looks first.

        Raises:
            ApiUnavailableError: the batch may have been created or not; list the batches.
            LimitError: certainly not created.
        """
        client = self._client.with_options(max_retries=0)

        def send() -> Any:
            return client.batches.with_raw_response.create(
                input_file_id=input_file_id,
                endpoint=ENDPOINT,
                completion_window=WINDOW,
                metadata=dict(metadata),
            )

        for pause in self._pauses():
            try:
                return batch_of(self._json(f"batch of file {input_file_id}", send))
            except _Unavailable as error:
                # Only 429 says for sure that nothing was created.
                if error.status != 429 or pause is None:
                    raise
                time.sleep(pause if error.retry_after is None else min(error.retry_after, _LONGEST_WAIT))
        raise AssertionError("unreachable")

    def retrieve(self, batch_id: str) -> ApiBatch:
        """A batch as it is now; ApiMissingError where the API does not know it."""
        read = self._client.batches.with_raw_response.retrieve
        return batch_of(self._json(f"batch {batch_id}", lambda: read(batch_id)))

    def page(self, after: str | None = None) -> BatchPage:
        """A page of the API's batches, as the API orders them (OpenAI: the newest first).

        Args:
            after: go on behind this batch.

        Raises:
            ApiMissingError: there is no such batch any more.
        """
        cursor: dict[str, Any] = {} if after is None else {"after": after}
        read = self._client.batches.with_raw_response.list
        page = self._json("the list of batches", lambda: read(limit=PAGE, **cursor))
        found = page.get("data") if isinstance(page, dict) else None
        batches = tuple(map(batch_of, found if isinstance(found, list) else ()))
        return BatchPage(batches, bool(batches) and page.get("has_more") is not False)

    def list_batches(self, since: float = 0.0) -> Iterator[ApiBatch]:
        """All batches on the embeddings endpoint, page by page.

        Some servers' cursors start again at page 1: an id that was seen before ends the list.

        Args:
            since: seconds since 1970. Where the list goes back in time, as OpenAI's does, the page on which a batch is
                older is the last one.
        """
        seen: set[str] = set()
        times: list[int] = []
        page = self.page()
        while True:
            for batch in page.batches:
                if batch.id in seen:
                    return
                seen.add(batch.id)
                times.append(batch.created_at)
                if batch.embeds:
                    yield batch
            if not page.more or (goes_back(times) and times[-1] < since):
                return
            page = self.page(page.batches[-1].id)

    def cancel(self, batch_id: str) -> None:
        """Cancel a batch; one that has ended already, or that is gone, is no error."""
        if self._over(batch_id):
            return
        try:
            self._ask(f"batch {batch_id}", lambda: self._client.batches.cancel(batch_id))
        except ApiError:
            if not self._over(batch_id):  # it may have ended in between
                raise

    def _over(self, batch_id: str) -> bool:
        try:
            batch = self.retrieve(batch_id)
        except ApiMissingError:
            return True
        return batch.ended or batch.status == "cancelling"

    def read(self, file_id: str, take: Callable[[Iterator[bytes]], T]) -> T:
        """Give a file's content to `take` as it comes, in pieces; begun afresh after a broken connection.

        Args:
            take: must do with a second beginning, after an exception of the pieces' iterator. What it returns counts
                only once it has read to the end.

        Raises:
            ApiMissingError: the API no longer has it.
            ApiUnavailableError: it could not be had whole.
        """
        for pause in self._pauses():
            try:
                return self._ask(f"file {file_id}", lambda: self._read_once(file_id, take))
            except _Unavailable as error:
                # The client has repeated the request itself where the server refused it; what is repeated here is
                # a stream that broke off.
                if pause is None or error.status is not None:
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _read_once(self, file_id: str, take: Callable[[Iterator[bytes]], T]) -> T:
        with self._client.files.with_streaming_response.content(file_id) as response:
            headers = response.headers
            promised = headers.get("content-length", "") if not headers.get("content-encoding") else ""

            def pieces() -> Iterator[bytes]:
                came = 0
                for piece in response.iter_bytes(_CHUNK):
                    came += len(piece)
                    yield piece
                if promised.isdigit() and int(promised) != came:
                    raise _Unavailable(
                        f"file {file_id}",
                        f"came with {came} of {promised} bytes",
                        "The next run fetches it again.",
                    )

            return take(pieces())

    def download(self, file_id: str, path: Path) -> int:
        """Write a file's content to disk; returns its bytes. Errors as `read`."""
        path.parent.mkdir(parents=True, exist_ok=True)

        def write(pieces: Iterator[bytes]) -> int:
            with path.open("wb") as file:
                return sum(file.write(piece) for piece in pieces)

        return self.read(file_id, write)

    def _pauses(self) -> Iterator[float | None]:
        """Growing pauses in seconds between attempts; None marks the last attempt."""
        for i in range(self._retries):
            yield min(8.0, 0.25 * 2**i) * random.uniform(0.75, 1.0)  # noqa: S311 - spreads clients, guards nothing
        yield None

    def _json(self, subject: str, send: Callable[[], Any]) -> Any:
        """A raw response as the plain values that were sent: making the client's own objects of them takes ten times as
        long, and does not make them safer."""

        def ask() -> Any:
            try:
                return orjson.loads(send().http_response.content)
            except orjson.JSONDecodeError:
                raise _Unavailable(
                    subject,
                    f"the API at {self.url} did not answer with JSON",
                    "The next run tries again by itself; check OPENAI_BASE_URL if it stays so.",
                ) from None

        return self._ask(subject, ask)

    def _ask(self, subject: str, send: Callable[[], T]) -> T:
        try:
            return send()
        except Exception as error:
            translated = self._translate(subject, error)
            if translated is error:
                raise
            raise translated from None

    def _translate(self, subject: str, error: Exception) -> Exception:
        """The error of ours that the client's error stands for; an unrelated error is returned as it is."""
        reason = masked(error, self._client.api_key)
        if isinstance(error, openai.APIStatusError):
            status, code = error.status_code, str(error.code or "")
            limit = limit_in(code, str(error.type or ""))
            if limit == TOKEN_LIMIT:
                return TokenLimitError(subject, reason, "It is submitted when other batches have finished.")
            if limit in ACCOUNT_LIMITS or status == 402:
                return QuotaError(
                    subject,
                    f"{ACCOUNT_LIMIT_MET} ({reason})",
                    "Check the plan and billing; what waits is asked for by itself once the limit is lifted.",
                )
            if status == 401:
                return ApiError(subject, f"the API key is refused ({reason})", "Check OPENAI_API_KEY.")
            if status == 403:
                return ApiError(
                    subject, f"the API key may not do this ({reason})", "Check the key's project and permissions."
                )
            if status == 404:
                return ApiMissingError(
                    subject, f"the API does not have it ({reason})", "Check name and OPENAI_BASE_URL."
                )
            if status in (408, 409, 425, 429) or status >= 500:
                unavailable = _Unavailable(
                    subject, f"the API answered {status} ({reason})", "The next run tries again by itself."
                )
                unavailable.status, unavailable.retry_after = status, retry_after(error)
                return unavailable
            return ApiError(subject, f"the API refused with {status} ({reason})", "Correct what is asked.")
        transport = type(error).__module__.split(".")[0] in {"httpx", "httpx2", "httpcore", "httpcore2"}
        if transport or isinstance(error, openai.APIError):
            return _Unavailable(
                subject,
                f"the API at {self.url} did not answer as it should ({reason})",
                "The next run tries again by itself; check OPENAI_BASE_URL if it stays so.",
            )
        return error


def _apart(base_url: str | None) -> tuple[str | None, dict[str, str] | None]:
    """A URL without the user and the password in it, and these as the header of basic authentication."""
    parts = urlsplit(base_url or "")
    if "@" not in parts.netloc:
        return base_url or None, None
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    said = base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {said}"}


def _ends(texts: Sequence[str]) -> Iterator[int]:
    """Where each request to /v1/embeddings ends, so that none is over its limits."""
    for part in slices(len(texts), MAX_INPUTS):
        size = 0
        for i in range(part.start, part.stop):
            length = len(texts[i].encode())
            if size and size + length > MAX_INPUT_BYTES:
                yield i
                size = 0
            size += length
        yield part.stop
