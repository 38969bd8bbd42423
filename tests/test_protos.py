"""Fields in and out, checked against protobuf's own code."""

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from kzoo import protos


@given(st.dictionaries(st.text(max_size=300), st.binary(max_size=300), max_size=5))
def test_fields_are_those_that_protobuf_writes(features):
    example = tf.train.Example()
    for name, value in features.items():
        example.features.feature[name].bytes_list.value.append(value)
    message = example.SerializeToString()
    joined = b""
    for number, field in protos.fields(message):
        assert protos.field(number, protos.content(field)) == field
        joined += field
    assert joined == message


def test_fields_of_numbers_are_stepped_over():
    tensor = tf.make_tensor_proto([1.5, -2.0], shape=[2])
    tensor.version_number = 300
    message = tensor.SerializeToString()
    assert b"".join(field for _, field in protos.fields(message)) == message
    assert [number for number, _ in protos.fields(message)] == [1, 2, 3, 4]
    fixed = bytes([1 << 3 | 1, *range(8), 2 << 3 | 5, *range(4)])
    assert [len(field) for _, field in protos.fields(fixed)] == [9, 5]


@pytest.mark.parametrize("message", [b"\x0a\x02a", b"\x0a", b"\x0b\x0c", b"\x09abc", b"\x80"])
def test_half_a_message_is_refused(message):
    with pytest.raises(ValueError, match="`message` must be a whole proto without groups, not at"):
        list(protos.fields(message))
