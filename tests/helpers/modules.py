"""The library's modules and what each of them imports; `house.py` has the rules that they keep.

A `House` is made from source texts, not from what Python imported, so a test can plant a violation in a copy of them.
Imports inside functions and for type checkers count like all others. So do `import_module("...")` and attributes that
are modules: `import maskstore.bank as b; b.rows` imports `maskstore.bank.rows`.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("maskstore", "hopfield", "supsup_models")
COMPUTED = "a computed name"
"""Stands for the module that `import_module` is given when the program runs."""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)


class Import(NamedTuple):
    """One imported name: the module it is in, the name ("" for the module itself), where, and whether in a function."""

    module: str
    name: str
    line: int
    lazy: bool
    bound: str = ""
    """What it is called where it is imported; "" if it gets no name."""


@dataclass
class House:
    """Modules by dotted name with their sources; a folder's face is the text of its `.pyi` where it has one."""

    sources: Mapping[str, str] = field(repr=False)
    folders: frozenset[str] = field(repr=False)
    imports: dict[str, list[Import]] = field(default_factory=dict, repr=False)
    trees: dict[str, ast.Module] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for module in sorted(self.sources.keys() - self.imports.keys()):
            self.trees[module] = ast.parse(self.sources[module])
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
        kept = {other: found for other, found in self.imports.items() if other != name}
        return House(sources, self.folders, kept, dict(self.trees))

    def face(self, folder: str) -> set[str]:
        """The names that a folder lists for others: its `__all__`, or all that its stub imports."""
        listed: set[str] = set()
        for node in self.trees[folder].body:
            if isinstance(node, _ASSIGNMENTS) and node.value and "__all__" in _stored(node):
                listed |= set(ast.literal_eval(node.value))
        own = (item for item in self.imports[folder] if f"{item.module}.".startswith(f"{folder}."))
        return listed or {item.bound for item in own if not item.lazy}

    def names(self, module: str) -> set[str]:
        """All names that a module has at its top level."""
        found = {item.bound for item in self.imports[module] if not item.lazy}
        inner: list[ast.stmt] = list(self.trees[module].body)
        for node in inner:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            else:
                found |= _stored(node)
                inner += [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)]
        return found

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
        modules: dict[str, str] = {}  # of ours, by the name that they have here
        importers = {"import_module", "__import__"}
        calls, attributes = [], []
        for node, lazy in _walk(self.trees[module]):
            if isinstance(node, ast.ImportFrom):
                source = self._source(module, node)
                for alias in node.names:
                    item = Import(source, alias.name, node.lineno, lazy, alias.asname or alias.name)
                    yield item
                    if f"{source}.{alias.name}" in self.sources:
                        modules[item.bound] = f"{source}.{alias.name}"
                    elif item[:2] == ("importlib", "import_module"):
                        importers.add(item.bound)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    bound = alias.asname or alias.name.partition(".")[0]
                    yield Import(alias.name, "", node.lineno, lazy, bound)
                    modules[bound] = alias.name if alias.asname else bound
            elif isinstance(node, ast.Call):
                calls.append((node, lazy))
            elif isinstance(node, ast.Attribute):
                attributes.append((node, lazy))
        for call, lazy in calls:
            if getattr(call.func, "attr", getattr(call.func, "id", "")) in importers:
                name = call.args[0] if call.args else None
                yield Import(str(name.value) if isinstance(name, ast.Constant) else COMPUTED, "", call.lineno, lazy)
        for attribute, lazy in attributes:
            owner = self._module_of(attribute.value, modules)
            if owner in self.folders:
                yield Import(owner, attribute.attr, attribute.lineno, lazy)

    def _module_of(self, node: ast.expr, modules: Mapping[str, str]) -> str:
        """The module of ours that an expression is, or ""."""
        if isinstance(node, ast.Name):
            return modules.get(node.id, "")
        if isinstance(node, ast.Attribute):
            below = f"{self._module_of(node.value, modules)}.{node.attr}"
            return below if below in self.sources else ""
        return ""

    def _source(self, module: str, node: ast.ImportFrom) -> str:
        """Where the names of a `from` import are from, relative ones resolved."""
        if not node.level:
            return node.module or ""
        base = self.folder_of(module)
        for _ in range(node.level - 1):
            base = base.rpartition(".")[0]
        return f"{base}.{node.module or ''}".rstrip(".")


def _walk(node: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes below one, each with whether it is inside a function."""
    for child in ast.iter_child_nodes(node):
        yield child, lazy
        yield from _walk(child, lazy or isinstance(child, _FUNCTIONS))


def _stored(node: ast.stmt) -> set[str]:
    """The names that a statement assigns, without those of statements inside it."""
    expressions = [each for each in ast.iter_child_nodes(node) if not isinstance(each, ast.stmt)]
    inner = [each for expression in expressions for each in ast.walk(expression)]
    return {each.id for each in inner if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
