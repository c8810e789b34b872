"""The training loop of a run, or of one stage of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch

from setmatch.data.audit.preflight import unreadable_validation_image
from setmatch.data.batches.loader import Minibatch, TrainingBatches
from setmatch.errors import DataError, counted
from setmatch.losses.normalizer import LossNormalizer
from setmatch.training.checkpoints.state import Progress
from setmatch.training.logging.clock import Clock
from setmatch.training.logging.live.recorder import SampleRecorder
from setmatch.training.loop.data_report import DataReport
from setmatch.training.loop.evaluations import Evaluations
from setmatch.training.loop.exchange import exchange
from setmatch.training.loop.open_run import OpenRun
from setmatch.training.loop.saver import Saver
from setmatch.training.loop.scheduled_step import ScheduledStep
from setmatch.training.machine.cpu_threads import fastest_num_threads
from setmatch.training.optim.optimizer import learning_rates
from setmatch.training.schedule.progressive_resizing import downscale
from setmatch.training.signals import StopRequest


@dataclass
class Trainer:
    """The loop of a run: steps, log lines, checkpoints and evaluations, in the schedule's order.

    `start_run` builds it. All processes run the same loop and agree on `progress`, which is that of
    the checkpoint when the loop begins. `recorder`, of the first process, shows the first batch.
    """

    opened: OpenRun
    batches: TrainingBatches
    scheduled_step: ScheduledStep
    evaluations: Evaluations
    saver: Saver
    data_report: DataReport
    clock: Clock
    stop: StopRequest
    progress: Progress
    recorder: SampleRecorder | None = None

    def __post_init__(self) -> None:
        self.schedule, self.logger = self.opened.schedule, self.opened.logger
        self.max_threads = torch.get_num_threads()  # what torch, or OMP_NUM_THREADS, allows

    @property
    def spent_s(self) -> float:
        """The seconds of training until this step, as all processes know them."""
        return self.progress.spent_s

    def run(self) -> None:
        """Take the remaining steps; raise Stopped after a signal."""
        step = self.opened.first_step
        if self.progress.evaluation_due and not self.evaluations.has(step):
            # The run was interrupted between the checkpoint and the evaluation.
            self.evaluate(step)
        self.choose_num_threads()
        self.clock.start()
        batches = iter(self.batches)
        while not self.is_over(step):
            if self.evaluations.last_stage.returns_before(step):
                self.return_to_best(step)
            window = list(islice(batches, self.scheduled_step.micro_batches))
            before_s = self.spent_s
            normalizer = self.agree(window, step)
            if step and self.is_over(step):
                break  # loading images, or an evaluation, took the remaining time
            if step == 0:
                self.show_first(window)
            self.take_step(window, normalizer, step)
            self.log_and_save(step, before_s)
            step += 1
            if self.progress.evaluation_due:
                self.evaluate(step)
                self.choose_num_threads()
        self.finish(step)

    def is_over(self, step: int) -> bool:
        """Return whether the run ends before `step`, by its length or early."""
        is_early = self.evaluations.reason_to_end is not None
        return is_early or self.schedule.is_over(step, self.spent_s)

    def agree(self, window: Sequence[Minibatch], step: int) -> LossNormalizer:
        """Return the counts that normalize the losses of `step`, over all processes.

        Raises Stopped, after a checkpoint, if any process received a signal.
        """
        agreed = exchange(window, self.opened.train_step, self.clock, self.stop)
        progress, taken_s = self.progress, agreed.spent_s - self.progress.spent_s
        self.progress = replace(progress, spent_s=agreed.spent_s)
        if agreed.signal_number is not None:
            self.saver.write_line(step - 1)
            if self.saver.saved_step != step:
                self.save(step)
            self.logger.end(f"stopped after step {step}")
            where = f"after step {step}, saved in {self.opened.folder}"
            raise self.stop.stopped(agreed.signal_number, where)
        if progress.evaluation_due:  # most of the time since then went into the evaluation
            evaluating_s = progress.evaluating_s + taken_s
            self.progress = replace(self.progress, evaluating_s=evaluating_s)
        return agreed.normalizer

    def take_step(self, window: Sequence[Minibatch], normalizer: LossNormalizer, step: int) -> None:
        """Take one optimizer step on the micro-batches of `window` and log it."""
        result = self.scheduled_step.take(window, normalizer, step, self.spent_s)
        rates = learning_rates(self.opened.train_step.optimizer)
        self.logger.add_step(step, self.spent_s, rates, result)

    def log_and_save(self, step: int, before_s: float) -> None:
        """Log and save what is due after `step`, and note whether an evaluation is.

        `before_s` are the seconds of training until the step before it.
        """
        times_s = before_s, self.spent_s
        renewed = False
        if self.schedule.log_due(step, *times_s):
            renewed = self.saver.write_line(step)
            self.data_report.add_unreadable()
        due = self.schedule.evaluation_due(step, *times_s, self.progress.evaluating_s)
        self.progress = replace(self.progress, evaluation_due=due)
        if renewed or self.schedule.checkpoint_due(step, *times_s):
            self.save(step + 1)

    def save(self, steps: int) -> None:
        """Write the checkpoint after `steps` steps, and the data report."""
        progress = replace(self.progress, skips=self.logger.metrics.skips)
        self.saver.save(steps, progress, self.evaluations.last_stage.kept_steps)
        self.data_report.write()
        self.logger.restart_timer(steps)

    def save_before_evaluation(self, steps: int) -> None:
        """Write the checkpoint of a run that evaluates first when it is resumed."""
        self.progress = replace(self.progress, evaluation_due=True)
        self.save(steps)

    def evaluate(self, steps: int) -> None:
        """Evaluate on the validation split, if there is one, and keep the best weights."""
        validation = self.opened.setup.data.validation
        if validation is None:
            return
        try:
            with self.stop.nothing_to_save("at an evaluation, with all steps saved"):
                report = self.evaluations.measure(validation, self.scheduled_step.images_at_once)
        except DataError:  # raised in every process; the steps until now must not be lost
            if self.saver.saved_step != steps:
                self.save_before_evaluation(steps)
            self.logger.say(f"step {steps} is saved; fix the data and continue with --resume")
            raise
        self.data_report.add([unreadable_validation_image(each) for each in report.unreadable])
        if not self.saver.has_checkpoints():
            # They were deleted during the run. Best weights alone could not be resumed.
            self.save_before_evaluation(steps)
        self.evaluations.add(steps, report)

    def return_to_best(self, step: int) -> None:
        """Go on, at `step`, from the state after the best evaluation before the last stage."""
        best_step = self.evaluations.last_stage.best_step
        if self.saver.return_to(best_step):
            self.logger.say(f"step {step + 1} goes on from the best state, after step {best_step}")
        else:
            self.logger.say(f"warning: step {step + 1} finds no best state to go on from")

    def finish(self, step: int) -> None:
        """Save and evaluate the last step, unless that is done."""
        first_step = self.opened.first_step
        self.saver.renew_folder()
        # A time-based run may end between two checkpoints or evaluations, and its last checkpoint
        # must record that no time is left.
        if self.saver.saved_step != step or (self.schedule.by_clock and step > first_step):
            self.saver.write_line(step - 1)
            self.data_report.add_unreadable()
            self.save_before_evaluation(step)
        if not self.evaluations.has(step):
            self.evaluate(step)
        # The last evaluation of a complete run may find a reason to end it, too.
        reason = self.evaluations.reason_to_end
        is_early = reason is not None and not self.schedule.is_over(step, self.spent_s)
        if is_early:
            self.logger.say(f"stopped early: {reason}")
        self.logger.end("stopped early" if is_early else "done")
        folder = self.opened.folder
        if step == first_step:
            self.logger.say(
                f"nothing left to train: {folder} had ended after {counted(step, 'step')}"
            )
        else:
            self.logger.say(f"done: {counted(step, 'step')}; the run is in {folder}")

    def show_first(self, window: Sequence[Minibatch]) -> None:
        """Show the images of the first step on the live page, as the model sees them."""
        if self.recorder:
            scale = self.schedule.resolution_scale(0, self.spent_s)
            seen = [downscale(each, scale) for each in window]
            preprocessing = self.opened.setup.detector.card.preprocessing
            self.recorder.add_batch(seen, preprocessing)

    def choose_num_threads(self) -> None:
        """Use as many CPU threads as are fastest now, in a time-based run.

        A run of epochs keeps torch's number of threads, which the last digits of its results
        depend on; a time-based run depends on the machine anyway.
        """
        on_cpu = self.opened.distributed.device.type == "cpu"
        if not self.schedule.by_clock or not on_cpu or self.max_threads == 1:
            return
        before, fastest = torch.get_num_threads(), fastest_num_threads(self.max_threads)
        torch.set_num_threads(fastest)
        if fastest != before:
            self.logger.say(
                f"using {fastest} of {self.max_threads} CPU threads: the fastest number right now"
            )
