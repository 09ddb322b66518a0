"""The Transformer: its formulas, its masks, the layers of ``nn`` as a second account of it, and the program."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinygrad_ja as tg
from models import transformer as program
from models.transformer import MultiHeadAttention, Size, Transformer
from tinygrad_ja import nn
from tinygrad_ja.testing import gradcheck

SIZE = Size(16, 32, 4, 2)


def rows(*shape, seed=0):
    return tg.tensor(np.random.default_rng(seed).standard_normal(shape))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def new_model(pre_norm=False, words=11):
    tg.manual_seed(0)
    return Transformer(words, words, SIZE, dropout=0.0, pre_norm=pre_norm).double()


# ---- formulas ------------------------------------------------------------------------------------


def test_positions_are_the_formula():
    pe = program.positional_encoding(7, 10).numpy()
    for pos in range(7):
        for i in range(5):
            angle = pos / 10000 ** (2 * i / 10)
            np.testing.assert_allclose(pe[pos, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=1e-6)
    assert program.positional_encoding(3, 5).shape == (3, 5)
    np.testing.assert_allclose(nn.PositionalEncoding(10, max_len=7).pe.numpy(), pe, atol=1e-6)


def test_the_embedding_is_scaled_and_positions_are_added():
    tg.manual_seed(0)
    layer = program.TokenEmbedding(5, 16, dropout=0.0)
    expected = 4 * layer.weight.detach().numpy()[[3, 1]] + program.positional_encoding(2, 16).numpy()
    np.testing.assert_allclose(layer(tg.tensor([[3, 1]])).detach().numpy()[0], expected, rtol=1e-5, atol=1e-6)


def test_attention_is_the_formula_head_by_head():
    tg.manual_seed(0)
    layer = MultiHeadAttention(8, 2, dropout=0.0).double()
    x, memory = rows(3, 8), rows(5, 8, seed=1)
    p = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        q = x.numpy() @ p["query.weight"][part].T
        k, v = (memory.numpy() @ p[f"{name}.weight"][part].T for name in ("key", "value"))
        heads.append(softmax(q @ k.T / 2) @ v)
    expected = np.concatenate(heads, 1) @ p["out.weight"].T
    made = layer(x[None], tg.ones(1, 1, 1, 5).bool(), memory[None])[0]
    np.testing.assert_allclose(made.detach().numpy(), expected, rtol=1e-12)


def test_attention_equals_the_layer_of_nn():
    tg.manual_seed(0)
    ours, theirs = MultiHeadAttention(16, 4, dropout=0.0).double(), nn.MultiheadAttention(16, 4, batch_first=True).double()
    copy_attention(ours, theirs)
    x, memory = rows(2, 3, 16), rows(2, 5, 16, seed=1)
    padding = tg.tensor([[False] * 5, [False, False, False, True, True]])
    ours.keep = True
    made = ours(x, ~padding[:, None, None], memory)
    expected, weights = theirs(x, memory, memory, key_padding_mask=padding, average_attn_weights=False)
    np.testing.assert_allclose(made.detach().numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ours.weights.numpy(), weights.detach().numpy(), rtol=1e-10, atol=1e-12)
    ours.query.bias.data.normal_()
    copy_attention(ours, theirs)
    assert gradcheck(lambda x: ours(x, program.look_ahead_mask(3)), (rows(1, 3, 16).requires_grad_(),))


def copy_attention(ours, theirs):
    with tg.no_grad():
        parts = ours.query, ours.key, ours.value
        theirs.in_proj_weight.copy_(tg.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(tg.cat([part.bias for part in parts]))
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)


def copy_layer(ours, theirs, decoder=False):
    norms = [ours.self_attention, *([ours.source_attention] if decoder else []), ours.feed_forward]
    copy_attention(ours.self_attention.part, theirs.self_attn)
    if decoder:
        copy_attention(ours.source_attention.part, theirs.multihead_attn)
    theirs.linear1.load_state_dict(ours.feed_forward.part.inner.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.part.outer.state_dict())
    for number, part in enumerate(norms, 1):
        getattr(theirs, f"norm{number}").load_state_dict(part.norm.state_dict())


@pytest.mark.parametrize("pre_norm", [False, True])
def test_the_layers_equal_those_of_nn_values_and_gradients(pre_norm):
    tg.manual_seed(0)
    x, y = rows(2, 4, 16), rows(2, 3, 16, seed=1)
    mask = tg.tensor([[True] * 4, [True, True, False, False]])
    settings = {"dropout": 0.0, "batch_first": True, "norm_first": pre_norm}
    encoder, decoder = program.EncoderLayer(SIZE, 0.0, pre_norm).double(), program.DecoderLayer(SIZE, 0.0, pre_norm).double()
    their_encoder = nn.TransformerEncoderLayer(16, 4, 32, **settings).double()
    their_decoder = nn.TransformerDecoderLayer(16, 4, 32, **settings).double()
    copy_layer(encoder, their_encoder)
    copy_layer(decoder, their_decoder, decoder=True)
    made, expected = [], []
    for memory_of, write, out in (
        (
            lambda x: encoder(x, mask[:, None, None]),
            lambda y, m: decoder(y, m, program.look_ahead_mask(3), mask[:, None, None]),
            made,
        ),
        (
            lambda x: their_encoder(x, src_key_padding_mask=~mask),
            lambda y, m: their_decoder(y, m, ~program.look_ahead_mask(3), memory_key_padding_mask=~mask),
            expected,
        ),
    ):
        source, target = x.clone().requires_grad_(), y.clone().requires_grad_()
        memory = memory_of(source)
        result = write(target, memory)
        (result**2).sum().backward()
        out += [memory.detach(), result.detach(), source.grad, target.grad]
    for a, b in zip(made, expected):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-10)


def test_the_learning_rate_is_the_formula():
    optimizer = tg.optim.Adam([tg.ones(1, requires_grad=True)], lr=1.0)
    schedule = tg.optim.lr_scheduler.NoamLR(optimizer, 128, 50)
    for step in range(1, 200):
        assert schedule.get_last_lr()[0] == pytest.approx(128**-0.5 * min(step**-0.5, step * 50**-1.5))
        optimizer.step()
        schedule.step()


def test_label_smoothing_is_the_mean_of_right_token_and_all_tokens():
    model = new_model()
    batch = tg.tensor([[4, 5, 3]]), tg.tensor([[2, 6, 7, 3, 0]])
    scores = model(batch[0], batch[1][:, :-1]).detach().numpy()[0, :3]
    logs = np.log(softmax(scores))
    right = -logs[[0, 1, 2], [6, 7, 3]].mean()
    values = program.measure(model, batch, smoothing=0.1)
    assert values["loss"].item() == pytest.approx(0.9 * right - 0.1 * logs.mean(-1).mean())
    assert values["accuracy"].item() == pytest.approx((scores.argmax(-1) == [6, 7, 3]).mean())


# ---- masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pre_norm", [False, True])
def test_filling_changes_nothing(pre_norm):
    model = new_model(pre_norm)
    source, target = tg.tensor([[4, 5, 6]]), tg.tensor([[2, 7]])
    plain = model(source, target).detach().numpy()
    longer = model(tg.tensor([[4, 5, 6, 0, 0]]), tg.tensor([[2, 7, 0]])).detach().numpy()
    np.testing.assert_allclose(longer[:, :2], plain, rtol=1e-10)


def test_no_position_sees_what_comes_after_it():
    model = new_model()
    source = tg.tensor([[4, 5, 6]])
    one, other = (model(source, tg.tensor([[2, 7, last]])).detach().numpy() for last in (8, 9))
    np.testing.assert_allclose(one[:, :2], other[:, :2], rtol=1e-12)
    assert abs(one[:, 2] - other[:, 2]).max() > 1e-3


def test_embedding_and_output_share_one_matrix():
    model = new_model()
    assert sum(p.shape == (11, 16) for p in model.parameters()) == 2  # source, and target with the output
    model(tg.tensor([[4]]), tg.tensor([[2]])).sum().backward()
    assert (model.target.weight.grad.numpy()[9] != 0).all()  # never read, only scored


@pytest.mark.parametrize("beams", [1, 3])
def test_the_search_writes_what_the_network_prefers(beams):
    model = new_model()
    source = tg.tensor([[4, 5, 3], [6, 3, 0]])
    found = model.translate(source, bos=2, eos=3, beams=beams, max_length=4)
    alone = [model.translate(line, 2, 3, beams, 4)[0] for line in (source[:1], source[1:, :2])]
    assert found == alone
    if beams == 1:
        written = [2]
        for _ in range(4):
            written.append(int(model(source[:1], tg.tensor([written]))[0, -1].argmax().item()))
        assert found[0] == [token for token in written[1:] if token != 3][: len(found[0])]


def test_maps_of_the_heads_are_distributions_and_look_back_only():
    model = new_model()
    source, target = tg.tensor([[4, 5, 6]]), tg.tensor([[2, 7]])
    for part, width in (("source_attention", 3), ("self_attention", 2)):
        maps = program.attention_maps(model, part, source, target)
        assert [m.shape for m in maps] == [(4, 2, width)] * 2
        np.testing.assert_allclose(maps[0].numpy().sum(-1), 1.0)
    assert (maps[1].numpy()[:, 0, 1] == 0).all()
    assert not any(module.keep for module in model.modules() if isinstance(module, MultiHeadAttention))


def test_the_paper_s_size_has_its_number_of_parameters():
    """Per layer 4 d² + 4 d of an attention, 2 d w + d + w of the FFN, 2 d of a norm."""
    d, w = 512, 2048
    attention, ffn, norm = 4 * d * d + 4 * d, 2 * d * w + d + w, 2 * d
    size = program.SIZES["base"]
    encoder, decoder = program.EncoderLayer(size), program.DecoderLayer(size)
    assert sum(p.numel() for p in encoder.parameters()) == attention + ffn + 2 * norm
    assert sum(p.numel() for p in decoder.parameters()) == 2 * attention + ffn + 3 * norm
    assert (size.heads, size.layers) == (8, 6)


# ---- the program ---------------------------------------------------------------------------------

SMALL = ["--quick", "--pairs", "300", "--tokens", "300", "--warmup", "40"]


@pytest.fixture(autouse=True)
def no_data(monkeypatch, tmp_path_factory):
    """An empty folder for the data, so that the made-up sentences are used and nothing is fetched."""
    empty = str(tmp_path_factory.mktemp("empty"))
    monkeypatch.setenv("TINYGRAD_JA_DATA", empty)
    monkeypatch.setenv("XDG_CACHE_HOME", empty)
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")


def run(folder, *argv):
    return program.main([*SMALL, "--out", str(folder), *argv])


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_first_look_learns_to_translate_and_writes_everything(tmp_path, capsys):
    results = program.main(["--quick", "--out", str(tmp_path)])
    assert results["data"] == "synthetic"
    assert results["bleu"] > 50 and results["bleu_greedy"] > 50  # unseen sentences; the untrained network reaches about 0
    assert losses(tmp_path)[-1] < losses(tmp_path)[0] / 2
    for name in ("source_attention.png", "self_attention.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert "BLEU of tokens" in capsys.readouterr().out


def test_a_resumed_run_ends_as_one_that_was_not_stopped(tmp_path):
    whole = run(tmp_path, "--epochs", "2")
    max(tmp_path.glob("checkpoint-*.safetensors")).unlink()
    resumed = run(tmp_path, "--epochs", "2", "--resume")
    assert resumed["steps"] == whole["steps"]
    assert {k: v for k, v in resumed.items() if "bleu" in k} == {k: v for k, v in whole.items() if "bleu" in k}
    assert resumed["samples"] == whole["samples"]


def test_variants_run_and_compiled_losses_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "SHAPES", [(17, 17)])
    run(tmp_path / "plain", "--pre-norm", "--epochs", "2")
    run(tmp_path / "compiled", "--pre-norm", "--epochs", "2", "--compile")
    np.testing.assert_allclose(losses(tmp_path / "compiled"), losses(tmp_path / "plain"), rtol=1e-3)


def test_the_mean_is_of_the_last_tenth_of_the_steps():
    values = np.arange(1.0, 1001.0)
    mean = values[0]
    for steps, value in enumerate(values[1:], 1):
        mean = program.recent(mean, value, steps)
    assert mean == pytest.approx(1000 * 10 / 11, rel=0.01)
