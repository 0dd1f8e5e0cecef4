"""The architectures that are BERT but for names, embeddings and the classifier's first layer.

One row describes each: what its config.json and its weights are called, and where its arithmetic
differs. A checkpoint is renamed to BERT's names when it is read and back when it is written
(checkpoint, weights), so that one model (heads) serves all. The next architecture of this kind is
one more row.

Sources: DistilBERT, Sanh et al. 2019, arXiv:1910.01108; RoBERTa, Liu et al. 2019,
arXiv:1907.11692; XLM-RoBERTa, Conneau et al. 2019, arXiv:1911.02116; CamemBERT, Martin et al.
2019, arXiv:1911.03894; ELECTRA, Clark et al. 2020, arXiv:2003.10555.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from bert_rt.errors import ConfigError

__all__ = [
    "ARCHITECTURES",
    "EXACT_GELU",
    "Architecture",
    "check_has_task",
    "supported_model_types",
]

# Names of the activation that is computed here, GELU with erf. All others that have "gelu" in their
# names are other functions: approximations, or clipped.
EXACT_GELU = ("gelu", "gelu_python")

_TASK_CLASSES = {
    "question-answering": ("ForQuestionAnswering",),
    "text-classification": ("ForSequenceClassification",),
    "encoder": ("Model",),
}
_ENCODER_PARTS = ("embeddings.", "embeddings_project.", "encoder.", "pooler.", "transformer.")
# What the heads of this family are called in Transformers, and what trainers save beside a model.
_HEADS = (
    "classifier.",
    "cls.",
    "criterion.",
    "discriminator_predictions.",
    "generator_lm_head.",
    "generator_predictions.",
    "lm_head.",
    "loss.",
    "loss_fct.",
    "pooler.",
    "pre_classifier.",
    "qa_outputs.",
    "sequence_summary.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "vocab_transform.",
)
# Constants that old releases of Transformers wrote among the weights.
_BUFFERS = ("position_ids", "token_type_ids")


# In front of keys of another head that has the name of one of the model's own.
FOREIGN = "another head's "


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One row: what an architecture has otherwise than BERT.

    Attributes:
        class_prefix: What the names of its classes in Transformers start with.
        prefix: What the keys of its encoder's weights start with.
        tasks: Task to the endings of the class names that have it, the one that is written first.
        renames: Parts of weight keys, (its own, BERT's); replaced in this order both ways.
        classifier_renames: The same for the start of the keys of a sequence classifier. Whatever
            comes before its last layer is what BERT calls the pooler.
        config_names: Field of BertConfig to its name in config.json, where it is another.
        defaults: Field of BertConfig to what config.json means where it is silent.
        fixed: Field of BertConfig to its only value; config.json does not have it.
        token_types: "learned" by token_type_ids; "first" where every token has the first row of
            the table and token_type_ids are not read; "none" where there is no table.
        positions_follow_padding: Whether the first position is pad_token_id + 1 and not 0.
        has_embedding_size: Whether embeddings may be narrower than the encoder and be projected.
        has_pooler: Whether the bare encoder ends with a pooler.
        pooler_act: Between the pooler's projection and a classifier: "tanh", "relu" or "gelu".
    """

    class_prefix: str
    prefix: str
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _TASK_CLASSES)
    renames: tuple[tuple[str, str], ...] = ()
    classifier_renames: tuple[tuple[str, str], ...] = ()
    config_names: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    token_types: str = "learned"
    positions_follow_padding: bool = False
    has_embedding_size: bool = False
    has_pooler: bool = False
    pooler_act: str = "tanh"

    def class_name(self, task: str) -> str | None:
        """Return the name of a task's class in Transformers; None where it has no such task."""
        endings = self.tasks.get(task)
        return None if endings is None else self.class_prefix + endings[0]

    def to_bert_key(self, key: str, task: str) -> str:
        """Return what BERT calls a weight.

        Args:
            key: The weight's key in this architecture, in front of it the prefix or, as in files
                of a bare encoder, nothing.
            task: What the model shall do; a classifier's head has names of its own.

        Returns:
            The key in a BERT model of that task, "bert." in front of the encoder's; a key that
            such a model does not have stays as it is, or, where it would be taken for another
            one, gets FOREIGN in front.
        """
        # Checkpoints converted from TensorFlow call the layer norm's parameters gamma and beta.
        key = key.replace("LayerNorm.gamma", "LayerNorm.weight")
        key = key.replace("LayerNorm.beta", "LayerNorm.bias")
        is_classifier = task == "text-classification" and bool(self.classifier_renames)
        if is_classifier:
            for own, bert in self.classifier_renames:
                if key.startswith(own):
                    return bert + key.removeprefix(own)
            # A head for tokens is one layer of the name that BERT has for the last of two.
            if any(key.startswith(bert) for _, bert in self.classifier_renames):
                return FOREIGN + key
        bare = key.removeprefix(f"{self.prefix}.")
        # A pretrained encoder's pooler is no start for a classifier that has a layer of its own.
        if not bare.startswith(_ENCODER_PARTS) or (is_classifier and bare.startswith("pooler.")):
            return key
        for own, bert in self.renames:
            bare = bare.replace(own, bert)
        return f"bert.{bare}"

    def is_encoder_key(self, key: str) -> bool:
        """Tell whether a key that to_bert_key returned is one of the encoder, pooler left out."""
        prefixes = ("bert.", f"{self.prefix}.")
        return key.startswith(prefixes) and not self._bare(key).startswith("pooler.")

    def is_leftover(self, key: str) -> bool:
        """Tell whether a weight that a model has no place for may be left out.

        Args:
            key: What to_bert_key returned.

        Returns:
            Whether it is of a head that a model of this family may have had before, or a constant.
        """
        bare = self._bare(key)
        is_buffer = bare.removeprefix("embeddings.") in _BUFFERS
        return is_buffer or bare.startswith((*_HEADS, FOREIGN))

    def _bare(self, key: str) -> str:
        return key.removeprefix("bert.").removeprefix(f"{self.prefix}.")

    def from_bert_key(self, key: str, task: str) -> str:
        """Return what this architecture calls a weight.

        Args:
            key: The key in a BERT model of that task, with or without "bert." in front.
            task: What the model does.

        Returns:
            The key in this architecture's class for the task.
        """
        if task == "text-classification":
            for own, bert in self.classifier_renames:
                if key.startswith(bert):
                    return own + key.removeprefix(bert)
        for own, bert in self.renames:
            key = key.replace(bert, own)
        return f"{self.prefix}.{key.removeprefix('bert.')}" if key.startswith("bert.") else key


_ROBERTA = Architecture(
    class_prefix="Roberta",
    prefix="roberta",
    classifier_renames=(
        ("classifier.dense.", "bert.pooler.dense."),
        ("classifier.out_proj.", "classifier."),
    ),
    defaults={"vocab_size": 50265, "pad_token_id": 1},
    token_types="first",
    positions_follow_padding=True,
    has_pooler=True,
)

# By model_type, as config.json has it.
ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "bert": Architecture(
            class_prefix="Bert",
            prefix="bert",
            tasks=_TASK_CLASSES | {"pretraining": ("ForPreTraining", "ForMaskedLM")},
            has_pooler=True,
        ),
        "roberta": _ROBERTA,
        "xlm-roberta": replace(_ROBERTA, class_prefix="XLMRoberta", defaults={"pad_token_id": 1}),
        "camembert": replace(_ROBERTA, class_prefix="Camembert", defaults={"pad_token_id": 1}),
        "distilbert": Architecture(
            class_prefix="DistilBert",
            prefix="distilbert",
            # The longer of BERT's names first, since the shorter ones are within them.
            renames=(
                ("transformer.layer.", "encoder.layer."),
                (".attention.q_lin.", ".attention.self.query."),
                (".attention.k_lin.", ".attention.self.key."),
                (".attention.v_lin.", ".attention.self.value."),
                (".attention.out_lin.", ".attention.output.dense."),
                (".sa_layer_norm.", ".attention.output.LayerNorm."),
                (".ffn.lin1.", ".intermediate.dense."),
                (".ffn.lin2.", ".output.dense."),
                (".output_layer_norm.", ".output.LayerNorm."),
            ),
            classifier_renames=(("pre_classifier.", "bert.pooler.dense."),),
            config_names={
                "hidden_size": "dim",
                "num_hidden_layers": "n_layers",
                "num_attention_heads": "n_heads",
                "intermediate_size": "hidden_dim",
                "hidden_act": "activation",
                "hidden_dropout_prob": "dropout",
                "attention_probs_dropout_prob": "attention_dropout",
            },
            defaults={"num_hidden_layers": 6},
            fixed={"type_vocab_size": 0, "layer_norm_eps": 1e-12},
            token_types="none",
            pooler_act="relu",
        ),
        "electra": Architecture(
            class_prefix="Electra",
            prefix="electra",
            classifier_renames=_ROBERTA.classifier_renames,
            defaults={
                "embedding_size": 128,
                "hidden_size": 256,
                "num_attention_heads": 4,
                "intermediate_size": 1024,
            },
            has_embedding_size=True,
            pooler_act="gelu",
        ),
    }
)


def supported_model_types() -> str:
    """Return the names of all architectures, for messages."""
    return ", ".join(ARCHITECTURES)


def check_has_task(model_type: object, task: str) -> None:
    """Check that an architecture has a model of a task.

    Args:
        model_type: The architecture, as config.json names it; any value.
        task: As in Architecture.tasks.

    Raises:
        ConfigError: There is no such architecture, or it has no model of the task.
    """
    known = [name for name, row in ARCHITECTURES.items() if task in row.tasks]
    if model_type not in known:
        raise ConfigError(
            f"model_type: got {model_type!r}, want an architecture that has a model of {task}: "
            f"{', '.join(known)}"
        )
