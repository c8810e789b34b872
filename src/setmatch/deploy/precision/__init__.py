"""Lower precision: smaller or faster files, measured by what they lose in AP."""
