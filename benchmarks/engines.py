"""The same transformer in kzoo, CTranslate2 and TensorFlow Lite: equal outputs, BLEU.

    python -m benchmarks.engines model.keras val.en val.de                  # the first 200 pairs
    python -m benchmarks.engines model.keras val.en val.de --sentences 1014

The model, which `keras.models.load_model` must read, is exported to a temporary folder: for
CTranslate2 in float32 and in int8, for TensorFlow Lite in float32. Printed are

- the share of sentences whose best hypothesis from CTranslate2 is kzoo's, token for token, for
  greedy search and for beams, at most 128 tokens, length penalty 0;
- by how much the log-probabilities that the two give to kzoo's hypotheses differ at most;
- where they disagree, how often either's output is the more probable, by CTranslate2's score: a
  different search finds more probable ones or less, a different model finds other ones;
- BLEU against the references;
- the share of sentences for which TensorFlow Lite gives kzoo's ids in all hypotheses, at most 64
  source and 64 target tokens, length penalty 0.6, and the milliseconds for each sentence.
"""

import argparse
import itertools
import os
import tempfile
import time
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
        results |= tensorflow_lite(model, Path(folder) / "lite", sources, options.beam_size)
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


def tensorflow_lite(model, path, sources, beam_size):
    """The share of n-best lists that are kzoo's, id for id, and the time of a sentence."""
    import numpy as np
    import tensorflow as tf

    from kzoo import export

    options = {"beam_size": beam_size, "max_length": 64, "length_penalty": 0.6}
    path = export.to_tflite(model, path, max_source_length=64, **options)
    search = tf.lite.Interpreter(str(path / "model.tflite")).get_signature_runner()
    generate = tf.function(lambda ids: model.generate(ids, **options).ids)
    same, seconds = 0, 0.0
    for source in sources:
        ids = model.source_ids(tf.constant([source]), 64).numpy()
        ids = np.pad(ids, ((0, 0), (0, 65 - ids.shape[1])))
        start = time.perf_counter()
        found = search(ids=ids)["ids"]
        seconds += time.perf_counter() - start
        same += np.array_equal(found, generate(ids))
    return {
        f"TensorFlow Lite, beam {beam_size}: identical": same / len(sources),
        f"TensorFlow Lite, beam {beam_size}: milliseconds": 1000 * seconds / len(sources),
    }


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
