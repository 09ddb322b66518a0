"""Style, words and script of the page that ``stepper.py`` puts together."""

WORDS = {
    "en": {
        "heading": "The tape, step by step",
        "other_language": "日本語",
        "first": "first step (Home)",
        "previous": "back (←)",
        "next": "next (→)",
        "last": "last step (End)",
        "play": "play, pause (space)",
        "where": "step",
        "smaller": "smaller (-)",
        "larger": "larger (+)",
        "language": "日本語で表示 (L)",
        "parameter": "parameter",
        "input": "input",
        "operator": "operator",
        "loss": "loss",
        "keys": "keys: ← → Home End, space plays, + − zoom, L language; or click an operator",
        "start": "Before the first step",
        "start_text": "The forward runs the operators one by one, and the tape notes each of them with what its derivative will need. "
        "The backward then walks the tape from the last operator to the first.",
        "forward": "Forward",
        "backward": "Backward",
        "end": "Gradients of the parameters",
        "end_text": "A leaf that was used several times gets the sum of what each use sent to it.",
        "inputs": "Inputs",
        "result": "Result",
        "kept": "The tape keeps",
        "kept_nothing": "nothing: the derivative needs no value",
        "arrives": "The gradient g that arrives",
        "seed": "∂loss/∂loss = 1: here the walk back starts.",
        "rule": "The derivative",
        "sent": "What it sends on",
        "to": "to",
        "from": "from",
        "unknown": "value not kept by the tape",
        "not_reached": "no gradient arrives",
        "group": "operators, drawn as one block",
        "rule_all": "all inputs",
        "norm": "norm",
    },
    "ja": {
        "heading": "テープを 1 ステップずつ",
        "other_language": "English",
        "first": "最初のステップ (Home)",
        "previous": "戻る (←)",
        "next": "進む (→)",
        "last": "最後のステップ (End)",
        "play": "再生、一時停止 (スペース)",
        "where": "ステップ",
        "smaller": "縮小 (-)",
        "larger": "拡大 (+)",
        "language": "Show in English (L)",
        "parameter": "パラメータ",
        "input": "入力",
        "operator": "演算",
        "loss": "誤差",
        "keys": "キー: ← → Home End、スペースで再生、+ − で拡大縮小、L で言語。演算のクリックでも移動できます",
        "start": "最初のステップの前",
        "start_text": "順伝播では演算を 1 つずつ実行し、テープには演算と、その微分に必要な値を記録します。"
        "逆伝播では、テープを最後の演算から最初の演算へ逆にたどります。",
        "forward": "順伝播",
        "backward": "逆伝播",
        "end": "パラメータの勾配",
        "end_text": "何度も使われた葉の勾配は、それぞれの使用箇所から届いた勾配の和になります。",
        "inputs": "入力",
        "result": "結果",
        "kept": "テープが保存する値",
        "kept_nothing": "なし (微分に値は必要ありません)",
        "arrives": "届く勾配 g",
        "seed": "∂loss/∂loss = 1。ここから逆にたどり始めます。",
        "rule": "微分の式",
        "sent": "送り出す勾配",
        "to": "送り先",
        "from": "出どころ",
        "unknown": "値はテープに保存されていません",
        "not_reached": "勾配は届きません",
        "group": "個の演算をまとめて描いています",
        "rule_all": "全入力",
        "norm": "ノルム",
    },
}

STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #55606e; --paper: #ffffff; --panel: #f7f9fb; --rule: #d5dbe3; --now: #e08a00;
  --code: #eef1f5; --grad: #b3301f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf1; --soft: #a3afbd; --paper: #12171e; --panel: #1a212b; --rule: #38434f;
  --now: #ffb84a; --code: #232c38; --grad: #ff9584; } }
* { box-sizing: border-box; }
html, body { height: 100%; margin: 0; }
body { display: flex; flex-direction: column; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Hiragino Sans", "Noto Sans JP", "IPAexGothic", sans-serif; }
header { padding: 8px 14px; border-bottom: 1px solid var(--rule); }
h1 { font-size: 17px; margin: 0 0 6px; }
h2 { font-size: 18px; margin: 2px 0 6px; overflow-wrap: anywhere; }
h3 { font-size: 14px; margin: 16px 0 4px; color: var(--soft); }
.controls { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.controls .space { flex: 1; }
button { font: inherit; min-width: 40px; min-height: 36px; padding: 2px 10px; color: var(--ink); background: var(--panel);
  border: 1px solid var(--rule); border-radius: 8px; cursor: pointer; }
button:hover { border-color: var(--soft); }
button[aria-pressed="true"] { background: var(--now); color: #1b1200; }
input[type="range"] { flex: 1 1 120px; min-width: 100px; max-width: 420px; accent-color: var(--now); }
#count { min-width: 70px; font-variant-numeric: tabular-nums; }
main { flex: 1; min-height: 0; display: flex; }
#drawing { flex: 1; min-width: 0; overflow: auto; }
#drawing svg { display: block; margin: 0 auto; }
#panel { width: 400px; flex: none; overflow: auto; padding: 12px 16px; background: var(--panel); border-left: 1px solid var(--rule); }
#panel .phase { color: var(--soft); font-size: 13px; }
#panel p { margin: 4px 0; }
#panel .row { padding: 5px 0; border-top: 1px solid var(--rule); overflow-wrap: anywhere; }
#panel .row b { margin-right: 6px; }
#panel .soft { color: var(--soft); }
#panel .norm { color: var(--grad); white-space: nowrap; }
#panel .numbers { font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
#panel pre { font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; background: var(--code); padding: 8px 10px; margin: 4px 0;
  border-radius: 8px; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 320px; overflow: auto; }
footer { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 8px; padding: 6px 14px; border-top: 1px solid var(--rule);
  font-size: 13px; color: var(--soft); }
footer .keys { margin-left: auto; }
.mark { width: 18px; height: 14px; border-radius: 4px; border: 1px solid; margin-left: 6px; }
.mark.parameter { background: #dce9fd; border-color: #3a72c6; }
.mark.input { background: #def2e1; border-color: #3c8f53; }
.mark.operator { background: #ffffff; border-color: #8a95a3; }
.mark.loss { background: #ffe2d9; border-color: #cc4a2b; }
@media (prefers-color-scheme: dark) { .mark.parameter { background: #1f3557; border-color: #6ea0ea; }
  .mark.input { background: #1d3b28; border-color: #68bb80; } .mark.operator { background: #232c38; border-color: #66727f; }
  .mark.loss { background: #4b251c; border-color: #f08163; } }
.tape .node { cursor: pointer; transition: opacity .15s; }
.tape .node.ahead { opacity: .28; }
.tape .edge.ahead { opacity: .18; }
.tape .node .norm { opacity: 0; }
.tape .node.passed .norm { opacity: 1; }
.tape .node.now > .box { stroke: var(--now); stroke-width: 4; }
.tape .edge.now { stroke: var(--now); opacity: 1; }
@media (max-width: 820px) {
  main { flex-direction: column; }
  #drawing { flex: 1 1 50%; }
  #panel { width: auto; flex: 1 1 50%; border-left: 0; border-top: 1px solid var(--rule); }
  footer .keys { display: none; }
}
"""

SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const steps = data.steps, items = data.items;
const nodes = items.map((_, i) => document.querySelector(`.node[data-item="${i}"]`));
const edges = Array.from(document.querySelectorAll(".edge"));
const turn = { forward: new Map(), backward: new Map() };
steps.forEach((step, i) => { if (step.phase in turn) turn[step.phase].set(step.item, i); });
let at = 0, timer = null, scale = 1, words = data.words[data.language];

const size = { width: document.querySelector("svg").width.baseVal.value, height: document.querySelector("svg").height.baseVal.value };

function make(tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

function row(title, value, note, gradient) {
  const made = make("div", "row");
  made.append(make("b", "", title));
  if (note) made.append(make("span", "soft", note + " "));
  if (value === null) {
    made.append(make("span", "soft", gradient ? words.not_reached : words.unknown));
    return made;
  }
  made.append(make("span", "soft", value.shape + (value.dtype ? " " + value.dtype : "") + " "));
  if (gradient && value.norm) made.append(make("span", "norm", "‖g‖ " + value.norm));
  if (value.numbers !== null) made.append(make("div", "numbers", value.numbers));
  else if (!gradient) made.append(make("span", "soft", words.unknown));
  return made;
}

function heading(text) { return make("h3", "", text); }

function inputRow(input, value, note, gradient) {
  return input.kind === "more" ? make("div", "row", input.label) : row(input.name, value, note, gradient);
}

function origin(input) { return input.source === null ? input.label : items[input.source].title; }

function showForward(item) {
  const panel = [];
  if (item.count) return [make("p", "", item.count + " " + words.group)];
  panel.push(make("p", "", data.operators[item.operator].summary));
  panel.push(heading(words.inputs));
  for (const input of item.inputs) {
    const name = origin(input);
    panel.push(inputRow(input, input.value, name && name !== input.name ? words.from + ": " + name : "", false));
  }
  panel.push(heading(words.result));
  item.outputs.forEach((value, i) => panel.push(row(item.outputs.length > 1 ? "[" + i + "]" : "", value, "", false)));
  panel.push(heading(words.kept));
  if (!item.kept.length) panel.push(make("p", "soft", words.kept_nothing));
  for (const kept of item.kept) panel.push(row(kept.name, kept.value, "", false));
  return panel;
}

function showBackward(item) {
  const panel = [];
  if (item.count) return [make("p", "", item.count + " " + words.group)];
  panel.push(heading(words.arrives));
  if (item.kind === "loss") panel.push(make("p", "", words.seed));
  item.cotangents.forEach((value, i) => panel.push(row(item.cotangents.length > 1 ? "g[" + i + "]" : "g", value, "", true)));
  panel.push(heading(words.rule));
  for (const rule of data.operators[item.operator].rules) {
    const wanted = item.inputs.find((input) => input.name === rule.name);
    if (rule.name && (!wanted || wanted.kind === "input")) continue;
    panel.push(make("div", "soft", rule.name || words.rule_all));
    panel.push(make("pre", "", rule.text));
  }
  panel.push(heading(words.sent));
  for (const input of item.inputs) {
    if (input.kind !== "input") panel.push(inputRow(input, input.gradient, words.to + ": " + origin(input), true));
  }
  return panel;
}

function showEnd() {
  const panel = [make("p", "", words.end_text)];
  for (const leaf of data.leaves) panel.push(row(leaf.label, leaf.gradient, "", true));
  return panel;
}

function showPanel(step) {
  const panel = byId("panel");
  const made = [make("div", "phase", step.item === undefined ? "" : words[step.phase])];
  if (step.phase === "start") made.push(make("h2", "", words.start), make("p", "", words.start_text));
  else if (step.phase === "end") made.push(make("h2", "", words.end), ...showEnd());
  else {
    const item = items[step.item];
    made.push(make("h2", "", item.title), ...(step.phase === "forward" ? showForward(item) : showBackward(item)));
  }
  panel.replaceChildren(...made);
  panel.scrollTop = 0;
}

function showPicture(step) {
  const done = (i) => step.phase === "start" || !(turn.forward.get(i) > at);
  const passed = (i) => turn.backward.has(i) && turn.backward.get(i) <= at;
  nodes.forEach((node, i) => {
    node.classList.toggle("ahead", !done(i));
    node.classList.toggle("passed", passed(i));
    node.classList.toggle("now", step.item === i);
  });
  for (const edge of edges) {
    const from = Number(edge.dataset.from), to = Number(edge.dataset.to);
    edge.classList.toggle("ahead", !done(to));
    edge.classList.toggle("now", step.item === to);
  }
  if (step.item !== undefined) reveal(nodes[step.item]);
}

function reveal(node) {
  const outer = byId("drawing"), area = outer.getBoundingClientRect(), box = node.getBoundingClientRect();
  const inside = box.left >= area.left && box.right <= area.right && box.top >= area.top && box.bottom <= area.bottom;
  if (inside) return;
  outer.scrollLeft += (box.left + box.right - area.left - area.right) / 2;
  outer.scrollTop += (box.top + box.bottom - area.top - area.bottom) / 2;
}

function show(to) {
  at = Math.max(0, Math.min(steps.length - 1, to));
  byId("where").value = at;
  byId("count").textContent = at + " / " + (steps.length - 1);
  showPanel(steps[at]);
  showPicture(steps[at]);
}

function pause() {
  clearInterval(timer);
  timer = null;
  byId("play").setAttribute("aria-pressed", "false");
}

function play() {
  if (timer !== null) { pause(); return; }
  if (at === steps.length - 1) show(0);
  byId("play").setAttribute("aria-pressed", "true");
  timer = setInterval(() => { if (at === steps.length - 1) pause(); else show(at + 1); }, 900);
}

function speak(language) {
  data.language = language;
  words = data.words[language];
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = words[element.dataset.word];
  for (const element of document.querySelectorAll("[data-tip]")) {
    element.title = words[element.dataset.tip];
    element.setAttribute("aria-label", words[element.dataset.tip]);
  }
  for (const element of document.querySelectorAll("[data-en]")) element.textContent = element.dataset[language];
  show(at);
}

function zoom(factor) {
  scale = Math.max(0.1, Math.min(4, scale * factor));
  const svg = document.querySelector("svg");
  svg.setAttribute("width", size.width * scale);
  svg.setAttribute("height", size.height * scale);
}

const actions = {
  first: () => show(0), previous: () => show(at - 1), next: () => show(at + 1), last: () => show(steps.length - 1), play: play,
  smaller: () => zoom(1 / 1.25), larger: () => zoom(1.25), language: () => speak(data.language === "en" ? "ja" : "en"),
};
const keys = {
  ArrowLeft: "previous", ArrowRight: "next", Home: "first", End: "last", " ": "play", "-": "smaller", "+": "larger", "=": "larger",
  l: "language", L: "language",
};
function act(name) {
  if (name !== "play" && name in actions && !["smaller", "larger", "language"].includes(name)) pause();
  actions[name]();
}
for (const name of Object.keys(actions)) byId(name).addEventListener("click", () => act(name));
byId("where").max = steps.length - 1;
byId("where").addEventListener("input", (event) => { pause(); show(Number(event.target.value)); });
document.addEventListener("keydown", (event) => {
  const name = keys[event.key];
  if (name === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act(name);
});
nodes.forEach((node, i) => node.addEventListener("click", () => {
  pause();
  const phase = at > 0 && steps[at].phase !== "forward" && turn.backward.has(i) ? "backward" : "forward";
  show(turn[phase].get(i));
}));
zoom(Math.max(0.8, Math.min(1, byId("drawing").clientWidth / size.width)));
speak(data.language);
byId("drawing").scrollTop = byId("drawing").scrollHeight;
"""
