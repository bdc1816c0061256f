"""An array that rows are appended to."""

import numpy as np

CAPACITY = 65_536  # rows at first; memory that no row has reached is not taken from the system


class Growing:
    """Rows of one type, in one piece. Growing beyond the capacity copies all of them, doubling it.

    Args:
        dtype: of the values.
        width: values of a row; 0: a row is one value.
        capacity: rows to make room for.
    """

    def __init__(self, dtype: type[np.generic], width: int = 0, *, capacity: int = CAPACITY) -> None:
        self._rows = np.empty((capacity, width) if width else capacity, dtype=dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> np.ndarray:
        """(n,) or (n, width): a view of all rows, good until the next one is appended."""
        filled: np.ndarray = self._rows[: self._count]
        return filled

    def append(self, row: object) -> None:
        """Add a row behind the others."""
        if self._count == len(self._rows):
            more = np.empty((2 * self._count, *self._rows.shape[1:]), dtype=self._rows.dtype)
            more[: self._count] = self._rows
            self._rows = more
        self._rows[self._count] = row
        self._count += 1
