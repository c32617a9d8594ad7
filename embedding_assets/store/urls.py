"""What the URL of a store or of documents means, and what is said of one that would be read as something else."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from embedding_assets.errors import ConfigurationError

_SET = "EMBEDDING_ASSETS_STORE"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def require_store_url(url: str) -> None:
    """Refuse what is no store's URL, or what urllib would cut off or read as another one.

    Raises:
        ConfigurationError: says what to write. A URL that may hold a password is not repeated.
    """
    parts = urlsplit(url)
    shown = f"store {url!r}" if parts.scheme in ("", "file") else "the store's URL"
    if url != url.strip() or _CONTROL.search(unquote(url)):
        raise ConfigurationError(
            shown, "has a blank at an end, or a control character", f"Correct {_SET}; write a blank in a name as %20."
        )
    if not parts.scheme and not parts.netloc:
        where = Path(unquote(url)).expanduser().absolute()
        raise ConfigurationError(shown, "is a path and no URL", f"Write it as {where.as_uri()}")
    if parts.scheme not in ("file", "s3", "memory"):
        raise ConfigurationError(
            "the store's URL",
            f"has the unknown form {parts.scheme}://",
            "Use file:// or s3://: file:///a/folder or s3://bucket/prefix.",
        )
    if "@" in parts.netloc:
        raise ConfigurationError(
            "the store's URL",
            "holds a user or a password",
            "Take it out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
        )
    shown = f"store {url!r}"
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or not parts.path.strip("/"):
            raise ConfigurationError(shown, "names no folder", "Write it as file:///absolute/folder.")
        right = f"file://{quote(path_in_url(url))}"
        _require_whole(shown, url, f"Write it as {right} (earlier versions wrote to file://{parts.path}).")
    elif parts.scheme == "s3":
        if not parts.netloc:
            raise ConfigurationError(shown, "names no bucket", "Write it as s3://bucket/prefix.")
        _require_whole(
            shown,
            url,
            f"Choose a prefix without them (earlier versions wrote to s3://{parts.netloc}{parts.path}).",
        )
        prefix = parts.path.strip("/")
        if prefix and any(name in ("", ".", "..") for name in prefix.split("/")):
            raise ConfigurationError(
                shown, "has an empty name, a . or a .. in its prefix", "Write the prefix out, as s3://bucket/a/b."
            )


def _require_whole(shown: str, url: str, remedy: str) -> None:
    if "?" in url or "#" in url:
        raise ConfigurationError(shown, "has a # or a ?, which ends the path in a URL", remedy)


def path_in_url(url: str) -> str:
    """The path of a file:// URL. A pattern keeps its `?`, and a name its `#`: neither ends a path on a disk."""
    rest = url.removeprefix("file:")
    if rest.startswith("//"):
        rest = "/" + rest[2:].partition("/")[2]
    return unquote(rest)
