//! From a trained ANN to a spiking network: threshold balancing and activation percentiles.
