"""`index_metadata.pickle`: which record id has which label in the HNSW index, read and written without `pickle`.

Whoever can write to the object store could put code into a pickle, so the file never meets `pickle`: the few
opcodes that a dictionary of texts and numbers needs are walked here, and any other one is an error. Memory is bound
by the file's own size: nothing is allocated from a length that the file merely claims.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX_METADATA_FILE = "index_metadata.pickle"

_MAX_BYTES = 1 << 31
_MAX_DEPTH = 4  # the file has dictionaries in one dictionary; deeper nesting is not ours
_MARK = object()
_U32 = struct.Struct("<I").unpack_from
_I32 = struct.Struct("<i").unpack_from
_U16 = struct.Struct("<H").unpack_from
_U64 = struct.Struct("<Q").unpack_from


@dataclass(frozen=True, slots=True)
class IndexMetadata:
    """What the pickle says.

    Attributes:
        dimensionality: of the vectors; ChromaDB 1.5.9 leaves it None.
        total_elements_added: labels given out so far, deleted ones included.
        max_seq_id: None, except in indexes that an older version wrote.
        id_to_label: the live records' labels; labels start at 1 and are not reused.
        label_to_id: the inverse, as the file has it (not checked here).
        id_to_seq_id: empty since ChromaDB is written in Rust.
    """

    dimensionality: int | None
    total_elements_added: int
    max_seq_id: int | None
    id_to_label: dict[str, int]
    label_to_id: dict[int, str]
    id_to_seq_id: dict[str, int]


def read_index_metadata(path: Path) -> IndexMetadata:
    """The metadata in this file; ValueError with the reason if it is not what ChromaDB 1.5.9 writes.

    Raises:
        FileNotFoundError: there is no such file.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise ValueError(f"{path.name} has {size} bytes, more than any index needs")
    return parse_index_metadata(path.read_bytes())


def parse_index_metadata(data: bytes) -> IndexMetadata:
    """As `read_index_metadata`, from the file's bytes."""
    try:
        value = _walk(data)
    except (IndexError, struct.error) as error:
        raise ValueError(f"{INDEX_METADATA_FILE} ends early or is garbled") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{INDEX_METADATA_FILE} holds a text that is not UTF-8") from error
    if not isinstance(value, dict):
        raise ValueError(f"{INDEX_METADATA_FILE} holds no dictionary")
    return IndexMetadata(
        dimensionality=_number(value, "dimensionality", optional=True),
        total_elements_added=_number(value, "total_elements_added") or 0,
        max_seq_id=_number(value, "max_seq_id", optional=True),
        id_to_label=_mapping(value, "id_to_label", str, int),
        label_to_id=_mapping(value, "label_to_id", int, str),
        id_to_seq_id=_mapping(value, "id_to_seq_id", str, int),
    )


def write_index_metadata(path: Path, added: int, id_to_label: dict[str, int]) -> None:
    """Write the metadata as ChromaDB 1.5.9 does.

    Args:
        path: where.
        added: labels given out so far.
        id_to_label: the live records' labels.
    """
    pairs = [(_text(record_id), _int(label)) for record_id, label in id_to_label.items()]
    path.write_bytes(
        b"".join(
            [
                b"\x80\x03}(",
                _text("dimensionality") + b"N" + _text("total_elements_added") + _int(added),
                _text("max_seq_id") + b"N" + _text("id_to_label"),
                _dictionary(record_id + label for record_id, label in pairs),
                _text("label_to_id"),
                _dictionary(label + record_id for record_id, label in pairs),
                _text("id_to_seq_id") + b"}u.",
            ]
        )
    )


def _dictionary(items: Iterable[bytes]) -> bytes:
    return b"}(" + b"".join(items) + b"u"


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _walk(data: bytes) -> Any:
    """Run the few opcodes; IndexError and struct.error mean that the data end within one."""
    if data[:1] != b"\x80" or data[1] not in (2, 3, 4):
        raise ValueError(f"{INDEX_METADATA_FILE} is no pickle of protocol 2, 3 or 4")
    position, end, depth = 2, len(data), 0
    stack: list[Any] = []
    push = stack.append
    while position < end:
        opcode = data[position]
        position += 1
        if opcode == 0x58:  # BINUNICODE
            length = _U32(data, position)[0]
            position += 4
            if length > end - position:
                raise ValueError(f"{INDEX_METADATA_FILE} names a text longer than itself")
            push(data[position : position + length].decode())
            position += length
        elif opcode == 0x4A:  # BININT
            push(_I32(data, position)[0])
            position += 4
        elif opcode == 0x4B:  # BININT1
            push(data[position])
            position += 1
        elif opcode == 0x4D:  # BININT2
            push(_U16(data, position)[0])
            position += 2
        elif opcode == 0x8A:  # LONG1, for numbers beyond 31 bits
            length = data[position]
            if length > 9 or position + 1 + length > end:
                raise ValueError(f"{INDEX_METADATA_FILE} holds a number beyond 64 bits")
            push(int.from_bytes(data[position + 1 : position + 1 + length], "little", signed=True))
            position += 1 + length
        elif opcode == 0x8C:  # SHORT_BINUNICODE
            length = data[position]
            if position + 1 + length > end:
                raise ValueError(f"{INDEX_METADATA_FILE} names a text longer than itself")
            push(data[position + 1 : position + 1 + length].decode())
            position += 1 + length
        elif opcode == 0x4E:  # NONE
            push(None)
        elif opcode == 0x7D:  # EMPTY_DICT
            push({})
        elif opcode == 0x28:  # MARK
            depth += 1
            if depth > _MAX_DEPTH:
                raise ValueError(f"{INDEX_METADATA_FILE} is nested deeper than an index is")
            push(_MARK)
            position = _push_pairs(data, position, stack)
        elif opcode == 0x75:  # SETITEMS
            depth -= 1
            _set_items(stack)
        elif opcode == 0x2E:  # STOP
            if position != end:
                raise ValueError(f"{INDEX_METADATA_FILE} goes on after its end")
            if len(stack) != 1:
                raise ValueError(f"{INDEX_METADATA_FILE} leaves {len(stack)} values, not one")
            return stack[0]
        else:
            raise ValueError(f"{INDEX_METADATA_FILE} holds the opcode 0x{opcode:02x}, which no index needs")
    raise ValueError(f"{INDEX_METADATA_FILE} ends without its end mark")


def _push_pairs(data: bytes, position: int, stack: list[Any]) -> int:
    """Push the texts with their numbers, and the numbers with their texts, that begin here; returns where they end.

    Nearly all of the file is such pairs. What is not just so, or ends early, is left to be walked opcode by opcode.
    """
    push, end = stack.append, len(data)
    while position + 5 <= end and data[position] == 0x58:
        start = position + 5
        stop = start + _U32(data, position + 1)[0]
        if stop + 5 > end or data[stop] != 0x4A:
            break
        push(data[start:stop].decode())
        push(_I32(data, stop + 1)[0])
        position = stop + 5
    while position + 10 <= end and data[position] == 0x4A and data[position + 5] == 0x58:
        start = position + 10
        stop = start + _U32(data, position + 6)[0]
        if stop > end:
            break
        push(_I32(data, position + 1)[0])
        push(data[start:stop].decode())
        position = stop
    return position


def _set_items(stack: list[Any]) -> None:
    """Move what lies above the last mark into the dictionary below it."""
    at = len(stack) - 1
    while at >= 0 and stack[at] is not _MARK:
        at -= 1
    if at < 1 or not isinstance(stack[at - 1], dict) or (len(stack) - at) % 2 == 0:
        raise ValueError(f"{INDEX_METADATA_FILE} is garbled: values without their dictionary")
    keys, values = stack[at + 1 :: 2], stack[at + 2 :: 2]
    if dict in set(map(type, keys)):
        raise ValueError(f"{INDEX_METADATA_FILE} is garbled: a dictionary as a key")
    target = stack[at - 1]
    before = len(target)
    target.update(zip(keys, values, strict=True))
    if len(target) != before + len(keys):
        raise ValueError(f"{INDEX_METADATA_FILE} names a key twice")
    del stack[at:]


def _number(value: dict[Any, Any], key: str, *, optional: bool = False) -> int | None:
    number = value.get(key)
    if number is None and optional:
        return None
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"{INDEX_METADATA_FILE}: {key} is not a number of 0 or more")
    return number


def _mapping(value: dict[Any, Any], key: str, keys: type, values: type) -> dict[Any, Any]:
    mapping = value.get(key)
    if not isinstance(mapping, dict):
        raise ValueError(f"{INDEX_METADATA_FILE}: {key} is not a dictionary")
    if not (set(map(type, mapping)) <= {keys} and set(map(type, mapping.values())) <= {values}):
        raise ValueError(f"{INDEX_METADATA_FILE}: {key} maps values of wrong types")
    return mapping
