"""Split layers for training on a CPU: a passage goes through them once for all its questions.

The traced model runs them over whole sequences, under a mask that keeps question and passage apart.
Here they run over questions and passages as sequences of their own, and over a passage that stands
in several rows of a batch only once. The results are the same but for rounding.

Shape suffixes: B rows, S their padded length, Q padded length of the questions, U different
passages, P their padded length, D hidden.

Source: Cao et al. 2020, arXiv:2005.00697, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bert_rt.model.encoder import BertModel, padding_mask

__all__ = ["SharedPassagesModel", "use_shared_passages"]


class SharedPassagesModel(nn.Module):
    """Takes the place of a BertModel with split layers, and over its parameters."""

    def __init__(self, replaced: BertModel) -> None:
        """Take over the modules.

        Args:
            replaced: The model whose parameters, and their names, this one goes on with.
        """
        super().__init__()
        self.embeddings = replaced.embeddings
        self.embeddings_project = replaced.embeddings_project
        self.encoder = replaced.encoder
        self.pooler = replaced.pooler
        self.passage_position_offset = replaced.passage_position_offset

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Encode a padded batch; arguments and result as in BertModel.forward."""
        count_B = token_type_ids.sum(1)
        begin_B = attention_mask.sum(1) - count_B
        b, s = input_ids.shape
        # At least one place a passage, for rows that have none.
        question_width, passage_width = int(begin_B.max()), max(1, int(count_B.max()))
        place_P = torch.arange(passage_width)
        taken_BP = (begin_B[:, None] + place_P).clamp(max=s - 1)
        # Token ids are not negative: -1 tells padding from a token.
        passages_BP = input_ids.gather(1, taken_BP).masked_fill(place_P >= count_B[:, None], -1)
        passages_UP, row_B = torch.unique(passages_BP, dim=0, return_inverse=True)

        place_Q = torch.arange(question_width)
        question_BQD = self._lower(
            input_ids[:, :question_width], place_Q < begin_B[:, None], kind=0, first=0
        )
        passage_UPD = self._lower(
            passages_UP.clamp(min=0),
            passages_UP >= 0,
            kind=1,
            first=self.passage_position_offset,
        )
        states_ND = torch.cat([question_BQD.flatten(0, 1), passage_UPD.flatten(0, 1)])

        place_S = torch.arange(s)
        in_passage_BS = place_S - begin_B[:, None]
        question_BS = (torch.arange(b) * question_width)[:, None] + place_S
        passage_BS = (b * question_width + row_B * passage_width)[:, None] + in_passage_BS
        source_BS = torch.where(in_passage_BS < 0, question_BS, passage_BS)
        # Any state will do for padding, which nothing attends to.
        source_BS = source_BS.masked_fill(attention_mask == 0, 0)
        x_BSD = states_ND.index_select(0, source_BS.flatten()).unflatten(0, (b, s))
        mask = padding_mask(attention_mask, x_BSD.dtype)
        for layer in self.encoder.layer[self.encoder.num_split_layers :]:
            x_BSD = layer(x_BSD, mask)
        return x_BSD, None if self.pooler is None else self.pooler(x_BSD)

    def _lower(self, input_ids: Tensor, is_token: Tensor, *, kind: int, first: int) -> Tensor:
        """Run the embeddings and the split layers over texts of one kind, each alone."""
        place = torch.arange(input_ids.shape[1]).expand_as(input_ids)
        x: Tensor = self.embeddings(input_ids, torch.full_like(input_ids, kind), first + place)
        if self.embeddings_project is not None:
            x = self.embeddings_project(x)
        mask = padding_mask(is_token, x.dtype)
        for layer in self.encoder.layer[: self.encoder.num_split_layers]:
            x = layer(x, mask)
        return x


def use_shared_passages(model: nn.Module) -> None:
    """Replace the encoders with split layers of a model that is trained on the CPU, in place.

    Args:
        model: A model as bert_rt.tasks.checkpoints makes it; its parameters keep their names.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, BertModel) and child.encoder.num_split_layers:
                module._modules[name] = SharedPassagesModel(child)
