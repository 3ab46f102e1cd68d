"""The points of a sweep: what each is made from, and the workers that do them."""
