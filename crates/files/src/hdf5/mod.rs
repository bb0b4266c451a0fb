//! HDF5 as far as MATLAB, Octave, h5py and Keras need it: groups, attributes that are texts, and data sets of plain numbers, enumerations, text or
//! references, contiguous, compact or in chunks, with the filters shuffle, deflate and fletcher32, in either byte order.
//!
//! The reader is this project's own because it has to keep to a [`Budget`](crate::budget::Budget): of the two maintained
//! crates that need no C library, one changed byte in a file of 17 kB makes one (`hdf5-pure` 0.47) ask for 64 GiB and
//! abort the process, and the other (`hdf5-reader` 0.12) take up to a gigabyte or two seconds. Here every size is taken
//! from the file's budget or compared with the file's length before it is believed, nothing recurses, and every walk
//! through a tree ends after as many steps as there can be things to find.
//!
//! Layout, from "HDF5 File Format Specification" (The HDF Group; version 3.0, and the layout message 5 that HDF5 2.0
//! added): superblocks 0 to 3, object headers 1 and 2, groups as symbol tables or as links in their header, chunks indexed
//! by a B-tree of version 1, singly, implicitly or by a fixed array. That is what MATLAB and h5py write, the latter also
//! with `libver="latest"`, except where a data set may grow or a group has more than eight members; what is not read is
//! named.

mod dataset;
mod heap;
mod objects;
mod raw;

pub use dataset::Dataset;
pub use heap::texts;
pub use objects::{Number, Object, Visit, members, superblock};
pub use raw::{Fault, Raw, damaged};

/// Takes values: where they stand among those of a data set, counted as they are stored, and a run of them.
pub type Sink<'a> = dyn FnMut(usize, &[f64]) + 'a;
