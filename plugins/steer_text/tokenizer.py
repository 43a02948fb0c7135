"""Tokens that are whole words, for small corpora."""

from collections.abc import Iterable
from typing import Any

PAD, MASK, BOS, EOS, UNKNOWN = SPECIAL = ("[PAD]", "[MASK]", "[BOS]", "[EOS]", "[UNK]")


def build(sentences: Iterable[str], *, length: int) -> Any:
    """Return a ``PreTrainedTokenizerFast`` of the words of some sentences, in alphabetical order.

    A sentence becomes ``[BOS] words [EOS]``; case does not matter, and punctuation marks are separate tokens.

    Args:
        length: tokens of the longest sentence, including both ends.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer, splitter = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    words = {
        word for text in sentences for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    }  # fmt: skip
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *sorted(words)])}
    tokens = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokens.normalizer, tokens.pre_tokenizer = normalizer, splitter
    # no word begins with the prefix of word pieces, so this decoder only joins punctuation to its words
    tokens.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokens.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, vocabulary[BOS]), (EOS, vocabulary[EOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token=PAD, mask_token=MASK, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN,
        model_max_length=length, clean_up_tokenization_spaces=False,
    )  # fmt: skip
