//! Spiking networks: description, encoders, neurons, engines and spike recorders.
