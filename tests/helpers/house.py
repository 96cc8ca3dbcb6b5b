"""The library as a house: its modules, what each imports, and the rules that hold it up.

A `House` is made from source texts, not from what Python imported, so a test can plant a violation in a copy of them.
Imports inside functions count like all others.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("maskstore", "hopfield", "supsup_models")
MOST_MODULES = 16
"""The most modules that a folder may hold."""

FLOORS = {
    "maskstore": [
        {"errors", "_version"},
        {"kernels", "files", "_configured"},
        {"masks", "philox"},
        {"priors"},
        {"codecs"},
        {"bank"},
        {"interop", "torch"},
        {"", "cli"},
    ],
    "hopfield": [
        {"errors"},
        {"patterns"},
        {"dynamics", "rules"},
        {"memories"},
        {"files", "recovery", "capacity"},
        {""},
    ],
    "supsup_models": [
        {"errors", "_requirements"},
        {"_names", "_progress"},
        {"data"},
        {"networks"},
        {"training", "inference"},
        {"continual", "hopsupsup"},
        {"runs"},
        {"report", "experiments"},
        {"", "cli"},
    ],
}
"""The rooms of each package, lowest floor first; "" is the package's own `__init__.py`. A module imports rooms of lower
floors and its own room, never another room of its own floor or above. `hopfield` stands on `maskstore`, `supsup_models`
on both."""

LLVMLITE = ("maskstore.kernels.ir", "supsup_models.inference.compiled", "supsup_models.training.steps.rmsprop_kernel")
TORCH = ("maskstore.torch", "hopfield", "supsup_models")
TORCH_IN_FUNCTIONS = ("maskstore.interop.readers.torch_files",)


class Import(NamedTuple):
    """One imported name: the module it is in (or the outside package), the name, where, and whether in a function."""

    module: str
    name: str
    line: int
    lazy: bool


@dataclass
class House:
    """Modules by dotted name with their sources; a folder's face is the text of its `.pyi` where it has one."""

    sources: Mapping[str, str] = field(repr=False)
    folders: frozenset[str] = field(repr=False)
    imports: dict[str, list[Import]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for module in self.sources.keys() - self.imports.keys():
            self.imports[module] = list(self._imports_of(module))

    @classmethod
    def of(cls, root: Path) -> "House":
        """The three packages below `root`."""
        sources, folders = {}, set()
        for package in PACKAGES:
            for path in sorted((root / package).rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                if parts[-1] == "__init__":
                    parts = parts[:-1]
                    folders.add(".".join(parts))
                    path = path.with_suffix(".pyi") if path.with_suffix(".pyi").exists() else path
                sources[".".join(parts)] = path.read_text()
        return cls(sources, frozenset(folders))

    def with_module(self, name: str, source: str) -> "House":
        """A copy in which module `name` has other lines at its end, or is new."""
        sources = {**self.sources, name: self.sources.get(name, "") + "\n" + source}
        return House(sources, self.folders, {other: found for other, found in self.imports.items() if other != name})

    def face(self, folder: str) -> set[str]:
        """The names that a folder lists for others: its `__all__`, or all that its stub imports."""
        tree = ast.parse(self.sources[folder])
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return set(ast.literal_eval(node.value))
        return {item.name for item in self.imports[folder] if item.module.startswith(folder)}

    def room(self, module: str) -> str:
        """The first folder or module below the package, "" for the package itself."""
        return module.partition(".")[2].partition(".")[0]

    def folder_of(self, module: str) -> str:
        return module if module in self.folders else module.rpartition(".")[0]

    def target(self, item: Import) -> str | None:
        """The module of ours that an import reaches: a submodule where the name is one, else where the name is from."""
        below = f"{item.module}.{item.name}"
        return below if below in self.sources else item.module if item.module in self.sources else None

    def _imports_of(self, module: str) -> Iterator[Import]:
        tree = ast.parse(self.sources[module])
        lazy = {
            id(inner)
            for outer in ast.walk(tree)
            if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for inner in ast.walk(outer)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                source = node.module or ""
                if node.level:
                    base = module if module in self.folders else module.rpartition(".")[0]
                    for _ in range(node.level - 1):
                        base = base.rpartition(".")[0]
                    source = f"{base}.{source}".rstrip(".")
                for alias in node.names:
                    yield Import(source, alias.name, node.lineno, id(node) in lazy)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, "", node.lineno, id(node) in lazy)


def circles(house: House) -> list[str]:
    """Rule 1: no circle of modules. Each circle is reported once, and opened there to look for the next."""
    graph = {
        module: {target for item in items if (target := house.target(item)) and target != module}
        for module, items in house.imports.items()
    }
    found: list[str] = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = error.args[1]  # each module is imported by the next
            found.append("circle: " + " <- ".join(circle))
            graph[circle[1]].discard(circle[0])
        else:
            return found


def upward(house: House) -> list[str]:
    """Rule 2: imports go down only, from package to package and from floor to floor."""
    found = []
    floors = {
        (package, room): level
        for package, levels in FLOORS.items()
        for level, rooms in enumerate(levels)
        for room in rooms
    }
    for module, items in house.imports.items():
        package, room = module.partition(".")[0], house.room(module)
        if (package, room) not in floors:
            found.append(f"{module}: room {room!r} is on no floor")
            continue
        for item in items:
            target = house.target(item)
            if target is None or (house.room(target), target.partition(".")[0]) == (room, package):
                continue
            above = target.partition(".")[0]
            if above == package:
                wrong = floors.get((package, house.room(target)), 99) >= floors[package, room]
            else:
                wrong = PACKAGES.index(above) > PACKAGES.index(package)
            if wrong:
                found.append(f"{module}:{item.line} imports {target}, which is not below it")
    return found


def insides(house: House) -> list[str]:
    """Rule 3: from outside a folder only what its face lists is imported; the top modules of a package are public."""
    found = []
    for module, items in house.imports.items():
        folder = house.folder_of(module)
        for item in items:
            target = house.target(item)
            if target is None:
                continue
            name = target.rpartition(".")[2]
            parent = target.rpartition(".")[0] if target not in house.folders else ""
            if parent in ("", *PACKAGES) or folder == parent or folder.startswith(parent + "."):
                inner = house.target(item) in house.folders and item.name and folder != target
                below = folder.startswith(f"{target}.") or f"{item.module}.{item.name}" == target
                if inner and not below and item.name not in house.face(target):
                    found.append(f"{module}:{item.line} imports {item.name!r}, which {target} does not list")
                if parent in PACKAGES and name.startswith("_") and module.partition(".")[0] != parent:
                    found.append(f"{module}:{item.line} imports the private module {target}")
            elif item.name != name or name not in house.face(parent):
                found.append(f"{module}:{item.line} imports {target}, an inside of {parent}")
    return found


def misplaced(house: House) -> list[str]:
    """Rule 4: llvmlite and torch are imported only where they may be."""

    def under(module: str, places: tuple[str, ...]) -> bool:
        return any(module == place or module.startswith(place + ".") for place in places)

    found = []
    for module, items in house.imports.items():
        for item in items:
            package = item.module.partition(".")[0]
            if package == "llvmlite" and not under(module, LLVMLITE):
                found.append(f"{module}:{item.line} imports llvmlite")
            allowed = under(module, TORCH) or (item.lazy and under(module, TORCH_IN_FUNCTIONS))
            if package == "torch" and not allowed:
                found.append(f"{module}:{item.line} imports torch")
    return found


def crowded(house: House) -> list[str]:
    """Rule 5: no folder holds more than `MOST_MODULES` modules."""
    held: dict[str, int] = defaultdict(int)
    for module in house.sources:
        held[house.folder_of(module)] += 1
    return [f"{folder}: {count} modules" for folder, count in held.items() if count > MOST_MODULES]


def shadowed(house: House) -> list[str]:
    """Rule 6: no face lists a function or class under the name of one of its folder's own modules."""
    found = []
    for folder in house.folders:
        for item in house.imports[folder]:
            hidden = f"{folder}.{item.name}"
            if hidden in house.sources and item.module != folder:
                found.append(f"{folder}: {item.name!r} is both a listed name and a module")
    return found


RULES = (circles, upward, insides, misplaced, crowded, shadowed)
