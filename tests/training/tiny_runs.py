"""A detector of 14,000 parameters, data for it, and processes that train it and can be killed."""

import json
import multiprocessing
import os
import signal
import socket
import sys
import time

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from setmatch.errors import SetmatchError
from setmatch.files.manifest import read_manifest
from setmatch.losses.classification import Softmax
from setmatch.models.backbones.resnet import Backbone
from setmatch.models.detr.config import DetrShape
from setmatch.models.detr.model import DETR
from setmatch.models.detr.presets import _decoder_layers, _encoder_layers
from setmatch.models.layers.attention.attention import PostNorm
from setmatch.models.layers.attention.position_encoding import PositionAtAttention, SinePosition
from setmatch.models.layers.decoders.transformer_decoder import Decoder
from setmatch.models.layers.encoders.transformer_encoder import Encoder
from setmatch.models.layers.heads.detr_mask_head import DETRMaskHead
from setmatch.models.layers.heads.heads import BoxHead
from setmatch.models.layers.queries.queries import LearnedQueries
from setmatch.models.registry import BOX_PRESETS, MODELS
from setmatch.models.torchvision.config import BaselineShape
from setmatch.models.torchvision.model import TorchvisionDetector
from setmatch.training.checkpoints.checkpoint import latest_valid
from setmatch.training.logging.writers import read_rows
from setmatch.training.step import TrainStep
from setmatch.training.train import train

SHAPE = DetrShape(
    num_queries=6, dim=16, heads=2, encoder_layers=1, decoder_layers=2, ffn_dim=16, dropout=0.0
)


class TinyBackbone(Backbone):
    """One convolution, with or without a trained norm."""

    def __init__(self, norm):
        nn.Module.__init__(self)
        self.body = nn.Module()
        self.body.conv1 = nn.Conv2d(3, 8, 16, stride=16)
        self.body.bn1 = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.channels = (8,)

    def forward(self, pixels):
        return (self.body.bn1(self.body.conv1(pixels)).relu(),)


def _tiny(backbone, num_classes, shape):
    return DETR(
        backbone,
        PositionAtAttention(8, shape.dim, SinePosition(shape.dim)),
        Encoder(_encoder_layers(shape, PostNorm), nn.Identity()),
        LearnedQueries(shape.num_queries, shape.dim),
        Decoder(_decoder_layers(shape, PostNorm), shape.dim),
        nn.Linear(shape.dim, Softmax().num_logits(num_classes)),
        BoxHead(shape.dim, shape.dim, shape.dim, 4),
        Softmax(),
        shape.num_queries,
    )


class FragileBackbone(TinyBackbone):
    """Returns NaN features for an all-white image, like an overflow would."""

    def forward(self, pixels):
        (features,) = super().forward(pixels)
        white = pixels.amin((1, 2, 3), keepdim=True) > 2  # in normalized values
        return (features.masked_fill(white, float("nan")),)


def tiny(num_classes, shape=SHAPE):
    return _tiny(TinyBackbone(norm=False), num_classes, shape)


def tiny_norm(num_classes, shape=SHAPE):
    return _tiny(TinyBackbone(norm=True), num_classes, shape)


def tiny_fragile(num_classes, shape=SHAPE):
    return _tiny(FragileBackbone(norm=True), num_classes, shape)


SIX_BOXES = BaselineShape(6)


def tiny_baseline(num_classes, shape=SIX_BOXES):
    """A Faster R-CNN of 40,000 parameters with two levels of anchors on one map of stride 8."""
    backbone = nn.Sequential(nn.Conv2d(3, 16, 8, stride=8), nn.BatchNorm2d(16), nn.ReLU())
    backbone.out_channels = 16
    with torch.device("cpu"):
        anchors = AnchorGenerator(((16, 24),), ((1.0,),))
    network = FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=5, sampling_ratio=2),
        box_head=TwoMLPHead(16 * 25, 64),
        box_predictor=FastRCNNPredictor(64, num_classes + 1),
        rpn_post_nms_top_n_train=50,
        rpn_post_nms_top_n_test=50,
        box_detections_per_img=shape.num_detections,
    )
    return TorchvisionDetector(network, shape.num_detections, 8)


class TinyPyramid(TinyBackbone):
    """The tiny backbone with three finer levels: the downscaled image, without parameters."""

    def forward(self, pixels):
        finer = [F.avg_pool2d(pixels, stride) for stride in (2, 4, 8)]
        return (*finer, *super().forward(pixels))


def tiny_panoptic(num_classes, shape=SHAPE):
    model = tiny(num_classes, shape)
    model.backbone = TinyPyramid(norm=False)
    model.mask_head = DETRMaskHead(shape.dim, shape.heads, (3, 3, 3))
    return model


PRESETS = {
    "tiny": tiny,
    "tiny_norm": tiny_norm,
    "tiny_fragile": tiny_fragile,
    "tiny_baseline": tiny_baseline,
    "tiny_panoptic": tiny_panoptic,
}
BOXES = {"tiny_panoptic": "tiny"}

RECIPE = {
    "model": {"preset": "tiny", "arguments": {"dropout": 0.1}},
    "data": {"augment": "none", "short_side_px": 64, "long_side_px": 64, "workers": 0},
    "train": {
        "epochs": 3,
        "batch_size": 4,
        "micro_batch": 2,
        "lr": 1e-3,
        "backbone_lr": 1e-3,
        "precision": "float32",
        "checkpoint_every": 3,
        "log_every": 2,
        "ema_decay": 0.99,
    },
}


def write_data(folder, images=10, splits=("train",), size=64, white=()):
    """Write bright squares on noise as COCO, with gaps in its ids; image i has i % 3 objects.

    Images in `white` are all white.
    """
    for split in splits:
        random = np.random.default_rng(len(split))
        tree = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 3, "name": "square"}, {"id": 7, "name": "other"}],
        }
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "annotations").mkdir(exist_ok=True)
        for image in range(images):
            pixels = random.integers(0, 60, (size, size, 3), dtype=np.uint8)
            name = f"{split}_{image}.png"
            for _ in range(image % 3):
                x, y = random.integers(0, size - 20, 2).tolist()
                pixels[y : y + 20, x : x + 16] = random.integers(150, 255, 3)
                tree["annotations"].append(
                    {
                        "id": len(tree["annotations"]) + 1,
                        "image_id": image + 100,
                        "category_id": 3 if x % 2 else 7,
                        "bbox": [x, y, 16, 20],
                        "area": 320,
                        "iscrowd": 0,
                    }
                )
            if image in white:
                pixels[:] = 255
            Image.fromarray(pixels).save(folder / "images" / name)
            tree["images"].append(
                {"id": image + 100, "file_name": name, "width": size, "height": size}
            )
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(tree))
    return folder


STAGES = RECIPE | {
    "model": {"preset": "tiny_panoptic", "arguments": {"dropout": 0.1}},
    "box_stage": RECIPE["train"] | {"epochs": 1, "checkpoint_every": 1},
    "train": RECIPE["train"] | {"train_only": "masks", "epochs": 2, "lr": 1e-2},
}


def run_tiny(data, out, *overrides, resume=False, weights="none", **options):
    """Train the tiny detector on `data` in this process."""
    return train(
        data,
        out=out,
        weights=weights,
        recipe=RECIPE,
        overrides=overrides,
        resume=resume,
        device="cpu",
        **options,
    )


def run_stages(data, out, *overrides, recipe=STAGES, weights="none", **options):
    return train(
        data, out=out, weights=weights, recipe=recipe, overrides=overrides, device="cpu", **options
    )


def log_rows(run):
    """Return the rows of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


class CrashError(Exception):
    """Simulates a power cut: nothing catches it or cleans up."""


def crash_before(step, monkeypatch):
    """Crash the next run before `step`."""
    original, done = TrainStep.step, []

    def patched(self, *arguments):
        if len(done) == step:
            raise CrashError
        done.append(step)
        return original(self, *arguments)

    monkeypatch.setattr(TrainStep, "step", patched)


def final_state(run):
    """Return every tensor and value of the newest checkpoint, flat, by name."""
    folder = latest_valid(run).folder
    state = torch.load(folder / "trainer.pt", weights_only=True)
    return _flat({"trainer": state, "weights": load_file(folder / "model.safetensors")})


def assert_bit_equal(run, other):
    """Compare the newest checkpoints of two runs: the step, and every value bit for bit."""
    assert latest_valid(run).step == latest_valid(other).step
    mine, theirs = final_state(run), final_state(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        if name.startswith("trainer.progress.") and name.endswith("_s"):
            continue  # times differ between runs
        same = torch.equal(value, theirs[name]) if torch.is_tensor(value) else value == theirs[name]
        assert same, name


def assert_same_run(run, other):
    """State and best weights are bit-equal, the log is equal, and there are no other files."""
    assert_bit_equal(run, other)
    for name in ("model.safetensors", "metrics.json"):
        assert (run / "best" / name).read_bytes() == (other / "best" / name).read_bytes(), name
    rows = [
        [{**row, "images_per_s": 0, "seconds": 0} for row in log_rows(each)]
        for each in (run, other)
    ]
    assert rows[0] == rows[1]
    assert sorted(p.name for p in run.rglob("*")) == sorted(p.name for p in other.rglob("*"))
    for folder in (run / "best", *(run / "checkpoints").iterdir()):
        read_manifest(folder)


def _flat(tree, prefix=""):
    flat = {}
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        name = f"{prefix}{key}"
        nested = isinstance(value, dict | list | tuple)
        flat |= _flat(value, f"{name}.") if nested else {name: value}
    return flat


def main(out, data, overrides, environment, log, weights="none"):
    """Run one process of a training run; its stderr goes to the file `log`."""
    start_rank(environment, log)
    MODELS.update(PRESETS)
    BOX_PRESETS.update(BOXES)
    sys.exit(_exit_code(data, out, overrides, weights))


def start_rank(environment, log):
    """Make this process one of several that train; its stderr goes to the file `log`."""
    os.environ.update(environment)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 2)
    torch.set_num_threads(1)
    if os.getpid() != os.getsid(0):
        os.setpgid(0, 0)  # its own process group, like a shell's job
    multiprocessing.set_start_method("fork", force=True)  # as in a process started by a shell


def tuning_main(out, data, overrides, environment, log):
    """Run one process of a run that starts from the run "first" beside it."""
    main(out, data, overrides, environment, log, weights=out.parent / "first")


def _exit_code(data, out, overrides, weights):
    try:
        run_tiny(data, out, *overrides, resume=True, weights=weights)
    except SetmatchError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


class Processes:
    """A run of one or more processes, started as by torchrun, and resumed if the run exists.

    They are forked from a server that has imported torch, but not used it.
    """

    def __init__(self, out, data, *overrides, world=1, main=main):
        self.out = out
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self._logs = [out.with_name(f"{out.name}_log_{rank}") for rank in range(world)]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["setmatch.training.train"])
        rendezvous = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(world),
        }
        self.ranks = [
            context.Process(
                target=main,
                args=(
                    out,
                    data,
                    overrides,
                    {**rendezvous, "RANK": str(r), "LOCAL_RANK": str(r)},
                    log,
                ),
            )
            for r, log in enumerate(self._logs)
        ]
        for process in self.ranks:
            process.start()

    def wait_for_step(self, steps):
        """Wait until the log has a row of step `steps` or later."""
        while all(process.is_alive() for process in self.ranks):
            log = self.out / "log.jsonl"
            if log.exists() and any(row["step"] >= steps for row in read_rows(log, 10**9)):
                return
            time.sleep(0.01)

    def kill(self, rank=0, number=signal.SIGKILL):
        """Send a signal to one process, if it still runs."""
        if self.ranks[rank].is_alive():
            os.kill(self.ranks[rank].pid, number)

    def wait(self, seconds=100):
        """Return the exit code and the stderr of each rank."""
        for process in self.ranks:
            process.join(seconds)
        outputs = [path.read_text() if path.exists() else "" for path in self._logs]
        return [process.exitcode for process in self.ranks], outputs
