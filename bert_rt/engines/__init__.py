"""Engines, one module each; `bert_rt.engine` imports one when it is asked for."""
