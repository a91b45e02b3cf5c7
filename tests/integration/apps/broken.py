"""A module that cannot be imported, because it is a program that ends."""

raise SystemExit("this is no module")
