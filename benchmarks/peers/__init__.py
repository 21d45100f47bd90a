"""What we measure against, each in its best documented set-up."""
