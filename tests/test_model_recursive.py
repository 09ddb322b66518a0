"""Networks over trees: the formulas node by node, batches of trees, what the loss counts, and that they learn, resume and compile."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from models import recursive as program
from tinygrad_ja.data.formats import parse_trees
from tinygrad_ja.data.text import Vocabulary

SHORT = ["--quick", "--embedding", "8", "--hidden", "8", "--epochs", "1"]
TREES = parse_trees(b"(3 (2 a) (4 (2 (2 not) (1 bad)) (2 film)))\n(1 dull)\n(2 (4 great) (0 (0 awful) (2 film)))", "test")
WORDS = Vocabulary([[word for tree in TREES for word in tree.words]])


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def run(folder, *argv):
    return program.main([*SHORT, *argv, "--out", str(folder)])


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def few_made_up_trees(monkeypatch, tmp_path):
    """Neither files nor network, and few trees."""
    for name in ("TINYGRAD_JA_DATA", "TINYGRAD_JA_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    made = program.made_up_trees((300, 60, 100))
    monkeypatch.setattr(program, "made_up_trees", lambda: made)
    return made


def rnn_node(w, of_word, left, right):
    if of_word is not None:
        return (of_word,)
    return (np.tanh(w["network.weight"] @ np.concatenate([left[0], right[0]]) + w["network.bias"]),)


def lstm_node(w, of_word, left, right):
    b = np.split(w["network.bias"], 4)  # i, f, g, o
    if of_word is not None:
        i, _, g, o = np.split(w["network.weight_ih"] @ of_word + w["network.bias"], 4)
        c = sigmoid(i) * np.tanh(g)
    else:
        i, f_l, f_r, g, o = np.split(w["network.weight_hh"] @ np.concatenate([left[0], right[0]]), 5)
        o = o + b[3]
        c = sigmoid(i + b[0]) * np.tanh(g + b[2]) + sigmoid(f_l + b[1]) * left[1] + sigmoid(f_r + b[1]) * right[1]
    return sigmoid(o) * np.tanh(c), c


@pytest.mark.parametrize("cell, node", [("rnn", rnn_node), ("lstm", lstm_node)])
def test_scores_are_those_of_the_formula_at_every_node(cell, node):
    model = program.TreeClassifier(WORDS, cell, embedding=3, hidden=4).double().eval()
    w = {name: p.detach().numpy() for name, p in model.named_parameters()}
    expected = []
    for tree in TREES:
        states = []
        for number, kids in enumerate(tree.children):
            word = None if kids else w["vectors.weight"][WORDS[tree.words[number]]]
            states.append(node(w, word, *([states[kid] for kid in kids] or (None, None))))
        expected += [w["output.weight"] @ state[0] + w["output.bias"] for state in states]
    scores = model(program.forest(TREES, WORDS)).detach().numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-10, atol=1e-12)


def test_trees_stand_side_by_side():
    batch = program.forest(TREES, WORDS)
    assert batch.roots.tolist() == [6, 7, 12]
    assert batch.labels.tolist() == [2, 2, 1, 2, 2, 4, 3, 1, 4, 0, 2, 0, 2]
    assert batch.tree == [(), (), (), (), (1, 2), (4, 3), (0, 5), (), (), (), (), (9, 10), (8, 11)]
    assert WORDS.decode(batch.words) == ["a", "not", "bad", "film", "dull", "great", "awful", "film"]
    assert program.sentences(batch) == 3


def test_a_tree_is_read_alike_alone_and_in_a_batch():
    model = program.TreeClassifier(WORDS, hidden=5).double().eval()
    together = model(program.forest(TREES, WORDS)).detach().numpy()
    alone = [model(program.forest([tree], WORDS)).detach().numpy() for tree in TREES]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-12)


def test_with_two_classes_neutral_nodes_count_for_nothing():
    model = program.TreeClassifier(WORDS, hidden=5, classes=2).double().eval()
    batch = program.forest(TREES, WORDS, classes=2)
    assert batch.labels.tolist() == [-100, -100, 0, -100, -100, 1, 1, 0, 1, 0, -100, 0, -100]
    scores = model(batch).detach().numpy()
    known = batch.labels.numpy() >= 0
    p = np.exp(scores[known] - np.log(np.exp(scores[known]).sum(1, keepdims=True)))
    expected = -np.log(p[np.arange(known.sum()), batch.labels.numpy()[known]]).mean()
    assert program.measure(model, batch)["loss"].item() == pytest.approx(expected, rel=1e-10)


def test_unknown_words_are_learnt_from_words_that_are_hidden():
    model = program.TreeClassifier(WORDS, hidden=5, dropout=0.0, word_dropout=0.5)
    batch = program.forest(TREES, WORDS)
    program.measure(model, batch)["loss"].backward()
    touched = np.abs(model.vectors.weight.grad.numpy()).sum(1) > 0
    assert touched[WORDS.unk] and not touched[list(set(range(4)) - {WORDS.unk})].any()
    model.eval()
    assert model(batch).tolist() == model(batch).tolist()


def test_made_up_sentences_have_labels_by_their_rules(few_made_up_trees):
    labels = {"awful": 0, "bad": 1, "good": 3, "great": 4}
    for tree in few_made_up_trees[0]:
        for node, kids in enumerate(tree.children):
            if not kids:
                assert tree.labels[node] == labels.get(tree.words[node], 2)
                continue
            first, last = (tree.labels[kid] for kid in kids)
            word = tree.words[kids[0]] if not tree.children[kids[0]] else ""
            if word == "not":
                assert tree.labels[node] == 4 - last
            elif word == "and":
                assert tree.labels[node] == last
            else:
                assert tree.labels[node] == (first if word else (first + last) // 2)


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_a_run_learns_and_writes_everything(tmp_path, cell):
    results = run(tmp_path, "--cell", cell, "--epochs", "6", "--dropout", "0")
    assert {"curves.png", "trees.png", "results.json", "log.csv"} < {path.name for path in tmp_path.iterdir()}
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["data"] == "synthetic"
    assert results["accuracy"] > results["majority"] + 0.1
    assert results["accuracy_nodes"] > results["accuracy"] and 1 <= results["epoch"] <= 6


def test_two_classes_run(tmp_path):
    results = run(tmp_path, "--binary", "--cell", "rnn")
    assert results["options"]["binary"] and 0.4 < results["majority"] < 1


def test_without_training_the_results_are_those_of_the_first_weights(tmp_path):
    results = run(tmp_path, "--epochs", "0")
    assert results["epoch"] == results["steps"] == 0 and results["accuracy_valid"] is None
    assert 0 <= results["accuracy"] <= 1


def test_a_resumed_run_ends_as_one_that_did_not_stop(tmp_path):
    whole = run(tmp_path / "a", "--epochs", "2")
    run(tmp_path / "b", "--epochs", "1")
    resumed = run(tmp_path / "b", "--epochs", "2", "--resume")
    assert losses(tmp_path / "b") == losses(tmp_path / "a")
    assert all(resumed[name] == whole[name] for name in ("accuracy", "accuracy_nodes", "accuracy_valid", "epoch"))


def test_compiled_the_losses_are_the_same(tmp_path):
    run(tmp_path / "a", "--cell", "rnn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each batch has trees of its own, so the step is called as it is
        run(tmp_path / "b", "--cell", "rnn", "--compile")
    np.testing.assert_allclose(losses(tmp_path / "b"), losses(tmp_path / "a"), rtol=1e-4)
