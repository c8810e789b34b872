"""Models of Ultralytics, by an executable given on the command line.

Ultralytics' license keeps it out of this repository and its environments; this file only calls an
installation elsewhere. It reads data written by `convert-data`, trains by its own recipe from
random weights, and writes detections that our evaluator reads.
"""

import csv
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from candidates.experiment import (
    Experiment,
    Result,
    ValPoint,
    best_index,
    evaluate_detections,
    val_point,
    write_json,
)
from setmatch.data.convert import convert_dataset

STEP_PX = 32  # sides must be multiples of it
VAL_POINTS = 6


@dataclass(frozen=True)
class Ultralytics:
    """A model's YAML name, and its input size as a factor of the experiment's."""

    model: str
    executable: Path
    enlarge: float = 1.0

    @property
    def name(self) -> str:
        """Return the model's name with its size factor."""
        return self.model if self.enlarge == 1 else f"{self.model}x{self.enlarge:g}"

    def command(self, experiment: Experiment, folder: Path) -> list[str]:
        """Convert the data, and return the training command."""
        data = folder / "data"
        if not data.exists():
            convert_dataset(experiment.data, data, "yolo")
        settings = {
            "model": f"{self.model}.yaml",
            "data": (data / "data.yaml").resolve(),
            "pretrained": False,
            "time": f"{experiment.minutes / 60:.6f}",
            "imgsz": self._side_px(experiment),
            "seed": experiment.seed,
            "val": False,
            "save_period": 1,
            "project": folder.resolve(),
            "name": "run",
        }
        return experiment.clocked(
            self.executable.with_name("python"), self._command("train", settings)
        )

    def evaluate(self, experiment: Experiment, folder: Path) -> Result:
        """Evaluate the weights of some epochs on the validation split, the best on test."""
        lines = (folder / "run" / "results.csv").read_text().splitlines()
        rows = csv.DictReader(lines, skipinitialspace=True)
        epochs = [(float(row["time"]) / 60, int(row["epoch"])) for row in rows]
        wanted = [experiment.minutes * number / VAL_POINTS for number in range(1, VAL_POINTS + 1)]
        chosen = sorted({min(epochs, key=lambda each: abs(each[0] - m)) for m in wanted})
        val: list[ValPoint] = []
        for minutes, epoch in chosen:
            val.append(
                val_point(minutes, self._detections(experiment, folder, epoch, "val"), experiment)
            )
        test = {}
        if experiment.test:
            epoch = chosen[best_index(val)][1]
            test = evaluate_detections(
                self._detections(experiment, folder, epoch, "test"), experiment, "test"
            )
        return Result(tuple(val), test, epochs[-1][1], {"square_px": self._side_px(experiment)})

    def _detections(self, experiment: Experiment, folder: Path, epoch: int, split: str) -> Path:
        """Return the file of detections by the weights after `epoch`; create it if needed."""
        found = folder / f"{split}_{epoch}.json"
        if found.exists():
            return found
        weights = (folder / "run" / "weights" / f"epoch{epoch - 1}.pt").resolve()
        if not weights.exists():
            weights = weights.with_name("last.pt")
        settings = {
            "model": weights,
            "data": (folder / "data" / "data.yaml").resolve(),
            "split": split,
            "imgsz": self._side_px(experiment),
            "save_json": True,
            "project": folder.resolve(),
            "name": "predictions",
            "exist_ok": True,
        }
        subprocess.run(self._command("val", settings), check=True, stdout=subprocess.DEVNULL)
        rows = json.loads((folder / "predictions" / "predictions.json").read_text())
        names = _names(folder / "data" / "data.yaml")
        # Its ids are file names and indices of its own class list, so names are used instead.
        detections = [
            {
                "file_name": row["file_name"],
                "category_name": names[row["category_id"] - 1],
                "bbox": row["bbox"],
                "score": row["score"],
            }
            for row in rows
        ]
        write_json(found, detections)
        shutil.rmtree(folder / "predictions")
        return found

    def _side_px(self, experiment: Experiment) -> int:
        return STEP_PX * round(self.enlarge * experiment.side_px / STEP_PX)

    def _command(self, verb: str, settings: dict[str, object]) -> list[str]:
        usual = {"device": "cpu", "workers": 0, "plots": False}
        words = [f"{key}={value}" for key, value in {**settings, **usual}.items()]
        return [str(self.executable), "detect", verb, *words]


def _names(path: Path) -> dict[int, str]:
    import yaml

    return yaml.safe_load(path.read_text())["names"]
