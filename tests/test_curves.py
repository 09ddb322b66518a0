"""Learning curves: what is drawn, in which language, and with no letter that the font lacks."""

from __future__ import annotations

import sys
import warnings

import pytest

from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.training import curves, save_curve, save_curves
from tinygrad_ja.viz import figures

pytest.importorskip("matplotlib")

HISTORY = [
    {"step": n, "epoch": n, "loss": 1 / n, "valid_loss": 1.2 / n, "accuracy": 1 - 1 / n, "lr": 0.1, "seconds": n * 1.0}
    for n in range(1, 8)
]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, kept open to look at."""
    kept = []
    save = curves.save_figure
    monkeypatch.setattr(curves, "save_figure", lambda figure, path: (kept.append(figure), save(figure, path))[1])
    return kept


@pytest.fixture
def japanese_font():
    """The name of a font with Japanese letters; without one such labels are not drawn, and the test is skipped."""
    found = figures.japanese_font()
    if found is None:
        pytest.skip(f"matplotlib finds no font with Japanese letters here, such as {', '.join(figures.JAPANESE_FONTS)}")
    return found


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_visible()]


def test_each_value_has_a_panel_with_training_and_validation(tmp_path, drawn):
    path = save_curves(tmp_path / "curves.png", HISTORY)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    (figure,) = drawn
    assert titles(figure) == ["loss", "accuracy"]
    loss, accuracy = figure.axes[:2]
    training, validation = [line.get_ydata().tolist() for line in loss.lines]
    assert training == [row["loss"] for row in HISTORY] and validation == [row["valid_loss"] for row in HISTORY]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]
    assert len(accuracy.lines) == 1 and accuracy.get_legend() is None


def test_values_missing_in_some_rows_are_left_out_there(tmp_path, drawn):
    rows = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5, "valid_loss": 0.75}, {"step": 3, "valid_loss": 0.5}]
    save_curves(tmp_path / "curves.png", rows)
    assert [line.get_xydata().tolist() for line in drawn[0].axes[0].lines] == [[[1, 1], [2, 0.5]], [[2, 0.75], [3, 0.5]]]


def test_the_learning_rate_is_drawn_when_it_changes_and_names_choose(tmp_path, drawn):
    rows = [{**row, "lr": 0.1 * row["step"]} for row in HISTORY]
    save_curves(tmp_path / "curves.png", rows)
    save_curves(tmp_path / "curves.png", rows, names=["accuracy"], title="LeNet")
    assert titles(drawn[0]) == ["loss", "accuracy", "learning rate"]
    assert titles(drawn[1]) == ["accuracy"] and drawn[1].get_suptitle() == "LeNet"


@pytest.mark.parametrize("count", [1, 4])
def test_any_number_of_panels_fits(tmp_path, drawn, count):
    rows = [{"step": n, **{f"value{k}": float(n * k) for k in range(count)}} for n in range(3)]
    save_curves(tmp_path / "curves.png", rows)
    assert len(titles(drawn[0])) == count


def test_labels_are_japanese_where_there_is_a_font(tmp_path, drawn, monkeypatch, japanese_font):
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a letter that its font lacks
        save_curves(tmp_path / "curves.png", HISTORY, title="学習曲線 loss")
    assert titles(drawn[0]) == ["損失", "正解率"]
    assert drawn[0].axes[0].get_xlabel() == "ステップ"
    assert [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()] == ["訓練", "検証"]


def test_titles_may_be_japanese_when_messages_are_english(tmp_path, drawn, japanese_font):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_curve(tmp_path / "loss.png", [1, 2, 3], [3, 2, 1], title="損失", x_label="ステップ", y_label="値")
    (axes,) = drawn[0].axes
    assert [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()] == ["損失", "ステップ", "値"]
    assert japanese_font in axes.title.get_fontfamily()
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, 3], [2, 2], [3, 1]]]


def test_labels_are_english_where_there_is_no_font(tmp_path, drawn, monkeypatch):
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    monkeypatch.setattr(figures, "JAPANESE_FONTS", ())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_curves(tmp_path / "curves.png", HISTORY)
    assert titles(drawn[0]) == ["loss", "accuracy"]


def test_a_running_mean_is_the_mean_of_its_window(tmp_path, drawn):
    values = [float(n**2) for n in range(10)]
    save_curve(tmp_path / "loss.png", range(10), values, title="t", x_label="x", y_label="y", window=4, y_range=(0, 100))
    points, smooth = drawn[0].axes[0].lines
    assert points.get_ydata().tolist() == values
    assert smooth.get_ydata().tolist() == [sum(values[i : i + 4]) / 4 for i in range(7)]
    assert list(smooth.get_xdata()) == [2, 3, 4, 5, 6, 7, 8] and drawn[0].axes[0].get_ylim() == (0, 100)


def test_the_file_stays_whole_when_drawing_fails(tmp_path):
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        save_curve(path, [1, 2], [1.0, 2.0], title="t", x_label="x", y_label="y", y_range=5)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_nothing_to_draw_and_no_matplotlib_are_told(tmp_path, monkeypatch):
    for history in ([], [{"step": 1, "epoch": 1}]):
        with pytest.raises(ArgumentError, match="save_curves.*empty"):
            save_curves(tmp_path / "curves.png", history)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ArgumentError, match="TG-A002.*matplotlib"):
        save_curves(tmp_path / "curves.png", HISTORY)
