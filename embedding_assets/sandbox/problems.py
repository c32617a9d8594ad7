"""The one error format of the service: OpenAI's `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A refusal, as the API states it (https://platform.openai.com/docs/guides/error-codes).

    The same object serves an HTTP answer and the `response` of one line of a batch, because the API uses one format
    for both.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type_: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.type = type_

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def model_not_found(model: str) -> ApiError:
    """The answer to a model that the service does not have."""
    return ApiError(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        param="model",
        code="model_not_found",
    )


def file_not_found(file_id: str) -> ApiError:
    """The answer to a file id that was never given out, or whose file was deleted."""
    return ApiError(404, f"No such File object: {file_id}", param="id")


def batch_not_found(batch_id: str) -> ApiError:
    """The answer to a batch id that was never given out."""
    return ApiError(404, f"No batch found with id '{batch_id}'.", param="id")


def hidden(key: str) -> str:
    """A key as it may be shown in an error: enough to recognise one's own, too little to use."""
    if len(key) < 16:
        return "*" * len(key)
    return key[:3] + "*" * (len(key) - 7) + key[-4:]


def wrong_key(key: str) -> ApiError:
    """The answer to a key that is not the service's."""
    return ApiError(401, f"Incorrect API key provided: {hidden(key)}.", code="invalid_api_key")


def missing_key() -> ApiError:
    """The answer to a request without `Authorization: Bearer KEY`."""
    return ApiError(
        401, "You didn't provide an API key. Send it in an Authorization header: Authorization: Bearer KEY."
    )
