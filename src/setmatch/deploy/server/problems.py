"""Every error is JSON with one sentence: what is wrong, and what to do."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from setmatch.deploy.server.limits import Refusal
from setmatch.errors import ConfigError, SetmatchError, suggest

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import JSONResponse

_KNOWN = {
    404: "there is nothing at this address; /openapi.json lists those that there are",
    405: "this address takes another method; /openapi.json says which",
}
_OPTIONS = ("threshold", "classes", "annotated")


def add_problems(app: "FastAPI") -> None:
    """Let an application respond to every error with JSON."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    async def refuse(request: "Request", error: Exception) -> "JSONResponse":
        match error:
            case Refusal():
                return _json(error.status, str(error), error.headers)
            case RequestValidationError():
                return _json(422, _invalid(error.errors()[0]))
            case ClientDisconnect():
                return _json(499, "the client has gone")
            case HTTPException():
                text = _KNOWN.get(error.status_code) or _sentence(str(error.detail))
                return _json(error.status_code, text, error.headers)
            case ConfigError():
                return _json(422, str(error))
            case SetmatchError():
                return _json(500, str(error))
        return _json(500, "the server failed, and its log says why")

    known = (SetmatchError, RequestValidationError, HTTPException, ClientDisconnect)
    for kind in (*known, Exception):
        app.add_exception_handler(kind, refuse)


def problem_json(text: str) -> dict[str, str]:
    """Return the body of a response about a problem."""
    return {"error": text}


def _json(status: int, text: str, headers: Mapping[str, str] | None = None) -> "JSONResponse":
    from starlette.responses import JSONResponse

    return JSONResponse(problem_json(text), status, headers)


def _invalid(error: Mapping[str, Any]) -> str:
    """Return what is wrong with an option."""
    name = str(error["loc"][1]) if len(error["loc"]) > 1 else str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"{name[:60]}: no such option; {suggest(name, _OPTIONS)}"
    if name == "threshold":
        return "threshold: give a score between 0 and 1, or best"
    return f"{name[:60]}: {_sentence(str(error['msg']))}"


def _sentence(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")
