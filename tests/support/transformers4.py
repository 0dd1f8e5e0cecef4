"""Run by the python of an environment with Transformers 4.57.6: tokens of many checkpoints.

Reads JSON from standard input: {"directories": [...], "texts": [...], "saved": {from: to}}. Writes
one JSON object a directory: {"error": "..."} where Transformers refuses it, else ids, tokens and
roles. The saved ones are what Transformers writes itself, after tokens were added.
"""

import json
import shutil
import sys


def tokens_of(directory, texts):
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory)
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        return {
            "class": type(tokenizer).__name__,
            "is_fast": tokenizer.is_fast,
            "ids": ids,
            "tokens": [tokenizer.convert_ids_to_tokens(row) for row in ids],
            "pair": tokenizer("a", "b")["input_ids"],
            "second_type": tokenizer("a", "b").get("token_type_ids", [0])[-1],
            "pair_parts": [
                tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "b")
            ],
            "mask": tokenizer.mask_token_id,
            "num_ids": 1 + max(tokenizer.get_vocab().values()),
        }
    # Whatever it raises is a refusal; the library raises bare exceptions, and panics of Rust.
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def save(directory, to):
    """Add tokens as users do, and save; nothing where the tokenizer cannot be read."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory)
        tokenizer.add_tokens(["covid20", "@other"])
        tokenizer.add_special_tokens({"additional_special_tokens": ["[Q]", "[/Q]"]})
        tokenizer.save_pretrained(to)
    except BaseException as error:
        print(f"{directory}: {error}", file=sys.stderr)
        return
    shutil.copy(f"{directory}/config.json", to)


def main():
    request = json.load(sys.stdin)
    for directory, to in request.get("saved", {}).items():
        save(directory, to)
    # The library prints to standard output, too.
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        for directory in request["directories"]:
            out.write(json.dumps(tokens_of(directory, request["texts"])) + "\n")


main()
