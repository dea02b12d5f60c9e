"""Networks: the ones the field uses, anybody's own, their weights and their hidden layers."""
