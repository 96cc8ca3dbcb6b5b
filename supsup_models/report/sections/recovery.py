"""Hamming distance to the true mask after each batch of recovery, a panel for each layer and a curve for each task."""

from supsup_models.report import plot, wording
from supsup_models.report.downloads import downloads
from supsup_models.report.facts import RunFacts
from supsup_models.report.markup import Content, Markup, element
from supsup_models.report.recovery import Recovered
from supsup_models.report.section import Section, code, figure, name, paragraph, table, whole_name
from supsup_models.runs import RunRecord

_NAME, _HEADING = "recovery", "Hamming distance in recovery"
_MOST_PANELS = 12
_MOST_CURVES = 200


def recovery_section(facts: RunFacts, recovered: Recovered | None) -> Section:
    """The section; without a recovery it says how to make one."""
    if recovered is None and (reason := _refused(facts.record)):
        return Section(_NAME, _HEADING, (), f"`supsup recover` does not take this run: {reason}.")
    if recovered is None:
        how = (
            "To see how an associative memory gives masks back from unlabelled images: ",
            code("supsup recover RUN --json > recovery.json"),
            ", then ",
            code("supsup report RUN --recovery recovery.json"),
            ".",
        )
        return Section(_NAME, _HEADING, (paragraph(*how),), "No recovery was given to this page.")
    # the masks of another network may be recovered too: neuron masks, as the paper has them
    own = facts.spec is not None and recovered.layers == tuple(facts.spec.shapes)
    text = _sentence(recovered, own)
    panels = [_panel(recovered, layer, number) for number, layer in enumerate(recovered.layers[:_MOST_PANELS])]
    rows: list[list[Content]] = [
        [
            f"task {task.task}",
            "yes" if task.exact else "no",
            wording.count(max(len(curve) - 1 for curve in task.by_layer.values())),
            *(wording.count(task.by_layer[layer][-1]) for layer in recovered.layers),
        ]
        for task in recovered.tasks
    ]
    headings = ["task", "exact", "batches", *(f"wrong bits at the end, {layer}" for layer in recovered.layers)]
    said = paragraph("Recipe ", name(recovered.recipe), ", memory ", name(recovered.memory), ".")
    return Section(
        _NAME,
        _HEADING,
        (
            paragraph(text),
            figure(element("div", panels, class_="panels")),
            said,
            table("Every task", headings, rows, texts=(1,)),
        ),
    )


def _refused(record: RunRecord) -> str | None:
    """Why this run's masks cannot be recovered; None if they can."""
    if not record.config.task_identity:
        return "it was trained without task identity, so that no mask is a task's"
    if record.own is not None:
        return "its network, recipe or data were given in Python"
    if record.network.image_shape is not None:  # of a converted network
        return "that takes threshold masks on signed-constant weights of a fully connected network"
    return None


def _sentence(recovered: Recovered, own: bool) -> str:
    of = "masks over this network's weights" if own else "masks of another network"
    tasks = len(recovered.tasks)
    text = (
        f"Of {of}, {wording.count(recovered.exact)} of {wording.count(tasks)} came back bit for bit, in at most "
        f"{wording.count(recovered.batches)} batches of unlabelled images. A plain look-up of the nearest mask names "
        f"{wording.count(recovered.overlap_argmax)} of {wording.count(tasks)}."
    )
    if recovered.accuracy is not None and recovered.true_accuracy is not None:
        text += (
            f" Accuracy under the recovered masks is {wording.percent(recovered.accuracy)}, under the true ones "
            f"{wording.percent(recovered.true_accuracy)}."
        )
    return (
        f"{text} A curve is a task; only its last point is the answer. Curves rise and fall on the way: each batch "
        "of images pulls the state towards the masks that suit it, while the memory pulls it to what is stored. First "
        "the batches lead, later the memory does."
    )


def _panel(recovered: Recovered, layer: str, number: int) -> Markup:
    tasks = recovered.tasks[:_MOST_CURVES]
    curves = [(task, task.by_layer[layer]) for task in tasks]
    x = plot.count_axis(max(len(curve) for _, curve in curves))
    y = plot.log1p_axis(max(max(curve) for _, curve in curves), wording.compact)
    marks = [
        plot.curve(x, y, [(float(step), float(wrong)) for step, wrong in enumerate(curve, 1)], "curve task")
        for _, curve in curves
    ]
    for task, curve in curves:
        end = (len(curve), curve[-1])
        kind = "point" if curve[-1] == 0 else "point wrong"
        marks.append(plot.dot(x, y, end, f"task {task.task}: {wording.plural(curve[-1], 'wrong bit')}", kind, 3))
    text = (
        f"Wrong bits of layer {layer} after each batch, on a logarithmic scale, a curve for each of {len(tasks)} tasks."
    )
    data = ([task.task, step, wrong] for task, curve in curves for step, wrong in enumerate(curve, 1))
    grid = plot.frame(x, y, "batch of unlabelled images", "wrong bits")
    drawn = plot.drawing(f"{_NAME}-{number}", f"{_HEADING}: {layer}", text, 220, grid, *marks)
    return element(
        "div",
        element("p", whole_name(layer), class_="panel-name"),
        drawn,
        downloads(drawn, ["task", "batch", "wrong bits"], data),
    )
