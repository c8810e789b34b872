"""What to try next, what to give up, and what mattered: by Optuna, from the trials so far.

Nothing is kept in memory between calls: a search that was interrupted continues as if it had not
been. Optuna is imported here alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from setmatch.errors import ExtraMissingError
from setmatch.tuning.space import Range, Space, Value, Values, combinations
from setmatch.tuning.trial import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

RANDOM_TRIALS = 6  # before a model of the scores proposes values
UNPRUNED_TRIALS, UNPRUNED_EVALUATIONS = 4, 2  # the first ones, of a search and of each trial
_ATTEMPTS = 20  # at values that were not tried yet
_FEWEST_TO_RANK, _TREES = 6, 32


def require_optuna() -> None:
    """Raise ExtraMissingError if Optuna is not installed; call it before any work."""
    try:
        import optuna
        import sklearn  # noqa: F401 - Optuna imports it when it ranks the settings
    except ImportError as error:
        raise ExtraMissingError(
            f"a search needs optuna and scikit-learn ({error}): pip install 'setmatch[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def propose(space: Space, trials: Sequence[Trial], start: Values) -> dict[str, Value] | None:
    """Return the values of the next trial; None if all have been tried.

    The first one takes the values `start` that lie in the space. By the tree-structured Parzen
    estimator (Bergstra and others, NeurIPS 2011), of all settings together.
    """
    tried = [dict(trial.values) for trial in trials]
    for attempt in range(_ATTEMPTS):
        study = _study(space, trials, seed=_ATTEMPTS * len(trials) + attempt)
        if not trials:
            study.enqueue_trial(_encoded(space, start))
        values = _decoded(space, study.ask(_distributions(space)).params)
        if values not in tried:
            return values
    return next((values for values in combinations(space) or () if values not in tried), None)


def is_hopeless(space: Space, trials: Sequence[Trial], running: Trial) -> bool:
    """Return whether a running trial is worse than the median of the complete ones so far."""
    study = _study(space, trials)
    study.enqueue_trial(_encoded(space, running.values))
    asked = study.ask(_distributions(space))
    for number, score in enumerate(running.scores):
        asked.report(score, number)
    return asked.should_prune()


def importances(space: Space, trials: Sequence[Trial]) -> dict[str, float]:
    """Return which share of the differences between scores each setting explains, in sum 1.

    By functional ANOVA (Hutter and others, ICML 2014), of pruned trials too. Nothing for fewer than
    six trials, if all are equally good, and for a single setting.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    scored = [replace(trial, state="complete") for trial in trials if trial.scores]
    too_few = len(scored) < _FEWEST_TO_RANK or len({trial.score for trial in scored}) < 2
    if too_few or len(space) < 2:
        return {}
    evaluator = FanovaImportanceEvaluator(n_trees=_TREES, seed=0)
    return get_param_importances(_study(space, scored), evaluator=evaluator)


def _study(space: Space, trials: Sequence[Trial], seed: int = 0) -> "Study":
    """Return a study that knows the trials that are over."""
    import optuna
    from optuna.trial import TrialState, create_trial

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=RANDOM_TRIALS, multivariate=True
        ),
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=UNPRUNED_EVALUATIONS
        ),
    )
    for trial in trials:
        is_complete = trial.state == "complete"
        # One that failed is as bad as can be. Optuna would forget it and propose the same again.
        scores = () if trial.state == "failed" else trial.scores
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if is_complete else TrialState.PRUNED,
                value=trial.score if is_complete else None,
                params=_encoded(space, trial.values),
                distributions=_distributions(space),
                intermediate_values=dict(enumerate(scores)),
            )
        )
    return study


def _distributions(space: Space) -> dict[str, "BaseDistribution"]:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    made: dict[str, BaseDistribution] = {}
    for name, each in space.items():
        if not isinstance(each, Range):
            made[name] = CategoricalDistribution(tuple(range(len(each.options))))
        elif each.step is None:
            made[name] = FloatDistribution(each.low, each.high, log=each.log)
        else:
            made[name] = IntDistribution(
                int(each.low), int(each.high), log=each.log, step=each.step
            )
    return made


def _encoded(space: Space, values: Values) -> dict[str, Any]:
    """Return the values as Optuna takes them: those in the space, and of a choice its place."""
    return {
        name: values[name] if isinstance(each, Range) else each.place(values[name])
        for name, each in space.items()
        if name in values and values[name] in each
    }


def _decoded(space: Space, params: dict[str, Any]) -> dict[str, Value]:
    return {
        name: each.readable(params[name]) if isinstance(each, Range) else each.options[params[name]]
        for name, each in space.items()
    }
