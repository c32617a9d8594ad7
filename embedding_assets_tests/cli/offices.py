"""Two collections in one store, and the command line on them, as a person at a terminal has it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_assets.cli import main
from embedding_assets.pipeline.healing import heal_cell
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import history
from embedding_assets.vectorstore.delta import list_deltas, load_deltas
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets_tests.cells import Cell

RECORDS = 25


@dataclass(frozen=True)
class Office:
    """`lines` with two deltas and two snapshot versions, and `words` with one of each."""

    lines: Cell
    words: Cell

    @property
    def store(self) -> ObjectStore:
        return self.lines.store

    @property
    def name(self) -> str:
        """Of the collection of lines."""
        return self.lines.spec.name

    def copy(self, folder: Path) -> Office:
        """The same with a store of its own."""
        lines = self.lines.copy(folder)
        shutil.copytree(self.words.folder / "documents", folder / "words" / "documents")
        spec = self.words.spec.model_copy(update={"documents": f"{folder}/words/documents/{{day}}.jsonl"})
        return Office(lines, replace(self.words, store=lines.store, folder=folder / "words", spec=spec))

    def deltas(self) -> list[Manifest]:
        """Of the lines, the oldest first."""
        return load_deltas(self.store, sorted(list_deltas(self.store, self.name), key=lambda ref: ref.id))

    def versions(self) -> list[str]:
        """Snapshot versions of the lines, the newest first."""
        return [one.version for one in history(self.store, self.name) if one.version]

    def run_everything(self) -> None:
        """What the sensors would have run until nothing is left to do."""
        for cell in (self.lines, self.words):
            heal(cell)
            cell.land()
            cell.build()
            cell.compact()

    def environment(self, **changed: str) -> dict[str, str]:
        """The variables of a shell; writes the declared collections."""
        declared = {
            cell.spec.name: json.loads(cell.spec.model_dump_json(exclude={"name"})) for cell in (self.lines, self.words)
        }
        path = self.lines.folder / "collections.yaml"
        path.write_text(yaml.safe_dump({"collections": declared}))
        return {
            "EMBEDDING_ASSETS_STORE": self.store.url,
            "EMBEDDING_ASSETS_COLLECTIONS": str(path),
            "EMBEDDING_ASSETS_CACHE": str(self.lines.folder / "cache"),
            "OPENAI_BASE_URL": self.lines.sandbox.base_url,
            "OPENAI_API_KEY": self.lines.sandbox.api_key,
            "COLUMNS": "200",
            **changed,
        }


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it is."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of all collections."""
        return [row for one in self.json for row in one["rows"]]


@dataclass
class Terminal:
    """Runs commands in an office; nobody sits at the keyboard."""

    office: Office
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __post_init__(self) -> None:
        self.monkeypatch.chdir(self.office.lines.folder)
        self.set(**self.office.environment())

    def set(self, **variables: str) -> None:
        """Set environment variables."""
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)

    def __call__(self, *words: str) -> Said:
        """Run one command."""
        self.capsys.readouterr()
        self.monkeypatch.setattr("sys.argv", ["embedding-assets", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self.capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        assert "Traceback" not in said.out + said.err
        assert self.office.lines.sandbox.api_key not in said.out + said.err
        return Said(code, said.out, said.err)


def make_office(finished: Cell, folder: Path) -> Office:
    """Twenty lines in one delta, five more in another, each with a snapshot; three words."""
    lines = finished.copy(folder)
    lines.write({f"line-{n:05d}": f"one more line {n}" for n in range(20, RECORDS)})
    lines.deliver()
    lines.compact()
    (folder / "words").mkdir()
    words = Cell.make(finished.sandbox, folder / "words", name=lines.spec.name.replace("lines", "words"))
    words = replace(words, store=lines.store)
    words.write({"word-1": "milk", "word-2": "bread", "word-3": "butter"})
    words.deliver()
    words.compact()
    return Office(lines, words)


def heal(cell: Cell) -> list[str]:
    """Move aside what is corrupted of the cell's deltas."""
    return [
        one.name for one in heal_cell(cell.store, cell.spec, cell.day, run_id="test", scratch=cell.folder) if one.moved
    ]


def damage(office: Office, manifest: Manifest) -> None:
    """Turn over one bit of a database's vectors, which chromadb does not notice."""
    key = next(f"{manifest.folder}/{e.path}" for e in manifest.files if e.path.endswith("chroma.sqlite3"))
    data = bytearray(office.store.get(key))
    data[len(data) // 2] ^= 1
    office.store.replace(key, bytes(data))


def in_quarantine(office: Office) -> list[str]:
    """Kinds and names of what was moved aside of the lines."""
    folder = layout.quarantine(office.name)
    return [f"{kind} {name}" for kind in ("delta", "snapshot") for name in office.store.folders(f"{folder}/{kind}")]


def assert_sound(office: Office) -> None:
    """Every accepted record is in the current snapshot, as its batch returned it."""
    proof = office.lines.proof()
    assert (proof.problems, proof.lost, proof.waiting, proof.accepted) == ((), (), 0, RECORDS)
    assert proof.manifest is not None
    assert proof.manifest.count == RECORDS
