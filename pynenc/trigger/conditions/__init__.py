"""Conditions of triggers: what must have happened. A leaf hears of one kind of cause; a composite joins several."""
