//! No file makes a reader take more memory than `memory_limit` says: every allocation of this test is counted. The inputs are the seeds and past failures of the fuzz targets, and large hostile files.

#![allow(clippy::unwrap_used)] // in the helpers; a test fails by panicking

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use escape_model::checkpoint::{TensorData, Value, write};

#[path = "../../../tests/fuzz/src/lib.rs"]
mod targets;

use targets::TARGETS;

/// Allocations of tests that run side by side would be counted together.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn seeds_and_regressions_of_the_fuzz_targets() {
    let _alone = ALONE.lock();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz");
    for (target, run) in TARGETS {
        let mut files = 0;
        for kind in ["seeds", "regressions"] {
            for entry in fs::read_dir(folder.join(kind).join(target)).into_iter().flatten() {
                run(&fs::read(entry.unwrap().path()).unwrap());
                files += 1;
            }
        }
        assert!(files > 0, "{target} has no seeds");
    }
}

#[test]
fn seeds_cut_short_at_every_byte_and_with_every_byte_changed() {
    let _alone = ALONE.lock();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/seeds");
    for (target, run) in TARGETS {
        for entry in fs::read_dir(folder.join(target)).unwrap() {
            let mut bytes = fs::read(entry.unwrap().path()).unwrap();
            for end in 0..bytes.len() {
                run(&bytes[..end]);
                let kept = bytes[end];
                for change in [1, 0x80, 0xff] {
                    bytes[end] = kept ^ change;
                    run(&bytes);
                }
                bytes[end] = kept;
            }
        }
    }
}

#[test]
fn a_large_file_cut_short_at_every_512th_byte() {
    let _alone = ALONE.lock();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("a.pth");
    let weights = (0..40)
        .map(|i| (Value::Str(format!("w{i}")), Value::from(TensorData::from_f32(&[1000], &[0.5; 1000]))));
    write(&path, &Value::OrderedDict(weights.collect())).unwrap();
    let bytes = fs::read(&path).unwrap();
    for end in (0..bytes.len()).step_by(512) {
        targets::archive(&bytes[..end]);
    }
}

/// Opcodes again and again, a few megabytes of them, where a value may stand.
#[test]
fn floods_of_opcodes() {
    let _alone = ALONE.lock();
    const SIZE: usize = 4 << 20;
    let one = |opcodes: &[u8]| opcodes.repeat(SIZE / opcodes.len());
    let floods: [(&[u8], &[u8], &[u8]); 22] = [
        (b"\x80\x02(", b"N", b"t."),
        (b"\x80\x02(", b"K\x01", b"t."),
        (b"\x80\x02]", b"Na", b"."),
        (b"\x80\x02](", b"N", b"e."),
        (b"\x80\x02](", b"]", b"e."),
        (b"\x80\x02]", b"}a", b"."),
        (b"\x80\x02]", b"()e", b"."),
        (b"\x80\x02", b"(", b""),
        (b"\x80\x02", b"N0", b"N."),
        (b"\x80\x02N", b"2", b""),
        (b"\x80\x02N", b"\x94", b"."),
        (b"\x80\x02)", b"\x85", b"."),
        (b"\x80\x02)q\0", b"h\0h\0\x86q\0", b"."),
        (b"\x80\x02}", b"K\x01Ns", b"."),
        (b"\x80\x02}(", b"K\x01N", b"u."),
        (b"\x80\x02\x8f(", b"K\x01", b"\x90."),
        (b"\x80\x02]", b"ccollections\nOrderedDict\n)Ra", b"."),
        (b"\x80\x02](", b"X\x01\0\0\0a", b"e."),
        (b"\x80\x02](", b"\x8c\0", b"e."),
        (b"\x80\x02](", b"ctorch\nfloat32\n", b"e."),
        (b"\x80\x02](", b"c_codecs\nencode\nX\x01\0\0\0aX\x06\0\0\0latin1\x86R", b"e."),
        (b"\x80\x02](", b"cnumpy\ndtype\nX\x02\0\0\0f8\x85R", b"e."),
    ];
    for (before, flood, after) in floods {
        let file = [targets::BEFORE, before, &one(flood), after, b"\x80\x02]."].concat();
        let refusal = targets::checkpoint(&file).unwrap_or_default();
        // The second pushes and pops, and is but slow.
        let expected = if flood == b"N0" { "" } else { "would take" };
        assert!(refusal.contains(expected), "{}: {refusal}", flood.escape_ascii());
    }
    // Storages and views of them, with their keys.
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0aNK\0tQ";
    targets::pickle(&[b"\x80\x02](", &one(storage)[..], b"e.\x80\x02]."].concat());
    let view = [b"ctorch._utils\n_rebuild_tensor_v2\n(".as_slice(), storage, b"K\0)))NtR"].concat();
    targets::pickle(&[b"\x80\x02](", &one(&view)[..], b"e.\x80\x02]."].concat());
}

#[test]
fn floods_of_json() {
    let _alone = ALONE.lock();
    const SIZE: usize = 4 << 20;
    let file = |text: String| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let many = |each: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        let mut i = 0;
        while text.len() < SIZE {
            text.push_str(&each(i));
            i += 1;
        }
        text.pop();
        text
    };
    let empty = |i: usize| format!("\"{i}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}},");
    targets::safetensors(&file(format!("{{{}}}", many(&empty))));
    targets::safetensors(&file(format!("{{\"__metadata__\":{{{}}}}}", many(&|i| format!("\"{i}\":\"\",")))));
    let fields = many(&|i| format!("\"checkpoint.{i}\":\"1\","));
    targets::safetensors(&file(format!("{{\"__metadata__\":{{{fields}}}}}")));
    for item in ["0,", "[],", "{},", "\\\"\\\",", "{\\\"$dict\\\":[[0,0]]},", "1e300,"] {
        let list = many(&|_| item.to_owned());
        targets::safetensors(&file(format!("{{\"__metadata__\":{{\"checkpoint.a\":\"[{list}]\"}}}}")));
    }
    let shape = many(&|_| "0,".to_owned());
    targets::safetensors(&file(format!(
        "{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{shape}],\"data_offsets\":[0,0]}}}}"
    )));
    targets::safetensors(&file(format!("{{\"a\":{}", "[".repeat(SIZE))));
    targets::safetensors(&file(format!("{{\"{}", "\\u0000".repeat(SIZE / 6))));
}

/// Many entries with short names, which a directory describes in fewer bytes than it takes to know them.
#[test]
fn floods_of_zip_entries() {
    let _alone = ALONE.lock();
    const COUNT: u32 = 60_000;
    let (mut bytes, mut central) = (Vec::new(), Vec::new());
    let common = |name: u32| {
        let mut out = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        out.extend([0; 12]);
        out.extend((name.to_string().len() as u16).to_le_bytes());
        out.extend([0; 2]);
        out
    };
    bytes.extend([b"PK\x03\x04", &common(0)[..], b"0"].concat());
    for i in 0..COUNT {
        central.extend([b"PK\x01\x02\x14\0", &common(i)[..], &[0; 14], i.to_string().as_bytes()].concat());
    }
    let start = bytes.len() as u32;
    bytes.extend(&central);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([(COUNT as u16).to_le_bytes(), (COUNT as u16).to_le_bytes()].concat());
    bytes.extend((central.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    targets::archive(&bytes);
}
