"""What every export asks of a model before it begins."""


def check_copies_nothing(model, engine):
    """Raises ValueError if the model copies words of its source, which the engine cannot."""
    if model.copies:
        raise ValueError(
            f"`model` must be without a copier for {engine}, which has no ids of places of a "
            f"source, got a {type(model).__name__} with one: `export.save` can."
        )


def check_built(model):
    """Raises ValueError unless the model has both tokenizers and the weights of all its parts."""
    tokenizers = {
        "source_tokenizer": model.source_tokenizer,
        "target_tokenizer": model.target_tokenizer,
    }
    for name, tokenizer in tokenizers.items():
        if tokenizer is None:
            raise ValueError(f"`model` must have a {name}: an export takes and gives texts.")
    parts = {"encoder": model.encoder, "decoder": model.decoder, "head": model.head}
    for name, part in parts.items():
        if part is not None and not part.built:  # CTC alone has no decoder
            raise ValueError(
                f"`model` must be built, but its {name} has no weights yet: "
                "fit it, call it or load its weights first."
            )
