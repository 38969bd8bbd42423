"""The same transformer in kzoo, CTranslate2 and TensorFlow Lite: equal outputs, BLEU.

    python -m benchmarks.engines saved_models/translation-en-de              # the first 200 pairs
    python -m benchmarks.engines model.keras val.en val.de --sentences 1014

The pairs are those of two files, or Home Assistant's held out for validation, but for sources of
256 tokens or more. The model, anything that `kzoo.pretrained.load` reads, is exported to a folder
that goes again: for CTranslate2 in float32 and in int8, for TensorFlow Lite in float32. Measured
are

- of how many sentences CTranslate2's best hypothesis is kzoo's, token for token, for greedy search
  and for beams, at most 128 tokens, length penalty 0;
- where they disagree, how often either's output is the more probable, by CTranslate2's score: a
  different search finds more probable ones or less, a different model finds other ones;
- by how much the log-probabilities that the two give to kzoo's hypotheses differ at most, but for
  those that were cut off;
- BLEU against the references;
- for how many of the first 200 sentences TensorFlow Lite gives kzoo's ids in all hypotheses, at
  most 64 source and 64 target tokens, length penalty 0.6, and the milliseconds of a sentence.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmarks import figures
from kzoo import export, pretrained

LONGEST = 128  # tokens of an output, the end included
LONGEST_SOURCE = 256  # with the end; kzoo would cut longer ones, CTranslate2 would not
ENGINES = ("kzoo", "CTranslate2 float32", "CTranslate2 int8")
LITE_SENTENCES = 200


def main(options):
    """Compares the engines, and prints the tables."""
    facts = figures.facts("engines", "ctranslate2", "sacrebleu")
    model = pretrained.load(options.model)
    tokenizer = model.source_tokenizer
    sources, references = read_pairs(options)
    rows = zip(sources, references, pieces(tokenizer, tokenizer.tokenize(sources)), strict=True)
    kept = [row for row in rows if len(row[2]) < LONGEST_SOURCE][: options.sentences]
    sources, references, tokens = map(list, zip(*kept, strict=True))
    found = {"facts": facts, "sentences": len(sources), "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        translators = ctranslate2_translators(model, Path(folder))
        for beam_size in (1, options.beam_size):
            row = compared(model, translators, sources, tokens, references, beam_size)
            found["rows"].append({"beam": beam_size, **row})
            figures.write(found, options.json, is_over=False)
        found["TensorFlow Lite"] = tensorflow_lite(
            model, Path(folder) / "lite", sources[:LITE_SENTENCES], options.beam_size
        )
        figures.write(found, options.json)
    print(table(found))


def table(found):
    """The tables of deploy/README.md, out of what `--json` has written."""
    rows = [
        [
            row["beam"],
            f"{row['same']:,} of {found['sentences']:,}",
            ", ".join(map(str, row["more_probable"])),
            f"{row['greatest_difference']:.5f}",
            *(f"{row[f'BLEU {engine}']:.2f}" for engine in ENGINES),
        ]
        for row in found["rows"]
    ]
    header = [">beam", ">the same tokens", ">else more probable: kzoo's, CTranslate2's"]
    header += [">log p differs by at most", *(f">BLEU, {engine}" for engine in ENGINES)]
    lite = found["TensorFlow Lite"]
    made = figures.made(found["facts"]).removesuffix(".")
    return "\n\n".join(
        [
            figures.table(header, rows),
            f"TensorFlow Lite, beam {lite['beam']}: all hypotheses have kzoo's ids for "
            f"{lite['same']:,} of {lite['sentences']:,}, in {lite['milliseconds']:.0f} ms each.",
            f"{made}, BLEU `{found['rows'][0]['signature']}`.",
        ]
    )


def read_pairs(options):
    """Sources and references."""
    if options.source is None:
        from recipes.data.pairs import load_pairs

        pairs = load_pairs(source_language="en", target_language="de").valid
        return pairs.source, pairs.target
    return [path.read_text("utf-8").splitlines() for path in (options.source, options.reference)]


def ctranslate2_translators(model, folder):
    """CTranslate2 in float32 and in int8."""
    import ctranslate2

    return {
        name: ctranslate2.Translator(
            str(export.to_ctranslate2(model, folder / name, quantization)), compute_type=name
        )
        for name, quantization in (("float32", None), ("int8", "int8"))
    }


def compared(model, translators, sources, tokens, references, beam_size):
    """Outputs of CTranslate2 in float32 and int8 beside kzoo's."""
    found, log_probs = from_kzoo(model, sources, beam_size)
    other = from_ctranslate2(translators["float32"], tokens, beam_size)
    scored = score(translators["float32"], tokens, found)
    theirs = score(translators["float32"], tokens, other)
    row = {
        "same": sum(a == b for a, b in zip(found, other, strict=True)),
        "greatest_difference": max(
            (
                abs(a - b)
                for output, a, b in zip(found, log_probs, scored, strict=True)
                if len(output) < LONGEST  # CTranslate2 adds the end to those that were cut off
            ),
            default=0.0,
        ),
        "more_probable": [
            sum(a > b + 1e-4 for a, b in zip(scored, theirs, strict=True)),
            sum(b > a + 1e-4 for a, b in zip(scored, theirs, strict=True)),
        ],
    }
    int8 = from_ctranslate2(translators["int8"], tokens, beam_size)
    for engine, rows in zip(ENGINES, (found, other, int8), strict=True):
        result = bleu(model, rows, references)
        row |= {f"BLEU {engine}": result.value, "signature": result.signature}
    return row


def from_kzoo(model, sources, beam_size):
    """The tokens and the log-probability of kzoo's best hypothesis for each source."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def best(texts):
        found = model.generate(
            model.source_ids(texts, LONGEST_SOURCE),
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
    """How many n-best lists are kzoo's, id for id, and the time of a sentence."""
    import numpy as np
    import tensorflow as tf

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
        "beam": beam_size,
        "sentences": len(sources),
        "same": int(same),
        "milliseconds": 1000 * seconds / len(sources),
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a kzoo transformer with its tokenizers")
    parser.add_argument("source", type=Path, nargs="?", help="file of sources, one a line")
    parser.add_argument("reference", type=Path, nargs="?", help="file of references")
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--beam_size", type=int, default=4)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    if (options.source is None) != (options.reference is None):
        parser.error("give both files, of sources and of references, or neither")
    main(options)
