"""Many numbers, and the few that describe them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How numbers are spread; all zero when there are none.

    median and percentile_95 are numbers that occur, not values between two.
    """

    total: int = 0
    mean: float = 0.0
    smallest: int = 0
    median: int = 0
    percentile_95: int = 0
    largest: int = 0


class Numbers:
    """Whole numbers, collected piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[Any] = []

    @classmethod
    def of(cls, values: Any) -> Numbers:
        """Numbers that are all there already."""
        numbers = cls()
        numbers.add(values)
        return numbers

    def add(self, values: Any) -> None:
        """Add numbers: a list, a numpy array or an Arrow array."""
        self._pieces.append(values)

    def array(self) -> NDArray[np.int64]:
        """All numbers in order: int64 [n]."""
        import numpy as np

        if len(self._pieces) != 1 or not isinstance(self._pieces[0], np.ndarray):
            pieces = [np.asarray(piece, dtype=np.int64) for piece in self._pieces]
            self._pieces = [np.concatenate(pieces) if pieces else np.zeros(0, np.int64)]
        array: NDArray[np.int64] = self._pieces[0].astype(np.int64, copy=False)
        return array

    def spread(self) -> Spread:
        """The figures that describe them."""
        import numpy as np

        array = self.array()
        if not len(array):
            return Spread()
        smallest, median, percentile_95, largest = np.quantile(
            array, (0, 0.5, 0.95, 1), method="higher"
        ).tolist()
        return Spread(
            total=int(array.sum()),
            mean=round(float(array.mean()), 3),
            smallest=smallest,
            median=median,
            percentile_95=percentile_95,
            largest=largest,
        )
