"""What holds for every test: shapes are checked, one thread, no network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("setmatch", "beartype.beartype")

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)

# The first example pays for imports and caches, so that a deadline would only measure the machine.
settings.register_profile("setmatch", deadline=None)
settings.load_profile("setmatch")
