"""RUN/data_report.json while a run goes on: it grows with the images that cannot be read."""

from collections.abc import Sequence
from dataclasses import asdict, replace

from setmatch.data.audit.findings import Finding
from setmatch.data.audit.preflight import unreadable_training_image
from setmatch.data.batches.loader import AugmentationStats, TrainingBatches
from setmatch.training.logging.report_file import ReportFile
from setmatch.training.loop.open_run import OpenRun
from setmatch.training.run_folder import DATA_REPORT


class DataReport:
    """What a run has found in its data: before the first step, in `batches`, and in evaluations."""

    def __init__(self, run: OpenRun, batches: TrainingBatches) -> None:
        self._run, self._batches = run, batches
        self._check = run.setup.check
        self._file = ReportFile(run.folder / DATA_REPORT)

    def add_unreadable(self) -> None:
        """Report the images that any process could not read since the last time."""
        gathered = self._run.distributed.gather(self._batches.unreadable)
        self.add([unreadable_training_image(str(file)) for files in gathered for file in files])

    def add(self, findings: Sequence[Finding]) -> None:
        """Log those findings that are new, and write them."""
        new = [each for each in dict.fromkeys(findings) if each not in self._check.findings]
        for finding in new:
            self._run.logger.say(f"warning: {finding.action}: {finding.value}")
        if new:
            self._check = replace(self._check, findings=(*self._check.findings, *new))
            self.write()

    def write(self) -> None:
        """Write the report, with what augmentation clipped and dropped in all processes.

        A report that cannot be written is said once.
        """
        distributed = self._run.distributed
        stats = sum(distributed.gather(self._batches.augmentation_stats), AugmentationStats())
        counts = {"since_step": self._run.first_step, **asdict(stats)}

        def write() -> None:
            with self._file.writing() as path:
                self._check.write(path, counts)

        distributed.first(write)
