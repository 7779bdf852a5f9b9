"""One file a loss: `build(settings)` gives a function of logits and labels that returns their mean loss."""
