"""Accuracy against the number of tasks: each task's own, the running mean, and the same with inferred tasks."""

from collections.abc import Sequence

import numpy as np

from supsup_models.report import plot, wording
from supsup_models.report.compare import Compared
from supsup_models.report.downloads import downloads
from supsup_models.report.facts import RunFacts, TaskFacts
from supsup_models.report.judged import Judged
from supsup_models.report.markup import Content, Markup
from supsup_models.report.section import Section, figure, name, paragraph, table

_NAME, _HEADING = "accuracy", "Accuracy against number of tasks"
_HEADINGS = ["what", "tasks", "accuracy", "name"]
_MOST_RUNS = 4
_GIVEN = "One task under its own mask (GG), all its test images"


def accuracy_section(facts: RunFacts, judged: Judged | None, compared: Compared = Compared(())) -> Section:
    """The section; without task identity there are only the sampled accuracies of each task."""
    if not facts.task_identity:
        return _without_identity(judged)
    if not facts.accuracies:
        return Section(_NAME, _HEADING, (), "No task with a known accuracy is finished yet.")
    numbered = [(float(at), task.accuracy) for at, task in enumerate(facts.tasks, 1) if task.accuracy is not None]
    means = np.cumsum(facts.accuracies) / np.arange(1, len(numbered) + 1)
    running = [(at, float(mean)) for (at, _), mean in zip(numbered, means, strict=True)]
    steps = [(float(step.tasks), step.accuracy) for step in judged.steps] if judged else []
    given = [given for step in judged.steps if (given := step.given_accuracy) is not None] if judged else []
    ends = [end for step in judged.steps if step.interval for end in step.interval] if judged else []
    seeds = _seeds(facts)
    others = [(run, _running(run.accuracies)) for run in compared.runs if run.accuracies][:_MOST_RUNS]
    beside = [a for _, mean, spread in seeds for a in (mean - spread, mean + spread)]
    beside += [a for _, points in others for _, a in points]
    x = plot.count_axis(max(len(facts.tasks), *(len(points) for _, points in others), 0))
    y = plot.fraction_axis([a for _, a in (*numbered, *steps)] + ends + given + [min(max(a, 0.0), 1.0) for a in beside])
    marks: list[Markup] = [plot.spread(x, y, at, m - s, m + s, "spread seeds") for at, m, s in seeds]
    marks += [plot.curve(x, y, points, f"curve run-{at}", run.name) for at, (run, points) in enumerate(others, 1)]
    marks += _inferred(x, y, judged) if judged else []
    marks += [plot.curve(x, y, running, "curve mean", "running mean")] if len(running) > 1 else []
    marks += [_task_dot(x, y, at, task) for at, task in enumerate(facts.tasks, 1) if task.accuracy is not None]
    entries: list[tuple[str, Content]] = [
        ("dot", _GIVEN),
        ("line mean", "Mean of the tasks so far (GG), all their test images"),
    ]
    if judged:
        interval = f", 95{wording.SPACE}% interval" if ends else ""
        inferred = f"Mean with inferred tasks (GNu, {_how(judged)}){interval}"
        entries.append(("line inferred", inferred))
        entries.append(("dot given", "The same images with the task given (GG)"))
    if seeds:
        entries.append(("line seeds", f"Mean of {len(facts.seeds)} seeds ± standard deviation (GG)"))
    entries += [
        (f"line run-{at}", [name(run.name), ": mean of its tasks so far (GG)"]) for at, (run, _) in enumerate(others, 1)
    ]
    text = _sentence(facts, judged)
    grid = plot.frame(x, y, "number of tasks", "test accuracy")
    drawn = plot.drawing(_NAME, _HEADING, text, 280, grid, *marks)
    how = "The mean rises with an easy task and falls with a hard one."
    if judged:
        how += " With inferred tasks, a point at n tasks chooses among the first n: more tasks are more to be confused."
    headings, rows = _rows(facts.tasks, judged)
    taken = downloads(drawn, _HEADINGS, _data(facts, judged, seeds, [(run.name, points) for run, points in others]))
    shown = figure(drawn, plot.legend(*entries), taken)
    body = (paragraph(text), shown, paragraph(how), table("Every task", headings, rows))
    return Section(_NAME, _HEADING, body)


def _running(accuracies: Sequence[float]) -> list[tuple[float, float]]:
    means = np.cumsum(accuracies) / np.arange(1, len(accuracies) + 1)
    return [(float(at), float(mean)) for at, mean in enumerate(means, 1)]


def _seeds(facts: RunFacts) -> list[tuple[float, float, float]]:
    """By number of tasks: the mean over seeds of their running means, and the sample standard deviation."""
    known = [each.accuracies for each in facts.seeds if each.accuracies]
    if len(known) < 2:
        return []
    shortest = min(map(len, known))
    means = np.array([[mean for _, mean in _running(each[:shortest])] for each in known])
    rows = zip(means.mean(axis=0).tolist(), means.std(axis=0, ddof=1).tolist(), strict=True)
    return [(float(at), mean, spread) for at, (mean, spread) in enumerate(rows, 1)]


def _data(
    facts: RunFacts,
    judged: Judged | None,
    seeds: Sequence[tuple[float, float, float]],
    others: Sequence[tuple[str, Sequence[tuple[float, float]]]],
) -> list[list[object]]:
    """What is drawn, a row for each point."""
    rows: list[list[object]] = [
        ["one task (GG)", at, task.accuracy, task.name]
        for at, task in enumerate(facts.tasks, 1)
        if task.accuracy is not None
    ]
    rows += [["mean so far (GG)", int(at), mean, ""] for at, mean in _running(facts.accuracies)]
    for step in judged.steps if judged else ():
        rows.append([f"mean, task inferred ({step.scenario})", step.tasks, step.accuracy, ""])
        rows.append(["the same images, task given (GG)", step.tasks, step.given_accuracy, ""])
    for at, mean, spread in seeds:
        rows += [["mean over seeds (GG)", int(at), mean, ""], ["standard deviation over seeds", int(at), spread, ""]]
    rows += [["mean so far (GG)", int(at), mean, run] for run, points in others for at, mean in points]
    return rows


def _sentence(facts: RunFacts, judged: Judged | None) -> str:
    known = facts.accuracies
    tasks = wording.plural(len(known), "task")
    text = (
        f"Mean test accuracy {wording.percent(facts.accuracy)} over {tasks}, each under its own mask, "
        f"from {wording.percent(min(known))} to {wording.percent(max(known))}."
    )
    if judged is None:
        return text
    last = judged.last
    accuracy, found = wording.percent(last.accuracy), wording.percent(last.task_accuracy)
    if last.interval is not None:
        low, high = (wording.percent(end, 1) for end in last.interval)
        accuracy += f" (95{wording.SPACE}% interval {low} to {high})"
    images = wording.count(judged.confusion.sum())
    text += (
        f" When nobody says which of the {wording.plural(last.tasks, 'task')} an image is from, the accuracy on "
        f"{_of(judged)} {images} images is {accuracy}: the task is found for {found} of them."
    )
    return text if last.given_accuracy is None else f"{text} {_cost(last.accuracy, last.given_accuracy)}"


def _of(judged: Judged) -> str:
    """Whether the judged images are all that there are."""
    return "all" if judged.last.interval is None else "a sample of"


def _cost(inferred: float, given: float) -> str:
    """What inference costs, on the same images: other images, and even more images, could not say it."""
    points = 100 * (given - inferred)
    cost = "inference costs nothing" if abs(points) < 0.005 else f"inference costs {points:.2f} points"
    return f"With the task given, the same images reach {wording.percent(given)}: {cost}."


def _how(judged: Judged) -> str:
    images = judged.inference.images
    return f"{judged.inference.method}, {judged.inference.objective}, {wording.plural(images, 'image')}"


def _task_dot(x: plot.Axis, y: plot.Axis, at: int, task: TaskFacts) -> Markup:
    assert task.accuracy is not None
    radius = 4 if x.high < 60 else 2.2
    return plot.dot(x, y, (at, task.accuracy), f"{task.name}: {wording.percent(task.accuracy)}", "point", radius)


def _inferred(x: plot.Axis, y: plot.Axis, judged: Judged) -> list[Markup]:
    marks = [plot.spread(x, y, step.tasks, *step.interval) for step in judged.steps if step.interval]
    if len(judged.steps) > 1:
        marks.append(plot.curve(x, y, [(step.tasks, step.accuracy) for step in judged.steps], "curve inferred"))
    for step in judged.steps:
        title = f"{wording.plural(step.tasks, 'task')}, inferred: {wording.percent(step.accuracy)}"
        marks.append(plot.dot(x, y, (step.tasks, step.accuracy), title, "point inferred"))
        if step.given_accuracy is not None:
            title = f"the same images, task given: {wording.percent(step.given_accuracy)}"
            marks.append(plot.dot(x, y, (step.tasks, step.given_accuracy), title, "point given", 6.5))
    return marks


def _rows(tasks: Sequence[TaskFacts], judged: Judged | None) -> tuple[list[str], list[list[Content]]]:
    headings = ["task", "accuracy (GG)", "training loss", "seconds", "coded bytes"]
    rows: list[list[Content]] = [
        [
            task.name,
            wording.percent(task.accuracy),
            "–" if task.loss is None else f"{task.loss:.4g}",
            "–" if task.seconds is None else f"{task.seconds:.3g}",
            wording.count(task.coded_bytes),
        ]
        for task in tasks
    ]
    if judged:
        headings += ["same images: task inferred (GNu)", "same images: task given (GG)", "task found"]
        found = {cells[0]: cells[1:] for cells in _judged_rows(judged)}
        rows = [[*row, *found.get(task.name, ["–"] * 3)] for row, task in zip(rows, tasks, strict=True)]
    return headings, rows


def _judged_rows(judged: Judged) -> list[list[Content]]:
    """Each task's name, the share of its images whose answer counts, that with the task given (not in NNs), and the
    share of those whose task was found."""
    return [
        [
            each.task,
            wording.percent(each.accuracy),
            *([] if judged.last.scenario == "NNs" else [wording.percent(each.given_accuracy)]),
            wording.percent(each.task_accuracy),
        ]
        for each in judged.last.per_task
    ]


def _without_identity(judged: Judged | None) -> Section:
    heading = "Accuracy by task"
    if judged is None:
        missing = "This run was trained without task identity (NNs): its accuracy takes test images to see."
        return Section(_NAME, heading, (), missing)
    points = [(float(at), each.accuracy) for at, each in enumerate(judged.last.per_task, 1)]
    x = plot.count_axis(len(points))
    y = plot.fraction_axis(accuracy for _, accuracy in points)
    dots = [
        plot.dot(x, y, point, f"{each.task}: {wording.percent(each.accuracy, 1)}", "point inferred")
        for point, each in zip(points, judged.last.per_task, strict=True)
    ]
    accuracy = wording.percent(judged.last.accuracy)
    text = (
        f"Trained and judged without task identity (NNs, {_how(judged)}): {accuracy} of {_of(judged)} "
        f"{wording.count(judged.confusion.sum())} images get the right label."
    )
    drawn = plot.drawing(_NAME, heading, text, 280, plot.frame(x, y, "task", "test accuracy"), *dots)
    data = [["one task (NNs)", at, each.accuracy, each.task] for at, each in enumerate(judged.last.per_task, 1)]
    headings = ["task", "accuracy (NNs)", "images whose mask is mostly this task's"]
    listed = table("Every task", headings, _judged_rows(judged))
    return Section(_NAME, heading, (paragraph(text), figure(drawn, downloads(drawn, _HEADINGS, data)), listed))
