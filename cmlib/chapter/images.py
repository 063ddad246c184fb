"""Images read pixel by pixel: handwritten digits as sequences.

Either the 1,797 digits of 8 x 8 pixels that ship with scikit-learn, or the MNIST files, which the reader has to bring.
"""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

MNIST_SIZES = {"train": 60_000, "t10k": 10_000}
IMAGES, LABELS = 2051, 2049  # the magic numbers of the two kinds of file


@dataclass(frozen=True)
class Images:
    """Sequences of pixels and what they show.

    Args:
        pixels: (n, time, 1), row after row, between 0 and 1.
        labels: (n,), 0 to 9.
    """

    pixels: Float[Tensor, "n time 1"]
    labels: Int[Tensor, " n"]

    def part(self, rows: Any) -> "Images":
        return Images(self.pixels[rows], self.labels[rows])


def digits() -> Images:
    """Return the digits of scikit-learn: 1,797 of 64 pixels, in the order in which they were written.

    Reference: alpaydin1998digits
    """
    from sklearn.datasets import load_digits  # here, as nothing else in cmlib needs it

    found = load_digits()
    return Images(torch.tensor(found.data / 16.0)[..., None], torch.tensor(found.target, dtype=torch.long))


def mnist(folder: Any, split: str = "train") -> Images:
    """Read a split of MNIST from its IDX files, packed or not: train-images-idx3-ubyte(.gz) and so on.

    Args:
        folder: where the files lie.
        split: "train" or "test".

    Raises:
        ValueError: if a file is missing, has another magic number or is not as long as its header says.

    Reference: lecun1998gradient
    """
    if split not in ("train", "test"):
        raise ValueError(f"expected split 'train' or 'test', got {split!r}")
    name = "train" if split == "train" else "t10k"
    n = MNIST_SIZES[name]
    pixels = _idx(Path(folder), f"{name}-images-idx3-ubyte", IMAGES, (n, 28, 28))
    labels = _idx(Path(folder), f"{name}-labels-idx1-ubyte", LABELS, (n,))
    if labels.max() > 9:
        raise ValueError(f"expected labels 0 to 9 in {name}-labels-idx1-ubyte, got {labels.max()}")
    return Images(torch.tensor(pixels.reshape(n, -1, 1) / 255.0), torch.tensor(labels, dtype=torch.long))


def _idx(folder: Path, name: str, magic: int, shape: tuple[int, ...]) -> np.ndarray:
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise ValueError(f"expected {name} or {name}.gz in {str(folder)!r}")
    expected = 4 + 4 * len(shape) + int(np.prod(shape))
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            content = file.read(expected + 1)  # no more than that, whatever the file unpacks to
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"expected a gzip file, got {path.name}: {error}") from error
    header = np.frombuffer(content[: 4 + 4 * len(shape)], dtype=">u4") if len(content) >= expected else []
    if len(header) and header[0] != magic:
        raise ValueError(f"expected the magic number {magic} in {path.name}, got {header[0]}")
    if len(content) != expected or tuple(header[1:]) != shape:
        raise ValueError(f"expected {path.name} to hold {' x '.join(map(str, shape))} bytes after its header")
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
