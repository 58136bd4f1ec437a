"""All contact with TVM."""
