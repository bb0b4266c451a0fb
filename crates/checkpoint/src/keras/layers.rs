//! A model's layers as those of PyTorch, and its variables turned to fit them.
//!
//! C channels, H rows, W columns of what a layer gets.

use std::io::{Read, Seek};

use escape_files::text::shown;
use escape_network::sequential::{Conv2d, Layer, Named, Padding, Pool, Pooling, Sequential, Shape, Size};
use serde_json::value::RawValue;

use super::config::{Item, Model, Settings, as_form, called, sizes};
use super::variables::Variables;
use crate::budget::Budget;
use crate::error::Fault;
use crate::{DType, TensorData};

/// A model, as it was understood.
pub(super) struct Built<'a> {
    pub network: Sequential,
    pub sources: Vec<Source<'a>>,
    /// What was left out, in words.
    pub notes: Vec<String>,
}

/// The layer of a model that some parameters come from.
pub(super) struct Source<'a> {
    item: &'a Item,
    /// What the parameters' layer is called.
    name: String,
    turn: Turn,
}

/// How the variables of a layer become parameters.
enum Turn {
    /// From (rows, columns, in / groups, out).
    Conv { inputs: usize, out: usize, kernel: Size, bias: bool },
    /// From (rows, columns, C, multiplier), into C x multiplier output channels.
    Depthwise { channels: usize, multiplier: usize, kernel: Size, bias: bool },
    /// From (in, out).
    Dense { inputs: usize, out: usize, bias: bool, order: Order },
    /// Vectors.
    BatchNorm { channels: usize, scale: bool, center: bool, order: Order },
}

/// In which order features lie in the model that come here from planes, channel by channel.
#[derive(Clone, Copy)]
enum Order {
    /// As here.
    Same,
    /// The channels of a pixel beside each other.
    ChannelsLast(Shape),
}

impl Order {
    /// Where feature `i` of the model is here.
    fn ours(self, i: usize) -> usize {
        match self {
            Self::Same => i,
            Self::ChannelsLast(Shape { channels, height, width }) => {
                let (pixel, channel) = (i / channels, i % channels);
                channel * (height * width) + pixel
            }
        }
    }
}

/// Layers that do nothing once a network is trained.
const TRAINING_ONLY: [&str; 13] = [
    "ActivityRegularization",
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "RandomBrightness",
    "RandomContrast",
    "RandomErasing",
    "RandomFlip",
    "RandomRotation",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
];
const READ: &str = "Conv2D, DepthwiseConv2D, Dense, BatchNormalization, ReLU, MaxPooling2D, AveragePooling2D, their global forms, \
                    ZeroPadding2D, Flatten and Dropout can be read";

/// Brings the layers of a model into this program's terms.
pub(super) fn build(model: &Model) -> Result<Built<'_>, Fault> {
    let mut builder = Builder::new(model)?;
    for item in &model.layers {
        builder.add(item).map_err(|fault| fault.within(&called(item)))?;
    }
    builder.finish()
}

struct Builder<'a> {
    /// The layer that gives recordings their channel, if there is one.
    reshape: Option<&'a Item>,
    /// Whether its channels come last.
    last: bool,
    /// What the first layer gets.
    input: Shape,
    /// What the next one gets.
    shape: Shape,
    flat: bool,
    order: Order,
    /// Zeros that a layer of their own puts around what comes next.
    zeros: Option<Padding>,
    softmax: Option<String>,
    layers: Vec<Named>,
    sources: Vec<Source<'a>>,
    notes: Vec<String>,
}

impl<'a> Builder<'a> {
    fn new(model: &'a Model) -> Result<Self, Fault> {
        let sizes_of = |item: &Item| {
            item.settings.batch_shape.as_ref().map(|shape| sizes(shape, &called(item))).transpose()
        };
        let mut given = None;
        for item in &model.layers {
            given = sizes_of(item)?;
            if given.is_some() || item.class != "InputLayer" {
                break;
            }
        }
        let Some(given) = given.or_else(|| model.input.clone()) else {
            return Err(Fault::unsupported(
                "the model does not say the shape of its input; build it with an Input layer, keras.Input((64, 100, 1)), and save \
                 it anew",
            ));
        };
        // That of a flatten says another thing.
        let planar = model.layers.iter().filter(|item| item.class != "Flatten");
        let formats = planar.filter_map(|item| item.settings.data_format.as_deref());
        let mut formats: Vec<&str> = formats.collect();
        formats.sort_unstable();
        formats.dedup();
        let last = match formats[..] {
            [] | ["channels_last"] => true,
            ["channels_first"] => false,
            _ => {
                return Err(Fault::unsupported(format!(
                    "its layers' data_format: expected channels_last or channels_first throughout, got {}",
                    formats.iter().map(|format| shown(format)).collect::<Vec<_>>().join(", ")
                )));
            }
        };
        // A layer that gives recordings their channel may come first.
        let reshaped = model.layers.iter().find(|item| item.class != "InputLayer");
        let reshaped = reshaped.filter(|item| item.class == "Reshape");
        let count = |sizes: &[usize]| sizes.iter().fold(1usize, |n, &size| n.saturating_mul(size));
        let target = match reshaped {
            None => None,
            Some(item) => {
                let sizes = item.settings.target_shape.as_deref().unwrap_or_default();
                let wrong = || Fault::damaged(format!("{}: its target_shape is no shape", called(item)));
                Some(resolved(sizes, count(&given)).ok_or_else(wrong)?)
            }
        };
        let planes = |sizes: &[usize]| match (sizes, last) {
            (&[height, width], _) | (&[height, width, 1], true) | (&[1, height, width], false) => {
                Some(Shape::new(1, height, width))
            }
            (&[height, width, channels], true) | (&[channels, height, width], false) => {
                Some(Shape::new(channels, height, width))
            }
            _ => None,
        };
        let input = match target {
            // The recording's own rows and columns stay, or it has none.
            Some(target) if count(&target) == count(&given) => planes(&target)
                .filter(|to| given.len() == 1 && to.channels == 1 || planes(&given) == Some(*to)),
            Some(_) => None,
            None => planes(&given),
        };
        let input = input.ok_or_else(|| {
            let by = reshaped
                .map(|item| format!(", made into another shape by {}", called(item)))
                .unwrap_or_default();
            Fault::unsupported(format!(
                "its input is {}{by}, expected recordings of rows x columns x channels (64 x 100 x 1, say)",
                given.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
            ))
        })?;
        Ok(Self {
            reshape: reshaped,
            last,
            input,
            shape: input,
            flat: false,
            order: Order::Same,
            zeros: None,
            softmax: None,
            layers: Vec::new(),
            sources: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// A name that no layer has yet: what is turned in one may make it another's.
    fn unique(&self, name: String) -> String {
        let taken = |name: &str| self.sources.iter().any(|source| source.name == name);
        let mut candidates = (2..).map(|n| format!("{name}_{n}"));
        match taken(&name) {
            true => candidates.find(|candidate| !taken(candidate)).unwrap_or(name),
            false => name,
        }
    }

    /// Appends a layer, and learns what it gives.
    fn push(&mut self, name: &str, layer: Layer) -> Result<(), Fault> {
        let name = if layer.has_parameters() { name } else { "" };
        self.layers.push(Named { name: name.to_owned(), layer });
        (self.shape, self.flat) = layer.output(self.shape, self.flat).map_err(Fault::unsupported)?;
        Ok(())
    }

    fn add(&mut self, item: &'a Item) -> Result<(), Fault> {
        let Settings { use_bias, activation, .. } = &item.settings;
        if TRAINING_ONLY.contains(&item.class.as_str()) {
            self.notes
                .push(format!("{} was left out: it does nothing once a network is trained", called(item)));
            return Ok(());
        }
        let passive = matches!(item.class.as_str(), "Dropout" | "InputLayer" | "Flatten");
        if let Some(softmax) = self.softmax.as_ref().filter(|_| !passive) {
            return Err(Fault::unsupported(format!(
                "comes behind the softmax of {softmax}, which spikes have no counterpart of; a softmax may only be the last layer"
            )));
        }
        if item.settings.dtype.as_deref().is_some_and(|raw| raw.get().contains("Quantized")) {
            return Err(Fault::unsupported("is quantised; save the model before model.quantize()"));
        }
        // Zeros stay zeros in these.
        let keeps_zeros =
            ["Conv2D", "DepthwiseConv2D", "ZeroPadding2D", "Dropout", "SpatialDropout2D", "ReLU"];
        if self.zeros.is_some() && !keeps_zeros.contains(&item.class.as_str()) {
            return Err(Fault::unsupported(
                "comes behind ZeroPadding2D, which only a convolution may; give it a padding of its own",
            ));
        }
        if item.settings.lora_rank.as_deref().is_some_and(|raw| raw.get() != "null") {
            return Err(Fault::unsupported(
                "has weights of low rank beside its own (LoRA); merge them before saving",
            ));
        }
        let bias = use_bias.unwrap_or(true);
        let name = self.unique(name_of(&item.name));
        match item.class.as_str() {
            "InputLayer" => {}
            "Reshape" if self.reshape.is_some_and(|first| std::ptr::eq(first, item)) => {}
            "Reshape" => self.reshape(item)?,
            "Conv2D" => {
                let conv =
                    self.convolution(item, item.settings.groups.unwrap_or(1), item.settings.filters)?;
                let inputs = self.shape.channels.checked_div(conv.groups).unwrap_or(0);
                self.push(&name, Layer::Conv2d(conv))?;
                let turn = Turn::Conv { inputs, out: conv.out, kernel: conv.kernel, bias };
                self.sources.push(Source { item, name, turn });
            }
            "DepthwiseConv2D" => {
                let channels = self.shape.channels;
                let multiplier = item.settings.depth_multiplier.unwrap_or(1);
                let conv = self.convolution(item, channels, multiplier.checked_mul(channels))?;
                self.push(&name, Layer::Conv2d(conv))?;
                let turn = Turn::Depthwise { channels, multiplier, kernel: conv.kernel, bias };
                self.sources.push(Source { item, name, turn });
            }
            "Dense" => {
                if !self.flat {
                    return Err(Fault::unsupported(format!(
                        "gets {} channels x rows x columns and would work on each pixel; put a Flatten before it",
                        self.shape
                    )));
                }
                let inputs = self.shape.channels;
                let out = item.settings.units.ok_or_else(|| absent("units"))?;
                self.push(&name, Layer::Linear { out, bias })?;
                let order = std::mem::replace(&mut self.order, Order::Same);
                self.sources.push(Source { item, name, turn: Turn::Dense { inputs, out, bias, order } });
            }
            "BatchNormalization" => self.batch_norm(item, name)?,
            "ReLU" => {
                plain_relu(&item.settings)?;
                self.push("", Layer::Relu)?;
            }
            "Activation" => {}
            "Softmax" => {
                let last = if self.flat { [-1, 1] } else { [-1, 3] };
                let axis = item.settings.axis.as_ref().map(|raw| as_form::<i64>(raw));
                if !axis.is_none_or(|axis| axis.is_some_and(|axis| last.contains(&axis))) {
                    return Err(Fault::unsupported("is a softmax along another axis than the classes"));
                }
                self.softmax = Some(called(item));
            }
            "MaxPooling2D" => self.pool(item, Pooling::Max)?,
            // Keras never counts padding.
            "AveragePooling2D" => self.pool(item, Pooling::Average { count_padding: false })?,
            "GlobalAveragePooling2D" | "GlobalMaxPooling2D" => {
                let layer = match item.class.as_str() {
                    "GlobalAveragePooling2D" => Layer::AdaptiveAvgPool { out: (1, 1) },
                    _ => Layer::Pool(Pool::new(Pooling::Max, (self.shape.height, self.shape.width))),
                };
                self.push("", layer)?;
                if !item.settings.keepdims.unwrap_or(false) {
                    self.push("", Layer::Flatten)?;
                }
            }
            "ZeroPadding2D" => {
                let raw = item.settings.padding.as_deref();
                let around = raw.and_then(around).ok_or_else(|| {
                    Fault::damaged("padding: expected whole numbers of at least 0: one, two, or two pairs")
                })?;
                let before = self.zeros.unwrap_or_default();
                let zeros = sum(before, around).ok_or_else(|| Fault::unsupported("pads by too much"))?;
                self.zeros = Some(zeros).filter(|zeros| *zeros != Padding::default());
            }
            "Flatten" if self.flat => {}
            "Flatten" => {
                // Told that channels come first, Keras puts them last, so that the order is that of other models.
                self.order = match (self.last, item.settings.data_format.as_deref()) {
                    (true, Some("channels_first")) => {
                        return Err(Fault::unsupported(
                            "takes channels for rows (data_format), which is not read",
                        ));
                    }
                    (true, _) | (false, Some("channels_first")) => Order::ChannelsLast(self.shape),
                    (false, _) => Order::Same,
                };
                self.push("", Layer::Flatten)?;
            }
            "Dropout" | "SpatialDropout2D" => {
                self.push("", Layer::Dropout { p: item.settings.rate.unwrap_or(0.0) })?;
            }
            "Add" | "Concatenate" | "Multiply" | "Average" => {
                return Err(Fault::unsupported(
                    "joins paths or computes with a constant; only layers one after the other can be read and converted",
                ));
            }
            "Sequential" | "Functional" | "Model" => {
                return Err(Fault::unsupported(
                    "is a model within the model; put its layers in its place, keras.Sequential([*inner.layers, ...]), and save \
                     that",
                ));
            }
            "Rescaling" | "Normalization" => {
                return Err(Fault::unsupported(
                    "scales the recordings, which has no counterpart here; give recordings that are scaled so, and save the \
                     model without it",
                ));
            }
            _ => return Err(Fault::unsupported(format!("has no counterpart here; {READ}"))),
        }
        self.activation(item, activation.as_deref())
    }

    /// What a layer does with its output, if that is its own setting.
    fn activation(&mut self, item: &Item, activation: Option<&RawValue>) -> Result<(), Fault> {
        /// A function, whose configuration is its name, or a layer with settings.
        #[derive(serde::Deserialize)]
        struct Object {
            class_name: String,
            #[serde(default)]
            config: Option<Box<RawValue>>,
            #[serde(default)]
            registered_name: Option<String>,
        }
        let Some(raw) = activation.filter(|raw| raw.get() != "null") else { return Ok(()) };
        let foreign = || Fault::unsupported("has an activation that is none of Keras's own");
        let name = match (as_form::<String>(raw), as_form::<Object>(raw)) {
            (Some(name), _) => name,
            (None, Some(Object { class_name, config, registered_name })) => {
                let config = config.as_deref();
                let function = config.and_then(as_form::<String>);
                // A function says of itself that it is one.
                let own = registered_name.is_none_or(|name| name == class_name);
                match (function, config.and_then(as_form::<Settings>)) {
                    (Some(function), _) if own => function,
                    (None, Some(settings)) if own && class_name == "ReLU" => {
                        plain_relu(&settings)?;
                        "relu".to_owned()
                    }
                    (None, Some(_)) if own => class_name,
                    _ => return Err(foreign()),
                }
            }
            _ => return Err(foreign()),
        };
        match name.to_ascii_lowercase().as_str() {
            "linear" => Ok(()),
            "relu" => self.push("", Layer::Relu),
            "softmax" => {
                self.softmax = Some(called(item));
                Ok(())
            }
            "sigmoid" | "tanh" | "elu" | "selu" | "gelu" | "leakyrelu" | "leaky_relu" | "swish" | "silu" => {
                Err(Fault::unsupported(format!(
                    "has the activation {}; spikes have a counterpart of ReLU alone: train it with activation='relu', and its \
                     last layer with a softmax",
                    shown(&name)
                )))
            }
            _ => Err(Fault::unsupported(format!(
                "has the activation '{}', expected relu or linear, or a softmax in the last layer",
                shown(&name)
            ))),
        }
    }

    /// A reshape that changes nothing, or puts features in a row.
    fn reshape(&mut self, item: &Item) -> Result<(), Fault> {
        let Shape { channels, height, width } = self.shape;
        let sizes = item.settings.target_shape.as_deref().unwrap_or_default();
        let target = resolved(sizes, self.shape.count()).unwrap_or_default();
        let same = match (self.flat, self.last) {
            (true, _) => target == [channels],
            (false, true) => target == [height, width, channels],
            (false, false) => target == [channels, height, width],
        };
        match target[..] {
            _ if same => Ok(()),
            [_] => {
                self.order = if self.last { Order::ChannelsLast(self.shape) } else { Order::Same };
                self.push("", Layer::Flatten)
            }
            _ => Err(Fault::unsupported(
                "changes rows and columns, which is not read; a reshape may give recordings their channel, or put features in \
                 a row",
            )),
        }
    }

    fn convolution(&mut self, item: &Item, groups: usize, out: Option<usize>) -> Result<Conv2d, Fault> {
        let settings = &item.settings;
        let out = out.ok_or_else(|| absent("filters"))?;
        let kernel = pair("kernel_size", settings.kernel_size.as_deref(), None)?;
        let stride = pair("strides", settings.strides.as_deref(), Some((1, 1)))?;
        if pair("dilation_rate", settings.dilation_rate.as_deref(), Some((1, 1)))? != (1, 1) {
            return Err(Fault::unsupported("is dilated, which is not read; train it with dilation_rate=1"));
        }
        let zeros = self.zeros.take().unwrap_or_default();
        let rows = self.shape.height.saturating_add(zeros.top).saturating_add(zeros.bottom);
        let columns = self.shape.width.saturating_add(zeros.left).saturating_add(zeros.right);
        let own = padding(settings, (rows, columns), kernel, stride)?;
        let padding = sum(zeros, own).ok_or_else(|| Fault::unsupported("pads by too much"))?;
        Ok(Conv2d { out, kernel, stride, padding, groups, bias: settings.use_bias.unwrap_or(true) })
    }

    fn pool(&mut self, item: &Item, pooling: Pooling) -> Result<(), Fault> {
        let settings = &item.settings;
        let kernel = pair("pool_size", settings.pool_size.as_deref(), Some((2, 2)))?;
        let stride = pair("strides", settings.strides.as_deref(), Some(kernel))?;
        let padding = padding(settings, (self.shape.height, self.shape.width), kernel, stride)?;
        self.push("", Layer::Pool(Pool { pooling, kernel, stride, padding, ceil: false }))
    }

    fn batch_norm(&mut self, item: &'a Item, name: String) -> Result<(), Fault> {
        let settings = &item.settings;
        let axis = settings
            .axis
            .as_ref()
            .and_then(|raw| as_form::<i64>(raw).or_else(|| as_form::<[i64; 1]>(raw).map(|[axis]| axis)));
        let channels_axis: &[i64] = match (self.flat, self.last) {
            (true, _) => &[-1, 1],
            (false, true) => &[-1, 3],
            (false, false) => &[1, -3],
        };
        if !channels_axis.contains(&axis.unwrap_or(-1)) {
            return Err(Fault::unsupported(
                "normalises along another axis than the channels, which is not read",
            ));
        }
        let scale = settings.scale.as_deref().is_none_or(|raw| as_form(raw).unwrap_or(true));
        let center = settings.center.unwrap_or(true);
        let channels = self.shape.channels;
        let eps = settings.epsilon.unwrap_or(1e-3);
        self.push(&name, Layer::BatchNorm { eps, affine: scale || center })?;
        let order = if self.flat { self.order } else { Order::Same };
        self.sources.push(Source { item, name, turn: Turn::BatchNorm { channels, scale, center, order } });
        Ok(())
    }

    fn finish(mut self) -> Result<Built<'a>, Fault> {
        if let Order::ChannelsLast(Shape { channels, height, width }) = self.order
            && self.flat
            && channels > 1
            && height.saturating_mul(width) > 1
        {
            return Err(Fault::unsupported(
                "the model ends with the pixels of a flatten as its classes; end with a Dense layer",
            ));
        }
        if self.zeros.is_some() {
            return Err(Fault::unsupported("the model ends with a ZeroPadding2D"));
        }
        if let Some(layer) = self.softmax {
            self.notes.push(format!(
                "the softmax of {layer} was left out: the largest logit is the largest probability, and training has its own"
            ));
        }
        let network = Sequential::new(self.input, self.layers, Vec::new());
        let network = network.map_err(|why| Fault::unsupported(why.to_string()))?;
        Ok(Built { network, sources: self.sources, notes: self.notes })
    }
}

impl Source<'_> {
    /// The parameters of the layer, under their names in a state dictionary.
    pub fn tensors<R: Read + Seek>(
        &self,
        variables: &mut Variables<'_, R>,
        budget: &mut Budget,
    ) -> Result<Vec<(String, TensorData)>, Fault> {
        // Name, shape and bytes of each.
        let mut all: Vec<(&str, Vec<usize>, Vec<u8>)> = Vec::new();
        let mut read = |name, number, shape: &[usize], place: &dyn Fn(usize) -> usize| {
            variables.read(self.item, (name, number), shape, budget, place)
        };
        let as_it_is = |i: usize| i;
        match self.turn {
            Turn::Conv { inputs, out, kernel: (rows, columns), bias } => {
                // Theirs: ((r K + c) I + i) O + o; ours: ((o I + i) R + r) K + c.
                let place = |at: usize| {
                    let (o, at) = (at % out, at / out);
                    let (i, at) = (at % inputs, at / inputs);
                    let (c, r) = (at % columns, at / columns);
                    ((o * inputs + i) * rows + r) * columns + c
                };
                let kernel = read("kernel", 0, &[rows, columns, inputs, out], &place)?;
                all.push(("weight", vec![out, inputs, rows, columns], kernel));
                if bias {
                    all.push(("bias", vec![out], read("bias", 1, &[out], &as_it_is)?));
                }
            }
            Turn::Depthwise { channels, multiplier, kernel: (rows, columns), bias } => {
                let out = channels * multiplier;
                // Theirs: (r K + c) O + o, with o = channel M + m; ours: (o R + r) K + c.
                let place = |at: usize| {
                    let (o, at) = (at % out, at / out);
                    let (c, r) = (at % columns, at / columns);
                    (o * rows + r) * columns + c
                };
                let shape = [rows, columns, channels, multiplier];
                // Keras 3 calls it kernel, Keras 2 depthwise_kernel.
                let kernel = match read("kernel", 0, &shape, &place) {
                    Err(Fault::Damaged(_)) => read("depthwise_kernel", 0, &shape, &place)?,
                    found => found?,
                };
                all.push(("weight", vec![out, 1, rows, columns], kernel));
                if bias {
                    all.push(("bias", vec![out], read("bias", 1, &[out], &as_it_is)?));
                }
            }
            Turn::Dense { inputs, out, bias, order } => {
                let place = |at: usize| at % out * inputs + order.ours(at / out);
                let kernel = read("kernel", 0, &[inputs, out], &place)?;
                all.push(("weight", vec![out, inputs], kernel));
                if bias {
                    all.push(("bias", vec![out], read("bias", 1, &[out], &as_it_is)?));
                }
            }
            Turn::BatchNorm { channels, scale, center, order } => {
                let place = |i: usize| order.ours(i);
                let (after_gamma, after_beta) =
                    (usize::from(scale), usize::from(scale) + usize::from(center));
                let shape = [channels];
                let mean = read("moving_mean", after_beta, &shape, &place)?;
                let variance = read("moving_variance", after_beta + 1, &shape, &place)?;
                let gamma = if scale { Some(read("gamma", 0, &shape, &place)?) } else { None };
                let beta = if center { Some(read("beta", after_gamma, &shape, &place)?) } else { None };
                if scale || center {
                    // The one that is missing is as large as those that are there.
                    budget.take("the parameters", mean.len(), usize::from(!(scale && center)))?;
                    let constant = |value: f32| value.to_le_bytes().repeat(channels);
                    all.push(("weight", shape.to_vec(), gamma.unwrap_or_else(|| constant(1.0))));
                    all.push(("bias", shape.to_vec(), beta.unwrap_or_else(|| constant(0.0))));
                }
                all.push(("running_mean", shape.to_vec(), mean));
                all.push(("running_var", shape.to_vec(), variance));
            }
        }
        let named = |(suffix, shape, bytes): (&str, Vec<usize>, Vec<u8>)| {
            (format!("{}.{suffix}", self.name), TensorData { dtype: DType::F32, shape, bytes: bytes.into() })
        };
        Ok(all.into_iter().map(named).collect())
    }
}

/// A layer's name as the part of a state dictionary's names before the last dot; what wrappers of PyTorch call theirs is taken
/// off such names.
fn name_of(name: &str) -> String {
    let name = name.replace(['.', '/'], "_");
    match name.as_str() {
        "" => "layer".to_owned(),
        "module" | "_orig_mod" | "threshold" | "thresholds" | "leak" | "leak_mem" => format!("{name}_"),
        _ => name,
    }
}

/// Refuses a ReLU that is more than max(0, x).
fn plain_relu(settings: &Settings) -> Result<(), Fault> {
    let Settings { max_value, negative_slope, threshold, .. } = settings;
    let zero = |raw: &Option<Box<RawValue>>| raw.as_ref().is_none_or(|raw| as_form::<f64>(raw) == Some(0.0));
    match max_value.is_none() && zero(negative_slope) && zero(threshold) {
        true => Ok(()),
        false => {
            Err(Fault::unsupported("has a max_value, negative_slope or threshold, expected a plain ReLU"))
        }
    }
}

/// The sizes of a reshape of so many values, one of which may be left to it, -1.
fn resolved(sizes: &[i64], count: usize) -> Option<Vec<usize>> {
    let known = sizes.iter().filter(|&&n| n != -1);
    let product = known.clone().try_fold(1usize, |n, &size| n.checked_mul(usize::try_from(size).ok()?))?;
    let open = sizes.len() - known.count();
    let rest = count.checked_div(product).filter(|rest| rest * product == count && open <= 1)?;
    Some(sizes.iter().map(|&n| usize::try_from(n).unwrap_or(rest)).collect())
}

fn absent(setting: &str) -> Fault {
    Fault::damaged(format!("{setting}: expected a whole number, got none"))
}

/// Rows and columns, which one number may be for both.
fn pair(setting: &str, raw: Option<&RawValue>, default: Option<Size>) -> Result<Size, Fault> {
    let given = raw.and_then(|raw| {
        let [rows, columns] = as_form::<[usize; 2]>(raw).or_else(|| as_form::<usize>(raw).map(|n| [n, n]))?;
        Some((rows, columns))
    });
    match (given, raw.filter(|raw| raw.get() != "null"), default) {
        (Some((0, _) | (_, 0)), Some(raw), _) | (None, Some(raw), _) => Err(Fault::damaged(format!(
            "{setting}: expected one or two whole numbers of at least 1, got {}",
            shown(&raw.get().chars().take(40).collect::<String>())
        ))),
        (Some(given), ..) => Ok(given),
        (None, None, Some(default)) => Ok(default),
        (None, None, None) => Err(absent(setting)),
    }
}

/// The zeros of `valid` or `same`, for an input of a size. Keras gives the odd zero of `same` to the bottom and the right, and as
/// many in all as make one window a stride.
fn padding(settings: &Settings, input: Size, kernel: Size, stride: Size) -> Result<Padding, Fault> {
    let given = settings.padding.as_ref().map(|raw| as_form::<String>(raw));
    match given.as_ref().map(Option::as_deref) {
        None | Some(Some("valid")) => Ok(Padding::default()),
        Some(Some("same")) => {
            let along = |length: usize, kernel: usize, stride: usize| {
                let windows = length.div_ceil(stride);
                let all = (windows.saturating_sub(1).saturating_mul(stride).saturating_add(kernel))
                    .saturating_sub(length);
                (all / 2, all - all / 2)
            };
            let (top, bottom) = along(input.0, kernel.0, stride.0);
            let (left, right) = along(input.1, kernel.1, stride.1);
            Ok(Padding { top, bottom, left, right })
        }
        _ => Err(Fault::unsupported(format!(
            "padding: expected 'valid' or 'same', got {}",
            settings
                .padding
                .as_ref()
                .map_or_else(String::new, |raw| shown(&raw.get().chars().take(40).collect::<String>()))
        ))),
    }
}

/// The zeros of a ZeroPadding2D: a number, one for rows and one for columns, or two for each.
fn around(raw: &RawValue) -> Option<Padding> {
    if let Some(n) = as_form::<usize>(raw) {
        return Some(Padding::symmetric((n, n)));
    }
    if let Some([rows, columns]) = as_form::<[usize; 2]>(raw) {
        return Some(Padding::symmetric((rows, columns)));
    }
    let [[top, bottom], [left, right]] = as_form::<[[usize; 2]; 2]>(raw)?;
    Some(Padding { top, bottom, left, right })
}

fn sum(a: Padding, b: Padding) -> Option<Padding> {
    Some(Padding {
        top: a.top.checked_add(b.top)?,
        bottom: a.bottom.checked_add(b.bottom)?,
        left: a.left.checked_add(b.left)?,
        right: a.right.checked_add(b.right)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn same_padding_is_tensorflows() {
        let settings = Settings { padding: Some(raw("\"same\"")), ..Settings::default() };
        let of = |input, kernel, stride| padding(&settings, input, kernel, stride).unwrap();
        assert_eq!(of((64, 100), (9, 9), (1, 1)), Padding::symmetric((4, 4)));
        // 5 of 2 by 2: three windows over six.
        assert_eq!(of((5, 6), (2, 2), (2, 2)), Padding { bottom: 1, ..Padding::default() });
        // 7 by steps of 3 with a kernel of 4: three windows over ten; 9 by steps of 4 with one of 2: three over ten.
        assert_eq!(of((7, 9), (4, 2), (3, 4)), Padding { top: 1, bottom: 2, left: 0, right: 1 });
        // A kernel smaller than its stride leaves columns out instead of padding.
        assert_eq!(of((8, 8), (1, 1), (2, 2)), Padding::default());
    }

    #[test]
    fn features_of_planes_change_places() {
        let order = Order::ChannelsLast(Shape::new(2, 2, 3));
        let places: Vec<usize> = (0..12).map(|i| order.ours(i)).collect();
        assert_eq!(places, [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]);
    }

    /// What is said of a sequential model of layers, each a class and its settings.
    fn of(layers: &[(&str, &str)]) -> Result<String, String> {
        let layers: Vec<String> = layers
            .iter()
            .enumerate()
            .map(|(i, (class, settings))| {
                let comma = if settings.is_empty() { "" } else { "," };
                format!(r#"{{"class_name":"{class}","config":{{"name":"l{i}"{comma}{settings}}}}}"#)
            })
            .collect();
        told(&format!(r#"{{"class_name":"Sequential","config":{{"layers":[{}]}}}}"#, layers.join(",")))
    }

    fn told(text: &str) -> Result<String, String> {
        let mut budget = crate::budget::of_file(text.len() as u64);
        let words = |fault: Fault| fault.at(std::path::Path::new("m.h5")).to_string();
        let model = Model::parse(text, &mut budget).map_err(words)?;
        build(&model).map(|built| crate::description::to_yaml(&built.network)).map_err(words)
    }

    const INPUT: (&str, &str) = ("InputLayer", r#""batch_shape":[null,9,8,2]"#);
    const FLATTEN: (&str, &str) = ("Flatten", "");
    const DENSE: (&str, &str) = ("Dense", r#""units":3"#);

    #[test]
    fn what_does_not_fit_is_named_with_its_remedy() {
        let conv = |settings: &'static str| ("Conv2D", settings);
        let refused = |layers: &[(&str, &str)], words: &[&str]| {
            let why = of(layers).unwrap_err();
            assert!(words.iter().all(|word| why.contains(word)), "{why}");
        };
        assert!(of(&[INPUT, FLATTEN, DENSE]).unwrap().contains("linear"));
        let zeros = ("ZeroPadding2D", r#""padding":[[1,1],[1,1]]"#);
        refused(&[INPUT, ("LSTM", ""), DENSE], &["'l1' (LSTM)", "no counterpart", "Conv2D"]);
        refused(&[INPUT, DENSE], &["'l1' (Dense)", "2 x 9 x 8", "Flatten"]);
        refused(&[INPUT, FLATTEN, ("Dense", "")], &["units"]);
        refused(&[INPUT, FLATTEN, ("Dense", r#""units":3,"activation":"elu""#)], &["elu", "ReLU", "softmax"]);
        refused(&[INPUT, FLATTEN, ("Dense", r#""units":1,"activation":"sigmoid""#)], &["sigmoid"]);
        refused(
            &[INPUT, FLATTEN, ("Dense", r#""units":3,"activation":{"class_name":"Mine","config":{}}"#)],
            &["'Mine'"],
        );
        refused(
            &[INPUT, FLATTEN, ("Dense", r#""units":3,"activation":"softmax""#), DENSE],
            &["behind the softmax", "'l2'"],
        );
        refused(&[INPUT, ("ReLU", r#""max_value":6.0"#), FLATTEN, DENSE], &["max_value"]);
        refused(&[INPUT, ("ReLU", r#""negative_slope":[0.1]"#), FLATTEN], &["negative_slope"]);
        let dilated = r#""filters":2,"kernel_size":[3,3],"dilation_rate":[2,2]"#;
        refused(&[INPUT, conv(dilated), FLATTEN, DENSE], &["dilated"]);
        refused(&[INPUT, conv(r#""filters":2,"kernel_size":[3,0]"#)], &["kernel_size", "[3,0]"]);
        refused(&[INPUT, conv(r#""filters":2,"kernel_size":3,"padding":"causal""#)], &["'valid' or 'same'"]);
        refused(&[INPUT, conv(r#""filters":2,"kernel_size":3,"groups":0"#)], &["0 groups"]);
        refused(&[INPUT, conv(r#""filters":2,"kernel_size":30"#)], &["kernel of 30"]);
        refused(&[INPUT, conv(r#""filters":1000000000,"kernel_size":3"#)], &["weights", "at most"]);
        refused(&[INPUT, conv(r#""filters":-1,"kernel_size":3"#)], &["-1"]);
        refused(&[INPUT, zeros, ("MaxPooling2D", ""), FLATTEN, DENSE], &["behind ZeroPadding2D"]);
        refused(&[INPUT, FLATTEN], &["as its classes"]);
        refused(&[INPUT, ("BatchNormalization", r#""axis":1"#), FLATTEN, DENSE], &["another axis"]);
        refused(&[INPUT, ("Reshape", r#""target_shape":[8,9,2]"#), FLATTEN, DENSE], &["9 x 8 x 2"]);
        refused(
            &[("InputLayer", r#""batch_shape":[null,null,8,2]"#), FLATTEN, DENSE],
            &["any x 8 x 2", "fixed"],
        );
        refused(&[FLATTEN, DENSE], &["shape of its input"]);
        refused(&[("InputLayer", r#""batch_shape":[null,5]"#), DENSE], &["its input is 5"]);
        refused(
            &[("InputLayer", r#""batch_shape":[null,4000000000,4000000000,9]"#), FLATTEN, DENSE],
            &["at most"],
        );
        let first = conv(r#""filters":2,"kernel_size":3,"data_format":"channels_first""#);
        let last = ("MaxPooling2D", r#""data_format":"channels_last""#);
        refused(&[INPUT, first, last, FLATTEN, DENSE], &["data_format"]);
        let many = vec![("ReLU", ""); 1001];
        refused(&many, &["1000 layers"]);
    }

    #[test]
    fn what_is_no_sequence_of_layers_is_named() {
        let refused = |text: &str, words: &[&str]| {
            let why = told(text).unwrap_err();
            assert!(words.iter().all(|word| why.contains(word)), "{why}");
        };
        refused("", &["model_config"]);
        refused("[]", &["model_config"]);
        refused(r#"{"class_name":"Mine","config":{}}"#, &["'Mine'", "keras.Sequential"]);
        refused(r#"{"class_name":"Sequential","config":{"layers":[3]}}"#, &["layer 1"]);
        refused(
            r#"{"class_name":"Sequential","config":{"layers":[{"class_name":"Dense","config":[]}]}}"#,
            &["layer 1"],
        );
        let functional = |layers: &str, outputs: &str| {
            format!(
                r#"{{"class_name":"Functional","config":{{"layers":[{{"class_name":"InputLayer","config":{{"name":"i",
                "batch_shape":[null,2,2,1]}},"inbound_nodes":[]}},{layers}],"input_layers":[["i",0,0]],"output_layers":{outputs}}}}}"#
            )
        };
        let dense = |name: &str, from: &str| {
            format!(
                r#"{{"class_name":"Dense","config":{{"name":"{name}","units":3}},"inbound_nodes":[{from}]}}"#
            )
        };
        let add =
            r#"{"class_name":"Add","config":{"name":"add"},"inbound_nodes":[[["i",0,0,{}],["a",0,0,{}]]]}"#;
        let joined = format!("{},{add}", dense("a", r#"[["i",0,0,{}]]"#));
        refused(&functional(&joined, r#"[["add",0,0]]"#), &["'add' (Add)", "'i' and 'a'", "residual"]);
        refused(&functional(&joined, r#"[["a",0,0],["add",0,0]]"#), &["2 outputs", "keras.Model"]);
        refused(&functional(&dense("a", r#"[["a",0,0,{}]]"#), r#"[["a",0,0]]"#), &["feeds itself"]);
        refused(&functional(&dense("a", r#"[["b",0,0,{}]]"#), r#"[["a",0,0]]"#), &["'b'", "not there"]);
        let twice = dense("a", r#"[["i",0,0,{}]],[["a",0,0,{}]]"#);
        refused(&functional(&twice, r#"[["a",1,0]]"#), &["used 2 times"]);
        let training = r#"[["i",0,0,{"training":true}]]"#;
        refused(&functional(&dense("a", training), r#"[["a",0,0]]"#), &["training=True"]);
        let own = dense("a", r#"[["i",0,0,{}]]"#)
            .replace(r#""config""#, r#""registered_name":"Mine>Dense","config""#);
        refused(&functional(&own, r#"[["a",0,0]]"#), &["'Mine>Dense'", "class of its own"]);
        let deep = "[".repeat(100_000);
        refused(&functional(&dense("a", &deep), r#"[["a",0,0]]"#), &["model_config"]);
    }

    #[test]
    fn sizes_may_be_one_number_or_two() {
        assert_eq!(pair("k", Some(&raw("3")), None).unwrap(), (3, 3));
        assert_eq!(pair("k", Some(&raw("[3, 4]")), None).unwrap(), (3, 4));
        assert_eq!(pair("k", Some(&raw("null")), Some((2, 2))).unwrap(), (2, 2));
        for bad in ["0", "[3, 0]", "[3]", "\"x\"", "-1", "null"] {
            assert!(pair("k", Some(&raw(bad)), None).is_err(), "{bad}");
        }
    }
}
