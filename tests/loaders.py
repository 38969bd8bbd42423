"""A script for a fresh process: both ways to load SavedModels that read bytes."""

# Arguments: the input's name, a content that is refused, the contents as JSON of base64, paths.
LOADERS = """
import base64, json, os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
import tensorflow as tf
import tensorflow_text

def plain(outputs):
    return {k: [t.decode() for t in v] if v.dtype == object else v.tolist()
            for k, v in outputs.items()}

argument, bad = sys.argv[1], sys.argv[2].encode()
contents = [base64.b64decode(x) for x in json.loads(sys.argv[3])]
answers = []
for path in sys.argv[4:]:
    model = tf.saved_model.load(path)
    outputs = model.signatures["serving_default"](**{argument: tf.constant(contents)})
    v2 = plain({k: v.numpy() for k, v in outputs.items()})
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], path)
        signature = graph.signature_def["serving_default"]
        outputs = {k: v.name for k, v in signature.outputs.items()}
        name = signature.inputs[argument].name
        v1 = plain(session.run(outputs, {name: contents}))
        try:
            session.run(outputs, {name: [*contents, bad]})
            v1["error"] = None
        except tf.errors.InvalidArgumentError as error:
            v1["error"] = error.message
        assert plain(session.run(outputs, {name: contents}))["text"] == v1["text"]  # it lives on
    answers.append([v2, v1])
assert not {"kzoo", "keras_nlp", "keras_hub"} & set(sys.modules)
print(json.dumps(answers))
"""
