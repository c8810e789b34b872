"""The files that an evaluation writes."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from setmatch.data.dataset import DetectionDataset
from setmatch.evaluation.metrics.coco import Results
from setmatch.evaluation.results import Report
from setmatch.files.writing import require_file, require_page, write_text


@dataclass(frozen=True)
class Outputs:
    """Paths of the metrics, the detections and the page; None for a file that is not requested."""

    json: str | Path | None = None
    detections: str | Path | None = None
    report: str | Path | None = None

    def require_writable(self) -> None:
        """Raise ConfigError if a file cannot be written, before any image is processed."""
        for field in fields(self):
            path = getattr(self, field.name)
            if path is not None:
                (require_page if field.name == "report" else require_file)(path)

    def write_numbers(self, report: Report, results: Results, dataset: DetectionDataset) -> None:
        """Write the requested JSON files: the metrics, and the detections as COCO results."""
        if self.json:
            text = json.dumps(report.to_json(), indent=1, ensure_ascii=False)
            write_text(Path(self.json), text + "\n")
        if self.detections:
            text = json.dumps(results.to_coco(dataset.categories))
            write_text(Path(self.detections), text + "\n")
