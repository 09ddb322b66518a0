"""``draw``: the tape of a loss as a picture, and as a page that walks through forward and backward step by step."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any, overload

from ..core.tensor import Tensor
from ..errors import refusal
from ..io.files import replacing
from .stepper import page
from .svg import Picture
from .walkthrough import Names, Walkthrough


class Drawing:
    """What ``draw`` returns; a notebook shows it as the page.

    walk: the operators of the tape with what passed through them, in ``walk.entries``; leaves in ``walk.leaves``.
    """

    def __init__(self, walk: Walkthrough, limit: int) -> None:
        self.walk = walk
        self._picture = Picture(walk, limit)

    def svg(self) -> str:
        """The picture as text."""
        return self._picture.svg()

    def html(self) -> str:
        """The page as text: one file that needs no network and no other file."""
        return page(self._picture)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to ``path`` if it ends with ``.svg``, the page if it ends with ``.html``. Returns the path.

        Raises ArgumentError for another ending.
        """
        path = Path(path)
        texts = {".svg": self.svg, ".html": self.html}
        text = texts.get(path.suffix.lower())
        if text is None:
            rule = ("a file name that ends with .svg or .html", ".svg か .html で終わるファイル名")
            name = f"{path.stem or 'tape'}.html"
            fix = (f"{name}, for instance.", f"{name} などとしてください。")
            raise refusal("Drawing.save", "path", path, rule, fix)
        with replacing(path, "w", newline="\n") as file:
            file.write(text())
        return path

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_html_(self) -> str:
        inside = html.escape(self.html(), quote=True)
        return f'<iframe srcdoc="{inside}" sandbox="allow-scripts" style="width:100%;height:720px;border:0"></iframe>'

    def __repr__(self) -> str:
        return f"<Drawing of {len(self.walk.entries)} operators and {len(self.walk.leaves)} leaves>"


@overload
def draw(loss: Tensor, names: Any = None, *, unroll: bool = False, limit: int | None = None) -> Drawing: ...
@overload
def draw(loss: Any, names: Any = None, *, unroll: bool = False, limit: int | None = None) -> Any: ...
def draw(loss: Any, names: Any = None, *, unroll: bool = False, limit: int | None = None) -> Any:
    """Draw the tape of ``loss``: operators with shapes, dtypes and the norms of the gradients that passed them. Of a compiled function, or of
    its ``plan()``, draw the instructions that it runs.

    A backward is run and watched for it, on a copy: no ``grad`` changes, nothing on the tape is freed, and ``loss.backward()`` can follow.
    Blocks stand in the order of the data, from the inputs below to the loss above; the steps of a recurrence stand side by side. Values
    are shown where the tape keeps them.

    loss: a Tensor with one element and a history; or what ``tg.compile`` returned, once it has been called, or its plan.
    names: a Module, whose parameters lend their names, or a dict name -> Tensor; a dict may name inputs and intermediate results too.
    unroll: show ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` as a cell for each time step; on the tape such a layer is one operator.
    limit: a longer tape is shortened in its middle to about so many blocks (400). In a plan of more boxes (80), instructions that follow each
    other and come from one operator are drawn as one; ArgumentError where that is not enough.
    Raises GradientError for a loss that has no history, or whose tape a backward has freed (pass ``retain_graph=True`` there).

    >>> import tinygrad_ja as tg
    >>> w = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> drawing = tg.draw((w * w).sum(), names={"w": w})
    >>> drawing
    <Drawing of 2 operators and 1 leaves>
    >>> [(entry.title, entry.inputs[0].label, entry.inputs[0].gradient.numbers) for entry in drawing.walk.entries]
    [('mul', 'w', '[1, 2]'), ('sum', 'mul', '[1, 1]')]
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 3):
        rule = ("an int, limit >= 3", "3 以上の整数")
        fix = ("leave it out.", "省略してください。")
        raise refusal("draw", "limit", limit, rule, fix)
    if type(loss) is not Tensor:
        from ..compiler.plan import Plan
        from .plan_picture import PlanDrawing

        plan = loss.plan() if callable(getattr(loss, "plan", None)) else loss
        if isinstance(plan, Plan):
            return PlanDrawing(plan, limit or 80)
    return Drawing(Walkthrough(loss, Names(names), unroll=unroll), limit or 400)
