"""What a model does inside: what answers and places looked at, and what its query slots are for."""
