"""What tritonclient makes of a server; run by the environment that has it, on nothing of ours.

.venvclients/bin/python tests/support/serving/triton_client.py HOST:PORT
"""

import json
import sys

import numpy as np
import tritonclient.http as triton

QUESTIONS = ["Where did the cat sit?", "Who sat?"]
CONTEXT = "The caf\u00e9's cat sat on the mat in Paris."


def inputs(binary):
    """Make the tensors of a request."""
    made = []
    for name, texts in (("question", QUESTIONS), ("context", [CONTEXT])):
        tensor = triton.InferInput(name, [len(texts)], "BYTES")
        tensor.set_data_from_numpy(np.array(texts, dtype=object), binary_data=binary)
        made.append(tensor)
    return made


def values(result):
    """Return a result's tensors as plain values."""
    answers = [
        text.decode() if isinstance(text, bytes) else text for text in result.as_numpy("answer")
    ]
    rest = {name: result.as_numpy(name).tolist() for name in ("score", "start", "end")}
    return {"answer": answers, **rest}


def error_of(call):
    """Return the message of the client's own exception."""
    try:
        call()
    except triton.InferenceServerException as error:
        return [error.status(), error.message()]
    return None


def main():
    """Ask everything once and print it as JSON."""
    client = triton.InferenceServerClient(sys.argv[1])
    outputs = [triton.InferRequestedOutput("answer", binary_data=False)]
    outputs += [triton.InferRequestedOutput(name) for name in ("score", "start", "end")]
    found = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("default", "1"),
        "server": client.get_server_metadata(),
        "metadata": client.get_model_metadata("default"),
        "config": client.get_model_config("default"),
        "index": client.get_model_repository_index(),
        "binary": values(client.infer("default", inputs(True), request_id="7")),
        "json": values(client.infer("default", inputs(False), outputs=outputs)),
        "packed": values(
            client.infer(
                "default",
                inputs(True),
                request_compression_algorithm="gzip",
                timeout=20_000_000,
                priority=1,
            )
        ),
        "statistics": client.get_inference_statistics("default"),
        "unknown": error_of(lambda: client.infer("nothing", inputs(True))),
        "missing": error_of(lambda: client.infer("default", inputs(True)[:1])),
        "not_ready": client.is_model_ready("nothing"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
