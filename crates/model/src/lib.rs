//! The ESCAPE-NET family of networks, their training and their checkpoints.
