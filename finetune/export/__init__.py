"""Models that leave the house: other formats than the checkpoint's, compared with it, with a card."""
