//! A network's description as a text: the YAML file of `--network`, and what a checkpoint keeps of a network that its names
//! and shapes do not tell. `docs/networks.md` has its form.

use std::fmt;
use std::path::Path;

use escape_files::text::{DEEPEST, too_deep};
use escape_network::NetworkError;
use escape_network::sequential::{Conv2d, Layer, Named, Padding, Pool, Pooling, Sequential, Shape, Size};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::{Checkpoint, Value};

/// Key of the description in a checkpoint; the study's dictionary has none.
pub const NETWORK_KEY: &str = "escape_network";

/// Bytes of the largest description.
const LARGEST: usize = 1 << 20;

/// A description that is none.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// The file cannot be read.
    #[error("{path}: the network's description cannot be read: {why}")]
    Io {
        /// Which file.
        path: std::path::PathBuf,
        /// What the system answered.
        why: std::io::Error,
    },
    /// No YAML, or not of this form.
    #[error("{source_name}: {why}")]
    Form {
        /// The file.
        source_name: String,
        /// What is wrong, and where.
        why: String,
    },
    /// A network that cannot be.
    #[error("{source_name}: {why}")]
    Network {
        /// The file.
        source_name: String,
        /// What is wrong with it.
        why: NetworkError,
    },
}

/// Reads a description from a file.
///
/// # Errors
/// It is not there, too large, of another form, or of a network that cannot be.
pub fn read(path: &Path) -> Result<Sequential, DescriptionError> {
    let io = |why| DescriptionError::Io { path: path.to_path_buf(), why };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > LARGEST as u64 {
        return Err(too_large(&path.display().to_string(), size));
    }
    let text = std::fs::read_to_string(path).map_err(io)?;
    parse(&path.display().to_string(), &text)
}

fn too_large(source: &str, size: u64) -> DescriptionError {
    let why = format!("expected a description of at most {LARGEST} bytes, got {size}");
    DescriptionError::Form { source_name: source.to_owned(), why }
}

/// Reads a description from a text that `source` names.
///
/// # Errors
/// It is too large, of another form, or of a network that cannot be.
pub fn parse(source: &str, text: &str) -> Result<Sequential, DescriptionError> {
    let form = |why: String| DescriptionError::Form { source_name: source.to_owned(), why };
    if text.len() > LARGEST {
        return Err(too_large(source, text.len() as u64));
    }
    if too_deep(text) {
        return Err(form(format!("nested more than {DEEPEST} levels deep; no description is")));
    }
    let value: serde_yaml::Value =
        serde_yaml::from_str(text).map_err(|why| form(format!("no valid YAML: {why}")))?;
    let document: Document = serde_path_to_error::deserialize(value)
        .map_err(|why| form(format!("at {}: {}", why.path(), why.inner())))?;
    let Document { input: [channels, height, width], classes, layers } = document;
    let layers = layers.into_iter().map(Entry::named).collect::<Result<_, _>>().map_err(form)?;
    let classes = classes.into_iter().map(|Text(name)| name).collect();
    Sequential::new(Shape::new(channels, height, width), layers, classes)
        .map_err(|why| DescriptionError::Network { source_name: source.to_owned(), why })
}

/// A network as YAML, one layer a line.
pub fn to_yaml(network: &Sequential) -> String {
    let Shape { channels, height, width } = network.input();
    let mut text = format!("input: [{channels}, {height}, {width}]\n");
    if !network.class_names().is_empty() {
        let names: Vec<String> = network.class_names().iter().map(|name| quoted(name)).collect();
        text.push_str(&format!("classes: [{}]\n", names.join(", ")));
    }
    text.push_str("layers:\n");
    for layer in network.layers() {
        text.push_str(&format!("  - {}\n", line(layer)));
    }
    text
}

/// One layer of a description.
pub fn line(Named { name, layer }: &Named) -> String {
    let mut parts = vec![format!("type: {}", layer.kind())];
    if !name.is_empty() {
        parts.push(format!("name: {}", quoted(name)));
    }
    let size = |(rows, columns): Size| {
        if rows == columns { rows.to_string() } else { format!("[{rows}, {columns}]") }
    };
    let padding = |padding: Padding| {
        let Padding { top, bottom, left, right } = padding;
        if padding == Padding::symmetric((top, left)) {
            size((top, left))
        } else {
            format!("[{top}, {bottom}, {left}, {right}]")
        }
    };
    match *layer {
        Layer::Conv2d(conv) => {
            parts.push(format!("out: {}, kernel: {}", conv.out, size(conv.kernel)));
            parts.push(format!("stride: {}, padding: {}", size(conv.stride), padding(conv.padding)));
            parts.push(format!("groups: {}, bias: {}", conv.groups, conv.bias));
        }
        Layer::Linear { out, bias } => parts.push(format!("out: {out}, bias: {bias}")),
        Layer::BatchNorm { eps, affine } => parts.push(format!("eps: {eps:e}, affine: {affine}")),
        Layer::Pool(pool) => {
            parts.push(format!("kernel: {}, stride: {}", size(pool.kernel), size(pool.stride)));
            parts.push(format!("padding: {}, ceil: {}", padding(pool.padding), pool.ceil));
            if let Pooling::Average { count_padding } = pool.pooling {
                parts.push(format!("count_include_pad: {count_padding}"));
            }
        }
        Layer::AdaptiveAvgPool { out } => parts.push(format!("out: {}", size(out))),
        Layer::Dropout { p } => parts.push(format!("p: {p}")),
        Layer::Relu | Layer::Flatten => {}
    }
    format!("{{{}}}", parts.join(", "))
}

/// A text as YAML takes it for nothing else.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(plain);
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if word && !reserved.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// The description that a checkpoint keeps, if it keeps one.
///
/// # Errors
/// What is there is none; `path` is the file to name.
pub fn stored(checkpoint: &Checkpoint, path: &Path) -> Result<Option<Sequential>, DescriptionError> {
    let entry = checkpoint.extra.iter().find(|entry| entry.0 == NETWORK_KEY);
    // Somebody else's key of this name is no text.
    let Some(text) = entry.and_then(|entry| entry.1.as_str()) else { return Ok(None) };
    parse(&format!("{}: its key '{NETWORK_KEY}'", path.display()), text).map(Some)
}

/// Keeps a description in a checkpoint, in the place of one that is there.
pub fn store(checkpoint: &mut Checkpoint, network: &Sequential) {
    checkpoint.extra.retain(|entry| entry.0 != NETWORK_KEY);
    checkpoint.extra.push((NETWORK_KEY.to_owned(), Value::Str(to_yaml(network))));
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Channels, rows, columns.
    input: [usize; 3],
    #[serde(default)]
    classes: Vec<Text>,
    layers: Vec<Entry>,
}

/// A layer as it is written.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Entry {
    Conv2d {
        name: Text,
        out: usize,
        kernel: One,
        #[serde(default = "one")]
        stride: One,
        #[serde(default)]
        padding: Around,
        #[serde(default = "one_group")]
        groups: usize,
        #[serde(default = "yes")]
        bias: bool,
    },
    Linear {
        name: Text,
        out: usize,
        #[serde(default = "yes")]
        bias: bool,
    },
    BatchNorm {
        name: Text,
        #[serde(default = "eps")]
        eps: f64,
        #[serde(default = "yes")]
        affine: bool,
    },
    Relu {
        #[serde(default)]
        name: Text,
    },
    MaxPool2d {
        #[serde(default)]
        name: Text,
        kernel: One,
        stride: Option<One>,
        #[serde(default)]
        padding: Around,
        #[serde(default)]
        ceil: bool,
    },
    AvgPool2d {
        #[serde(default)]
        name: Text,
        kernel: One,
        stride: Option<One>,
        #[serde(default)]
        padding: Around,
        #[serde(default)]
        ceil: bool,
        #[serde(default = "yes")]
        count_include_pad: bool,
    },
    AdaptiveAvgPool2d {
        #[serde(default)]
        name: Text,
        out: One,
    },
    Flatten {
        #[serde(default)]
        name: Text,
    },
    Dropout {
        #[serde(default)]
        name: Text,
        #[serde(default = "half")]
        p: f64,
    },
}

fn one() -> One {
    One((1, 1))
}

fn one_group() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn eps() -> f64 {
    1e-5
}

fn half() -> f64 {
    0.5
}

impl Entry {
    fn named(self) -> Result<Named, String> {
        let (name, layer) = match self {
            Self::Conv2d { name, out, kernel: One(kernel), stride: One(stride), padding, groups, bias } => {
                let padding = match padding {
                    Around::Same if stride != (1, 1) => {
                        return Err(format!(
                            "{}: padding same is for stride 1; give the zeros, [top, bottom, left, right]",
                            name.0
                        ));
                    }
                    Around::Same => Padding::same(kernel),
                    Around::Zeros(padding) => padding,
                };
                (name, Layer::Conv2d(Conv2d { out, kernel, stride, padding, groups, bias }))
            }
            Self::Linear { name, out, bias } => (name, Layer::Linear { out, bias }),
            Self::BatchNorm { name, eps, affine } => (name, Layer::BatchNorm { eps, affine }),
            Self::Relu { name } => (name, Layer::Relu),
            Self::MaxPool2d { name, kernel, stride, padding, ceil } => {
                (name, Layer::Pool(pool(Pooling::Max, kernel, stride, padding, ceil)?))
            }
            Self::AvgPool2d { name, kernel, stride, padding, ceil, count_include_pad } => {
                let pooling = Pooling::Average { count_padding: count_include_pad };
                (name, Layer::Pool(pool(pooling, kernel, stride, padding, ceil)?))
            }
            Self::AdaptiveAvgPool2d { name, out: One(out) } => (name, Layer::AdaptiveAvgPool { out }),
            Self::Flatten { name } => (name, Layer::Flatten),
            Self::Dropout { name, p } => (name, Layer::Dropout { p }),
        };
        Ok(Named { name: name.0, layer })
    }
}

fn pool(
    pooling: Pooling,
    One(kernel): One,
    stride: Option<One>,
    padding: Around,
    ceil: bool,
) -> Result<Pool, String> {
    let Around::Zeros(padding) = padding else {
        return Err("padding same is a convolution's; give a pooling the rows and columns".to_owned());
    };
    Ok(Pool { pooling, kernel, stride: stride.map_or(kernel, |One(stride)| stride), padding, ceil })
}

/// One number, or rows and columns.
struct One(Size);

/// Zeros around an input.
enum Around {
    Zeros(Padding),
    Same,
}

impl Default for Around {
    fn default() -> Self {
        Self::Zeros(Padding::default())
    }
}

/// A text, or a number that is meant as one.
#[derive(Default)]
struct Text(String);

/// Whole numbers, alone or in a list, and words.
struct Numbers(&'static str);

enum Found {
    Numbers(Vec<usize>),
    Word(String),
}

impl<'de> Visitor<'de> for Numbers {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Found, E> {
        let number = usize::try_from(number).map_err(|_| E::custom(format!("{number} is too large")))?;
        Ok(Found::Numbers(vec![number]))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Found, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Found, E> {
        Ok(Found::Word(word.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = items.next_element::<usize>()? {
            if numbers.len() == 4 {
                return Err(de::Error::custom(format!("expected {}, got a longer list", self.0)));
            }
            numbers.push(number);
        }
        Ok(Found::Numbers(numbers))
    }
}

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        const FORM: &str = "a number, or [rows, columns]";
        match d.deserialize_any(Numbers(FORM))? {
            Found::Numbers(numbers) => match numbers[..] {
                [both] => Ok(Self((both, both))),
                [rows, columns] => Ok(Self((rows, columns))),
                _ => Err(de::Error::custom(format!("expected {FORM}, got {} numbers", numbers.len()))),
            },
            Found::Word(word) => Err(de::Error::custom(format!("expected {FORM}, got {word}"))),
        }
    }
}

impl<'de> Deserialize<'de> for Around {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        const FORM: &str = "a number, [rows, columns], [top, bottom, left, right], or same";
        match d.deserialize_any(Numbers(FORM))? {
            Found::Word(word) if word == "same" => Ok(Self::Same),
            Found::Word(word) => Err(de::Error::custom(format!("expected {FORM}, got {word}"))),
            Found::Numbers(numbers) => match numbers[..] {
                [all] => Ok(Self::Zeros(Padding::symmetric((all, all)))),
                [rows, columns] => Ok(Self::Zeros(Padding::symmetric((rows, columns)))),
                [top, bottom, left, right] => Ok(Self::Zeros(Padding { top, bottom, left, right })),
                _ => Err(de::Error::custom(format!("expected {FORM}, got {} numbers", numbers.len()))),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self(match serde_yaml::Value::deserialize(d)? {
            serde_yaml::Value::String(text) => text,
            serde_yaml::Value::Number(number) => number.to_string(),
            serde_yaml::Value::Bool(value) => value.to_string(),
            _ => return Err(de::Error::custom("expected a name")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_network::arch::Architecture;
    use escape_network::family::Family;

    const WHOLE: &str = "
input: [1, 28, 28]
classes: [zero, 1, 'yes']
layers:
  - {type: conv2d, name: features.0, out: 32, kernel: [3, 2], stride: 1, padding: [1, 2, 0, 1], groups: 1, bias: true}
  - {type: batch_norm, name: features.1, eps: 1.0e-5}
  - {type: relu, name: 2}
  - {type: max_pool2d, kernel: 2, stride: 2, padding: 0, ceil: false}
  - {type: conv2d, name: features.4, out: 32, kernel: 3, groups: 32, padding: same, bias: false}
  - {type: relu}
  - {type: avg_pool2d, kernel: [3, 2], stride: 2, padding: [1, 0], count_include_pad: false}
  - {type: adaptive_avg_pool2d, out: [2, 1]}
  - {type: dropout, p: 0.25}
  - {type: flatten}
  - {type: linear, name: classifier.0, out: 3}
";

    #[test]
    fn what_is_written_is_read_back() {
        let network = parse("n.yaml", WHOLE).unwrap();
        assert_eq!(network.class_names(), ["zero", "1", "yes"]);
        assert_eq!(parse("again", &to_yaml(&network)).unwrap(), network);
        for arch in Architecture::ALL {
            let network = Family::published(arch).network(56, 100).unwrap();
            assert_eq!(parse("again", &to_yaml(&network)).unwrap(), network);
        }
        for name in ["a b", "\"\\'", "\u{7f}\n\u{2028}", "\u{1f9e0}", "null", "1e3", "~", "#", "é"] {
            let layers = vec![
                Named { name: String::new(), layer: Layer::Flatten },
                Named { name: name.into(), layer: Layer::Linear { out: 1, bias: true } },
            ];
            let network = Sequential::new(Shape::new(1, 2, 2), layers, vec![name.into()]).unwrap();
            assert_eq!(parse("again", &to_yaml(&network)).unwrap(), network, "{name:?}");
        }
    }

    #[test]
    fn checkpoints_keep_it() {
        let network = parse("n.yaml", WHOLE).unwrap();
        let mut checkpoint = Checkpoint::default();
        let path = Path::new("a.pth");
        assert_eq!(stored(&checkpoint, path).unwrap(), None);
        checkpoint.extra.push((NETWORK_KEY.into(), Value::Int(3)));
        assert_eq!(stored(&checkpoint, path).unwrap(), None);
        store(&mut checkpoint, &network);
        assert_eq!(stored(&checkpoint, path).unwrap(), Some(network));
        checkpoint.extra = vec![(NETWORK_KEY.into(), Value::Str("layers: []".into()))];
        let why = stored(&checkpoint, path).unwrap_err().to_string();
        assert!(why.contains("a.pth: its key 'escape_network'") && why.contains("input"), "{why}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let refused = |layers: &str, words: &[&str]| {
            let text = format!("input: [1, 9, 9]\nlayers: [{layers}]");
            let why = parse("n.yaml", &text).unwrap_err().to_string();
            assert!(why.starts_with("n.yaml: ") && words.iter().all(|word| why.contains(word)), "{why}");
        };
        refused("{type: conv3d}", &["layers[0]", "conv3d", "conv2d"]);
        refused("{type: relu}, {type: conv2d, name: a, out: 2, kernl: 3}", &["layers[1]", "kernl"]);
        refused("{type: conv2d, name: a, out: 2}", &["kernel"]);
        refused("{type: conv2d, name: a, out: 2, kernel: [1, 2, 3]}", &["[rows, columns]", "3 numbers"]);
        refused("{type: conv2d, name: a, out: 2, kernel: -1}", &["-1"]);
        refused("{type: conv2d, name: a, out: 2, kernel: 3, stride: 2, padding: same}", &["a:", "stride 1"]);
        refused("{type: conv2d, name: a, out: 2, kernel: 3, padding: [1, 1, 1, 1, 1]}", &["longer list"]);
        refused("{type: linear, name: a, out: 99999999999999999999}", &["layers[0]"]);
        refused("{type: linear, name: a, out: 2}", &["layer 1 (a, linear)", "flatten before it"]);
        refused("7", &["layers[0]"]);
        for text in ["", "[", "input: [1, 2]\nlayers: []", "layers: []", &"[".repeat(100_000)] {
            assert!(parse("n.yaml", text).is_err());
        }
    }
}
