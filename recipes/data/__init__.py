"""Data of the recipes: files and packages, and splits that hold out whole groups.

    pairs*      parallel texts         load_pairs -> Splits of Pairs; load_languages: of several
    pronunciations*  words with phonemes   load_pronunciations -> Splits of Words
    summaries*  texts and summaries    load_summaries -> Splits of Pairs
    clips*      transcribed audio      load_clips -> Splits of Clips;       frames: their features
    pictures*   captioned pictures     load_pictures -> Splits of Pictures; regions: what is seen;
                                                                  captions: their form
    scenes, drawings                   pictures of emoji, drawn;  weights: encoders from packages
    sources, cleaning*, spans          several sources with weights; what harms a training, by
                                                                  which rules; extractive targets
    files, packages, splits, examples  what they share

The rules of all readers: what is skipped is counted in `skipped`, by reason, never silently; what
breaks its own format is a `ValueError` with path and line; whole groups are held out, never rows;
what was downloaded or computed is kept in `files.cache_dir()`. No module here imports TensorFlow
or Keras before a function needs it.
"""
