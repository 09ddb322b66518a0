"""The training steps in PyTorch's names: one text that runs on tinygrad_ja and on PyTorch.

``build(lib, problem, name, form, ...)`` gives a function of a batch that does a whole step and returns the loss. Where a recurrence can be
written in two ways there are two forms: ``loop``, cells in a Python loop as one writes them oneself, and ``layer``, the library's layer. The
worker of each side takes whichever is faster there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .workloads import Problem, Tree

Step = Callable[..., Any]

FORMS: dict[str, tuple[str, ...]] = dict.fromkeys(("addition", "rnn", "lstm", "seq2seq"), ("loop", "layer"))
"""Workloads that can be written in two ways; the others have the one form ``plain``."""


class Side:
    """One library and a problem: modules with the problem's weights, optimizers, on a device.

    fused: whether PyTorch's optimizers take their fused kernels.
    """

    def __init__(self, lib: Any, problem: Problem, device: str = "cpu", fused: bool = False) -> None:
        self.lib, self.nn, self.F = lib, lib.nn, lib.nn.functional
        self.problem: Problem | None = problem
        self.sizes, self.trees, self.device = problem.sizes, problem.trees, device
        self.options: dict[str, Any] = {"fused": True} if fused else {}

    def tensor(self, array: Any) -> Any:
        """The same numbers as a tensor of this side."""
        return self.lib.tensor(array, device=self.device)

    def module(self, parts: dict[str, Any], **tensors: tuple[int, ...]) -> Any:
        """Layers and single parameters by name, with the problem's initial weights."""
        model = self.nn.Module()
        for name, part in parts.items():
            setattr(model, name, part)
        for name, shape in tensors.items():
            setattr(model, name, self.nn.Parameter(self.lib.zeros(*shape)))
        return self.loaded(model)

    def loaded(self, model: Any, prefix: str = "") -> Any:
        """The model with the initial weights whose names begin with ``prefix``; statistics of batch norm keep their own."""
        assert self.problem is not None
        weights = {name: self.tensor(array) for name, array in self.problem.weights.items()}
        mine = {}
        for name in model.state_dict():
            found = weights.get(prefix + name)
            if found is None:
                found = weights.get(prefix + name + "_l0")  # a cell has the weights of a layer
            if found is not None:
                mine[name] = found
        model = model.to(self.device)
        model.load_state_dict(mine, strict=False)
        loaded = [name for name, _ in model.named_parameters()]
        assert sorted(loaded) == sorted(mine), (loaded, sorted(mine))
        return model.train()

    def sgd(self, model: Any, lr: float, momentum: float = 0.0) -> Any:
        """Stochastic gradient descent."""
        return self.lib.optim.SGD(model.parameters(), lr=lr, momentum=momentum, **self.options)

    def adam(self, model: Any, lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> Any:
        """Adam."""
        return self.lib.optim.Adam(model.parameters(), lr=lr, betas=betas, **self.options)

    def zeros(self, *shape: int) -> Any:
        """Zeros on the device."""
        return self.lib.zeros(*shape, device=self.device)


def _training(loss_of: Step, optimizer: Any, model: Any = None, clip: Step | None = None) -> Step:
    """Forward, backward, clipping, update."""

    def step(*batch: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(*batch)
        loss.backward()
        if clip is not None:
            clip(model.parameters(), 0.25)
        optimizer.step()
        return loss

    return step


def _mlp(side: Side, form: str) -> Step:
    nn, s = side.nn, side.sizes
    model = nn.Sequential(nn.Linear(s["inputs"], s["hidden"]), nn.ReLU(), nn.Linear(s["hidden"], s["classes"]))
    model = side.loaded(model)
    return _training(lambda x, y: side.F.cross_entropy(model(x), y), side.sgd(model, 0.1))


def _recurrent(side: Side, form: str, layer: str, inputs: int, hidden: int) -> Any:
    """The recurrent layer, or its cell."""
    return getattr(side.nn, layer if form == "layer" else layer + "Cell")(inputs, hidden)


def _addition(side: Side, form: str) -> Step:
    lib, nn, s = side.lib, side.nn, side.sizes
    parts = {"rnn": _recurrent(side, form, "RNN", s["inputs"], s["hidden"])}
    model = side.module({**parts, "output": nn.Linear(s["hidden"], s["outputs"])})

    def loop(x: Any, target: Any) -> Any:
        h = side.zeros(s["N"], s["hidden"])
        loss = 0.0
        for t in range(s["T"]):
            h = model.rnn(x[t], h)
            y = lib.sigmoid(model.output(h))
            loss = loss + ((y - target[t]) ** 2).sum()
        return loss

    def layer(x: Any, target: Any) -> Any:
        return ((lib.sigmoid(model.output(model.rnn(x)[0])) - target) ** 2).sum()

    return _training(layer if form == "layer" else loop, side.sgd(model, 0.1))


def _rnn(side: Side, form: str) -> Step:
    nn, s = side.nn, side.sizes
    parts = {"rnn": _recurrent(side, form, "RNN", s["inputs"], s["hidden"])}
    model = side.module({**parts, "output": nn.Linear(s["hidden"], s["outputs"])})

    def last(x: Any) -> Any:
        if form == "layer":
            return model.rnn(x)[0][-1]
        h = side.zeros(s["N"], s["hidden"])
        for t in range(s["T"]):
            h = model.rnn(x[t], h)
        return h

    return _training(lambda x, y: side.F.cross_entropy(model.output(last(x)), y), side.sgd(model, 0.1))


def _lstm(side: Side, form: str) -> Step:
    lib, nn, s = side.lib, side.nn, side.sizes
    parts = {"embedding": nn.Embedding(s["V"], s["embedding"]), "output": nn.Linear(s["hidden"], s["V"])}
    model = side.module({**parts, "rnn": _recurrent(side, form, "LSTM", s["embedding"], s["hidden"])})

    def states(x: Any) -> Any:
        if form == "layer":
            return model.rnn(x)[0]
        h, c = side.zeros(s["N"], s["hidden"]), side.zeros(s["N"], s["hidden"])
        found = []
        for t in range(s["T"]):
            h, c = model.rnn(x[t], (h, c))
            found.append(h)
        return lib.stack(found)

    def loss_of(text: Any, following: Any) -> Any:
        scores = model.output(states(model.embedding(text)))
        return side.F.cross_entropy(scores.reshape(-1, s["V"]), following.reshape(-1))

    return _training(loss_of, side.sgd(model, 20.0), model, nn.utils.clip_grad_norm_)


def _seq2seq(side: Side, form: str) -> Step:
    lib, nn, s = side.lib, side.nn, side.sizes
    d = s["d"]
    parts = {"source": nn.Embedding(s["V"], d), "target": nn.Embedding(s["V"], d)}
    parts.update({"encoder": _recurrent(side, form, "GRU", d, d), "cell": nn.GRUCell(2 * d, d)})
    parts.update({"query": nn.Linear(d, d, bias=False), "key": nn.Linear(d, d, bias=False)})
    parts.update({"score": nn.Linear(d, 1, bias=False), "output": nn.Linear(2 * d, s["V"])})
    model = side.module(parts)

    def encode(x: Any) -> tuple[Any, Any]:
        if form == "layer":
            states, _ = model.encoder(x)
            return states, states[-1]
        h = side.zeros(s["N"], d)
        found = []
        for t in range(s["T"]):
            h = model.encoder(x[t], h)
            found.append(h)
        return lib.stack(found), h

    def loss_of(source: Any, given: Any, wanted: Any) -> Any:
        states, h = encode(model.source(source))
        keys = model.key(states)
        inputs = model.target(given)
        found = []
        for t in range(s["T"]):
            scores = model.score(lib.tanh(keys + model.query(h)))  # (T, N, 1)
            context = (lib.softmax(scores, 0) * states).sum(0)
            h = model.cell(lib.cat([inputs[t], context], 1), h)
            found.append(lib.cat([h, context], 1))
        scores = model.output(lib.stack(found))
        return side.F.cross_entropy(scores.reshape(-1, s["V"]), wanted.reshape(-1))

    return _training(loss_of, side.adam(model, 1e-3))


def _transformer(side: Side, form: str) -> Step:
    nn, s = side.nn, side.sizes
    blocks = nn.ModuleList(
        [
            nn.TransformerEncoderLayer(s["d"], s["heads"], s["ffn"], dropout=0.0, activation="gelu", batch_first=True)
            for _ in range(s["blocks"])
        ]
    )
    parts = {"embedding": nn.Embedding(s["V"], s["d"]), "blocks": blocks, "output": nn.Linear(s["d"], s["V"])}
    model = side.module(parts, position=(s["T"], s["d"]))

    def loss_of(text: Any, following: Any) -> Any:
        x = model.embedding(text) + model.position
        for block in model.blocks:
            x = block(x)
        return side.F.cross_entropy(model.output(x).reshape(-1, s["V"]), following.reshape(-1))

    return _training(loss_of, side.adam(model, 1e-3))


def _lenet(side: Side, form: str) -> Step:
    nn = side.nn
    layers = [nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    layers += [nn.Linear(512, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    model = side.loaded(nn.Sequential(*layers))
    return _training(lambda x, y: side.F.cross_entropy(model(x), y), side.sgd(model, 0.01, momentum=0.9))


def _resnet(side: Side, form: str) -> Step:
    nn, F, c = side.nn, side.F, side.sizes["channels"]

    def block(before: int, after: int) -> Any:
        stride = 1 if before == after else 2
        made = nn.Module()
        made.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        made.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        made.norm1, made.norm2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        if stride == 2:
            made.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=2, bias=False), nn.BatchNorm2d(after))
        else:
            made.shortcut = nn.Identity()
        return made

    blocks = nn.ModuleList([block(c, c), block(c, 2 * c), block(2 * c, 4 * c)])
    parts = {"stem": nn.Conv2d(3, c, 3, padding=1, bias=False), "norm": nn.BatchNorm2d(c), "blocks": blocks}
    model = side.module({**parts, "output": nn.Linear(4 * c, 10)})

    def loss_of(x: Any, y: Any) -> Any:
        x = F.relu(model.norm(model.stem(x)))
        for part in model.blocks:
            inner = F.relu(part.norm1(part.conv1(x)))
            x = F.relu(part.norm2(part.conv2(inner)) + part.shortcut(x))
        return F.cross_entropy(model.output(x.mean((2, 3))), y)

    return _training(loss_of, side.sgd(model, 0.05, momentum=0.9))


def _dcgan(side: Side, form: str) -> Step:
    lib, nn, s = side.lib, side.nn, side.sizes
    z, c = s["z"], s["channels"]
    layers = [nn.ConvTranspose2d(z, 2 * c, 4, bias=False), nn.BatchNorm2d(2 * c), nn.ReLU()]
    layers += [nn.ConvTranspose2d(2 * c, c, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
    layers += [nn.ConvTranspose2d(c, 1, 4, stride=2, padding=1, bias=False), nn.Tanh()]
    generator = side.loaded(nn.Sequential(*layers), "generator.")
    layers = [nn.Conv2d(1, c, 4, stride=2, padding=1, bias=False), nn.LeakyReLU(0.2)]
    layers += [nn.Conv2d(c, 2 * c, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * c), nn.LeakyReLU(0.2)]
    discriminator = side.loaded(nn.Sequential(*layers, nn.Conv2d(2 * c, 1, 4, bias=False)), "discriminator.")
    of_generator = side.adam(generator, 2e-4, (0.5, 0.999))
    of_discriminator = side.adam(discriminator, 2e-4, (0.5, 0.999))
    error = side.F.binary_cross_entropy_with_logits

    def step(real: Any, noise: Any) -> Any:
        fake = generator(noise)
        of_discriminator.zero_grad()
        scores = discriminator(real)
        on_real = error(scores, lib.ones_like(scores))
        scores = discriminator(fake.detach())
        loss = on_real + error(scores, lib.zeros_like(scores))
        loss.backward()
        of_discriminator.step()
        of_generator.zero_grad()
        scores = discriminator(fake)
        deceived = error(scores, lib.ones_like(scores))
        deceived.backward()
        of_generator.step()
        return loss + deceived

    return step


def _skipgram(side: Side, form: str) -> Step:
    nn, F, s = side.nn, side.F, side.sizes
    model = side.module({"inner": nn.Embedding(s["V"], s["dim"]), "outer": nn.Embedding(s["V"], s["dim"])})

    def loss_of(center: Any, context: Any, noise: Any) -> Any:
        word = model.inner(center)
        likely = (model.outer(context) * word).sum(1)
        unlikely = side.lib.einsum("nkd,nd->nk", model.outer(noise), word)
        return -(F.logsigmoid(likely).mean() + F.logsigmoid(-unlikely).sum(1).mean())

    return _training(loss_of, side.sgd(model, 1.0))


def _tree(side: Side, form: str) -> Step:
    lib, nn, s = side.lib, side.nn, side.sizes
    parts = {"embedding": nn.Embedding(s["V"], s["d"]), "combine": nn.Linear(2 * s["d"], s["d"])}
    model = side.module({**parts, "classify": nn.Linear(s["d"], 5)})

    def visit(tree: Tree, leaves: Any, found: list[Any]) -> Any:
        if isinstance(tree, int):
            vector = leaves[tree]
        else:
            left, right = visit(tree[0], leaves, found), visit(tree[1], leaves, found)
            vector = lib.tanh(model.combine(lib.cat([left, right])))
        found.append(vector)
        return vector

    def loss_of(words: Any, labels: Any) -> Any:
        loss, word, node = 0.0, 0, 0
        for tree, count in zip(side.trees, counts):
            leaves = model.embedding(words[word : word + count]).unbind(0)
            found: list[Any] = []
            visit(tree, leaves, found)
            scores = model.classify(lib.stack(found))
            loss = loss + side.F.cross_entropy(scores, labels[node : node + len(found)], reduction="sum")
            word, node = word + count, node + len(found)
        return loss / node

    counts = [leaf_count(tree) for tree in side.trees]
    return _training(loss_of, side.sgd(model, 0.1))


def leaf_count(tree: Tree) -> int:
    """How many leaves a tree has."""
    return 1 if isinstance(tree, int) else leaf_count(tree[0]) + leaf_count(tree[1])


PROGRAMS: dict[str, Callable[[Side, str], Step]] = {
    "mlp": _mlp,
    "addition": _addition,
    "rnn": _rnn,
    "lstm": _lstm,
    "seq2seq": _seq2seq,
    "transformer": _transformer,
    "lenet": _lenet,
    "resnet": _resnet,
    "dcgan": _dcgan,
    "skipgram": _skipgram,
    "tree": _tree,
}


def build(side: Side, name: str, form: str) -> Step:
    """The training step of a workload; ``form`` as in FORMS."""
    return PROGRAMS[name](side, form)
