"""What all tests on random configs need."""

import pytest
from transformers.models.rf_detr.modeling_rf_detr import RfDetrDinov2Embeddings

from ..small_rfdetr import cut_by_columns


@pytest.fixture(autouse=True)
def _windows_of_rectangles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RfDetrDinov2Embeddings, "window_partition", cut_by_columns)
