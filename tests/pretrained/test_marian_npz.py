"""Marian's own files, written from a model of transformers by the published mapping of names."""

import json

import numpy as np
import pytest
import tensorflow as tf

from kzoo import pretrained
from kzoo.pretrained import marian, marian_npz

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytest.importorskip("sentencepiece")
import marian_models  # noqa: E402 (needs them)

YAML = """\
type: transformer
dim-emb: 12
enc-depth: 2
dec-depth: 3
transformer-heads: 3
transformer-ffn-activation: {activation}
transformer-preprocess: "{preprocess}"
transformer-postprocess: {postprocess}
transformer-postprocess-top: "{top}"
transformer-postprocess-emb: d
transformer-tied-layers:
  []
dim-vocabs:
  - 99
  - 99
vocabs:
  - /elsewhere/opus.vocab.yml
  - /elsewhere/opus.vocab.yml
"""
ORDER = {"preprocess": "", "postprocess": "dan", "top": "", "activation": "swish"}
NORMS = {
    "self_attn_layer_norm": "self_Wo", "encoder_attn_layer_norm": "context_Wo",
    "final_layer_norm": "ffn_ffn",
}  # fmt: skip


def arrays_of(state, when=""):
    """Marian's names and layouts of the weights of a MarianMTModel."""
    arrays = {"Wemb": state["model.shared.weight"][:-1].numpy()}
    arrays["decoder_ff_logit_out_b"] = state["final_logits_bias"][:, :-1].numpy()
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[2:3] != ["layers"]:
            continue
        path, part = f"{parts[1]}_l{int(parts[3]) + 1}_", parts[-1]
        array = tensor.numpy()
        if parts[4] in NORMS:
            kind = "scale" if part == "weight" else "bias"
            arrays[f"{path}{NORMS[parts[4]]}_ln_{kind}{when}"] = array[None]
            continue
        letter = "W" if part == "weight" else "b"
        array = array.T if part == "weight" else array[None]
        if parts[4].startswith("fc"):
            arrays[f"{path}ffn_{letter}{parts[4][2]}"] = array
        else:
            sublayer = "self" if parts[4] == "self_attn" else "context"
            arrays[f"{path}{sublayer}_{letter}{parts[5][0]}"] = array
    return arrays


def write(folder, arrays, **order):
    config = YAML.format(**{**ORDER, **order}).encode() + b"\0"
    whole = {**arrays, "special:model.yml": np.frombuffer(config, np.int8)}
    np.savez(folder / "model.npz", **whole)
    return folder / "model.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with both kinds of files, and the arrays of Marian's."""
    folder = tmp_path_factory.mktemp("marian")
    theirs = marian_models.write(folder, decoder_attention_heads=3)
    with torch.no_grad():  # Marian has no such row, and starts from zeros
        theirs.model.shared.weight[-1] = 0
    theirs.save_pretrained(folder)
    ids = json.loads((folder / "vocab.json").read_text())
    del ids["<pad>"]
    quoted = {piece: json.dumps(piece, ensure_ascii=False) for piece in ids}
    quoted |= {"</s>": "</s>", "'": "''''", "▁man": "▁man"}
    lines = [f"{quoted[piece]}: {n}\n" for piece, n in ids.items()]
    (folder / "opus.vocab.yml").write_text("".join(lines), encoding="utf-8")
    return folder, arrays_of(theirs.state_dict())


def test_its_logits_are_those_of_the_same_model_of_transformers(folder):
    folder, arrays = folder
    whole = marian.from_hugging_face(folder)
    model = pretrained.load(write(folder, arrays))
    assert model.source_tokenizer.get_vocabulary() == whole.source_tokenizer.get_vocabulary()
    inputs = {
        "source": whole.source_tokenizer.read(tf.constant(["Two men", ">>fra<< a", ""]), 40)[0],
        "target": np.array([[1, 4, 5], [1, 6, 7], [1, 5, 8]]),
    }
    ours, theirs = (each(inputs)["logits"].numpy() for each in (model, whole))
    np.testing.assert_allclose(ours[..., 2:], theirs[..., 2:], atol=1e-5)
    assert (tf.nn.softmax(ours)[..., :2] == 0).numpy().all()


def test_a_pre_norm_model_has_its_last_norms_and_a_head_of_its_own(folder):
    folder, arrays = folder
    dice = np.random.default_rng(0)
    arrays = {name.replace("_ln_scale", "_ln_scale_pre").replace("_ln_bias", "_ln_bias_pre"): x
              for name, x in arrays.items()}  # fmt: skip
    for stack in ("encoder", "decoder"):
        for part in ("scale", "bias"):
            arrays[f"{stack}_top_ln_{part}"] = dice.normal(size=(1, 12)).astype("float32")
    arrays["decoder_ff_logit_out_W"] = dice.normal(size=arrays["Wemb"].T.shape).astype("float32")
    order = {"preprocess": "n", "postprocess": "da", "top": "n", "activation": "relu"}
    model = marian_npz.from_npz(write(folder, arrays, **order))
    assert model.encoder.norm_first
    assert model.encoder.activation == "relu"
    np.testing.assert_array_equal(model.decoder.norm.gamma, arrays["decoder_top_ln_scale"][0])
    np.testing.assert_array_equal(model.head.weight[4:], arrays["decoder_ff_logit_out_W"].T[2:])


def test_other_models_and_damaged_files_are_refused_by_name(folder, tmp_path):
    folder, arrays = folder
    for order, message in (
        ({"postprocess": "dn"}, r"must be one of .*, got \('', 'dn', ''\)"),
        ({"activation": "gelu"}, "must be one of swish, relu, got 'gelu'"),
        ({"activation": "swish\ntransformer-decoder-autoreg: average-attention"}, "self-attention"),
        ({"activation": "swish\nenc-depth: 1"}, "alone|got also 'encoder_l2"),
    ):
        with pytest.raises(ValueError, match=message):
            marian_npz.from_npz(write(folder, arrays, **order))
    fewer = {name: x for name, x in arrays.items() if name != "encoder_l1_ffn_b1"}
    with pytest.raises(ValueError, match="must hold the weight 'encoder_l1_ffn_b1'"):
        marian_npz.from_npz(write(folder, fewer))
    path = write(folder, arrays)
    for name, content, error, message in (
        ("opus.vocab.yml", "a: 0\nb 1\n", ValueError, "yml:2: expected a piece, a colon and its"),
        ("opus.vocab.yml", "a: 0\nb: 2\n", ValueError, "must give the pieces the ids from 0 on"),
        ("opus.vocab.yml", "a: 0\nb: 1\n", ValueError, "must have the piece '</s>', got 2 others"),
        ("opus.vocab.yml", "</s>: 0\n<unk>: 1\nb: 2\n", ValueError, r"shape \(3, None\), got"),
        ("opus.vocab.yml", None, FileNotFoundError, "must hold the vocabularies"),
        ("source.spm", None, FileNotFoundError, "source.spm"),
        ("model.npz", path.read_bytes()[:-90].decode("latin-1"), ValueError, "whole .npz"),
        ("model.npz", "", ValueError, "must be a whole .npz of Marian"),
    ):
        for each in ("model.npz", "opus.vocab.yml", "source.spm", "target.spm"):
            (tmp_path / each).write_bytes((folder / each).read_bytes())
        if content is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(content.encode("latin-1"))
        with pytest.raises(error, match=message):
            pretrained.load(tmp_path / "model.npz")
