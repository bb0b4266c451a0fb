//! `model_config`: which layers, in which order, with which settings.

use std::fmt;

use escape_files::text::shown;
use escape_network::sequential::MOST_LAYERS;
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::budget::Budget;
use crate::error::Fault;

/// Memory for each byte of a configuration while it is read: a number of two bytes becomes sixteen in a list that grows.
const EXPANSION: usize = 24;

/// The layers of a model, each fed by the one before.
pub(super) struct Model {
    pub layers: Vec<Item>,
    /// What a sequential model says of its input beside its layers: sizes without the batch.
    pub input: Option<Vec<usize>>,
}

/// One layer.
pub(super) struct Item {
    pub class: String,
    pub name: String,
    /// Which one of its class it is among all layers, from 0: `.keras` files call it so.
    pub ordinal: usize,
    pub settings: Settings,
}

/// The settings of a layer of any class, those that matter here. What has several forms is looked at where it is used.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Settings {
    pub name: Option<String>,
    pub filters: Option<usize>,
    pub units: Option<usize>,
    pub kernel_size: Option<Box<RawValue>>,
    pub pool_size: Option<Box<RawValue>>,
    pub strides: Option<Box<RawValue>>,
    pub dilation_rate: Option<Box<RawValue>>,
    pub padding: Option<Box<RawValue>>,
    pub axis: Option<Box<RawValue>>,
    pub activation: Option<Box<RawValue>>,
    pub data_format: Option<String>,
    pub groups: Option<usize>,
    pub depth_multiplier: Option<usize>,
    pub use_bias: Option<bool>,
    pub epsilon: Option<f64>,
    pub scale: Option<Box<RawValue>>,
    pub lora_rank: Option<Box<RawValue>>,
    pub dtype: Option<Box<RawValue>>,
    pub center: Option<bool>,
    pub rate: Option<f64>,
    pub max_value: Option<f64>,
    pub negative_slope: Option<Box<RawValue>>,
    pub threshold: Option<Box<RawValue>>,
    pub keepdims: Option<bool>,
    #[serde(alias = "batch_input_shape")]
    pub batch_shape: Option<Vec<Option<usize>>>,
    pub target_shape: Option<Vec<i64>>,
}

#[derive(Deserialize)]
#[serde(expecting = "a model's class and configuration")]
struct Document<'a> {
    class_name: String,
    #[serde(borrow)]
    config: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(expecting = "a list of layers")]
struct Config<'a> {
    #[serde(borrow)]
    layers: Pieces<'a>,
    #[serde(default)]
    build_input_shape: Option<Vec<Option<usize>>>,
    #[serde(default)]
    input_layers: Ends,
    #[serde(default)]
    output_layers: Ends,
}

#[derive(Deserialize)]
#[serde(expecting = "a layer's class and settings")]
struct Entry<'a> {
    class_name: String,
    #[serde(borrow)]
    config: &'a RawValue,
    #[serde(default)]
    name: Option<String>,
    /// What a class of somebody's own is registered as, and the module that a class is of; `.h5` files say neither.
    #[serde(default)]
    registered_name: Option<String>,
    #[serde(default)]
    module: Option<String>,
    #[serde(default)]
    inbound_nodes: Option<Fed>,
}

impl Model {
    /// Reads a configuration.
    pub fn parse(text: &str, budget: &mut Budget) -> Result<Self, Fault> {
        const WHAT: &str = "the model's configuration";
        budget.take(WHAT, text.len(), EXPANSION)?;
        let Document { class_name, config } = from_json(text, "model_config")?;
        let functional = match class_name.as_str() {
            "Sequential" => false,
            "Functional" | "Model" => true,
            other => {
                return Err(Fault::unsupported(format!(
                    "the model is of the class '{}', whose architecture is a program; save one built as keras.Sequential or \
                     keras.Model(inputs, outputs)",
                    shown(other)
                )));
            }
        };
        // Before Keras 2.3 a sequential model's configuration was the list itself.
        let config = match config.get().trim_start().starts_with('[') {
            true => Config {
                layers: from_json(config.get(), "its layers")?,
                build_input_shape: None,
                input_layers: Ends::default(),
                output_layers: Ends::default(),
            },
            false => from_json(config.get(), "its configuration")?,
        };
        let mut layers = Vec::new();
        let mut links = Vec::new();
        for (i, piece) in config.layers.0.iter().enumerate() {
            let entry: Entry = from_json(piece.get(), &format!("layer {}", i + 1))?;
            let class = shown(&entry.class_name);
            let what = format!("layer {} ({class})", i + 1);
            let elsewhere = entry.module.as_ref().filter(|module| module.split('.').next() != Some("keras"));
            if let Some(own) = entry.registered_name.as_ref().or(elsewhere) {
                return Err(Fault::unsupported(format!(
                    "{what} is of a class of its own ('{}'), whose computation is in no file; save a model of Keras's own \
                     layers",
                    shown(own)
                )));
            }
            if entry.inbound_nodes.as_ref().is_some_and(|fed| fed.training) {
                return Err(Fault::unsupported(format!(
                    "{what} is called with training=True, so that it computes as in training; build the model without"
                )));
            }
            if entry.config.get().trim_start().starts_with('{') {
                let mut settings: Settings = from_json(entry.config.get(), &what)?;
                let name = entry.name.or(settings.name.take()).unwrap_or_else(|| format!("layer_{}", i + 1));
                let ordinal = layers.iter().filter(|item: &&Item| item.class == entry.class_name).count();
                links.push(entry.inbound_nodes);
                layers.push(Item { class: entry.class_name, name, ordinal, settings });
            } else {
                return Err(Fault::damaged(format!("{what}: expected its settings, got something else")));
            }
        }
        let input = config.build_input_shape.map(|shape| sizes(&shape, "build_input_shape")).transpose()?;
        let model = match functional {
            false => Self { layers, input },
            true => Self {
                layers: chain(layers, &links, &config.input_layers, &config.output_layers)?,
                input: None,
            },
        };
        budget.give_back(text.len(), EXPANSION);
        // What stays are parts of the text and sizes, of which two bytes make sixteen, and the settings' fixed size.
        budget.take(WHAT, text.len(), 8)?;
        budget.take(WHAT, model.layers.len(), size_of::<Item>())?;
        Ok(model)
    }
}

/// The layers of a functional model in the order in which they feed each other.
fn chain(
    layers: Vec<Item>,
    links: &[Option<Fed>],
    inputs: &Ends,
    outputs: &Ends,
) -> Result<Vec<Item>, Fault> {
    let several = |what: &str, names: &[String]| {
        let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
        Fault::unsupported(format!(
            "the model has {} {what} ({}), expected one; save a model of one path in Python, keras.Model(input, output)",
            names.len(),
            names.join(", ")
        ))
    };
    if inputs.0.len() > 1 {
        return Err(several("inputs", &inputs.0));
    }
    let [last] = &outputs.0[..] else { return Err(several("outputs", &outputs.0)) };
    let place = |name: &str| {
        let place = layers.iter().position(|item| item.name == name);
        place.ok_or_else(|| Fault::damaged(format!("a layer '{}' that is used but not there", shown(name))))
    };
    let mut order = vec![place(last)?];
    let mut used = vec![false; layers.len()];
    loop {
        let at = order[order.len() - 1];
        let called = called(&layers[at]);
        if std::mem::replace(&mut used[at], true) {
            return Err(Fault::damaged(format!("{called} feeds itself")));
        }
        let Some(Fed { calls, from, .. }) = links.get(at).and_then(Option::as_ref) else { break };
        if *calls > 1 {
            return Err(Fault::unsupported(format!(
                "{called} is used {calls} times; only a network whose layers are used once each can be read"
            )));
        }
        match &from[..] {
            [] => break,
            [one] => order.push(place(one)?),
            several => {
                let names: Vec<String> = several.iter().map(|name| format!("'{}'", shown(name))).collect();
                return Err(Fault::unsupported(format!(
                    "{called} joins {} (a residual or parallel path); only layers one after the other can be read and \
                     converted: train a network without it",
                    names.join(" and ")
                )));
            }
        }
    }
    order.reverse();
    let mut slots: Vec<Option<Item>> = layers.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|at| slots[at].take()).collect())
}

/// A layer by name and class, for messages.
pub(super) fn called(item: &Item) -> String {
    format!("layer '{}' ({})", shown(&item.name), shown(&item.class))
}

/// Sizes without the batch, of which none may be open.
pub(super) fn sizes(shape: &[Option<usize>], what: &str) -> Result<Vec<usize>, Fault> {
    let shape = shape.get(1..).unwrap_or_default();
    let sizes: Option<Vec<usize>> = shape.iter().copied().collect();
    sizes.ok_or_else(|| {
        let sizes: Vec<String> = shape.iter().map(|n| n.map_or("any".to_owned(), |n| n.to_string())).collect();
        Fault::unsupported(format!(
            "{what}: the model takes recordings of {}, expected sizes that are fixed; build it for recordings of one shape",
            sizes.join(" x ")
        ))
    })
}

/// JSON of a form; `what` is what it should be.
pub(super) fn from_json<'a, T: Deserialize<'a>>(text: &'a str, what: &str) -> Result<T, Fault> {
    // In words that are no program's.
    let words = |why: serde_json::Error| why.to_string().replace("expected usize", "expected a whole number");
    serde_json::from_str(text).map_err(|why| Fault::damaged(format!("{what}: {}", words(why))))
}

/// A setting of several forms as one of them; `None` for another form.
pub(super) fn as_form<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// The texts of a list, of which there may be only so many.
#[derive(Default)]
struct Pieces<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Pieces<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Pieces<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MOST_LAYERS} layers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut pieces = Vec::new();
                while let Some(piece) = list.next_element()? {
                    if pieces.len() == MOST_LAYERS {
                        return Err(serde::de::Error::invalid_length(pieces.len() + 1, &self));
                    }
                    pieces.push(piece);
                }
                Ok(Pieces(pieces))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// The names of layers in a list `[["dense", 0, 0]]`, or in `["dense", 0, 0]`, as newer versions write a single one.
#[derive(Default)]
struct Ends(Vec<String>);

impl<'de> Deserialize<'de> for Ends {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Names).map(|names| Self(names.from))
    }
}

/// What feeds a layer: `[[["conv2d", 0, 0, {}]]]` in Keras 2, tensors with a `keras_history` in Keras 3.
#[derive(Default)]
struct Fed {
    /// How often the layer is used.
    calls: usize,
    /// Whether it is told to do as in training.
    training: bool,
    from: Vec<String>,
}

impl<'de> Deserialize<'de> for Fed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Names)
    }
}

/// Collects the names of layers, however deep they lie: the texts that a number follows.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Fed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names of layers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Fed, A::Error> {
        let mut fed = Fed::default();
        let mut name = None;
        while let Some(part) = list.next_element::<Part>()? {
            fed.calls += 1;
            match (part, name.take()) {
                (Part::Number, Some(text)) => fed.from.push(text),
                (Part::Text(text), _) => name = Some(text),
                (Part::Names { from, training }, _) => {
                    fed.from.extend(from);
                    fed.training |= training;
                }
                (Part::Number | Part::Bool(_) | Part::Other, _) => {}
            }
        }
        Ok(fed)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fed, A::Error> {
        let mut fed = Fed { calls: 1, ..Fed::default() };
        while let Some(key) = map.next_key::<String>()? {
            match (key.as_str(), map.next_value()?) {
                // What layers hand on beside their output is no path.
                ("mask", _) => {}
                ("training", Part::Bool(training)) => fed.training |= training,
                (_, Part::Names { from, training }) => {
                    fed.from.extend(from);
                    fed.training |= training;
                }
                _ => {}
            }
        }
        Ok(fed)
    }

    fn visit_unit<E>(self) -> Result<Fed, E> {
        Ok(Fed::default())
    }
}

/// A part of such a list.
enum Part {
    Text(String),
    Number,
    Bool(bool),
    Names { from: Vec<String>, training: bool },
    Other,
}

impl Part {
    fn of(Fed { from, training, .. }: Fed) -> Self {
        Self::Names { from, training }
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Part, E> {
                Ok(Part::Text(text.to_owned()))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Part, E> {
                Ok(Part::Number)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Part, E> {
                Ok(Part::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Part, E> {
                Ok(Part::Other)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Part, E> {
                Ok(Part::Bool(value))
            }

            fn visit_unit<E>(self) -> Result<Part, E> {
                Ok(Part::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Part, A::Error> {
                Names.visit_seq(list).map(Part::of)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Part, A::Error> {
                Names.visit_map(map).map(Part::of)
            }
        }
        deserializer.deserialize_any(Any)
    }
}
