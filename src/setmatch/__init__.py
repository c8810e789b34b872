"""Detection transformers, trained by matching sets of predictions to sets of objects.

`__init__.pyi` lists the public names. Each is imported when it is first used, so that
`import setmatch` costs little and `setmatch --help` needs no torch.
"""

from typing import Any

import lazy_loader

_import_name, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]


def __getattr__(name: str) -> Any:
    if name != "__version__":
        return _import_name(name)
    from importlib.metadata import version

    return version("setmatch")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
