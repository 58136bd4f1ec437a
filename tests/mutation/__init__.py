"""The law suite on trial: every family with one small change, which some law must notice."""
