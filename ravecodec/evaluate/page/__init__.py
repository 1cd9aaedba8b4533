"""The page of an evaluation, made of its results: what it says, draws and plays. The page of a
training run, too."""
