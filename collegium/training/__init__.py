"""The training loop. It is the same for every method and every kind of teacher."""
