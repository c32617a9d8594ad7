"""Errors that name the object, the reason and the remedy, and say whether the pipeline recovers by itself."""

from __future__ import annotations

import re

_SECRET = re.compile(r"(?i)((?:signature|credential|security-token|authorization|secret)[^=:\s]*[=:]\s*)[^\s&,\"<]+")
_PASSWORD = re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^/\s\"']+@")  # user and password within a URL, to its last @
_PARAMETER = re.compile(r"(?i)([?&][^=\s&]*(?:key|token|pass|sig)[^=\s&]*=)[^\s&\"'<]+")


def without_secrets(text: str) -> str:
    """A text with what could be a key, a signature or a password replaced."""
    return _PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1***@", _SECRET.sub(r"\1***", text)))


class EmbeddingAssetsError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes:
        subject: the object that the error is about: a key, a file and line, a batch id, a setting.
        reason: what is wrong with it, in words.
        remedy: what a person can do, or what the pipeline does by itself.
        recoverable: True where the next run is expected to succeed without a person.
    """

    recoverable = False

    def __init__(self, subject: str, reason: str, remedy: str) -> None:
        # Here, once for all: whoever writes an error need not know what a URL or a server's answer holds.
        subject, reason, remedy = map(without_secrets, (subject, reason, remedy))
        super().__init__(subject, reason, remedy)
        self.subject, self.reason, self.remedy = subject, reason, remedy

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}. {self.remedy}"


class ConfigurationError(EmbeddingAssetsError):
    """A setting or a declared collection is missing or cannot work."""


class DocumentError(EmbeddingAssetsError):
    """A source of documents cannot be read as documents."""


class LocalDiskError(EmbeddingAssetsError):
    """This machine refuses something: its disk is full or read-only, a quota or a limit is used up.

    It says nothing about data, and nothing is lost by it: what was under way is made again by the next run.
    """


class StoreError(EmbeddingAssetsError):
    """The object store could not do what was asked; says nothing about the objects in it."""


class StoreDeniedError(StoreError):
    """The store refuses the credentials, or the credentials may not do this."""


class StoreUnavailableError(StoreError):
    """The store did not answer, or asked to slow down."""

    recoverable = True


class ObjectMissingError(StoreError):
    """The store says that there is no such object."""


class ApiError(EmbeddingAssetsError):
    """The embedding API refused a request for a reason that trying again does not change."""


class ApiUnavailableError(ApiError):
    """The embedding API did not answer, failed inside, or asked to slow down.

    Attributes:
        retry_after: for how many seconds it asks to be left alone; None where it does not say.
    """

    recoverable = True
    retry_after: float | None = None


class CorruptedError(EmbeddingAssetsError):
    """What the store or the disk holds is not what its manifest says, or is no database at all."""

    recoverable = True


class UnreadableError(EmbeddingAssetsError):
    """A database could not be examined just now (time limit, memory, disk); it may well be whole."""

    recoverable = True


class CommitConflictError(EmbeddingAssetsError):
    """Another writer kept winning the commit; its snapshots are whole and ours was given up."""

    recoverable = True
