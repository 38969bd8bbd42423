"""What all runs share, in the order of a run.

    processor  what a run is measured on, and the precision it computes in
    folder     a run's folder, to go on from with --resume
    building   seed, vocabulary, examples that fit, optimizer, first weights
    starting   from a trained model: --init_from, --freeze, --new_vocabulary
    teaching   flags in place of teacher forcing and one dropout
    subword_sampling   --subword_sampling: more than one way to cut a text
    scaling    --accumulate, --ema, --recompute: trainings larger than a step's memory
    fitting    `fit` within a budget, the better weights
    planning   --dry_run: what a run would take
    watching   --tensorboard, --profile
    workers    --workers: training on several machines
    scoring    answers of the SavedModel, their scores, its card, pictures, a last proof

Beside these, for some kinds of data, imported from their modules: training_pairs, training_clips
and training_pictures (what a model is trained on), answering (a model in training as a function to
texts), languages (several target languages), mixing (how often languages and sources are read),
from_disk (--on_disk), scored_parts (the clips or pictures that are scored), the scores of each
recipe (translation_scores, speech_scores ...), and trials (what the studies share). They read
further fields of the recipe's config.

    check_places(config)                                   # before data are read
    with opened_run(config, folder, fingerprint(texts)) as run:     # or found with --resume
        with computing_in(config.precision):
            model = ...
        compile_model(model, config.learning_rate, config.warmup_steps)
        batches = make_weights(model, dataset, config.model)
        fit(model, batches, valid_batches, score, run, config, monitor="val_bleu")
        saved = kzoo.export.save(..., card={...} | provenance("translation", config, minutes))
        show_answers(saved.path, texts)
    say_how_to_ask(saved.path, "a text")

A recipe's config has the fields `epochs`, `minutes`, `patience`, `average`, `warmup_steps`,
`precision`, `output`, `resume`, `save_minutes`, `dry_run`, `tensorboard` and `profile`. Nothing
here imports TensorFlow, Keras or matplotlib before a function needs it, so that `--help`, a wrong
flag and a path that does not exist are answered at once; the recipes keep to that too.
"""

from recipes.runs.building import (
    compile_model,
    learn_tokenizer,
    left_out,
    make_weights,
    seed,
    spread_rows,
)
from recipes.runs.fitting import (
    AVERAGE_HELP,
    EPOCH_BATCHES,
    PROFILE_HELP,
    TENSORBOARD_HELP,
    choose_weights,
    fit,
    train,
)
from recipes.runs.folder import (
    FIRST,
    MEMBERS,
    RESUME_HELP,
    SAVE_MINUTES_HELP,
    check_writable,
    close_run,
    fingerprint,
    is_fitted,
    open_journal,
    position,
    remove_run,
)
from recipes.runs.planning import DRY_RUN_HELP, end_dry_run
from recipes.runs.processor import (
    computing_in,
    machine,
)
from recipes.runs.scaling import ACCUMULATE_HELP, EMA_HELP, RECOMPUTE_HELP, check_scaling
from recipes.runs.scoring import (
    MAPS,
    WEIGHTS_HELP,
    answers_of,
    draw_attention,
    drawing,
    export_precision,
    in_table,
    provenance,
    said,
    say_how_to_ask,
    scored_split,
    scores_of,
    show_answers,
    show_files,
)
from recipes.runs.starting import (
    FREEZE_HELP,
    INIT_FROM_HELP,
    NEW_VOCABULARY_HELP,
    RATE,
    check_length_head,
    check_start,
    start,
    with_vocabulary,
)
from recipes.runs.subword_sampling import (
    SUBWORD_SAMPLING_HELP,
    check_subword_sampling,
    segmented,
)
from recipes.runs.teaching import (
    R_DROP_HELP,
    SAMPLING_DECAY_HELP,
    SAMPLING_STEPS_HELP,
    SCHEDULED_SAMPLING_HELP,
    check_teaching,
    compiled,
)
from recipes.runs.workers import (
    WORKER_HELP,
    WORKERS_HELP,
    addresses_of,
    check_places,
    check_workers,
    open_run,
    opened_run,
    workers_of,
)

__all__ = [
    "ACCUMULATE_HELP",
    "AVERAGE_HELP",
    "DRY_RUN_HELP",
    "EMA_HELP",
    "EPOCH_BATCHES",
    "FIRST",
    "FREEZE_HELP",
    "INIT_FROM_HELP",
    "MAPS",
    "MEMBERS",
    "NEW_VOCABULARY_HELP",
    "PROFILE_HELP",
    "RATE",
    "RECOMPUTE_HELP",
    "RESUME_HELP",
    "R_DROP_HELP",
    "SAMPLING_DECAY_HELP",
    "SAMPLING_STEPS_HELP",
    "SAVE_MINUTES_HELP",
    "SCHEDULED_SAMPLING_HELP",
    "SUBWORD_SAMPLING_HELP",
    "TENSORBOARD_HELP",
    "WEIGHTS_HELP",
    "WORKERS_HELP",
    "WORKER_HELP",
    "addresses_of",
    "answers_of",
    "check_length_head",
    "check_places",
    "check_scaling",
    "check_start",
    "check_subword_sampling",
    "check_teaching",
    "check_workers",
    "check_writable",
    "choose_weights",
    "close_run",
    "compile_model",
    "compiled",
    "computing_in",
    "draw_attention",
    "drawing",
    "end_dry_run",
    "export_precision",
    "fingerprint",
    "fit",
    "in_table",
    "is_fitted",
    "learn_tokenizer",
    "left_out",
    "machine",
    "make_weights",
    "open_journal",
    "open_run",
    "opened_run",
    "position",
    "provenance",
    "remove_run",
    "said",
    "say_how_to_ask",
    "scored_split",
    "scores_of",
    "seed",
    "segmented",
    "show_answers",
    "show_files",
    "spread_rows",
    "start",
    "train",
    "with_vocabulary",
    "workers_of",
]
