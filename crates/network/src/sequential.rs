//! Any feed-forward network, layer after layer, as plain numbers: shapes, parameters, multiply-accumulates.
//!
//! The terms and the defaults are PyTorch's. Sizes are (rows, columns).
//!
//! Letters: C channels, H rows (contacts of a cuff), W columns (samples in time), k kernel.

use std::collections::HashSet;
use std::ops::Range;

use crate::error::NetworkError;

pub use crate::shape::{MOST_LAYERS, MOST_PARAMETERS, MOST_VALUES, Shape, Size};

/// Zeros around a layer's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// As many rows above as below, and columns left as right.
    pub const fn symmetric((rows, columns): Size) -> Self {
        Self { top: rows, bottom: rows, left: columns, right: columns }
    }

    /// With which a convolution of stride 1 keeps its input's size; of an even kernel's zeros the odd one is below and to
    /// the right, as PyTorch's `padding="same"` has it.
    pub const fn same((rows, columns): Size) -> Self {
        let [down, across] = [rows.saturating_sub(1), columns.saturating_sub(1)];
        Self { top: down / 2, bottom: down - down / 2, left: across / 2, right: across - across / 2 }
    }

    /// Rows and columns of zeros in all.
    fn total(&self) -> Size {
        (self.top.saturating_add(self.bottom), self.left.saturating_add(self.right))
    }
}

/// A convolution, `torch.nn.Conv2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Output channels.
    pub out: usize,
    /// k.
    pub kernel: Size,
    /// Steps from one window to the next.
    pub stride: Size,
    /// Zeros around the input.
    pub padding: Padding,
    /// Parts that channels are divided into; each output channel sees its own part of the input channels.
    pub groups: usize,
    /// Whether each output channel adds a constant.
    pub bias: bool,
}

impl Conv2d {
    /// Stride 1, no padding, one group, with a bias: PyTorch's defaults.
    pub const fn new(out: usize, kernel: Size) -> Self {
        Self { out, kernel, stride: (1, 1), padding: Padding::symmetric((0, 0)), groups: 1, bias: true }
    }
}

/// How a window becomes one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Its maximum; padding is never it.
    Max,
    /// Its mean.
    Average {
        /// Whether zeros of the padding count among what the sum is divided by.
        count_padding: bool,
    },
}

/// Pooling over windows, `torch.nn.MaxPool2d` and `torch.nn.AvgPool2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// How a window becomes one value.
    pub pooling: Pooling,
    /// k.
    pub kernel: Size,
    /// Steps from one window to the next.
    pub stride: Size,
    /// Around the input.
    pub padding: Padding,
    /// Whether a last window that is cut off by the border counts.
    pub ceil: bool,
}

impl Pool {
    /// Windows side by side, no padding.
    pub const fn new(pooling: Pooling, kernel: Size) -> Self {
        Self { pooling, kernel, stride: kernel, padding: Padding::symmetric((0, 0)), ceil: false }
    }

    /// Rows and columns of window (r, c) that lie within a plane of so many rows and columns.
    #[inline(always)]
    pub fn window(&self, (r, c): (usize, usize), (height, width): Size) -> (Range<usize>, Range<usize>) {
        let along = |i: usize, stride: usize, before: usize, kernel: usize, length: usize| {
            let start = (i * stride).saturating_sub(before);
            start..(i * stride + kernel).saturating_sub(before).min(length)
        };
        let Self { kernel, stride, padding, .. } = self;
        (along(r, stride.0, padding.top, kernel.0, height), along(c, stride.1, padding.left, kernel.1, width))
    }
}

/// One layer of a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layer {
    /// Convolution.
    Conv2d(Conv2d),
    /// Fully connected, `torch.nn.Linear`.
    Linear {
        /// Output features.
        out: usize,
        /// Whether each adds a constant.
        bias: bool,
    },
    /// `torch.nn.BatchNorm2d`, or `BatchNorm1d` of features.
    BatchNorm {
        /// Added to the variance.
        eps: f64,
        /// Whether it has a factor and a constant a channel, `weight` and `bias`.
        affine: bool,
    },
    /// max(0, x).
    Relu,
    /// Pooling over windows.
    Pool(Pool),
    /// The mean over as many windows as are wanted, `torch.nn.AdaptiveAvgPool2d`.
    AdaptiveAvgPool {
        /// Rows and columns that are wanted.
        out: Size,
    },
    /// C x H x W in a row.
    Flatten,
    /// In training a share `p` of the values is dropped.
    Dropout {
        /// The share.
        p: f64,
    },
}

impl Layer {
    /// What a description calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conv2d(_) => "conv2d",
            Self::Linear { .. } => "linear",
            Self::BatchNorm { .. } => "batch_norm",
            Self::Relu => "relu",
            Self::Pool(Pool { pooling: Pooling::Max, .. }) => "max_pool2d",
            Self::Pool(_) => "avg_pool2d",
            Self::AdaptiveAvgPool { .. } => "adaptive_avg_pool2d",
            Self::Flatten => "flatten",
            Self::Dropout { .. } => "dropout",
        }
    }

    /// Its name, if it has one, and its kind.
    pub fn called(&self, name: &str) -> String {
        if name.is_empty() { self.kind().to_owned() } else { format!("{name}, {}", self.kind()) }
    }

    /// What it gives for a shape, and whether that is features in a row; `flat` says whether it gets them so.
    ///
    /// # Errors
    /// It does not take that, or a size cannot be, in words.
    pub fn output(&self, from: Shape, flat: bool) -> Result<(Shape, bool), String> {
        next(self, from, flat)
    }

    /// Whether it has weights that are multiplied with its input.
    pub fn has_weights(&self) -> bool {
        matches!(self, Self::Conv2d(_) | Self::Linear { .. })
    }

    /// Whether it has parameters, and therefore needs a name.
    pub fn has_parameters(&self) -> bool {
        self.has_weights() || matches!(self, Self::BatchNorm { .. })
    }
}

/// A layer with its place in the state dictionary.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The module's path, `features.0` say; may be empty where there are no parameters.
    pub name: String,
    /// What it computes.
    pub layer: Layer,
}

/// What a parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Multiplied with the input.
    Weight,
    /// Added.
    Bias,
    /// Factor of a batch norm.
    Scale,
    /// Constant of a batch norm.
    Shift,
    /// Running mean of a batch norm, which training measures and does not differentiate.
    Mean,
    /// Running variance, likewise.
    Variance,
}

impl Role {
    /// Whether training differentiates by it.
    pub fn is_learned(self) -> bool {
        !matches!(self, Self::Mean | Self::Variance)
    }
}

/// One tensor of the state dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// `features.0.weight`.
    pub name: String,
    /// PyTorch's: `[out, in / groups, rows, columns]`, `[out, in]` or `[channels]`.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// Index of its layer.
    pub layer: usize,
}

impl Parameter {
    /// Its values.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A feed-forward network, checked: every layer takes what the one before gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequential {
    input: Shape,
    layers: Vec<Named>,
    /// What each layer gives.
    outputs: Vec<Shape>,
    classes: Vec<String>,
}

impl Sequential {
    /// A network for recordings of a shape. `classes` may be empty, and then they are called by their numbers.
    ///
    /// # Errors
    /// A layer does not take what the one before it gives, a size cannot be, the last layer gives no features in a row, or
    /// there is another number of classes than of them; the message names the layer, what it got and what it takes.
    pub fn new(input: Shape, layers: Vec<Named>, classes: Vec<String>) -> Result<Self, NetworkError> {
        if input.channels == 0 || input.height == 0 || input.width == 0 || input.count() > MOST_VALUES {
            return Err(NetworkError::Input(input));
        }
        if layers.len() > MOST_LAYERS {
            return Err(NetworkError::Layers(layers.len()));
        }
        let (mut shape, mut flat) = (input, false);
        let mut outputs = Vec::with_capacity(layers.len());
        let mut names = HashSet::new();
        for (i, Named { name, layer }) in layers.iter().enumerate() {
            let at = |why: String| NetworkError::layer(i, layer.called(name), why);
            if layer.has_parameters() {
                if name.is_empty() {
                    return Err(at("needs a name, the module's path in the state dictionary".into()));
                }
                if !names.insert(name.as_str()) {
                    return Err(at("has the name of an earlier layer".into()));
                }
            }
            (shape, flat) = next(layer, shape, flat).map_err(at)?;
            outputs.push(shape);
        }
        let weighted = layers.iter().any(|l| l.layer.has_weights());
        if !weighted {
            return Err(NetworkError::NoWeights);
        }
        if !flat {
            return Err(NetworkError::NotFlat(shape));
        }
        if !classes.is_empty() && classes.len() != shape.count() {
            return Err(NetworkError::Classes { named: classes.len(), outputs: shape.count() });
        }
        let mut seen = HashSet::new();
        if let Some(twice) = classes.iter().find(|class| !seen.insert(class.as_str())) {
            return Err(NetworkError::ClassTwice(twice.clone()));
        }
        let network = Self { input, layers, outputs, classes };
        let parameters = network.parameters().iter().fold(0usize, |n, p| n.saturating_add(p.count()));
        if parameters > MOST_PARAMETERS {
            return Err(NetworkError::Parameters(parameters));
        }
        Ok(network)
    }

    /// What it takes.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Its layers, in order.
    pub fn layers(&self) -> &[Named] {
        &self.layers
    }

    /// What a layer takes.
    pub fn input_of(&self, layer: usize) -> Shape {
        match layer {
            0 => self.input,
            _ => self.outputs[layer - 1],
        }
    }

    /// What a layer gives.
    pub fn output_of(&self, layer: usize) -> Shape {
        self.outputs[layer]
    }

    /// Multiply-accumulates of a layer for one recording, those with padding counted as well; 0 without weights.
    pub fn macs(&self, layer: usize) -> usize {
        let (input, output) = (self.input_of(layer), self.output_of(layer));
        match self.layers[layer].layer {
            Layer::Conv2d(Conv2d { kernel, groups, .. }) => {
                output.count() * (input.channels / groups) * kernel.0 * kernel.1
            }
            Layer::Linear { out, .. } => input.count() * out,
            _ => 0,
        }
    }

    /// How many classes it tells apart: the features of its last layer.
    pub fn classes(&self) -> usize {
        self.outputs.last().map_or(0, Shape::count)
    }

    /// What a class is called: its name, or `class` and its number.
    pub fn class_name(&self, class: usize) -> String {
        self.classes.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
    }

    /// The same with other names of its classes, or none.
    ///
    /// # Errors
    /// Another number of names than of classes, or one that is there twice.
    pub fn with_classes(self, classes: Vec<String>) -> Result<Self, NetworkError> {
        Self::new(self.input, self.layers, classes)
    }

    /// The classes' names, if they have any.
    pub fn class_names(&self) -> &[String] {
        &self.classes
    }

    /// The same with every batch norm folded into the weights before it, which then have a bias; those behind something else
    /// stay.
    pub fn folded(&self) -> Self {
        let mut layers: Vec<Named> = Vec::new();
        let mut outputs = Vec::new();
        for (named, output) in self.layers.iter().zip(&self.outputs) {
            if matches!(named.layer, Layer::BatchNorm { .. })
                && let Some(Named {
                    layer: Layer::Conv2d(Conv2d { bias, .. }) | Layer::Linear { bias, .. },
                    ..
                }) = layers.last_mut()
            {
                *bias = true;
                continue;
            }
            layers.push(named.clone());
            outputs.push(*output);
        }
        Self { input: self.input, layers, outputs, classes: self.classes.clone() }
    }

    /// Every parameter, in the order of PyTorch's `state_dict()`; the counter of batches that a batch norm keeps is none.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut all = Vec::new();
        for (i, Named { name, layer }) in self.layers.iter().enumerate() {
            let mut add = |suffix: &str, shape: Vec<usize>, role| {
                all.push(Parameter { name: format!("{name}.{suffix}"), shape, role, layer: i });
            };
            let channels = self.input_of(i).channels;
            match *layer {
                Layer::Conv2d(Conv2d { out, kernel, groups, bias, .. }) => {
                    add("weight", vec![out, channels / groups, kernel.0, kernel.1], Role::Weight);
                    if bias {
                        add("bias", vec![out], Role::Bias);
                    }
                }
                Layer::Linear { out, bias } => {
                    add("weight", vec![out, channels], Role::Weight);
                    if bias {
                        add("bias", vec![out], Role::Bias);
                    }
                }
                Layer::BatchNorm { affine, .. } => {
                    if affine {
                        add("weight", vec![channels], Role::Scale);
                        add("bias", vec![channels], Role::Shift);
                    }
                    add("running_mean", vec![channels], Role::Mean);
                    add("running_var", vec![channels], Role::Variance);
                }
                Layer::Relu
                | Layer::Pool(_)
                | Layer::AdaptiveAvgPool { .. }
                | Layer::Flatten
                | Layer::Dropout { .. } => {}
            }
        }
        all
    }
}

/// What a layer gives for a shape, and whether that is features in a row.
fn next(layer: &Layer, from: Shape, flat: bool) -> Result<(Shape, bool), String> {
    let planes = || match flat {
        false => Ok(()),
        true => Err(format!(
            "takes channels x rows x columns, got {} features in a row; move the flatten behind it",
            from.channels
        )),
    };
    let to = match *layer {
        Layer::Conv2d(Conv2d { out, kernel, stride, padding, groups, .. }) => {
            planes()?;
            if out == 0 {
                return Err("gives 0 channels; out: expected at least 1".into());
            }
            if groups == 0 || !from.channels.is_multiple_of(groups) || !out.is_multiple_of(groups) {
                return Err(format!(
                    "cannot divide {} input and {out} output channels into {groups} groups",
                    from.channels
                ));
            }
            let (height, width) = windows(from, kernel, stride, padding, false)?;
            let weights = [out, from.channels / groups, kernel.0, kernel.1];
            limit(weights.iter().fold(1usize, |n, size| n.saturating_mul(*size)), "weights")?;
            Shape::new(out, height, width)
        }
        Layer::Linear { out, .. } => {
            if !flat {
                return Err(format!("takes features in a row, got {from}; put a flatten before it"));
            }
            if out == 0 {
                return Err("gives 0 features; out: expected at least 1".into());
            }
            limit(out.saturating_mul(from.channels), "weights")?;
            return Ok((Shape::features(out), true));
        }
        Layer::BatchNorm { eps, .. } => {
            if !(eps.is_finite() && eps >= 0.0) {
                return Err(format!("eps: expected a number of at least 0, got {eps}"));
            }
            return Ok((from, flat));
        }
        Layer::Pool(Pool { kernel, stride, padding, ceil, .. }) => {
            planes()?;
            let Padding { top, bottom, left, right } = padding;
            let half = |pad: usize, kernel: usize| pad.saturating_mul(2) > kernel;
            if [top, bottom].iter().any(|&p| half(p, kernel.0))
                || [left, right].iter().any(|&p| half(p, kernel.1))
            {
                return Err("pads by more than half of its kernel, so that windows would hold nothing".into());
            }
            if top.max(bottom) > from.height || left.max(right) > from.width {
                return Err(format!(
                    "pads by more than its input has, {} rows x {} columns",
                    from.height, from.width
                ));
            }
            if ceil && (top != bottom || left != right) {
                return Err("ceil goes with a padding that is the same on both sides".into());
            }
            let (height, width) = windows(from, kernel, stride, padding, ceil)?;
            Shape::new(from.channels, height, width)
        }
        Layer::AdaptiveAvgPool { out: (height, width) } => {
            planes()?;
            if height == 0 || width == 0 {
                return Err(format!("out: expected at least 1 x 1, got {height} x {width}"));
            }
            Shape::new(from.channels, height, width)
        }
        Layer::Flatten => return Ok((Shape::features(from.count()), true)),
        Layer::Relu => return Ok((from, flat)),
        Layer::Dropout { p } => {
            if !(0.0..1.0).contains(&p) {
                return Err(format!("p: expected a share of at least 0 and below 1, got {p}"));
            }
            return Ok((from, flat));
        }
    };
    limit(to.count(), "outputs")?;
    Ok((to, flat))
}

fn limit(count: usize, what: &str) -> Result<(), String> {
    if count <= MOST_VALUES {
        return Ok(());
    }
    let count = if count == usize::MAX { "more than can be counted".to_owned() } else { count.to_string() };
    Err(format!("has {count} {what}, expected at most {MOST_VALUES}"))
}

/// Rows and columns of a layer that slides a window over its input.
fn windows(from: Shape, kernel: Size, stride: Size, padding: Padding, ceil: bool) -> Result<Size, String> {
    let (rows, columns) = padding.total();
    let down = along("rows", from.height, (padding.top, rows), kernel.0, stride.0, ceil)?;
    let across = along("columns", from.width, (padding.left, columns), kernel.1, stride.1, ceil)?;
    Ok((down, across))
}

/// Windows along one side. With `ceil` one more that the border cuts off counts, if it begins within the input or its
/// padding before.
fn along(
    side: &str,
    length: usize,
    (before, padding): (usize, usize),
    kernel: usize,
    stride: usize,
    ceil: bool,
) -> Result<usize, String> {
    if kernel == 0 || stride == 0 {
        return Err(format!("kernel and stride: expected at least 1, got {kernel} and {stride} ({side})"));
    }
    let padded = length.saturating_add(padding);
    let Some(room) = padded.checked_sub(kernel) else {
        return Err(format!(
            "has a kernel of {kernel} {side}, but its input has {length}{}",
            if padding > 0 { format!(" and {padding} of padding") } else { String::new() }
        ));
    };
    if !ceil {
        return Ok(room / stride + 1);
    }
    let count = room.div_ceil(stride) + 1;
    Ok(if (count - 1) * stride >= length + before { count - 1 } else { count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, layer: Layer) -> Named {
        Named { name: name.into(), layer }
    }

    fn only(layer: Layer) -> Result<Sequential, String> {
        let layers = vec![
            named("a", layer),
            named("", Layer::Flatten),
            named("z", Layer::Linear { out: 2, bias: true }),
        ];
        Sequential::new(Shape::new(4, 9, 10), layers, Vec::new()).map_err(|e| e.to_string())
    }

    #[test]
    fn macs_are_those_of_the_stages() {
        let network =
            crate::family::Family::published(crate::arch::Architecture::Modified).network(56, 100).unwrap();
        let stages = network.stages().unwrap();
        let mut with_weights = 0;
        for i in 0..network.layers().len() {
            match stages.iter().find(|stage| stage.weights_at == i) {
                Some(stage) => assert_eq!(network.macs(i), stage.macs()),
                None => assert_eq!(network.macs(i), 0),
            }
            with_weights += usize::from(network.macs(i) > 0);
        }
        assert_eq!(with_weights, 5);
    }

    #[test]
    fn shapes_follow_each_other() {
        let conv = Conv2d { stride: (2, 1), padding: Padding::same((3, 4)), ..Conv2d::new(6, (3, 4)) };
        let network = only(Layer::Conv2d(conv)).unwrap();
        assert_eq!(network.output_of(0), Shape::new(6, 5, 10));
        assert_eq!(network.classes(), 2);
        let shapes: Vec<_> = network.parameters().into_iter().map(|p| (p.name, p.shape)).collect();
        assert_eq!(
            shapes,
            [
                ("a.weight".to_owned(), vec![6, 4, 3, 4]),
                ("a.bias".into(), vec![6]),
                ("z.weight".into(), vec![2, 300]),
                ("z.bias".into(), vec![2])
            ]
        );
    }

    #[test]
    fn windows_that_the_border_cuts_off_count_only_with_ceil() {
        let pool = |ceil, padding, kernel| {
            let pool = Pool {
                padding: Padding::symmetric(padding),
                stride: (2, 3),
                ceil,
                ..Pool::new(Pooling::Max, kernel)
            };
            only(Layer::Pool(pool)).unwrap().output_of(0)
        };
        assert_eq!(pool(false, (0, 0), (2, 3)), Shape::new(4, 4, 3));
        assert_eq!(pool(true, (0, 0), (2, 3)), Shape::new(4, 5, 4));
        // As PyTorch: a window that would begin in the padding after the input does not count.
        assert_eq!(pool(true, (1, 1), (2, 2)), Shape::new(4, 5, 4));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name_with_what_was_got() {
        let conv = Conv2d::new(6, (3, 3));
        let refused = |layer, words: &[&str]| {
            let why = only(layer).unwrap_err();
            assert!(words.iter().all(|word| why.contains(word)), "{why}");
        };
        refused(
            Layer::Conv2d(Conv2d { stride: (0, 1), ..conv }),
            &["layer 1 (a, conv2d)", "stride", "got 3 and 0"],
        );
        refused(Layer::Conv2d(Conv2d { kernel: (10, 3), ..conv }), &["kernel of 10 rows", "has 9"]);
        refused(Layer::Conv2d(Conv2d { groups: 3, ..conv }), &["4 input", "3 groups"]);
        refused(Layer::Conv2d(Conv2d { groups: 0, ..conv }), &["0 groups"]);
        refused(Layer::Conv2d(Conv2d { out: 0, ..conv }), &["0 channels"]);
        refused(Layer::Conv2d(Conv2d { out: 1_000_000_000, ..conv }), &["weights", "at most"]);
        let huge = Padding::symmetric((usize::MAX / 2, usize::MAX));
        refused(Layer::Conv2d(Conv2d { padding: huge, ..conv }), &["outputs"]);
        refused(Layer::Linear { out: 3, bias: false }, &["4 x 9 x 10", "flatten before it"]);
        let wide = |i: usize| named(&format!("w{i}"), Layer::Linear { out: 16_000, bias: true });
        let many = std::iter::once(named("", Layer::Flatten)).chain((0..8).map(wide)).collect();
        let why = Sequential::new(Shape::new(4, 9, 10), many, Vec::new()).unwrap_err().to_string();
        assert!(why.contains("parameters in all"), "{why}");
        refused(Layer::BatchNorm { eps: -1.0, affine: true }, &["eps"]);
        refused(Layer::Dropout { p: 1.0 }, &["p:"]);
        refused(Layer::AdaptiveAvgPool { out: (0, 1) }, &["at least 1 x 1"]);
        let padded = Pool { padding: Padding::symmetric((2, 0)), ..Pool::new(Pooling::Max, (3, 3)) };
        refused(Layer::Pool(padded), &["half of its kernel"]);
        let huge = Pool { padding: Padding::symmetric((500, 0)), ..Pool::new(Pooling::Max, (1000, 3)) };
        refused(Layer::Pool(huge), &["more than its input has, 9 rows"]);
    }

    #[test]
    fn a_network_as_a_whole_is_checked() {
        let new = |layers: Vec<Named>, classes: &[&str]| {
            let classes = classes.iter().map(|c| (*c).to_owned()).collect();
            Sequential::new(Shape::new(1, 4, 4), layers, classes).map_err(|e| e.to_string())
        };
        let flatten = || named("", Layer::Flatten);
        let linear = |name: &str| named(name, Layer::Linear { out: 2, bias: true });
        let conv = |name: &str| named(name, Layer::Conv2d(Conv2d::new(2, (2, 2))));
        assert!(new(vec![flatten()], &[]).unwrap_err().contains("no layer with weights"));
        assert!(new(vec![conv("a")], &[]).unwrap_err().contains("2 x 3 x 3"));
        assert!(new(vec![flatten(), linear("")], &[]).unwrap_err().contains("needs a name"));
        assert!(new(vec![flatten(), linear("a"), linear("a")], &[]).unwrap_err().contains("earlier layer"));
        assert!(new(vec![flatten(), conv("a")], &[]).unwrap_err().contains("16 features in a row"));
        assert!(new(vec![flatten(), linear("a")], &["x"]).unwrap_err().contains("1 class"));
        assert!(new(vec![flatten(), linear("a")], &["x", "x"]).unwrap_err().contains("twice"));
        let network = new(vec![flatten(), linear("a")], &["x", "y"]).unwrap();
        assert_eq!((network.class_name(1), network.class_name(7)), ("y".into(), "class 7".into()));
        assert!(Sequential::new(Shape::new(1, 0, 4), vec![], vec![]).is_err());
        assert!(new(vec![named("", Layer::Relu); 2000], &[]).unwrap_err().contains("2000 layers"));
    }
}
