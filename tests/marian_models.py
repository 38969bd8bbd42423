"""Random MarianMT models in folders, with SentencePiece models learnt on the spot."""

import io
import json

import sentencepiece
import torch
import transformers

TEXTS = [
    "Two young, white males are outside near many bushes.",
    "Several men in hard hats are operating a giant pulley system.",
    "A little girl climbing into a wooden playhouse.",
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    "Ein Mann lächelt einen ausgestopften Löwen an.",
]
LANGUAGES = [">>fra<<", ">>deu<<"]


def learnt(texts, size):
    """The bytes of a SentencePiece model, and its pieces."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=written, vocab_size=size, minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    return written.getvalue(), [model.id_to_piece(n) for n in range(3, model.vocab_size())]


def write(folder, seed=0, own_target=False, more=(), **config):
    """Writes a model and returns it; `config` overrides sizes that all differ, `more` are further
    pieces."""
    (source, pieces), (target, others) = learnt(TEXTS[:4], 97), learnt(TEXTS[4:], 89)
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    names = [[*("</s>", "<unk>"), *sorted({*pieces, *others, *more}), *LANGUAGES, "<pad>"]]
    if own_target:
        names.append(["</s>", "<unk>", *others])
        while len(names[1]) < len(names[0]) - 1:
            names[1].append(f"unused{len(names[1])}")
        names[1].append("<pad>")  # transformers has one padding id for both
    for name, each in zip(("vocab.json", "target_vocab.json"), names, strict=False):
        (folder / name).write_text(json.dumps({piece: n for n, piece in enumerate(each)}))
    size = len(names[0])
    config = transformers.MarianConfig(**{
        "vocab_size": size, "decoder_vocab_size": len(names[-1]), "d_model": 12,
        "encoder_layers": 2, "encoder_attention_heads": 3, "encoder_ffn_dim": 17,
        "decoder_layers": 3, "decoder_attention_heads": 4, "decoder_ffn_dim": 19,
        "activation_function": "swish", "scale_embedding": True, "pad_token_id": size - 1,
        "decoder_start_token_id": size - 1, "eos_token_id": 0, "forced_eos_token_id": None,
        "max_position_embeddings": 64, "init_std": 0.4, **config,
    })  # fmt: skip
    torch.manual_seed(seed)
    model = transformers.MarianMTModel(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias") or "norm" in name:  # which begin as zeros and ones
                weight.add_(0.3 * torch.randn_like(weight))
        model.final_logits_bias.add_(0.3 * torch.randn_like(model.final_logits_bias))
    model.generation_config.bad_words_ids = [[size - 1]]  # as all of OPUS-MT have it
    model.save_pretrained(folder)
    return model
