"""The routes, and how a refusal becomes an answer."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from embedding_assets.sandbox.answers import answer
from embedding_assets.sandbox.batch_routes import BatchRoutes
from embedding_assets.sandbox.file_routes import FileRoutes
from embedding_assets.sandbox.gate import HEALTH, Gate
from embedding_assets.sandbox.other_routes import FaultRoutes, ModelRoutes
from embedding_assets.sandbox.problems import ApiError
from embedding_assets.sandbox.service import Service


def build_app(service: Service) -> ASGIApp:
    """The service as an ASGI application."""
    files, batches, models, faults = (
        FileRoutes(service),
        BatchRoutes(service),
        ModelRoutes(service),
        FaultRoutes(service),
    )
    routes = [
        Route("/v1/files", files.create, methods=["POST"]),
        Route("/v1/files", files.list, methods=["GET"]),
        Route("/v1/files/{file_id}", files.get, methods=["GET"]),
        Route("/v1/files/{file_id}", files.delete, methods=["DELETE"]),
        Route("/v1/files/{file_id}/content", files.content, methods=["GET"]),
        Route("/v1/batches", batches.create, methods=["POST"]),
        Route("/v1/batches", batches.list, methods=["GET"]),
        Route("/v1/batches/{batch_id}", batches.get, methods=["GET"]),
        Route("/v1/batches/{batch_id}/cancel", batches.cancel, methods=["POST"]),
        Route("/v1/embeddings", models.embed, methods=["POST"]),
        Route("/v1/models", models.list, methods=["GET"]),
        Route("/v1/models/{model}", models.get, methods=["GET"]),
        Route("/sandbox/faults", faults.add, methods=["POST"]),
        Route("/sandbox/faults", faults.list, methods=["GET"]),
        Route("/sandbox/faults", faults.clear, methods=["DELETE"]),
        Route(HEALTH, faults.health, methods=["GET"]),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={ApiError: _refuse, HTTPException: _unknown_path, Exception: _server_error},
    )
    app.router.redirect_slashes = False
    return Gate(app, service.settings.api_key, service.faults)


def _refuse(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):  # registered for ours, though Starlette types handlers for any exception
        raise error
    return answer(error.body(), error.status)


def _unknown_path(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    message = (
        f"Unknown request URL: {request.method} {request.url.path}. This service has files, batches, embeddings and "
    )
    return answer(ApiError(status, message + "models only.", code="unknown_url").body(), status)


def _server_error(request: Request, error: Exception) -> Response:
    refusal = ApiError(500, "The server had an error while processing your request.", type_="server_error")
    return answer(refusal.body(), refusal.status)
