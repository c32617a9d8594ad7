"""The files in which a batch's results are written, with the damage that was asked for."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import orjson

from embedding_assets.sandbox.contents import new_id
from embedding_assets.sandbox.embeddings import encode_vector
from embedding_assets.sandbox.faults import LineFault
from embedding_assets.sandbox.problems import ApiError

Line = dict[str, Any]


def responded(custom_id: str, status: int, body: Line) -> Line:
    """A line for a request that was executed, well or badly (API reference, "The request output object")."""
    return _line(custom_id, {"status_code": status, "request_id": new_id("req_"), "body": body}, None)


def refused(custom_id: str, error: ApiError) -> Line:
    """A line for a request that was executed and refused: the refusal stands in the response, `error` is null."""
    return responded(custom_id, error.status, error.body())


def not_executed(custom_id: str, code: str, message: str) -> Line:
    """A line for a request that was never executed: there is no response."""
    return _line(custom_id, None, {"code": code, "message": message})


def _line(custom_id: str, response: Line | None, error: Line | None) -> Line:
    return {"id": new_id("batch_req_"), "custom_id": custom_id, "response": response, "error": error}


class ResultFile:
    """Writes lines as they come; holds none of them."""

    def __init__(self, path: Path, faults: tuple[LineFault, ...] = ()) -> None:
        self.path = path
        self.lines = 0
        self._faults = faults
        self._left = [fault.count for fault in faults]
        self._file = path.open("wb")

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, line: Line) -> None:
        """Write a line, or what a fault makes of it."""
        fault = self._fault(str(line["custom_id"]))
        written = [_dump(line)] if fault is None else _damaged(line, fault)
        self.lines += len(written)
        self._file.writelines(written)

    def _fault(self, custom_id: str) -> LineFault | None:
        """The first fault that wants this line; named lines before those taken as they come."""
        for fault in self._faults:
            if custom_id in fault.custom_ids:
                return fault
        for position, fault in enumerate(self._faults):
            if not fault.custom_ids and self._left[position] > 0:
                self._left[position] -= 1
                return fault
        return None


def _dump(line: Line) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _damaged(line: Line, fault: LineFault) -> list[bytes]:
    custom_id = str(line["custom_id"])
    match fault.damage:
        case "lost":
            written = []
        case "broken_json":
            whole = _dump(line)
            written = [whole[: len(whole) // 2] + b"\n"]
        case "repeated_custom_id":
            written = [_dump(line), _dump({**line, "id": new_id("batch_req_")})]
        case "unknown_custom_id":
            written = [_dump({**line, "custom_id": "unknown-" + custom_id})]
        case "not_200":
            error = ApiError(500, "The server had an error while processing your request.", type_="server_error")
            written = [_dump(refused(custom_id, error))]
        case "body_as_string":
            body = _dump(line["response"]["body"]).decode().strip()
            written = [_dump({**line, "response": {**line["response"], "body": body}})]
        case "wrong_dimension" | "nan" | "zero_vector":
            written = [_with_vectors(line, fault.damage)]
    return written


def _with_vectors(line: Line, damage: str) -> bytes:
    body = line["response"]["body"]
    data = [{**item, "embedding": _bad_vector(item["embedding"], damage)} for item in body["data"]]
    response = {**line["response"], "body": {**body, "data": data}}
    # Python's writer, because it has a NaN and orjson would make it a null.
    return json.dumps({**line, "response": response}, ensure_ascii=False).encode() + b"\n"


def _bad_vector(embedding: Any, damage: str) -> str | list[float]:
    as_text = isinstance(embedding, str)
    vector = np.frombuffer(base64.b64decode(embedding), dtype="<f4") if as_text else np.asarray(embedding)
    bad = vector.astype(np.float32)
    if damage == "wrong_dimension":
        bad = bad[:-1]
    elif damage == "nan":
        bad[0] = np.nan
    else:
        bad = np.zeros_like(bad)
    return encode_vector(bad) if as_text else [float(value) for value in bad]
