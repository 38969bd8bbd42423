"""Time to translate a batch: the SavedModel beside CTranslate2, KerasHub and Hugging Face Marian.

    python -m benchmarks.decoding                                      # all of it, about 15 minutes
    python -m benchmarks.decoding --size tiny --batch 1 --beam 4
    python -m benchmarks.decoding --engines kzoo,ctranslate2 --json decoding.json

    tiny    4 + 4 layers, D 128, hidden  256, 4 heads, V 10,000
    base    6 + 6 layers, D 512, hidden 2048, 8 heads, V 32,000

Sources have 20 words, outputs 30 tokens. The models are untrained: what they say means nothing, and
takes as long as sense would. kzoo and CTranslate2 have the same weights, by `to_ctranslate2`; the
others have their own random ones, of the same sizes.

    kzoo            the loaded SavedModel, from strings to strings: `serving_default`, also of an
                    export in bfloat16, and `serving_xla` after its compilation
    ctranslate2     ctranslate2.Translator on tokens, float32 and int8
    keras_hub       BartSeq2SeqLM.generate on ids
    marian          transformers.MarianMTModel.generate on ids, PyTorch

All engines have two threads, live in one process and take turns, round by round; the table shows
medians in milliseconds for the batch. Absolute times mean little on a shared machine. The ratio is
that of the fastest other engine to kzoo's faster signature, all in float32.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import figures

SOURCE_WORDS, TARGET_TOKENS, THREADS = 20, 30, 2
OTHERS = ("keras_hub", "marian")  # beside CTranslate2
PACKAGES = ("ctranslate2", "keras-hub", "transformers", "torch")


@dataclasses.dataclass(frozen=True)
class Size:
    """A transformer."""

    layers: int  # in the encoder, and again in the decoder
    units: int
    heads: int
    hidden_units: int
    vocabulary_size: int


SIZES = {"tiny": Size(4, 128, 4, 256, 10_000), "base": Size(6, 512, 8, 2048, 32_000)}


def sources(size, rows):
    """Ids (rows, 20) of random words."""
    import numpy as np

    return np.random.default_rng(1).integers(4, size.vocabulary_size, (rows, SOURCE_WORDS))


# Each engine is a function (name of the size, its Size, folder, beam size) -> {name: translate},
# where `translate(ids)` translates a batch of rows of word ids.


def kzoo_and_ctranslate2(name, size, folder, beam, wanted):
    import tensorflow as tf

    import kzoo
    from kzoo import export

    words = [f"w{i}" for i in range(4, size.vocabulary_size)]
    tokenizer = kzoo.WordTokenizer(["<pad>", "<s>", "</s>", "<unk>", *words])
    model = getattr(kzoo.zoo, f"transformer_{name}")(tokenizer, tokenizer)
    model({"source": tf.ones((1, 3), tf.int32), "target": tf.ones((1, 2), tf.int32)})
    engines = {}

    if "kzoo" in wanted:

        def answer(signature, precision="float32"):
            path = folder / precision
            if not path.exists():
                export.save(
                    model, path, beam_size=beam, max_length=TARGET_TOKENS, precision=precision
                )
            served = tf.saved_model.load(str(path))

            def translate(ids):
                texts = [" ".join(f"w{i}" for i in row) for row in ids]
                answers = run(text=tf.constant(texts))["text"].numpy()
                return [len(text.split()) for text in answers]

            run = served.signatures[signature]
            run.keep = served  # the signatures do not keep it alive
            return translate

        engines |= {f"kzoo {s}": answer(s) for s in ("serving_default", "serving_xla")}
        engines["kzoo serving_default bfloat16"] = answer("serving_default", "bfloat16")

    if "ctranslate2" in wanted:
        import ctranslate2

        def engine(quantization):
            path = folder / f"ctranslate2-{quantization}"
            export.to_ctranslate2(model, path, quantization)
            translator = ctranslate2.Translator(
                str(path), inter_threads=1, intra_threads=THREADS, compute_type=quantization
            )

            def translate(ids):
                tokens = [[*(f"w{i}" for i in row), "</s>"] for row in ids]
                found = translator.translate_batch(
                    tokens,
                    beam_size=beam,
                    max_batch_size=0,
                    length_penalty=0.6,
                    max_decoding_length=TARGET_TOKENS,
                )
                return [len(each.hypotheses[0]) for each in found]

            return translate

        engines |= {f"ctranslate2 {q}": engine(q) for q in ("float32", "int8")}
    return engines


def keras_hub_engine(size, beam):
    import keras_hub
    import numpy as np

    backbone = keras_hub.models.BartBackbone(
        size.vocabulary_size, size.layers, size.heads, size.units, size.hidden_units
    )
    model = keras_hub.models.BartSeq2SeqLM(backbone)
    sampler = keras_hub.samplers.BeamSampler(num_beams=beam) if beam > 1 else "greedy"
    model.compile(sampler=sampler)

    def translate(ids):
        rows = len(ids)
        target = np.zeros((rows, TARGET_TOKENS + 1), "int32")
        target[:, 0] = 1
        inputs = {
            "encoder_token_ids": ids.astype("int32"),
            "encoder_padding_mask": np.ones(ids.shape, bool),
            "decoder_token_ids": target,
            "decoder_padding_mask": target > 0,
        }
        output = model.generate(inputs, stop_token_ids=None)
        return [np.shape(output["decoder_token_ids"])[-1] - 1] * rows

    return {"keras_hub": translate}


def marian_engine(size, beam):
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    config = transformers.MarianConfig(
        vocab_size=size.vocabulary_size,
        d_model=size.units,
        encoder_layers=size.layers,
        decoder_layers=size.layers,
        encoder_attention_heads=size.heads,
        decoder_attention_heads=size.heads,
        encoder_ffn_dim=size.hidden_units,
        decoder_ffn_dim=size.hidden_units,
        max_position_embeddings=512,
        pad_token_id=0,
        eos_token_id=2,
        forced_eos_token_id=None,
        decoder_start_token_id=1,
    )
    model = transformers.MarianMTModel(config).eval()

    def translate(ids):
        with torch.no_grad():
            output = model.generate(
                input_ids=torch.tensor(ids),
                attention_mask=torch.ones(ids.shape, dtype=torch.long),
                num_beams=beam,
                do_sample=False,
                max_new_tokens=TARGET_TOKENS,
                min_new_tokens=TARGET_TOKENS,
            )
        return [output.shape[1] - 1] * len(ids)

    return {"marian": translate}


def milliseconds(translate, ids):
    start = time.perf_counter()
    translate(ids)
    return 1000 * (time.perf_counter() - start)


def measured(name, batch, beam, options):
    """Returns {engine: median milliseconds} for one row of the table."""
    size, wanted = SIZES[name], options.engines.split(",")
    ids = sources(size, batch)
    with tempfile.TemporaryDirectory() as folder:
        engines = kzoo_and_ctranslate2(name, size, Path(folder), beam, wanted)
        if "keras_hub" in wanted:
            engines |= keras_hub_engine(size, beam)
        if "marian" in wanted:
            engines |= marian_engine(size, beam)
        lengths = {}
        for engine, translate in engines.items():
            lengths[engine] = statistics.mean(translate(ids))  # and what it compiles
        times = {engine: [] for engine in engines}
        for _ in range(options.rounds):
            for engine, translate in engines.items():
                times[engine].append(milliseconds(translate, ids))
    return {engine: statistics.median(each) for engine, each in times.items()}, lengths


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=sorted(SIZES), help="one size only")
    parser.add_argument("--batch", type=int, help="one batch size only; else 1 and 32")
    parser.add_argument("--beam", type=int, help="one beam size only; else 1 and 4")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each engine takes")
    parser.add_argument(
        "--engines", default="kzoo,ctranslate2,keras_hub,marian", help="which, with commas"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

    found = {"facts": figures.facts("decoding", *PACKAGES), "rows": []}

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    for name in [options.size] if options.size else SIZES:
        for beam in [options.beam] if options.beam else (1, 4):
            for batch in [options.batch] if options.batch else (1, 32):
                times, lengths = measured(name, batch, beam, options)
                found["rows"].append({"size": name, "batch": batch, "beam": beam, "ms": times})
                figures.write(found, options.json, is_over=False)
                said = ", ".join(f"{engine} {ms:,.0f} ms" for engine, ms in times.items())
                print(f"{name}, batch {batch}, beam {beam}: {said}", file=sys.stderr, flush=True)
                odd = {e: n for e, n in lengths.items() if abs(n - TARGET_TOKENS) > 1}
                if odd:
                    print(f"(mean lengths other than {TARGET_TOKENS}: {odd})", file=sys.stderr)
    figures.write(found, options.json)
    print(table(found))


def table(found):
    """The table of README.md, out of what `--json` has written.

    A ratio says how many times as long as kzoo's faster signature in float32 the fastest other
    engine in float32 takes.
    """
    engines = list(found["rows"][0]["ms"])
    own = [engine for engine in engines if engine in ("kzoo serving_default", "kzoo serving_xla")]
    others = [engine for engine in engines if engine in ("ctranslate2 float32", *OTHERS)]
    compared = own and others
    rows = []
    for row in found["rows"]:
        ms = row["ms"]
        cells = [row["size"], row["batch"], row["beam"], *(f"{ms[e]:,.0f}" for e in engines)]
        if compared:
            cells.append(f"{min(ms[e] for e in others) / min(ms[e] for e in own):.2f}")
        rows.append(cells)
    header = ["model", ">batch", ">beam", *(f">{engine}" for engine in engines)]
    if compared:
        header.append(">best other / best kzoo, float32")
    return figures.table(header, rows, found["facts"])


if __name__ == "__main__":
    main()
