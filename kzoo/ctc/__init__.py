"""Connectionist temporal classification: loss, prefix search, joint decoding, alignment."""

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
