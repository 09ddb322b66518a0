"""A recursive network and a Tree-LSTM read a sentence along its syntax tree and say how positive every phrase of it is.

    recursive network   v = tanh(W [v_left; v_right] + b)                 a leaf's v is the vector of its word x
    Tree-LSTM           i, f_l, f_r, o = σ(U [h_left; h_right] + b)       g = tanh(U_g [h_left; h_right] + b_g)
                        c = i∘g + f_l∘c_left + f_r∘c_right                h = o∘tanh(c)
                        (a leaf: i, o = σ(W x + b), g = tanh(W_g x + b_g), c = i∘g)
    every node          p = softmax(W_s v + b_s),  of the Tree-LSTM p = softmax(W_s h + b_s)
    E = mean over all nodes of -log p(label)

The same W joins two words and two halves of a sentence. A batch of trees is computed height by height: all nodes of one height, of all trees,
in one product. Back-propagation through structure is what the tape does. (Socher, Lin, Ng, Manning, Parsing natural scenes and natural
language with recursive neural networks, 2011; Socher et al., Recursive deep models for semantic compositionality over a sentiment treebank,
2013; Tai, Socher, Manning, Improved semantic representations from tree-structured long short-term memory networks, 2015.)

Data: the Stanford Sentiment Treebank, 8,544 / 1,101 / 2,210 sentences of film reviews, a label from 0 (very negative) to 4 (very positive) on
every node. Word vectors start at random and are learnt from these trees alone. Expect 47 % of the test sentences in the right one of five
classes with the Tree-LSTM, 44 % with the recursive network (``--cell rnn --hidden 80``), 85 % in two classes (``--binary``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn
from tinygrad_ja.data import DataLoader
from tinygrad_ja.data.datasets import SentimentTrees
from tinygrad_ja.data.formats import Tree, parse_trees
from tinygrad_ja.data.text import Vocabulary
from tinygrad_ja.training import EarlyStopping, Experiment, Option, Result, Trainer, Update, evaluate

TITLE = {
    "en": "recursive network and Tree-LSTM over syntax trees: sentiment of every phrase (JDLA E certificate: recursive networks)",
    "ja": "構文木の上の再帰型ネットワーク (recursive) と Tree-LSTM: すべての句の感情を判定 (E資格: 再帰型ニューラルネットワーク)",
}
OPTIONS = [
    Option("cell", "lstm", ("recursive network or Tree-LSTM", "再帰型ネットワーク (rnn) か Tree-LSTM (lstm)"), choices=["rnn", "lstm"]),
    Option("binary", False, ("two classes: neutral sentences and phrases left out", "2 クラス: 中立の文と句を除く")),
    Option("embedding", 128, ("size of the word vectors of the Tree-LSTM", "Tree-LSTM の単語ベクトルの大きさ"), quick=32),
    Option("hidden", 128, ("size of the vector of a node", "ノードのベクトルの大きさ"), quick=32),
    Option("dropout", 0.5, ("share of dropped values, of word vectors and nodes", "単語とノードのドロップアウト率"), quick=0.2, most=1.0),
    Option("word_dropout", 0.1, ("share of words read as unknown in training", "学習時に未知語として読む単語の割合"), most=1.0),
    Option("lr", 0.05, ("learning rate of Adagrad at the start", "Adagrad の学習率 (はじめの値)")),
    Option("decay", 0.8, ("its factor after each epoch", "1 エポックごとに学習率に掛ける値")),
    Option("weight_decay", 1e-5, ("weight decay (L2)", "荷重減衰 (L2)"), least=0),
    Option("batch", 25, ("sentences in a batch", "ミニバッチの文の数")),
]  # fmt: skip
EPOCHS, QUICK_EPOCHS = 8, 3
CLASSES = {5: [0, 1, 2, 3, 4], 2: [0, 0, -100, 1, 1]}  # number of classes -> the class of each label; -100: the loss ignores it


class Forest(NamedTuple):
    """A batch of trees as one graph. Nodes are numbered through, tree after tree; the root of each tree is its last node."""

    words: tg.Tensor
    """int64 (leaves,): numbers in the vocabulary."""
    tree: list[tuple[int, ...]]
    """For every node the numbers of its children, as the layers of ``nn`` over trees want them."""
    labels: tg.Tensor
    """int64 (nodes,)."""
    roots: tg.Tensor
    """int64 (N,): the numbers of the roots."""


def forest(trees: Sequence[Tree], vocabulary: Vocabulary, classes: int = 5, device: str = "cpu") -> Forest:
    """Trees side by side."""
    words: list[int] = []
    children: list[tuple[int, ...]] = []
    labels: list[int] = []
    roots: list[int] = []
    for tree in trees:
        first = len(children)
        words += vocabulary.encode([word.lower() for word in tree.words])
        children += [tuple([first + kid for kid in kids]) for kids in tree.children]
        labels += [CLASSES[classes][label] for label in tree.labels]
        roots.append(len(children) - 1)
    words_, labels_, roots_ = (tg.tensor(numbers, device=device) for numbers in (words, labels, roots))
    return Forest(words_, children, labels_, roots_)


class TreeClassifier(nn.Module):
    """Word vectors, a network over the tree, a softmax layer at every node.

    cell: "rnn" is the recursive network, whose nodes have the size of the word vectors (``embedding`` is not used); "lstm" the Tree-LSTM.
    word_dropout: the share of words that are replaced by "unknown" in training, so that the vector of unknown words is learnt, too.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        cell: str = "lstm",
        embedding: int = 128,
        hidden: int = 128,
        classes: int = 5,
        dropout: float = 0.5,
        word_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.cell, self.unknown, self.word_dropout = cell, vocabulary.unk, word_dropout
        size = hidden if cell == "rnn" else embedding
        self.vectors = nn.Embedding(len(vocabulary), size)
        nn.init.uniform_(self.vectors.weight, -0.1, 0.1)
        self.network = nn.RecursiveNN(hidden) if cell == "rnn" else nn.BinaryTreeLSTM(embedding, hidden)
        self.drop = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, classes)

    def forward(self, batch: Forest) -> tg.Tensor:
        """Scores of the classes at every node (nodes, classes)."""
        words = batch.words
        if self.training and self.word_dropout:
            words = tg.where(tg.rand(*words.shape, device=words.device) < self.word_dropout, self.unknown, words)
        x = self.drop(self.vectors(words))
        states = self.network(x, batch.tree)
        h = states if self.cell == "rnn" else states[0]
        return self.output(self.drop(h))


def measure(model: TreeClassifier, batch: Forest) -> dict[str, tg.Tensor]:
    """Loss over all nodes, and the share of roots with the right class."""
    scores = model(batch)
    right = scores[batch.roots].argmax(1) == batch.labels[batch.roots]
    return {"loss": F.cross_entropy(scores, batch.labels), "accuracy": right.float().mean()}


# -- data


def sentiment_trees(**where: Any) -> list[list[Tree]]:
    """The treebank's sentences: training, validation, test."""
    return [SentimentTrees(split=split, **where).items for split in ("train", "dev", "test")]


_QUALITIES = (("awful", 0), ("bad", 1), ("plain", 2), ("good", 3), ("great", 4))


def made_up_trees(counts: Sequence[int] = (600, 100, 200)) -> list[list[Tree]]:
    """Praise and blame from three rules, always the same: a quality and "film"; "not" turns a phrase round; "and" takes the mean of two."""
    stream = np.random.default_rng(0)

    def phrase(depth: int) -> tuple[str, int]:
        rule = stream.integers(3) if depth else 0
        if rule == 0:
            word, label = _QUALITIES[stream.integers(5)]
            return f"({label} ({label} {word}) (2 film))", label
        first, of_first = phrase(depth - 1)
        if rule == 1:
            return f"({4 - of_first} (2 not) {first})", 4 - of_first
        second, of_second = phrase(depth - 1)
        label = (of_first + of_second) // 2
        return f"({label} {first} ({of_second} (2 and) {second}))", label

    return [parse_trees("\n".join(phrase(3)[0] for _ in range(count)).encode(), "made up") for count in counts]


def chosen_trees(parts: list[list[Tree]], quick: bool, binary: bool) -> list[list[Tree]]:
    """The trees of a run: with ``binary`` those whose root is not neutral, for a quick run some of each part."""
    if quick:
        parts = [
            part[:: max(1, len(part) // size)] for part, size in zip(parts, (1000, 200, 400))
        ]  # praise comes first in the files
    return [[tree for tree in part if not binary or tree.labels[-1] != 2] for part in parts]


def vocabulary_of(trees: Sequence[Tree]) -> Vocabulary:
    """All words, in small letters."""
    return Vocabulary([[word.lower() for word in tree.words] for tree in trees])


# -- the run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, choose the epoch by the validation sentences, test, draw. Returns the results."""
    run = Experiment("recursive", TITLE, OPTIONS, argv, epochs=EPOCHS, quick_epochs=QUICK_EPOCHS)
    o = run.options
    classes = 2 if o.binary else 5
    train, valid, test = chosen_trees(run.data(sentiment_trees, made_up_trees, "sst"), run.quick, o.binary)
    vocabulary = vocabulary_of(train)

    model = TreeClassifier(vocabulary, o.cell, o.embedding, o.hidden, classes, o.dropout, o.word_dropout).to(o.device)
    collate = partial(forest, vocabulary=vocabulary, classes=classes, device=o.device)
    in_order = [DataLoader(part, 100, collate_fn=collate) for part in (valid, test)]
    optimizer = tg.optim.Adagrad(model.parameters(), lr=o.lr, weight_decay=o.weight_decay)
    trainer = Trainer(
        model,
        run.compiled(Update(partial(measure, model), optimizer)),
        DataLoader(train, o.batch, shuffle=True, collate_fn=collate, generator=tg.Generator().manual_seed(o.seed)),
        validate=lambda: evaluate(model, partial(measure, model), in_order[0], items=sentences),
        schedules=[tg.optim.lr_scheduler.ExponentialLR(optimizer, o.decay)],
        stopping=EarlyStopping("valid_accuracy", mode="max", patience=None, restore_best=True),
        items=sentences,
        **run.keeping,
    )
    run.train(trainer)

    probabilities = predict(model, in_order[1])
    roots = np.array([CLASSES[classes][tree.labels[-1]] for tree in test])
    right = np.mean([p[-1].argmax() == root for p, root in zip(probabilities, roots)])
    of_nodes = np.concatenate([classes_of(tree, classes) for tree in test])
    known = of_nodes >= 0
    right_nodes = (np.concatenate(probabilities).argmax(1) == of_nodes)[known]
    save_pictures(run, test, probabilities, classes)
    return run.finish(
        [
            Result("accuracy", right, ("right sentences of the test (roots)", "テストの文 (根) の正解率"), ".2%"),
            Result("accuracy_nodes", right_nodes.mean(), ("right phrases and words (all nodes)", "句と単語を含む全ノードの正解率"), ".2%"),
            Result("accuracy_valid", trainer.stopping.best, ("validation at the chosen epoch (roots)", "選んだエポックでの検証 (根)"), ".2%"),
            Result("majority", np.bincount(roots).max() / len(roots), ("the most frequent class alone", "いつも最頻クラスと答えた場合"), ".2%"),
            Result("parameters", sum(p.numel() for p in model.parameters()), ("parameters", "パラメータ数"), ",d"),
        ],
        epoch=trainer.stopping.best_step * trainer.epoch // max(1, trainer.iteration),
    )  # fmt: skip


def sentences(batch: Forest) -> int:
    """How many sentences a batch has."""
    return len(batch.roots)


def classes_of(tree: Tree, classes: int) -> np.ndarray:
    """The class of every node, -100 for what is left out."""
    return np.array(CLASSES[classes])[tree.labels]


def predict(model: TreeClassifier, batches: Iterable[Forest]) -> list[np.ndarray]:
    """Of every tree the probabilities of the classes at each node (nodes, classes)."""
    made = []
    model.eval()
    with tg.no_grad():
        for batch in batches:
            ends = (batch.roots + 1).tolist()
            made += np.split(F.softmax(model(batch), dim=1).cpu().numpy(), ends[:-1])
    return made


# -- pictures


def save_pictures(run: Experiment, trees: Sequence[Tree], probabilities: Sequence[np.ndarray], classes: int) -> None:
    """Trees of some sentences, coloured by what the network says of each phrase."""
    words = run.words
    names = (words("very negative", "とても否定的"), words("neutral", "中立"), words("very positive", "とても肯定的"))
    title = words("What the network says of every phrase", "すべての句に対するネットワークの判定")
    with run.figure("trees.png", 2, 1, (10.0, 8.4), title) as grid:
        for axes, index in zip(grid, chosen(trees, probabilities, classes)):
            picture = draw_tree(axes, trees[index], probabilities[index] @ np.linspace(-1, 1, classes))
        bar = grid[0].figure.colorbar(picture, ax=grid, ticks=[-1, 0, 1], shrink=0.5, aspect=30)
        bar.ax.set_yticklabels(names)


def chosen(trees: Sequence[Tree], probabilities: Sequence[np.ndarray], classes: int, count: int = 2) -> list[int]:
    """Sentences of 7 to 14 words (else any) with the right root, those first whose phrases are judged most differently."""

    def interest(index: int) -> tuple[bool, bool, float]:
        tree, scores = trees[index], probabilities[index]
        right = scores[-1].argmax() == classes_of(tree, classes)[-1]
        inner = (scores @ np.linspace(-1, 1, classes))[len(tree.words) :]
        return 7 <= len(tree.words) <= 14, bool(right), float(inner.std()) if len(inner) else 0.0

    return sorted(range(len(trees)), key=interest, reverse=True)[:count]


def draw_tree(axes: Any, tree: Tree, values: np.ndarray) -> Any:
    """A tree with its words below, every node coloured by its value from -1 (red) to 1 (blue). Returns what a colour bar needs."""
    leaves = len(tree.words)
    x, y = np.zeros(len(values)), np.zeros(len(values))
    x[:leaves] = np.arange(leaves)
    for node, kids in enumerate(tree.children):
        if kids:
            x[node], y[node] = np.mean([x[kid] for kid in kids]), 1 + max(y[kid] for kid in kids)
            for kid in kids:
                axes.plot([x[kid], x[node]], [y[kid], y[node]], color="0.6", linewidth=1, zorder=1)
    picture = axes.scatter(x, y, c=values, cmap="RdBu", vmin=-1, vmax=1, s=110, edgecolors="0.3", linewidths=0.7, zorder=2)
    axes.set_xticks(range(leaves), tree.words, rotation=40, ha="right", fontsize=10, parse_math=False)
    axes.tick_params(length=0)
    axes.set(yticks=[], xlim=(-0.7, leaves - 0.3), ylim=(-0.4, y.max() + 0.6))
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    return picture
