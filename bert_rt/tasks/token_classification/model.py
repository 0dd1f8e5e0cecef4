"""The model that labels tokens: scores of the labels for every token.

Attributes are named so that the keys of state_dict() are those of Hugging Face.

Shape suffixes: B sequences, S padded length, D hidden, C labels.

Source: Devlin et al. 2018, arXiv:1810.04805, section 5.3.
"""

from __future__ import annotations

from torch import Tensor, nn

from bert_rt.model.config import BertConfig
from bert_rt.model.encoder import BertModel, TaskModel, initialize
from bert_rt.tasks.token_classification.head_spec import HEAD

__all__ = ["BertForTokenClassification"]


class BertForTokenClassification(TaskModel):
    """BERT with scores of the labels for every token, no pooler.

    The scores at padding mean nothing.
    """

    spec = HEAD

    def __init__(self, config: BertConfig, num_labels: int = 2) -> None:
        """Make and initialize the model for num_labels labels."""
        super().__init__()
        self.num_labels = num_labels
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, num_labels)
        initialize(self.classifier.named_parameters(), config.initializer_range)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return logits_BSC; arguments as in BertModel.forward."""
        x_BSD, _ = self.bert(input_ids, attention_mask, token_type_ids)
        logits_BSC: Tensor = self.classifier(self.dropout(x_BSD))
        return logits_BSC
