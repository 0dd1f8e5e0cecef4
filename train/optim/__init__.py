"""What a step changes weights by: optimizers, schedule, dropout, attention, first weights."""
