"""Text: tokenizers for English, Japanese, characters and subwords; vocabularies; pairs of sentences; what word2vec and masked
language models train on."""

from .japanese import JapaneseTokenizer
from .masking import mask_tokens
from .pairs import PairBatch, pair_batch, pair_loader
from .subword import SubwordTokenizer
from .tokenizer import CharacterTokenizer, SpaceTokenizer, Tokenizer, WordTokenizer
from .vocabulary import SPECIALS, Vocabulary
from .word2vec import cbow_windows, keep_probabilities, skipgram_pairs, subsample

__all__ = [
    "SPECIALS",
    "CharacterTokenizer",
    "JapaneseTokenizer",
    "PairBatch",
    "SpaceTokenizer",
    "SubwordTokenizer",
    "Tokenizer",
    "Vocabulary",
    "WordTokenizer",
    "cbow_windows",
    "keep_probabilities",
    "mask_tokens",
    "pair_batch",
    "pair_loader",
    "skipgram_pairs",
    "subsample",
]
