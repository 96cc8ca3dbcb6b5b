"""Which known name a mistyped one probably means."""

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint such as `, did you mean 'raw'?`, or "" if no known name is near. Case, `_` and spaces do not count."""
    import difflib

    names = {_folded(name): name for name in known}
    folded = _folded(word)
    # a name that begins like this is nearer than one that is merely spelt alike
    begun = [name for name in names if folded and name.startswith(folded)]
    close = begun or difflib.get_close_matches(folded, names, n=1, cutoff=0.5)
    return f", did you mean {names[close[0]]!r}?" if close else ""


def check_known(what: str, word: str, known: Iterable[str], error: type[Exception]) -> None:
    """An `error` that lists the known names and hints at the nearest, unless `word` is one of them."""
    names = list(known)
    if word not in names:
        raise error(f"{what}: expected one of {', '.join(names)}, found {word!r:.80}{nearest(str(word), names)}")


def _folded(name: str) -> str:
    return "-".join(name.lower().replace("_", " ").split())
