"""The same steps in JAX: one function from the state and a batch to the new state and the loss, compiled whole, the state donated.

The state is a dictionary of arrays: parameters under PyTorch's names (matrices as JAX programs keep them, inputs by outputs), moments of the
optimizer, statistics of batch norm. Recurrences come in three forms: ``scan``, ``lax.scan``; ``unrolled``, a Python loop that the compiler
sees whole; ``hoisted``, ``lax.scan`` with the products with the input as one product before the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from .programs import leaf_count
from .workloads import Problem, Tree

Params = dict[str, Any]
Loss = Callable[..., Any]

FORMS: dict[str, tuple[str, ...]] = dict.fromkeys(("addition", "rnn", "lstm", "seq2seq"), ("scan", "unrolled", "hoisted"))
"""The recurrences: ``lax.scan``, a Python loop that the compiler sees whole, or ``lax.scan`` with the products with the input as one product
before the loop. The other workloads have the one form ``plain``."""

TABLES = ("embedding.weight", "source.weight", "target.weight", "position", "inner.weight", "outer.weight")
"""Matrices that are read by rows, not multiplied."""

MOMENTUM = 0.1
EPS = 1e-5


# ---- layers --------------------------------------------------------------------------------------


def _linear(p: Params, name: str, x: Any) -> Any:
    y = x @ p[f"{name}.weight"]
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def _cross_entropy(scores: Any, labels: Any) -> Any:
    """Mean over the rows."""
    logs = nn.log_softmax(scores)
    return -jnp.take_along_axis(logs, labels[:, None], 1).mean()


def _scan(form: str, step: Callable[[Any, Any], tuple[Any, Any]], state: Any, xs: Any) -> tuple[Any, Any]:
    """``lax.scan``, or the same loop written out."""
    if form != "unrolled":
        return lax.scan(step, state, xs)
    found = []
    for t in range(len(xs)):
        state, y = step(state, xs[t])
        found.append(y)
    return state, jnp.stack(found)


def _inputs(form: str, x: Any, w: Any, bias: Any) -> tuple[Any, Callable[[Any], Any]]:
    """What the loop runs over, and how a step makes its product with the input from one piece of that."""
    if form == "hoisted":
        return x @ w + bias, lambda a: a
    return x, lambda a: a @ w + bias


def _rnn_layer(p: Params, form: str, x: Any) -> Any:
    """All states of a tanh RNN."""
    xs, product = _inputs(form, x, p["rnn.weight_ih_l0"], p["rnn.bias_ih_l0"] + p["rnn.bias_hh_l0"])
    w = p["rnn.weight_hh_l0"]

    def step(h: Any, a: Any) -> tuple[Any, Any]:
        h = jnp.tanh(product(a) + h @ w)
        return h, h

    return _scan(form, step, jnp.zeros((x.shape[1], w.shape[0]), x.dtype), xs)[1]


def _lstm_layer(p: Params, form: str, x: Any) -> Any:
    xs, product = _inputs(form, x, p["rnn.weight_ih_l0"], p["rnn.bias_ih_l0"] + p["rnn.bias_hh_l0"])
    w = p["rnn.weight_hh_l0"]
    zeros = jnp.zeros((x.shape[1], w.shape[0]), x.dtype)

    def step(state: tuple[Any, Any], a: Any) -> tuple[Any, Any]:
        h, c = state
        i, f, g, o = jnp.split(product(a) + h @ w, 4, axis=1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return _scan(form, step, (zeros, zeros), xs)[1]


def _gru_cell(inputs: Any, h: Any, w: Any, bias: Any) -> Any:
    """A step of a GRU from the finished products with the input."""
    ir, iz, ig = jnp.split(inputs, 3, axis=1)
    hr, hz, hg = jnp.split(h @ w + bias, 3, axis=1)
    z = nn.sigmoid(iz + hz)
    return (1 - z) * jnp.tanh(ig + nn.sigmoid(ir + hr) * hg) + z * h


def _convolution(x: Any, w: Any, stride: int = 1, padding: int = 0) -> Any:
    return lax.conv_general_dilated(x, w, (stride, stride), [(padding, padding)] * 2)


def _transposed(x: Any, w: Any, stride: int = 1, padding: int = 0) -> Any:
    """conv_transpose2d: w is (inputs, outputs, k, k)."""
    w = jnp.flip(w, (2, 3)).swapaxes(0, 1)
    edge = w.shape[2] - 1 - padding
    return lax.conv_general_dilated(x, w, (1, 1), [(edge, edge)] * 2, lhs_dilation=(stride, stride))


def _batch_norm(p: Params, stats: Params, new: Params, name: str, x: Any) -> Any:
    """Normalise by the batch; ``new`` gets the running statistics."""
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    count = x.size // x.shape[1]
    for key, value in (("mean", mean), ("var", var * (count / (count - 1)))):
        old = new.get(f"{name}.{key}", stats[f"{name}.{key}"])
        new[f"{name}.{key}"] = old + MOMENTUM * (lax.stop_gradient(value) - old)
    scale = p[f"{name}.weight"] * lax.rsqrt(var + EPS)
    return x * scale[:, None, None] + (p[f"{name}.bias"] - mean * scale)[:, None, None]


def _layer_norm(p: Params, name: str, x: Any) -> Any:
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + EPS) * p[f"{name}.weight"] + p[f"{name}.bias"]


def _max_pool(x: Any) -> Any:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))


# ---- updates -------------------------------------------------------------------------------------


def _tree_map(function: Callable[..., Any], *trees: Any) -> Any:
    return jax.tree.map(function, *trees)


def _adam(p: Params, grads: Params, moments: Any, lr: float, b1: float = 0.9, b2: float = 0.999) -> tuple[Params, Any]:
    first, second, t = moments
    t = t + 1
    first = _tree_map(lambda m, g: b1 * m + (1 - b1) * g, first, grads)
    second = _tree_map(lambda v, g: b2 * v + (1 - b2) * g * g, second, grads)
    size, root = lr / (1 - b1**t), jnp.sqrt(1 - b2**t)
    p = _tree_map(lambda w, m, v: w - size * m / (jnp.sqrt(v) / root + 1e-8), p, first, second)
    return p, (first, second, t)


def _moments(p: Params) -> Any:
    zeros = _tree_map(jnp.zeros_like, p)
    return zeros, _tree_map(jnp.zeros_like, p), jnp.zeros((), jnp.float32)


def _with_sgd(loss_of: Loss, p: Params, lr: float, momentum: float = 0.0, clip: float | None = None) -> tuple[Any, Any]:
    """State and step of SGD."""

    def step(state: Any, *batch: Any) -> tuple[Any, Any]:
        p, velocity = state
        loss, grads = jax.value_and_grad(loss_of)(p, *batch)
        if clip is not None:
            norm = jnp.sqrt(sum((g * g).sum() for g in jax.tree.leaves(grads)))
            scale = jnp.minimum(1.0, clip / (norm + 1e-6))
            grads = _tree_map(lambda g: g * scale, grads)
        if momentum:
            velocity = grads = _tree_map(lambda v, g: momentum * v + g, velocity, grads)
        return (_tree_map(lambda w, g: w - lr * g, p, grads), velocity), loss

    return (p, _tree_map(jnp.zeros_like, p) if momentum else ()), step


def _with_adam(loss_of: Loss, p: Params, lr: float) -> tuple[Any, Any]:
    """State and step of Adam."""

    def step(state: Any, *batch: Any) -> tuple[Any, Any]:
        p, moments = state
        loss, grads = jax.value_and_grad(loss_of)(p, *batch)
        return _adam(p, grads, moments, lr), loss

    return (p, _moments(p)), step


# ---- workloads -----------------------------------------------------------------------------------


def _mlp(p: Params, problem: Problem, form: str) -> tuple[Any, Any]:
    def loss_of(p: Params, x: Any, y: Any) -> Any:
        return _cross_entropy(_linear(p, "2", nn.relu(_linear(p, "0", x))), y)

    return _with_sgd(loss_of, p, 0.1)


def _addition(p: Params, problem: Problem, form: str) -> tuple[Any, Any]:
    def loss_of(p: Params, x: Any, target: Any) -> Any:
        return ((nn.sigmoid(_linear(p, "output", _rnn_layer(p, form, x))) - target) ** 2).sum()

    return _with_sgd(loss_of, p, 0.1)


def _rnn(p: Params, problem: Problem, form: str) -> tuple[Any, Any]:
    def loss_of(p: Params, x: Any, y: Any) -> Any:
        return _cross_entropy(_linear(p, "output", _rnn_layer(p, form, x)[-1]), y)

    return _with_sgd(loss_of, p, 0.1)


def _lstm(p: Params, problem: Problem, form: str) -> tuple[Any, Any]:
    vocabulary = problem.sizes["V"]

    def loss_of(p: Params, text: Any, following: Any) -> Any:
        scores = _linear(p, "output", _lstm_layer(p, form, p["embedding.weight"][text]))
        return _cross_entropy(scores.reshape(-1, vocabulary), following.reshape(-1))

    return _with_sgd(loss_of, p, 20.0, clip=0.25)


def _seq2seq(p: Params, problem: Problem, form: str) -> tuple[Any, Any]:
    s = problem.sizes

    def loss_of(p: Params, source: Any, given: Any, wanted: Any) -> Any:
        w, bias = p["encoder.weight_hh_l0"], p["encoder.bias_hh_l0"]
        words = p["source.weight"][source]
        xs, product = _inputs(form, words, p["encoder.weight_ih_l0"], p["encoder.bias_ih_l0"])

        def encode(h: Any, a: Any) -> tuple[Any, Any]:
            h = _gru_cell(product(a), h, w, bias)
            return h, h

        h, states = _scan(form, encode, jnp.zeros((s["N"], s["d"])), xs)
        keys = _linear(p, "key", states)
        of_word, of_context = jnp.split(p["cell.weight_ih"], 2)
        xs, word_product = _inputs(form, p["target.weight"][given], of_word, p["cell.bias_ih"])

        def decode(h: Any, word: Any) -> tuple[Any, Any]:
            scores = jnp.tanh(keys + _linear(p, "query", h)) @ p["score.weight"][:, 0]
            context = (nn.softmax(scores, 0)[:, :, None] * states).sum(0)
            h = _gru_cell(word_product(word) + context @ of_context, h, p["cell.weight_hh"], p["cell.bias_hh"])
            return h, jnp.concatenate([h, context], 1)

        _, found = _scan(form, decode, h, xs)
        return _cross_entropy(_linear(p, "output", found).reshape(-1, s["V"]), wanted.reshape(-1))

    return _with_adam(loss_of, p, 1e-3)


def _transformer(p: Params, problem: Problem, form: str) -> tuple[Any, Any]:
    s = problem.sizes
    count, length, d, heads = s["N"], s["T"], s["d"], s["heads"]

    def attention(p: Params, name: str, x: Any) -> Any:
        projected = x @ p[f"{name}.in_proj_weight"] + p[f"{name}.in_proj_bias"]
        q, k, v = projected.reshape(count, length, 3, heads, d // heads).transpose(2, 0, 3, 1, 4)
        scores = nn.softmax(q @ k.swapaxes(2, 3) * (d // heads) ** -0.5)
        return _linear(p, f"{name}.out_proj", (scores @ v).swapaxes(1, 2).reshape(count, length, d))

    def loss_of(p: Params, text: Any, following: Any) -> Any:
        x = p["embedding.weight"][text] + p["position"]
        for i in range(s["blocks"]):
            layer = f"blocks.{i}"
            x = _layer_norm(p, f"{layer}.norm1", x + attention(p, f"{layer}.self_attn", x))
            inner = nn.gelu(_linear(p, f"{layer}.linear1", x), approximate=False)
            x = _layer_norm(p, f"{layer}.norm2", x + _linear(p, f"{layer}.linear2", inner))
        return _cross_entropy(_linear(p, "output", x).reshape(-1, s["V"]), following.reshape(-1))

    return _with_adam(loss_of, p, 1e-3)


def _lenet(p: Params, problem: Problem, form: str) -> tuple[Any, Any]:
    def loss_of(p: Params, x: Any, y: Any) -> Any:
        for name in ("0", "3"):
            x = _max_pool(nn.relu(_convolution(x, p[f"{name}.weight"]) + p[f"{name}.bias"][:, None, None]))
        x = nn.relu(_linear(p, "7", x.reshape(x.shape[0], -1)))
        return _cross_entropy(_linear(p, "11", nn.relu(_linear(p, "9", x))), y)

    return _with_sgd(loss_of, p, 0.01, momentum=0.9)


def _statistics(p: Params, names: Sequence[str]) -> Params:
    """Running means 0 and variances 1."""
    stats = {f"{name}.mean": jnp.zeros_like(p[f"{name}.weight"]) for name in names}
    return {**stats, **{f"{name}.var": jnp.ones_like(p[f"{name}.weight"]) for name in names}}


def _resnet(p: Params, problem: Problem, form: str) -> tuple[Any, Any]:
    names = sorted({name.rpartition(".")[0] for name in p if "norm" in name or "shortcut.1" in name})

    def loss_of(p: Params, stats: Params, x: Any, y: Any) -> tuple[Any, Params]:
        new: Params = {}

        def normal(name: str, x: Any) -> Any:
            return _batch_norm(p, stats, new, name, x)

        x = nn.relu(normal("norm", _convolution(x, p["stem.weight"], padding=1)))
        for i in range(3):
            block = f"blocks.{i}"
            stride = 2 if f"{block}.shortcut.0.weight" in p else 1
            inner = nn.relu(normal(f"{block}.norm1", _convolution(x, p[f"{block}.conv1.weight"], stride, 1)))
            inner = normal(f"{block}.norm2", _convolution(inner, p[f"{block}.conv2.weight"], padding=1))
            if stride == 2:
                x = normal(f"{block}.shortcut.1", _convolution(x, p[f"{block}.shortcut.0.weight"], 2))
            x = nn.relu(inner + x)
        return _cross_entropy(_linear(p, "output", x.mean((2, 3))), y), new

    def step(state: Any, x: Any, y: Any) -> tuple[Any, Any]:
        p, velocity, stats = state
        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(p, stats, x, y)
        velocity = _tree_map(lambda v, g: 0.9 * v + g, velocity, grads)
        return (_tree_map(lambda w, v: w - 0.05 * v, p, velocity), velocity, stats), loss

    return (p, _tree_map(jnp.zeros_like, p), _statistics(p, names)), step


def _dcgan(p: Params, problem: Problem, form: str) -> tuple[Any, Any]:
    names = ("generator.1", "generator.4", "discriminator.3")

    def generate(p: Params, stats: Params, new: Params, noise: Any) -> Any:
        x = nn.relu(_batch_norm(p, stats, new, "generator.1", _transposed(noise, p["generator.0.weight"])))
        x = _transposed(x, p["generator.3.weight"], 2, 1)
        x = nn.relu(_batch_norm(p, stats, new, "generator.4", x))
        return jnp.tanh(_transposed(x, p["generator.6.weight"], 2, 1))

    def judge(p: Params, stats: Params, new: Params, x: Any) -> Any:
        x = nn.leaky_relu(_convolution(x, p["discriminator.0.weight"], 2, 1), 0.2)
        x = _batch_norm(p, stats, new, "discriminator.3", _convolution(x, p["discriminator.2.weight"], 2, 1))
        return _convolution(nn.leaky_relu(x, 0.2), p["discriminator.5.weight"])

    def error(scores: Any, target: float) -> Any:
        return (nn.softplus(scores) - target * scores).mean()

    def step(state: Any, real: Any, noise: Any) -> tuple[Any, Any]:
        maker, critic, of_maker, of_critic, stats = state
        new: Params = {}

        def made_of(maker: Params) -> tuple[Any, Params]:
            found: Params = {}
            return generate(maker, stats, found, noise), found

        fake, back, found = jax.vjp(made_of, maker, has_aux=True)
        new.update(found)

        def of_scores(critic: Params) -> tuple[Any, Params]:
            found = dict(new)
            loss = error(judge(critic, stats, found, real), 1.0) + error(judge(critic, stats, found, fake), 0.0)
            return loss, found

        (loss, new), grads = jax.value_and_grad(of_scores, has_aux=True)(critic)
        critic, of_critic = _adam(critic, grads, of_critic, 2e-4, 0.5)

        def deceived_by(fake: Any) -> tuple[Any, Params]:
            found = dict(new)
            return error(judge(critic, stats, found, fake), 1.0), found

        (deceived, new), of_fake = jax.value_and_grad(deceived_by, has_aux=True)(fake)
        (grads,) = back(of_fake)
        maker, of_maker = _adam(maker, grads, of_maker, 2e-4, 0.5)
        return (maker, critic, of_maker, of_critic, new), loss + deceived

    maker = {name: w for name, w in p.items() if name.startswith("generator")}
    critic = {name: w for name, w in p.items() if name.startswith("discriminator")}
    return (maker, critic, _moments(maker), _moments(critic), _statistics(p, names)), step


def _skipgram(p: Params, problem: Problem, form: str) -> tuple[Any, Any]:
    def loss_of(p: Params, center: Any, context: Any, noise: Any) -> Any:
        word = p["inner.weight"][center]
        likely = (p["outer.weight"][context] * word).sum(1)
        unlikely = jnp.einsum("nkd,nd->nk", p["outer.weight"][noise], word)
        return -(nn.log_sigmoid(likely).mean() + nn.log_sigmoid(-unlikely).sum(1).mean())

    return _with_sgd(loss_of, p, 1.0)


def heights(trees: Sequence[Tree]) -> tuple[list[tuple[Any, Any]], Any]:
    """The nodes of all trees by height.

    Rows are numbered as they are computed: all leaves, then the inner nodes of height 1, 2, ... Returns for every height the rows of the
    left and of the right children, and the row of every node in the order of the labels (tree by tree, children first).
    """
    first = 0
    inner: list[tuple[int, Any, Any]] = []  # height, left, right
    labelled: list[Any] = []

    def visit(tree: Tree) -> tuple[int, Any]:
        """Height, and what stands for the node until its row is known: the row of a leaf, or the place in ``inner``."""
        if isinstance(tree, int):
            found: tuple[int, Any] = (0, first + tree)
        else:
            (a, left), (b, right) = visit(tree[0]), visit(tree[1])
            found = (1 + max(a, b), (len(inner),))
            inner.append((found[0], left, right))
        labelled.append(found[1])
        return found

    for tree in trees:
        visit(tree)
        first += leaf_count(tree)
    by_height = sorted(range(len(inner)), key=lambda i: inner[i][0])
    rows = {i: first + k for k, i in enumerate(by_height)}

    def row(node: Any) -> int:
        return rows[node[0]] if isinstance(node, tuple) else node

    levels: dict[int, list[tuple[int, int]]] = {}
    for i in by_height:
        levels.setdefault(inner[i][0], []).append((row(inner[i][1]), row(inner[i][2])))
    pairs = [np.array(level).T for level in levels.values()]
    return [(left, right) for left, right in pairs], np.array([row(node) for node in labelled])


def _tree(p: Params, problem: Problem, form: str) -> tuple[Any, Any]:
    """All nodes of one height at once: what one writes by hand where a program has to be traced whole."""
    levels, order = heights(problem.trees)

    def loss_of(p: Params, words: Any, labels: Any) -> Any:
        nodes = p["embedding.weight"][words]
        for left, right in levels:
            pair = jnp.concatenate([nodes[left], nodes[right]], 1)
            nodes = jnp.concatenate([nodes, jnp.tanh(_linear(p, "combine", pair))])
        return _cross_entropy(_linear(p, "classify", nodes[order]), labels)

    return _with_sgd(loss_of, p, 0.1)


PROGRAMS: dict[str, Callable[[Params, Problem, str], tuple[Any, Any]]] = {
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


def _layout(name: str, array: Any) -> Any:
    """A weight on the device; matrices as inputs by outputs."""
    return jnp.array(array.T if array.ndim == 2 and name not in TABLES else array)


class Runner:
    """The step of a workload as the worker calls it; see ``ours.py``."""

    def __init__(self, name: str, problem: Problem, form: str, device: str, threads: int) -> None:
        if device.startswith("cuda"):
            jax.config.update("jax_default_matmul_precision", "highest")  # no TF32, as on the other sides
        self.device = jax.devices("gpu" if device.startswith("cuda") else "cpu")[0]
        jax.config.update("jax_default_device", self.device)
        params = {key: _layout(key, array) for key, array in problem.weights.items()}
        self.state, step = PROGRAMS[name](params, problem, form)
        self.batches = [
            tuple(jnp.array(array, jnp.int32 if array.dtype.kind == "i" else None) for array in b) for b in problem.batches
        ]
        self.compiled = jax.jit(step, donate_argnums=0)

    def step(self, batch: tuple[Any, ...]) -> Any:
        """One step; the loss as this side gives it."""
        self.state, loss = self.compiled(self.state, *batch)
        return loss

    def finish(self) -> None:
        """Wait until all that was asked for is computed."""
        jax.block_until_ready(self.state)

    def details(self) -> dict[str, Any]:
        """What the report tells of this side beside times."""
        return {"version": f"jax {jax.__version__}"}
