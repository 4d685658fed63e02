"""The view of operators on a running worker, and its shutdown. Code that decides about audio does not belong here."""
