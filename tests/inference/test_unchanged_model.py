"""Running a model never changes it, whatever its mode, and however many threads run it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import setmatch as sm
from fake_detectors import BOX, RedFinder, red_box_image, to_pil
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import ConfigError
from setmatch.evaluation.compare.compare import compare
from setmatch.explanation.queries.usage import study_queries
from setmatch.inference.engines.eager import EagerEngine, evaluation_copy
from setmatch.inference.predict_folder import predict_folder
from setmatch.models.detector import Detector
from setmatch.models.registry import build
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

SHAPE = {"dim": 32, "heads": 4, "ffn_dim": 32, "num_queries": 5, "decoder_layers": 1}
SHAPES = Categories((1, 2), ("circle", "square"))


def training_model(preset: str = "setmatch_n") -> Detector:
    """A model with batch norms in training mode, but for one part, as a user may freeze it."""
    torch.manual_seed(0)
    shape = SHAPE if preset == "setmatch_n" else {}
    model = build(ModelCard(preset, shape, SHAPES, Preprocessing(64, 64))).train()
    next(model.backbone.children()).eval()
    return model


def state_of(model: nn.Module) -> list[Any]:
    tensors = [(key, value.clone()) for key, value in model.state_dict().items()]
    modes = [(part.training, len(part._forward_pre_hooks)) for part in model.modules()]
    return [tensors, modes, [parameter.requires_grad for parameter in model.parameters()]]


def same(before: list[Any], after: list[Any]) -> bool:
    tensors = zip(before[0], after[0], strict=True)
    return before[1:] == after[1:] and all(torch.equal(a[1], b[1]) for a, b in tensors)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_scenes(folder, 1, 2, 64, seed=0, workers=0)
    return folder


USES: dict[str, Callable[[Any, Path, Path], object]] = {
    "predict": lambda model, data, out: sm.predict(model, data),
    "predict_folder": lambda model, data, out: predict_folder(model, [data], out, progress=False),
    "evaluate": lambda model, data, out: sm.evaluate(model, data, workers=0),
    "explain": lambda model, data, out: sm.explain(model, next((data / "images").rglob("*_*"))),
    "queries": lambda model, data, out: study_queries(model, open_dataset(data, "val"), workers=0),
    "compare": lambda model, data, out: compare([model], data, rounds=1, workers=0),
    "engine": lambda model, data, out: EagerEngine(model).detect(
        Batch.from_images([torch.zeros(3, 64, 64)]), [(64, 64)]
    ),
}


@pytest.mark.parametrize("use", USES)
def test_a_model_in_training_mode_is_not_changed_even_for_a_moment(
    use: str, data: Path, tmp_path: Path
):
    """Another thread that trains it would notice: modes, hooks, gradients and statistics stay."""
    model = training_model()
    before, seen = state_of(model), []

    def look(module: nn.Module, *rest: Any) -> None:
        seen.append((module is not model, module.training, state_of(model)))

    model.register_forward_hook(look)
    USES[use](model, data, tmp_path)
    assert seen
    for is_copy, training, during in seen:
        assert is_copy
        assert not training
        assert same(before, during)
    assert same(before, state_of(model))


@pytest.mark.parametrize("preset", ["setmatch_n", "detr_nano", "ssdlite_mobilenet_v3"])
def test_a_copy_for_evaluation_shares_all_weights(preset: str):
    """It costs no memory for weights, and follows the optimizer."""
    model = training_model(preset)
    copied = evaluation_copy(model)
    ours, theirs = dict(model.state_dict()), dict(copied.state_dict())
    assert ours.keys() == theirs.keys()
    assert all(ours[key].data_ptr() == theirs[key].data_ptr() for key in ours)
    assert not any(part.training for part in copied.modules())
    assert not any(parameter.requires_grad for parameter in copied.parameters())


def test_a_model_in_evaluation_mode_is_used_as_it_is():
    """Nothing is copied where nothing could change."""
    model = RedFinder().eval()
    seen: list[bool] = []
    model.register_forward_hook(lambda module, *rest: seen.append(module is model))
    sm.predict(model, red_box_image(64, 96, BOX))
    assert seen == [True]


def test_a_prediction_that_ends_does_not_change_the_mode_of_another():
    """A second thread is still in its forward pass when the first has returned."""
    second_inside, first_done = threading.Event(), threading.Event()
    modes: list[bool] = []

    class Waiting(RedFinder):
        def forward(self, batch: Batch) -> Any:
            if threading.current_thread().name == "first":
                assert second_inside.wait(60)
            else:
                second_inside.set()
                assert first_done.wait(60)
                modes.append(self.training)
            return super().forward(batch)

    model = Waiting().train()

    def first() -> None:
        sm.predict(model, red_box_image(64, 96, BOX))
        first_done.set()

    thread = threading.Thread(target=first, name="first")
    thread.start()
    found = sm.predict(model, red_box_image(64, 96, BOX))
    thread.join()
    assert modes == [False]
    assert model.training
    assert found.xyxy_px[0].tolist() == pytest.approx(list(BOX), abs=1e-3)


def test_threads_get_the_detections_of_one_thread():
    """Predictions and explanations of one training model at once; its statistics stay."""
    model, image = training_model(), red_box_image(64, 96, BOX)
    before = state_of(model)
    expected = sm.predict(model, image).scores
    maps = sm.explain(model, to_pil(image)).trace.encoder
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(sm.predict, model, image) for _ in range(8)]
        explained = [pool.submit(sm.explain, model, to_pil(image)) for _ in range(4)]
    assert all(torch.equal(each.result().scores, expected) for each in found)
    assert all(torch.equal(each.result().trace.encoder, maps) for each in explained)
    assert same(before, state_of(model))


def test_a_model_that_cannot_be_copied_is_refused_only_where_a_copy_is_needed():
    model = RedFinder().train()
    model.lock = threading.Lock()
    with pytest.raises(ConfigError, match=r"RedFinder: .*call model\.eval\(\)"):
        sm.predict(model, red_box_image(64, 96, BOX))
    assert len(sm.predict(model.eval(), red_box_image(64, 96, BOX))) == 1


def test_activations_that_a_training_model_keeps_do_not_hinder_a_copy():
    """Tensors with a history cannot be copied, so they are shared."""
    model = RedFinder().train()
    model.last = torch.ones(2, requires_grad=True) * 2
    assert len(sm.predict(model, red_box_image(64, 96, BOX))) == 1
