"""How the run was made: its configuration, and the commands that make it again."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from supsup_models.report.facts import RunFacts
from supsup_models.report.markup import Content, element
from supsup_models.report.section import Section, paragraph, table
from supsup_models.runs import RunConfig
from supsup_models.training import RECIPES

_HASH = re.compile("[0-9a-f]{40,}")
_LINE = 60  # characters of a command after which the next option begins a line


def configuration_section(facts: RunFacts) -> Section:
    """Everything in the run's record that is not a task's, and what the recipe's name stands for."""
    record = facts.record
    recipe = RECIPES.get(record.config.recipe)
    groups: list[tuple[str, Mapping[str, Any]]] = [
        ("Arguments", asdict(record.config)),
        ("Recipe" if recipe else "Recipe: not one of this version's", _recipe(recipe)),
        ("Network", record.network.to_json()),
        ("Data", record.stream),
        ("Pixels", asdict(record.pixels)),
        ("Versions and device", {**record.versions, "device": record.device}),
        ("Training", {} if record.history is None else asdict(record.history)),
    ]
    tables = [table(title, ["", ""], _rows(values), folded=False, texts=(1,)) for title, values in groups if values]
    return Section("configuration", "Configuration", (element("div", tables, class_="tables"),))


def commands_section(facts: RunFacts) -> Section:
    """What to type to make the run, to judge it, and to make this page."""
    own = facts.record.own is not None
    lines = _in_python(facts) if own else "\n".join(_typed(words) for words in reproducing(facts))
    text = (
        "With the same versions, on the same kind of processor, the same arguments give the same masks, bit for bit. "
        "Elsewhere training rounds otherwise, and figures differ a little; weights, initial scores and tasks do not."
    )
    if own:
        text += " The network and the data are those of the program that made the run."
    elif facts.record.stream.get("data_set") != "digits":
        text += " DIR is the folder with the data set."
    return Section(
        "commands", "To make it again", (paragraph(text), element("pre", element("code", lines), tabindex="0"))
    )


def _in_python(facts: RunFacts) -> str:
    """The same for a run that was made in Python."""
    config, own = facts.record.config, facts.record.own
    recipe = f'"{config.recipe}"' if own is None or own.recipe is None else "recipe"
    transfer = ", transfer=True" if config.transfer else ""
    return (
        f"run = Run.create({facts.name!r}, model, stream, recipe={recipe}, batches={config.batches}{transfer})\n"
        "run.train()\nrun.evaluate()\nmake_report(run)"
    )


def reproducing(facts: RunFacts) -> list[list[str]]:
    """The words of the commands. An argument of a run has the name of its option."""
    config = facts.record.config
    run = f"./{facts.name}" if facts.name.startswith("-") else facts.name
    data = [] if facts.record.stream.get("data_set") == "digits" else ["--data", "DIR"]
    given: list[str] = []
    for field in fields(RunConfig):
        value = getattr(config, field.name)
        option = "--" + field.name.replace("_", "-")
        if field.name == "task_identity":
            given += [] if value else ["--scenario", "NNs"]
        elif isinstance(value, bool):
            given += [option] if value else []
        elif value is not None:
            given += [option, str(value)]
    given += ["--seeds", str(len(facts.seeds))] if facts.seeds else []
    bank = f"{run}/seed-{config.seed}/masks.bank" if facts.seeds else f"{run}/masks.bank"
    scenario = "GNu" if config.task_identity else "NNs"
    # `train` never codes with mix: that takes a compact of the highest level, and changes what the page shows
    compacted = facts.account is not None and "mix" in facts.account.codecs
    compacting = [["maskstore", "compact", bank, "--level", "max"]] if compacted else []
    return [
        ["supsup", "train", *given, *data, "--out", run],
        ["supsup", "eval", run, "--scenario", scenario, *data, "--json"],
        *compacting,
        ["maskstore", "stats", bank],
        ["supsup", "report", run, *data, "-o", "report.html"],
    ]


def _typed(words: Sequence[str]) -> str:
    """A command as one types it, gone on in a further line before an option where it gets long."""
    lines = [""]
    for word in words:
        quoted = shlex.quote(word)
        if word.startswith("-") and len(lines[-1]) > _LINE:
            lines.append("   ")
        lines[-1] += f" {quoted}" if lines[-1] else quoted
    return " \\\n".join(lines)


def _recipe(recipe: Any) -> Mapping[str, Any]:
    if recipe is None:
        return {}
    return {**asdict(recipe), "optimiser": f"{type(recipe.optimiser).__name__} {_said(asdict(recipe.optimiser))}"}


def _rows(values: Mapping[str, Any]) -> Iterable[list[Content]]:
    for key, value in values.items():
        yield [str(key).replace("_", " "), _cell(value)]


def _cell(value: Any) -> Content:
    """A value as it stands in a table, each part of an object on a line of its own."""
    if isinstance(value, Mapping):
        return [element("div", element("bdi", str(key).replace("_", " ")), " ", _cell(value[key])) for key in value]
    said = _said(value)
    return element("code", said, class_="hash") if _HASH.fullmatch(said) else element("bdi", said)


def _said(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_said(each) for each in value)
    return str(value)
