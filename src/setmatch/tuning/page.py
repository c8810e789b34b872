"""The page of a search: the best settings, what mattered, and how the trials went."""

from collections.abc import Sequence
from dataclasses import dataclass

from setmatch.html.charts import (
    Axis,
    Chart,
    Curve,
    LegendEntry,
    LogAxis,
    line_chart,
    log_ticks,
    round_ticks,
    short,
)
from setmatch.html.page import write
from setmatch.html.tables import Bar, Row, Table, percent
from setmatch.tuning.results import PAGE, Search
from setmatch.tuning.sampler import importances
from setmatch.tuning.space import Choice, Range, text_of
from setmatch.tuning.trial import TRIALS, Trial, folder_of

_COMPLETE, _PRUNED, _BEST = "#2f7ed8", "#868e96", "#e07b1a"
_LONGEST_OPTION = 9  # letters below an axis


@dataclass(frozen=True)
class TrialRow:
    """A trial in the table of the page; `page` is that of its run, "" if there is none."""

    number: int
    page: str
    is_best: bool
    result: str
    reason: str
    cells: Sequence[str]


def write_page(search: Search) -> None:
    """Write the page of a search, whole or not at all."""
    best, scored = search.best, [trial for trial in search.trials if trial.scores]
    measure = scored[0].measure if scored else "AP"
    counts = {
        state: sum(trial.state == state for trial in search.trials)
        for state in ("complete", "pruned", "failed")
    }
    hours = sum(trial.seconds for trial in search.trials) / 3600
    tiles = {} if best is None else {f"{measure}, trial {best.number}": percent(best.score)}
    weights = importances(search.space, search.trials)
    write(
        search.out / PAGE,
        "tuning/tune.html",
        data=search.data,
        preset=search.base.model.preset,
        count=len(search.trials),
        numbers={**tiles, **counts, "hours": f"{hours:.2f}"},
        best=_best_table(search),
        importance=_importance_table(weights),
        charts=_charts(search, scored, measure),
        legend=_legend(scored, best),
        heads=[*search.space],
        measure=measure,
        rows=[_row(search, trial) for trial in reversed(search.trials)],
    )


def _best_table(search: Search) -> Table | None:
    best = search.best
    if best is None:
        return None
    first = next((trial for trial in search.trials if trial.number == 1), best)
    rows = [
        Row([name, text_of(best.values[name]), text_of(first.values[name])], f"searched: {each}")
        for name, each in search.space.items()
    ]
    scores = [percent(best.score), percent(first.score)]
    rows.append(Row([best.measure, *scores], bold=True))
    return Table(["setting", f"the best, trial {best.number}", "the recipe, trial 1"], rows)


def _importance_table(weights: dict[str, float]) -> Table | None:
    if not weights:
        return None
    largest = max(weights.values())
    ordered = sorted(weights.items(), key=lambda item: -item[1])
    return Table(
        ["setting", "", "share, in percent"],
        [
            Row([name, Bar(weight / largest if largest else -1), f"{100 * weight:.0f}"])
            for name, weight in ordered
        ],
    )


def _legend(scored: Sequence[Trial], best: Trial | None) -> list[LegendEntry]:
    entries = []
    if best is not None:
        entries.append(LegendEntry("best", _BEST))
    if any(trial.state != "pruned" and trial != best for trial in scored):
        entries.append(LegendEntry("other trials", _COMPLETE))
    if any(trial.state == "pruned" for trial in scored):
        entries.append(LegendEntry("pruned: ended early", _PRUNED))
    return entries


def _charts(search: Search, scored: Sequence[Trial], measure: str) -> list[Chart]:
    if not scored:
        return []
    values = [100 * score for trial in scored for score in trial.scores]
    y = Axis("", round_ticks(min(values), max(values)), short)
    best = search.best
    settings = [_by_setting(search, name, scored, best, y, measure) for name in search.space]
    return [
        _by_number(scored, best, y, measure),
        _by_evaluation(scored, best, y, measure),
        *settings,
    ]


def _by_number(scored: Sequence[Trial], best: Trial | None, y: Axis, measure: str) -> Chart:
    """Lay out the score of each trial, below a line of the best until then."""
    steps: list[tuple[float, float] | None] = []
    for trial in scored:
        if trial.state == "complete":
            highest = max(steps[-1][1] if steps and steps[-1] else 0.0, _score(trial))
            steps += [(trial.number, steps[-1][1])] if steps and steps[-1] else []
            steps.append((trial.number, highest))
    line = Curve("best until then", steps, _BEST)
    x = Axis("trial", round_ticks(1, max(trial.number for trial in scored)), short)
    dots = [_dots(trial, trial.number, best) for trial in scored]
    return line_chart([line, *dots], f"{measure} of each trial, in percent", x, y, legend=False)


def _by_evaluation(scored: Sequence[Trial], best: Trial | None, y: Axis, measure: str) -> Chart:
    """Lay out the best score of each trial over its evaluations, the best trial last."""
    curves = [
        Curve(
            f"trial {trial.number}",
            [(number, 100 * score) for number, score in enumerate(trial.scores, start=1)],
            _color(trial, best),
            marks=[] if len(trial.scores) > 1 else [(1, _score(trial), f"trial {trial.number}")],
        )
        for trial in sorted(scored, key=lambda trial: trial == best)
    ]
    x = Axis("evaluation", round_ticks(1, max(len(trial.scores) for trial in scored)), short)
    return line_chart(
        curves, f"best {measure} until each evaluation, in percent", x, y, legend=False
    )


def _by_setting(
    search: Search, name: str, scored: Sequence[Trial], best: Trial | None, y: Axis, measure: str
) -> Chart:
    """Lay out the score of each trial over the value of one setting."""
    searched = search.space[name]
    dots = []
    for trial in sorted(scored, key=lambda trial: trial == best):
        place = _place(searched, trial.values[name])
        dots.append(_dots(trial, place, best))
    return line_chart(dots, f"{measure} by {name}, in percent", _axis(searched), y, legend=False)


def _axis(searched: Range | Choice) -> Axis:
    if isinstance(searched, Range):
        if searched.log:
            return LogAxis("", log_ticks(float(searched.low), float(searched.high)), short)
        return Axis("", round_ticks(float(searched.low), float(searched.high)), short)
    labels = [text_of(option) for option in searched.options]
    return Axis("", range(len(labels)), lambda place: labels[int(place)][:_LONGEST_OPTION])


def _place(searched: Range | Choice, value: object) -> float:
    if isinstance(searched, Choice):
        place = searched.place(value)
        assert place is not None, "the values of a trial lie in the space"
        return place
    assert isinstance(value, int | float), "the values of a range are numbers"
    return value


def _dots(trial: Trial, x: float, best: Trial | None) -> Curve:
    title = f"trial {trial.number}, {trial.state}: {percent(trial.score)}"
    return Curve("", [], _color(trial, best), marks=[(x, _score(trial), title)])


def _score(trial: Trial) -> float:
    return 100 * trial.scores[-1]


def _color(trial: Trial, best: Trial | None) -> str:
    if trial == best:
        return _BEST
    return _PRUNED if trial.state == "pruned" else _COMPLETE


def _row(search: Search, trial: Trial) -> TrialRow:
    folder = folder_of(search.out, trial.number)
    live = folder / "live.html"
    return TrialRow(
        trial.number,
        f"{TRIALS}/{folder.name}/{live.name}" if live.is_file() else "",
        trial == search.best,
        trial.state,
        trial.reason,
        [
            percent(trial.score),
            f"{trial.seconds / 60:.1f}",
            *(text_of(trial.values[name]) for name in search.space),
        ],
    )
