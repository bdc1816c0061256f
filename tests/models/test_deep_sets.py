"""Deep Sets over a product's images: none, one or five, in any order."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.channels import ImageChannel
from models.features import MAX_IMAGES
from tests.helpers import small_featurizer

torch.manual_seed(0)
CHANNEL = ImageChannel(image_dim=4, dim=8).eval()


def encoded(products: list[list[list[float]]]) -> tuple[torch.Tensor, torch.Tensor]:
    images, mask = small_featurizer().images(products)
    with torch.inference_mode():
        return CHANNEL(torch.from_numpy(images), torch.from_numpy(mask))


@given(st.integers(0, MAX_IMAGES), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(count: int, dice: object) -> None:
    """Any number of images, shuffled: the same vector; and without any, zeros that count as absent."""
    images = np.random.default_rng(count).normal(size=(count, 4)).tolist()
    shuffled = list(images)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    vectors, present = encoded([images, shuffled])

    torch.testing.assert_close(vectors[0], vectors[1], atol=1e-5, rtol=1e-5)
    assert [count > 0] * 2 == present.tolist()
    assert (count > 0) == bool(vectors[0].any())


def test_a_sixth_image_is_left_out_and_every_other_counts() -> None:
    """The first five of six give the vector of those five, and a vector unlike that of four."""
    six = np.random.default_rng(1).normal(size=(6, 4)).tolist()
    vectors, _ = encoded([six, six[:5], six[:4]])

    torch.testing.assert_close(vectors[0], vectors[1])
    assert (vectors[1] - vectors[2]).abs().max() > 1e-3
