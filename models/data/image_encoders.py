"""Image files to vectors: what stands where the paper has GrokNet.

`LayoutEncoder` needs no download and no weights: it describes where the edges of a picture run, what its texture is
and how light and colour are laid out, and fits a centre and principal axes on the catalogue's own pictures. It is no
match for a trained network, but it tells a shoe from a dress; `OnnxImageEncoder` runs a network that the user has.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.errors import DataError

SIDE = 96  # pixels of the square that a picture is shrunk to
ORIENTATIONS = 9  # of edges, over half a turn
FINE, COARSE = 12, 16  # pixels of a cell
TEXTURE_CELLS = 3  # a side
TINY = 8  # pixels of the thumbnail a side
WEIGHTS = {
    "edges": 0.7,
    "contrast": 0.7,
    "texture": 1.0,
    "thumbnail": 0.4,
}  # by category precision@10 on fashion photos
AXES = 128  # principal axes that are kept
VERSION = "layout-1"


class ImageEncoder(Protocol):
    """Pictures to vectors of one size."""

    name: str

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """(n, dim) float32, rows of norm 1."""
        ...


class LayoutEncoder:
    """Edges, texture and layout of light, about a centre and along axes that were fitted on a catalogue.

    Mirror images are alike: listings show a thing from either side.
    """

    def __init__(self, *, centre: np.ndarray, axes: np.ndarray) -> None:
        """centre: (f,); axes: (f, dim), orthonormal columns."""
        self.name = VERSION
        self._centre = centre
        self._axes = axes

    @classmethod
    def fit(cls, descriptors: np.ndarray) -> Self:
        """From the descriptors (n, f) of a catalogue's pictures; at most AXES axes, a multiple of 8 of them.

        Raises:
            DataError: fewer than 16 pictures.
        """
        if len(descriptors) < 16:
            raise DataError(f"{len(descriptors)} pictures are too few to fit an image encoder on; 16 are needed")
        centre = descriptors.mean(axis=0)
        _, vectors = np.linalg.eigh((descriptors - centre).T @ (descriptors - centre))
        dim = min(AXES, len(descriptors) // 8 * 8)
        return cls(centre=centre, axes=np.ascontiguousarray(vectors[:, ::-1][:, :dim]))

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """See `ImageEncoder`."""
        return self.project(describe(images))

    def project(self, descriptors: np.ndarray) -> np.ndarray:
        """Descriptors (n, f) to vectors (n, dim) float32, rows of norm 1."""
        return _unit((descriptors - self._centre) @ self._axes).astype(np.float32)

    def save(self, path: Path) -> None:
        beside = path.with_name(f"{path.name}.tmp")
        save_file({"centre": self._centre, "axes": self._axes}, beside, metadata={"encoder": json.dumps(VERSION)})
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises DataError where the file is missing, damaged or of another version."""
        try:
            with safe_open(path, framework="numpy") as file:
                version = json.loads((file.metadata() or {}).get("encoder", "null"))
                if version != VERSION:
                    raise DataError(
                        f"{path} holds {version!r}, this version reads {VERSION!r}; run `data images` again"
                    )
                return cls(centre=file.get_tensor("centre"), axes=file.get_tensor("axes"))
        except (OSError, SafetensorError) as exc:
            raise DataError(f"cannot read the image encoder {path}: {exc}") from exc


class OnnxImageEncoder:
    """A network of the user's: input (n, 3, height, width) as for ImageNet, its first output averaged over space."""

    MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def __init__(self, path: Path) -> None:
        """Raises DataError where the file cannot be run or takes no pictures."""
        import onnxruntime  # noqa: PLC0415 - only this encoder needs it

        try:
            self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as exc:  # onnxruntime raises classes of its own that share no base
            raise DataError(f"cannot load the image encoder {path}: {exc}") from exc
        self._input = self._session.get_inputs()[0]
        shape = self._input.shape
        if len(shape) != 4 or shape[1] != 3:
            raise DataError(f"{path} takes {shape}; an image encoder takes (n, 3, height, width)")
        self._size = tuple(side if isinstance(side, int) else 224 for side in shape[2:])
        self._at_once = isinstance(shape[0], str) or shape[0] is None
        self.name = path.stem

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """See `ImageEncoder`."""
        height, width = self._size
        pixels = np.stack([np.asarray(image.convert("RGB").resize((width, height))) for image in images]) / 255
        batch = ((pixels - self.MEAN) / self.DEVIATION).transpose(0, 3, 1, 2).astype(np.float32)
        parts = [batch] if self._at_once else np.split(batch, len(batch))
        found = np.concatenate([self._session.run(None, {self._input.name: part})[0] for part in parts])
        pooled = found.reshape(len(images), found.shape[1], -1).mean(axis=2)
        return _unit(pooled).astype(np.float32)


def describe(images: Sequence[Image.Image]) -> np.ndarray:
    """(n, f) float32: the parts of WEIGHTS side by side, each of norm 1 and then weighted."""
    shrunk = [image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in images]
    pixels = np.stack([np.asarray(image, dtype=np.float32) for image in shrunk]) / 255  # (n, s, s, 3)
    grey = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    fine, coarse = _edges(grey, FINE), _edges(grey, COARSE)
    parts = {
        "edges": np.sqrt(fine / (fine.sum(axis=(1, 2, 3), keepdims=True) + 1e-8)),  # where the strong ones are
        "contrast": np.sqrt(coarse / (_around(coarse) + 1e-8)),  # each against its neighbourhood, as in HOG
        "texture": np.sqrt(_texture(grey)),
        "thumbnail": _thumbnail(pixels),
    }
    return np.concatenate(
        [weight * _unit(parts[name].reshape(len(images), -1)) for name, weight in WEIGHTS.items()], axis=1
    ).astype(np.float32)


def _edges(grey: np.ndarray, cell: int) -> np.ndarray:
    """(n, c, c, ORIENTATIONS): how much edge of each orientation a cell has, in the picture and its mirror image."""
    down, across = np.gradient(grey, axis=(1, 2))
    strength = np.hypot(across, down)
    angle = (np.arctan2(down, across) % np.pi) / np.pi * ORIENTATIONS
    low = np.floor(angle).astype(np.int64)
    share = angle - low
    n, side, _ = grey.shape
    cells = np.zeros((n, side // cell, side // cell, ORIENTATIONS), dtype=np.float32)
    for orientation in range(ORIENTATIONS):
        here = (low % ORIENTATIONS == orientation) * (1 - share) + ((low + 1) % ORIENTATIONS == orientation) * share
        whole = (strength * here).reshape(n, side // cell, cell, side // cell, cell)
        cells[..., orientation] = whole.sum(axis=(2, 4))
    mirrored = cells[:, :, ::-1][..., (-np.arange(ORIENTATIONS)) % ORIENTATIONS]
    both: np.ndarray = cells + mirrored
    return both


def _around(cells: np.ndarray) -> np.ndarray:
    """(n, c, c, 1): the strength of each cell and its eight neighbours."""
    strength = np.pad((cells**2).sum(axis=-1), ((0, 0), (1, 1), (1, 1)), mode="edge")
    c = cells.shape[1]
    total = sum(strength[:, down : down + c, across : across + c] for down in range(3) for across in range(3))
    whole: np.ndarray = np.sqrt(total + 1e-3 * strength.mean(axis=(1, 2), keepdims=True))[..., None]
    return whole


def _texture(grey: np.ndarray) -> np.ndarray:
    """(n, cells, patterns): shares of the uniform local binary patterns in each of 3 x 3 parts of the picture."""
    inner = grey[:, 1:-1, 1:-1]
    size = inner.shape[1]
    around = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    codes = np.zeros(inner.shape, dtype=np.int64)
    for bit, (down, across) in enumerate(around):
        codes |= (grey[:, down : down + size, across : across + size] > inner + 0.01).astype(np.int64) << bit
    patterns = UNIFORM[codes]
    part = size // TEXTURE_CELLS
    counts = [
        np.stack([np.bincount(picture.ravel(), minlength=UNIFORM.max() + 1) for picture in patterns[:, rows, columns]])
        for rows in (slice(at * part, (at + 1) * part) for at in range(TEXTURE_CELLS))
        for columns in (slice(at * part, (at + 1) * part) for at in range(TEXTURE_CELLS))
    ]
    shares: np.ndarray = np.stack(counts, axis=1) / part**2
    return shares


def _uniform_patterns() -> np.ndarray:
    """(256,) int64: a number for each code that changes at most twice around its circle, one for all others."""
    changes = [sum((code >> bit & 1) != (code >> (bit + 1) % 8 & 1) for bit in range(8)) for code in range(256)]
    uniform = [code for code in range(256) if changes[code] <= 2]
    return np.array([uniform.index(code) if code in uniform else len(uniform) for code in range(256)])


UNIFORM = _uniform_patterns()


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(n, TINY, TINY, 3): the picture and its mirror image, shrunk, about its own mean."""
    n, cell = len(pixels), SIDE // TINY
    small = pixels.reshape(n, TINY, cell, TINY, cell, 3).mean(axis=(2, 4))
    both = small + small[:, :, ::-1]
    centred: np.ndarray = both - both.mean(axis=(1, 2, 3), keepdims=True)
    return centred


def _unit(rows: np.ndarray) -> np.ndarray:
    unit: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-8)
    return unit
