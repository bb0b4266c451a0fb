//! What is simulated: every physical parameter, its unit, its bounds. `configs/nerve.yaml` has the sources.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::leadfield::{Cylinder, MAX_DEPTH};
use super::session::{FOLDS, ROUNDS, largest_test_fraction, tests};
use crate::SAMPLE_RATE_HZ;
use crate::error::DataError;
use escape_network::arch::CLASSES;

/// Distance of the outer rings from the cuff's ends, in lengths in which the first angular order falls by e: the lead
/// field takes the cuff for infinite, and is then off by exp(-3), 5 percent, at most.
const ENDS: f64 = 1.5;
/// Nodes of a fibre within the cuff: simulating an animal takes time in proportion.
const MOST_NODES: f64 = 2000.0;

/// One fascicle of the nerve, which one class of stimuli evokes: a disk full of fibres.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fascicle {
    /// Angle of its centre around the nerve, in degrees.
    pub angle_deg: f64,
    /// Distance of its centre from the nerve's axis, as a fraction of the cuff's inner radius.
    pub depth: f64,
    /// Its radius, as a fraction of the cuff's inner radius.
    pub radius: f64,
    /// Slowest and fastest conduction velocity of its fibres, in m/s.
    pub velocity_m_s: [f64; 2],
}

/// In which order the contacts are the rows of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOrder {
    /// Row = ring * contacts_per_ring + angle: the contacts of a ring are neighbours (spatial emphasis).
    Spatial,
    /// Row = angle * rings + ring: the contacts along the nerve are neighbours (temporal emphasis).
    Temporal,
}

/// How a recording is brought to [-1, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// x / max|x|. Silence stays at 0: an encoder whose spike rate follows |x| is silent where the nerve is,
    /// and the sign of x keeps its meaning.
    MaxAbs,
    /// (x - min) / (max - min) * 2 - 1, as in the published recordings. Uses the whole range, but moves the
    /// baseline of each recording to another value, up to some tenths away from 0.
    MinMax,
}

impl Scaling {
    /// What is taken off each value of a recording from `min` to `max`, and then multiplied with it. A recording
    /// without any signal becomes 0.
    pub(super) fn offset_and_factor(self, min: f64, max: f64) -> (f64, f64) {
        let (offset, factor) = match self {
            Self::MaxAbs => (0.0, max.abs().max(min.abs()).recip()),
            Self::MinMax => ((min + max) / 2.0, 2.0 / (max - min)),
        };
        (offset, if factor.is_finite() { factor } else { 0.0 })
    }
}

fn once(rounds: &usize) -> bool {
    *rounds == 1
}

/// What is simulated. Every field has a default; a configuration file names only those that differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NerveConfig {
    /// Seed of the nerve and its recordings, apart from that of everything else; `None`: that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Recordings in all, of both splits.
    pub samples: usize,
    /// How often the training part of the session is recorded, each time with other fibres and other noise at the same place of its
    /// drift: more to train on beside the same test split. `samples` counts one of them.
    #[serde(skip_serializing_if = "once")]
    pub training_rounds: usize,
    /// Number of the animal: its anatomy, its cuff's contacts and its recordings.
    pub animal: u16,
    /// Which third of the session is for testing, 1 to 3.
    pub fold: usize,
    /// Fraction of the recordings that form the test split. They are a third of the session; the other two thirds,
    /// the rarer classes repeated, are the training split.
    pub test_fraction: f64,
    /// Relative frequency of each class in the session and the test split. In the training split all are equally
    /// frequent. A class of frequency 0 does not occur.
    pub test_class_weights: [f64; CLASSES],
    /// Order of the rows.
    pub row_order: RowOrder,
    /// How a recording is brought to [-1, 1].
    pub scaling: Scaling,

    /// Rings of the cuff, at least 3; the outer two form the reference.
    pub rings: usize,
    /// Contacts of a ring, evenly spaced.
    pub contacts_per_ring: usize,
    /// Distance from ring to ring, in millimetres.
    pub ring_pitch_mm: f64,
    /// Length of the cuff, in millimetres; the rings lie in its middle.
    pub cuff_length_mm: f64,
    /// Smallest and largest inner radius, in millimetres; drawn for each animal.
    pub radius_mm: [f64; 2],
    /// Size of a contact along the cuff and around it, in millimetres.
    pub contact_mm: [f64; 2],
    /// Conductivity of the nerve along its fibres, in S/m.
    pub axial_conductivity_s_m: f64,
    /// Conductivity of the nerve across its fibres, in S/m.
    pub radial_conductivity_s_m: f64,

    /// The fascicle of each class: peroneal (dorsiflexion), tibial (plantarflexion), sural (pricking).
    pub fascicles: [Fascicle; CLASSES],
    /// Spread of the fascicles' angles from animal to animal (standard deviation), in degrees.
    pub animal_angle_spread_deg: f64,
    /// Spread of the fascicles' depths from animal to animal (standard deviation), as a fraction of the radius.
    pub animal_depth_spread: f64,
    /// Fibres of each fascicle that a stimulus can evoke; the same ones all through a session.
    pub fibres_per_fascicle: u32,
    /// Conduction velocity per fibre diameter, in m/s per micrometre.
    pub velocity_per_diameter: f64,
    /// Distance between the nodes of Ranvier, in fibre diameters.
    pub node_spacing_diameters: f64,
    /// Peak current of a node of a fibre of 10 micrometres, in nanoampere.
    pub nodal_current_na: f64,
    /// The nodal current grows as velocity to this power.
    pub amplitude_exponent: f64,
    /// Spread of the fibres' currents beyond that (standard deviation of the logarithm).
    pub amplitude_spread: f64,
    /// Duration of the action potential of a fibre of 80 m/s and of one of 5 m/s, in milliseconds; linear in between.
    pub waveform_ms: [f64; 2],

    /// Fewest and most fibres of the evoked fascicle in a recording.
    pub fibres: [u32; 2],
    /// Least and greatest jitter of the fibres' arrival (standard deviation), in milliseconds; drawn for each
    /// recording.
    pub arrival_jitter_ms: [f64; 2],
    /// Fewest and most fibres of each other fascicle that are active as well.
    pub coactive_fibres: [u32; 2],
    /// Spread of the co-active fibres' arrival around the evoked ones' (standard deviation), in milliseconds.
    pub coactive_jitter_ms: f64,
    /// Action potentials a second of all fibres that have nothing to do with the stimulus (Poisson).
    pub background_rate_hz: f64,

    /// White noise of each contact (standard deviation, of the whole band), in microvolt.
    pub white_noise_uv: f64,
    /// Coloured noise of each contact (standard deviation), in microvolt.
    pub coloured_noise_uv: f64,
    /// Fraction of the coloured noise's variance that the contacts of a ring share, 0 to 1: it comes from the
    /// same tissue.
    pub coloured_shared: f64,
    /// Lower and upper edge of the coloured noise's band, in hertz.
    pub coloured_band_hz: [f64; 2],
    /// Interference of muscles that all contacts share (standard deviation), in microvolt. Only what the spread of
    /// the gains leaves of it survives the reference.
    pub interference_uv: f64,
    /// Difference of the interference between the cuff's ends (standard deviation), in microvolt; linear in between.
    pub interference_gradient_uv: f64,
    /// Lower and upper edge of the interference's band, in hertz.
    pub interference_band_hz: [f64; 2],
    /// Spread of the contacts' gains around 1 (standard deviation).
    pub gain_spread: f64,
    /// Change of each contact's gain from a session's first recording to its last (standard deviation).
    pub gain_drift: f64,
    /// How far the nerve turns within the cuff from a session's first recording to its last, in degrees.
    pub drift_deg: f64,

    /// Lower and upper edge of the amplifier's band-pass, in hertz.
    pub band_pass_hz: [f64; 2],
    /// Jitter of the detected peak around sample 49 (standard deviation), in samples.
    pub peak_jitter_samples: f64,
}

/// A configuration file: everything is under one key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    nerve: Option<NerveConfig>,
}

impl Default for NerveConfig {
    fn default() -> Self {
        let fascicle =
            |angle_deg, depth, radius, velocity_m_s| Fascicle { angle_deg, depth, radius, velocity_m_s };
        Self {
            seed: None,
            samples: 28_052,
            training_rounds: 1,
            animal: 2,
            fold: 1,
            test_fraction: 0.2793,
            test_class_weights: [0.43, 0.27, 0.30],
            row_order: RowOrder::Spatial,
            scaling: Scaling::MinMax,
            rings: 7,
            contacts_per_ring: 8,
            ring_pitch_mm: 3.0,
            cuff_length_mm: 23.0,
            radius_mm: [0.5, 0.6],
            contact_mm: [0.2, 0.2],
            axial_conductivity_s_m: 0.57,
            radial_conductivity_s_m: 0.083,
            fascicles: [
                fascicle(150.0, 0.55, 0.22, [30.0, 80.0]),
                fascicle(0.0, 0.4, 0.32, [30.0, 80.0]),
                fascicle(230.0, 0.65, 0.15, [5.0, 45.0]),
            ],
            animal_angle_spread_deg: 10.0,
            animal_depth_spread: 0.03,
            fibres_per_fascicle: 200,
            velocity_per_diameter: 6.0,
            node_spacing_diameters: 100.0,
            nodal_current_na: 1.0,
            amplitude_exponent: 1.5,
            amplitude_spread: 0.3,
            waveform_ms: [0.3, 0.6],
            fibres: [5, 40],
            arrival_jitter_ms: [0.05, 0.3],
            coactive_fibres: [0, 16],
            coactive_jitter_ms: 0.3,
            background_rate_hz: 2000.0,
            white_noise_uv: 7.0,
            coloured_noise_uv: 12.5,
            coloured_shared: 0.5,
            coloured_band_hz: [1000.0, 2000.0],
            interference_uv: 20.0,
            interference_gradient_uv: 5.0,
            interference_band_hz: [100.0, 1000.0],
            gain_spread: 0.05,
            gain_drift: 0.05,
            drift_deg: 15.0,
            band_pass_hz: [300.0, 5000.0],
            peak_jitter_samples: 2.0,
        }
    }
}

impl NerveConfig {
    /// Diameter of a fibre of velocity `v` in m/s, in micrometre: D = v / 6.
    pub(super) fn diameter(&self, v: f64) -> f64 {
        v / self.velocity_per_diameter
    }

    /// Delta = 100 D, in mm, of a fibre of velocity `v` in m/s.
    pub(super) fn node_spacing(&self, v: f64) -> f64 {
        self.node_spacing_diameters * self.diameter(v) / 1000.0
    }

    /// I_0 = I_ref (D / 10)^p, in nA, of a fibre of velocity `v` in m/s.
    pub(super) fn nodal_current(&self, v: f64) -> f64 {
        self.nodal_current_na * (self.diameter(v) / 10.0).powf(self.amplitude_exponent)
    }

    /// Read a YAML file that has everything under one key, `nerve`; fields it does not name have their defaults.
    ///
    /// # Errors
    /// [`DataError::Io`] if it cannot be read, [`DataError::Config`] if it is not a
    /// valid configuration.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let text = std::fs::read_to_string(path).map_err(|e| DataError::io(path, "read", e))?;
        let config_error = |problems| DataError::Config { path: Some(path.to_owned()), problems };
        // An empty file, or one of comments only, means the defaults.
        let file: Option<File> =
            serde_yaml::from_str(&text).map_err(|e| config_error(vec![e.to_string()]))?;
        let config = file.and_then(|file| file.nerve).unwrap_or_default();
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(config_error(problems)) }
    }

    /// The same nerve and cuff without noise and interference.
    pub fn without_noise(&self) -> Self {
        Self {
            white_noise_uv: 0.0,
            coloured_noise_uv: 0.0,
            interference_uv: 0.0,
            interference_gradient_uv: 0.0,
            ..self.clone()
        }
    }

    /// Number of contacts (H).
    pub fn contacts(&self) -> usize {
        self.rings.saturating_mul(self.contacts_per_ring)
    }

    /// The cuff's inside in an animal whose cuff has this inner radius, in millimetres.
    pub(super) fn cylinder(&self, radius: f64) -> Cylinder {
        Cylinder {
            radius,
            length: self.cuff_length_mm,
            axial: self.axial_conductivity_s_m,
            radial: self.radial_conductivity_s_m,
            contact: self.contact_mm,
        }
    }

    /// Axial position of each ring, in millimetres from the cuff's end.
    pub(super) fn ring_positions(&self) -> Vec<f64> {
        let middle = (self.rings.saturating_sub(1)) as f64 / 2.0;
        let position = |ring| self.cuff_length_mm / 2.0 + (ring as f64 - middle) * self.ring_pitch_mm;
        (0..self.rings).map(position).collect()
    }

    /// Recordings of the test split and all others, every round of training counted.
    pub fn recordings(&self) -> [usize; 2] {
        let test = tests(self.samples, self.test_fraction);
        [test, (self.samples - test).saturating_mul(self.training_rounds)]
    }

    /// Everything that keeps this configuration from being simulated, each beginning with the field's name.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut number = |name: &str, value: f64, low: f64, high: f64, unit: &str| {
            let fits = (low..=high).contains(&value);
            if !fits {
                problems.push(format!("{name}: expected {low} to {high}{unit}, got {value}"));
            }
            fits
        };
        number("samples", self.samples as f64, 1.0, 1e9, "");
        number("training_rounds", self.training_rounds as f64, 1.0, ROUNDS as f64, "");
        // 0 would draw from the random streams of other parts of the program.
        number("animal", self.animal.into(), 1.0, u16::MAX.into(), "");
        number("fold", self.fold as f64, 1.0, FOLDS as f64, "");
        let mut weights = true;
        for (class, &weight) in self.test_class_weights.iter().enumerate() {
            weights &= number(&format!("test_class_weights[{class}]"), weight, 0.0, 1e6, "");
        }
        let fraction = number("test_fraction", self.test_fraction, 0.05, 0.5, "");
        number("rings", self.rings as f64, 3.0, 64.0, "");
        number("contacts_per_ring", self.contacts_per_ring as f64, 1.0, 64.0, "");
        number("ring_pitch_mm", self.ring_pitch_mm, 0.1, 20.0, " mm");
        number("cuff_length_mm", self.cuff_length_mm, 1.0, 100.0, " mm");
        for radius in self.radius_mm {
            number("radius_mm", radius, 0.1, 5.0, " mm");
        }
        for (name, size) in [("contact_mm[0]", self.contact_mm[0]), ("contact_mm[1]", self.contact_mm[1])] {
            number(name, size, 0.0, 2.0, " mm");
        }
        number("axial_conductivity_s_m", self.axial_conductivity_s_m, 1e-3, 10.0, " S/m");
        number("radial_conductivity_s_m", self.radial_conductivity_s_m, 1e-3, 10.0, " S/m");
        for (class, fascicle) in self.fascicles.iter().enumerate() {
            let name = |field: &str| format!("fascicles[{class}].{field}");
            number(&name("angle_deg"), fascicle.angle_deg, -360.0, 360.0, " degrees");
            let fits = number(&name("depth"), fascicle.depth, 0.0, MAX_DEPTH, " radii")
                & number(&name("radius"), fascicle.radius, 0.0, MAX_DEPTH, " radii");
            if fits {
                let outermost = fascicle.depth + fascicle.radius;
                number(&name("depth and radius together"), outermost, 0.0, MAX_DEPTH, " radii");
            }
            for velocity in fascicle.velocity_m_s {
                number(&name("velocity_m_s"), velocity, 2.0, 150.0, " m/s");
            }
        }
        number("animal_angle_spread_deg", self.animal_angle_spread_deg, 0.0, 360.0, " degrees");
        number("animal_depth_spread", self.animal_depth_spread, 0.0, 1.0, " radii");
        number("fibres_per_fascicle", self.fibres_per_fascicle.into(), 1.0, 2000.0, "");
        number("velocity_per_diameter", self.velocity_per_diameter, 1.0, 20.0, " m/s per micrometre");
        number("node_spacing_diameters", self.node_spacing_diameters, 10.0, 500.0, "");
        number("nodal_current_na", self.nodal_current_na, 0.0, 1000.0, " nA");
        number("amplitude_exponent", self.amplitude_exponent, 0.0, 4.0, "");
        number("amplitude_spread", self.amplitude_spread, 0.0, 3.0, "");
        for duration in self.waveform_ms {
            number("waveform_ms", duration, 0.05, 2.0, " ms");
        }
        number("fibres (most)", self.fibres[1].into(), 1.0, self.fibres_per_fascicle.into(), "");
        number(
            "coactive_fibres (most)",
            self.coactive_fibres[1].into(),
            0.0,
            self.fibres_per_fascicle.into(),
            "",
        );
        for jitter in self.arrival_jitter_ms {
            number("arrival_jitter_ms", jitter, 0.0, 10.0, " ms");
        }
        number("coactive_jitter_ms", self.coactive_jitter_ms, 0.0, 10.0, " ms");
        number("background_rate_hz", self.background_rate_hz, 0.0, 50_000.0, " Hz");
        number("white_noise_uv", self.white_noise_uv, 0.0, 1e6, " microvolt");
        number("coloured_noise_uv", self.coloured_noise_uv, 0.0, 1e6, " microvolt");
        number("coloured_shared", self.coloured_shared, 0.0, 1.0, "");
        number("interference_uv", self.interference_uv, 0.0, 1e6, " microvolt");
        number("interference_gradient_uv", self.interference_gradient_uv, 0.0, 1e6, " microvolt");
        let bands = [
            ("coloured_band_hz", self.coloured_band_hz),
            ("interference_band_hz", self.interference_band_hz),
            ("band_pass_hz", self.band_pass_hz),
        ];
        for (name, band) in bands {
            for edge in band {
                number(name, edge, 1.0, 0.49 * SAMPLE_RATE_HZ, " Hz");
            }
        }
        number("gain_spread", self.gain_spread, 0.0, 1.0, "");
        number("gain_drift", self.gain_drift, 0.0, 1.0, "");
        number("drift_deg", self.drift_deg, -360.0, 360.0, " degrees");
        number("peak_jitter_samples", self.peak_jitter_samples, 0.0, 50.0, " samples");

        let mut ordered = |name: &str, [low, high]: [f64; 2], strictly: bool| {
            if low > high || strictly && low == high {
                problems.push(format!("{name}: expected the lower value first, got [{low}, {high}]"));
            }
        };
        for (class, fascicle) in self.fascicles.iter().enumerate() {
            ordered(&format!("fascicles[{class}].velocity_m_s"), fascicle.velocity_m_s, false);
        }
        ordered("radius_mm", self.radius_mm, false);
        ordered("fibres", self.fibres.map(f64::from), false);
        ordered("coactive_fibres", self.coactive_fibres.map(f64::from), false);
        ordered("arrival_jitter_ms", self.arrival_jitter_ms, false);
        bands.iter().for_each(|(name, band)| ordered(name, *band, true));
        for (name, [low, high]) in [bands[0], bands[1]] {
            // A narrower resonator would still be swinging in when the window begins.
            if low < high && high - low < 100.0 {
                problems.push(format!("{name}: expected a band of at least 100 Hz, got [{low}, {high}]"));
            }
        }
        if self.fibres[0] == 0 {
            problems.push("fibres: expected at least 1 fibre, got 0".to_owned());
        }
        let span = self.rings.saturating_sub(1) as f64 * self.ring_pitch_mm;
        if span >= self.cuff_length_mm {
            problems.push(format!(
                "cuff_length_mm: expected more than {span} mm, which the rings take, got {}",
                self.cuff_length_mm
            ));
        } else if problems.is_empty() {
            problems.extend(self.beyond_the_model());
        }
        if !self.test_class_weights.iter().any(|&weight| weight > 0.0) {
            problems.push("test_class_weights: expected at least one above 0".to_owned());
        } else if weights && fraction {
            let largest = largest_test_fraction(self.test_class_weights);
            if self.test_fraction > largest + 1e-12 {
                problems.push(format!(
                    "test_fraction: expected at most {largest:.4} with these test_class_weights, got {}: the training \
                     split must have room for two thirds of the session",
                    self.test_fraction
                ));
            }
        }
        problems
    }

    /// What each parameter alone allows and all together do not.
    fn beyond_the_model(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let to_end = self.ring_positions()[0];
        let least = ENDS * self.cylinder(self.radius_mm[1]).angular_reach();
        if to_end < least {
            problems.push(format!(
                "cuff_length_mm: expected the outer rings {least:.2} mm or more from the cuff's ends, so that the ends \
                 change little of what depends on the angle, got {to_end:.2} mm; make the cuff longer"
            ));
        }
        let slowest = self.fascicles.iter().map(|f| f.velocity_m_s[0]).fold(f64::INFINITY, f64::min);
        let nodes = self.cuff_length_mm / self.node_spacing(slowest);
        if nodes > MOST_NODES {
            problems.push(format!(
                "node_spacing_diameters: expected at most {MOST_NODES} nodes of a fibre within the cuff, got {nodes:.0} at \
                 {slowest} m/s; space them wider"
            ));
        }
        problems
    }
}
