"""The loop of a run: its parts, and the order of events in it."""

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
from setmatch.data.loader import AugmentationStats, Minibatch, TrainingBatches, training_batches
from setmatch.data.sampler import grad_accum_steps
from setmatch.distributed import Distributed
from setmatch.errors import DataError, TrainingError
from setmatch.evaluation.evaluate import evaluate
from setmatch.losses.normalizer import LossNormalizer
from setmatch.training.checkpoints.best import keep_if_best
from setmatch.training.checkpoints.state import Progress, restore_state, save_state
from setmatch.training.cpu_threads import fastest_threads
from setmatch.training.logging.clock import Clock
from setmatch.training.logging.run_logger import RunLogger
from setmatch.training.micro_batch import micro_batch_size
from setmatch.training.monitor.validation_probe import Probe
from setmatch.training.optim.optimizer import learning_rates, set_learning_rates
from setmatch.training.schedule import make_schedule
from setmatch.training.setup import (
    REPORT,
    TrainingSetup,
    build_train_step,
    introduction,
    open_run,
    origin_of,
)
from setmatch.training.signals import Stopped, StopRequest, agreed_signal


class Trainer:
    """A run in progress, or one stage of it."""

    def __init__(
        self, run: Path, start: TrainingSetup, runtime: Distributed, stop: StopRequest
    ) -> None:
        self.folder, self.start, self.runtime, self.stop = run, start, runtime, stop
        self.check = start.check
        self.most = torch.get_num_threads()  # what torch, or OMP_NUM_THREADS, allows
        self.settings = start.recipe.train
        self.micro_batch_size = micro_batch_size(self.settings, runtime)
        unseen = 0 if start.validation is None else len(start.validation)
        self.plan = make_schedule(len(start.training), self.settings, unseen)
        self.learner = build_train_step(start, runtime)
        self.first, self.saved = 0, -1  # steps done when this began, and when last saved
        progress = Progress()
        if start.checkpoint is not None:
            progress = restore_state(start.checkpoint, self.learner)
            self.first = self.saved = start.checkpoint.step
        self.clock = Clock(progress.spent_s)
        # Seconds that all processes agree on, and whether the last step asks for an evaluation.
        self.spent_s, self.due = progress.spent_s, progress.evaluation_due
        self.evaluating_s, self.evaluated = progress.evaluating_s, -1
        runtime.first(lambda: open_run(run, start))
        origin = origin_of(start, self.plan)
        self.journal = RunLogger(
            run, self.plan, runtime, start.training, self.first, progress.skips, origin
        )
        for sentence in introduction(start, self.plan, self.learner):
            self.journal.say(sentence)
        self.journal.begin()
        self.loader = self.batches()
        self.probe: Probe | None = None
        if start.validation is not None and runtime.is_first:
            self.probe = Probe(run, start.detector, start.validation, start.recipe.matching)

    def run(self) -> None:
        """Take the steps that are left, in the order of the plan."""
        if self.due and not self.journal.has_evaluation(self.first):
            self.evaluate(self.first)  # the run ended between checkpoint and evaluation
        parts = grad_accum_steps(
            self.settings.batch_size, self.micro_batch_size, self.runtime.world
        )
        self.choose_threads()
        self.clock.start()
        batches, step = iter(self.loader), self.first
        while not self.plan.over(step, self.spent_s):
            window = list(islice(batches, parts))
            before_s = self.spent_s
            normalizer = self.agree(window, step)
            if self.due:  # until now an evaluation took most of the time
                self.evaluating_s += self.spent_s - before_s
            if step and self.plan.over(step, self.spent_s):
                break  # waiting for pictures, or an evaluation, took what was left
            places = range(self.runtime.rank, parts * self.runtime.world, self.runtime.world)
            seeds = [self.plan.seed(step, place) for place in places]
            optimizer = self.learner.optimizer
            set_learning_rates(optimizer, self.plan.lr_factor(step, self.spent_s))
            share = self.plan.resolution_scale(step, self.spent_s)
            learned = self.learner.learn(window, normalizer, seeds, share)
            self.journal.note(step, self.spent_s, learning_rates(optimizer), learned)
            if self.plan.logs(step, before_s, self.spent_s):
                self.journal.write_line(step)
                self.report_unreadable()
            self.due = self.plan.evaluates(step, before_s, self.spent_s, self.evaluating_s)
            step += 1
            if self.plan.saves(step - 1, before_s, self.spent_s):
                self.save(step)
            if self.due:
                self.evaluate(step)
                self.choose_threads()
        # The clock may end a run anywhere between two checkpoints or evaluations; the last
        # checkpoint has to know that nothing is left of it.
        if self.saved != step or (self.plan.by_clock and step > self.first):
            self.journal.write_line(step - 1)
            self.report_unreadable()
            self.due = True
            self.save(step)
        if self.evaluated != step and not self.journal.has_evaluation(step):
            self.evaluate(step)
        self.journal.end("done")
        self.journal.say(f"done: {step} steps; the run is in {self.folder}")

    def batches(self) -> TrainingBatches:
        """Return this process' micro-batches of the steps that are left."""
        return training_batches(
            self.start.training,
            self.start.recipe.data,
            self.start.detector.card.preprocessing,
            batch_size=self.settings.batch_size,
            micro_batch=self.micro_batch_size,
            rank=self.runtime.rank,
            world=self.runtime.world,
            first_step=self.first,
            steps=self.plan.steps - self.first,
            seed=self.settings.seed,
            masks=self.learner.detector.mask_head is not None,
        )

    def choose_threads(self) -> None:
        """Take as many threads as help at the moment, where the clock ends the run.

        Runs that are counted in epochs keep torch's number, so that repeating one repeats its
        last digits; a run by the clock depends on the machine anyway.
        """
        if not self.plan.by_clock or self.runtime.device.type != "cpu" or self.most == 1:
            return
        before, chosen = torch.get_num_threads(), fastest_threads(self.most)
        torch.set_num_threads(chosen)
        if chosen != before:
            self.journal.say(f"computing with {chosen} of {self.most} threads: now the fastest way")

    def report_unreadable(self) -> None:
        """Say which images any process has left out since, and add them to the data's report."""
        gathered = self.runtime.gather(self.loader.unreadable)
        self.report([unreadable_training_image(problem) for found in gathered for problem in found])

    def report(self, findings: Sequence[Finding]) -> None:
        """Say what has been found since about the data, and add it to their report."""
        fresh = [each for each in dict.fromkeys(findings) if each not in self.check.findings]
        for finding in fresh:
            self.journal.say(f"warning: {finding.action}: {finding.value}")
        if fresh:
            self.check = replace(self.check, findings=(*self.check.findings, *fresh))
            self.write_report()

    def write_report(self) -> None:
        """Write the data's report, with what augmentation has cut off in this process and others.

        Raises TrainingError when it cannot be written.
        """
        seen = sum(self.runtime.gather(self.loader.augmentation_stats), AugmentationStats())
        counts = {"since_step": self.first, **asdict(seen)}

        def write() -> None:
            try:
                self.check.write(self.folder / REPORT, counts)
            except OSError as error:
                raise TrainingError(
                    f"{self.folder / REPORT}: cannot be written ({error.strerror}); "
                    "make room, and go on with --resume"
                ) from error

        self.runtime.first(write)

    def agree(self, window: Sequence[Minibatch], step: int) -> LossNormalizer:
        """Return what the losses of `step` are divided by, unless a process was told to stop.

        One exchange for both and for the first process' clock, on the hosts, where all processes
        meet once a step.
        """
        queries = self.learner.detector.num_queries
        targets = [target for minibatch in window for target in minibatch.targets]
        counts = LossNormalizer.of(targets, queries).counts
        flags = self.stop.flags()
        spent_s = torch.tensor([self.clock.spent_s if self.runtime.is_first else 0.0])
        agreed = self.runtime.sum(torch.cat([counts, spent_s, flags]))
        total, self.spent_s = agreed[:4], agreed[4].item()
        number = agreed_signal(agreed[5:])
        if number is not None:
            self.journal.write_line(step - 1)
            if self.saved != step:
                self.save(step)
            self.journal.end(f"stopped after step {step}")
            raise Stopped(number, f"after step {step}, which is saved in {self.folder}")
        return LossNormalizer(total)

    def save(self, steps: int) -> None:
        """Write the checkpoint after `steps` steps."""
        skips = self.journal.meter.skips
        self.runtime.first(
            lambda: save_state(
                self.folder,
                self.learner,
                steps,
                Progress(skips, self.spent_s, self.due, self.evaluating_s),
                self.start.facts,
                self.settings.keep_checkpoints,
            )
        )
        self.saved = steps
        self.write_report()
        self.journal.resume_clock(steps)

    def evaluate(self, steps: int) -> None:
        """Measure the answers on the validation split, if there is one; keep the best."""
        if self.start.validation is None:
            return
        answers = self.learner.answers
        try:
            with self.stop.nothing_to_lose("at an evaluation, all training saved"):
                report = evaluate(
                    answers,
                    self.start.validation,
                    batch_size=self.micro_batch_size,
                    workers=self.start.recipe.data.workers,
                    distributed=self.runtime,
                    on_predictions=self.probe.hear if self.probe else None,
                )
        except DataError:  # in every process alike; what was learned until now must not be lost
            if self.saved != steps:
                self.due = True
                self.save(steps)
            self.journal.say(f"step {steps} is saved: mend the data, and go on with --resume")
            raise
        self.report([unreadable_validation_image(problem) for problem in report.unanswered])
        self.evaluated = steps
        metrics = report.to_json()
        self.runtime.first(lambda: keep_if_best(self.folder, answers, metrics, steps))
        # Last, because the line tells a resumed run that nothing of this is left to do.
        self.journal.write_evaluation(steps, metrics, self.probe.read(steps) if self.probe else {})
