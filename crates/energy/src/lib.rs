//! Activity counts to energy: the published model and honest ones.
