"""Metrics: values from their formulas and from small cases that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, ShapeError
from tinygrad_ja.training import metrics
from tinygrad_ja.training.metrics import classification

words = st.text("abcd", max_size=9)


# ---- classification


def test_accuracy_of_the_k_best() -> None:
    scores = tg.tensor([[0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
    target = tg.tensor([2, 0, 0])
    assert metrics.accuracy(scores, target) == pytest.approx(1 / 3)
    assert metrics.accuracy(scores, target, k=2) == pytest.approx(2 / 3)
    assert metrics.accuracy(scores, target, k=3) == 1.0
    assert metrics.accuracy(scores.argmax(1), target) == pytest.approx(1 / 3)


def test_of_equal_scores_the_first_class_is_taken() -> None:
    assert metrics.accuracy([[0.5, 0.5]], [0]) == 1.0 and metrics.accuracy([[0.5, 0.5]], [1]) == 0.0


def test_ignored_targets_do_not_count() -> None:
    assert metrics.accuracy([[0.9, 0.1], [0.9, 0.1]], [0, -100], ignore_index=-100) == 1.0
    assert math.isnan(metrics.accuracy([[0.9, 0.1]], [-100], ignore_index=-100))
    assert metrics.confusion_matrix([0, 1], [0, 255], 2, ignore_index=255).tolist() == [[1, 0], [0, 0]]


def test_scores_of_a_confusion_matrix_are_those_of_its_counts() -> None:
    gathered = metrics.ConfusionMatrix(3)
    gathered.update(tg.tensor([0, 0, 1]), tg.tensor([0, 1, 1]))
    gathered.update(tg.tensor([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]]), [2, 2])
    assert gathered.matrix.tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    assert gathered.accuracy == 3 / 5
    each = gathered.scores()
    assert each.precision.tolist() == [1 / 3, 1.0, 1.0] and each.recall.tolist() == [1.0, 0.5, 0.5]
    assert each.f1.tolist() == pytest.approx([0.5, 2 / 3, 2 / 3])
    assert gathered.scores("macro").recall == pytest.approx(2 / 3)
    assert gathered.scores("micro") == pytest.approx((0.6, 0.6, 0.6))
    assert gathered.scores("weighted").precision == pytest.approx((1 * 1 / 3 + 2 + 2) / 5)
    assert gathered.iou.tolist() == pytest.approx([1 / 3, 1 / 2, 1 / 2]) and gathered.mean_iou == pytest.approx(4 / 9)
    gathered.reset()
    assert not gathered.matrix.any() and math.isnan(gathered.accuracy)


def test_a_class_that_never_occurs_has_no_iou_and_scores_of_zero() -> None:
    gathered = metrics.ConfusionMatrix(3)
    gathered.update([0, 1], [0, 1])
    assert gathered.mean_iou == 1.0 and np.isnan(gathered.iou[2])
    assert gathered.scores().f1.tolist() == [1.0, 1.0, 0.0]


def test_iou_of_masks() -> None:
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[:2], b[1:3] = True, True
    assert metrics.binary_iou(a, tg.from_numpy(b)) == 4 / 12
    assert metrics.binary_iou(a & False, b & False) == 1.0


def test_the_confusion_matrix_is_drawn_with_true_classes_as_rows(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    kept = []
    save = classification.save_figure
    monkeypatch.setattr(classification, "save_figure", lambda figure, path: (kept.append(figure), save(figure, path))[1])
    gathered = metrics.ConfusionMatrix(2)
    gathered.update([0, 1, 1], [0, 1, 0])
    assert gathered.plot(tmp_path / "matrix.png", ["cat", "dog"]).read_bytes().startswith(b"\x89PNG")
    axes = kept[0].axes[0]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {(0, 0): "1", (1, 0): "1", (0, 1): "0", (1, 1): "1"}
    assert axes.images[0].get_array().tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="k = 4"):
        metrics.accuracy([[0.1, 0.2, 0.7]], [0], k=4)
    with pytest.raises(ShapeError):
        metrics.accuracy([[0.1, 0.2, 0.7]], [0, 1])
    with pytest.raises(ArgumentError, match="0 <= class < 2"):
        metrics.confusion_matrix([0, 2], [0, 1], 2)
    with pytest.raises(ArgumentError, match="argmax"):
        metrics.confusion_matrix([0.5, 0.5], [0, 1], 2)
    with pytest.raises(ArgumentError, match="average"):
        metrics.ConfusionMatrix(2).scores("mean")
    with pytest.raises(ShapeError):
        metrics.binary_iou(np.zeros((2, 2)), np.zeros((2, 3)))


# ---- text


def test_perplexity_of_a_uniform_guess_is_the_number_of_words() -> None:
    gathered = metrics.Perplexity()
    gathered.update(tg.tensor(math.log(100.0), dtype=tg.float64), tokens=7)
    gathered.update(math.log(100.0), tokens=1)
    assert gathered.value == pytest.approx(100.0)
    assert metrics.perplexity(1e9) == math.inf


def by_table(a: str, b: str) -> int:
    """Levenshtein's recurrence, written out."""
    table = [[i + j if i * j == 0 else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            cost = a[i - 1] != b[j - 1]
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + cost)
    return table[-1][-1]


@given(words, words)
def test_edit_distance_is_that_of_the_recurrence(a: str, b: str) -> None:
    assert metrics.edit_distance(a, b) == metrics.edit_distance(list(b), list(a)) == by_table(a, b)


def test_error_rate_counts_all_sentences_together() -> None:
    assert metrics.error_rate([["a", "b"], []], [["a", "c"], ["d", "e"]]) == 3 / 4
    assert metrics.error_rate([""], [""]) == 0.0


def test_distinct_counts_different_n_grams_over_all() -> None:
    replies = [list("abab"), list("ab"), []]
    assert metrics.distinct(replies) == 2 / 6 and metrics.distinct(replies, 2) == 2 / 4  # ab, ba of ab ba ab, ab
    assert metrics.distinct([[1, 2, 3]] * 4, 3) == 1 / 4 and math.isnan(metrics.distinct([["a"]], 2))
    for arguments in ((replies, 0), (replies, 1.0), ("abc", 1)):
        with pytest.raises(ArgumentError):
            metrics.distinct(*arguments)


def test_bleu_is_that_of_its_formula() -> None:
    """Six of seven 1-grams, four of six 2-grams, two of five 3-grams, one of four 4-grams; no brevity penalty."""
    pytest.importorskip("sacrebleu")
    made = metrics.bleu(["a b c d x e f"], ["a b c d e f g"], tokenize="none")
    expected = 100 * math.exp(np.mean(np.log([6 / 7, 4 / 6, 2 / 5, 1 / 4])))
    assert made == pytest.approx(expected)
    assert metrics.bleu(["これはペンです"], ["これはペンです"], tokenize="char") == pytest.approx(100.0)
    assert metrics.bleu(["a b c d"], [["x", "a b c d"]], tokenize="none") == pytest.approx(100.0)


def test_bleu_refuses_what_does_not_fit() -> None:
    pytest.importorskip("sacrebleu")
    for hypotheses, references in (([], []), (["a"], []), (["a", "b"], [["a"], ["b", "c"]])):
        with pytest.raises(ArgumentError, match="references"):
            metrics.bleu(hypotheses, references)
    with pytest.raises(ArgumentError, match="tokenize"):
        metrics.bleu(["a"], ["a"], tokenize="klingon")
    with pytest.raises(ArgumentError, match="hypotheses = list.*join tokens"):
        metrics.bleu([["a", "b"]], [["a", "b"]])  # type: ignore[list-item]


# ---- detection


def test_average_precision_of_a_curve_by_hand() -> None:
    curve = metrics.precision_recall_curve([True, False, True, False], [0.9, 0.8, 0.7, 0.6], 4)
    assert curve.recall.tolist() == [0.25, 0.25, 0.5, 0.5]
    assert metrics.average_precision(curve.precision, curve.recall) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    eleven = (3 * 1.0 + 3 * 2 / 3) / 11  # recalls 0, 0.1, 0.2 and 0.3, 0.4, 0.5
    assert metrics.average_precision(curve.precision, curve.recall, points=11) == pytest.approx(eleven)
    assert metrics.average_precision([], []) == 0.0


def test_a_second_detection_of_one_box_is_wrong() -> None:
    true = [{"boxes": [[0, 0, 10, 10], [20, 20, 30, 30]], "labels": [0, 0]}]
    found = [{"boxes": [[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], "labels": [0, 0, 0], "scores": [0.9, 0.8, 0.7]}]
    made = metrics.mean_average_precision(found, true)
    assert made["map"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert made["curves"][0].precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])


def test_classes_are_averaged_and_difficult_boxes_do_not_count() -> None:
    true = [
        {"boxes": [[0, 0, 10, 10], [50, 50, 60, 60]], "labels": [0, 1], "difficult": [0, 1]},
        {"boxes": tg.tensor([[0.0, 0.0, 5.0, 5.0]]), "labels": tg.tensor([2])},
    ]
    found = [
        {"boxes": [[0, 0, 10, 10], [50, 50, 60, 60]], "labels": [0, 1], "scores": [0.5, 0.9]},
        {"boxes": np.zeros((0, 4)), "labels": [], "scores": []},
    ]
    made = metrics.mean_average_precision(found, true)
    assert made["ap"] == {0: 1.0, 2: 0.0} and made["map"] == 0.5
    nothing = [{"boxes": [], "labels": [], "scores": []}]
    assert math.isnan(metrics.mean_average_precision(nothing, [{"boxes": [], "labels": []}])["map"])


def test_coco_means_over_its_thresholds() -> None:
    """An overlap of 0.7 (in decimals 0.7000000000000001 or so) is found at 0.50, 0.55, 0.60, 0.65 and 0.70: five of ten thresholds."""
    true = [{"boxes": [[0.0, 0.0, 100.0, 100.0]], "labels": [3]}]
    found = [{"boxes": [[0.0, 0.0, 100.0, 70.5]], "labels": [3], "scores": [1.0]}]
    made = metrics.coco_map(found, true)
    assert (
        made["AP"] == pytest.approx(0.5) and made["AP75"] == 0.0 and made["APl"] == pytest.approx(0.5) and made["APs"] == -1.0
    )


@pytest.mark.parametrize("measure", [metrics.coco_map, metrics.mean_average_precision])
def test_boxes_that_do_not_fit_are_refused(measure) -> None:  # type: ignore[no-untyped-def]
    true = [{"boxes": [[0, 0, 1, 1]], "labels": [0]}]
    for bad in (
        [],
        [{"boxes": [[0, 0, 1, 1]], "labels": [0]}],
        [{"boxes": [[5, 5, 1, 1]], "labels": [0], "scores": [1.0]}],
        [{"boxes": [[0, 0, 1, math.nan]], "labels": [0], "scores": [1.0]}],
        [{"boxes": [[0, 0, 1, 1]], "labels": [0, 1], "scores": [1.0]}],
    ):
        with pytest.raises(ArgumentError, match="predictions"):
            measure(bad, true)
