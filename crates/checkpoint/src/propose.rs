//! A proposal of the network that a state dictionary may be of. Names and shapes tell which layers have parameters, and how
//! large they are; strides, padding, pooling and activations they do not, so that each line that is a guess says so.

use escape_network::sequential::{Conv2d, Layer, Named, Padding, Pool, Pooling, Shape};

use crate::description::line;
use crate::input::KnownInput;
use crate::{Checkpoint, TensorData};

/// A layer with parameters, as it is found.
struct Module<'a> {
    name: &'a str,
    weight: Option<&'a TensorData>,
    bias: bool,
    statistics: bool,
}

/// What is proposed, line by line, each with what is to be checked about it.
struct Proposal {
    lines: Vec<(Named, String)>,
    /// Channels of what comes next; 0 where nothing is known.
    channels: usize,
    /// Factor by which poolings shrink rows and columns.
    shrunk: usize,
    flat: bool,
}

/// A description of the network, as YAML with comments: `# check:` stands behind every line that names and shapes do not tell.
///
/// # Errors
/// There is nothing that a layer could be, in words.
pub fn propose(checkpoint: &Checkpoint) -> Result<String, String> {
    let modules = modules(&checkpoint.weights);
    let layers = modules.iter().filter(|m| m.is_layer()).count();
    let last = modules.iter().rposition(Module::is_layer).ok_or_else(|| {
        "no tensor in it is a weight of a convolution (4 dimensions) or of a linear layer (2 dimensions)"
            .to_owned()
    })?;
    let mut made = Proposal { lines: Vec::new(), channels: 0, shrunk: 1, flat: false };
    let mut input = 1;
    let mut planes = None;
    for (i, module) in modules.iter().enumerate() {
        match module.weight.map(|w| &w.shape[..]) {
            Some(&[out, inputs, rows, columns]) => {
                if made.channels == 0 {
                    input = inputs;
                    made.channels = inputs;
                }
                made.conv(module, (out, inputs), (rows, columns));
            }
            Some(&[out, inputs]) => {
                if !made.flat {
                    if made.channels > 0 && inputs.is_multiple_of(made.channels) {
                        planes = Some(inputs / made.channels);
                    }
                    made.push("", Layer::Flatten, String::new());
                    made.flat = true;
                    if made.channels == 0 {
                        input = inputs;
                    }
                }
                made.push(module.name, Layer::Linear { out, bias: module.bias }, String::new());
                made.channels = out;
            }
            _ if module.is_norm() => {
                let layer = Layer::BatchNorm { eps: 1e-5, affine: module.weight.is_some() };
                made.push(module.name, layer, "eps is PyTorch's usual one; the file does not say".into());
            }
            _ => continue,
        }
        if i < last {
            made.between(module, modules.get(i + 1));
        }
    }
    let known = KnownInput::of(checkpoint).shape;
    let (shape, note) = made.input(input, known, planes);
    let mut text = format!(
        "# Proposed from the names and shapes of {layers} layers with weights. A state dictionary does not tell strides, padding,\n\
         # pooling and activations: compare every line marked `check` with the code that defines the network.\n\
         input: [{}, {}, {}]{note}\nlayers:\n",
        shape.channels, shape.height, shape.width
    );
    for (named, check) in &made.lines {
        let check = if check.is_empty() { String::new() } else { format!("  # check: {check}") };
        text.push_str(&format!("  - {}{check}\n", line(named)));
    }
    Ok(text)
}

impl Module<'_> {
    fn is_layer(&self) -> bool {
        self.weight.is_some_and(|w| matches!(w.shape.len(), 2 | 4))
    }

    fn is_norm(&self) -> bool {
        self.statistics
    }

    /// The number at the end of its name, and what stands before.
    fn number(&self) -> Option<(&str, usize)> {
        let (before, number) = self.name.rsplit_once('.').unwrap_or(("", self.name));
        Some((before, number.parse().ok()?))
    }
}

/// The modules that tensors belong to, in the order of the file.
fn modules(weights: &[(String, TensorData)]) -> Vec<Module<'_>> {
    let mut found: Vec<Module<'_>> = Vec::new();
    for (name, tensor) in weights {
        let (module, what) = name.rsplit_once('.').unwrap_or(("", name));
        if found.last().is_none_or(|last| last.name != module) {
            found.push(Module { name: module, weight: None, bias: false, statistics: false });
        }
        let Some(last) = found.last_mut() else { continue };
        match what {
            "weight" => last.weight = Some(tensor),
            "bias" => last.bias = true,
            "running_mean" => last.statistics = true,
            _ => {}
        }
    }
    found
}

impl Proposal {
    fn push(&mut self, name: &str, layer: Layer, check: String) {
        self.lines.push((Named { name: name.to_owned(), layer }, check));
    }

    fn conv(&mut self, module: &Module<'_>, (out, inputs): (usize, usize), kernel: (usize, usize)) {
        let groups =
            if inputs > 0 && self.channels.is_multiple_of(inputs) { self.channels / inputs } else { 1 };
        let mut check = "stride and padding".to_owned();
        if self.channels != inputs * groups {
            check.push_str(&format!(
                "; it takes {inputs} channels, {} come from the layer before",
                self.channels
            ));
        }
        let padding = Padding::same(kernel);
        let conv = Conv2d { padding, groups, bias: module.bias, ..Conv2d::new(out, kernel) };
        self.push(module.name, Layer::Conv2d(conv), check);
        self.channels = out;
    }

    /// What has no parameters and lies between two modules: as much as their numbers leave room for.
    fn between(&mut self, here: &Module<'_>, next: Option<&Module<'_>>) {
        let gap = match (here.number(), next.and_then(Module::number)) {
            (Some((a, i)), Some((b, j))) if a == b => j.checked_sub(i + 1),
            _ => None,
        };
        // A batch norm right behind weights comes before the activation.
        if next.is_some_and(Module::is_norm) && gap != Some(1) && !here.is_norm() {
            return;
        }
        let told = match gap {
            Some(0) => return,
            Some(n) => format!("names leave room for {n} layer{} here", if n == 1 { "" } else { "s" }),
            None => "names do not tell what is here".to_owned(),
        };
        self.push("", Layer::Relu, format!("activation; {told}"));
        if gap.is_none_or(|layers| layers < 2) {
            return;
        }
        if self.flat {
            self.push("", Layer::Dropout { p: 0.5 }, format!("it does nothing in evaluation; {told}"));
        } else {
            self.push("", Layer::Pool(Pool::new(Pooling::Max, (2, 2))), format!("kind and size; {told}"));
            self.shrunk = self.shrunk.saturating_mul(2);
        }
    }

    /// The shape of a recording, and what to say about it.
    fn input(
        &self,
        channels: usize,
        known: Option<(usize, usize)>,
        planes: Option<usize>,
    ) -> (Shape, String) {
        if let Some((rows, columns)) = known {
            return (Shape::new(channels, rows / channels.max(1), columns), "  # as the file says".into());
        }
        let Some(left) = planes else {
            return match self.lines.first() {
                Some((Named { layer: Layer::Flatten, .. }, _)) => (
                    Shape::new(1, 1, channels),
                    "  # check: rows and columns; the first layer takes as many values".to_owned(),
                ),
                _ => (
                    Shape::new(channels, 28, 28),
                    "  # check: rows and columns, which the file does not tell".into(),
                ),
            };
        };
        let side = left.isqrt();
        let (rows, columns) = if side * side == left { (side, side) } else { (1, left) };
        let told = format!(
            "  # check: rows and columns; the first linear layer takes planes of {left} values, which these lines make of {} x {}",
            rows * self.shrunk,
            columns * self.shrunk
        );
        (Shape::new(channels, rows.saturating_mul(self.shrunk), columns.saturating_mul(self.shrunk)), told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::parse;

    fn checkpoint(tensors: &[(&str, &[usize])]) -> Checkpoint {
        let weights = tensors.iter().map(|(name, shape)| {
            (name.to_string(), TensorData::from_f32(shape, &vec![0.0; shape.iter().product()]))
        });
        Checkpoint { weights: weights.collect(), ..Checkpoint::default() }
    }

    #[test]
    fn a_vgg_of_plain_modules_is_proposed_whole() {
        let text = propose(&checkpoint(&[
            ("0.weight", &[16, 1, 3, 3]),
            ("1.weight", &[16]),
            ("1.bias", &[16]),
            ("1.running_mean", &[16]),
            ("1.running_var", &[16]),
            ("3.weight", &[32, 16, 3, 3]),
            ("4.weight", &[32]),
            ("4.bias", &[32]),
            ("4.running_mean", &[32]),
            ("4.running_var", &[32]),
            ("8.weight", &[10, 32 * 14 * 14]),
            ("8.bias", &[10]),
        ]))
        .unwrap();
        let network = parse("proposed", &text).unwrap();
        let kinds: Vec<&str> = network.layers().iter().map(|l| l.layer.kind()).collect();
        assert_eq!(
            kinds,
            [
                "conv2d",
                "batch_norm",
                "relu",
                "conv2d",
                "batch_norm",
                "relu",
                "max_pool2d",
                "flatten",
                "linear"
            ]
        );
        assert_eq!(network.input(), Shape::new(1, 28, 28));
        assert!(
            text.contains("# check: stride and padding") && text.contains("planes of 196 values"),
            "{text}"
        );
    }

    #[test]
    fn groups_follow_from_channels_and_nothing_is_an_error() {
        let text = propose(&checkpoint(&[
            ("features.0.weight", &[8, 3, 3, 3]),
            ("features.2.weight", &[8, 1, 3, 3]),
            ("head.weight", &[2, 8]),
            ("head.bias", &[2]),
        ]))
        .unwrap();
        assert!(text.contains("groups: 8, bias: false"), "{text}");
        parse("proposed", &text).unwrap();
        assert!(propose(&checkpoint(&[("a.weight", &[3])])).unwrap_err().contains("4 dimensions"));
        let mlp = propose(&checkpoint(&[("a.weight", &[5, 12]), ("b.weight", &[2, 5])])).unwrap();
        assert_eq!(parse("proposed", &mlp).unwrap().input(), Shape::new(1, 1, 12));
    }
}
