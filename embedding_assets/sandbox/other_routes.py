"""/v1/embeddings and /v1/models, and the control of faults under /sandbox."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from embedding_assets.sandbox.answers import answer, json_body
from embedding_assets.sandbox.embeddings import answer_all, read_request
from embedding_assets.sandbox.fault_book import Entry
from embedding_assets.sandbox.faults import RULE
from embedding_assets.sandbox.model import MODEL_ID
from embedding_assets.sandbox.problems import ApiError, model_not_found
from embedding_assets.sandbox.service import Service
from embedding_assets.sandbox.wire import model_object


class ModelRoutes:
    """The model, and what it is asked directly (https://platform.openai.com/docs/api-reference/embeddings, /models)."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def embed(self, request: Request) -> Response:
        """Embed some texts at once."""
        asked = read_request(await json_body(request))
        (result,) = await run_in_threadpool(answer_all, [asked], self._service.model)
        if isinstance(result, ApiError):
            raise result
        return answer(result)

    def list(self, request: Request) -> Response:
        """List the models."""
        return answer({"object": "list", "data": [model_object()]})

    def get(self, request: Request) -> Response:
        """One model."""
        model = request.path_params["model"]
        if model != MODEL_ID:
            raise model_not_found(model)
        return answer(model_object())


class FaultRoutes:
    """The rules by which the service misbehaves."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def add(self, request: Request) -> Response:
        """Put a rule in force."""
        body = await json_body(request)
        try:
            rule = RULE.validate_python(body)
        except ValidationError as error:
            raise ApiError(400, f"Invalid rule: {error.errors(include_url=False)[0]['msg']}") from error
        return answer(_shown(self._service.faults.add(rule)))

    def list(self, request: Request) -> Response:
        """List the rules, spent ones too."""
        return answer({"object": "list", "data": [_shown(entry) for entry in self._service.faults.entries()]})

    def clear(self, request: Request) -> Response:
        """Remove all rules."""
        self._service.faults.clear()
        return answer({"deleted": True})

    def health(self, request: Request) -> Response:
        """Say that the service is there; the one path that needs no key."""
        return answer({"status": "ok"})


def _shown(entry: Entry) -> dict[str, Any]:
    rule = RULE.dump_python(entry.rule, mode="json")
    return {"id": entry.id, "matched": entry.matched, "spent": entry.spent, "rule": rule}
