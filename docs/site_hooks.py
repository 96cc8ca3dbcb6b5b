"""What mkdocs cannot do by itself: reference pages made from the faces of the packages, and links that leave docs/.

A page of the reference stands for a folder. It shows the docstring of every name that the folder's face lists, but for
names that a page before it has shown: `maskstore.MaskBank` stands on the page of `maskstore`, not again on that of
`maskstore.bank`. Files outside docs/ that the pages link to are brought in under the names of `BROUGHT_IN`.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
BROUGHT_IN = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "kernels.md": "maskstore/kernels/README.md",
}
IMAGES = "benchmarks/results"
PAGES = (
    "maskstore",
    "maskstore.masks",
    "maskstore.bank",
    "maskstore.codecs",
    "maskstore.messages",
    "maskstore.interop",
    "maskstore.torch",
    "maskstore.kernels",
    "hopfield",
    "hopfield.memories",
    "hopfield.rules",
    "hopfield.recovery",
    "supsup_models",
    "supsup_models.data",
    "supsup_models.networks",
    "supsup_models.networks.convert",
    "supsup_models.training",
    "supsup_models.training.steps",
    "supsup_models.inference",
    "supsup_models.continual",
    "supsup_models.hopsupsup",
    "supsup_models.runs",
    "supsup_models.experiments",
    "supsup_models.experiments.baselines",
    "supsup_models.report",
    "supsup_models.report.explore",
)
"""Faces in the order of the reference. A face that is not here is only for the rest of the library."""


def faces() -> Iterator[tuple[str, ModuleType, dict[str, object]]]:
    """Each page's dotted name, its folder, and the names to show with what they stand for."""
    seen: set[int] = set()
    for name in PAGES:
        module = importlib.import_module(name)
        shown = {}
        for entry in sorted(module.__all__, key=str.lower):
            value = getattr(module, entry, None) or importlib.import_module(f"{name}.{entry}")
            if isinstance(value, ModuleType) and f"{name}.{entry}" not in PAGES and value.__name__ == f"{name}.{entry}":
                shown[entry] = value
            elif (inspect.isclass(value) or inspect.isroutine(value)) and id(value) not in seen:
                seen.add(id(value))
                shown[entry] = value
        yield name, module, shown


def page_of(name: str, module: ModuleType, shown: dict[str, object]) -> str:
    """The Markdown of a reference page."""
    lines = [f"# {name}", "", (module.__doc__ or "").strip(), ""]
    for entry, value in shown.items():
        lines += [f"::: {name}.{entry}"]
        if isinstance(value, ModuleType):
            lines += ["    options:", "      members: true", "      show_root_full_path: true"]
        lines += [""]
    return "\n".join(lines)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the pages of the reference below its overview."""
    assert config.nav is not None
    (entries,) = (entry["Reference"] for entry in config.nav if "Reference" in entry)
    entries += [{name: f"reference/{name}.md"} for name, _, shown in faces() if shown]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the reference, and what is brought in from outside docs/."""
    index = ["# Reference", "", "Each page stands for a folder. It shows what the folder offers to others.", ""]
    index += ["| page | what is there |", "| --- | --- |"]
    for name, module, shown in faces():
        if shown:
            files.append(File.generated(config, f"reference/{name}.md", content=page_of(name, module, shown)))
            summary = (module.__doc__ or "").strip().splitlines()[0]
            index.append(f"| [`{name}`]({name}.md) | {summary} |")
    files.append(File.generated(config, "reference/index.md", content="\n".join(index) + "\n"))
    for target, source in BROUGHT_IN.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    for image in sorted((ROOT / IMAGES).glob("*.svg")):
        files.append(File.generated(config, f"images/{image.name}", abs_src_path=str(image)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files outside docs/ become links to where they are brought in, or plain text."""
    source = page.file.src_uri
    home = {target: str(Path(path).parent) for target, path in BROUGHT_IN.items()}.get(source, "docs")

    def replaced(match: re.Match[str]) -> str:
        text, link, anchor = match.groups()
        path = (ROOT / home / link).resolve()
        if not path.is_relative_to(ROOT) or (source not in BROUGHT_IN and path.parent == ROOT / "docs"):
            return match.group()
        relative = path.relative_to(ROOT).as_posix()
        targets = {file: target for target, file in BROUGHT_IN.items()} | {"README.md": "index.md"}
        if path.parent == ROOT / "docs" / "tutorials":  # the source of a page that is made while the site is built
            return f"[{text}](tutorials/{path.stem}.md)"
        if relative.startswith("docs/"):
            return f"[{text}]({relative.removeprefix('docs/')}{anchor or ''})"
        if relative.startswith(IMAGES) and path.suffix == ".svg":
            return f"[{text}](images/{path.name})"
        if relative in targets:
            return f"[{text}]({targets[relative]}{anchor or ''})"
        return text

    if source.startswith(("reference/", "tutorials/")):
        return markdown
    return re.sub(r"\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)", replaced, markdown)
