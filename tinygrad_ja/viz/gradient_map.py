"""``bptt_map``: which use of a weight the gradient of each loss flows through. The sum of BPTT, term by term, before it is added up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.host import on_host
from ..core.tensor import Tensor
from ..errors import Phrase, error, language, refusal
from .figures import Words, matplotlib, save_figure
from .tape_copy import TapeCopy, single_root, walk_back

KEPT_BYTES = 64 * 2**20
"""Gradients of all pairs of steps are kept up to this size; above it only their norms."""


class BPTTMap:
    """What ``bptt_map`` returns.

    matrix: float64 (S, T). ``matrix[s, t]`` is the norm of the gradient that flows from loss s to W through the use at step t; 0 where
    none arrives.
    reached: bool (S, T). Whether the tape leads from loss s to the use at step t at all.
    cut: bool (S, T). Steps before the first one that loss s reaches: ``detach`` or truncated BPTT has cut the way to them.
    rows: (S, *W.shape), in W's dtype: the gradients added over t, which is ∂E_s/∂W.
    gradients: (S, T, *W.shape), or None where that would take more than 64 MB.
    difference: the largest relative difference between ``rows`` and ∂E_s/∂W by an ordinary backward; rounding only.
    uses_per_step: how many uses of W make one time step.
    """

    def __init__(
        self, matrix: np.ndarray, reached: np.ndarray, rows: np.ndarray, gradients: np.ndarray | None, uses_per_step: int
    ) -> None:
        self.matrix, self.reached, self.rows, self.gradients = matrix, reached, rows, gradients
        self.uses_per_step = uses_per_step
        self.difference = 0.0
        reached_before = np.logical_or.accumulate(reached, axis=1)
        self.cut = ~reached_before & reached.any(axis=1, keepdims=True)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of losses and of time steps."""
        return self.matrix.shape

    def plot(
        self,
        axes: Any = None,
        *,
        title: str | None = None,
        limits: tuple[float, float] | None = None,
        colorbar: bool = True,
    ) -> Any:
        """Draw the matrix as a heat map with a logarithmic scale; hatched where the way is cut, empty where nothing flows.

        axes: matplotlib axes to draw on; a new figure if None. title: text above it. limits: values at the ends of the colours; by
        default the largest norm, and the smallest but at most twelve powers of ten below. colorbar: explain the colours. Returns the
        figure. Raises ArgumentError when matplotlib is not installed.
        """
        words = Words()
        if axes is None:
            figure = matplotlib().figure.Figure(figsize=(5.4, 4.6), layout="constrained")
            axes = figure.subplots()
        self._draw_matrix(axes, words, limits or self._limits(), colorbar)
        self._draw_cuts(axes, words)
        axes.set_xlabel(words("use at step t", "使われた時刻 t"), **words.font)
        axes.set_ylabel(words("loss at step s", "誤差の時刻 s"), **words.font)
        axes.set_title(title or words("∂E_s/∂W through the use at step t", "時刻 t での使用を通る ∂E_s/∂W"), **words.font)
        return axes.figure

    def save(self, path: str | os.PathLike[str], *, title: str | None = None) -> Path:
        """Write the picture to ``path``, a PNG, SVG or PDF by its ending. Returns the path.

        Raises ArgumentError for another ending and when matplotlib is not installed.
        """
        path = Path(path)
        kind = path.suffix[1:].lower()
        if kind not in ("png", "svg", "pdf"):
            rule = ("a file name that ends with .png, .svg or .pdf", ".png、.svg、.pdf のどれかで終わるファイル名")
            raise refusal("BPTTMap.save", "path", path, rule, f"{path.stem or 'map'}.png")
        figure = self.plot(title=title)
        return save_figure(figure, path, kind)

    def _limits(self) -> tuple[float, float]:
        positive = self.matrix[np.isfinite(self.matrix) & (self.matrix > 0)]
        if not positive.size:
            return (0.1, 1.0)
        high = float(positive.max())
        low = max(float(positive.min()), high * 1e-12)
        return (low, high) if low < high * 0.999 else (high / 10, high)

    def _draw_matrix(self, axes: Any, words: Words, limits: tuple[float, float], colorbar: bool) -> None:
        from matplotlib.colors import LogNorm
        from matplotlib.ticker import MaxNLocator

        shown = np.ma.masked_where(~(self.matrix > 0), self.matrix)
        image = axes.imshow(shown, norm=LogNorm(*limits), cmap="viridis", aspect="auto", interpolation="nearest")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
        if colorbar:
            bar = axes.figure.colorbar(image, ax=axes, extend="min" if self._below(limits[0]) else "neither")
            bar.set_label(words("norm of the gradient", "勾配のノルム"), **words.font)

    def _draw_cuts(self, axes: Any, words: Words) -> None:
        from matplotlib.patches import Patch, Rectangle

        if not self.cut.any():
            return
        look: dict[str, Any] = {"facecolor": "#f2f2f2", "edgecolor": "#9a9a9a", "hatch": "////", "linewidth": 0}
        for s, t in zip(*np.nonzero(self.cut)):
            axes.add_patch(Rectangle((t - 0.5, s - 0.5), 1, 1, **look))
        patch = Patch(**look, label=words("cut", "打ち切り"))
        axes.legend(handles=[patch], loc="upper right", framealpha=0.95, prop=words.font or None)

    def _below(self, low: float) -> bool:
        return bool(((self.matrix > 0) & (self.matrix < low)).any())

    def __str__(self) -> str:
        """The matrix as text: at most ten rows and columns, evenly chosen. ``//`` is cut, ``.`` is nothing."""
        losses, steps = [_chosen(size) for size in self.shape]
        japanese = language() == "ja"
        head = (
            f"|dE_s/dW through the use at step t|, {self.shape[0]} losses, {self.shape[1]} steps",
            f"時刻 t での使用を通る |dE_s/dW|、誤差 {self.shape[0]} 個、時刻 {self.shape[1]} 個",
        )
        check = (
            f"rows sum to dE_s/dW: largest relative difference {self.difference:.1e}",
            f"行の和と dE_s/dW の相対誤差の最大値: {self.difference:.1e}",
        )
        lines = [head[japanese], "   s\\t" + "".join(f"{t:>9}" for t in steps)]
        for s in losses:
            lines.append(f"{s:>6}" + "".join(f"{self._cell(s, t):>9}" for t in steps))
        lines.append(check[japanese])
        return "\n".join(lines)

    def _cell(self, s: int, t: int) -> str:
        if self.cut[s, t]:
            return "//"
        value = self.matrix[s, t]
        return "." if value == 0 else f"{value:.2g}"

    def __repr__(self) -> str:
        return f"<BPTTMap of {self.shape[0]} losses and {self.shape[1]} steps, {int(self.cut.sum())} entries cut>"


def _chosen(size: int, most: int = 10) -> list[int]:
    return sorted({int(i) for i in np.linspace(0, size - 1, min(size, most)).round()})


def bptt_map(losses: Sequence[Tensor], W: Tensor, *, uses_per_step: int | None = None) -> BPTTMap:
    """The gradient of each loss, apart for each time step at which the weight was used.

    With z_t = f(W z_{t-1} + ...) and losses E_s, BPTT is the double sum ∂E/∂W = Σ_s Σ_{t<=s} δ_{s,t} z_{t-1}ᵀ. The tape adds it up; here
    its terms stay apart: ``matrix[s, t]`` = ‖δ_{s,t} z_{t-1}ᵀ‖, how much loss s still learns from what happened at step t. The walk is on a
    copy: no ``grad`` changes and nothing is freed. Hooks of results in between run, as in every backward; those of W do not.

    losses: scalar Tensors E_0, E_1, ..., of one tape or, under truncated BPTT, of several.
    W: a parameter, or any value that is used at every step. Recurrent layers (``nn.RNN``, ``nn.LSTM``, ``nn.GRU``) count as a cell for
    each step, and a reversed layer's steps in the order in which it runs.
    uses_per_step: how many uses of W make a step. By default their number divided by that of the losses where that is a whole number
    and there are several losses, else 1.
    Raises ArgumentError when W is not used, or is used once for all steps; GradientError for a loss that has no history, or whose
    tape a backward has freed (pass ``retain_graph=True`` there). Source of the double sum: Werbos 1990.

    >>> import tinygrad_ja as tg
    >>> w, z, losses = tg.tensor(0.5, requires_grad=True), tg.tensor(1.0), []
    >>> for _ in range(3):
    ...     z = w * z
    ...     losses.append(z * 1)
    >>> tg.bptt_map(losses, w).matrix  # E_2 = w³: each of its uses of w counts w² = 1/4
    array([[1.  , 0.  , 0.  ],
           [0.5 , 0.5 , 0.  ],
           [0.25, 0.25, 0.25]])
    """
    roots = _roots(losses)
    if type(W) is not Tensor:
        raise error("TG-T002", op="bptt_map", argument="W", type=type(W).__name__)
    if W.node is None:
        raise error("TG-G005")
    copy = TapeCopy(roots, toward=W.node, apart=True, unroll=True)
    size = _uses_per_step(copy, len(losses), uses_per_step)
    made = _walk_all(copy, losses, W, size)
    made.difference = _compare(made, TapeCopy(roots, toward=W.node), losses)
    return made


def _roots(losses: Any) -> list[Any]:
    if type(losses) is Tensor or not isinstance(losses, (list, tuple)) or not losses:
        value: Phrase = ("a Tensor", "Tensor") if type(losses) is Tensor else repr(losses)[:60]
        rule = ("a list of scalar Tensors, one for each time step", "時刻ごとのスカラーの Tensor のリスト")
        fix = (
            "collect the losses in a list: losses.append(E_s).",
            "losses.append(E_s) のように、誤差をリストに集めてください。",
        )
        raise refusal("bptt_map", "losses", value, rule, fix)
    return [single_root(loss, "bptt_map", f"losses[{index}]") for index, loss in enumerate(losses)]


def _uses_per_step(copy: TapeCopy, losses: int, given: int | None) -> int:
    uses = copy.uses
    if not uses:
        reason = ("no loss depends on W", "どの誤差も W に依存していません")
        fix = (
            "pass the weight that the steps themselves use, and losses that were computed from it.",
            "各時刻の計算で使う重みと、それから計算した誤差を渡してください。",
        )
        raise error("TG-A003", op="bptt_map", reason=reason, fix=fix)
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, int) or given < 1 or len(uses) % given:
            rule = (
                f"an int >= 1 that divides the {len(uses)} uses of W",
                f"W が使われた回数 {len(uses)} を割り切る 1 以上の整数",
            )
            fix = ("leave it out, or count the uses in one step.", "省略するか、1 時刻の中で使う回数を渡してください。")
            raise refusal("bptt_map", "uses_per_step", given, rule, fix)
        return given
    if len(uses) == 1 and losses > 1:
        where = f"{uses[0].consumer} ({uses[0].input})"
        reason = (
            f"W is used once, by {where}, for all {losses} losses, so its time steps cannot be told apart",
            f"W は {losses} 個の誤差に対して {where} で 1 回だけ使われているので、時刻ごとに分けられません",
        )
        fix = (
            "use W inside the loop over time steps (W @ x[t], or a cell such as nn.LSTMCell), or pass the value made from W that is "
            "used at every step.",
            "時刻のループの中で W を使うか (W @ x[t] や nn.LSTMCell など)、W から作って各時刻で使う値を渡してください。",
        )
        raise error("TG-A003", op="bptt_map", reason=reason, fix=fix)
    whole, rest = divmod(len(uses), losses)
    return whole if losses > 1 and not rest else 1


def _walk_all(copy: TapeCopy, losses: Sequence[Tensor], W: Tensor, size: int) -> BPTTMap:
    """Walk back from each loss; gradients at the leaf of each use, added over those of one step."""
    step_of = {use.leaf.number: index // size for index, use in enumerate(copy.uses)}
    shape = (len(losses), len(copy.uses) // size)
    matrix, reached = np.zeros(shape), np.zeros(shape, dtype=bool)
    rows = np.zeros((shape[0], *W.shape), dtype=W.dtype)
    keeps = shape[0] * shape[1] * W.nbytes <= KEPT_BYTES
    gradients = np.zeros((*shape, *W.shape), dtype=W.dtype) if keeps else None
    for s, (root, loss) in enumerate(zip(copy.roots, losses)):
        steps: dict[int, Any] = {}
        for leaf, g in walk_back(root, loss) if root is not None else ():
            t = step_of[leaf.number]
            steps[t] = steps[t] + g if t in steps else g
        for t in sorted(steps):
            g = on_host(steps[t])
            matrix[s, t], reached[s, t] = np.linalg.norm(np.ravel(g).astype(np.float64)), True
            rows[s] += g
            if gradients is not None:
                gradients[s, t] = g
    return BPTTMap(matrix, reached, rows, gradients, size)


def _compare(made: BPTTMap, whole: TapeCopy, losses: Sequence[Tensor]) -> float:
    """The largest difference of a row's sum from the gradient by an ordinary walk, as a share of the norms that went into it."""
    worst = 0.0
    for s, (root, loss) in enumerate(zip(whole.roots, losses)):
        expected: Any = 0.0
        for _, g in walk_back(root, loss) if root is not None else ():
            expected = on_host(g)
        scale = made.matrix[s].sum()
        if np.isfinite(scale) and scale > 0:
            worst = max(worst, float(np.abs(made.rows[s].astype(np.float64) - expected).max() / scale))
    if worst > 1e4 * np.finfo(made.rows.dtype).eps:
        reason = (
            f"the gradients through the single uses of W do not add up to its gradient (relative difference {worst:.1e}), as when a hook "
            "changes gradients inside of a recurrent layer",
            f"W の 1 回ごとの勾配の和が W の勾配と一致しません (相対誤差 {worst:.1e})。再帰層の中の勾配をフックで変えた場合などに起こります",
        )
        fix = ("remove the hook, or use cells instead of the layer.", "フックを外すか、層の代わりにセルを使ってください。")
        raise error("TG-A003", op="bptt_map", reason=reason, fix=fix)
    return worst
