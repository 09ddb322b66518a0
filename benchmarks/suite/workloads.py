"""The workloads: whole training steps, their sizes, and the numbers that every side starts from.

Weights and batches are made once with NumPy from a seed and loaded into each side, so the losses of the first steps can be compared. The
names of the weights are those that PyTorch gives to the same layers. Only NumPy is imported here.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]
Sizes = dict[str, int]
Tree = Any  # the number of a leaf, or a pair of trees

BATCHES = 4
"""How many batches take turns, so that no step meets the numbers that it has just seen."""


class Problem(NamedTuple):
    """What one side needs in order to build a step: sizes, initial weights, batches, and for the networks over trees the trees."""

    sizes: Sizes
    weights: Arrays
    batches: list[tuple[Any, ...]]
    trees: list[Tree]
    source: str = ""


class Workload(NamedTuple):
    """One row. sizes: those of the row; quick: the ones that a test replaces; lr: learning rate."""

    title: str
    sizes: Sizes
    quick: Sizes
    shapes: Callable[[Sizes], Shapes]
    batch: Callable[[np.random.Generator, Sizes], tuple[Any, ...]] | None
    floor: str


# ---- shapes of the weights -----------------------------------------------------------------------


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _recurrent(name: str, gates: int, inputs: int, hidden: int) -> Shapes:
    rows = gates * hidden
    weights: Shapes = {f"{name}.weight_ih_l0": (rows, inputs), f"{name}.weight_hh_l0": (rows, hidden)}
    return {**weights, f"{name}.bias_ih_l0": (rows,), f"{name}.bias_hh_l0": (rows,)}


def _norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def _mlp(s: Sizes) -> Shapes:
    return {**_linear("0", s["inputs"], s["hidden"]), **_linear("2", s["hidden"], s["classes"])}


def _rnn(s: Sizes) -> Shapes:
    return {**_recurrent("rnn", 1, s["inputs"], s["hidden"]), **_linear("output", s["hidden"], s["outputs"])}


def _lstm(s: Sizes) -> Shapes:
    table: Shapes = {"embedding.weight": (s["V"], s["embedding"])}
    return {**table, **_recurrent("rnn", 4, s["embedding"], s["hidden"]), **_linear("output", s["hidden"], s["V"])}


def _seq2seq(s: Sizes) -> Shapes:
    d = s["d"]
    shapes: Shapes = {"source.weight": (s["V"], d), "target.weight": (s["V"], d)}
    shapes.update(_recurrent("encoder", 3, d, d))
    shapes.update({"query.weight": (d, d), "key.weight": (d, d), "score.weight": (1, d)})
    shapes.update({"cell.weight_ih": (3 * d, 2 * d), "cell.weight_hh": (3 * d, d), "cell.bias_ih": (3 * d,)})
    return {**shapes, "cell.bias_hh": (3 * d,), **_linear("output", 2 * d, s["V"])}


def _transformer(s: Sizes) -> Shapes:
    d = s["d"]
    shapes: Shapes = {"embedding.weight": (s["V"], d), "position": (s["T"], d)}
    for i in range(s["blocks"]):
        layer = f"blocks.{i}"
        shapes.update({f"{layer}.self_attn.in_proj_weight": (3 * d, d), f"{layer}.self_attn.in_proj_bias": (3 * d,)})
        shapes.update(_linear(f"{layer}.self_attn.out_proj", d, d))
        shapes.update({**_linear(f"{layer}.linear1", d, s["ffn"]), **_linear(f"{layer}.linear2", s["ffn"], d)})
        shapes.update({**_norm(f"{layer}.norm1", d), **_norm(f"{layer}.norm2", d)})
    return {**shapes, **_linear("output", d, s["V"])}


def _lenet(s: Sizes) -> Shapes:
    shapes: Shapes = {"0.weight": (16, 1, 5, 5), "0.bias": (16,), "3.weight": (32, 16, 5, 5), "3.bias": (32,)}
    return {**shapes, **_linear("7", 32 * 4 * 4, 120), **_linear("9", 120, 84), **_linear("11", 84, 10)}


def _resnet(s: Sizes) -> Shapes:
    c = s["channels"]
    shapes: Shapes = {"stem.weight": (c, 3, 3, 3), **_norm("norm", c)}
    for i, (before, after) in enumerate([(c, c), (c, 2 * c), (2 * c, 4 * c)]):
        block = f"blocks.{i}"
        shapes.update({f"{block}.conv1.weight": (after, before, 3, 3), f"{block}.conv2.weight": (after, after, 3, 3)})
        shapes.update({**_norm(f"{block}.norm1", after), **_norm(f"{block}.norm2", after)})
        if before != after:
            shapes.update({f"{block}.shortcut.0.weight": (after, before, 1, 1), **_norm(f"{block}.shortcut.1", after)})
    return {**shapes, **_linear("output", 4 * c, 10)}


def _dcgan(s: Sizes) -> Shapes:
    z, c = s["z"], s["channels"]
    shapes: Shapes = {"generator.0.weight": (z, 2 * c, 4, 4), **_norm("generator.1", 2 * c)}
    shapes.update({"generator.3.weight": (2 * c, c, 4, 4), **_norm("generator.4", c), "generator.6.weight": (c, 1, 4, 4)})
    shapes.update({"discriminator.0.weight": (c, 1, 4, 4), "discriminator.2.weight": (2 * c, c, 4, 4)})
    return {**shapes, **_norm("discriminator.3", 2 * c), "discriminator.5.weight": (1, 2 * c, 4, 4)}


def _skipgram(s: Sizes) -> Shapes:
    return {"inner.weight": (s["V"], s["dim"]), "outer.weight": (s["V"], s["dim"])}


def _tree(s: Sizes) -> Shapes:
    return {"embedding.weight": (s["V"], s["d"]), **_linear("combine", 2 * s["d"], s["d"]), **_linear("classify", s["d"], 5)}


# ---- batches -------------------------------------------------------------------------------------

Rng = np.random.Generator


def _normal(rng: Rng, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def _classes(rng: Rng, s: Sizes) -> tuple[Any, ...]:
    return _normal(rng, s["N"], s["inputs"]), rng.integers(0, s["classes"], s["N"])


def _sums(rng: Rng, s: Sizes) -> tuple[Any, ...]:
    """Two numbers and their sum, bit by bit, lowest first: (T, 1, 2) and (T, 1, 1)."""
    a, b = rng.integers(0, 2 ** (s["T"] - 1), 2)
    bits = [[(number >> t) & 1 for t in range(s["T"])] for number in (a, b, a + b)]
    x = np.array(bits[:2], np.float32).T[:, None, :]
    return np.ascontiguousarray(x), np.array(bits[2], np.float32)[:, None, None]


def _sequences(rng: Rng, s: Sizes) -> tuple[Any, ...]:
    return _normal(rng, s["T"], s["N"], s["inputs"]), rng.integers(0, s["outputs"], s["N"])


def _text(rng: Rng, s: Sizes) -> tuple[Any, ...]:
    text = rng.integers(0, s["V"], (s["T"] + 1, s["N"]))
    return np.ascontiguousarray(text[:-1]), np.ascontiguousarray(text[1:])


def _pairs(rng: Rng, s: Sizes) -> tuple[Any, ...]:
    return tuple(rng.integers(0, s["V"], (s["T"], s["N"])) for _ in range(3))


def _sentences(rng: Rng, s: Sizes) -> tuple[Any, ...]:
    return tuple(rng.integers(0, s["V"], (s["N"], s["T"])) for _ in range(2))


def _digits(rng: Rng, s: Sizes) -> tuple[Any, ...]:
    return _normal(rng, s["N"], 1, 28, 28), rng.integers(0, 10, s["N"])


def _images(rng: Rng, s: Sizes) -> tuple[Any, ...]:
    return _normal(rng, s["N"], 3, 32, 32), rng.integers(0, 10, s["N"])


def _faces(rng: Rng, s: Sizes) -> tuple[Any, ...]:
    return np.tanh(_normal(rng, s["N"], 1, 16, 16)), _normal(rng, s["N"], s["z"], 1, 1)


def _words(rng: Rng, s: Sizes) -> tuple[Any, ...]:
    return tuple(rng.integers(0, s["V"], shape) for shape in ((s["N"],), (s["N"],), (s["N"], s["noise"])))


WORKLOADS: dict[str, Workload] = {
    "mlp": Workload(
        "MLP 784-256-10, batch 128, SGD",
        {"N": 128, "inputs": 784, "hidden": 256, "classes": 10},
        {"N": 8, "inputs": 20, "hidden": 16},
        _mlp,
        _classes,
        "0.10 GFLOP",
    ),
    "addition": Workload(
        "addition RNN 2-16-1, T 8, batch 1, SGD",
        {"N": 1, "T": 8, "inputs": 2, "hidden": 16, "outputs": 1},
        {"T": 4, "hidden": 4},
        _rnn,
        _sums,
        "15 kFLOP",
    ),
    "rnn": Workload(
        "RNN 64-64-10, T 32, batch 64, SGD",
        {"N": 64, "T": 32, "inputs": 64, "hidden": 64, "outputs": 10},
        {"N": 4, "T": 5, "inputs": 6, "hidden": 8},
        _rnn,
        _sequences,
        "0.08 GFLOP",
    ),
    "lstm": Workload(
        "LSTM language model V 4000, 128-256, T 35, N 20, SGD, clip 0.25",
        {"N": 20, "T": 35, "V": 4000, "embedding": 128, "hidden": 256},
        {"N": 3, "T": 5, "V": 40, "embedding": 8, "hidden": 8},
        _lstm,
        _text,
        "6.0 GFLOP, 2.8 M exp",
    ),
    "seq2seq": Workload(
        "GRU seq2seq, additive attention, V 2000, 128, T 20, N 32, Adam",
        {"N": 32, "T": 20, "V": 2000, "d": 128},
        {"N": 3, "T": 4, "V": 40, "d": 8},
        _seq2seq,
        _pairs,
        "3.1 GFLOP, 1.3 M exp, 1.6 M tanh",
    ),
    "transformer": Workload(
        "Transformer x2, 128, 8 heads, ffn 512, T 64, N 32, V 1000, Adam",
        {"N": 32, "T": 64, "V": 1000, "d": 128, "heads": 8, "ffn": 512, "blocks": 2},
        {"N": 2, "T": 5, "V": 30, "d": 16, "heads": 4, "ffn": 24},
        _transformer,
        _sentences,
        "6.9 GFLOP, 4 M exp",
    ),
    "lenet": Workload("LeNet 64x1x28x28, 5x5 16-32, SGD with momentum", {"N": 64}, {"N": 4}, _lenet, _digits, "0.4 GFLOP"),
    "resnet": Workload(
        "ResNet-8 32x3x32x32, SGD with momentum",
        {"N": 32, "channels": 16},
        {"N": 4, "channels": 4},
        _resnet,
        _images,
        "2.4 GFLOP",
    ),
    "dcgan": Workload(
        "DCGAN 1x16x16, batch 32, two networks, two Adam",
        {"N": 32, "z": 64, "channels": 32},
        {"N": 4, "z": 6, "channels": 4},
        _dcgan,
        _faces,
        "0.8 GFLOP",
    ),
    "skipgram": Workload(
        "skip-gram, V 10,000, 100, N 512, 5 noise words, SGD",
        {"N": 512, "V": 10_000, "dim": 100, "noise": 5},
        {"N": 16, "V": 50, "dim": 8},
        _skipgram,
        _words,
        "32 MB",
    ),
    "tree": Workload(
        "Tree-RNN, 64 trees of SST, 64, a label on each node, SGD",
        {"trees": 64, "V": 1024, "d": 64},
        {"trees": 4, "d": 8},
        _tree,
        None,
        "0.06 GFLOP",
    ),
}
"""Every row. Floors: arithmetic of the products, transcendental functions, bytes that must be read and written."""


# ---- the trees -----------------------------------------------------------------------------------


def parse_tree(text: str) -> tuple[Tree, list[str], list[int]]:
    """A tree of SST, ``(3 (2 It) (4 (2 's) (4 good)))``: nested pairs of leaf numbers, the words, the labels of all nodes, children first.

    >>> parse_tree("(3 (2 It) (4 (2 's) (4 good)))")
    ((0, (1, 2)), ['It', "'s", 'good'], [2, 2, 4, 4, 3])
    """
    words: list[str] = []
    labels: list[int] = []
    open_nodes: list[tuple[int, list[Tree]]] = []
    for piece in text.replace(")", " ) ").split(" "):
        if piece.startswith("("):
            open_nodes.append((int(piece[1:]), []))
        elif piece == ")":
            label, children = open_nodes.pop()
            tree = children[0] if len(children) == 1 else tuple(children)
            labels.append(label)
            if not open_nodes:
                return tree, words, labels
            open_nodes[-1][1].append(tree)
        elif piece:
            open_nodes[-1][1].append(len(words))
            words.append(piece)
    raise ValueError(text)


def _random_tree(rng: Rng, first: int, count: int) -> Tree:
    if count == 1:
        return first
    left = int(rng.integers(1, count))
    return _random_tree(rng, first, left), _random_tree(rng, first + left, count - left)


def _treebank(rng: Rng, s: Sizes) -> tuple[list[Tree], list[Any], list[Any], str]:
    """Trees, the words of each as numbers, the labels of each, and where they come from."""
    folder = os.environ.get("TINYGRAD_JA_DATA")
    file = Path(folder) / "sst_trees" / "train.txt" if folder else None
    if file is not None and file.exists():
        lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line]
        parsed = [parse_tree(line) for line in lines[: s["trees"]]]
        words = [np.array([zlib.crc32(word.encode()) % s["V"] for word in tree[1]]) for tree in parsed]
        return [tree[0] for tree in parsed], words, [np.array(tree[2]) for tree in parsed], "SST"
    counts = np.clip(rng.normal(19.1, 9.3, s["trees"]), 2, 52).astype(int)  # as long as the sentences of SST
    trees = [_random_tree(rng, 0, int(count)) for count in counts]
    words = [rng.integers(0, s["V"], count) for count in counts]
    labels = [rng.integers(0, 5, 2 * count - 1) for count in counts]
    return trees, words, labels, "random trees as long as those of SST (TINYGRAD_JA_DATA is not set)"


# ---- the numbers ---------------------------------------------------------------------------------


def _initial(rng: Rng, shapes: Shapes) -> Arrays:
    """Uniform in ±1/sqrt(inputs of a unit) for matrices and filters, ones for the weights of a normalisation, zeros for biases."""
    weights = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            weights[name] = np.full(shape, 1.0 if name.endswith("weight") else 0.0, np.float32)
        else:
            bound = 1 / np.sqrt(np.prod(shape[1:]))
            weights[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    return weights


def problem(name: str, quick: bool = False) -> Problem:
    """The numbers of a workload, always the same."""
    workload = WORKLOADS[name]
    sizes = {**workload.sizes, **workload.quick} if quick else workload.sizes
    rng = np.random.default_rng(0)
    weights = _initial(rng, workload.shapes(sizes))
    if workload.batch is not None:
        return Problem(sizes, weights, [workload.batch(rng, sizes) for _ in range(BATCHES)], [])
    trees, words, labels, source = _treebank(rng, sizes)
    return Problem(sizes, weights, [(np.concatenate(words), np.concatenate(labels))], trees, source)
