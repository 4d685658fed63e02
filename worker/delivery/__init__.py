"""A sealed batch becomes exactly one object in the store. Code that reads streams does not belong here."""
