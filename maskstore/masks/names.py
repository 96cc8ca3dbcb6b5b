"""The names of a matrix's rows."""

from collections.abc import Iterable, Sequence


class RowNames:
    """Distinct names in row order, and the row of each.

    A name is claimed before its row arrives, so there may be one more than there are rows: that of an append which was
    interrupted. It counts for nothing, and the next claim takes its place.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = list(names)
        self._index = {name: row for row, name in enumerate(self._names)}

    @property
    def distinct(self) -> bool:
        """Whether no name came twice."""
        return len(self._index) == len(self._names)

    def first(self, rows: int) -> tuple[str, ...]:
        """The names of the first so many rows."""
        return tuple(self._names[:rows])

    def chosen(self, rows: Sequence[int]) -> "RowNames":
        """The names of some rows, in this order."""
        return RowNames(self._names[row] for row in rows)

    def find(self, name: str, rows: int) -> int | None:
        """The row of a name, of so many rows that have arrived; None if it is of none of them."""
        row = self._index.get(name)
        return row if row is not None and row < rows and self._names[row] == name else None

    def claim(self, name: str, row: int) -> None:
        """Name the row that arrives next."""
        self._names[row:] = [name]
        self._index[name] = row

    def __len__(self) -> int:
        return len(self._names)
