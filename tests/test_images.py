"""images: MNIST files are read as they are meant or refused with a reason; digits are what they say."""

import contextlib
import gzip
import struct

import numpy as np
import pytest
import torch

from cmlib.chapter import images

SIZES = {"train": 6, "t10k": 4}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of small files in the format of MNIST."""
    monkeypatch.setattr(images, "MNIST_SIZES", SIZES)
    rng = np.random.default_rng(0)
    for name, n in SIZES.items():
        pixels, labels = rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n, np.uint8)
        head = struct.pack(">4I", 2051, n, 28, 28)
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pixels.tobytes()))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, n) + labels.tobytes())
    return tmp_path


@pytest.mark.parametrize(("split", "n"), [("train", 6), ("test", 4)])
def test_files_are_read_packed_or_not_row_after_row(folder, split, n):
    rng = np.random.default_rng(0)
    for size in SIZES.values():
        pixels, labels = rng.integers(0, 256, (size, 28, 28), np.uint8), rng.integers(0, 10, size, np.uint8)
        if size == n:
            break
    found = images.mnist(folder, split)
    assert found.pixels.shape == (n, 784, 1) and found.pixels.dtype == torch.float64
    assert np.array_equal(found.pixels[:, :, 0].numpy() * 255, pixels.reshape(n, -1).astype(float))
    assert found.labels.tolist() == labels.tolist()


def test_digits_are_handwriting():
    found = images.digits()
    assert found.pixels.shape == (1797, 64, 1) and found.pixels.min() == 0 and found.pixels.max() == 1
    assert torch.bincount(found.labels).min() > 170
    # the mean zero has a hole in it, the mean one has not
    means = [found.part(found.labels == k).pixels.mean(0).reshape(8, 8) for k in (0, 1)]
    assert means[0][3:5, 3:5].mean() < 0.2 < 0.6 < means[1][3:5, 3:5].mean()


def rewrite(folder, change):
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-1], "expected train-labels-idx1-ubyte to hold 6 bytes"),
        (lambda b: b + b"0", "expected train-labels-idx1-ubyte to hold 6 bytes"),
        (lambda b: b"", "expected train-labels-idx1-ubyte to hold 6 bytes"),
        (lambda b: struct.pack(">2I", 2051, 6) + b[8:], "expected the magic number 2049 in train-labels-idx1-ubyte"),
        (lambda b: struct.pack(">2I", 2049, 7) + b[8:], "expected train-labels-idx1-ubyte to hold 6 bytes"),
        (lambda b: b[:-1] + b"\x0b", "expected labels 0 to 9"),
    ],
)
def test_wrong_files_are_refused(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        images.mnist(folder)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_damaged_in_a_packed_file_is_a_clear_error_or_no_matter(folder, seed):
    packed = folder / "train-images-idx3-ubyte.gz"
    data, rng = bytearray(packed.read_bytes()), np.random.default_rng(seed)
    for at in rng.integers(10, len(data), 3):
        data[at] = rng.integers(256)
    packed.write_bytes(data)
    with contextlib.suppress(ValueError):
        images.mnist(folder)


def test_missing_and_broken_files_and_splits_are_refused(folder):
    with pytest.raises(ValueError, match="expected split"):
        images.mnist(folder, "validation")
    packed = folder / "train-images-idx3-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:100])
    with pytest.raises(ValueError, match="expected a gzip file"):
        images.mnist(folder)
    packed.write_bytes(b"not packed at all")
    with pytest.raises(ValueError, match="expected a gzip file"):
        images.mnist(folder)
    packed.unlink()
    with pytest.raises(ValueError, match=r"expected train-images-idx3-ubyte or train-images-idx3-ubyte.gz"):
        images.mnist(folder)
