"""Engines, one module each; `bert_rt.engines.base` imports one when it is asked for."""
