"""A package of compiled code is refused unless it is trusted, and is a model like any other."""

import dataclasses
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import setmatch as sm
from checked_types import unchecked
from setmatch.cli import main
from setmatch.data.synthetic.scenes import scene
from setmatch.deploy import load as loading
from setmatch.deploy.export import export
from setmatch.deploy.formats.card import exported_card
from setmatch.deploy.formats.torch_package import TORCH, TorchPackage
from setmatch.errors import ConfigError, VerificationError, WeightsError
from setmatch.inference.engines import torch_session
from setmatch.inference.engines.compiled import CompiledEngine
from setmatch.inference.engines.torch_session import CARD, TorchSession, processor
from setmatch.models.detector import Detector
from setmatch.structures.batch import Batch

pytestmark = pytest.mark.thorough  # to compile even this takes seconds
SIZE_PX = (96, 128)


class Brightness(nn.Module):
    """What a detector returns, from the brightness of each image alone: it compiles in seconds."""

    def __init__(self, queries: int, classes: int) -> None:
        super().__init__()
        self.shape = (queries, classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        mean = pixels.mean((1, 2, 3))[:, None, None]
        queries, classes = self.shape
        box = torch.tensor([0.5, 0.5, 0.2, 0.2]).expand(pixels.shape[0], queries, 4)
        return mean.expand(-1, queries, classes).contiguous(), (box + 0.001 * mean).contiguous()


@pytest.fixture(scope="session")
def package(scenes_n: Detector) -> TorchPackage:
    """A program with the card of a detector for images of one size."""
    with unchecked():
        card = exported_card(scenes_n, SIZE_PX, False, ("torch",), {"processor": processor()})
        model = Brightness(card.num_queries, len(card.card.categories.names))
        free = {0: torch.export.Dim.DYNAMIC}
        pixels = torch.zeros(2, 3, *SIZE_PX)
        return TorchPackage(torch.export.export(model, (pixels,), dynamic_shapes=(free,)), card)


@pytest.fixture(scope="session")
def package_pt2(package: TorchPackage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "model.pt2"
    package.save(path)
    return path


@pytest.fixture
def pt2(package_pt2: Path, tmp_path: Path) -> Path:
    """A copy, which a test may damage."""
    return Path(shutil.copy(package_pt2, tmp_path / "model.pt2"))


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The packages whose code ran; and none is trusted when a test begins."""
    paths: list[str] = []
    load = torch._inductor.aoti_load_package

    def recorded(path: str, *others: object) -> object:
        paths.append(path)
        return load(path, *others)

    monkeypatch.setattr(torch._inductor, "aoti_load_package", recorded)
    monkeypatch.setattr(torch_session, "_TRUSTED", set())
    return paths


def test_code_does_not_run_unless_it_is_trusted(
    pt2: Path, tmp_path: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]
):
    """The message says why, and how to trust the file; other files are not trusted with it."""
    with pytest.raises(ConfigError, match=r"compiled code, .* trust=True .* --trust"):
        sm.load(pt2)
    Image.fromarray(scene((1, 0), 200).pixels).save(tmp_path / "a.png")
    other = shutil.copy(pt2, tmp_path / "other.pt2")
    arguments = ["predict", str(pt2), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    capsys.readouterr()
    for trusted in ([], ["--trust", str(other)], ["--trust"]):
        assert main([*arguments, *trusted]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert loaded == []
    assert main([*arguments, "--trust", str(pt2), "--threshold", "0.1"]) == 0
    assert loaded == [str(pt2)]
    assert isinstance(sm.load(pt2, trust=True), CompiledEngine)


def test_a_package_is_an_engine(package: TorchPackage, pt2: Path, scenes_n: Detector):
    """It has the card inside, and predicts as the program, for batches and threads."""
    engine = sm.load(pt2, trust=True)
    assert engine.card.categories == scenes_n.card.categories
    batch = Batch.from_images(list(torch.rand(3, 3, *SIZE_PX)))
    logits, cxcywh = package.program.module()(batch.pixels)
    given = engine.predict(batch)
    assert torch.allclose(given.logits[0], logits, atol=1e-6)
    assert torch.allclose(given.cxcywh[0], cxcywh, atol=1e-6)
    assert len(sm.predict(engine, scene((1, 0), 100).pixels, threshold=0.0)) > 0


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 3, 96, 127), (1, 1, 96, 128)])
def test_a_shape_that_it_was_not_compiled_for_is_refused(pt2: Path, shape: tuple[int, ...]):
    """Compiled code would read beyond the image, and never says."""
    session = TorchSession(pt2, trust=True)
    with pytest.raises(ConfigError, match=r"does not run on pixels .*: it takes .* of 96x128"):
        session.run(["logits"], {"pixels": torch.zeros(shape).numpy()})
    with pytest.raises(ConfigError, match="it takes float32 images"):
        session.run(["logits"], {"pixels": torch.zeros(1, 3, *SIZE_PX).double().numpy()})


def change_card(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                if name.endswith(CARD):
                    assert old in content.decode()
                    content = content.decode().replace(old, new).encode()
                if content:
                    archive.writestr(name, content)

    return change


def cut(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def foreign(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data/aotinductor/model.so", "code")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (foreign, WeightsError, "not exported by setmatch: its archive has no entry"),
        (flip_a_bit, WeightsError, "damaged"),
        (change_card("setmatch-export-1", "setmatch-export-9"), WeightsError, "a newer setmatch"),
        (change_card(processor(), "a quantum computer"), ConfigError, "compiled for a processor"),
        (lambda path: path.write_text("no archive"), WeightsError, "not a package of PyTorch"),
        *((cut(share), WeightsError, "model.pt2: damaged") for share in (0.0, 0.3, 0.9, 0.999)),
    ],
)
def test_a_file_that_is_not_ours_or_damaged_is_refused_before_its_code_runs(
    pt2: Path, change, error: type, message: str, loaded: list[str]
):
    change(pt2)
    with pytest.raises(error, match=message):
        sm.load(pt2, trust=True)
    assert loaded == []


class Copied:
    """A package that is there, for compiling takes long."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, path: Path) -> None:
        shutil.copy(self.path, path)

    def first_difference(self, pixels: Tensor) -> str:
        return "compiled code has no parts"


def test_a_package_that_differs_is_not_left(
    scenes_n: Detector, package_pt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import setmatch.deploy.export as module

    kind = dataclasses.replace(TORCH, build=lambda *others: Copied(package_pt2))
    monkeypatch.setattr(module, "FORMATS", [kind])
    with pytest.raises(VerificationError, match="compiled code has no parts"):
        export(scenes_n, tmp_path / "detector.pt2", to="torch")
    assert list(tmp_path.iterdir()) == []


def test_what_a_package_cannot_be_is_refused_at_once(
    scenes_n: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """End to end, or without a compiler."""
    with pytest.raises(ConfigError, match="leave out end_to_end"):
        export(scenes_n, tmp_path / "detector.pt2", end_to_end=True)
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no_such_compiler",))
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler"):
        export(scenes_n, tmp_path / "detector.pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_cached_package_of_another_user_does_not_run(
    package_pt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[str]
):
    """The cache may lie in a folder that others write into."""
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path))
    monkeypatch.setattr("setmatch.deploy.export.verify", lambda *others: [])
    kind = dataclasses.replace(TORCH, build=lambda *others: Copied(package_pt2))
    monkeypatch.setitem(loading.KINDS, "compiled", kind)
    assert isinstance(sm.load("scenes_n", engine="compiled"), CompiledEngine)
    loaded.clear()
    (path,) = tmp_path.glob("engines/*/torch-*/model.pt2")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="other users may have written it"):
        sm.load("scenes_n", engine="compiled")
    assert loaded == []
