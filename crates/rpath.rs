//! Build script shared by every crate that links libtorch: records where libtorch lies as an rpath, so
//! that binaries and tests run without `LD_LIBRARY_PATH`.

// What a build script prints is how it talks to cargo.
#![allow(clippy::print_stdout)]

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    // libtorch finds its own companions relative to its real place, so a link must be resolved here.
    let folder = std::fs::canonicalize(&folder).unwrap_or_else(|_| folder.into());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.display());
    // A lean libtorch lacks the libraries that its CUDA part needs. Nothing here refers to that part, but
    // GNU ld insists on them all the same.
    println!("cargo:rustc-link-arg=-Wl,--allow-shlib-undefined");
}
