"""The wire format of protocol buffers, for the few protos that kzoo reads or writes by number.

Generated code for them exists, but imports only with the protobuf that it was made for:
sentencepiece's needs protobuf 7, KServe's needs one below 7. The format does not change:
https://protobuf.dev/programming-guides/encoding/
"""


def field(number, value):
    """A field of bytes, text or another message in the wire format.

    Args:
        number: int, the field's number in its message.
        value: bytes.

    Returns:
        bytes.
    """
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def fields(message):
    """Yields the number and all bytes, number included, of each field of a message.

    Joined again, they are a message. `field` makes new ones; for those it made, and others of
    bytes, `content` gives the value.

    Args:
        message: bytes.

    Raises:
        ValueError: `message` holds a group, or ends in the middle of a field.
    """
    start = 0
    while start < len(message):
        try:
            key, end = _read_varint(message, start)
            if key & 7 == 2:
                size, end = _read_varint(message, end)
                end += size
            elif key & 7 == 0:
                _, end = _read_varint(message, end)
            else:
                end += {1: 8, 5: 4}[key & 7]  # fixed64, fixed32
        except (IndexError, KeyError):
            end = len(message) + 1
        if end > len(message):
            raise ValueError(
                f"`message` must be a whole proto without groups, not at byte {start}."
            )
        yield key >> 3, message[start:end]
        start = end


def content(field):
    """The value, bytes, of a field of bytes that `fields` gave."""
    _, start = _read_varint(field, 0)
    _, start = _read_varint(field, start)
    return field[start:]


def _varint(value):
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    low = value & 127
    return bytes([low]) if value == low else bytes([low | 128]) + _varint(value >> 7)


def _read_varint(message, start):
    value, shift = 0, 0
    while True:
        byte = message[start]
        value, shift, start = value | (byte & 127) << shift, shift + 7, start + 1
        if byte < 128:
            return value, start
