"""Requests that are made from the OpenAPI document, valid or not, get documented responses."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from setmatch.deploy.server.app import make_app
from setmatch.deploy.server.limits import Limits
from setmatch.inference.engines.eager import as_engine

from .conftest import CalmFinder, image_bytes, with_client

EXAMPLES = 300
OPERATIONS = [("/v1/detect", "POST"), ("/v1/model", "GET"), ("/healthz", "GET")]


@pytest.mark.campaign
@pytest.mark.promise(19, cases=EXAMPLES)
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=lambda each: each)
def test_responses_are_as_documented(path: str, method: str):
    """Status, type, headers and content of each, by the checks of schemathesis."""
    schemathesis = pytest.importorskip("schemathesis")  # half a second of every process to import
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    app = make_app(as_engine(CalmFinder().eval()), "calm", limits=Limits(linger_s=0))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operation = schema[path][method]
    kinds = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    cases = st.one_of([operation.as_strategy(generation_mode=kind) for kind in kinds])

    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def check(case: object) -> None:
        # Bodies that are no images are refused, though the document cannot say so.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])  # type: ignore

    check()


def test_the_documented_response_is_that_of_an_image():
    """Generated bodies are no images, so that this one is checked by itself."""
    schemathesis = pytest.importorskip("schemathesis")
    app = make_app(as_engine(CalmFinder().eval()), "calm")
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    response = with_client(app, lambda client: client.post("/v1/detect", content=image_bytes()))
    assert response.status_code == 200
    schema["/v1/detect"]["POST"].validate_response(response)
