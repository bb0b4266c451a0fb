//! Where an animal's fascicles and fibres are, and how fast each fibre conducts.

use std::f64::consts::TAU;

use super::config::NerveConfig;
use super::fibre::Fibre;
use super::leadfield::MAX_DEPTH;
use super::streams::{Purpose, stream};
use escape_network::arch::CLASSES;

/// One animal's nerve. Positions are relative to the cuff's inner radius, angles in radians.
#[derive(Debug, Clone, PartialEq)]
pub struct Anatomy {
    /// Inner radius of the cuff, in millimetres.
    pub radius_mm: f64,
    /// The fascicle of each class.
    pub fascicles: [PlacedFascicle; CLASSES],
}

/// One fascicle in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacedFascicle {
    /// Distance of its centre from the nerve's axis.
    pub depth: f64,
    /// Angle of its centre.
    pub angle: f64,
    /// Its radius.
    pub radius: f64,
    /// The fibres that its stimulus can evoke.
    pub fibres: Vec<Fibre>,
}

impl Anatomy {
    /// The nerve of the configured animal, in the middle of its session.
    pub fn new(config: &NerveConfig, seed: u64) -> Self {
        let mut random = stream(seed, Purpose::Anatomy, config.animal, 0, 0);
        let radius_mm = random.between(config.radius_mm);
        let fascicles = std::array::from_fn(|class| {
            let fascicle = &config.fascicles[class];
            let angle = fascicle.angle_deg + config.animal_angle_spread_deg * random.normal();
            let deepest = (MAX_DEPTH - fascicle.radius).max(0.0);
            let depth = (fascicle.depth + config.animal_depth_spread * random.normal()).clamp(0.0, deepest);
            let angle = angle.to_radians();
            let (sin, cos) = angle.sin_cos();
            let fibre = |i: u32| {
                let mut random = stream(seed, Purpose::Fibre, config.animal, class, i as usize);
                // Evenly over the disk.
                let (sin_within, cos_within) = (TAU * random.uniform()).sin_cos();
                let from_centre = fascicle.radius * random.uniform().sqrt();
                let x = depth * cos + from_centre * cos_within;
                let y = depth * sin + from_centre * sin_within;
                // Evenly over the logarithm: thin fibres are more frequent.
                let velocity = random.between(fascicle.velocity_m_s.map(f64::ln)).exp();
                Fibre {
                    velocity,
                    depth: x.hypot(y).min(MAX_DEPTH),
                    angle: y.atan2(x),
                    first_node: random.uniform(),
                    strength: (config.amplitude_spread * random.normal()).exp(),
                }
            };
            let fibres = (0..config.fibres_per_fascicle).map(fibre).collect();
            PlacedFascicle { depth, angle, radius: fascicle.radius, fibres }
        });
        Self { radius_mm, fascicles }
    }
}
