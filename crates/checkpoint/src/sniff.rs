//! What a file is, by how it begins, by its name where that tells more, and by what lies in it if it is a folder.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use escape_files::archive::END;
use escape_files::text::shown;

use super::budget::of_file;
use super::error::Fault;
use super::graph::Built;
use super::{Contents, Format, Note, archive, keras, legacy, safetensors};

/// How an HDF5 file begins.
const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Reads a file of any format, whose name helps to say what it is if it is none.
pub(crate) fn load(mut input: impl Read + Seek, path: &Path) -> Result<Contents, Fault> {
    let length = input.seek(SeekFrom::End(0)).map_err(Fault::Io)?;
    let mut head = Vec::new();
    input.seek(SeekFrom::Start(0)).map_err(Fault::Io)?;
    (&mut input).take(520).read_to_end(&mut head).map_err(Fault::Io)?;
    let mut budget = of_file(length);
    let of_torch = |format, Built { value, foreign, expanded }: Built| Contents {
        format,
        value,
        foreign,
        notes: Note::of_expanded(expanded).collect(),
    };
    if let Some((looks_like, hint)) = by_name(path) {
        return Err(other(looks_like, hint));
    }
    if archive::is_archive(&head) {
        let zip = archive::open(input, &mut budget)?;
        match keras::is_archive(zip.names()) {
            true => keras::load_archive(zip, &mut budget),
            false => Ok(of_torch(Format::Zip, archive::load(zip, &mut budget)?)),
        }
    } else if legacy::is_legacy(&head) {
        Ok(of_torch(Format::Legacy, legacy::load(input, length, &mut budget)?))
    } else if safetensors::is_safetensors(&head) {
        let value = safetensors::load(input, length, &mut budget)?;
        let foreign = Vec::new();
        Ok(Contents { format: Format::Safetensors, value, foreign, notes: Vec::new() })
    } else if (head.starts_with(HDF5) || head.get(512..).is_some_and(|rest| rest.starts_with(HDF5)))
        && !head.starts_with(b"MATLAB")
        && let Some(contents) = keras::load_hdf5(&mut input, length, &mut budget)?
    {
        Ok(contents)
    } else {
        // What an HDF5 file is stands in its groups' names, and what a pickle is in those of its classes.
        const MORE: u64 = 1 << 16;
        let mut more = Vec::new();
        input.seek(SeekFrom::Start(0)).map_err(Fault::Io)?;
        input.take(MORE).read_to_end(&mut more).map_err(Fault::Io)?;
        let (looks_like, hint) = sniff(&head, &more, path);
        Err(other(looks_like, hint))
    }
}

fn other(looks_like: &str, hint: &str) -> Fault {
    Fault::Other { looks_like: looks_like.to_owned(), hint: hint.to_owned() }
}

const DATA: &str =
    "checkpoints are .pth files, data go elsewhere; if these are recordings, pass them with --data";
const AGAIN: &str = "download or copy the file again";
const UNPACK: &str = "unpack it first";
const NIR: &str = "a NIR graph holds neuron models and weights; save the weights alone in Python: \
                   torch.save({name: torch.tensor(node.weight) for name, node in nir.read('net.nir').nodes.items() if \
                   hasattr(node, 'weight')}, 'weights.pth')";
const ONNX: &str = "save its weights in Python: torch.save({w.name: torch.tensor(onnx.numpy_helper.to_array(w)) for w \
                    in onnx.load('net.onnx').graph.initializer}, 'weights.pth')";
const TENSORFLOW: &str = "save its variables in Python: torch.save({name: torch.tensor(value) for name, value in \
                          variables}, 'weights.pth'), with convolutions permuted by (3, 2, 0, 1)";
const SAVED_MODEL: &str = "if it is a Keras model, save it in Python as a file: tf.keras.models.load_model('FOLDER').save('model.h5'); \
                           else save its variables: torch.save({name: torch.tensor(value) for name, value in variables}, \
                           'weights.pth'), with convolutions permuted by (3, 2, 0, 1)";
const DISTRIBUTED: &str = "merge it into one file: python -m torch.distributed.checkpoint.format_utils dcp_to_torch \
                           FOLDER weights.pth";
const SHARDS: &str = "merge them in Python: torch.save({name: tensor for shard in shards for name, tensor in \
                      safetensors.torch.load_file(shard).items()}, 'weights.pth')";

/// Files that begin as others do, or say little, but for their name.
fn by_name(path: &Path) -> Option<(&'static str, &'static str)> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let ends = |end: &str| name.ends_with(end);
    Some(if ends(".distcp") || name == ".metadata" {
        ("a part of a distributed checkpoint of PyTorch", DISTRIBUTED)
    } else if ends(".data-00000-of-00001") || ends(".ckpt.index") || ends(".ckpt.meta") {
        ("a part of a TensorFlow checkpoint", TENSORFLOW)
    } else {
        return None;
    })
}

/// What a folder looks like, and what to do about it.
pub(crate) fn folder(path: &Path) -> Fault {
    let names: Vec<String> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .take(10_000)
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.to_owned()))
        .collect();
    let has = |name: &str| names.iter().any(|other| other == name);
    let some = |end: &str| names.iter().any(|name| name.ends_with(end));
    let is_checkpoint = |name: &&String| {
        [".pth", ".pt", ".ckpt", ".safetensors", ".bin"].iter().any(|end| name.ends_with(end))
    };
    let mut checkpoints: Vec<&String> = names.iter().filter(is_checkpoint).collect();
    checkpoints.sort();
    if has(".metadata") || some(".distcp") {
        other("a folder with a distributed checkpoint of PyTorch", DISTRIBUTED)
    } else if has("saved_model.pb") {
        other("a folder with a TensorFlow SavedModel", SAVED_MODEL)
    } else if has("model.weights.h5") {
        other(
            "a folder with an unpacked Keras model",
            "pack it: zip -0 model.keras config.json metadata.json model.weights.h5, in the folder; or save it in Python with \
             model.save('model.keras')",
        )
    } else if has("data.pkl") {
        other(
            "a folder with an unpacked file of torch.save",
            "pack it again, its entries in a folder and not compressed: zip -0 -r weights.pth FOLDER",
        )
    } else if some(".safetensors.index.json") || some(".bin.index.json") {
        other("a folder with weights in several files", SHARDS)
    } else if has("latest") && names.iter().any(|name| name.starts_with("global_step")) {
        other(
            "a folder with a DeepSpeed checkpoint",
            "merge it into one file: python zero_to_fp32.py FOLDER weights.pth",
        )
    } else if let Some(first) = checkpoints.first() {
        let all: Vec<String> = checkpoints.iter().take(5).map(|name| shown(name)).collect();
        let hint = format!("name the file itself, {} say", path.join(first.as_str()).display());
        Fault::Other { looks_like: format!("a folder (with {})", all.join(", ")), hint }
    } else {
        other("a folder", "name the file itself")
    }
}

/// What the first 512 bytes of a file and more of it look like, and what to do about it.
fn sniff(head: &[u8], more: &[u8], path: &Path) -> (&'static str, &'static str) {
    let text = head.trim_ascii_start();
    let is = |magic: &[u8]| head.starts_with(magic);
    let holds = |part: &str| more.windows(part.len()).any(|window| window == part.as_bytes());
    let lower = text.get(..text.len().min(64)).unwrap_or_default().to_ascii_lowercase();
    let ends = |end: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(end));
    if head.is_empty() {
        ("an empty file", AGAIN)
    } else if is(END) {
        ("an empty zip archive", AGAIN)
    } else if is(HDF5) {
        if ends("nir") || holds("edges") && holds("nodes") {
            ("a NIR graph (HDF5)", NIR)
        } else {
            (
                "an HDF5 file",
                "save its weights in Python: torch.save({name: torch.tensor(file[name][()]) for name in names}, \
                 'weights.pth') with file = h5py.File('net.h5')",
            )
        }
    } else if is(b"\x93NUMPY") {
        ("a NumPy array (.npy)", DATA)
    } else if is(b"MATLAB 5.0 MAT-file") || is(b"MATLAB 7.3 MAT-file") {
        ("a MATLAB file", DATA)
    } else if is(b"GGUF") {
        (
            "a GGUF file",
            "it holds a language model's weights, most of them quantised; take the PyTorch file that it was made from",
        )
    } else if head.get(4..8) == Some(b"TFL3") {
        ("a TensorFlow Lite model", TENSORFLOW)
    } else if head.get(4..8) == Some(b"ET12") {
        ("an ExecuTorch program", "take the state dict that it was exported from")
    } else if is_onnx(head) && !ends("pb") || ends("onnx") {
        ("an ONNX model", ONNX)
    } else if is(b"\x1f\x8b") {
        ("a gzip file", UNPACK)
    } else if is(b"BZh") || is(b"\xfd7zXZ\0") || is(b"\x28\xb5\x2f\xfd") || is(b"7z\xbc\xaf") || is(b"Rar!") {
        ("a compressed file", UNPACK)
    } else if head.get(257..262) == Some(b"ustar") {
        (
            "a tar archive",
            "unpack it first; if torch.save of PyTorch before 0.1.10 wrote it, re-save it in PyTorch",
        )
    } else if is(b"version https://git-lfs") {
        ("a Git LFS pointer", "fetch the file itself with git lfs pull")
    } else if lower.starts_with(b"<!doc") || lower.starts_with(b"<html") {
        ("a web page", "download the file itself rather than the page that links to it")
    } else if lower.starts_with(b"<?xml") || lower.starts_with(b"<error") {
        (
            "XML, as servers answer that refuse a download",
            "download the file again, and look at what was answered",
        )
    } else if head.first() == Some(&0x80) && head.get(1).is_some_and(|p| (2..=5).contains(p)) {
        if holds("sklearn") || holds("joblib") {
            (
                "a pickle of scikit-learn or joblib",
                "it holds no network of PyTorch; take the .pth file of the network",
            )
        } else {
            (
                "a bare pickle",
                "load it in Python and save it with torch.save: torch.save(pickle.load(open('old.pkl', 'rb')), \
                 'weights.pth')",
            )
        }
    } else if text.starts_with(b"{") {
        if holds("\"weight_map\"") {
            ("the index of weights in several files (JSON)", SHARDS)
        } else {
            ("JSON", DATA)
        }
    } else if text.starts_with(b"model_checkpoint_path") || ends("pb") {
        ("a part of a TensorFlow model", TENSORFLOW)
    } else if is(b"%PDF") || is(b"\x89PNG") || is(b"\xff\xd8\xff") || is(b"GIF8") {
        ("a picture or document", DATA)
    } else if head.iter().all(|&b| b == 0) {
        ("zeros", AGAIN)
    } else if !more.is_empty() && more.len() < 1 << 12 && std::str::from_utf8(more).is_ok_and(is_text) {
        ("plain text", "look at it: servers answer so when they refuse a download; download the file again")
    } else {
        ("an unknown format", DATA)
    }
}

/// Protocol buffers of ONNX begin with the version of the format, then the producer's name or the next field.
fn is_onnx(head: &[u8]) -> bool {
    matches!(head, [0x08, 1..=20, 0x12 | 0x1a | 0x22 | 0x3a | 0x42, ..])
}

fn is_text(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
}
