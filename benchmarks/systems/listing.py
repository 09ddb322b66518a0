"""The comparisons of ``python -m benchmarks systems``: programs, their arguments, what is compared, and the bars."""

from __future__ import annotations

from . import Metric, System

SYSTEMS: dict[str, System] = {
    "dense": System("dense", (), (Metric("accuracy"),)),
    "row_rnn": System("row_rnn", (), (Metric("accuracy", bar=0.985),)),
    "recursive": System("recursive", ("--cell", "rnn", "--hidden", "80"), (Metric("accuracy", bar=0.40),)),
    "tree_lstm": System("recursive", (), (Metric("accuracy", bar=0.45),)),
    "addition": System("seq2seq", ("--reverse", "--peeky"), (Metric("exact_match", bar=0.95),)),
    "dates": System("attention", ("--bidirectional",), (Metric("exact_match", bar=0.99),)),
    "attention": System(
        "attention",
        ("--task", "translation", "--attention", "bahdanau", "--bidirectional"),
        (Metric("bleu", bar=20), Metric("bleu_short"), Metric("bleu_long")),
    ),
    "translation": System(
        "seq2seq", ("--task", "translation", "--bidirectional"), (Metric("bleu"), Metric("bleu_short"), Metric("bleu_long"))
    ),
    "char_lm": System("char_lm", (), (Metric("loss", less=True, bar=1.60),)),
    "word_lm": System("word_lm", (), (Metric("rnn_perplexity", less=True), Metric("lstm_perplexity", less=True))),
    "skip_gram": System("skip_gram", (), (Metric("similarity"), Metric("loss", less=True))),
    "hierarchical": System("skip_gram", ("--output", "hierarchical"), (Metric("similarity"),)),
    "doc2vec": System("doc2vec", (), (Metric("dbow_accuracy"), Metric("dm_accuracy"), Metric("both_accuracy"))),
    "hred": System("hred", (), (Metric("perplexity", less=True), Metric("greedy_distinct2"))),
    "vhred": System("vhred", (), (Metric("perplexity_bound", less=True), Metric("kl", less=None), Metric("greedy_distinct2"))),
    "transformer": System("transformer", (), (Metric("bleu", bar=25),)),
    "masked_lm": System("masked_lm", (), (Metric("loss", less=True), Metric("sst"), Metric("sst_random"))),
    "tree_lstm_binary": System("recursive", ("--binary",), (Metric("accuracy", bar=0.80),)),
}
