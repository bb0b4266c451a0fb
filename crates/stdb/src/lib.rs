//! Surrogate-gradient backpropagation through time and fine-tuning.
