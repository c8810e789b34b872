"""A file of weights costs at most about its own size before it is refused."""

import pickle
import re
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from setmatch.errors import WeightsError
from setmatch.models.load import read as load_weights
from setmatch.models.weights.fit import fit
from setmatch.models.weights.tensor_files import read_pickle, require_plain_tensors

HUGE = 20_000_000_000  # bytes; more than a test may touch


class Allocation:
    """Pickles as bytearray(HUGE): plain data to torch, and 20 GB of memory."""

    def __reduce__(self):
        return (bytearray, (HUGE,))


def read(path: Path) -> dict[str, torch.Tensor]:
    return require_plain_tensors(read_pickle(path), path)


def rewrite(path: Path, compression: int, extra: bytes = b"") -> None:
    """Write the entries of a torch file again, as another zip file."""
    with zipfile.ZipFile(path) as old:
        entries = [(entry.filename, old.read(entry)) for entry in old.infolist()]
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, data in entries:
            new.writestr(name, data + extra if "/data/" in name else data)


@pytest.fixture
def bounded_memory():
    """Any large allocation fails instead of filling the machine's memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2_000_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_an_ordinary_file_is_read(tmp_path: Path):
    tied = torch.rand(4, 3)
    torch.save({"a": tied, "b": tied, "c": tied.T, "d": tied[1:]}, tmp_path / "a.pth")
    assert all(torch.equal(v, tied) for k, v in read(tmp_path / "a.pth").items() if k in "ab")
    torch.save({"a": tied}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read(tmp_path / "old.pth")["a"], tied)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_changed_bit_is_found_or_changes_no_tensor(checked: Path, place: float, bit: int):
    """torch itself reads most of them as other numbers."""
    damaged = bytearray(checked.read_bytes())
    damaged[int(place * len(damaged))] ^= 1 << bit
    path = checked.with_name("damaged.pth")
    path.write_bytes(damaged)
    expected = read(checked)
    try:
        found = read(path)
    except WeightsError:
        return
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checked") / "a.pth"
    torch.save({"a": torch.rand(50, 20), "b": torch.arange(300)}, path)
    return path


def test_a_file_without_checksums_is_read(checked: Path, tmp_path: Path):
    content = read(checked)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    found = read(tmp_path / "a.pth")
    assert all(torch.equal(found[name], value) for name, value in content.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_asks_for_memory_is_refused(tmp_path: Path, zipped: bool, bounded_memory):
    torch.save({"a": Allocation()}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"a\.pth: refused, its pickle is not plain data"):
        read(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps({"a": Allocation()}, protocol=2))
    with pytest.raises(WeightsError, match=r"b\.pth"):
        read(tmp_path / "b.pth")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_file_is_refused(tmp_path: Path, compression: int):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pth")
    rewrite(tmp_path / "a.pth", compression, b"\0" * 10_000_000)
    assert (tmp_path / "a.pth").stat().st_size < 100_000
    with pytest.raises(WeightsError, match="is compressed and may be far larger"):
        read(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(HUGE),
        torch.zeros(1, 1).expand(10**6, 10**6),
        torch.zeros(10).as_strided((10, 10), (1, 0)),
        torch.zeros(1, dtype=torch.half).expand(7),
    ],
)
def test_a_tensor_that_repeats_a_smaller_one_is_refused(tmp_path: Path, tensor, bounded_memory):
    torch.save({"a": tensor}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"tensor 'a' of shape .* repeats a smaller one"):
        read(tmp_path / "a.pth")


def test_tensors_that_share_memory_over_and_over_are_refused(tmp_path: Path):
    one = torch.zeros(100_000)
    torch.save({str(i): one for i in range(50)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="far more than the file has"):
        read(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.empty(3, device="meta"),
        lambda: torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "quantized"],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # it will leave PyTorch
def test_a_tensor_of_another_kind_is_refused(tmp_path: Path, make: Callable[[], torch.Tensor]):
    torch.save({"a": make()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"sparse, quantized or without values|damaged"):
        read(tmp_path / "a.pth")


def test_code_that_is_refused_comes_with_advice(tmp_path: Path):
    torch.save({"model": {"a": re.compile("a")}}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"would run re\._compile.*model\.state_dict\(\)"):
        read(tmp_path / "a.pth")


@pytest.mark.parametrize("beside", [{}, {"class_embed.weight": torch.ones(3, 4)}])
def test_a_tensor_with_an_endless_name_is_shown_by_its_beginning(
    tmp_path: Path, beside: dict[str, torch.Tensor]
):
    torch.save({"model": beside | {"x" * 10**6: torch.ones(1)}}, tmp_path / "a.pth")
    with pytest.raises(WeightsError) as caught:
        load_weights(tmp_path / "a.pth")
    assert len(str(caught.value)) < 1000 + len(str(tmp_path))


def test_an_unknown_tensor_of_our_own_layout_is_shown_by_its_beginning():
    card = load_weights("scenes_n").card
    with pytest.raises(WeightsError, match=r"x is unknown|is missing") as caught:
        fit(card, {"x" * 10**6: torch.ones(1)}, "a file")
    assert len(str(caught.value)) < 1000
