"""The rooms and their arrows, as the imports say, and a few rules that hold for every file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import embedding_assets

PACKAGE = Path(embedding_assets.__file__).parent
PROJECT = PACKAGE.parent
NAME = "embedding_assets"
MOST_LINES = 400

GROUND = {"errors", "floats", "records", "settings", "expectations", "catalog", "local_disk", "scratch"}
# What each room may import of the others: arrows only go down, and the lower a room, the less it knows.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "floats": set(),
    "records": {"errors", "floats"},
    "settings": {"errors"},
    "expectations": set(),
    "local_disk": {"errors"},
    "scratch": {"errors", "local_disk"},
    "catalog": {"errors", "expectations"},
    "package": {"reading"},  # embedding_assets/__init__.py: what programs import
    "store": {"errors", "local_disk", "settings"},
    "chroma": {"errors", "floats", "local_disk", "records", "scratch"},
    "insight": {"records"},
    "alerts": {"errors", "settings", "store"},
    "batches": {*GROUND, "store"},
    "vectorstore": {*GROUND, "store", "chroma"},
    "pipeline": {*GROUND, "store", "chroma", "insight", "batches", "vectorstore"},
    "reading": {*GROUND, "store", "chroma", "batches", "vectorstore"},
    "orchestration": {*GROUND, "store", "alerts", "chroma", "insight", "batches", "vectorstore", "pipeline"},
    "definitions": {*GROUND, "orchestration"},
    "components": {"orchestration"},
    "cli": {
        *GROUND,
        "store",
        "alerts",
        "chroma",
        "batches",
        "vectorstore",
        "pipeline",
        "reading",
        "orchestration",
        "sandbox",
    },
    "__main__": {"cli"},
    "sandbox": set(),
}
# Which modules alone may import a library: a folder, or one module.
OWNERS: dict[str, tuple[str, ...]] = {
    "dagster": ("orchestration", "definitions", "cli.demo_run"),
    "dagster_aws": ("orchestration",),
    "chromadb": ("chroma",),
    "obstore": ("store",),
    "boto3": ("store.s3",),
    "botocore": ("store.s3",),
    "openai": ("batches",),
    "matplotlib": ("insight",),
    "apprise": ("alerts.channels",),
    "starlette": ("sandbox",),
    "uvicorn": ("sandbox",),
    "wordllama": ("sandbox",),
    "typer": ("cli",),
    "rich": ("cli",),
}


@dataclass(frozen=True)
class Module:
    """A module of the package, by its name without the package's (`vectorstore.compact`)."""

    name: str
    path: Path

    @property
    def room(self) -> str:
        return self.name.split(".")[0]

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and full name of everything that it imports, wherever in the file."""
        for node in ast.walk(ast.parse(self.path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno} imports relatively"
                assert node.module is not None
                yield node.lineno, node.module
                if node.module == NAME:
                    yield from ((node.lineno, f"{NAME}.{alias.name}") for alias in node.names)


def modules() -> list[Module]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found.append(Module(".".join(parts) or "package", path))
    return found


def is_in(name: str, owner: str) -> bool:
    return name == owner or name.startswith(f"{owner}.")


def test_every_module_is_in_a_room_that_is_known() -> None:
    assert {module.room for module in modules()} == set(ARROWS)


def test_arrows_only_go_down() -> None:
    wrong = [
        f"{module.path.relative_to(PROJECT)}:{line} imports {imported}"
        for module in modules()
        for line, imported in module.imports()
        if imported.startswith(f"{NAME}.")
        and (room := imported.split(".")[1]) != module.room
        and room not in ARROWS[module.room]
    ]
    assert wrong == []


def test_no_arrow_is_allowed_that_would_close_a_circle() -> None:
    above: dict[str, set[str]] = {}

    def below(room: str, way: tuple[str, ...]) -> set[str]:
        assert room not in way, f"a circle: {' > '.join((*way, room))}"
        if room not in above:
            rooms = ARROWS[room]
            above[room] = rooms | {far for near in rooms for far in below(near, (*way, room))}
        return above[room]

    for room in ARROWS:
        below(room, ())
    assert "vectorstore" not in above["batches"]
    assert "batches" not in above["vectorstore"]
    assert not {"store", "settings", "catalog"} & above["chroma"]


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owner_alone(library: str) -> None:
    users = {
        module.name: line for module in modules() for line, imported in module.imports() if is_in(imported, library)
    }
    assert [name for name in users if not any(is_in(name, owner) for owner in OWNERS[library])] == []
    assert users, f"nobody imports {library} any more: take it out of this table"


def test_no_file_of_the_package_is_longer_than_four_hundred_lines() -> None:
    lengths = {
        str(m.path.relative_to(PROJECT)): len(m.path.read_text(encoding="utf-8").splitlines()) for m in modules()
    }
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_no_file_names_a_path_of_some_machine() -> None:
    places = re.compile(r"(?<![\w.:/{}<-])/(?:home|root|Users|work|mnt|opt|srv|var|tmp|usr)/\w+")
    told = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".cfg", ".sh"}
    wrong = []
    for path in sorted(PROJECT.rglob("*")):
        parts = path.relative_to(PROJECT).parts
        if path.suffix not in told or any(part.startswith(".") or part in {"build", "dist"} for part in parts):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            wrong += [f"{'/'.join(parts)}:{number}: {found.group()}" for found in places.finditer(line)]
    assert wrong == []
