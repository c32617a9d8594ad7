"""What a server says wrongly once is not believed; what it cannot promise keeps it from being written to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from embedding_assets.errors import (
    CorruptedError,
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
)
from embedding_assets.store.layout import new_id
from embedding_assets.store.objects import ObjectExistsError, ObjectStore, open_store
from embedding_assets_tests.lying_proxy import Answer, Forward, Lie, LyingProxy, Request, lying_proxy
from embedding_assets_tests.s3_server import BUCKET, S3Server

pytestmark = pytest.mark.s3


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[LyingProxy]:
    with lying_proxy(s3.writer) as running:
        yield running


@pytest.fixture
def store(proxy: LyingProxy) -> ObjectStore:
    return open_store(f"s3://{BUCKET}/{new_id()}", replace(proxy.settings, max_attempts=0))


def whole(data: bytes) -> bytes:
    if data != b"the whole of it":
        raise CorruptedError("an object", "is damaged", "Try again.")
    return data


def first(method: str, answer: Callable[[Answer], Answer], times: int = 1) -> Lie:
    """Answer the first requests of a method otherwise than the true server does."""
    left = [times]

    def lie(request: Request, forward: Forward) -> Answer | None:
        if request.method != method or not left[0]:
            return None
        left[0] -= 1
        return answer(forward(request))

    return lie


def flipped(true: Answer) -> Answer:
    return replace(true, body=bytes([true.body[0] ^ 1, *true.body[1:]]))


def cut(true: Answer) -> Answer:
    return replace(true, body=true.body[:-3])


def missing(_: Answer) -> Answer:
    return Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")


@pytest.mark.parametrize("lie", [flipped, cut, missing])
def test_one_bad_answer_is_not_damage(proxy: LyingProxy, store: ObjectStore, lie: Callable[[Answer], Answer]) -> None:
    store.put_new("a/manifest.json", b"the whole of it")
    proxy.lie = first("GET", lie)
    assert store.read("a/manifest.json", whole) == b"the whole of it"


@pytest.mark.parametrize(
    ("lie", "said"), [(flipped, CorruptedError), (cut, CorruptedError), (missing, ObjectMissingError)]
)
def test_the_same_bad_answer_twice_is_believed(
    proxy: LyingProxy, store: ObjectStore, lie: Callable[[Answer], Answer], said: type[Exception]
) -> None:
    store.put_new("a/manifest.json", b"the whole of it")
    proxy.lie = first("GET", lie, times=2)
    with pytest.raises(said):
        store.read("a/manifest.json", whole)


def test_two_bad_answers_that_differ_are_trouble(proxy: LyingProxy, store: ObjectStore) -> None:
    store.put_new("a/manifest.json", b"the whole of it")
    answers = iter([flipped, cut])

    def other_each_time(true: Answer) -> Answer:
        return next(answers)(true)

    proxy.lie = first("GET", other_each_time, times=2)
    with pytest.raises(StoreUnavailableError, match="another answer each time"):
        store.read("a/manifest.json", whole)


def test_an_object_that_the_server_says_it_wrote_and_has_not_is_written_again(
    proxy: LyingProxy, store: ObjectStore
) -> None:
    swallowed = [1]

    def lie(request: Request, forward: Forward) -> Answer | None:
        if request.method == "PUT" and swallowed[0]:
            swallowed[0] -= 1
            return Answer(200, headers={"ETag": '"0"'})
        return None

    proxy.lie = lie
    store.put_new("a/request.json", b"an intent")
    proxy.lie = LyingProxy.lie
    assert store.get("a/request.json") == b"an intent"


def test_a_server_that_never_writes_what_it_says_is_trouble(proxy: LyingProxy, store: ObjectStore) -> None:
    proxy.lie = lambda request, forward: Answer(200, headers={"ETag": '"0"'}) if request.method == "PUT" else None
    with pytest.raises(StoreUnavailableError, match="does not have it"):
        store.put_new("a/request.json", b"an intent")


@pytest.mark.parametrize("status", [409, 412])
def test_an_object_that_the_server_wrongly_says_exists_is_written_all_the_same(
    proxy: LyingProxy, store: ObjectStore, status: int
) -> None:
    said = [1]

    def lie(request: Request, forward: Forward) -> Answer | None:
        if request.method == "PUT" and said[0]:
            said[0] -= 1
            return Answer(status, b"<Error><Code>ConditionalRequestConflict</Code></Error>")
        return None

    proxy.lie = lie
    store.put_new("a/batch.json", b"mine")
    assert store.get("a/batch.json") == b"mine"


def test_a_creation_whose_answer_was_lost_is_won(proxy: LyingProxy, store: ObjectStore) -> None:
    def lie(request: Request, forward: Forward) -> Answer | None:
        if request.method == "PUT":
            forward(request)
            return Answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        return None

    proxy.lie = lie
    store.put_new("a/batch.json", b"mine")
    with pytest.raises(ObjectExistsError):
        store.put_new("a/batch.json", b"another's")


def test_a_server_that_creates_an_object_twice_is_no_store_to_write_to(
    proxy: LyingProxy, store: ObjectStore, s3: S3Server
) -> None:
    def lie(request: Request, forward: Forward) -> Answer | None:
        if request.method == "PUT" and "write-check" in request.path:
            honest = open_store(store.url, s3.writer)
            honest.delete([request.path.split("?")[0].split(store.url.rsplit("/", 1)[1] + "/", 1)[1]])
        return None

    store.check_writable("lines")
    proxy.lie = lie
    with pytest.raises(StoreError, match="does not refuse to create an object that exists"):
        store.check_writable("lines")


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "RequestTimeTooSkewed"])
def test_credentials_that_are_refused_with_400_are_said_to_be_refused(
    proxy: LyingProxy, store: ObjectStore, code: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    proxy.lie = lambda request, forward: Answer(400, body)
    for ask in (lambda: store.get("x"), lambda: store.put_new("x", b""), lambda: list(store.walk(""))):
        with pytest.raises(StoreDeniedError, match="credentials"):
            ask()
