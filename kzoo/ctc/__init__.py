"""Connectionist temporal classification: loss, prefix search, joint decoding, alignment."""

from kzoo.ctc.alignment import ctc_align
from kzoo.ctc.hypotheses import CTCBeams, ctc_beams, ctc_result
from kzoo.ctc.joint import joint_step, prefix_step
from kzoo.ctc.loss import BLANK_ID, ctc_loss
from kzoo.ctc.prefix_search import ctc_advance, ctc_beam_search, ctc_greedy_search

__all__ = [
    "BLANK_ID",
    "CTCBeams",
    "ctc_advance",
    "ctc_align",
    "ctc_beam_search",
    "ctc_beams",
    "ctc_greedy_search",
    "ctc_loss",
    "ctc_result",
    "joint_step",
    "prefix_step",
]
