"""A task that bert_rt, compile and train do not know: of which words a text is made.

Its result is a vector a text: the share of its words that are "the", and of those that are "cat".
`task` is its room of bert_rt.tasks, `model` its PyTorch module, `compiling` and `training` its
parts of the two programs; tests register them, one line each.
`serving` is a server that knows it.
"""
