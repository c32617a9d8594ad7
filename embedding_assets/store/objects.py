"""The narrow interface to an object store: everything above depends on these few verbs alone.

One implementation serves S3 and S3-compatible servers, local folders and memory: obstore, whose put-if-absent is
atomic on all of them. Every object is written once (`put_new`, `upload`); only the pointer is ever replaced.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore import exceptions as obstore_errors
from obstore.store import LocalStore, MemoryStore, S3Store

from embedding_assets.errors import (
    ConfigurationError,
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
)
from embedding_assets.settings import S3Settings
from embedding_assets.store.urls import require_store_url

WRITE_CHECK = ".write-check-"  # how the names of objects begin that only prove that objects can be written
_CHUNK_BYTES = 4 * 1024 * 1024
_COPY_AT_ONCE = 4 * 1024**3
_DELETE_AT_ONCE = 500  # S3 takes up to 1,000 keys in one DeleteObjects


class ObjectExistsError(StoreError):
    """There is an object of this name already; it was left as it was."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as a listing shows it: key relative to the store, size in bytes, the store's own timestamp."""

    key: str
    size: int
    modified: datetime


class ObjectStore:
    """Objects under one URL; keys are relative to it. Safe to use from several threads."""

    def __init__(self, backend: Any, url: str) -> None:
        self._backend = backend
        self.url = url
        self._folder = _folder_of(url)

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    def put_new(self, key: str, data: bytes) -> None:
        """Create a small object atomically, or raise ObjectExistsError; of many writers exactly one wins.

        A request that is repeated after a lost answer meets the object that it wrote itself; that counts as written.
        """
        try:
            with self._named(key):
                obstore.put(self._backend, key, data, mode="create", use_multipart=False)
        except ObjectExistsError:
            if self.get(key) != data:
                raise

    def replace(self, key: str, data: bytes) -> None:
        """Write a small object whether or not there is one. For the pointer alone."""
        with self._named(key):
            obstore.put(self._backend, key, data, use_multipart=False)

    def upload(self, key: str, path: Path) -> None:
        """Write a file of any size under a key that nobody else uses; in parts, concurrently, where it is large."""
        with self._named(key):
            obstore.put(self._backend, key, path)

    def copy(self, source: str, target: str) -> None:
        """Write a copy of an object under a key that nobody else uses; ObjectMissingError where there is none.

        The store does it by itself where it can: S3 copies up to 5 GB at once, larger objects pass through here.
        """
        with self._named(source):
            if obstore.head(self._backend, source)["size"] <= _COPY_AT_ONCE:
                obstore.copy(self._backend, source, target)
                return
            with obstore.open_writer(self._backend, target) as writer:
                for piece in self._stream(source):
                    writer.write(piece)

    def get(self, key: str) -> bytes:
        """A small object's content; ObjectMissingError where there is none."""
        with self._named(key):
            return bytes(obstore.get(self._backend, key).bytes())

    def exists(self, key: str) -> bool:
        """Whether there is an object of this name."""
        try:
            with self._named(key):
                obstore.head(self._backend, key)
        except ObjectMissingError:
            return False
        return True

    def download(self, key: str, path: Path) -> str:
        """Write an object's content to a new file, in pieces; returns its SHA-256 in hexadecimal."""
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for piece in self._stream(key):
                digest.update(piece)
                file.write(piece)
        return digest.hexdigest()

    def sha256(self, key: str) -> tuple[int, str]:
        """Size in bytes and SHA-256 of what the store holds, read back in pieces."""
        digest, size = hashlib.sha256(), 0
        for piece in self._stream(key):
            digest.update(piece)
            size += len(piece)
        return size, digest.hexdigest()

    def walk(self, prefix: str, after: str | None = None) -> Iterator[StoredObject]:
        """The objects below a folder, sorted by key; only those whose key is greater than `after`, if given."""
        found: list[StoredObject] = []
        with self._named(prefix):
            for page in obstore.list(self._backend, prefix.rstrip("/") or None, offset=after, chunk_size=1000):
                found.extend(StoredObject(meta["path"], meta["size"], meta["last_modified"]) for meta in page)
        # S3 lists sorted, a folder does not.
        yield from sorted(found, key=lambda item: item.key)

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below a folder, sorted."""
        with self._named(prefix):
            result = obstore.list_with_delimiter(self._backend, prefix.rstrip("/") or None)
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in result["common_prefixes"])

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are gone already are no error."""
        wanted = list(keys)
        for start in range(0, len(wanted), _DELETE_AT_ONCE):
            some = wanted[start : start + _DELETE_AT_ONCE]
            try:
                with self._named(some[0]):
                    obstore.delete(self._backend, some)
            except ObjectMissingError:
                for key in some:
                    self._delete_one(key)

    def check_writable(self, folder: str) -> None:
        """Prove that objects can be written, read and deleted below a folder, before anything is spent.

        Raises:
            StoreError: says which of these the store refused.
        """
        key = f"{folder.strip('/')}/{WRITE_CHECK}{secrets.token_hex(8)}".lstrip("/")
        self.put_new(key, b"written to see whether this store can be written; safe to delete")
        self.get(key)
        self.delete([key])

    def _delete_one(self, key: str) -> None:
        try:
            with self._named(key):
                obstore.delete(self._backend, key)
        except ObjectMissingError:
            pass

    def on_disk(self, key: str) -> Path | None:
        """The file that an object is, or the folder that a prefix is, where the store is a folder of this machine."""
        path = self._folder / key if self._folder else None
        return path if path and os.path.lexists(path) else None

    def _stream(self, key: str) -> Iterator[bytes]:
        with self._named(key):
            path = self.on_disk(key)
            if path and path.is_file():  # what goes through obstore is copied once more
                with path.open("rb") as file:
                    while data := file.read(_CHUNK_BYTES):
                        yield data
                return
            for piece in obstore.get(self._backend, key).stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(piece)

    def _named(self, key: str) -> _Named:
        return _Named(f"{self.url.rstrip('/')}/{key}")


class _Named:
    """Turns a backend's exceptions into ours, which name the object and tell trouble from absence and refusal."""

    def __init__(self, subject: str) -> None:
        self.subject = subject

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if error is None or isinstance(error, StoreError) or not isinstance(error, Exception):
            return
        raise translate(self.subject, error) from None


# By the status itself: 403 may also be how many milliseconds a request took. DeleteObjects answers 200 and a code.
_DENIED = re.compile(r"status code: 40[13]\b|code: AccessDenied\b|os error (1|13)\)")


def translate(subject: str, error: Exception) -> Exception:
    """The error of ours that an error of the store's stands for; an unrelated error is returned as it is."""
    text = str(error)
    reason = _brief(text)
    if isinstance(error, obstore_errors.AlreadyExistsError):
        return ObjectExistsError(subject, "exists already", "It was left as it was.")
    # A listing of a bucket that is not there is a general error to obstore, not a NotFoundError.
    if "<Code>NoSuchBucket</Code>" in text:
        return StoreError(subject, "the bucket does not exist", "Create it, or correct EMBEDDING_ASSETS_STORE.")
    if isinstance(error, (obstore_errors.NotFoundError, FileNotFoundError)):
        return ObjectMissingError(subject, "is not in the store", "Look at what is there with `status`.")
    denied = isinstance(error, (obstore_errors.PermissionDeniedError, obstore_errors.UnauthenticatedError))
    if denied or isinstance(error, PermissionError) or _DENIED.search(text):
        return StoreDeniedError(
            subject, f"access is refused ({reason})", "Check the credentials and what they may read and write."
        )
    if re.search(r"os error (20|28|30|122)\)", text):  # not a directory, disk full, read-only, quota
        return StoreError(subject, f"the folder cannot be written ({reason})", "Check its disk and its mount.")
    if isinstance(error, (obstore_errors.BaseError, OSError)):
        return StoreUnavailableError(
            subject, f"the store did not answer as it should ({reason})", "It will be tried again by the next run."
        )
    return error


_SECRET = re.compile(r"(?i)((?:signature|credential|security-token|authorization|secret)[^=:\s]*[=:]\s*)[^\s&,\"<]+")


def _brief(text: str) -> str:
    """A backend's message without its debug tail and without anything that could be a secret."""
    return _SECRET.sub(r"\1***", " ".join(text.split("Debug source:", maxsplit=1)[0].split()))[:300]


def open_store(url: str, s3: S3Settings | None = None, *, must_exist: bool = False) -> ObjectStore:
    """The store at a URL: `file:///folder`, `s3://bucket/prefix` or `memory://`.

    Args:
        url: where the store is.
        s3: how to reach S3; what it leaves open is resolved by boto3.
        must_exist: refuse a folder that is not there, instead of making it: a mistyped path, or a disk that is not
            mounted, must not look like an empty store. (A bucket is never made.)

    Raises:
        ConfigurationError: the URL is none that we know, the folder is not there, or boto3 finds no credentials.
    """
    require_store_url(url)
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return ObjectStore(MemoryStore(), url)
    if parts.scheme == "s3":
        return ObjectStore(_s3_backend(parts.netloc, parts.path.strip("/"), s3 or S3Settings()), url)
    folder = Path(unquote(parts.path))
    if not (folder if must_exist else folder.parent).is_dir():
        raise ConfigurationError(
            f"store {url!r}",
            "it is a file and no folder" if folder.is_file() else "the folder is not there",
            "Create it, mount its disk, or correct EMBEDDING_ASSETS_STORE.",
        )
    try:
        return ObjectStore(LocalStore(folder, mkdir=True, automatic_cleanup=True), url)
    except Exception as error:
        raise translate(url, error) from None


def _folder_of(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _s3_backend(bucket: str, prefix: str, s3: S3Settings) -> S3Store:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session(
            profile_name=s3.profile_name,
            region_name=s3.region_name,
            aws_access_key_id=s3.aws_access_key_id,
            aws_secret_access_key=s3.aws_secret_access_key,
            aws_session_token=s3.aws_session_token,
        )
        region = session.region_name or "us-east-1"
        client = session.client(
            "s3", region_name=region, endpoint_url=s3.endpoint_url, use_ssl=s3.use_ssl, config=Config()
        )
        endpoint = str(client.meta.endpoint_url)
        if not s3.use_unsigned_session and session.get_credentials() is None:
            raise ConfigurationError(
                f"s3://{bucket}",
                "boto3 finds no credentials",
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or an instance role.",
            )
    except BotoCoreError as error:
        raise ConfigurationError(
            f"s3://{bucket}", f"boto3 cannot be set up ({error})", "Check the AWS settings."
        ) from None
    options: dict[str, Any] = {} if ".amazonaws.com" in endpoint else {"endpoint": endpoint}
    if s3.use_unsigned_session:
        options["skip_signature"] = True
    else:
        options["credential_provider"] = Boto3CredentialProvider(session)
    return S3Store(
        bucket,
        prefix=prefix or None,
        region=region,
        # The server checks every upload against a SHA-256 that is computed here.
        checksum_algorithm="SHA256",
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "allow_invalid_certificates": s3.verify is False,
            "timeout": timedelta(minutes=10),
            "connect_timeout": timedelta(seconds=10),
        },
        retry_config={
            "max_retries": s3.max_attempts,
            "retry_timeout": timedelta(minutes=3),
            "backoff": {"base": 2, "init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=15)},
        },
        **options,
    )
