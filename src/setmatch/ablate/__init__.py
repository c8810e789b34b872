"""The paper's ablations as experiments that anyone can repeat, on generated scenes or own data."""

from setmatch.ablate.campaign import Campaign as Campaign
from setmatch.ablate.campaign import ablate as ablate
