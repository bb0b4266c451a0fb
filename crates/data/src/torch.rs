//! Recordings that `torch.save` or safetensors kept.
//!
//! They stand under the names of an `.npz` (`train_x`, `train_y`, ...), or under others that [`ReadOptions`] name: keys of
//! nested dictionaries with dots between them, positions in lists and tuples as numbers.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use escape_checkpoint::identify::Identity;
use escape_checkpoint::{Checkpoint, Contents, DType, Format, TensorData, Value};
use escape_files::archive::{Archive, LOCAL};
use escape_files::scalar::Scalar;

use crate::arrays::{ArrayValues, Memory, NamedArray};
use crate::error::DataError;
use crate::options::ReadOptions;

/// Whether a file of torch or safetensors that is no checkpoint holds recordings.
pub fn holds_recordings(path: &Path) -> bool {
    let Ok(Value::Dict(entries) | Value::OrderedDict(entries)) = escape_checkpoint::read(path) else {
        return false;
    };
    entries.iter().any(|(key, _)| key.as_str().is_some_and(|key| ["train_x", "test_x"].contains(&key)))
}

/// Whether a checkpoint holds recordings instead of weights.
pub fn are_recordings(checkpoint: &Checkpoint) -> bool {
    let named = |name: &str| ["train_x", "test_x"].contains(&name);
    checkpoint.weights.iter().any(|(name, _)| named(name))
        || checkpoint.extra.iter().any(|(name, _)| named(name))
}

/// Reads the arrays of a file and counts its bytes, if it is one of torch or safetensors.
///
/// # Errors
/// [`DataError::Checkpoint`] if it cannot be read; [`DataError::Network`] if it holds a network.
pub(crate) fn open<'a>(
    path: &'a Path,
    options: &ReadOptions,
) -> Result<Option<(Memory<'a>, u64)>, DataError> {
    if !is_torch(path) {
        return Ok(None);
    }
    let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let Contents { format, value, .. } = escape_checkpoint::open(path)?;
    let usual = |array: &NamedArray| {
        ["train_x", "test_x", "training_data_rat", "test_data_rat"].contains(&array.name.as_str())
    };
    let network = options.x.is_empty().then(|| network(&value)).flatten();
    let mut arrays = Vec::new();
    collect(String::new(), value, &mut arrays);
    if let Some(what) = network
        && !arrays.iter().any(usual)
    {
        return Err(DataError::Network { path: path.to_owned(), what });
    }
    if let [NamedArray { values: ArrayValues::Other(what), .. }] = &arrays[..]
        && what.contains("; ")
    {
        return Err(DataError::unsupported(path, format!("expected tensors of recordings, got {what}")));
    }
    let format = match format {
        Format::Safetensors => "tensors of safetensors",
        Format::KerasHdf5 | Format::KerasArchive => "tensors of Keras",
        Format::Zip | Format::Legacy => "tensors of torch.save",
    };
    Ok(Some((Memory { path, format, arrays }, length)))
}

/// Which network a value holds, if it is one.
fn network(value: &Value) -> Option<String> {
    let (Value::Dict(entries) | Value::OrderedDict(entries)) = value else { return None };
    let has = |wanted: &str| entries.iter().any(|(key, _)| key.as_str() == Some(wanted));
    let weight = |(key, value): &(Value, Value)| {
        let layer = |name: &str| name.ends_with("weight") || name.ends_with("bias");
        value.as_tensor().is_some() && key.as_str().is_some_and(layer)
    };
    if has("state_dict") || entries.iter().any(weight) {
        let found = Checkpoint::from_value(value.clone()).ok();
        return Some(match found {
            Some(checkpoint) => Identity::of(&checkpoint.weights).to_string(),
            None => "of a network that is not understood here".to_owned(),
        });
    }
    None
}

/// What to do about an object that is a data set of PyTorch.
const DATA_SET: &str = "; save its tensors in Python: torch.save({'train_x': x, 'train_y': y, 'test_x': ..., 'test_y': \
                      ...}, 'recordings.pt') with x, y = dataset.tensors, say";

/// Whether a file is one of torch.save or safetensors, by its content and, where that could be anything, its name.
fn is_torch(path: &Path) -> bool {
    use std::io::Read;
    let mut head = Vec::new();
    let Ok(file) = File::open(path) else { return false };
    if file.metadata().is_ok_and(|metadata| !metadata.is_file())
        || (&file).take(16).read_to_end(&mut head).is_err()
    {
        return false;
    }
    if head.starts_with(LOCAL) {
        let archive = File::open(path).ok().and_then(|file| Archive::new(file).ok());
        return archive.is_some_and(|archive| archive.names().any(|name| name.ends_with("/data.pkl")));
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    ["pt", "pth", "ckpt", "bin", "tar", "safetensors"].contains(&extension.as_str()) && !head.is_empty()
}

/// The arrays in a value, each under the keys that lead to it.
fn collect(name: String, value: Value, arrays: &mut Vec<NamedArray>) {
    let inner = |key: String| if name.is_empty() { key } else { format!("{name}.{key}") };
    let named = || if name.is_empty() { "tensor".to_owned() } else { name.clone() };
    let numbers = |values: Vec<f64>, shape: Vec<usize>| {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        NamedArray { name: named(), shape, values: ArrayValues::Numbers(Scalar::F64, bytes) }
    };
    match value {
        Value::Dict(entries) | Value::OrderedDict(entries) => {
            for (key, value) in entries {
                let key = match key {
                    Value::Str(key) => key,
                    Value::Int(key) => key.to_string(),
                    other => other.describe(),
                };
                collect(inner(key), value, arrays);
            }
        }
        Value::List(items) | Value::Tuple(items) => {
            let texts: Option<Vec<String>> =
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            if let Some(texts) = texts.filter(|texts| !texts.is_empty()) {
                let shape = vec![texts.len()];
                arrays.push(NamedArray { name: named(), shape, values: ArrayValues::Texts(texts) });
                return;
            }
            if let Some(what) = one_by_one(&items) {
                arrays.push(NamedArray {
                    name: named(),
                    shape: Vec::new(),
                    values: ArrayValues::Other(what),
                });
                return;
            }
            let plain: Option<Vec<f64>> = items
                .iter()
                .map(|item| {
                    let single = item.as_tensor().is_some_and(|tensor| tensor.shape.is_empty());
                    item.as_f64().filter(|_| single || matches!(item, Value::Int(_) | Value::Float(_)))
                })
                .collect();
            match plain.filter(|plain| !plain.is_empty()) {
                Some(plain) => {
                    let shape = vec![plain.len()];
                    arrays.push(numbers(plain, shape));
                }
                None => {
                    for (i, item) in items.into_iter().enumerate() {
                        collect(inner(i.to_string()), item, arrays);
                    }
                }
            }
        }
        Value::Tensor(tensor) => arrays.push(of_tensor(named(), *tensor)),
        Value::Int(_) | Value::Float(_) => {
            let value = value.as_f64().unwrap_or(f64::NAN);
            arrays.push(numbers(vec![value], Vec::new()));
        }
        other => {
            let set = other.as_opaque().is_some_and(|opaque| opaque.what.contains("ataset"));
            let remedy = if set { DATA_SET } else { "" };
            let values = ArrayValues::Other(format!("{}{remedy}", other.describe()));
            arrays.push(NamedArray { name: named(), shape: Vec::new(), values });
        }
    }
}

/// What a list is that has a tensor, or a tensor and a label, for each recording, in words.
fn one_by_one(items: &[Value]) -> Option<String> {
    // Fewer may be a list of splits.
    const MANY: usize = 8;
    let shape = |item: &Value| item.as_tensor().map(|tensor| tensor.shape.clone());
    let pair = |item: &Value| match item.items() {
        Some([x, y]) if shape(y).is_none_or(|shape| shape.iter().all(|&dim| dim == 1)) => shape(x),
        _ => None,
    };
    let all = |of: &dyn Fn(&Value) -> Option<Vec<usize>>| {
        let first = items.first().and_then(of)?;
        (items.len() > MANY && items.iter().all(|item| of(item).as_ref() == Some(&first)))
            .then_some(items.len())
    };
    if let Some(n) = all(&|item| shape(item).filter(|shape| !shape.is_empty())) {
        return Some(format!("a list of {n} tensors, one a recording; save torch.stack(...) of it"));
    }
    all(&pair).map(|n| {
        format!(
            "a list of {n} pairs of a recording and its label; save {{'train_x': torch.stack([x for x, y in pairs]), \
             'train_y': torch.tensor([int(y) for x, y in pairs])}} and the same of the test split"
        )
    })
}

fn of_tensor(name: String, tensor: TensorData) -> NamedArray {
    let kind = match tensor.dtype {
        DType::F64 => Scalar::F64,
        DType::F32 => Scalar::F32,
        DType::F16 => Scalar::F16,
        DType::I64 => Scalar::I64,
        DType::I32 => Scalar::I32,
        DType::I16 => Scalar::I16,
        DType::I8 => Scalar::I8,
        DType::U64 => Scalar::U64,
        DType::U32 => Scalar::U32,
        DType::U16 => Scalar::U16,
        DType::U8 | DType::Bool => Scalar::U8,
        DType::BF16 => {
            let wide = TensorData::from_f32(&tensor.shape, &tensor.to_f32());
            return of_tensor(name, wide);
        }
    };
    let bytes = Arc::unwrap_or_clone(tensor.bytes);
    NamedArray { name, shape: tensor.shape, values: ArrayValues::Numbers(kind, bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Split, read, read_split};

    fn dict(entries: Vec<(&str, Value)>) -> Value {
        Value::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    fn tensor(shape: &[usize]) -> Value {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| (i * 7 % 19) as f32 / 9.0 - 1.0).collect();
        TensorData::from_f32(shape, &values).into()
    }

    fn write(path: &Path, value: &Value) {
        escape_checkpoint::write(path, value).unwrap();
    }

    #[test]
    fn tensors_are_recordings() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.pt");
        let labels = |n: i64| Value::List((0..n).map(|i| Value::Int(i % 3)).collect());
        write(
            &path,
            &dict(vec![("test_x", tensor(&[6, 2, 100])), ("test_y", labels(6)), ("note", "a rat".into())]),
        );
        let (data, notes) = read(&path, &ReadOptions::default()).unwrap();
        assert_eq!((data.test.len(), data.test.contacts, &data.test.y[..3]), (6, 2, &[0, 1, 2][..]));
        assert!(notes[0].to_string().contains("torch.save"));
        assert_eq!(read_split(&path, Split::Test, &ReadOptions::default()).unwrap().0, data.test);
        assert!(are_recordings(&Checkpoint {
            extra: vec![("test_x".into(), Value::None)],
            ..Checkpoint::default()
        }));

        // Other names, in dictionaries and lists; names of classes; axes.
        let names = Value::List(["prick", "dorsiflexion"].map(Value::from).to_vec());
        let nested = dict(vec![("train", Value::Tuple(vec![tensor(&[2, 100, 4]), names]))]);
        write(&path, &nested);
        let error = read(&path, &ReadOptions::default()).unwrap_err().to_string();
        assert!(error.contains("train.0 (2 x 100 x 4)") && error.contains("--x NAME"), "{error}");
        let options = ReadOptions {
            x: vec!["train.0".into()],
            y: vec!["train.1".into()],
            axes: Some("N,S,C".parse().unwrap()),
            ..ReadOptions::default()
        };
        let (data, _) = read(&path, &options).unwrap();
        assert_eq!((data.train.contacts, data.train.samples, &data.train.y[..]), (4, 100, &[2, 0][..]));
    }

    /// A tensor a recording, or a pair with its label, is no array; nor is an object.
    #[test]
    fn lists_of_recordings_are_called_so() {
        let tensor =
            |shape: &[usize]| Value::from(TensorData::from_f32(shape, &vec![0.0; shape.iter().product()]));
        let described = |value: Value| {
            let mut arrays = Vec::new();
            collect(String::new(), value, &mut arrays);
            arrays.iter().map(|array| array.described().describe(&array.name)).collect::<Vec<_>>()
        };
        let said = described(Value::List(vec![tensor(&[2, 3]); 9]));
        assert_eq!(said, ["tensor (a list of 9 tensors, one a recording; save torch.stack(...) of it)"]);
        let pair = Value::Tuple(vec![tensor(&[2, 3]), Value::Int(1)]);
        let said = described(Value::List(vec![pair; 9]));
        assert!(
            said.len() == 1 && said[0].contains("a list of 9 pairs") && said[0].contains("torch.stack"),
            "{said:?}"
        );
        // Labels are numbers; splits, or tensors of other shapes, are arrays of their own.
        assert_eq!(described(Value::List(vec![tensor(&[]); 9])), ["tensor (9)"]);
        assert_eq!(described(Value::List(vec![tensor(&[2, 3]); 2])), ["0 (2 x 3)", "1 (2 x 3)"]);
        let object = Value::Opaque(Box::new(escape_checkpoint::Opaque {
            what: "an object of torch.utils.data.dataset.TensorDataset".to_owned(),
            remedy: String::new(),
            fields: Vec::new(),
            is_tensor: false,
        }));
        assert!(described(object)[0].contains("TensorDataset; save its tensors"));
    }

    /// Single numbers are asked for more than once, and tensors can be read but once.
    #[test]
    fn numbers_beside_the_tensors_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.pt");
        let x: Vec<f32> = (0..12).map(|i| i as f32 / 11.0).collect();
        let entries = [
            ("train_x", TensorData::from_f32(&[2, 2, 3], &x).into()),
            ("train_y", Value::List(vec![Value::Int(0), Value::Int(2)])),
            ("contacts", Value::Int(2)),
            ("sample_rate_hz", Value::Float(24e3)),
        ];
        let entries = entries.map(|(key, value)| (Value::from(key), value)).to_vec();
        escape_checkpoint::write(&path, &Value::Dict(entries)).unwrap();
        let (data, _) = read(&path, &ReadOptions::default()).unwrap();
        assert_eq!((data.train.contacts, data.train.samples, data.sample_rate_hz), (2, 3, 24e3));
    }

    #[test]
    fn a_network_is_no_recordings() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["n.pth", "n.safetensors"] {
            let path = dir.path().join(name);
            let weights = vec![("features.0.weight".to_owned(), TensorData::from_f32(&[2], &[0.5, 1.0]))];
            Checkpoint { weights, ..Checkpoint::default() }.save(&path).unwrap();
            let error = read(&path, &ReadOptions::default()).unwrap_err().to_string();
            assert!(error.contains("changed places") && error.contains(name), "{error}");
        }
    }
}
