"""Back-propagation through time, checked: the tape against the formulas of the textbook, number by number.

The network: u_t = W_in x_t + W z_{t-1} + b, z_t = f(u_t), v_t = W_out z_t + c, E = Σ_t E_t, with E_t either the squared error |v_t - d_t|² / 2
or the cross entropy of softmax(v_t). Its gradients come from the tape; nothing below is used to train it. The formulas (Werbos:
Backpropagation through time, 1990), vectors as columns, ∘ element by element:

    δ_out,t = ∂E/∂v_t = g(v_t) - d_t                              g: identity, or softmax
    δ_t     = ∂E/∂u_t = (Wᵀ δ_{t+1} + W_outᵀ δ_out,t) ∘ f'(u_t),  δ_{T+1} = 0
    ∂E/∂W_in = Σ δ_t x_tᵀ = D X      ∂E/∂W = Σ δ_t z_{t-1}ᵀ = D Z̃      ∂E/∂b = Σ δ_t
    ∂E/∂W_out = Σ δ_out,t z_tᵀ       ∂E/∂c = Σ δ_out,t

(column t of D is δ_t; row t of X is x_tᵀ, of Z̃ it is z_{t-1}ᵀ), and the double form, in which δ_{t,k} = ∂E_t/∂u_k:

    ∂E/∂W = Σ_t Σ_{k<=t} δ_{t,k} z_{k-1}ᵀ,   δ_{t,t} = (W_outᵀ δ_out,t) ∘ f'(u_t),   δ_{t,k-1} = (Wᵀ δ_{t,k}) ∘ f'(u_{k-1})

Lecture notes often get one of these wrong; ``slips`` puts five such formulas beside the tape, and none of them agrees. As a formula of rows,
δ_{t,k-1} = δ_{t,k} W f'(u_{k-1}) is right, but then f' is a diagonal matrix and δ a row, and the sum above must have δ_{t,k}ᵀ in it.

Data: sunspots per month (the value of the next month) and Shakespeare's plays (the next letter). Expect differences of about 1e-15.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_ja as tg
from models.simple_rnn import Recurrence
from tinygrad_ja import nn
from tinygrad_ja.data import DataLoader, TensorDataset
from tinygrad_ja.data.datasets import Sunspots, TinyShakespeare
from tinygrad_ja.data.datasets.synthetic import GrammarText, Sine
from tinygrad_ja.errors import refusal
from tinygrad_ja.table import aligned
from tinygrad_ja.training import Experiment, Option, Result, Trainer, Update

TITLE = {
    "en": "BPTT checked: the tape against the formulas δ_t, D X, D Z̃, Σ_t Σ_k (JDLA E certificate: BPTT)",
    "ja": "BPTT の検証: テープと公式 δ_t、D X、D Z̃、Σ_t Σ_k の比較 (E資格: BPTT)",
}
OPTIONS = [
    Option("hidden", 16, ("hidden units", "隠れユニットの数")),
    Option("steps", 30, ("time steps of a sequence", "系列の時刻の数"), least=2),
    Option("lr", 0.01, ("learning rate of Adam", "Adam の学習率")),
]

Array = np.ndarray
LETTERS = "abcdefghijklmnopqrstuvwxyz "


class Network(nn.Module):
    """The network above: (T, N, inputs) -> v (T, N, outputs)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, activation: str) -> None:
        super().__init__()
        self.recurrence = Recurrence(inputs, hidden, activation)
        self.read = nn.Linear(hidden, outputs)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.read(tg.stack(self.recurrence(x)[1:]))

    @property
    def named(self) -> dict[str, tg.Tensor]:
        """The parameters by the names of the formulas."""
        r = self.recurrence
        return {"W_in": r.W_in, "W": r.W, "b": r.b, "W_out": self.read.weight, "c": self.read.bias}


def squared_error(v: tg.Tensor, d: tg.Tensor) -> tg.Tensor:
    """E = Σ_t |v_t - d_t|² / 2."""
    return ((v - d) ** 2).sum() / 2


def cross_entropy(v: tg.Tensor, d: tg.Tensor) -> tg.Tensor:
    """E = -Σ_t Σ_i d_ti log softmax(v_t)_i; d has a 1 at the class."""
    return -(d * tg.log_softmax(v, -1)).sum()


LOSSES: dict[str, Callable[[tg.Tensor, tg.Tensor], tg.Tensor]] = {
    "squared-error": squared_error,
    "cross-entropy": cross_entropy,
}


def tape(network: Network, x: tg.Tensor, d: tg.Tensor, loss: str) -> dict[str, Array]:
    """The gradients for one sequence, x (T, inputs) and d (T, outputs), as ``backward`` gives them."""
    parameters = network.named
    E = LOSSES[loss](network(x.unsqueeze(1)), d.unsqueeze(1))
    gradients: tuple[Any, ...] = tg.grad(E, list(parameters.values()))
    return {name: g.numpy() for name, g in zip(parameters, gradients)}


# -- the check: the formulas, evaluated with numbers

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda u: 1 / (1 + np.exp(-u)),
    "tanh": np.tanh,
    "relu": lambda u: np.maximum(u, 0),
}
SLOPES: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda u: FUNCTIONS["sigmoid"](u) * (1 - FUNCTIONS["sigmoid"](u)),
    "tanh": lambda u: 1 - np.tanh(u) ** 2,
    "relu": lambda u: (u > 0).astype(float),
}


class Pass(NamedTuple):
    """What the formulas need: z_0 ... z_T (T + 1, H), f'(u_t) (T, H), δ_out,t (T, outputs)."""

    z: Array
    slope: Array
    delta_out: Array


def forward_numbers(p: dict[str, Array], x: Array, d: Array, activation: str, loss: str) -> Pass:
    """The forward pass of one sequence in NumPy."""
    z, slope, delta_out = [np.zeros(len(p["b"]))], [], []
    for x_t, d_t in zip(x, d):
        u = p["W_in"] @ x_t + p["W"] @ z[-1] + p["b"]
        z.append(FUNCTIONS[activation](u))
        slope.append(SLOPES[activation](u))
        v = p["W_out"] @ z[-1] + p["c"]
        g = v if loss == "squared-error" else np.exp(v - v.max()) / np.exp(v - v.max()).sum()
        delta_out.append(g - d_t)
    return Pass(np.stack(z), np.stack(slope), np.stack(delta_out))


def recursion(W: Array, W_out: Array, slope: Array, delta_out: Array) -> Array:
    """Dᵀ (T, H): row t is δ_t = (Wᵀ δ_{t+1} + W_outᵀ δ_out,t) ∘ f'(u_t)."""
    delta = np.zeros((len(slope) + 1, len(W)))  # the last row is δ_{T+1} = 0
    for t in reversed(range(len(slope))):
        delta[t] = (W.T @ delta[t + 1] + W_out.T @ delta_out[t]) * slope[t]
    return delta[:-1]


def check_by_formulas(p: dict[str, Array], x: Array, d: Array, activation: str, loss: str) -> tuple[dict[str, Array], Array]:
    """The gradients by the formulas, ``"double"`` is ∂E/∂W in the double form; and ‖δ_{t,k}‖ (T, T)."""
    z, slope, delta_out = forward_numbers(p, x, d, activation, loss)
    D = recursion(p["W"], p["W_out"], slope, delta_out).T
    made = {"W_in": D @ x, "W": D @ z[:-1], "b": D.sum(1), "W_out": delta_out.T @ z[1:], "c": delta_out.sum(0)}
    made["double"], norms = np.zeros_like(p["W"]), np.zeros((len(x), len(x)))
    for t in range(len(x)):
        delta = (p["W_out"].T @ delta_out[t]) * slope[t]
        for k in range(t, -1, -1):
            made["double"] += np.outer(delta, z[k])  # z[k] is the state before step k
            norms[t, k] = np.linalg.norm(delta)
            if k:
                delta = (p["W"].T @ delta) * slope[k - 1]
    return made, norms


SLIPS = {
    "transpose": ("W δ_{t+1} instead of Wᵀ δ_{t+1}", "Wᵀ δ_{t+1} を W δ_{t+1} とする"),
    "state": ("z_t instead of z_{t-1} in D Z̃", "D Z̃ の z_{t-1} を z_t とする"),
    "slope": ("f'(u_t) left out", "f'(u_t) を忘れる"),
    "time": ("f'(u_{t-1}) instead of f'(u_t)", "f'(u_t) を f'(u_{t-1}) とする"),
    "last": ("δ_out only at the last step", "δ_out を最後の時刻だけにする"),
}


def slips(p: dict[str, Array], x: Array, d: Array, activation: str, loss: str) -> dict[str, Array]:
    """∂E/∂W as it comes out with one mistake in the formulas; the keys are those of ``SLIPS``."""
    z, slope, delta_out = forward_numbers(p, x, d, activation, loss)
    W, W_out, before = p["W"], p["W_out"], z[:-1]
    last_only = delta_out * (np.arange(len(x)) == len(x) - 1)[:, None]
    return {
        "transpose": recursion(W.T, W_out, slope, delta_out).T @ before,
        "state": recursion(W, W_out, slope, delta_out).T @ z[1:],
        "slope": recursion(W, W_out, np.ones_like(slope), delta_out).T @ before,
        "time": recursion(W, W_out, np.concatenate([slope[:1], slope[:-1]]), delta_out).T @ before,
        "last": recursion(W, W_out, slope, last_only).T @ before,
    }


def difference(a: Array, b: Array) -> float:
    """The largest difference, relative to the largest number in b."""
    return float(np.abs(a - b).max() / np.abs(b).max())


class Check(NamedTuple):
    """Differences by name (``double`` too), those of the slips, and ‖δ_{t,k}‖."""

    differences: dict[str, float]
    slips: dict[str, float]
    norms: Array


def check(network: Network, x: tg.Tensor, d: tg.Tensor, loss: str) -> Check:
    """Compare tape and formulas on one sequence, x (T, inputs) and d (T, outputs)."""
    gradients = tape(network, x, d, loss)
    numbers = ({name: p.detach().numpy() for name, p in network.named.items()}, x.numpy(), d.numpy())
    activation = network.recurrence.activation
    made, norms = check_by_formulas(*numbers, activation, loss)
    differences = {name: difference(g, gradients["W" if name == "double" else name]) for name, g in made.items()}
    wrong = {name: difference(g, gradients["W"]) for name, g in slips(*numbers, activation, loss).items()}
    return Check(differences, wrong, norms)


# -- data: sequences x (M, T, inputs) and what they should give, d (M, T, outputs)


def in_sequences(rows: Array, steps: int) -> TensorDataset:
    """The rows (L, D) cut into sequences; d is x one step later."""
    count = (len(rows) - 1) // steps
    if not count:
        rule = (f"at most {len(rows) - 1}, for {len(rows)} rows of data", f"データが {len(rows)} 行なので {len(rows) - 1} 以下")
        raise refusal("bptt_check", "--steps", steps, rule)
    x, d = (part[: count * steps].reshape(count, steps, -1) for part in (rows, rows[1:]))
    return TensorDataset(x.copy(), d.copy())


def months(values: Array) -> Array:
    """Scaled values (L, 1)."""
    return ((values - values.mean()) / values.std()).astype(np.float64)[:, None]


def letters(text: str) -> Array:
    """Letters and blanks of a text as rows (L, 27) with a 1; other characters are blanks."""
    places = [LETTERS.find(letter) for letter in text[:6000].lower()]
    return np.eye(len(LETTERS))[places]


# -- the run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Check both losses with three activations, before and after a short training. Returns the results."""
    run = Experiment("bptt_check", TITLE, OPTIONS, argv, epochs=20, quick_epochs=2)
    steps = run.options.steps
    real = lambda **where: (Sunspots(**where).values, TinyShakespeare(**where).text)  # noqa: E731
    made_up = lambda: (Sine(2000, generator=_seeded()).values, GrammarText(300, generator=_seeded()).text)  # noqa: E731
    values, text = run.data(real, made_up, "sunspots, tinyshakespeare")
    data = {"squared-error": in_sequences(months(values.numpy()), steps), "cross-entropy": in_sequences(letters(text), steps)}

    checks: dict[tuple[str, str], tuple[Check, Check]] = {}
    for loss, sequences in data.items():
        for activation in FUNCTIONS:
            checks[loss, activation] = before_and_after(run, loss, activation, sequences)
    save_pictures(run, checks)
    show(run, checks)
    every = [c for pair in checks.values() for c in pair]
    results = [
        Result(
            "largest",
            max(max(c.differences.values()) for c in every),
            ("tape - formulas, largest", "テープと公式の差の最大"),
            ".1e",
        )
    ]
    for name, (english, japanese) in SLIPS.items():
        least = min(c.slips[name] for c in every)
        results.append(Result(f"slip_{name}", least, (f"{english}: at least", f"{japanese}: 差は最小でも"), ".1e"))
    tables = {f"{loss}, {f}": {"start": a.differences, "trained": b.differences} for (loss, f), (a, b) in checks.items()}
    return run.finish(results, differences=tables)


def _seeded() -> tg.Generator:
    return tg.Generator().manual_seed(0)


def before_and_after(run: Experiment, loss: str, activation: str, sequences: TensorDataset) -> tuple[Check, Check]:
    """Train a network of one kind; the checks on the first sequence before and after. All in float64."""
    o = run.options
    tg.manual_seed(o.seed)
    x, d = sequences.tensors
    network = Network(x.shape[2], o.hidden, d.shape[2], activation).double()
    before = check(network, x[0], d[0], loss)
    network.to(o.device)

    def measure(batch: list[tg.Tensor]) -> tg.Tensor:
        x, d = (part.transpose(0, 1) for part in batch)
        return LOSSES[loss](network(x), d) / (d.shape[0] * d.shape[1])

    update = Update(measure, tg.optim.Adam(network.parameters(), lr=o.lr), clip_norm=1.0)
    loader = DataLoader(sequences, 16, shuffle=True, device=o.device)
    keeping = {**run.keeping, "folder": o.out / f"{loss}-{activation}"}
    run.train(Trainer(network, run.compiled(update), loader, print_rows=False, curves=False, **keeping))
    return before, check(network.to("cpu"), x[0], d[0], loss)


def show(run: Experiment, checks: dict[tuple[str, str], tuple[Check, Check]]) -> None:
    """Print the table of the largest differences."""
    columns = ["W_in", "W", "b", "W_out", "c", "double"]
    times = (run.told("start", "初期値"), run.told("trained", "学習後"))
    rows = [["", "", *columns[:-1], "W, Σ_t Σ_k"]]
    for (loss, activation), pair in checks.items():
        for when, made in zip(times, pair):
            rows.append([f"{loss}, {activation}", when, *(f"{made.differences[name]:.0e}" for name in columns)])
    print(*aligned(rows, left=2), sep="\n")


def save_pictures(run: Experiment, checks: dict[tuple[str, str], tuple[Check, Check]]) -> None:
    """For each loss ‖δ_{t,k}‖ of the three activations, before and after training: how far the error of step t reaches back."""
    from matplotlib.colors import LogNorm

    words = run.words
    for loss in LOSSES:
        with run.figure(
            f"deltas-{loss}.png",
            2,
            3,
            (9.0, 5.6),
            words("‖δ(t,k)‖: the error of step t at step k", "‖δ(t,k)‖: 時刻 t の誤差が時刻 k に届く大きさ"),
        ) as grid:
            for column, activation in enumerate(FUNCTIONS):
                for row, (when, made) in enumerate(
                    zip((words("start", "初期値"), words("trained", "学習後")), checks[loss, activation])
                ):
                    axes = grid[row][column]
                    picture = axes.imshow(np.ma.masked_equal(made.norms, 0), norm=LogNorm(1e-12, 10), cmap="viridis")
                    axes.set_title(f"{activation}, {when}")
                    axes.set(xlabel="k" if row else None, ylabel=None if column else "t")
            grid[0][0].figure.colorbar(picture, ax=grid, shrink=0.8)
