"""The declared collections: reads and checks `collections.yaml`."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from embedding_assets.errors import ConfigurationError
from embedding_assets.expectations import Foreign, Freshness, Preview, Quality, Strict

Distance = Literal["cosine", "l2", "ip"]

# Limits of one batch on /v1/embeddings. Source: OpenAI's Batch API guide, section "Rate limits" and the reference
# of POST /v1/batches: 50,000 requests and 200 MB a file, and 50,000 embedding inputs over all requests.
MAX_BATCH_REQUESTS = 50_000
MAX_BATCH_BYTES = 200 * 1000 * 1000

# A query asks every shard, and a step of a compaction is a process: more only cost.
MAX_SHARDS = 256

# Dimensions that a model can give: (fewest, most). Source: OpenAI's embeddings guide; wordllama's own configuration.
# A model that is not listed may have any; the first answer of the API is held against the declaration either way.
KNOWN_MODELS: Mapping[str, tuple[int, int]] = {
    "text-embedding-3-small": (1, 1536),
    "text-embedding-3-large": (1, 3072),
    "text-embedding-ada-002": (1536, 1536),
    "wordllama-256": (64, 256),
}

# As Dagster takes owners.
_OWNER = re.compile(r"team:\w+|[^@\s]+@[^@\s]+\.[^@\s]+")

# ChromaDB's rule for collection names is 3 to 512 of [a-zA-Z0-9._-]; ours is narrower because the name is also a
# folder of the store and half of a Dagster partition key, whose separator is "|".
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]")


class Compaction(Strict):
    """When a snapshot that lacks deltas is compacted: after so many deltas, or when the oldest has waited so long."""

    after_deltas: int = Field(default=1, ge=1)
    after_minutes: float = Field(default=60, ge=0)


class VectorKind(NamedTuple):
    """What vectors have to share to be searched together: model, floats per vector, distance."""

    model: str
    dimension: int
    distance: str

    def __str__(self) -> str:
        return f"{self.model}, {self.dimension} dimensions, {self.distance}"

    def settings_unlike(self, other: VectorKind) -> str:
        """The lines of a declaration that give this kind where `other` is declared."""
        names = ("model", "dimensions", "distance")
        lines = [f"`{n}: {has}`" for n, has, wrong in zip(names, self, other, strict=True) if has != wrong]
        return ", ".join(lines)


class CollectionSpec(Strict):
    """One declared collection.

    Attributes:
        name: its name, in the store, in Dagster and inside its ChromaDB databases.
        model: the embedding model, one for all its records.
        model_answers_as: further names under which the API answers for this model, such as a server's own.
        dimensions: floats per vector.
        distance: `cosine`, `l2` (squared) or `ip`, as ChromaDB names them.
        documents: a JSONL file, a folder, a glob pattern or a store prefix; `{day}` in it stands for the cell's day
            (then each cell has its own documents), `${NAME}` for an environment variable. None: other programs submit.
        custom_id: pattern that finds this collection's requests in batches that other programs submitted.
        batch_requests, batch_bytes: the largest batch file that is submitted.
        delta_records: small batches of a cell are put together into deltas of about so many records.
        shards: into how many databases a snapshot is divided, by a hash of the id; they are compacted side by side.
        probe: whether one text is embedded by itself before a batch is submitted, to see that model and dimension are
            as declared. Not where the server embeds in batches only.
        attempts: how often a record is submitted before it counts as rejected.
        compaction: when the snapshot is brought up to date.
        validated_since: from when on every delta was validated before it was committed; `deltas clean` looks at the
            older ones unless told otherwise. UTC unless it says otherwise.
        preview: what the UI may show of records.
        quality: from where on checks of the vectors fail.
        freshness: how old the newest delta of the snapshot may be. None: nothing is expected.
        foreign: what is done about batches that other programs submitted.
    """

    name: str
    model: str = Field(min_length=1)
    model_answers_as: tuple[str, ...] = ()
    dimensions: int = Field(ge=1, le=65_536)
    distance: Distance = "cosine"
    documents: str | None = Field(default=None, min_length=1)
    custom_id: str | None = None
    batch_requests: int = Field(default=MAX_BATCH_REQUESTS, ge=1, le=MAX_BATCH_REQUESTS)
    batch_bytes: int = Field(default=MAX_BATCH_BYTES, ge=100_000, le=MAX_BATCH_BYTES)
    delta_records: int = Field(default=10_000, ge=1)
    shards: int = Field(default=1, ge=1, le=MAX_SHARDS)
    probe: bool = True
    attempts: int = Field(default=3, ge=1)
    compaction: Compaction = Compaction()
    validated_since: datetime | None = None
    preview: Preview = Preview()
    quality: Quality = Quality()
    freshness: Freshness | None = None
    foreign: Foreign = Foreign()

    @field_validator("validated_since")
    @classmethod
    def _in_utc(cls, at: datetime | None) -> datetime | None:
        return at.replace(tzinfo=timezone.utc) if at and at.tzinfo is None else at

    @field_validator("name")
    @classmethod
    def _name_fits_everywhere(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("a name is 3 to 63 of a-z, 0-9, '-' and '_', and begins and ends with a letter or digit")
        return name

    @model_validator(mode="after")
    def _model_can_have_dimensions(self) -> CollectionSpec:
        fewest, most = KNOWN_MODELS.get(self.model, (1, 65_536))
        if not fewest <= self.dimensions <= most:
            can = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            raise ValueError(f"{self.model} cannot have {self.dimensions} dimensions; it can have {can}")
        return self

    @property
    def vectors(self) -> VectorKind:
        """The kind of its vectors, as declared."""
        return VectorKind(self.model, self.dimensions, self.distance)

    def of_kind(self, kind: VectorKind) -> CollectionSpec:
        """The same collection with vectors of this kind."""
        changed = {"model": kind.model, "dimensions": kind.dimension, "distance": kind.distance}
        return self.model_copy(update=changed)

    def require_kind(self, has: VectorKind, holder: str) -> None:
        """Refuse a declaration that does not fit what a collection holds.

        Args:
            has: the kind of what it holds.
            holder: what holds it, as messages say it: "its snapshot 0000000001-... holds".

        Raises:
            ConfigurationError: names both sides, and what to type.
        """
        declared = self.vectors
        if has != declared:
            raise ConfigurationError(
                f"collection {self.name}",
                f"is declared as {declared}; {holder} {has}",
                f"Put {has.settings_unlike(declared)} back in its declaration. If {declared.settings_unlike(has)} is "
                f"meant, declare a new collection with it, such as `{self.name[:61]}-2`: vectors of two kinds cannot "
                "be searched together.",
            )

    def answers_as(self, model: str) -> bool:
        """Whether an answer under this model's name is of the declared model."""
        # OpenAI answers with the dated name of a model: text-embedding-ada-002-v2 for text-embedding-ada-002.
        return model in (self.model, *self.model_answers_as) or model.startswith(f"{self.model}-")

    @property
    def norm_range(self) -> tuple[float, float] | None:
        """The least and the greatest length of a vector that is expected; None where nothing is known of it."""
        # OpenAI's embeddings guide: its embeddings are normalised to length 1.
        return self.quality.norm or ((0.99, 1.01) if self.model.startswith("text-embedding-") else None)


class Catalog(Strict):
    """All declared collections, the first day that has cells, and whose they are (e-mail addresses or `team:name`).

    Attributes:
        foreign_days: batches that other programs submitted longer ago are left alone. OpenAI keeps a batch's files for
            30 days unless told otherwise; what is older gives nothing any more.
    """

    start: date = date(2026, 1, 1)
    owners: tuple[str, ...] = ()
    foreign_days: int = Field(default=30, ge=1, le=34)
    collections: dict[str, CollectionSpec] = Field(min_length=1)

    @field_validator("owners")
    @classmethod
    def _owners_are_reachable(cls, owners: tuple[str, ...]) -> tuple[str, ...]:
        for owner in owners:
            if not _OWNER.fullmatch(owner):
                raise ValueError(f"{owner!r} is neither an e-mail address nor `team:` and a name")
        return owners

    def __iter__(self) -> Iterator[CollectionSpec]:  # type: ignore[override]
        return iter(self.collections.values())

    @property
    def sharded(self) -> bool:
        """Whether any collection has several shards."""
        return any(spec.shards > 1 for spec in self)

    @property
    def names(self) -> list[str]:
        """Names of the collections, as declared."""
        return list(self.collections)

    def get(self, name: str) -> CollectionSpec:
        """The collection of this name, or ConfigurationError that lists the ones there are."""
        if name not in self.collections:
            near = difflib.get_close_matches(name, self.names, n=1)
            raise ConfigurationError(
                f"collection {name!r}",
                "is not declared",
                f"Did you mean {near[0]!r}?" if near else f"Declared are: {', '.join(self.names)}.",
            )
        return self.collections[name]


def load_catalog(path: Path, environ: Mapping[str, str] | None = None) -> Catalog:
    """Read and check a collections file.

    Args:
        path: the YAML file.
        environ: where `${NAME}` is looked up; the process's environment unless given.

    Raises:
        ConfigurationError: names the file, the place in it, and what would be right.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            str(path),
            f"cannot be read ({error.strerror})",
            "Check EMBEDDING_ASSETS_COLLECTIONS.",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(str(path), f"is not UTF-8 (byte {error.start})", "Save it as UTF-8.") from None
    try:
        _require_keys_once(yaml.compose(text, yaml.SafeLoader), str(path))
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(str(path), "is not YAML", " ".join(str(error).split())) from error
    return parse_catalog(raw, str(path), environ)


def _require_keys_once(root: yaml.Node | None, source: str) -> None:
    """YAML's reader takes the last of two equal keys without a word, and with it another model, say."""
    nodes: list[tuple[str, yaml.Node]] = [("", root)] if root is not None else []
    seen: set[int] = set()
    while nodes:
        place, node = nodes.pop(0)
        if id(node) in seen:  # an alias, which may lead round in a circle
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += [(place, item) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                name = str(key.value)
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if name in lines:
                        raise ConfigurationError(
                            source,
                            f"the key {place}{name} stands twice: in line {lines[name]} and in line {line}",
                            "Keep one of the two.",
                        )
                    lines[name] = line
                nodes.append((f"{place}{name}.", value))


def parse_catalog(raw: Any, source: str, environ: Mapping[str, str] | None = None) -> Catalog:
    """Check a collections file's content; `source` is what errors call it."""
    if not isinstance(raw, dict) or not isinstance(raw.get("collections"), dict):
        raise ConfigurationError(source, "has no mapping `collections`", "Declare at least one collection in it.")
    named = {
        str(name): {**body, "name": str(name)} if isinstance(body, dict) else body
        for name, body in raw["collections"].items()
    }
    environ = os.environ if environ is None else environ
    for body in named.values():
        if isinstance(body, dict) and isinstance(body.get("documents"), str):
            body["documents"] = _expand(body["documents"], source, environ)
    try:
        return Catalog.model_validate({**raw, "collections": named})
    except ValidationError as error:
        raise ConfigurationError(source, *_explain(error)) from None


def _expand(text: str, source: str, environ: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = environ.get(name, default)
        if found is None:
            raise ConfigurationError(
                source, f"uses ${{{name}}}, which is not set", f"Set {name} in the environment or .env."
            )
        return found

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", value, text)


def _explain(error: ValidationError) -> tuple[str, str]:
    """The first problem as (reason, remedy); the count of the others in the remedy."""
    problems = error.errors(include_url=False)
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    more = f" ({len(problems) - 1} more problems behind this one.)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        kinds: list[type[Strict]] = [CollectionSpec, Catalog, Compaction, Foreign, Preview, Quality, Freshness]
        known = [name for kind in kinds for name in kind.model_fields]
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        return f"{place} is not a known key", (f"Did you mean {near[0]!r}?" if near else "Remove it.") + more
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}", f"Correct it there.{more}"
