//! Nerve-cuff recordings: readers, writers, splits and the nerve simulator.
