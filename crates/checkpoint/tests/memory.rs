//! No file makes a reader take more memory than `memory_limit` says: every allocation of this test is counted. The inputs are the seeds and past failures of the fuzz targets, and large hostile files.

#![allow(clippy::unwrap_used)] // in the helpers; a test fails by panicking

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use escape_checkpoint::{DType, TensorData, Value, write};

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
            // Of a larger seed each byte is changed in one way, the next in another.
            let large = bytes.len() > 6000;
            for end in 0..bytes.len() {
                run(&bytes[..end]);
                let kept = bytes[end];
                let changes = [1, 0x80, 0xff];
                let changes = if large { &changes[end % 3..][..1] } else { &changes[..] };
                for change in changes {
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

/// Objects of other programs: many, with much in them, and within each other.
#[test]
fn floods_of_foreign_objects() {
    let _alone = ALONE.lock();
    const SIZE: usize = 4 << 20;
    let one = |opcodes: &[u8]| opcodes.repeat(SIZE / opcodes.len());
    let floods: [(&[u8], &[u8], &[u8]); 13] = [
        (b"\x80\x02](", b"ca\nb\n", b"e."),
        (b"\x80\x02](", b"ca\nb\n)R", b"e."),
        (b"\x80\x02ca\nb\nq\0(", b"h\0)\x81", b"t."),
        (b"\x80\x02ca\nb\n", b")R", b"."),
        (b"\x80\x02ca\nb\n)\x81q\0", b"h\0b", b"."),
        (b"\x80\x02ca\nb\n)\x81(", b"N", b"lb."),
        (b"\x80\x02ca\nb\n(", b"K\x01", b"tR."),
        (b"\x80\x02ca\nb\n)\x81}(", b"K\x01N", b"ub."),
        (b"\x80\x02ca\nb\n)\x81", b"K\x01Ns", b"."),
        (b"\x80\x02ca\nb\n)\x81", b"Na", b"."),
        (b"\x80\x02}(", b"ca\nb\n)RN", b"u."),
        (b"\x80\x02](", b"(ia\nb\n", b"e."),
        (b"\x80\x02](", b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\n))\x89tR", b"e."),
    ];
    for (before, flood, after) in floods {
        targets::checkpoint(&[targets::BEFORE, before, &one(flood), after, b"\x80\x02]."].concat());
    }
    // Long names, and as many different ones.
    let long = format!("c{}\n{}\n", "a".repeat(SIZE / 2), "b".repeat(SIZE / 2));
    targets::pickle(&[b"\x80\x02".as_slice(), long.as_bytes(), b")R.\x80\x02]."].concat());
    let many: String = (0..SIZE / 12).map(|i| format!("ca\n{i}\n0")).collect();
    targets::pickle(&[b"\x80\x02".as_slice(), many.as_bytes(), b"N.\x80\x02]."].concat());
    // Each object under a key of its own, which the notes would have to name.
    let keys: String = (0..SIZE / 20).map(|i| format!("U\x08{i:08}h\0")).collect();
    let file =
        [b"\x80\x02}U\x0astate_dict}sca\nb\n)Rq\x000(".as_slice(), keys.as_bytes(), b"u.\x80\x02]."].concat();
    targets::pickle(&file);
}

/// Tensors that come to more than is kept of them.
#[test]
fn floods_of_sparse_and_quantised_tensors() {
    let _alone = ALONE.lock();
    let text = |text: &str| [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let int = |v: i64| [b"\x8a\x08".as_slice(), &v.to_le_bytes()].concat();
    let ints =
        |all: &[i64]| [b"(".to_vec(), all.iter().flat_map(|v| int(*v)).collect(), b"t".to_vec()].concat();
    let stored = |kind: &str, numel: i64| {
        [
            b"(".to_vec(),
            text("storage"),
            format!("ctorch\n{kind}\n").into_bytes(),
            text("0"),
            text("cpu"),
            int(numel),
            b"NtQ".to_vec(),
        ]
        .concat()
    };
    let view = |kind: &str, numel: i64, shape: &[i64], strides: &[i64]| {
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(),
            stored(kind, numel),
            int(0),
            ints(shape),
            ints(strides),
            b"\x89NtR".to_vec(),
        ]
        .concat()
    };
    let file = |body: Vec<u8>, numel: i64, bytes: usize| {
        let keys = [b"\x80\x02]".to_vec(), text("0"), b"a.".to_vec()].concat();
        [
            targets::BEFORE.to_vec(),
            b"\x80\x02".to_vec(),
            body,
            b".".to_vec(),
            keys,
            numel.to_le_bytes().to_vec(),
            vec![0; bytes],
        ]
        .concat()
    };
    let sparse = |layout: &str, parts: Vec<u8>| {
        let layout =
            [b"ctorch.serialization\n_get_layout\n".to_vec(), text(layout), b"\x85R".to_vec()].concat();
        [
            b"ctorch._utils\n_rebuild_sparse_tensor\n".to_vec(),
            layout,
            b"(".to_vec(),
            parts,
            b"t\x86R".to_vec(),
        ]
        .concat()
    };
    let none = |shape: &[i64]| view("LongStorage", 4, shape, &vec![1; shape.len()]);
    let huge = [i64::MAX, 1 << 40, 1 << 26];
    for n in huge {
        let coo = [none(&[1, 0]), none(&[0]), ints(&[n])].concat();
        targets::checkpoint(&file(sparse("torch.sparse_coo", coo), 4, 32));
        let empty = [none(&[0, n]), none(&[n, 0]), ints(&[0])].concat();
        targets::checkpoint(&file(sparse("torch.sparse_coo", empty), 4, 32));
        let csr = [none(&[1]), none(&[0]), none(&[0]), ints(&[0, n])].concat();
        targets::checkpoint(&file(sparse("torch.sparse_csr", csr), 4, 32));
        let bsr = [none(&[1]), none(&[0]), none(&[0, 1, n]), ints(&[0, n])].concat();
        targets::checkpoint(&file(sparse("torch.sparse_bsr", bsr), 4, 32));
    }
    // Four bytes of float32 for each byte, and many elements from one.
    for (numel, shape, stride) in [(8 << 20, 8 << 20, 1), (1, 64 << 20, 0)] {
        let quantiser =
            [b"(ctorch\nper_tensor_affine\nG".to_vec(), 0.5f64.to_be_bytes().to_vec(), b"K\0t".to_vec()]
                .concat();
        let body = [
            b"ctorch._utils\n_rebuild_qtensor\n(".to_vec(),
            stored("QInt8Storage", numel),
            int(0),
            ints(&[shape]),
            ints(&[stride]),
            quantiser,
            b"\x89NtR".to_vec(),
        ];
        targets::checkpoint(&file(body.concat(), numel, numel as usize));
    }
}

/// Weights in parts and under other names, of types that would grow if they were converted.
#[test]
fn weights_that_are_put_together() {
    let _alone = ALONE.lock();
    const N: usize = 2 << 20;
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("a.pth");
    let tensor = |dtype: DType, shape: &[usize]| {
        Value::from(TensorData {
            dtype,
            shape: shape.to_vec(),
            bytes: vec![1; shape.iter().product::<usize>() * dtype.size()].into(),
        })
    };
    let pruned = [("model.a_orig", tensor(DType::BF16, &[N])), ("model.a_mask", tensor(DType::Bool, &[N]))];
    let spectral = [
        ("model.a_orig", tensor(DType::F16, &[2, N])),
        ("model.a_u", tensor(DType::U8, &[2])),
        ("model.a_v", tensor(DType::U8, &[N])),
    ];
    let norm = [("model.a_v", tensor(DType::BF16, &[N, 1])), ("model.a_g", tensor(DType::Bool, &[N, 1]))];
    for weights in [pruned.to_vec(), spectral.to_vec(), norm.to_vec()] {
        let weights = weights.into_iter().map(|(name, value)| (Value::from(name), value));
        write(&path, &Value::Dict(vec![("net".into(), Value::Dict(weights.collect()))])).unwrap();
        assert_eq!(targets::checkpoint(&fs::read(&path).unwrap()), None);
    }
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
