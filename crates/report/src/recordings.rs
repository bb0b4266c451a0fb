//! What a page about recordings shows: a nerve, images of recordings, their spectra.

use serde::{Deserialize, Serialize};

/// What a row of the picture of a nerve stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The cuff's inner wall.
    Cuff,
    /// A contact on it; its radius is half its width.
    Contact,
    /// A fascicle.
    Fascicle,
    /// A fibre.
    Fibre,
}

/// Something to be seen in a nerve's cross-section. The axis of the cuff is at 0, 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NervePart {
    /// What it is.
    pub part: Part,
    /// The class of a fascicle or fibre, empty otherwise.
    pub class: String,
    /// Its centre, in millimetres.
    pub x_mm: f64,
    /// Its centre, in millimetres.
    pub y_mm: f64,
    /// Its radius, in millimetres; 0 for a fibre.
    pub radius_mm: f64,
    /// Conduction velocity of a fibre, in m/s.
    pub velocity_m_s: Option<f64>,
}

/// Contacts by time.
#[derive(Debug, Clone, PartialEq)]
pub struct Image<'a> {
    /// What the values are; images of the same kind are drawn in a row.
    pub what: &'a str,
    /// The name of their class.
    pub class: &'a str,
    /// H x W values, contact after contact.
    pub values: Vec<f32>,
}

/// Images of all classes, of one kind or more.
#[derive(Debug, Clone, PartialEq)]
pub struct Images<'a> {
    /// Contacts (H).
    pub contacts: usize,
    /// Contacts that belong together, such as those of a ring.
    pub rows_together: usize,
    /// Kind after kind, class after class.
    pub of_class: Vec<Image<'a>>,
    /// What they show.
    pub caption: String,
}

/// The mean spectrum of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum<'a> {
    /// The name of the class.
    pub class: &'a str,
    /// Between two values, in hertz.
    pub step_hz: f64,
    /// Power in any unit at 1, 2, ... times `step_hz`.
    pub power: Vec<f64>,
}

/// What a page about recordings shows. What is empty is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordingsPage<'a> {
    /// The page's title.
    pub title: String,
    /// What the recordings are, in a sentence or two.
    pub lead: String,
    /// Sampling rate, in hertz.
    pub sample_rate_hz: f64,
    /// The nerve's cross-section.
    pub nerve: Vec<NervePart>,
    /// One recording of each class.
    pub traces: Images<'a>,
    /// What the recordings of each class have in common.
    pub means: Images<'a>,
    /// Their spectra.
    pub spectra: Vec<Spectrum<'a>>,
    /// Names and values of the settings they were made with.
    pub settings: serde_json::Map<String, serde_json::Value>,
}
