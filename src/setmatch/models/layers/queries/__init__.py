"""Object queries: learned, selected among tokens, or made from noised targets."""
