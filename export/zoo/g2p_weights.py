"""The trained weights of g2p-en 2.1.0 (Apache License 2.0, by Kyubyong Park and Jongseok Kim).

PyPI's wheel of g2p-en has them as a NumPy file. The package is never imported, because it downloads dictionaries then:
only its file is read. Its dependencies are not needed either: pip install --no-deps g2p-en==2.1.0
"""
import importlib.util
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from user_error import UserError

PACKAGE, FILE = "g2p_en", "checkpoint20.npz"
# A GRU's weights have the rows of three gates: reset, update, new. _ih: for its input, _hh: for its state.
UNITS = 256
SHAPES = {"enc_emb": (29, UNITS), "dec_emb": (74, UNITS), "fc_w": (74, UNITS), "fc_b": (74,),
          **{f"{part}_{kind}_{side}": (3 * UNITS, UNITS)[:dimensions] for part in ("enc", "dec")
             for kind, dimensions in (("w", 2), ("b", 1)) for side in ("ih", "hh")}}


def find(given: Path | None = None) -> Path:
    """The file with the weights: `given`, or that of the installed package."""
    if given is not None:
        return given
    package = importlib.util.find_spec(PACKAGE)  # decision 222: finds it without importing it
    found = [file for folder in (package.submodule_search_locations or ()) if (file := Path(folder, FILE)).is_file()
             ] if package else []
    if not found:
        raise UserError("g2p needs the weights of g2p-en, which is not installed: pip install --no-deps g2p-en==2.1.0, "
                        f"or --weights PATH for its file {FILE}")
    return found[0]


def read(file: Path) -> dict[str, np.ndarray]:
    """The weights by name, float32. Raises UserError for a file that has not exactly these arrays."""
    try:
        with file.open("rb") as handle, np.load(handle) as arrays:
            weights = {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from error
    except (ValueError, BadZipFile, TypeError) as error:  # TypeError: np.load of a .npy gives one array, not a file
        raise UserError(f"{file} is not g2p-en's {FILE}: {error}") from error
    for name, shape in SHAPES.items():
        found = weights.get(name)
        if found is None or found.shape != shape or found.dtype != np.float32:
            there = "is missing" if found is None else f"is {found.dtype} {list(found.shape)}"
            raise UserError(f"{file} is not g2p-en's {FILE}: {name} {there}, not float32 {list(shape)}")
    return {name: weights[name] for name in SHAPES}
