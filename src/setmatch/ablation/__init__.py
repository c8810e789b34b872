"""The paper's ablations as experiments that anyone can repeat, on generated scenes or own data."""
