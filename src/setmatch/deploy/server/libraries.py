"""The libraries of the server, which are an extra."""

from importlib.util import find_spec

from setmatch.errors import ExtraMissingError

LIBRARIES = {  # the name of each module, and of its package
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}


def require_libraries() -> None:
    """Raise ExtraMissingError if a library of the server is not installed."""
    missing = [package for module, package in LIBRARIES.items() if find_spec(module) is None]
    if missing:
        raise ExtraMissingError(
            f"a server needs {', '.join(missing)}: pip install 'setmatch[serve]'"
        )
