"""What a deployment sets: environment, store, API, folders. From the environment or `.env` files, nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import dotenv_values

from embedding_assets.errors import ConfigurationError

DEFAULT_COLLECTIONS = Path(__file__).with_name("collections.yaml")
CHANNELS_VARIABLE = "EMBEDDING_ASSETS_ALERTS"
_ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class S3Settings:
    """How to reach S3: the names, meanings and defaults of dagster-aws' `S3Resource`.

    What is None is left to boto3's own resolution (environment, shared configuration files, instance roles).
    """

    region_name: str | None = None
    endpoint_url: str | None = None
    profile_name: str | None = None
    use_ssl: bool = True
    verify: bool | str | None = None
    max_attempts: int = 5
    use_unsigned_session: bool = False
    aws_access_key_id: str | None = field(default=None, repr=False)
    aws_secret_access_key: str | None = field(default=None, repr=False)
    aws_session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ApiSettings:
    """How to reach the embedding API; None is left to the openai client's own resolution."""

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None


@dataclass(frozen=True)
class AlertSettings:
    """Where alerts go.

    Attributes:
        channels: URLs as apprise knows them, separated by spaces or commas; they hold secrets.
        ui_url: address of the Dagster UI, for links in messages.
        per_hour: so many messages a channel gets in an hour at most; None is left to the default.
    """

    channels: str = field(default="", repr=False)
    ui_url: str | None = None
    per_hour: int | None = None


@dataclass(frozen=True)
class Settings:
    """The settings of one environment.

    Attributes:
        environment: `dev`, `prod`, ...; names the `.env.<environment>` file and shows up in messages.
        store_url: `file:///folder`, `s3://bucket/prefix` or `memory://`.
        collections_file: the YAML file that declares the collections.
        cache_folder: where readers keep verified copies of snapshots.
    """

    environment: str
    store_url: str
    collections_file: Path
    cache_folder: Path
    s3: S3Settings = S3Settings()
    api: ApiSettings = ApiSettings()
    alerts: AlertSettings = AlertSettings()


def load_settings(
    environment: str | None = None, environ: Mapping[str, str] | None = None, folder: Path | None = None
) -> Settings:
    """Settings of an environment.

    A variable is looked up in the process's environment, then in `.env.<environment>`, then in `.env`, both in
    `folder` (the working directory unless given). Dagster puts `.env` into the process's environment by itself, where
    it wins: what differs between environments belongs into `.env.<environment>` alone.

    Args:
        environment: unless given, EMBEDDING_ASSETS_ENV, else `dev`.

    Raises:
        ConfigurationError: names the variable and what would be right.
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    base = _read(folder / ".env")
    name = environment or environ.get("EMBEDDING_ASSETS_ENV") or base.get("EMBEDDING_ASSETS_ENV") or "dev"
    if not _ENVIRONMENT.fullmatch(name):
        raise ConfigurationError(f"environment {name!r}", "is not a name", "Use letters, digits, '-' and '_'.")
    own = _read(folder / f".env.{name}")
    merged = {**base, **own, **environ}

    store_url = merged.get("EMBEDDING_ASSETS_STORE")
    if not store_url:
        raise ConfigurationError(
            "EMBEDDING_ASSETS_STORE",
            f"is not set for environment {name!r}",
            f"Set it to file:///a/folder or s3://bucket/prefix, in the environment, in .env.{name} or in .env.",
        )
    return Settings(
        environment=name,
        store_url=store_url,
        collections_file=_path("EMBEDDING_ASSETS_COLLECTIONS", merged, DEFAULT_COLLECTIONS),
        cache_folder=_path("EMBEDDING_ASSETS_CACHE", merged, _user_cache(merged)),
        s3=S3Settings(
            region_name=merged.get("AWS_REGION") or merged.get("AWS_DEFAULT_REGION"),
            endpoint_url=endpoint_without_password(merged.get("AWS_ENDPOINT_URL_S3") or merged.get("AWS_ENDPOINT_URL")),
            profile_name=merged.get("AWS_PROFILE"),
            aws_access_key_id=merged.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=merged.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=merged.get("AWS_SESSION_TOKEN"),
        ),
        api=ApiSettings(merged.get("OPENAI_API_KEY"), merged.get("OPENAI_BASE_URL")),
        alerts=AlertSettings(
            _expanded(merged.get(CHANNELS_VARIABLE, ""), merged), merged.get("EMBEDDING_ASSETS_UI"), _per_hour(merged)
        ),
    )


def export_environment_files(environ: MutableMapping[str, str], folder: Path | None = None) -> None:
    """Put what `.env.<environment>` and `.env` set, and the process does not, into the process's environment.

    For processes of our own (code location, command line), so that boto3 and openai find it by their own resolution.
    """
    folder = Path.cwd() if folder is None else folder
    base = _read(folder / ".env")
    name = environ.get("EMBEDDING_ASSETS_ENV") or base.get("EMBEDDING_ASSETS_ENV") or "dev"
    for key, value in {**base, **_read(folder / f".env.{name}")}.items():
        environ.setdefault(key, value)


def endpoint_without_password(url: str | None) -> str | None:
    """The URL of an S3 server; ConfigurationError where it holds a user or a password, which S3 has no use for."""
    if url and "@" in url.partition("://")[2].split("/")[0]:
        raise ConfigurationError(
            "AWS_ENDPOINT_URL_S3",
            "holds a user or a password",
            "Take it out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
        )
    return url


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    """With values in the place of `${NAME}`; what is not set stays, and is told where it is used."""
    return re.sub(r"\$\{(\w+)\}", lambda match: environ.get(match[1], match[0]), text)


def _per_hour(environ: Mapping[str, str]) -> int | None:
    text = environ.get("EMBEDDING_ASSETS_ALERTS_PER_HOUR")
    if not text:
        return None
    if not text.isdecimal() or int(text) < 2:
        raise ConfigurationError(
            "EMBEDDING_ASSETS_ALERTS_PER_HOUR", f"is {text!r}", "Set it to a whole number, 2 or more."
        )
    return int(text)


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        return {key: value for key, value in dotenv_values(path).items() if value is not None}
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot be read ({error.strerror})", "Check its permissions.") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(str(path), f"is not UTF-8 (byte {error.start})", "Save it as UTF-8.") from None


def _user_cache(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path("~/.cache")) / "embedding_assets"


def _path(variable: str, environ: Mapping[str, str], default: Path) -> Path:
    path = environ.get(variable)
    try:
        return (Path(path) if path else default).expanduser()
    except RuntimeError:  # a user without a home, or one that is not there
        why = f"is {path!r}, and there is no such home" if path else "is not set, and this user has no home folder"
        raise ConfigurationError(variable, why, "Set it to an absolute path that this user can write.") from None
