"""The module: two numbers a text, of the pooled first token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bert_rt.model.config import BertConfig
from bert_rt.model.encoder import BertModel, TaskModel, initialize
from tests.support.toy_task.task import HEAD, NUM_SHARES


class BertForWordShares(TaskModel):
    spec = HEAD

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = BertModel(config)
        self.shares = nn.Linear(config.hidden_size, NUM_SHARES)
        initialize(self.shares.named_parameters(), config.initializer_range)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        _, pooled_BD = self.bert(input_ids, attention_mask, token_type_ids)
        shares_BC: torch.Tensor = self.shares(pooled_BD)
        return shares_BC
