"""The training loop of a run, or of one stage of it."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import torch

from setmatch.data.audit.findings import Finding
from setmatch.data.audit.preflight import (
    unreadable_training_image,
    unreadable_validation_image,
)
from setmatch.data.batches.loader import AugmentationStats, Minibatch, TrainingBatches
from setmatch.data.batches.sampler import grad_accum_steps
from setmatch.distributed import Distributed
from setmatch.errors import DataError, counted
from setmatch.evaluation.evaluate import evaluate
from setmatch.files.folder_lock import FolderLock
from setmatch.losses.normalizer import LossNormalizer
from setmatch.structures.outputs import Predictions
from setmatch.training.checkpoints.best import keep_if_best
from setmatch.training.checkpoints.checkpoint import checkpoint_after, has_checkpoints
from setmatch.training.checkpoints.state import Progress, return_to, save_state
from setmatch.training.logging.clock import Clock
from setmatch.training.logging.live.recorder import SampleRecorder
from setmatch.training.logging.report_file import ReportFile
from setmatch.training.logging.run_logger import RunLogger
from setmatch.training.machine.cpu_threads import fastest_num_threads
from setmatch.training.machine.micro_batch import is_out_of_memory, micro_batch_size
from setmatch.training.monitor.validation_probe import Probe
from setmatch.training.optim.optimizer import learning_rates, set_learning_rates
from setmatch.training.run_folder import DATA_REPORT, renew_if_deleted
from setmatch.training.schedule.last_stage import LastStage
from setmatch.training.schedule.plateau import Plateau
from setmatch.training.schedule.progressive_resizing import downscale
from setmatch.training.schedule.schedule import Schedule
from setmatch.training.signals import StopRequest, agreed_signal
from setmatch.training.start.setup import TrainingSetup
from setmatch.training.step import StepResult, TrainStep


class Trainer:
    """The loop of a run: steps, log lines, checkpoints and evaluations, in the schedule's order.

    `start_run` builds it. `progress` is that of the checkpoint after `first_step` steps.
    """

    def __init__(
        self,
        folder: Path,
        setup: TrainingSetup,
        distributed: Distributed,
        stop: StopRequest,
        schedule: Schedule,
        train_step: TrainStep,
        logger: RunLogger,
        batches: TrainingBatches,
        clock: Clock,
        progress: Progress,
        plateau: Plateau,
        last_stage: LastStage,
        first_step: int = 0,
        probe: Probe | None = None,
        lock: FolderLock | None = None,
        recorder: SampleRecorder | None = None,
    ) -> None:
        self.folder, self.setup, self.distributed, self.stop = folder, setup, distributed, stop
        self.schedule, self.train_step, self.logger = schedule, train_step, logger
        self.batches, self.clock, self.first_step, self.probe = batches, clock, first_step, probe
        self.settings = setup.recipe.train
        self.lock, self.recorder = lock, recorder
        self.data_report = ReportFile(folder / DATA_REPORT)
        self.check = setup.check  # grows with the findings of the run
        self.micro_batch_size = micro_batch_size(self.settings, distributed)
        self.parts = 1  # in which a micro-batch is computed
        self.max_threads = torch.get_num_threads()  # what torch, or OMP_NUM_THREADS, allows
        self.saved_step = first_step if setup.checkpoint is not None else -1
        self.evaluated_step = -1
        # All processes agree on the seconds, and on whether the last step is to be evaluated.
        self.spent_s, self.evaluation_s = progress.spent_s, progress.evaluating_s
        self.evaluation_due = progress.evaluation_due
        self.plateau, self.last_stage = plateau, last_stage
        self.reason_to_end: str | None = None  # of a callback

    def run(self) -> None:
        """Take the remaining steps; raise Stopped after a signal."""
        if self.evaluation_due and not self.logger.has_evaluation(self.first_step):
            # The run was interrupted between the checkpoint and the evaluation.
            self.evaluate(self.first_step)
        accumulated = grad_accum_steps(
            self.settings.batch_size, self.micro_batch_size, self.distributed.world
        )
        self.choose_num_threads()
        self.clock.start()
        batches, step = iter(self.batches), self.first_step
        while not self.is_over(step):
            if self.last_stage.returns_before(step):
                self.return_to_best(step)
            window = list(islice(batches, accumulated))
            before_s = self.spent_s
            normalizer = self.exchange(window, step)
            if self.evaluation_due:  # most of the time since then went into the evaluation
                self.evaluation_s += self.spent_s - before_s
            if step and self.is_over(step):
                break  # loading images, or an evaluation, took the remaining time
            if step == 0 and self.recorder:
                scale = self.schedule.resolution_scale(0, self.spent_s)
                seen = [downscale(each, scale) for each in window]
                self.recorder.add_batch(seen, self.setup.detector.card.preprocessing)
            self.take_step(window, normalizer, step)
            renewed = False
            if self.schedule.log_due(step, before_s, self.spent_s):
                renewed = self.write_line(step)
                self.report_unreadable()
            self.evaluation_due = self.schedule.evaluation_due(
                step, before_s, self.spent_s, self.evaluation_s
            )
            step += 1
            if renewed or self.schedule.checkpoint_due(step - 1, before_s, self.spent_s):
                self.save(step)
            if self.evaluation_due:
                self.evaluate(step)
                self.choose_num_threads()
        self.finish(step)

    def is_over(self, step: int) -> bool:
        """Return whether the run ends before `step`, by its length or early."""
        return self.schedule.is_over(step, self.spent_s) or self.early_end is not None

    @property
    def early_end(self) -> str | None:
        """Why the run ends early, in a sentence; None if it does not."""
        return self.plateau.sentence() if self.plateau.is_reached else self.reason_to_end

    def take_step(self, window: Sequence[Minibatch], normalizer: LossNormalizer, step: int) -> None:
        """Take one optimizer step on the micro-batches of `window` and log it."""
        optimizer = self.train_step.optimizer
        set_learning_rates(optimizer, self.schedule.lr_factor(step, self.spent_s))
        result = self.compute_step(window, normalizer, step)
        while result is None:  # no more memory; what it held is free by now
            torch.cuda.empty_cache()
            result = self.compute_step(window, normalizer, step)
        self.logger.add_step(step, self.spent_s, learning_rates(optimizer), result)

    def compute_step(
        self, window: Sequence[Minibatch], normalizer: LossNormalizer, step: int
    ) -> StepResult | None:
        """Take a step; None, with smaller micro-batches from now on, if memory does not suffice."""
        rank, world = self.distributed.rank, self.distributed.world
        parts = [part for minibatch in window for part in minibatch.split(self.parts)]
        seeds = [
            self.schedule.seed(step, micro_batch)
            for micro_batch in range(rank, len(parts) * world, world)
        ]
        scale = self.schedule.resolution_scale(step, self.spent_s)
        by_quality = self.schedule.matches_by_quality(step, self.spent_s)
        try:
            return self.train_step.step(parts, normalizer, seeds, scale, by_quality)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or world > 1 or self.images_at_once == 1:
                raise
        before = self.images_at_once
        self.parts *= 2
        self.logger.say(
            f"warning: out of memory at step {step + 1} with {before} images at once; from now on "
            f"{self.images_at_once} at once, with the same batch size"
        )
        return None

    @property
    def images_at_once(self) -> int:
        """The number of images in one forward pass; it falls when memory runs out."""
        return -(-self.micro_batch_size // self.parts)

    def return_to_best(self, step: int) -> None:
        """Go on, at `step`, from the state after the best evaluation before the last stage."""
        best_step, checkpoint = self.last_stage.best_step, None
        if best_step is not None:
            checkpoint = self.distributed.first(lambda: checkpoint_after(self.folder, best_step))
        if checkpoint is None:
            self.logger.say(f"warning: step {step + 1} finds no best state to go on from")
            return
        return_to(checkpoint, self.train_step)
        self.logger.say(f"step {step + 1} goes on from the best state, after step {best_step}")

    def finish(self, step: int) -> None:
        """Save and evaluate the last step, unless that is done."""
        self.renew_folder()
        # A time-based run may end between two checkpoints or evaluations, and its last checkpoint
        # must record that no time is left.
        if self.saved_step != step or (self.schedule.by_clock and step > self.first_step):
            self.write_line(step - 1)
            self.report_unreadable()
            self.evaluation_due = True
            self.save(step)
        if self.evaluated_step != step and not self.logger.has_evaluation(step):
            self.evaluate(step)
        # The last evaluation of a complete run may find a reason to end it, too.
        is_early = self.early_end is not None and not self.schedule.is_over(step, self.spent_s)
        if is_early:
            self.logger.say(f"stopped early: {self.early_end}")
        self.logger.end("stopped early" if is_early else "done")
        if step == self.first_step:
            self.logger.say(
                f"nothing left to train: {self.folder} had ended after {counted(step, 'step')}"
            )
        else:
            self.logger.say(f"done: {counted(step, 'step')}; the run is in {self.folder}")

    def exchange(self, window: Sequence[Minibatch], step: int) -> LossNormalizer:
        """Return the counts that normalize the losses of `step`, over all processes.

        Raises Stopped, after a checkpoint, if any process received a signal. Counts, signals and
        the first process' clock share the one exchange between hosts in a step.
        """
        queries = self.train_step.detector.num_queries
        targets = [target for minibatch in window for target in minibatch.targets]
        counts = LossNormalizer.of(targets, queries).counts
        spent_s = torch.tensor([self.clock.spent_s if self.distributed.is_first else 0.0])
        total = self.distributed.sum(torch.cat([counts, spent_s, self.stop.flags()]))
        self.spent_s = total[4].item()
        signal_number = agreed_signal(total[5:])
        if signal_number is not None:
            self.write_line(step - 1)
            if self.saved_step != step:
                self.save(step)
            self.logger.end(f"stopped after step {step}")
            raise self.stop.stopped(signal_number, f"after step {step}, saved in {self.folder}")
        return LossNormalizer(total[:4])

    def choose_num_threads(self) -> None:
        """Use as many CPU threads as are fastest now, in a time-based run.

        A run of epochs keeps torch's number of threads, which the last digits of its results
        depend on; a time-based run depends on the machine anyway.
        """
        on_cpu = self.distributed.device.type == "cpu"
        if not self.schedule.by_clock or not on_cpu or self.max_threads == 1:
            return
        before, fastest = torch.get_num_threads(), fastest_num_threads(self.max_threads)
        torch.set_num_threads(fastest)
        if fastest != before:
            self.logger.say(
                f"using {fastest} of {self.max_threads} CPU threads: the fastest number right now"
            )

    def save(self, steps: int) -> None:
        """Write the checkpoint after `steps` steps, and the data report."""
        self.renew_folder()
        progress = Progress(
            self.logger.metrics.skips, self.spent_s, self.evaluation_due, self.evaluation_s
        )
        self.distributed.first(
            lambda: save_state(
                self.folder,
                self.train_step,
                steps,
                progress,
                self.setup.facts,
                self.settings.keep_checkpoints,
                self.last_stage.kept_steps,
            )
        )
        self.saved_step = steps
        self.write_data_report()
        self.logger.restart_timer(steps)

    def evaluate(self, steps: int) -> None:
        """Evaluate on the validation split, if there is one, and keep the best weights."""
        if self.setup.data.validation is None:
            return
        detector = self.train_step.inference_model
        try:
            with self.stop.nothing_to_save("at an evaluation, with all steps saved"):
                report = evaluate(
                    detector,
                    self.setup.data.validation,
                    batch_size=self.images_at_once,
                    tiles=self.setup.evaluation_tiles,
                    workers=self.setup.recipe.data.workers,
                    distributed=self.distributed,
                    on_predictions=self.look,
                )
        except DataError:  # raised in every process; the steps until now must not be lost
            if self.saved_step != steps:
                self.evaluation_due = True
                self.save(steps)
            self.logger.say(f"step {steps} is saved; fix the data and continue with --resume")
            raise
        self.report_findings(
            [unreadable_validation_image(problem) for problem in report.unreadable]
        )
        self.evaluated_step = steps
        metrics = report.to_json()
        if self.distributed.first(lambda: not has_checkpoints(self.folder)):
            # They were deleted during the run. Best weights alone could not be resumed.
            self.evaluation_due = True
            self.save(steps)
        best_step = self.distributed.first(
            lambda: keep_if_best(self.folder, detector, metrics, steps)
        )
        # Written last: to a resumed run, this line means that the evaluation is complete.
        probe_metrics = self.probe.compute(steps) if self.probe else {}
        if self.recorder:
            self.recorder.close(steps, metrics)
        self.logger.write_evaluation(steps, metrics, probe_metrics)
        self.plateau = self.plateau.add(steps, best_step)
        self.last_stage = self.last_stage.add(steps, metrics["AP"])
        callbacks = self.logger.callbacks
        self.reason_to_end = self.distributed.first(lambda: callbacks.reason_to_end)

    def look(self, image_ids: tuple[int, ...], predictions: Predictions) -> None:
        """Show the predictions of an evaluation to what follows some of the images."""
        for each in (self.probe, self.recorder):
            if each is not None:
                each.add(image_ids, predictions)

    def write_line(self, step: int) -> bool:
        """Write a line of the log; return whether the folder was created again for it."""
        renewed = self.renew_folder()
        self.logger.write_line(step)
        return renewed

    def renew_folder(self) -> bool:
        """Create the folder of the run again if it was deleted; return whether it was."""
        renewed = self.distributed.first(
            lambda: renew_if_deleted(self.folder, self.lock, self.setup)
        )
        if renewed:
            self.saved_step = -1
            self.logger.say(
                f"warning: {self.folder} was deleted; it is written again, without its earlier "
                "checkpoints and log"
            )
        return renewed

    def report_unreadable(self) -> None:
        """Report the images that any process could not read since the last report."""
        gathered = self.distributed.gather(self.batches.unreadable)
        self.report_findings(
            [unreadable_training_image(str(file)) for files in gathered for file in files]
        )

    def report_findings(self, findings: Sequence[Finding]) -> None:
        """Log new findings about the data, and add them to the data report."""
        new = [each for each in dict.fromkeys(findings) if each not in self.check.findings]
        for finding in new:
            self.logger.say(f"warning: {finding.action}: {finding.value}")
        if new:
            self.check = replace(self.check, findings=(*self.check.findings, *new))
            self.write_data_report()

    def write_data_report(self) -> None:
        """Write the data report, with what augmentation clipped and dropped in all processes.

        A report that cannot be written is said once.
        """
        stats = sum(self.distributed.gather(self.batches.augmentation_stats), AugmentationStats())
        counts = {"since_step": self.first_step, **asdict(stats)}

        def write() -> None:
            with self.data_report.writing() as path:
                self.check.write(path, counts)

        self.distributed.first(write)
