"""The HTTP service as a command: flags, the server around bert_rt.serving, logs."""
