"""The controllers: one file per kind or task, each level-triggered, each reading by name and taking one next step."""
