"""Random Whispers of transformers, with byte-level tokenizers learnt on the spot."""

import tokenizers
import torch
import transformers

TEXTS = ["He said that she said so, didn't she?", "it is what it is", "( the end ) the end"]


def learnt_tokenizer(folder, names):
    """Writes the tokenizer into the folder and returns it; `names` are those of special tokens."""
    learnt = tokenizers.ByteLevelBPETokenizer()
    learnt.train_from_iterator(TEXTS * 3, vocab_size=290, min_frequency=2)
    learnt.add_special_tokens([f"<|{name}|>" for name in names])
    learnt.save(str(folder / "tokenizer.json"))
    return learnt


def random_model(learnt, times, seed, **sizes):
    """A model with so many times behind the vocabulary, which its files do not name."""
    start, end = (learnt.token_to_id(f"<|{name}|>") for name in ("startoftranscript", "endoftext"))
    config = transformers.WhisperConfig(
        vocab_size=learnt.get_vocab_size() + times, d_model=24, encoder_attention_heads=2,
        decoder_attention_heads=4, decoder_start_token_id=start, bos_token_id=end,
        eos_token_id=end, pad_token_id=end, suppress_tokens=None, begin_suppress_tokens=None,
        **sizes,
    )  # fmt: skip
    torch.manual_seed(seed)
    return transformers.WhisperForConditionalGeneration(config).eval()
