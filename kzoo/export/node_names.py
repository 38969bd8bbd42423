"""A smaller saved_model.pb, without what nobody needs who only runs it."""

from pathlib import Path

FILE = "saved_model.pb"


def shorten(path):
    """Renames the nodes of all functions to n0, n1, ... in the SavedModel of a folder, and leaves
    out the shapes of what they give, which TensorFlow infers when it loads them.

    Signatures, arguments, results and functions keep their names; values do not change. Nearly
    half of a small model's saved_model.pb goes away. What a profiler or an error calls a node says nothing
    any more, so it is for models that are passed on. fingerprint.pb, of the file as it was, is
    removed; no reader needs it.

    Args:
        path: str or path of the folder of the SavedModel, which is changed in place.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    file = Path(path, FILE)
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in saved_model.meta_graphs:
        for function in graph.graph_def.library.function:
            _shorten_function(function)
    file.write_bytes(saved_model.SerializeToString())
    Path(path, "fingerprint.pb").unlink(missing_ok=True)


def _shorten_function(function):
    arguments = {argument.name for argument in function.signature.input_arg}
    free = (name for n in range(10**9) if (name := f"n{n}") not in arguments)
    short = {node.name: name for node, name in zip(function.node_def, free, strict=False)}

    def renamed(reference):
        """ "name", "name:output:0" or "^name", a control dependency."""
        sign = "^" if reference.startswith("^") else ""
        name, *rest = reference.removeprefix("^").split(":")
        return sign + ":".join([short.get(name, name), *rest])

    for node in function.node_def:
        node.name = short[node.name]
        node.attr.pop("_output_shapes", None)
        node.input[:] = [renamed(reference) for reference in node.input]
        if "_class" in node.attr:  # "loc:@name", where it is to be placed
            places = node.attr["_class"].list.s
            places[:] = [_with_place(place.decode(), renamed).encode() for place in places]
    for results in (function.ret, function.control_ret):
        for name in list(results):
            results[name] = renamed(results[name])


def _with_place(place, renamed):
    head, mark, name = place.partition("@")
    return head + mark + renamed(name) if mark else place
