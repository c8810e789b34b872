"""Loading: the order of samples, and that only (seed, epoch, image) decides how they look."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from setmatch.config import DataSettings
from setmatch.data.batches.loader import Minibatch, evaluation_batches, training_batches
from setmatch.data.batches.sampler import TrainSampler, grad_accum_steps
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.open import open_dataset
from setmatch.errors import ConfigError, DataError
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.structures.metadata import Preprocessing

IMAGES = 11
PREPROCESSING = Preprocessing(64, 108)


def data(workers: int = 0, augment: str = "detr", on_bad_image: str = "stop") -> DataSettings:
    sides = {"short_side_px": 64, "long_side_px": 108}
    return DataSettings(augment=augment, workers=workers, on_bad_image=on_bad_image, **sides)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven noisy images of three shapes, with an object in every second one."""
    root = tmp_path_factory.mktemp("set")
    (root / "annotations").mkdir()
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    shapes = [((30, 40), (40, 30), (32, 32))[i % 3] for i in range(IMAGES)]
    for i, shape in enumerate(shapes):
        noise = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "images" / f"{i}.png")
    tree = {
        "images": [
            {"id": 100 + i, "file_name": f"{i}.png", "height": h, "width": w}
            for i, (h, w) in enumerate(shapes)
        ],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": i, "image_id": 100 + i, "category_id": 1, "bbox": [3, 3, 20, 20]}
            for i in range(0, IMAGES, 2)
        ],
    }
    (root / "annotations" / "train.json").write_text(json.dumps(tree))
    return root


@pytest.fixture(scope="module")
def dataset(folder: Path) -> DetectionDataset:
    return open_dataset(folder / "annotations/train.json", "train")


def batches(
    dataset: DetectionDataset,
    workers: int = 0,
    settings: DataSettings | None = None,
    **changes: int,
) -> list[Minibatch]:
    numbers = {
        "batch_size": 4,
        "micro_batch": 2,
        "rank": 0,
        "world": 1,
        "first_step": 0,
        "steps": 7,
        "seed": 5,
    }
    return list(
        training_batches(dataset, settings or data(workers), PREPROCESSING, **(numbers | changes))
    )


@pytest.fixture
def with_polygons(folder: Path, tmp_path: Path) -> DetectionDataset:
    tree = json.loads((folder / "annotations/train.json").read_text())
    for annotation in tree["annotations"]:
        annotation["segmentation"] = [[3, 3, 23, 3, 23, 23, 3, 23]]
    (tmp_path / "train.json").write_text(json.dumps(tree))
    return read_coco(tmp_path / "train.json", folder / "images")


def test_masks_are_read_only_when_requested(
    dataset: DetectionDataset, with_polygons: DetectionDataset
):
    """Images and boxes are the same; a data set without masks is refused at once."""
    plain = batches(dataset)
    masked = batches(with_polygons, masks=True)
    for one, other in zip(plain, masked, strict=True):
        assert torch.equal(one.batch.pixels, other.batch.pixels)
        for a, b in zip(one.targets, other.targets, strict=True):
            assert a.masks is None
            assert len(b) == len(b.masks)
            assert len(b) in (len(a), 0)
    assert any(len(target) for batch in masked for target in batch.targets)
    with pytest.raises(DataError, match="no masks"):
        batches(dataset, masks=True)


def same(one: Minibatch, other: Minibatch) -> bool:
    return (
        one.image_ids == other.image_ids
        and torch.equal(one.batch.pixels, other.batch.pixels)
        and torch.equal(one.batch.valid, other.batch.valid)
        and all(
            torch.equal(a.cxcywh, b.cxcywh) and torch.equal(a.classes, b.classes)
            for a, b in zip(one.targets, other.targets, strict=True)
        )
    )


def test_each_image_appears_once_per_epoch(dataset: DetectionDataset):
    """Although eleven images do not fill whole batches."""
    stream = [id_ for batch in batches(dataset, steps=11) for id_ in batch.image_ids]
    for epoch in range(4):
        ids = stream[epoch * IMAGES : (epoch + 1) * IMAGES]
        assert sorted(ids) == list(range(100, 100 + IMAGES))
    assert stream[:IMAGES] != stream[IMAGES : 2 * IMAGES]


def test_the_number_of_workers_does_not_change_samples(dataset: DetectionDataset):
    alone, helped = batches(dataset), batches(dataset, workers=2)
    assert len(alone) == len(helped) == 14
    assert all(map(same, alone, helped))


@pytest.mark.parametrize("first", [1, 3, 5])
def test_resuming_at_a_step_gives_the_uninterrupted_samples(dataset: DetectionDataset, first: int):
    whole = batches(dataset)
    assert all(map(same, whole[2 * first :], batches(dataset, first_step=first, steps=7 - first)))


def test_two_processes_together_load_the_samples_of_one(dataset: DetectionDataset):
    one = batches(dataset)
    ranks = [batches(dataset, world=2, rank=rank) for rank in (0, 1)]
    interleaved = [batch for pair in zip(*ranks, strict=True) for batch in pair]
    assert all(map(same, one, interleaved))
    assert len(interleaved) == len(one)


def test_epochs_and_seeds_augment_differently(dataset: DetectionDataset):
    by_epoch: dict[int, list[torch.Tensor]] = {}
    for batch in batches(dataset, micro_batch=1, steps=9):
        by_epoch.setdefault(batch.image_ids[0], []).append(batch.batch.pixels)
    for first, *others in by_epoch.values():  # two of them may be alike by chance
        assert any(first.shape != x.shape or not torch.equal(first, x) for x in others)
    assert not same(batches(dataset)[0], batches(dataset, seed=6)[0])


@pytest.mark.parametrize(
    ("augment", "before"), [("small", "flip"), ("detr", "flip"), ("none", "none")]
)
def test_the_first_epochs_only_flip_images(dataset: DetectionDataset, augment, before):
    """The epoch alone decides, not the step at which a run starts."""

    def seen(augment: str, after: int = 0) -> list[Minibatch]:
        settings = data(augment=augment).model_copy(update={"strong_augment_from_epoch": after})
        return batches(dataset, settings=settings, batch_size=IMAGES, micro_batch=IMAGES, steps=4)

    later = seen(augment, after=2)  # a step is an epoch
    assert all(map(same, later[:2], seen(before)[:2]))
    assert all(map(same, later[2:], seen(augment)[2:]))
    assert (augment == before) == all(map(same, later, seen(before)))


def test_the_last_epochs_only_flip_images(dataset: DetectionDataset):
    """The epochs after the fraction; all are strong if the number of epochs is not known."""

    def seen(augment: str, until: float, epochs: int | None) -> list[Minibatch]:
        settings = data(augment=augment).model_copy(update={"strong_augment_until": until})
        sizes = {"batch_size": IMAGES, "micro_batch": IMAGES, "steps": 4}  # a step is an epoch
        return batches(dataset, settings=settings, epochs=epochs, **sizes)

    strong, weak = seen("small", 1.0, 4), seen("flip", 1.0, 4)
    ended = seen("small", 0.5, 4)
    assert all(map(same, ended, [*strong[:2], *weak[2:]]))
    assert all(map(same, seen("small", 0.5, None), strong))
    assert not any(map(same, strong[2:], weak[2:]))


def test_combined_images_are_the_same_on_any_number_of_processes(dataset: DetectionDataset):
    """They come from the whole split, not the micro-batch; a run's last epochs have none."""
    combined = data(augment="small").model_copy(update={"mosaic": 1.0, "mixup": 0.5, "copies": 1.0})
    one = batches(dataset, settings=combined)
    halves = [batches(dataset, settings=combined, world=2, rank=rank) for rank in (0, 1)]
    assert all(map(same, one, [batch for pair in zip(*halves, strict=True) for batch in pair]))
    plain = batches(dataset, settings=data(augment="small"))

    def objects(of: list[Minibatch]) -> int:
        return sum(len(target) for batch in of for target in batch.targets)

    assert objects(one) > 2 * objects(plain)
    sizes = {"batch_size": IMAGES, "micro_batch": IMAGES, "steps": 4}  # a step is an epoch
    alone = batches(dataset, settings=data(augment="small"), **sizes)
    ended = batches(dataset, settings=combined, epochs=4, **sizes)
    assert not any(map(same, ended[:2], alone[:2]))
    assert all(map(same, ended[2:], alone[2:]))


@pytest.mark.parametrize("until", [0.5, 1.0])
def test_mosaics_keep_their_proportions_where_other_images_are_cropped(
    dataset: DetectionDataset, until: float
):
    """The rate of sides is that of the image, but for rounding; "ssd" crops what is no mosaic."""
    changes = {"augment": "ssd", "combine_until": until}
    sizes = {"batch_size": 1, "micro_batch": 1, "steps": 2 * IMAGES, "epochs": 2}
    ratios = {}
    for mosaic in (0.0, 1.0):
        settings = data().model_copy(update={**changes, "mosaic": mosaic})
        ratios[mosaic] = [
            _stretched(dataset, batch) for batch in batches(dataset, settings=settings, **sizes)
        ]
    assert max(ratios[1.0][:IMAGES]) < 0.05
    assert (max(ratios[1.0][IMAGES:]) < 0.05) == (until == 1.0)
    assert max(ratios[0.0]) > 0.1


def _stretched(dataset: DetectionDataset, minibatch: Minibatch) -> float:
    """How far the sides of the one image are from its proportions."""
    tall, wide = minibatch.batch.pixels.shape[-2:]
    height, width = dataset.size_px(dataset.image_ids.tolist().index(minibatch.image_ids[0]))
    return abs(math.log(tall / wide * width / height))


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_tiles_are_the_same_on_any_number_of_processes(dataset: DetectionDataset, mosaic: float):
    """Also in the middle of an epoch; and tiles of other images make a mosaic."""
    tiled = data(augment="small").model_copy(update={"tiles": 32, "mosaic": mosaic})
    one = batches(dataset, settings=tiled)
    halves = [batches(dataset, settings=tiled, world=2, rank=rank) for rank in (0, 1)]
    assert all(map(same, one, [batch for pair in zip(*halves, strict=True) for batch in pair]))
    assert all(map(same, one[2 * 4 :], batches(dataset, settings=tiled, first_step=4, steps=3)))
    whole = tiled.model_copy(update={"tiles": None})
    assert not all(map(same, one, batches(dataset, settings=whole)))
    larger = tiled.model_copy(update={"tiles": 40})  # than every image
    assert all(map(same, batches(dataset, settings=larger), batches(dataset, settings=whole)))


def test_masks_are_cut_with_their_tiles(with_polygons: DetectionDataset):
    """The masks fill their boxes, as they do in whole images."""
    tiled = data(augment="none").model_copy(update={"tiles": 32})
    cut = 0
    for batch in batches(with_polygons, settings=tiled, masks=True):
        for target in batch.targets:
            assert target.masks is not None
            for mask, box in zip(target.masks.unpack(), target.cxcywh, strict=True):
                (tall, wide), (y, x) = mask.shape, mask.nonzero(as_tuple=True)
                extent = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
                expected = cxcywh_to_xyxy(box[None])[0] * torch.tensor([wide, tall, wide, tall])
                assert (extent - expected).abs().max() <= 1.5  # of resized masks
                cut += bool((extent == 0).any())
    assert cut


@pytest.mark.parametrize("setting", ["mosaic", "mixup", "copies"])
def test_masks_are_not_combined(with_polygons: DetectionDataset, setting: str):
    with pytest.raises(ConfigError, match=r"data\.mosaic, data\.mixup and data\.copies"):
        batches(with_polygons, settings=data().model_copy(update={setting: 0.5}), masks=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_does_not_change_the_random_state(dataset: DetectionDataset, workers: int):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    batches(dataset, workers=workers, steps=2)
    list(evaluation_batches(dataset, PREPROCESSING, batch_size=4, workers=workers))
    assert torch.equal(before, torch.get_rng_state())


def test_targets_belong_to_their_images(dataset: DetectionDataset):
    for batch in batches(dataset):
        assert len(batch.targets) == len(batch.image_ids) == len(batch.batch.pixels)
        for id_, target in zip(batch.image_ids, batch.targets, strict=True):
            assert len(target) <= (id_ % 2 == 0)


def test_positions_follow_the_documented_formula():
    order = TrainSampler(100, 12, 2, rank=1, world=3, first_step=2, steps=2, seed=0)
    whole = TrainSampler(100, 12, 12, rank=0, world=1, first_step=2, steps=2, seed=0)
    stream = [place for places in whole for place in places]
    expected = [stream[t * 12 + (a * 3 + 1) * 2 :][:2] for t in (0, 1) for a in (0, 1)]
    assert list(order) == expected
    assert len(order) == 4


@pytest.mark.parametrize(("batch", "micro", "world"), [(5, 2, 1), (4, 2, 3), (2, 4, 1)])
def test_a_batch_size_that_cannot_be_divided_is_refused(
    dataset: DetectionDataset, batch: int, micro: int, world: int
):
    """The error has all three numbers and a batch size that fits."""
    with pytest.raises(
        ConfigError, match=rf"{batch} .* {micro} for {world} .*batch_size="
    ) as caught:
        batches(dataset, batch_size=batch, micro_batch=micro, world=world)
    fitting = int(str(caught.value).split("batch_size=")[1].split(",")[0])
    assert grad_accum_steps(fitting, micro, world) >= 1


@pytest.mark.crossed
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_counts_each_image_once_without_padding(
    dataset: DetectionDataset, world: int, workers: int
):
    """rf-detr #1507: over all processes each image appears once, in batches of one shape."""
    ids = []
    for rank in range(world):
        loader = evaluation_batches(
            dataset, PREPROCESSING, batch_size=3, workers=workers, rank=rank, world=world
        )
        found = list(loader)
        assert len(found) == len(loader)
        assert loader.images == sum(len(batch.image_ids) for batch in found)
        for batch in found:
            assert not batch.batch.padded
            assert len(batch.image_ids) == len(batch.sizes_px) <= 3
            assert batch.sizes_px[0] == dataset.size_px(batch.image_ids[0] - 100)
            ids += batch.image_ids
    assert sorted(ids) == list(range(100, 100 + IMAGES))


def broken(folder: Path, copy: Path, *names: str) -> DetectionDataset:
    """Copy the data set and truncate the files `names`."""
    for path in folder.rglob("*.*"):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        target.write_bytes(content[: len(content) // 2] if path.name in names else content)
    return open_dataset(copy / "annotations/train.json", "train")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_stops_training_with_its_name(
    folder: Path, tmp_path: Path, workers: int
):
    """In one line, from a worker process too."""
    dataset = broken(folder, tmp_path, "3.png")
    with pytest.raises(DataError, match=r"3\.png: cannot be read") as caught:
        batches(dataset, workers=workers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_continues_without_one_image_but_not_without_two(folder, tmp_path, workers: int):
    dataset = broken(folder, tmp_path / "one", "3.png")
    for batch_size in (1, 4):
        loader = evaluation_batches(dataset, PREPROCESSING, batch_size=batch_size, workers=workers)
        found = {id_: size for each in loader for id_, size in zip(each.image_ids, each.sizes_px)}
        assert found == {100 + i: dataset.size_px(i) for i in range(IMAGES) if i != 3}
        ((image, problem),) = loader.unreadable.items()
        assert image == 3
        assert "3.png: cannot be read" in str(problem)
    dataset = broken(folder, tmp_path / "two", "3.png", "8.png")
    with pytest.raises(DataError, match=r"2 of 11 images cannot be read: 3\.png .*, 8\.png"):
        list(evaluation_batches(dataset, PREPROCESSING, batch_size=2, workers=workers))


def skipping(
    dataset: DetectionDataset, micro_batch: int, monkeypatch: pytest.MonkeyPatch, share: float
):
    monkeypatch.setattr("setmatch.data.images.corrupt_files.UNREADABLE_AT_MOST", share)
    return training_batches(
        dataset,
        data(on_bad_image="skip"),
        PREPROCESSING,
        batch_size=2,
        micro_batch=micro_batch,
        rank=0,
        world=1,
        first_step=0,
        steps=11,
        seed=5,
    )


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_a_few_unreadable_images_can_be_skipped(folder, tmp_path, monkeypatch, micro_batch: int):
    """No micro-batch is empty, because every process must take every step."""
    loader = skipping(broken(folder, tmp_path, "3.png"), micro_batch, monkeypatch, 0.1)
    found = list(loader)
    assert len(found) == len(loader) == 22 // micro_batch
    assert all(1 <= len(batch.image_ids) <= micro_batch for batch in found)
    assert 103 not in {id_ for batch in found for id_ in batch.image_ids}
    (problem,) = loader.unreadable
    assert "3.png" in str(problem)


def test_many_unreadable_images_cannot_be_skipped(folder, tmp_path, monkeypatch):
    for count in (2, IMAGES):
        names = [f"{i}.png" for i in range(count)]
        dataset = broken(folder, tmp_path / str(count), *names)
        with pytest.raises(DataError, match=rf"{count} of 11 images cannot .* at most 10%"):
            list(skipping(dataset, 2, monkeypatch, 0.1))


def test_without_skipping_one_unreadable_image_stops_training(
    folder: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("setmatch.data.images.corrupt_files.UNREADABLE_AT_MOST", 0.5)
    dataset = broken(folder, tmp_path, "3.png")
    settings = {"batch_size": 2, "micro_batch": 2, "rank": 0, "world": 1, "seed": 5}
    strict = data().model_copy(update={"on_bad_image": "stop"})
    span = {"first_step": 0, "steps": 11}
    with pytest.raises(DataError, match=r"3\.png: cannot be read"):
        list(training_batches(dataset, strict, PREPROCESSING, **settings, **span))


@pytest.mark.parametrize("workers", [0, 2])
def test_objects_dropped_by_augmentation_are_counted(dataset: DetectionDataset, workers: int):
    loader = training_batches(
        dataset,
        data(workers),
        PREPROCESSING,
        batch_size=2,
        micro_batch=2,
        rank=0,
        world=1,
        first_step=0,
        steps=55,
        seed=5,
    )
    remaining = sum(len(target) for batch in loader for target in batch.targets)
    assert loader.augmentation_stats.objects == 10 * sum(
        len(dataset.target(i)) for i in range(len(dataset))
    )
    assert loader.augmentation_stats.objects - loader.augmentation_stats.dropped == remaining
    assert loader.augmentation_stats.clipped > 0


def test_a_batch_moves_to_a_device_completely(dataset: DetectionDataset):
    moved = batches(dataset)[0].to("meta")
    assert moved.batch.pixels.device.type == "meta"
    assert all(target.cxcywh.device.type == "meta" for target in moved.targets)
    assert moved.image_ids == batches(dataset)[0].image_ids


@pytest.mark.thorough
def test_workers_start_from_a_script_without_a_main_guard(folder: Path):
    script = (
        "import sys; from setmatch.data.open import open_dataset;"
        "from setmatch.data.batches.loader import evaluation_batches;"
        "from setmatch.structures.metadata import Preprocessing;"
        "dataset = open_dataset(sys.argv[1], 'train');"
        "loader = evaluation_batches(dataset, Preprocessing(64, 108), batch_size=2, workers=2);"
        "print(sum(len(batch.image_ids) for batch in loader))"
    )
    command = [sys.executable, "-c", script, str(folder / "annotations/train.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(IMAGES)
