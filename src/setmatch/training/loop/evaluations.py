"""The evaluations of a run: what they measure, keep and log, and what follows for the run."""

from setmatch.data.dataset import DetectionDataset
from setmatch.evaluation.evaluate import evaluate
from setmatch.evaluation.results import Report
from setmatch.structures.outputs import Predictions
from setmatch.training.checkpoints.best import keep_if_best
from setmatch.training.logging.live.recorder import SampleRecorder
from setmatch.training.loop.open_run import OpenRun
from setmatch.training.monitor.validation_probe import Probe
from setmatch.training.schedule.last_stage import LastStage
from setmatch.training.schedule.plateau import Plateau


class Evaluations:
    """Evaluates on the validation split and keeps the best weights.

    `plateau` and `last_stage` are the evaluations so far, as early stopping and a return to the
    best state see them. `probe` and `recorder`, of the first process, follow some of the images.
    """

    def __init__(
        self,
        run: OpenRun,
        plateau: Plateau,
        last_stage: LastStage,
        probe: Probe | None = None,
        recorder: SampleRecorder | None = None,
    ) -> None:
        self._run, self._probe, self._recorder = run, probe, recorder
        self._plateau, self.last_stage = plateau, last_stage
        self._callback_reason: str | None = None
        self._evaluated_step = -1

    @property
    def reason_to_end(self) -> str | None:
        """Why the run ends early, in a sentence; None if it does not."""
        return self._plateau.sentence() if self._plateau.is_reached else self._callback_reason

    def has(self, steps: int) -> bool:
        """Return whether the weights after `steps` steps are evaluated, or were before a resume."""
        return steps == self._evaluated_step or self._run.logger.has_evaluation(steps)

    def measure(self, validation: DetectionDataset, batch_size: int) -> Report:
        """Measure the weights as they are now.

        Raises DataError, in all processes, for data that cannot be evaluated.
        """
        setup = self._run.setup
        return evaluate(
            self._run.train_step.inference_model,
            validation,
            batch_size=batch_size,
            tiles=setup.evaluation_tiles,
            workers=setup.recipe.data.workers,
            distributed=self._run.distributed,
            on_predictions=self._look,
        )

    def add(self, steps: int, report: Report) -> None:
        """Keep the weights after `steps` steps if they are the best, and log what was measured."""
        run, metrics = self._run, report.to_json()
        self._evaluated_step = steps
        detector = run.train_step.inference_model
        best_step = run.distributed.first(
            lambda: keep_if_best(run.folder, detector, metrics, steps)
        )
        probe_metrics = self._probe.compute(steps) if self._probe else {}
        if self._recorder:
            self._recorder.close(steps, metrics)
        # Written last: to a resumed run, this line means that the evaluation is complete.
        run.logger.write_evaluation(steps, metrics, probe_metrics)
        self._plateau = self._plateau.add(steps, best_step)
        self.last_stage = self.last_stage.add(steps, metrics["AP"])
        callbacks = run.logger.callbacks
        self._callback_reason = run.distributed.first(lambda: callbacks.reason_to_end)

    def _look(self, image_ids: tuple[int, ...], predictions: Predictions) -> None:
        """Show the predictions of a batch to what follows some of the images."""
        for each in (self._probe, self._recorder):
            if each is not None:
                each.add(image_ids, predictions)
