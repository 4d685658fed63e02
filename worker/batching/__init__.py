"""Chunks become batches, and an encoder turns each batch into audio. Code that asks Redis or a store stays outside."""
