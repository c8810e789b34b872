"""The paper's ablations as experiments that anyone can repeat, on generated scenes or own data."""

from setmatch.ablation.run import Campaign as Campaign
from setmatch.ablation.run import ablate as ablate
