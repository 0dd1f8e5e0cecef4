"""The model that classifies texts: scores of a whole sequence.

Attributes are named so that the keys of state_dict() are those of Hugging Face.

Shape suffixes: B sequences, D hidden, C classes.

Source: Devlin et al. 2018, arXiv:1810.04805, and its code, github.com/google-research/bert
(run_classifier.py).
"""

from __future__ import annotations

from torch import Tensor, nn

from bert_rt.model.config import BertConfig
from bert_rt.model.encoder import BertModel, TaskModel, initialize
from bert_rt.tasks.text_classification.head_spec import HEAD

__all__ = ["BertForSequenceClassification"]


class BertForSequenceClassification(TaskModel):
    """BERT with class scores for a whole sequence (paper, section 4.1)."""

    spec = HEAD

    def __init__(self, config: BertConfig, num_labels: int = 2) -> None:
        """Make and initialize the model for num_labels classes."""
        super().__init__()
        self.num_labels = num_labels
        self.bert = BertModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, num_labels)
        initialize(self.classifier.named_parameters(), config.initializer_range)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return logits_BC; arguments as in BertModel.forward."""
        _, pooled_BD = self.bert(input_ids, attention_mask, token_type_ids)
        logits_BC: Tensor = self.classifier(self.dropout(pooled_BD))
        return logits_BC
