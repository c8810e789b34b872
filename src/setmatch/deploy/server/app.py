"""The web application: its addresses, and their responses."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from setmatch.deploy.server.guard import App, Guard
from setmatch.deploy.server.libraries import require_libraries
from setmatch.deploy.server.limits import Limits, Refusal
from setmatch.deploy.server.metrics import Metrics, content_type
from setmatch.deploy.server.page.page import Page, page_of
from setmatch.deploy.server.problems import add_problems
from setmatch.deploy.server.responses import (
    DetectionResponse,
    Health,
    ModelFacts,
    Problem,
    classes_of,
    to_jpeg,
    to_json,
)
from setmatch.deploy.server.service import DetectionService
from setmatch.deploy.server.uploads import image_file
from setmatch.inference.engines.base import Engine
from setmatch.inference.options import PredictOptions

if TYPE_CHECKING:
    from fastapi import FastAPI

LEAST_MASK_SCORE = 0.05  # masks of less are not computed; they would fill the memory
_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "properties": {"image": {"type": "string", "format": "binary"}},
        "required": ["image"],
        "additionalProperties": False,
    }
}
_BODY = {"required": True, "content": {"image/*": _IMAGE, "multipart/form-data": _FORM}}
_REFUSED = {
    400: "Not a valid form.",
    401: "The token is missing or wrong.",
    408: "The request came too slowly.",
    413: "More bytes or pixels than the limit.",
    422: "An image that cannot be read, or an option that there is not.",
    429: "The queue is full.",
    500: "The model fails at this image.",
    503: "The response took too long.",
}


class Asked(BaseModel):
    """What a client asks about its image, in the address."""

    model_config = ConfigDict(extra="forbid")

    threshold: Annotated[float, Field(ge=0, le=1)] | Literal["best"] | None = Field(
        None, description="Least score of a detection; `best`: that of each class with the best F1."
    )
    classes: list[str] | None = Field(
        None, description="Only these classes: names or class indices, separated by commas."
    )
    annotated: bool = Field(False, description="Respond with a JPEG with boxes instead of JSON.")


def make_app(
    engine: Engine,
    name: str,
    *,
    engine_name: str = "eager",
    limits: Limits | None = None,
    token: str | None = None,
) -> App:
    """Return the ASGI application that serves a model under a name.

    With a `token`, detection, facts and metrics are for those alone who send it. Raises
    ExtraMissingError without FastAPI.
    """
    require_libraries()
    from fastapi import FastAPI

    limits = limits or Limits()
    name = name.encode("utf-8", "backslashreplace").decode()  # that of a file may be other bytes
    metrics = Metrics()
    service = DetectionService(engine, limits, metrics)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    facts = _facts(engine, name, engine_name, limits)
    app = FastAPI(
        title=f"setmatch: {name}",
        version=version("setmatch"),
        lifespan=life,
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
    )
    add_problems(app)
    _add_open(app, page_of(facts, needs_token=token is not None))
    _add_private(app, service, facts, metrics, token)
    return Guard(app, limits, metrics)


def _add_open(app: "FastAPI", page: Page) -> None:
    """Add what everyone may see."""
    from fastapi.responses import HTMLResponse

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page_in_browser() -> HTMLResponse:
        return HTMLResponse(page.html, headers=page.headers)

    @app.head("/healthz", include_in_schema=False)  # as some load balancers ask
    @app.get("/healthz", summary="Health check")
    async def healthz() -> Health:
        return Health()


def _add_private(
    app: "FastAPI",
    service: DetectionService,
    facts: ModelFacts,
    metrics: Metrics,
    token: str | None,
) -> None:
    """Add what needs the token, if there is one."""
    from fastapi import APIRouter, Depends, Query, Request
    from fastapi.responses import Response

    # Without a token nothing is checked, and the document names no need of one.
    checks = [] if token is None else [Depends(_token_check(token))]
    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": meaning} for status, meaning in _REFUSED.items()
    }
    private = APIRouter(dependencies=checks)
    responses = {200: {"model": DetectionResponse, "content": {"image/jpeg": _IMAGE}}, **problems}

    @private.post(
        "/v1/detect",
        summary="Detect objects in an image",
        response_class=Response,
        responses=responses,
        openapi_extra={"requestBody": _BODY},
    )
    async def detect(request: Request, asked: Annotated[Asked, Query()]) -> Response:
        options = _options(asked, service.engine)
        service.require_room()
        content = await image_file(request)
        write = to_jpeg if asked.annotated else partial(to_json, model=facts.model)
        work = service.detect(content, options, write, with_image=asked.annotated)
        return Response(
            await _while_connected(work, request.receive),
            media_type="image/jpeg" if asked.annotated else "application/json",
        )

    @private.get("/v1/model", summary="What the model is", responses={401: problems[401]})
    async def model() -> ModelFacts:
        return facts

    @private.get("/metrics", include_in_schema=False)
    async def counters() -> Response:
        return Response(metrics.text(), media_type=content_type())

    app.include_router(private)


def _token_check(token: str) -> Callable[..., Awaitable[None]]:
    from fastapi import Depends
    from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

    bearer = HTTPBearer(auto_error=False)

    async def check(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> None:
        sent = "" if given is None else given.credentials
        if not hmac.compare_digest(sent.encode(), token.encode()):  # takes as long for any token
            raise Refusal(401, "send the token of this server: Authorization: Bearer TOKEN")

    return check


async def _while_connected(work: Awaitable[bytes], receive: Callable[[], Awaitable[Any]]) -> bytes:
    """Return what the work gives; cancel it if the client goes away."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Refusal(499, "the client has gone")
        return await working
    finally:
        working.cancel()
        leaving.cancel()


def _options(asked: Asked, engine: Engine) -> PredictOptions:
    """Return the options of a request; raises ConfigError for those that the model has not."""
    threshold = asked.threshold
    if engine.has_masks and threshold != "best":
        default = engine.default_threshold if threshold is None else threshold
        threshold = max(float(default), LEAST_MASK_SCORE)
    return PredictOptions.of(engine, threshold, None, 1, asked.classes)


def _facts(engine: Engine, name: str, engine_name: str, limits: Limits) -> ModelFacts:
    card = engine.card
    return ModelFacts(
        model=name,
        preset=card.preset,
        source=card.source,
        license=card.license,
        classes=classes_of(engine),
        threshold=engine.default_threshold,
        has_best_thresholds=bool(card.thresholds),
        has_masks=engine.has_masks,
        engine=engine_name,
        max_bytes=limits.max_bytes,
        max_pixels=limits.max_pixels,
        version=version("setmatch"),
    )
