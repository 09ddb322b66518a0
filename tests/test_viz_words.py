"""Word maps: the plane is that of the two principal components, and labels can be read."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tinygrad_ja.errors import ShapeError
from tinygrad_ja.viz import principal_plane, word_map

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib.figure import Figure  # noqa: E402


def drawn(vectors, labels, groups=None, size=(7.0, 5.0)):
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.subplots()
    places = word_map(axes, vectors, labels, groups)
    figure.draw_without_rendering()
    texts = [text for text in axes.texts if text.get_text()]
    return axes, places, {text.get_text(): text.get_window_extent() for text in texts}


def test_the_plane_holds_the_directions_of_most_variance():
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 6)) * [5, 3, 1, 0.5, 0.1, 0.1] @ np.linalg.qr(random.normal(size=(6, 6)))[0]
    places, shares = principal_plane(x)
    values, axes = np.linalg.eigh(np.cov(x.T))
    expected = (x - x.mean(0)) @ axes[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(places), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(shares, values[::-1][:2] / values.sum(), rtol=1e-9)
    assert (places[np.abs(places).argmax(0), [0, 1]] > 0).all()


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (2, 1), (3, 3)])
def test_few_or_equal_words_are_no_trouble(shape):
    places, shares = principal_plane(np.ones(shape))
    assert places.shape == (shape[0], 2) and np.isfinite(places).all() and np.isfinite(shares).all()
    word_map(Figure().subplots(), np.ones(shape), ["a"] * shape[0])


def test_labels_do_not_cover_one_another():
    random = np.random.default_rng(1)
    centres = random.normal(size=(5, 8))
    vectors = np.concatenate([centre + 0.25 * random.normal(size=(8, 8)) for centre in centres])
    labels = [f"word{number}" for number in range(39)] + ["単語"]
    axes, _, boxes = drawn(vectors, labels, [number // 8 for number in range(40)])
    assert set(boxes) == set(labels)
    room = axes.get_window_extent()
    for box in boxes.values():
        assert box.x0 >= room.x0 - 1 and box.x1 <= room.x1 + 1 and box.y0 >= room.y0 - 1 and box.y1 <= room.y1 + 1
    covered = [a for a, b in combinations(boxes.values(), 2) if a.padded(-1).overlaps(b.padded(-1))]
    assert len(covered) <= 2


def test_a_lone_label_stands_beside_its_point():
    axes, places, boxes = drawn(np.eye(3), ["a", "b", "c"])
    for label, place in zip("abc", axes.transData.transform(places)):
        box = boxes[label]
        nearest = np.clip(place, [box.x0, box.y0], [box.x1, box.y1])
        assert np.linalg.norm(nearest - place) < 20
    assert [axes.get_xlabel(), axes.get_ylabel()] == ["PC 1 (50%)", "PC 2 (50%)"]


def test_signs_of_money_are_no_formula():
    boxes = drawn(np.eye(2), ["$5{$", "$$"])[2]
    assert list(boxes) == ["$5{$", "$$"]


def test_every_vector_needs_a_label():
    with pytest.raises(ShapeError, match="word_map"):
        word_map(Figure().subplots(), np.eye(3), ["a"])
    with pytest.raises(ShapeError, match="word_map"):
        word_map(Figure().subplots(), np.eye(2), ["a", "b"], [0])
    with pytest.raises(ShapeError, match="vectors"):
        word_map(Figure().subplots(), np.ones(3), ["a", "b", "c"])
