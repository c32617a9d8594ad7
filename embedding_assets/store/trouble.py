"""What a backend's exceptions mean: absence, refusal, or trouble; each as an error of ours that names the object."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from obstore import exceptions as obstore_errors

from embedding_assets.errors import (
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
    without_secrets,
)
from embedding_assets.local_disk import local_trouble


class ObjectExistsError(StoreError):
    """There is an object of this name already; it was left as it was."""


class Named:
    """Turns a backend's exceptions into ours."""

    def __init__(self, subject: str) -> None:
        self.subject = subject

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if error is None or isinstance(error, StoreError) or not isinstance(error, Exception):
            return
        raise translate(self.subject, error) from None


# By the status itself: 403 may also be how many milliseconds a request took. DeleteObjects answers 200 and a code; an
# expired or unknown token is a 400 (S3's list of error responses).
_CODES = "AccessDenied|ExpiredToken|InvalidToken|TokenRefreshRequired|InvalidAccessKeyId|SignatureDoesNotMatch"
_DENIED = re.compile(
    rf"status code: 40[13]\b|code: AccessDenied\b|<Code>({_CODES}|RequestTimeTooSkewed)</Code>|os error (1|13)\)"
)
_FOLDER_TROUBLE = re.compile(r"os error (20|21)\)|\[Errno (20|21)\]")


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
    if isinstance(error, (obstore_errors.BaseError, OSError)) and (trouble := _of_this_machine(subject, text)):
        return trouble
    if _FOLDER_TROUBLE.search(text):  # not a directory, a directory
        return StoreError(subject, f"the folder cannot be written ({reason})", "Check its disk and its mount.")
    if isinstance(error, (obstore_errors.BaseError, OSError)):
        return StoreUnavailableError(
            subject, f"the store did not answer as it should ({reason})", "It will be tried again by the next run."
        )
    return error


def _of_this_machine(subject: str, text: str) -> StoreError | None:
    """What the disk under a folder store refuses, or this process; None where the store itself is meant."""
    url = urlsplit(subject)
    found = local_trouble(text, Path(unquote(url.path)), "EMBEDDING_ASSETS_STORE") if url.scheme == "file" else None
    return StoreError(subject, f"the folder cannot be written: {found.reason}", found.remedy) if found else None


def _brief(text: str) -> str:
    """A backend's message without its debug tail and without anything that could be a secret."""
    return without_secrets(" ".join(text.split("Debug source:", maxsplit=1)[0].split()))[:300]
