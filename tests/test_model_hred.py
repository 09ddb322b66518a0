"""HRED: its formula, what the context and the padding may reach, replies, and the program. Without data, so on made-up conversations."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from matplotlib.figure import Figure

import tinygrad_ja as tg
from models import hred as program
from models.hred import BOS, EOS, HRED, PAD, UNK
from tinygrad_ja.data import DialogueCollate
from tinygrad_ja.nn.decoding import beam_search
from tinygrad_ja.training import evaluate

pytestmark = pytest.mark.usefixtures("without_data")
SMALL = ["--quick", "--hidden", "24", "--embedding", "16", "--dialogues", "120", "--batch", "8"]


def run(folder, *argv):
    return program.main([*SMALL, "--out", str(folder), *argv])


def model_of(size=12, **options):
    tg.manual_seed(1)
    return HRED(size, 5, 4, **options).double().eval()


def made_up(count=3, size=12):
    draw = np.random.default_rng(0)
    return [
        [[*draw.integers(4, size, draw.integers(1, 6)).tolist(), EOS] for _ in range(draw.integers(2, 6))] for _ in range(count)
    ]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(p, name, x, h):
    r, z, n = np.split(p[f"{name}.weight_ih_l0"] @ x + p[f"{name}.bias_ih_l0"], 3)
    hr, hz, hn = np.split(p[f"{name}.weight_hh_l0"] @ h + p[f"{name}.bias_hh_l0"], 3)
    z = sigmoid(z + hz)
    return (1 - z) * np.tanh(n + sigmoid(r + hr) * hn) + z * h


def reference(model, dialogue):
    """Scores of every word of a dialogue, by the equations in plain NumPy."""
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    c, made = np.zeros(4), []
    for utterance in dialogue:
        d = np.tanh(p["decoder.start.weight"] @ c + p["decoder.start.bias"])
        for word in [BOS, *utterance[:-1]]:
            d = gru(p, "decoder.rnn", p["embedding.weight"][word] + p["decoder.lead.weight"] @ c, d)
            made.append(p["decoder.output.weight"] @ d + p["decoder.output.bias"])
        h = np.zeros(4)
        for word in utterance:
            h = gru(p, "encoder.rnn", p["embedding.weight"][word], h)
        c = gru(p, "context", h, c)
    return np.array(made)


def scores_of(model, dialogues, n):
    """Scores of the words of dialogue n in the batch of all, in their order."""
    batch = DialogueCollate()(dialogues)
    made = model(batch).detach().numpy()
    words, places = batch.words.numpy(), batch.places.numpy()
    rows = dict(zip(places, made))
    return np.array(
        [rows[np.ravel_multi_index((t, d, n), words.shape)] for d, u in enumerate(dialogues[n]) for t in range(len(u))]
    )


def test_the_model_is_the_formula_whatever_the_padding():
    model, dialogues = model_of(), made_up()
    for n, dialogue in enumerate(dialogues):
        expected = reference(model, dialogue)
        np.testing.assert_allclose(scores_of(model, dialogues, n), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(scores_of(model, [dialogue], 0), expected, rtol=1e-9, atol=1e-12)


def test_a_word_is_guessed_from_what_was_said_before_it_alone():
    model, (dialogue, *_) = model_of(), made_up()
    at = len(dialogue[0]) + 1  # the second word of the second utterance
    before = scores_of(model, [dialogue], 0)
    other = [dialogue[0], [dialogue[1][0], *[4 + (word + 1) % 8 for word in dialogue[1][1:]]], *dialogue[2:]]
    after = scores_of(model, [other], 0)
    assert (before[: at + 1] == after[: at + 1]).all() and (before[at + 1] != after[at + 1]).all()
    first = scores_of(model, [[[5, EOS], *dialogue[1:]]], 0)
    assert (first[2] != before[len(dialogue[0])]).all()  # the first word of the second utterance: by the context


def test_the_loss_is_the_mean_over_the_words_and_padding_has_no_gradient():
    model, dialogues = model_of(), made_up()
    batch = DialogueCollate()(dialogues)
    words = [word for dialogue in dialogues for utterance in dialogue for word in utterance]
    scores = np.concatenate([reference(model, dialogue) for dialogue in dialogues])
    expected = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(len(words)), words])
    loss = program.cross_entropy(model(batch), batch)
    assert loss.item() == pytest.approx(expected, rel=1e-9) and program.words_of(batch) == len(words)
    loss.backward()
    assert not model.embedding.weight.grad.numpy()[PAD].any() and model.context.weight_hh_l0.grad.numpy().any()


def test_losses_by_turn_add_up_to_the_loss_and_exchanged_contexts_are_the_neighbours():
    model, dialogues = model_of(), made_up(5)
    batches = program.loader(dialogues, 5, "cpu")
    losses, counts = program.by_turn(model, batches)
    whole = evaluate(model, lambda batch: program.cross_entropy(model(batch), batch), batches, items=program.words_of)
    assert losses.sum() / counts.sum() == pytest.approx(whole["loss"]) and losses.shape == counts.shape == (program.MAX_TURNS,)
    assert counts[0] == sum(len(dialogue[0]) for dialogue in dialogues)
    exchanged, same = program.by_turn(model, batches, exchanged=True)
    assert (same == counts).all() and exchanged[0] == pytest.approx(losses[0])  # nothing was said before the first turn
    assert (exchanged[1:] != losses[1:])[counts[1:] > 0].all()
    pairs = program.loader(dialogues, 2, "cpu")  # the fifth dialogue has no neighbour
    counted = sum(program.words_of(batch) for batch in pairs if batch.words.shape[2] == 2)
    assert program.by_turn(model, pairs, exchanged=True)[1].sum() == counted < counts.sum()


def test_a_step_of_a_reply_scores_as_the_whole_utterance_does():
    model, dialogues = model_of(), made_up()
    batch = DialogueCollate()(dialogues)
    condition = model.condition(batch.words)[1]
    state = {"d": tg.tanh(model.decoder.start(condition)), "lead": model.decoder.lead(condition)}
    tokens = tg.full((3,), BOS)
    for t in range(2):
        scores, state = model.step(tokens, state)
        assert (scores.detach().numpy()[:, [PAD, UNK, BOS]] == -np.inf).all()
        for n, dialogue in enumerate(dialogues):
            expected = reference(model, dialogue)[len(dialogue[0]) + t]
            np.testing.assert_allclose(scores.detach().numpy()[n, EOS:], expected[EOS:], rtol=1e-9)
        tokens = batch.words[t, 1]


def test_every_turn_but_the_first_gets_a_reply_to_what_was_said_before():
    model, dialogues = model_of(), made_up(4)
    vocabulary = program.Vocabulary([[f"w{number}" for number in range(8)]])
    batches = program.loader(dialogues, 3, "cpu")
    made = list(program.converse(model, batches, vocabulary, program.GREEDY))
    assert len(made) == sum(len(dialogue) - 1 for dialogue in dialogues)
    said = {tuple(map(tuple, [*turn.before, turn.said])) for turn in made}
    assert said == {tuple(tuple(vocabulary.decode(u)) for u in one[: d + 1]) for one in dialogues for d in range(1, len(one))}
    assert all(len(turn.reply) <= program.MAX_WORDS and "<unk>" not in turn.reply for turn in made)
    best = program.functools.partial(beam_search, end=EOS, max_length=5, beams=2)
    assert len(list(program.converse(model, batches, vocabulary, best))) == len(made)


def test_preparing_cuts_and_hides_rare_words():
    turns = [program.TableTalk(1)[0].turns[0]._replace(text=text) for text in ("Rare words here", "here " * 50, "")] * 20
    dialogue = program.Dialogue("1", [], turns)
    corpus = program.prepare([[dialogue]] * 3, 1, min_count=8)
    (one,) = corpus.train
    assert len(one) == program.MAX_TURNS and one[0][-1] == EOS and one[2] == [EOS]
    assert (
        len(one[1]) == program.MAX_WORDS and EOS not in one[1] and corpus.vocabulary.decode(one[0]) == ["rare", "words", "here"]
    )
    assert UNK in program.prepare([[dialogue]] * 3, 1, min_count=9).train[0][0]


def test_lines_of_a_conversation_stand_below_each_other_whatever_their_number_and_money():
    """The longest replies that there are, into a low picture; a pair of $ is no formula."""
    line = "[most probable] " + "it is $ 30 # or $ 40 { in all " * 3
    figure = Figure(figsize=(9.0, 2.0), layout="constrained")
    left, _ = figure.subplots(1, 2)
    high = program.draw_lines(left, ["U: how much is it?"] * 5, [line] * 8)
    title = figure.suptitle("title")
    figure.set_figheight(high + 0.6)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in (title, *left.texts)]
    assert all(below.y1 <= above.y0 for above, below in itertools.pairwise(boxes)) and boxes[-1].y0 >= 0
    assert left.texts[-1].get_text().count("$") == 6


def test_it_learns_to_repeat_what_the_user_wants_and_writes_everything(tmp_path, capsys):
    results = run(tmp_path, "--epochs", "12", "--dialogues", "300")
    names = {"results.json", "replies.txt", "replies.png", "context.png", "curves.png", "log.csv", "log.jsonl"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["perplexity"] < results["vocabulary"] / 8 and results["exchanged_perplexity"] > 1.05 * results["perplexity"]
    assert 0 < results["greedy_distinct1"] < results["sampled_distinct2"] < 1
    printed = capsys.readouterr()
    assert "made-up data" in printed.err and "distinct-2" in printed.out
    assert "[said]" in (tmp_path / "replies.txt").read_text()


def end_of(folder):
    newest = max(folder.glob("checkpoint-*.safetensors"))
    return {name: value.numpy() for name, value in tg.load(newest)["model"].items()}


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_test_of_one_dialogue_has_no_context_of_another(tmp_path):
    results = program.main(["--quick", "--epochs", "0", "--dialogues", "1", "--out", str(tmp_path)])
    assert results["perplexity"] > 1 and "exchanged_perplexity" not in results


def test_a_run_that_was_stopped_goes_on_to_the_same_end(tmp_path):
    run(tmp_path / "whole", "--epochs", "2")
    run(tmp_path / "parts", "--epochs", "1")
    run(tmp_path / "parts", "--epochs", "2", "--resume")
    whole, parts = end_of(tmp_path / "whole"), end_of(tmp_path / "parts")
    assert whole.keys() == parts.keys() and all((whole[name] == parts[name]).all() for name in whole)


def test_a_compiled_run_has_the_same_losses(tmp_path):
    plain, compiled = (
        run(tmp_path / name, "--epochs", "1", "--dropout", "0.1", *flag) for name, flag in (("a", []), ("b", ["--compile"]))
    )
    assert compiled["perplexity"] == pytest.approx(plain["perplexity"], rel=1e-3)
