"""The files that an evaluation leaves."""

import json as json_format
from dataclasses import dataclass, fields
from pathlib import Path

from setmatch.data.dataset import DetectionDataset
from setmatch.evaluation.metrics.average_precision import Results
from setmatch.evaluation.results import Report
from setmatch.files import atomic_file, require_file


@dataclass(frozen=True)
class Outputs:
    """Where to write the numbers, every detection, and the page; None for what is not wanted."""

    json: str | Path | None = None
    detections: str | Path | None = None
    report: str | Path | None = None

    def require_writable(self) -> None:
        """Raise ConfigError now rather than after the last image."""
        for field in fields(self):
            path = getattr(self, field.name)
            if path is not None:
                require_file(path)

    def write_numbers(self, report: Report, results: Results, index: DetectionDataset) -> None:
        """Write the JSON files that are wanted; the page has a writer of its own."""
        if self.json:
            text = json_format.dumps(report.to_json(), indent=1, ensure_ascii=False)
            _write(Path(self.json), text)
        if self.detections:
            _write(Path(self.detections), json_format.dumps(results.to_coco(index.categories)))


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")
