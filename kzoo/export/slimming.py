"""A smaller saved_model.pb, with the same functions, for a model that is passed on."""

from pathlib import Path

FILE = "saved_model.pb"


def slim(path):
    """Rewrites the functions in the SavedModel of a folder: a node for each thing that is computed,
    named n0, n1, ..., without the shapes of what it gives; signatures say those of their results.

    Signatures, arguments, results and functions keep their names; values do not change. More than
    half of a small model's saved_model.pb goes away, and a third of the nodes that are to be
    loaded. What a profiler or an error calls a node says nothing any more. fingerprint.pb, of the
    file as it was, is removed; no reader needs it.

    Args:
        path: str or path of the folder of the SavedModel, which is changed in place.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    file = Path(path, FILE)
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in saved_model.meta_graphs:
        renamed = {
            function.signature.name: _slim_function(function)
            for function in graph.graph_def.library.function
        }
        for node in graph.object_graph_def.nodes:
            if node.HasField("captured_tensor"):  # what a gradient of one's own reads
                tensor = node.captured_tensor
                tensor.name = renamed[tensor.concrete_function](tensor.name)
    whole = file.with_name(f".{FILE}.tmp")
    whole.write_bytes(saved_model.SerializeToString())
    whole.replace(file)
    Path(path, "fingerprint.pb").unlink(missing_ok=True)


def _slim_function(function):
    """Returns what a tensor of the function is called now, as a function of its name before."""
    arguments = {argument.name for argument in function.signature.input_arg}
    free = (name for n in range(10**9) if (name := f"n{n}") not in arguments)
    short, first, kept = {}, {}, []

    def renamed(reference):
        """ "name", "name:output:0" or "^name", a control dependency."""
        sign = "^" if reference.startswith("^") else ""
        name, *rest = reference.removeprefix("^").split(":")
        return sign + ":".join([short.get(name, name), *rest])

    for node in _inputs_first(function.node_def):
        node.attr.pop("_output_shapes", None)
        node.input[:] = [renamed(reference) for reference in node.input]
        value = _value(node)
        if value in first:
            short[node.name] = first[value]
            continue
        short[node.name] = next(free)
        if value is not None:
            first[value] = short[node.name]
        kept.append(node)
    for node in kept:
        node.name = short[node.name]
        if "_class" in node.attr:  # "loc:@name", where it is to be placed
            places = node.attr["_class"].list.s
            places[:] = [_with_place(place.decode(), renamed).encode() for place in places]
    for argument in function.arg_attr.values():
        argument.attr.pop("_user_specified_name", None)
    for results in (function.ret, function.control_ret):
        for name in list(results):
            results[name] = renamed(results[name])
    del function.node_def[:]
    function.node_def.extend(kept)
    return renamed


def _inputs_first(nodes):
    """Copies of the nodes of a function, each behind those that it reads."""
    named = {node.name: node for node in nodes}
    done = {}
    for last in named:
        path = [last]
        while path:
            name = path[-1]
            read = (each.removeprefix("^").split(":")[0] for each in named[name].input)
            missing = [each for each in read if each in named and each not in done]
            if missing:
                path += missing
                continue
            path.pop()
            if name not in done:
                done[name] = type(named[name])()
                done[name].CopyFrom(named[name])
    return done.values()


def _value(node):
    """What a node computes, so that two of one value are the same; None for an op with a state, or
    one that has to wait for others."""
    from tensorflow.python.framework import op_def_registry

    op = op_def_registry.get(node.op)
    waits = any(reference.startswith("^") for reference in node.input)
    if op is None or op.is_stateful or waits:
        return None
    attributes = {
        name: value.SerializeToString(deterministic=True) for name, value in node.attr.items()
    }
    return node.op, node.device, tuple(node.input), tuple(sorted(attributes.items()))


def _with_place(place, renamed):
    head, mark, name = place.partition("@")
    return head + mark + renamed(name) if mark else place
