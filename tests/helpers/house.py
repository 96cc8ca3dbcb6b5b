"""The rules that hold the house up, each a function that lists what breaks it."""

import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter

from tests.helpers.modules import COMPUTED, PACKAGES, House

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
        {"index", "interop", "messages", "torch"},
        {"", "cli"},
        {"__main__"},
    ],
    "hopfield": [
        {"errors"},
        {"patterns", "theory"},
        {"dynamics", "rules"},
        {"memories"},
        {"recovery", "capacity"},
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
        {"report", "experiments", "serving"},
        {"", "cli"},
        {"__main__"},
    ],
}
"""The rooms of each package, lowest floor first; "" is the package's own `__init__.py`. A module imports rooms of lower
floors and its own room, never another room of its own floor or above. `hopfield` stands on `maskstore`, `supsup_models`
on both."""

LLVMLITE = ("maskstore.kernels.ir", "supsup_models.inference.compiled", "supsup_models.training.steps.rmsprop_kernel")
TORCH = ("maskstore.torch", "hopfield", "supsup_models")
TORCH_IN_FUNCTIONS = ("maskstore.interop.readers.torch_files",)


def circles(house: House) -> list[str]:
    """Rule 1: no circle of modules.

    Each module can be read, tested and moved alone.
    """
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
            found.append("circle: " + " <- ".join(circle))  # reported once, and opened here to look for the next
            graph[circle[1]].discard(circle[0])
        else:
            return found


def upward(house: House) -> list[str]:
    """Rule 2: imports go down only, from package to package and from floor to floor.

    A change cannot break what is below it. To see what a change can break, look at the floors above.
    """
    found = []
    rooms = {(module.partition(".")[0], house.room(module)) for module in house.sources}
    floors = {
        (package, room): level
        for package, levels in FLOORS.items()
        for level, names in enumerate(levels)
        for room in names
    }
    found += [f"{package}: there is no room {room!r}" for package, room in sorted(floors.keys() - rooms)]
    for module, items in house.imports.items():
        package, room = module.partition(".")[0], house.room(module)
        if (package, room) not in floors:
            found.append(f"{module}: room {room!r} is on no floor")
            continue
        for item in items:
            target = house.target(item)
            if item.module.partition(".")[0] in ("tests", "benchmarks"):
                found.append(f"{module}:{item.line} imports {item.module}, which is not of the library")
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
    """Rule 3: from outside a folder only what its face lists is imported, folders in it included; the top modules of a
    package are public.

    The inside of a folder can change without a look at the rest of the library.
    """
    found = []
    for module, items in house.imports.items():
        folder = house.folder_of(module)
        for item in items:
            target = house.target(item)
            if target is None:
                continue
            for closed in _closed_folders(house, folder, house.folder_of(target)):
                found.append(f"{module}:{item.line} imports from {closed}, which its own folder does not list")
            name = target.rpartition(".")[2]
            parent = target.rpartition(".")[0] if target not in house.folders else ""
            if parent in ("", *PACKAGES) or folder == parent or folder.startswith(parent + "."):
                inner = house.target(item) in house.folders and item.name and folder != target
                below = folder.startswith(f"{target}.") or f"{item.module}.{item.name}" == target
                if inner and not below and item.name not in house.face(target):
                    found.append(f"{module}:{item.line} imports {item.name!r}, which {target} does not list")
                if parent in PACKAGES and name.startswith("_") and module.partition(".")[0] != parent:
                    found.append(f"{module}:{item.line} imports the private module {target}")
                if parent in PACKAGES and re.match("_[^_]", item.name) and item.module == target and folder != parent:
                    found.append(f"{module}:{item.line} imports {item.name!r}, which is private to {target}")
            elif item.name != name or name not in house.face(parent):
                found.append(f"{module}:{item.line} imports {target}, an inside of {parent}")
    return found


def _closed_folders(house: House, folder: str, target: str) -> list[str]:
    """The folders around `target` that those around them do not list, and that `folder` does not share."""
    parts = target.split(".")
    inner = [(".".join(parts[:depth]), parts[depth]) for depth in range(2, len(parts))]
    return [
        f"{outer}.{name}"
        for outer, name in inner
        if not f"{folder}.".startswith(f"{outer}.") and name not in house.face(outer)
    ]


def misplaced(house: House) -> list[str]:
    """Rule 4: llvmlite and torch are imported only where they may be.

    `maskstore` works without torch. All LLVM IR is in three places, where it can be checked or replaced.
    """

    def under(module: str, places: tuple[str, ...]) -> bool:
        return any(module == place or module.startswith(place + ".") for place in places)

    found = []
    for module, items in house.imports.items():
        for item in items:
            package = item.module.partition(".")[0]
            if package == "llvmlite" and not under(module, LLVMLITE):
                found.append(f"{module}:{item.line} imports llvmlite")
            allowed = under(module, TORCH) or (item.lazy and under(module, TORCH_IN_FUNCTIONS))
            if (package == "torch" or under(house.target(item) or "", TORCH)) and not allowed:
                found.append(f"{module}:{item.line} imports torch, itself or through a package that needs it")
            if item.module == COMPUTED:
                found.append(f"{module}:{item.line} imports a module whose name is computed")
    return found


def crowded(house: House) -> list[str]:
    """Rule 5: each folder has a face, and no more than 16 modules.

    A folder can be read as a list. One module more shows that there are two ideas in the folder.
    """
    held: dict[str, int] = defaultdict(int)
    for module in house.sources:
        held[house.folder_of(module)] += 1
    faceless = [f"{folder}: no __init__.py" for folder in held.keys() - house.folders]
    return faceless + [f"{folder}: {count} modules" for folder, count in held.items() if count > MOST_MODULES]


def shadowed(house: House) -> list[str]:
    """Rule 6: no face lists a function or class under the name of one of its folder's own modules.

    `folder.name` has one meaning. Otherwise it would depend on what was imported before.
    """
    found = []
    for folder in house.folders:
        modules = {item.bound for item in house.imports[folder] if f"{item.module}.{item.name}" in house.sources}
        for name in house.names(folder) - modules:
            if f"{folder}.{name}" in house.sources:
                found.append(f"{folder}: {name!r} is both a listed name and a module")
    return found


def hollow(house: House) -> list[str]:
    """Rule 7: what is imported or listed is there.

    A name that was moved or deleted leaves no import behind that fails only when it runs.
    """
    names = {module: house.names(module) for module in house.sources}
    found = []
    for module, items in house.imports.items():
        for item in items:
            target = house.target(item)
            if target is None and item.module.partition(".")[0] in PACKAGES:
                found.append(f"{module}:{item.line} imports {item.module}, which is not there")
            elif target == item.module and item.name not in ("", "*", "__all__", "__doc__", *names[target]):
                found.append(f"{module}:{item.line} imports {item.name!r}, which {target} does not have")
    for folder in house.folders:
        for name in house.face(folder) - names[folder]:
            if f"{folder}.{name}" not in house.sources:
                found.append(f"{folder} lists {name!r}, which it does not have")
    return found


RULES = (circles, upward, insides, misplaced, crowded, shadowed, hollow)
