from os import PathLike
from typing import Any, TypedDict, final, type_check_only

import numpy as np
from numpy.typing import ArrayLike, NDArray

__version__: str

@type_check_only
class Prediction(TypedDict, total=False):
    """Of one system, or of each of several: see `Model.compute`."""

    energy: Any
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]

@type_check_only
class Deviation(TypedDict, total=False):
    """See `Model.compared_with_f32`."""

    energy: float
    forces: float
    stress: float

@final
class Model:
    """A model with its weights packed for this machine.

    It never changes: threads may share it, and copies are the same. Pickles hold all of its file.
    """

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        dtype: str = "f32",
        tabulate: float | None = None,
        precision: str = "f32",
        *,
        runtime: str = "host",
    ) -> Model:
        """Reads a model's file and packs its weights in `dtype`, `f32` or `f64`.

        tabulate: reads filters from tables that err by at most this beside their largest value, which is faster.
        precision: `f16` and `bf16` store weights, tables and the features between layers in these, `int8` weights and inputs of
        dense layers in eight bits; sums and gradients are in `f32`, which `dtype` has to be. What that costs in accuracy
        `compared_with_f32` says: nothing is refused here.
        runtime: `host`. Devices are those of the program: `forgefield serve --runtime vulkan` or `cuda` gives their forces to ASE's
        `SocketIOCalculator`.

        Raises `OSError` where the file cannot be read, `ValueError` where it is no model.
        """

    @classmethod
    def from_bytes(
        cls, bytes: bytes, dtype: str = "f32", tabulate: float | None = None, precision: str = "f32"
    ) -> Model:
        """As `load`, of the bytes of a file."""

    def compute(
        self,
        positions: ArrayLike,
        numbers: ArrayLike,
        cell: ArrayLike | None = None,
        pbc: ArrayLike | None = None,
        systems: ArrayLike | None = None,
        *,
        forces: bool = True,
        stress: bool = True,
        per_atom: bool = False,
        neighbors: Neighbors | None = None,
    ) -> Prediction:
        """What the model says of a system, or of several at once, without holding the interpreter's lock.

        positions: [n_atoms, 3], Å; atoms may lie anywhere. numbers: [n_atoms], atomic numbers.
        cell: [3, 3], lattice vectors as rows, Å; zeros for none. pbc: which of them repeat, [3] or one for all; wanted where
        there is a cell.
        systems: the system of each atom, [n_atoms], ascending from 0; then `cell` may be [n_systems, 3, 3] and `pbc`
        [n_systems, 3], and systems without atoms are counted by them. Batches are divided so that memory suffices; Ctrl-C is
        heard between the parts.
        neighbors: what keeps neighbour lists for the next call with these atoms, moved a little.

        Of one system: `energy` (float, eV), `forces` [n_atoms, 3] (eV/Å), `stress` [3, 3] (eV/Å³, tension positive; absent where
        nothing repeats or the cell has no volume), `energies` [n_atoms] (eV) where `per_atom`.
        With `systems`: `energy` [n_systems] and `stress` [n_systems, 3, 3], NaN where there is none. Arrays are the caller's.

        Raises `ValueError` for shapes, positions, cells and elements that cannot be, and warns once of elements that the model was
        not trained on.
        """

    def compared_with_f32(
        self,
        positions: ArrayLike,
        numbers: ArrayLike,
        cell: ArrayLike | None = None,
        pbc: ArrayLike | None = None,
        systems: ArrayLike | None = None,
    ) -> Deviation:
        """By how much this model differs from itself in `f32` with exact filters, on systems as `compute` takes them.

        `energy`: mean absolute difference, eV/atom. `forces`, `stress`: root mean square differences of components, eV/Å and
        eV/Å³; `stress` is absent where no system has one. The program refuses a precision that errs by more than 0.01 eV/atom,
        0.05 eV/Å or 0.1 GPa (0.000624 eV/Å³).

        Raises `ValueError` as `compute` does.
        """

    def __copy__(self) -> Model: ...
    def __deepcopy__(self, _memo: Any, /) -> Model: ...
    @property
    def cutoff(self) -> float:
        """Radius beyond which atoms do not see each other, Å."""

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the model was trained on; empty where its file does not say."""

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""

    @property
    def table_error(self) -> float | None:
        """How much filters that are tables err beside their largest value; `None` where they are exact."""

    @property
    def precision(self) -> str:
        """How numbers are stored: `f32`, `f16`, `bf16` or `int8`."""

    @property
    def dtype(self) -> str:
        """The element type of the computation, `f32` or `f64`."""

@final
class Neighbors:
    """Neighbour lists that are kept from call to call of `Model.compute`, to whose results they change nothing.

    skin: how much further than the cutoff lists reach, Å: they are built again once an atom has moved by half of it.

    Whatever the next call has is compared first: other atoms, cells or directions that repeat get lists of their own. Of batches
    that are computed in parts nothing is kept. Threads may share one, which then is of use to one of them at a time. Copies and
    pickles are of the skin alone.
    """

    def __new__(cls, skin: float = 0.5) -> Neighbors: ...
    def __copy__(self) -> Neighbors: ...
    def __deepcopy__(self, _memo: Any, /) -> Neighbors: ...
    @property
    def skin(self) -> float:
        """How much further than the cutoff lists reach, Å."""

    @property
    def reused(self) -> int:
        """How many calls built no list."""

def neighbor_list(
    quantities: str, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, cutoff: float
) -> list[NDArray[Any]]:
    """What `forgefield.neighbor_list` is made of."""
