//! PyTorch's Adam and SGD, with a state that can be saved and resumed.
//!
//! libtorch's own optimisers keep their state out of reach, so that a run could not be resumed exactly;
//! the rules are short enough to state here.

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::ann::{from_tensor, to_tensor};
use escape_checkpoint::Value;

/// An update rule with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Kingma and Ba, "Adam", ICLR 2015, algorithm 1; weight decay added to the gradient as PyTorch does.
    Adam {
        /// Step size alpha.
        lr: f64,
        /// Decay rates beta1, beta2 of the two moment estimates.
        betas: (f64, f64),
        /// Added to the denominator.
        eps: f64,
        /// L2 penalty added to the gradient.
        weight_decay: f64,
    },
    /// Stochastic gradient descent with momentum, Nesterov's if asked for, as PyTorch defines it.
    Sgd {
        /// Step size.
        lr: f64,
        /// Momentum factor, no dampening.
        momentum: f64,
        /// Nesterov's look-ahead.
        nesterov: bool,
        /// L2 penalty added to the gradient.
        weight_decay: f64,
    },
}

impl Rule {
    /// Adam with PyTorch's defaults.
    pub fn adam(lr: f64) -> Self {
        Self::Adam { lr, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 }
    }

    /// The original recipe's SGD: Nesterov momentum 0.9.
    pub fn sgd(lr: f64) -> Self {
        Self::Sgd { lr, momentum: 0.9, nesterov: true, weight_decay: 0.0 }
    }
}

/// A rule and its running state for one list of parameters.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    steps: i64,
    /// First and second moments (Adam) or the momentum buffer (SGD), one entry a parameter.
    first: Vec<Tensor>,
    second: Vec<Tensor>,
}

impl Optimizer {
    /// A fresh state.
    pub fn new(rule: Rule) -> Self {
        Self { rule, steps: 0, first: Vec::new(), second: Vec::new() }
    }

    /// Updates every parameter in place by its gradient; the order must stay the same from call to call.
    /// `factor` scales this step's learning rate, as schedules do.
    ///
    /// # Errors
    /// A parameter without a gradient, or libtorch's.
    pub fn step(
        &mut self,
        parameters: &[&Tensor],
        gradients: &[Tensor],
        factor: f64,
    ) -> Result<(), ModelError> {
        tch::no_grad(|| self.update(parameters, gradients, factor))
    }

    fn update(
        &mut self,
        parameters: &[&Tensor],
        gradients: &[Tensor],
        factor: f64,
    ) -> Result<(), ModelError> {
        if self.first.is_empty() {
            let zeros = || parameters.iter().map(|p| p.f_zeros_like()).collect::<Result<Vec<_>, _>>();
            self.first = zeros()?;
            if matches!(self.rule, Rule::Adam { .. }) {
                self.second = zeros()?;
            }
        }
        self.steps += 1;
        let how = Step { rule: self.rule, steps: self.steps, factor };
        let mut pieces = Vec::new();
        for (i, (parameter, gradient)) in parameters.iter().zip(gradients).enumerate() {
            let piece = Piece {
                parameter: parameter.f_detach()?,
                gradient: gradient.f_detach()?,
                first: self.first[i].shallow_clone(),
                second: self.second.get(i).map(Tensor::shallow_clone),
            };
            pieces.extend(piece.split()?);
        }
        match pieces.iter().all(|piece| piece.parameter.device() == Device::Cpu) {
            true => pieces.into_par_iter().try_for_each(|piece| tch::no_grad(|| piece.update(how))),
            false => pieces.into_iter().try_for_each(|piece| piece.update(how)),
        }
    }

    /// The state as PyTorch's `optimizer.state_dict()`, so that either side can continue from it.
    ///
    /// # Errors
    /// Libtorch's.
    pub fn to_value(&self) -> Result<Value, ModelError> {
        let text = |s: &str| Value::Str(s.to_string());
        let mut state = Vec::new();
        for i in 0..self.first.len() {
            let first = Value::from(from_tensor(&self.first[i])?);
            let entry = match self.rule {
                Rule::Adam { .. } => vec![
                    (text("step"), Value::from(from_tensor(&Tensor::from(self.steps as f32))?)),
                    (text("exp_avg"), first),
                    (text("exp_avg_sq"), Value::from(from_tensor(&self.second[i])?)),
                ],
                Rule::Sgd { .. } => vec![(text("momentum_buffer"), first)],
            };
            state.push((Value::Int(i as i64), Value::Dict(entry)));
        }
        let numbers = |pairs: &[(&str, f64)]| -> Vec<(Value, Value)> {
            pairs.iter().map(|&(k, v)| (text(k), Value::Float(v))).collect()
        };
        let mut group = match self.rule {
            Rule::Adam { lr, betas: (b1, b2), eps, weight_decay } => {
                let mut group = numbers(&[("lr", lr), ("eps", eps), ("weight_decay", weight_decay)]);
                group.push((text("betas"), Value::Tuple(vec![Value::Float(b1), Value::Float(b2)])));
                group.push((text("amsgrad"), Value::Bool(false)));
                group
            }
            Rule::Sgd { lr, momentum, nesterov, weight_decay } => {
                let mut group =
                    numbers(&[("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)]);
                group.push((text("dampening"), Value::Int(0)));
                group.push((text("nesterov"), Value::Bool(nesterov)));
                group
            }
        };
        group.push((text("maximize"), Value::Bool(false)));
        group.push((
            text("params"),
            Value::List((0..self.first.len()).map(|i| Value::Int(i as i64)).collect()),
        ));
        Ok(Value::Dict(vec![
            (text("state"), Value::Dict(state)),
            (text("param_groups"), Value::List(vec![Value::Dict(group)])),
        ]))
    }

    /// Continues from a saved state; settings come from `rule`.
    ///
    /// # Errors
    /// The state is not one of this rule for these many parameters.
    pub fn from_value(
        rule: Rule,
        value: &Value,
        parameters: usize,
        device: Device,
    ) -> Result<Self, ModelError> {
        let odd = |what: &str| {
            ModelError::Data(format!("optimiser state: {what}; start the run afresh without --resume"))
        };
        let state =
            value.get("state").and_then(Value::entries).ok_or_else(|| odd("no 'state' dictionary"))?;
        if state.len() != parameters {
            return Err(odd(&format!("expected {parameters} parameters, got {}", state.len())));
        }
        let tensor = |entry: &Value, key: &str| match entry.get(key) {
            Some(Value::Tensor(t)) => to_tensor(&t.to_f32(), &t.shape, device),
            _ => Err(odd(&format!("no tensor '{key}'"))),
        };
        let mut result = Self::new(rule);
        for (_, entry) in state {
            match rule {
                Rule::Adam { .. } => {
                    result.steps =
                        tensor(entry, "step")?.f_to_kind(Kind::Double)?.f_double_value(&[])? as i64;
                    result.first.push(tensor(entry, "exp_avg")?);
                    result.second.push(tensor(entry, "exp_avg_sq")?);
                }
                Rule::Sgd { .. } => result.first.push(tensor(entry, "momentum_buffer")?),
            }
        }
        Ok(result)
    }
}

/// An update: the rule, how many there have been with this one, and what scales its learning rate.
#[derive(Clone, Copy)]
struct Step {
    rule: Rule,
    steps: i64,
    factor: f64,
}

/// Elements that are updated together: what every operation reads and writes stays in cache, and it is no more than
/// libtorch takes on one thread, so that its threads do not get in the way of ours.
const TOGETHER: i64 = 1 << 15;

/// Some elements of a parameter, or all, and what belongs to them; all of them views.
struct Piece {
    parameter: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Option<Tensor>,
}

impl Piece {
    /// In pieces that are quick to update, where the elements lie in a row on a CPU.
    fn split(self) -> Result<Vec<Self>, ModelError> {
        let kept = [Some(&self.parameter), Some(&self.first), self.second.as_ref()];
        if kept.iter().flatten().any(|t| t.device() != Device::Cpu || !t.is_contiguous()) {
            return Ok(vec![self]);
        }
        let parts = |tensor: &Tensor| tensor.f_reshape([-1])?.f_split(TOGETHER, 0);
        let second = self.second.as_ref().map(parts).transpose()?;
        let mut second = second.into_iter().flatten();
        let all = parts(&self.parameter)?.into_iter().zip(parts(&self.gradient)?).zip(parts(&self.first)?);
        let piece =
            |((parameter, gradient), first)| Self { parameter, gradient, first, second: second.next() };
        Ok(all.map(piece).collect())
    }

    fn update(self, Step { rule, steps, factor }: Step) -> Result<(), ModelError> {
        let Self { parameter: mut p, gradient, first: mut m, second } = self;
        match rule {
            Rule::Adam { lr, betas: (b1, b2), eps, weight_decay } => {
                let g = decayed(gradient, &p, weight_decay)?;
                let mut v = second.ok_or_else(|| ModelError::Data("Adam has two moments, got one".into()))?;
                let _ = m.f_lerp_(&g, 1.0 - b1)?;
                let _ = v.f_mul_scalar_(b2)?.f_add_(&g.f_square()?.f_mul_scalar_(1.0 - b2)?)?;
                let mut denominator = v.f_div_scalar(1.0 - b2.powi(steps as i32))?;
                let _ = denominator.f_sqrt_()?.f_add_scalar_(eps)?;
                let step = factor * lr / (1.0 - b1.powi(steps as i32));
                let _ = p.f_sub_(&m.f_div(&denominator)?.f_mul_scalar_(step)?)?;
            }
            Rule::Sgd { lr, momentum, nesterov, weight_decay } => {
                let g = decayed(gradient, &p, weight_decay)?;
                // PyTorch starts the buffer at the first gradient, which zero times momentum plus it is.
                let _ = m.f_mul_scalar_(momentum)?.f_add_(&g)?;
                let direction = if nesterov { g.f_add(&m.f_mul_scalar(momentum)?)? } else { m };
                let _ = p.f_sub_(&direction.f_mul_scalar(factor * lr)?)?;
            }
        }
        Ok(())
    }
}

/// The gradient with the L2 penalty added.
fn decayed(gradient: Tensor, parameter: &Tensor, weight_decay: f64) -> Result<Tensor, ModelError> {
    Ok(if weight_decay == 0.0 { gradient } else { gradient.f_add(&parameter.f_mul_scalar(weight_decay)?)? })
}

/// How the learning rate goes over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Stays as it is; the study's.
    Constant,
    /// Falls linearly to 0 at the end of this many epochs. Adam moves every weight by about the learning rate
    /// a step, and in a layer of 22,400 inputs the last few steps alone would shift potentials by thresholds.
    Linear {
        /// Epochs of the whole run.
        epochs: usize,
    },
}

impl Schedule {
    /// The factor on the learning rate at step `step` of `steps` in epoch `epoch`, both from 0.
    pub fn factor(self, epoch: usize, step: usize, steps: usize) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Linear { epochs } => {
                let done = (epoch * steps + step) as f64 / (epochs * steps).max(1) as f64;
                (1.0 - done).max(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linear_schedule_ends_at_zero() {
        let linear = Schedule::Linear { epochs: 2 };
        assert_eq!(linear.factor(0, 0, 10), 1.0);
        assert_eq!(linear.factor(1, 0, 10), 0.5);
        assert!((linear.factor(1, 9, 10) - 0.05).abs() < 1e-12);
        // Resumed for more epochs than planned, it stays at the end.
        assert_eq!(linear.factor(3, 0, 10), 0.0);
        assert_eq!(Schedule::Constant.factor(1, 9, 10), 1.0);
    }
}
