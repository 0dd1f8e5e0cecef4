"""The model that answers questions: a start and an end score for every token.

Attributes are named so that the keys of state_dict() are those of Hugging Face.

Shape suffixes: B sequences, S padded length, D hidden.

Source: Devlin et al. 2018, arXiv:1810.04805, and its code, github.com/google-research/bert
(run_squad.py).
"""

from __future__ import annotations

from torch import Tensor, nn

from bert_rt.model.config import BertConfig
from bert_rt.model.encoder import BertModel, TaskModel, initialize
from bert_rt.tasks.question_answering.head_spec import HEAD

__all__ = ["BertForQuestionAnswering"]


class BertForQuestionAnswering(TaskModel):
    """BERT with a start and an end score for every token (paper, section 4.2), no pooler.

    The scores at padding mean nothing.
    """

    spec = HEAD

    def __init__(self, config: BertConfig) -> None:
        """Make and initialize the model."""
        super().__init__()
        self.bert = BertModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        initialize(self.qa_outputs.named_parameters(), config.initializer_range)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return (start_logits_BS, end_logits_BS); arguments as in BertModel.forward."""
        x_BSD, _ = self.bert(input_ids, attention_mask, token_type_ids)
        logits_BS2 = self.qa_outputs(x_BSD)
        return logits_BS2[..., 0], logits_BS2[..., 1]
