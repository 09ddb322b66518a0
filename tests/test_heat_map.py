"""What ``viz.heat_map`` promises."""

from __future__ import annotations

import matplotlib.figure
import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ShapeError
from tinygrad_ja.viz import heat_map, maps


@pytest.fixture
def axes():
    return matplotlib.figure.Figure().subplots()


def texts(labels):
    return [label.get_text() for label in labels]


def test_a_matrix_stands_there_with_its_tokens(axes):
    weights = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])
    image = heat_map(axes, tg.tensor(weights), ["a", "b"], ["i", "am", "here"], title="weights")
    np.testing.assert_allclose(image.get_array(), weights, rtol=1e-6)
    assert texts(axes.get_yticklabels()) == ["a", "b"]
    assert texts(axes.get_xticklabels()) == ["i", "am", "here"]
    assert axes.get_title() == "weights"
    assert image.get_clim() == (0.0, pytest.approx(0.9))


def test_axes_have_names_and_maps_share_a_scale(axes):
    image = heat_map(axes, [[0.5, 0.25]], ["a"], ["i", "am"], names=("written", "source"), largest=1.0)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("written", "source")
    assert image.get_clim() == (0.0, 1.0)


def test_negative_numbers_and_gaps(axes):
    image = heat_map(axes, [[-2.0, float("nan")]], ["a"], ["b", " "])
    assert image.get_clim() == (-2.0, -2.0)
    assert texts(axes.get_xticklabels()) == ["b", "␣"]


@pytest.mark.filterwarnings("error")
def test_a_token_without_a_font_is_its_number(axes, monkeypatch, tmp_path):
    monkeypatch.setattr(maps, "japanese_font", lambda: None)
    heat_map(axes, [[1.0], [0.5]], ["私", "は"], ["i"])
    assert texts(axes.get_yticklabels()) == ["#0", "#1"]
    axes.figure.savefig(tmp_path / "map.png")  # and no warning of a missing glyph


def test_labels_that_do_not_fit_are_refused(axes):
    with pytest.raises(ShapeError, match="heat_map"):
        heat_map(axes, [[1.0, 2.0]], ["a"], ["b"])
    with pytest.raises(ShapeError, match="heat_map"):
        heat_map(axes, np.zeros((0, 2)), [], ["a", "b"])


def test_signs_of_money_are_no_formula(axes, tmp_path):
    heat_map(axes, [[1.0, 0.5]], ["$5{$"], ["$", "$$"])
    axes.figure.savefig(tmp_path / "map.png")
    assert texts(axes.get_xticklabels()) == ["$", "$$"]
