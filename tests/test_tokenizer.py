"""Tokenizers: what is one token, round trips, texts of any kind and length."""

from __future__ import annotations

import pickle
import sys
import threading
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ja.data.text import (
    CharacterTokenizer,
    JapaneseTokenizer,
    SpaceTokenizer,
    SubwordTokenizer,
    WordTokenizer,
)
from tinygrad_ja.data.text.japanese import pieces
from tinygrad_ja.errors import ArgumentError, StateError

TEXTS = st.text(max_size=60)


# ---- spaces and characters


def test_white_space_separates():
    tokenizer = SpaceTokenizer(lower=True)
    assert tokenizer(" The\tcat \n\u3000sat ") == ["the", "cat", "sat"]
    assert tokenizer.detokenize(["a", "b"]) == "a b"
    assert tokenizer("") == []


@pytest.mark.parametrize(
    "character",
    [
        "が",
        "か\u3099",  # a mark of its own
        "ｶﾞ",  # half-width
        "e\u0301\u0323",
        "葛\U000e0100",  # a variant of the glyph
        "👍🏽",
        "👨\u200d👩\u200d👧",
        "🇯🇵",
        "\u1100\u1161\u11a8",  # one of Hangul in three letters
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\r\n",
        "1\ufe0f\u20e3",
        "𠮷",
    ],
)
def test_what_a_reader_sees_as_one_is_one(character):
    assert CharacterTokenizer()("あ" + character + character + "b") == ["あ", character, character, "b"]


@given(TEXTS)
def test_characters_are_the_text(text):
    tokenizer = CharacterTokenizer()
    tokens = tokenizer(text)
    assert tokenizer.detokenize(tokens) == text
    assert all(tokens)
    assert [token for token in tokens if len(token) == 1 or not token.isascii() or token == "\r\n"] == tokens


def test_white_space_between_characters():
    text = " あ \n い　1 "
    assert CharacterTokenizer()(text) == list(text)
    assert CharacterTokenizer(whitespace="drop")(text) == ["あ", "い", "1"]
    assert CharacterTokenizer(whitespace="collapse")(text) == [" ", "あ", " ", "い", " ", "1", " "]


def test_one_form_for_wide_and_narrow_letters():
    assert CharacterTokenizer(normalize="NFKC", lower=True)("Ａｂ１ﾊﾟ㍻") == ["a", "b", "1", "パ", "平", "成"]


# ---- words


def test_words_numbers_and_marks():
    tokenizer = WordTokenizer()
    assert tokenizer("Don't pay $1,234.50 at 10:30, well-known Mr. O\u2019Neil!") == (
        ["Don't", "pay", "$", "1,234.50", "at", "10:30", ",", "well-known", "Mr", ".", "O\u2019Neil", "!"]
    )
    assert tokenizer("3rd... 'quoted' naïve_x 日本語。") == (["3rd", "...", "'", "quoted", "'", "naïve_x", "日本語", "。"])


@pytest.mark.parametrize(
    "text",
    [
        'He said, "It\'s $3.50 (too much)!" and left.',
        "Well... who knows? A well-known man; his dog: #1.",
        'The "first" and the "second" [sic].',
        "100% of 1,000 people e-mail me@example",
    ],
)
def test_english_comes_back(text):
    tokenizer = WordTokenizer()
    made = tokenizer.detokenize(tokenizer(text))
    assert made.replace(" ", "") == text.replace(" ", "")
    if "@" not in text:  # nobody can tell an address from a mention
        assert made == text


@given(TEXTS)
def test_words_lose_white_space_only(text):
    assert "".join(WordTokenizer()(text)) == "".join(text.split())


# ---- Japanese


def test_units_short_and_long():
    assert JapaneseTokenizer(mode="A")("国家公務員です") == ["国家", "公務", "員", "です"]
    assert JapaneseTokenizer(mode="B")("国家公務員です") == ["国家", "公務員", "です"]
    assert JapaneseTokenizer(mode="C")("国家公務員です") == ["国家公務員", "です"]


def test_forms():
    assert JapaneseTokenizer(form="dictionary")("走った") == ["走る", "た"]
    assert JapaneseTokenizer(form="normalized")("附属") == ["付属"]
    assert JapaneseTokenizer(form="reading")("東京") == ["トウキョウ"]


def test_surfaces_are_the_text_without_white_space():
    text = "吾輩は猫である。名前は　まだ\n無い。Deep Learning １０層"
    words = JapaneseTokenizer()(text)
    assert "".join("".join(words).split()) == "".join(text.split()) and "Deep Learning" in words
    tokenizer = JapaneseTokenizer(normalize="NFKC")
    assert tokenizer.detokenize(tokenizer("Deep Learningを学ぶ。")) == "Deep Learningを学ぶ。"


@pytest.mark.parametrize("text", ["あ" * 30_000, "今日は晴れ。" * 9_000, "ﷺ" * 9_000, "x" * 70_000, "私は、" * 20_000])
def test_a_text_of_any_length_is_taken(text):
    assert "".join(JapaneseTokenizer()(text)) == text


@given(st.text(alphabet="あ。、x\n ", max_size=200), st.integers(1, 20))
def test_long_texts_are_cut_behind_sentences(text, limit):
    made = list(pieces(text, limit))
    assert "".join(made) == text and all([len(piece) <= limit for piece in made])
    for piece in made[:-1]:
        if "。" in piece or "\n" in piece:
            assert piece[-1] in "。\n"


def test_cutting_a_text_does_not_change_its_words():
    sentence = "東京都の国家公務員が、きょうも電車に乗って行きました。"
    assert JapaneseTokenizer()(sentence * 100) == JapaneseTokenizer()(sentence) * 100


def test_threads_share_a_tokenizer_and_it_pickles():
    tokenizer, text = JapaneseTokenizer(), "国家公務員は東京都に行った。"
    expected, made = tokenizer(text), []
    threads = [threading.Thread(target=lambda: made.extend([tokenizer(text) for _ in range(50)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [expected] * 200
    assert pickle.loads(pickle.dumps(tokenizer))(text) == expected


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    from tinygrad_ja.data.text import japanese

    japanese._dictionary.cache_clear()
    monkeypatch.setattr(japanese._cutters, "made", {})
    with pytest.raises(ArgumentError, match="TG-A002.*sudachidict-full"):
        JapaneseTokenizer(dictionary="full")
    monkeypatch.setitem(sys.modules, "sudachipy", None)
    with pytest.raises(ArgumentError, match="TG-A002.*pip install 'sudachipy"):
        JapaneseTokenizer()
    japanese._dictionary.cache_clear()


# ---- subwords


def slow_merges(texts: list[str], merges: int, min_count: int) -> list[tuple[str, str]]:
    """The algorithm as Sennrich et al. print it: count all pairs, merge the best, again from the start."""
    from tinygrad_ja.data.text.subword import _CHUNKS

    words = Counter([tuple(chunk) for text in texts for chunk in _CHUNKS.findall(text)])
    learnt = []
    while len(learnt) < merges:
        counts: Counter = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                counts[pair] += times
        if not counts or max(counts.values()) < min_count:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        learnt.append(best)
        merged: Counter = Counter()
        for word, times in words.items():
            parts, i = [], 0
            while i < len(word):
                both = word[i : i + 2] == best
                parts.append("".join(word[i : i + 2]) if both else word[i])
                i += 2 if both else 1
            merged[tuple(parts)] += times
        words = merged
    return learnt


@given(st.lists(st.text(alphabet="abc 。あ", max_size=40), max_size=6), st.integers(0, 25), st.integers(1, 3))
def test_training_finds_the_merges_of_the_plain_algorithm(texts, merges, min_count):
    assert SubwordTokenizer.train(texts, merges, min_count).merges == slow_merges(texts, merges, min_count)


@given(st.lists(TEXTS, max_size=5), TEXTS)
def test_subwords_are_the_text(texts, text):
    tokenizer = SubwordTokenizer.train(texts, 30, 1)
    assert tokenizer.detokenize(tokenizer(text)) == text


def test_more_merges_give_fewer_tokens():
    texts = ["the cat sat on the mat", "the dog sat on the log"] * 5
    lengths = [len(SubwordTokenizer.train(texts, merges)(texts[0])) for merges in (0, 5, 20, 100)]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] == 22 and lengths[-1] == 6


def test_a_long_word_takes_no_quadratic_time():
    tokenizer = SubwordTokenizer.train(["ab" * 1000], 50)
    assert tokenizer.detokenize(tokenizer("ab" * 100_000)) == "ab" * 100_000


def test_merges_are_saved_and_pickled(tmp_path):
    tokenizer = SubwordTokenizer.train(["\uff2c\uff4f\uff57 low lower"] * 3, 20, lower=True, normalize="NFKC")
    tokenizer.save(tmp_path / "a.json")
    for copy in (SubwordTokenizer.load(tmp_path / "a.json"), pickle.loads(pickle.dumps(tokenizer))):
        assert copy.merges == tokenizer.merges and copy("LOWER") == tokenizer("lower")


@pytest.mark.parametrize(
    "content",
    [
        '{"format": "tinygrad_ja subwords 1", "lower": false, "normalize": null, "left": ["a"], "right": []}',
        '{"format": "tinygrad_ja subwords 1", "lower": false, "normalize": null, "left": ["a", "a"], "right": ["b", "b"]}',
        '{"format": "tinygrad_ja subwords 1", "lower": false, "normalize": null, "left": ["a"], "right": [""]}',
        '{"format": "tinygrad_ja subwords 1", "lower": 0, "normalize": null, "left": ["a"], "right": ["b"]}',
        '{"format": "tinygrad_ja subwords 1", "lower": false, "normalize": "XYZ", "left": ["a"], "right": ["b"]}',
        '{"format": "tinygrad_ja subwords 1", "lower": false, "normalize": null, "left": [1], "right": ["b"]}',
        '{"format": "tinygrad_ja vocabulary 1"}',
    ],
)
def test_a_damaged_file_of_merges_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(StateError, match=r"TG-F005.*a\.json"):
        SubwordTokenizer.load(tmp_path / "a.json")


# ---- wrong use


@pytest.mark.parametrize(
    "call",
    [
        lambda: SpaceTokenizer(normalize="NFX"),
        lambda: SpaceTokenizer()(b"bytes"),
        lambda: WordTokenizer()(["a"]),
        lambda: CharacterTokenizer(whitespace="all"),
        lambda: JapaneseTokenizer(mode="D"),
        lambda: JapaneseTokenizer(dictionary="/etc/passwd"),
        lambda: JapaneseTokenizer(form="kana"),
        lambda: JapaneseTokenizer()("\ud800"),
        lambda: SubwordTokenizer.train("one text", 5),
        lambda: SubwordTokenizer.train(["a"], -1),
        lambda: SubwordTokenizer.train([1], 5),
    ],
)
def test_wrong_use_explains_itself(call):
    with pytest.raises(ArgumentError, match="Fix:"):
        call()


def test_normal_forms_are_unicodes():
    text = "ｶﾞé①"
    for form in ("NFC", "NFKC", "NFD", "NFKD"):
        assert "".join(CharacterTokenizer(normalize=form)(text)) == unicodedata.normalize(form, text)
