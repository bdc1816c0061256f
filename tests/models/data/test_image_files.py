"""Image vectors from image files: which files belong to a product, and what becomes of those that cannot be read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from models.data.image_encoders import LayoutEncoder, OnnxImageEncoder, describe
from models.data.image_files import ENCODER_FILE, add_images, find_pictures
from models.data.schema import Dataset
from models.errors import DataError
from tests.helpers import small_dataset


def picture(seed: int, *, wide: bool) -> Image.Image:
    """A bar, lying or standing, of random place and colour."""
    draw = np.random.default_rng(seed)
    image = Image.new("RGB", (120, 120), "white")
    left, top = (int(value) for value in draw.integers(0, 40, 2))
    size = (70, 12) if wide else (12, 70)
    box = (left, top, left + size[0], top + size[1])
    ImageDraw.Draw(image).rectangle(box, fill=tuple(int(value) for value in draw.integers(0, 200, 3)))
    return image


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return small_dataset(tmp_path / "things", products=40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos of p0 to p29, seven of p1 in all, one that is cut off, one of nobody, and a note."""
    folder = tmp_path / "photos"
    (folder / "p1").mkdir(parents=True)
    for at in range(30):
        picture(at, wide=at % 2 == 0).save(folder / f"p{at}.jpg")
    for at in range(6):
        picture(100 + at, wide=False).save(folder / "p1" / f"{at}.png")
    (folder / "p30_1.jpg").write_bytes((folder / "p0.jpg").read_bytes()[:300])
    picture(0, wide=True).save(folder / "stranger.jpg")
    (folder / "readme.txt").write_text("photos")
    return folder


def test_files_belong_to_the_product_they_are_named_after(folder: Path) -> None:
    """ID.jpg, ID_1.jpg and ID/any; five of a product at most, in the order of their names."""
    pictures, unmatched = find_pictures(folder, ["p1", "p30", "p2"])
    of_product = {row: [p.path.name for p in pictures if p.product == row] for row in range(3)}

    assert ["0.png", "1.png", "2.png", "3.png", "4.png"] == of_product[0]
    assert ["p30_1.jpg"] == of_product[1]
    assert ["p2.jpg"] == of_product[2]
    assert 29 == unmatched


def test_a_dataset_gets_vectors_where_there_are_photos(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    """Nothing is silent: the cut file is named, the stranger counted; all else of the dataset is carried over."""
    report = add_images(dataset, folder, tmp_path / "seen", sheet=tmp_path / "sheet.png")
    seen = Dataset.open(tmp_path / "seen")
    counts = [len(vectors or []) for vectors in seen.products()["image_vectors"].to_list()]

    assert [1, 5, 1] == counts[:3]
    assert [0] * 10 == counts[30:]
    assert (40, 30, 34, 1) == (report.products, report.with_images, report.images, report.unmatched)
    assert 1 == len(report.unreadable)
    assert report.unreadable[0].startswith("p30_1.jpg")
    assert seen.events().equals(dataset.events())
    assert seen.judgements().equals(dataset.judgements())
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 500


def test_later_photos_get_vectors_of_the_same_space(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    """The fitted encoder is kept in the dataset; named again, it gives the same vectors."""
    add_images(dataset, folder, tmp_path / "first")
    add_images(dataset, folder, tmp_path / "again", encoder=str(tmp_path / "first" / ENCODER_FILE))
    first, again = (
        Dataset.open(tmp_path / name).products()["image_vectors"].to_list()[0] for name in ("first", "again")
    )

    np.testing.assert_allclose(first, again, atol=1e-6)
    assert 1.0 == pytest.approx(np.linalg.norm(first[0]), abs=1e-5)


def test_alike_pictures_are_near_and_mirror_images_too() -> None:
    """Of lying and standing bars the nearest is one of the same kind, and a picture's mirror image is as good as it."""
    images = [picture(at, wide=at % 2 == 0) for at in range(40)]
    encoder = LayoutEncoder.fit(describe(images))
    vectors = encoder.encode(images)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)

    same_kind = (cosines.argmax(axis=1) % 2) == (np.arange(40) % 2)
    assert same_kind.mean() > 0.9
    mirrored = encoder.encode([image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images])
    assert (vectors * mirrored).sum(axis=1).min() > 0.9


@pytest.mark.parametrize(
    ("encoder", "names"), [("vgg", "--encoder vgg"), ("no.onnx", "no.onnx"), ("no.safetensors", "no.safetensors")]
)
def test_an_encoder_that_is_none_is_named(
    encoder: str, names: str, dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=names):
        add_images(dataset, folder, tmp_path / "out", encoder=encoder)


def test_a_folder_without_a_products_photo_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"such as p0\.jpg"):
        add_images(dataset, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="no folder"):
        add_images(dataset, tmp_path / "nowhere", tmp_path / "out")


def test_a_network_of_the_users_own_is_run(tmp_path: Path) -> None:
    """An ONNX file that averages colours gives red pictures the vector that ImageNet's scaling makes of red."""
    import onnx
    from onnx import TensorProto, helper

    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])
    pooled = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["n", 3, 1, 1])
    pool = helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"])
    graph = helper.make_graph([pool], "mean", [pixels], [pooled])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "mean.onnx")
    vectors = OnnxImageEncoder(tmp_path / "mean.onnx").encode([Image.new("RGB", (20, 30), "red")] * 2)
    expected = (np.array([1, 0, 0]) - OnnxImageEncoder.MEAN) / OnnxImageEncoder.DEVIATION

    np.testing.assert_allclose(vectors, [expected / np.linalg.norm(expected)] * 2, atol=1e-5)
