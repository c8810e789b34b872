"""Operations on boxes and masks."""
