"""Operations on boxes, masks and colors."""
