"""The page that walks through a tape: one HTML file with the picture, the steps as JSON, and a script. Nothing is loaded from elsewhere.

Names of tensors and sources of operators come from users: they enter the page as escaped SVG text or as JSON, and the script writes them
as text, never as markup.
"""

from __future__ import annotations

import json
from typing import Any

from ..errors import language
from .blocks import Item
from .stepper_page import SCRIPT, STYLE, WORDS
from .svg import STYLE as PICTURE_STYLE
from .svg import Picture, number
from .walkthrough import Input, Value

_PAGE = """<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>tinygrad_ja: tape</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>
<h1 data-word="heading"></h1>
<div class="controls" role="toolbar">
<button id="first" data-tip="first">|◀</button><button id="previous" data-tip="previous">◀</button><button id="play" data-tip="play">▶▶</button>
<button id="next" data-tip="next">▶</button><button id="last" data-tip="last">▶|</button>
<input id="where" type="range" min="0" value="0" data-tip="where">
<output id="count"></output>
<span class="space"></span>
<button id="smaller" data-tip="smaller">−</button><button id="larger" data-tip="larger">+</button>
<button id="language" data-word="other_language" data-tip="language"></button>
</div>
</header>
<main>
<section id="drawing" tabindex="0">
{picture}
</section>
<section id="panel" aria-live="polite"></section>
</main>
<footer>
<span class="mark parameter"></span><span data-word="parameter"></span>
<span class="mark input"></span><span data-word="input"></span>
<span class="mark operator"></span><span data-word="operator"></span>
<span class="mark loss"></span><span data-word="loss"></span>
<span class="keys" data-word="keys"></span>
</footer>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def page(picture: Picture) -> str:
    """The whole page."""
    data = {
        "words": WORDS,
        "language": language(),
        "operators": {
            entry.title: {"summary": entry.summary, "rules": [{"name": name, "text": text} for name, text in entry.rules]}
            for entry in {item.entry.title: item.entry for item in picture.items if item.entry is not None}.values()
        },
        "items": [_item(item) for item in picture.items],
        "steps": _steps(picture),
        "leaves": [
            {"label": leaf.label, "value": _value(leaf.value), "gradient": _value(leaf.gradient)}
            for leaf in picture.walk.leaves
        ],
    }
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return _PAGE.format(
        language=language(),
        style=PICTURE_STYLE + STYLE,
        picture=picture.svg(legend=False, style=False),
        data=text.replace("<", "\\u003c").replace("&", "\\u0026"),
        script=SCRIPT,
    )


def _steps(picture: Picture) -> list[dict[str, Any]]:
    """What the page shows one after another: the tape, the operators in the order in which they ran, the operators in the order of
    backward, the gradients of the leaves."""
    item_of = {place: index for index, item in enumerate(picture.items) for place in item.entries}
    forward = dict.fromkeys(item_of[place] for place in range(len(picture.walk.entries)))
    backward = dict.fromkeys(item_of[place] for place in picture.walk.backward)
    steps: list[dict[str, Any]] = [{"phase": "start"}]
    steps += [{"phase": "forward", "item": index} for index in forward]
    steps += [{"phase": "backward", "item": index} for index in backward]
    return [*steps, {"phase": "end"}]


def _item(item: Item) -> dict[str, Any]:
    entry = item.entry
    made: dict[str, Any] = {
        "title": item.title,
        "kind": item.kind,
        "inputs": [_input(given, source) for given, source in zip(item.inputs, item.sources)],
    }
    if entry is None:
        return {**made, "count": len(item.entries)}
    return {
        **made,
        "operator": entry.title,
        "outputs": [_value(value) for value in entry.outputs],
        "cotangents": [_value(value) for value in entry.cotangents],
        "kept": [{"name": name, "value": _value(value)} for name, value in entry.kept],
    }


def _input(given: Input, source: int | None) -> dict[str, Any]:
    return {
        "name": given.name,
        "kind": given.kind,
        "label": given.label,
        "source": source,
        "value": _value(given.value),
        "gradient": _value(given.gradient),
    }


def _value(value: Value | None) -> dict[str, Any] | None:
    if value is None:
        return None
    norm = "" if value.norm is None else number(value.norm)
    return {"shape": str(value.shape), "dtype": value.dtype, "numbers": value.numbers, "norm": norm}
