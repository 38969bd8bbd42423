"""The same transformer in kzoo and in CTranslate2: equal outputs, log-probabilities, BLEU.

    python -m benchmarks.engines model.keras val.en val.de                  # the first 200 pairs
    python -m benchmarks.engines model.keras val.en val.de --sentences 1014

The model, a `keras.models.load_model` away, is exported in float32 and in int8 to a temporary
folder. Printed are the share of sentences whose best hypothesis is the same, token for token, for
greedy search and for beams, the greatest difference of log-probability that the two give one and
the same translation, and BLEU of all outputs against the references. Where the two searches
disagree, each engine also scores the other's output, which tells a different search from a
different model.
"""

import argparse
import itertools
import os
import tempfile
from pathlib import Path

LONGEST = 128  # tokens of an output, the end included


def main(options):
    """Returns the shares of identical outputs and the BLEU scores, and prints them."""
    import ctranslate2
    import keras

    from kzoo import export

    model = keras.models.load_model(options.model)
    sources, references = (
        list(itertools.islice(path.read_text("utf-8").splitlines(), options.sentences))
        for path in (options.source, options.reference)
    )
    tokens = pieces(model.source_tokenizer, model.source_tokenizer.tokenize(sources))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        translators = {
            name: ctranslate2.Translator(
                str(export.to_ctranslate2(model, Path(folder) / name, quantization)),
                compute_type=name,
            )
            for name, quantization in (("float32", None), ("int8", "int8"))
        }
        for beam_size in (1, options.beam_size):
            found, log_probs = from_kzoo(model, sources, beam_size)
            other = from_ctranslate2(translators["float32"], tokens, beam_size)
            name = f"beam {beam_size}"
            same = [a == b for a, b in zip(found, other, strict=True)]
            results[f"{name}: identical"] = sum(same) / len(same)
            scored = score(translators["float32"], tokens, found)
            results[f"{name}: greatest difference of log p of kzoo's outputs"] = max(
                abs(a - b) for a, b in zip(log_probs, scored, strict=True)
            )
            theirs = score(translators["float32"], tokens, other)
            results[f"{name}: the other's output is the more probable, kzoo's, CTranslate2's"] = (
                sum(a > b + 1e-4 for a, b in zip(scored, theirs, strict=True)),
                sum(b > a + 1e-4 for a, b in zip(scored, theirs, strict=True)),
            )
            outputs = {"kzoo": found, "float32": other}
            outputs["int8"] = from_ctranslate2(translators["int8"], tokens, beam_size)
            for engine, rows in outputs.items():
                results[f"{name}: BLEU {engine}"] = bleu(model, rows, references)
    for name, value in results.items():
        print(f"{name:75s} {value}")
    return results


def from_kzoo(model, sources, beam_size):
    """The tokens and the log-probability of kzoo's best hypothesis for each source."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def best(texts):
        found = model.generate(
            model.source_ids(texts, 256),
            beam_size=beam_size,
            max_length=LONGEST,
            length_penalty=0,
        )
        return found.ids[:, 0], found.lengths[:, 0], found.log_probs[:, 0]

    found, log_probs = [], []
    for start in range(0, len(sources), 32):
        ids, lengths, more = best(tf.constant(sources[start : start + 32]))
        found += pieces(model.target_tokenizer, tf.RaggedTensor.from_tensor(ids, lengths))
        log_probs += more.numpy().tolist()
    return found, log_probs


def from_ctranslate2(translator, tokens, beam_size):
    """The tokens of CTranslate2's best hypothesis for each source."""
    found = translator.translate_batch(
        tokens,
        beam_size=beam_size,
        length_penalty=0,
        min_decoding_length=0,
        max_decoding_length=LONGEST,
        max_batch_size=32,
    )
    return [result.hypotheses[0] for result in found]


def score(translator, sources, targets):
    """log p(target | source) by CTranslate2, the end included."""
    return [sum(result.log_probs) for result in translator.score_batch(sources, targets)]


def bleu(model, rows, references):
    import tensorflow as tf

    from kzoo import metrics

    ids = {piece: i for i, piece in enumerate(model.target_tokenizer.get_vocabulary())}
    ragged = tf.ragged.constant([[ids[token] for token in row] for row in rows], tf.int32)
    texts = [text.decode() for text in model.target_tokenizer.detokenize(ragged).numpy()]
    return metrics.bleu(texts, references)


def pieces(tokenizer, ids):
    """Ragged ids -> lists of str."""
    return [[piece.decode() for piece in row] for row in tokenizer.tokens(ids).to_list()]


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--beam_size", type=int, default=4)
    main(parser.parse_args())
