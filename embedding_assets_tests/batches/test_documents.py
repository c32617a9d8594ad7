"""Reading documents: good ones whatever holds them, bad ones by name."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_assets.batches.documents import (
    MAX_TEXT_CHARACTERS,
    NoDocumentsError,
    documents_table,
    read_documents,
)
from embedding_assets.errors import DocumentError
from embedding_assets.store.objects import ObjectStore
from embedding_assets_tests.s3_server import S3Server

DAY = "2026-03-01"
GOOD = b'{"id": "good", "text": "a text", "metadata": {"n": 1}}'

BAD = [
    (b"{broken", "no JSON"),
    (b"[1, 2]", "of type list"),
    (b'"text"', "of type str"),
    (b"\xff\xfe{}", "no JSON"),
    (b'{"text": "no id"}', "the id is not"),
    (b'{"id": "", "text": "x"}', "the id is not"),
    (b'{"id": 7, "text": "x"}', "the id is not"),
    (json.dumps({"id": "i" * 600, "text": "x"}).encode(), "longer than 512 bytes"),
    (b'{"id": "a"}', "of type NoneType"),
    (b'{"id": "a", "text": ""}', "the text is empty"),
    (b'{"id": "a", "text": "  \\n "}', "the text is empty"),
    (b'{"id": "a", "text": 3}', "of type int"),
    (b'{"id": "a", "text": ["x"]}', "of type list"),
    (b'{"id": "a", "text": "nul \\u0000"}', "NUL"),
    (b'{"id": "a", "text": "\\ud800"}', "no JSON"),
    (b'{"id": "a", "text": "x", "metadata": []}', "metadata is of type list"),
    (b'{"id": "a", "text": "x", "metadata": {"k": null}}', "of type NoneType"),
    (b'{"id": "a", "text": "x", "metadata": {"k": {}}}', "of type dict"),
    (b'{"id": "a", "text": "x", "metadata": {"": 1}}', "not a non-empty text"),
    (b'{"id": "a", "text": "x", "metadata": {"ea:batch": "b"}}', "reserved"),
    (b'{"id": "a", "text": "x", "metadata": {"chroma:document": "b"}}', "reserved"),
    (b'{"id": "a", "text": "x", "metadata": {"k": 99999999999999999999}}', "beyond 64 bits"),
    (b'{"id": "a", "text": "x", "document": "y"}', "unknown key 'document'"),
    (json.dumps({"id": "a", "text": "x" * (MAX_TEXT_CHARACTERS + 1)}).encode(), "characters"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_a_bad_line_is_rejected_by_name_and_stops_nothing(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(GOOD + b"\n\n" + line + b"\n" + GOOD.replace(b"good", b"last"))
    read = read_documents(str(path), DAY)
    assert read.table.column("id").to_pylist() == ["good", "last"]
    (refused,) = read.refused
    assert refused.name == f"{path}:3"
    assert reason in refused.reason


def _holders(folder: Path, content: bytes) -> dict[str, str]:
    (folder / "plain").mkdir()
    (folder / "plain" / "a.jsonl").write_bytes(content)
    (folder / "plain" / "other.txt").write_bytes(b"not one of them")
    (folder / "packed").mkdir()
    (folder / "packed" / f"{DAY}.jsonl.gz").write_bytes(gzip.compress(content))
    return {
        "file": str(folder / "plain" / "a.jsonl"),
        "packed file": str(folder / "packed" / "{day}.jsonl.gz"),
        "folder": str(folder / "plain"),
        "glob": str(folder / "*" / "a.jsonl*"),
        "file URL": (folder / "plain").as_uri(),
        "file URL of a file": (folder / "plain" / "a.jsonl").as_uri(),
    }


@pytest.mark.parametrize("kind", ["file", "packed file", "folder", "glob", "file URL", "file URL of a file"])
def test_documents_are_read_wherever_they_are(tmp_path: Path, kind: str) -> None:
    source = _holders(tmp_path, b"\xef\xbb\xbf" + GOOD + b"\r\n")[kind]
    read = read_documents(source, DAY)
    assert read.table.select(["id", "document", "metadata"]).to_pylist() == [
        {"id": "good", "document": "a text", "metadata": '{"n":1}'}
    ]


NAMES = ["a.jsonl", "a.JSONL", "a.ndjson", "a.Ndjson", "a.jsonl.gz", "a.JSONL.GZ", "a.ndjson.gz", "day #1?.jsonl"]


@pytest.mark.parametrize("name", NAMES)
def test_json_lines_are_read_under_each_of_their_names(tmp_path: Path, name: str) -> None:
    content = gzip.compress(GOOD) if name.lower().endswith("gz") else GOOD
    (tmp_path / name).write_bytes(content)
    (tmp_path / "link").symlink_to(tmp_path)
    sources = [tmp_path, tmp_path / name, tmp_path / "link", tmp_path / "a*" if name[0] == "a" else tmp_path / "day*"]
    for source in (str(tmp_path), *map(str, sources), tmp_path.as_uri(), (tmp_path / name).as_uri()):
        read = read_documents(source, DAY)
        assert (len(read), read.refused) == (1, ())


def test_a_question_mark_in_a_file_url_is_part_of_the_pattern(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"day-{number}.jsonl").write_bytes(GOOD.replace(b"good", str(number).encode()))
    assert len(read_documents(f"file://{tmp_path}/day-?.jsonl", DAY)) == 3


def plant_others(folder: Path) -> set[str]:
    """Beside documents, what is not read; the words by which each is named."""
    (folder / DAY / "deep").mkdir(parents=True)
    (folder / DAY / "deep" / "a.jsonl").write_bytes(GOOD)
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.png").write_bytes(b"")
    (folder / ".hidden.jsonl").write_bytes(b"")
    (folder / "data.json").write_bytes(b"[]")
    (folder / "data.csv").write_bytes(b"")
    (folder / "lost.jsonl").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.jsonl")
    return {DAY, "data.json", "data.csv", "lost.jsonl", "pipe.jsonl"}


def test_what_lies_beside_documents_and_is_not_read_is_named(tmp_path: Path) -> None:
    others = plant_others(tmp_path)
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    read = read_documents(str(tmp_path), DAY)
    assert (len(read), read.sources) == (1, (str(tmp_path / "a.jsonl"),))
    assert {line.split(" is ")[0].removeprefix(f"{tmp_path}/") for line in read.passed_over} == others
    (told,) = (line for line in read.passed_over if DAY in line)
    assert f"write {tmp_path}/**/*.jsonl, or {{day}}" in told
    assert len(read_documents(f"{tmp_path}/**/*.jsonl", DAY).sources) == 2
    assert len(read_documents(f"{tmp_path}/{{day}}/deep", DAY)) == 1


def test_where_nothing_is_read_what_is_there_is_named(tmp_path: Path) -> None:
    plant_others(tmp_path)
    with pytest.raises(NoDocumentsError, match=rf"has no \.jsonl .*{DAY} is a folder within the folder"):
        read_documents(str(tmp_path), DAY)
    with pytest.raises(DocumentError, match="neither a file nor a folder"):
        read_documents(str(tmp_path / "pipe.jsonl"), DAY)
    with pytest.raises(DocumentError, match="https://"):
        read_documents("https://host/a.jsonl", DAY)


@pytest.mark.s3
def test_what_lies_beside_documents_on_s3_is_named_too(s3: S3Server, s3_store: ObjectStore) -> None:
    for key in ("a.JSONL", "b.ndjson", "c.csv", f"{DAY}/a.jsonl", "pictures/a.png"):
        s3_store.put_new(key, GOOD)
    read = read_documents(s3_store.url, DAY, s3.writer)
    assert (len(read), read.repeated, len(read.passed_over)) == (1, 1, 2)
    assert [word for word in ("c.csv", DAY) if word not in " ".join(read.passed_over)] == []


@pytest.mark.parametrize("source", ["nothing", "nothing/*.jsonl", "empty", "{day}.jsonl", "empty/"])
def test_nothing_there_is_said(tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoDocumentsError):
        read_documents(f"{tmp_path}/{source}", DAY)
    with pytest.raises(NoDocumentsError):
        read_documents(f"file://{tmp_path}/nothing", DAY)
    assert not (tmp_path / "nothing").exists()


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,b")
    with pytest.raises(DocumentError, match=r"\.jsonl"):
        read_documents(str(tmp_path / "d.csv"), DAY)
    packed = gzip.compress(GOOD * 1000)
    for content in (packed[: len(packed) // 2], b"no gzip at all"):
        (tmp_path / "d.jsonl.gz").write_bytes(content)
        with pytest.raises(DocumentError, match="cannot be read"):
            read_documents(str(tmp_path / "d.jsonl.gz"), DAY)


def test_the_same_id_twice(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD + b"\n" + GOOD)
    (tmp_path / "b.jsonl").write_bytes(GOOD.replace(b"a text", b"another text"))
    read = read_documents(str(tmp_path), DAY)
    assert (len(read), read.repeated) == (1, 1)
    assert read.table.column("document").to_pylist() == ["a text"]
    (refused,) = read.refused
    assert refused.name == f"{tmp_path / 'b.jsonl'}:1"
    assert f"{tmp_path / 'a.jsonl'}:1" in refused.reason


METADATA = st.dictionaries(
    # What begins with "#" or "$" is refused, by design.
    st.text(st.characters(codec="utf-8", exclude_characters="\x00:"), min_size=1).filter(
        lambda key: key[0] not in "#$"
    ),
    # The very greatest numbers do not stay finite at 15 digits, and are refused.
    st.one_of(st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(-1e308, 1e308)),
    max_size=3,
)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["x", "y", " "]), METADATA), max_size=20))
def test_every_line_is_a_document_or_a_repetition_or_refused(rows: list[tuple[int, str, dict[str, object]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.jsonl"
        path.write_bytes(b"\n".join(orjson.dumps({"id": str(i), "text": t, "metadata": m}) for i, t, m in rows))
        read = read_documents(str(path), DAY)
    assert len(read) + read.repeated + len(read.refused) == len(rows)
    first = {}
    for i, text, _ in rows:
        if text.strip():
            first.setdefault(str(i), text)
    assert dict(zip(*(read.table.column(c).to_pylist() for c in ("id", "document")), strict=True)) == first


def test_content_digests_tell_contents_apart() -> None:
    rows = [("a", "x", "{}"), ("a", "x", '{"n":1}'), ("a", "y", "{}"), ("b", "x", "{}"), ("a", "x", "{}")]
    digests = documents_table(rows).column("digest").to_pylist()
    assert len(set(digests)) == 4
    assert digests[0] == digests[4]
