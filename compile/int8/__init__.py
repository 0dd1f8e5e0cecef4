"""Float graph to INT8: observe, balance, search, measure, keep in float."""
