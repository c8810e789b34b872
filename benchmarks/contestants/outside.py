"""A contestant that must stay outside: an executable of its own, named by whoever runs the race.

Ultralytics' license keeps it out of this repository and of every environment made for it; what is
here is the command line of an installation somewhere else. It reads data that `convert-data` wrote,
trains by its own recipe from random weights, and leaves detections that our evaluator reads.
"""

import csv
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from contestants.track import Finish, Mark, Track, best_of, marked, scored, write_json
from setmatch.data.convert import convert_dataset

STEP_PX = 32  # sides must be multiples of it
MARKS = 6


@dataclass(frozen=True)
class Outside:
    """A model's YAML name, and the longest side of its squares as a factor of the track's side."""

    model: str
    executable: Path
    enlarge: float = 1.0

    @property
    def name(self) -> str:
        """Return the model's name, and how much larger it sees."""
        return self.model if self.enlarge == 1 else f"{self.model}x{self.enlarge:g}"

    def command(self, track: Track, folder: Path) -> list[str]:
        """Return its training on exported data, which is written first."""
        data = folder / "data"
        if not data.exists():
            convert_dataset(track.data, data, "yolo")
        settings = {
            "model": f"{self.model}.yaml",
            "data": (data / "data.yaml").resolve(),
            "pretrained": False,
            "time": f"{track.minutes / 60:.6f}",
            "imgsz": self._side_px(track),
            "seed": track.seed,
            "val": False,
            "save_period": 1,
            "project": folder.resolve(),
            "name": "run",
        }
        return track.clocked(self.executable.with_name("python"), self._said("train", settings))

    def finish(self, track: Track, folder: Path) -> Finish:
        """Ask the weights of some epochs about the validation split, the best about test."""
        lines = (folder / "run" / "results.csv").read_text().splitlines()
        rows = csv.DictReader(lines, skipinitialspace=True)
        epochs = [(float(row["time"]) / 60, int(row["epoch"])) for row in rows]
        wanted = [track.minutes * number / MARKS for number in range(1, MARKS + 1)]
        chosen = sorted({min(epochs, key=lambda each: abs(each[0] - m)) for m in wanted})
        marks: list[Mark] = []
        for minutes, epoch in chosen:
            marks.append(marked(minutes, self._asked(track, folder, epoch, "val"), track))
        test = {}
        if track.test:
            epoch = chosen[best_of(marks)][1]
            test = scored(self._asked(track, folder, epoch, "test"), track, "test")
        return Finish(tuple(marks), test, epochs[-1][1], {"square_px": self._side_px(track)})

    def _asked(self, track: Track, folder: Path, epoch: int, split: str) -> Path:
        """Return a file of what the weights after `epoch` find, made unless it is there."""
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
            "imgsz": self._side_px(track),
            "save_json": True,
            "project": folder.resolve(),
            "name": "asked",
            "exist_ok": True,
        }
        subprocess.run(self._said("val", settings), check=True, stdout=subprocess.DEVNULL)
        rows = json.loads((folder / "asked" / "predictions.json").read_text())
        names = _names(folder / "data" / "data.yaml")
        # Its ids are file names and places in its list of classes: names are what both agree on.
        kept = [
            {
                "file_name": row["file_name"],
                "category_name": names[row["category_id"] - 1],
                "bbox": row["bbox"],
                "score": row["score"],
            }
            for row in rows
        ]
        write_json(found, kept)
        shutil.rmtree(folder / "asked")
        return found

    def _side_px(self, track: Track) -> int:
        return STEP_PX * round(self.enlarge * track.side_px / STEP_PX)

    def _said(self, verb: str, settings: dict[str, object]) -> list[str]:
        usual = {"device": "cpu", "workers": 0, "plots": False}
        words = [f"{key}={value}" for key, value in {**settings, **usual}.items()]
        return [str(self.executable), "detect", verb, *words]


def _names(path: Path) -> dict[int, str]:
    import yaml

    return yaml.safe_load(path.read_text())["names"]
