//! The texts in figures, in each language. A text that a language lacks does not compile.

use escape_energy::{PUBLISHED, ann_of};

use crate::routes::Route;
use crate::rows::Kind;
use crate::style::Language;

macro_rules! words {
    ($($name:ident: $en:literal | $de:literal,)+) => {
        /// Every text of a language.
        pub(crate) struct Words {
            language: Language,
            $(pub(crate) $name: &'static str,)+
        }
        const EN: Words = Words { language: Language::En, $($name: $en,)+ };
        const DE: Words = Words { language: Language::De, $($name: $de,)+ };
        #[cfg(test)]
        const PAIRS: &[(&str, &str, &str)] = &[$((stringify!($name), $en, $de),)+];
    };
}

words! {
    accuracy_title: "Accuracy against T" | "Genauigkeit über T",
    accuracy: "accuracy (share correct)" | "Genauigkeit (Anteil richtig)",
    timesteps: "T, steps of the simulation" | "T, Schritte der Simulation",
    chance: "chance" | "Raten",
    other: "other" | "andere",
    largest_class: "largest class" | "häufigste Klasse",
    ann: "ANN" | "ANN",
    quantised: "quantised ANN" | "quantisiertes ANN",
    skips_zeros: "skips zeros" | "ohne Nullen",
    converted: "converted only" | "nur konvertiert",
    finetuned: "fine-tuned" | "nachtrainiert",
    bits: "bits" | "Bit",
    confusion: "Confusion matrices" | "Konfusionsmatrizen",
    actual: "actual" | "wahr",
    predicted: "predicted" | "vorhergesagt",
    recording: "One recording" | "Eine Aufnahme",
    contact: "contact" | "Kontakt",
    ring: "ring" | "Ring",
    angle: "angle" | "Winkel",
    time: "time (ms)" | "Zeit (ms)",
    value: "value" | "Wert",
    input_spikes: "The recording as Poisson spikes" | "Die Aufnahme als Poisson-Spikes",
    first_step: "First step" | "Erster Schritt",
    mean_over_steps: "Mean over all steps" | "Mittel über alle Schritte",
    spike: "spike" | "Spike",
    spikes_per_step: "spikes per step" | "Spikes je Schritt",
    training_title: "Training of the ANN" | "Training des ANN",
    finetune_title: "Fine-tuning" | "Nachtraining",
    loss: "loss (cross-entropy)" | "Verlust (Kreuzentropie)",
    epoch: "epoch" | "Epoche",
    training_split: "training" | "Training",
    test_split: "test" | "Test",
    held_out: "held-out" | "zurückgehalten",
    raster_title: "spikes over the simulation" | "Spikes während der Simulation",
    neuron: "neuron" | "Neuron",
    step: "step" | "Schritt",
    share_firing: "share firing" | "Anteil aktiv",
    no_spikes: "no spikes" | "keine Spikes",
    spikes_at_step: "spikes at the step" | "Spikes im Schritt",
    histogram_title: "Spikes per neuron" | "Spikes je Neuron",
    neurons: "neurons" | "Neuronen",
    spikes_per_neuron: "spikes per neuron" | "Spikes je Neuron",
    silent: "silent" | "stumm",
    of: "of" | "von",
    channels_title: "Spikes per feature channel" | "Spikes je Merkmalskanal",
    most_in_channel: "at most" | "höchstens",
    steps_title: "Spikes by step" | "Spikes nach Schritt",
    spikes_per_recording: "spikes per recording" | "Spikes je Aufnahme",
    work_title: "Computations of ANN and spiking network" | "Rechnungen von ANN und Spiking-Netz",
    work: "count per recording" | "Anzahl je Aufnahme",
    ann_macs: "ANN: multiply-accumulates" | "ANN: Multiplikationen mit Addition",
    snn_macs: "multiply-accumulates (constant input)" | "Multiplikationen (konstante Eingabe)",
    accumulates: "accumulates by arriving spikes" | "Additionen durch ankommende Spikes",
    spikes_fired: "spikes fired" | "Spikes",
    energy_title: "Energy relative to the ANN" | "Energie relativ zum ANN",
    total: "total" | "gesamt",
    multiply_accumulates: "multiply-accumulates" | "Multiplikationen",
    additions: "accumulates" | "Additionen",
    membrane: "membrane updates" | "Membranen",
    weight_memory: "weights from memory" | "Gewichte aus dem Speicher",
    state_memory: "activations or membranes in memory" | "Zustände im Speicher",
    requantise: "requantising" | "Requantisieren",
    addressing: "addresses of events" | "Adressen der Ereignisse",
    relative_energy: "energy per recording (full-precision ANN = 1)" | "Energie je Aufnahme (ANN in voller Genauigkeit = 1)",
    worthless: "* silent, or no better than naming one class" | "* stumm, oder nicht besser als immer eine Klasse",
    energy_steps_title: "Energy over the simulation" | "Energie während der Simulation",
    per_recording: "per recording" | "je Aufnahme",
    steps_run: "steps run" | "Schritte",
    published_formula: "published formula" | "publizierte Formel",
    arithmetic: "arithmetic" | "Arithmetik",
    and_memory: "and memory" | "und Speicher",
    and_events: "by event" | "je Ereignis",
    front_title: "Accuracy against energy" | "Genauigkeit über Energie",
    spiking_networks: "spiking networks" | "Spiking-Netze",
    anns: "ANNs, fp32 and quantised" | "ANN, fp32 und quantisiert",
    with_memory: "arithmetic and memory" | "Arithmetik und Speicher",
    microjoules: "energy per recording (\u{b5}J)" | "Energie je Aufnahme (\u{b5}J)",
    nerve_title: "The nerve in its cuff" | "Der Nerv in seiner Manschette",
    velocity: "conduction velocity (m/s)" | "Leitgeschwindigkeit (m/s)",
    fibres_per: "fibres per" | "Fasern je",
    traces_title: "At every contact" | "An jedem Kontakt",
    means_title: "The mean of each class" | "Mittel jeder Klasse",
    spectra_title: "Mean power spectrum of each class" | "Mittleres Leistungsspektrum jeder Klasse",
    frequency: "frequency (kHz)" | "Frequenz (kHz)",
    power: "power (dB)" | "Leistung (dB)",
}

impl Words {
    pub(crate) fn of(language: Language) -> &'static Self {
        match language {
            Language::En => &EN,
            Language::De => &DE,
        }
    }
    pub(crate) fn kind(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Ann => self.ann,
            Kind::Quantised => self.quantised,
            Kind::Converted => self.converted,
            Kind::Finetuned => self.finetuned,
        }
    }
    /// A route, as a name for its line.
    pub(crate) fn route(&self, route: Route) -> String {
        let preset = |kind: &str, preset: &str| format!("{kind}, {preset}");
        match route {
            Route::Ann => self.ann.to_owned(),
            Route::ConvertedDefault => preset(self.converted, "default"),
            Route::FinetunedDefault => preset(self.finetuned, "default"),
            Route::ConvertedPublished => preset(self.converted, "published"),
            Route::FinetunedPublished => preset(self.finetuned, "published"),
            Route::ConvertedToolbox => preset(self.converted, "toolbox"),
            Route::Other => String::new(),
        }
    }
    /// What judged an epoch, by its name in a table.
    pub(crate) fn split<'a>(&self, split: &'a str) -> &'a str
    where
        'static: 'a,
    {
        match split {
            "train" => self.training_split,
            "test" => self.test_split,
            "held-out" => self.held_out,
            other => other,
        }
    }
    /// A network of the energy tables.
    pub(crate) fn network(&self, network: &str) -> String {
        let Some((bits, skips)) = ann_of(network) else { return network.to_owned() };
        let bits = bits.map_or_else(String::new, |bits| format!(", {bits} {}", self.bits));
        let skips = if skips { format!(", {}", self.skips_zeros) } else { String::new() };
        format!("{}{bits}{skips}", self.ann)
    }
    /// A way of counting energy.
    pub(crate) fn model(&self, model: &str) -> String {
        let arithmetic = |format: &str| match self.language {
            Language::En => format!("{format} {}", self.arithmetic),
            Language::De => format!("{format}-{}", self.arithmetic),
        };
        match model.split_once('+') {
            _ if model == PUBLISHED => self.published_formula.to_owned(),
            Some((format, "events")) => format!("{} {}", arithmetic(format), self.and_events),
            Some((format, _)) => format!("{} {}", arithmetic(format), self.and_memory),
            None => arithmetic(model),
        }
    }
    /// The same, short.
    pub(crate) fn short_model(&self, model: &str) -> String {
        match model.split_once('+') {
            Some((format, "events")) => format!("{format}, {}", self.and_events),
            Some((format, _)) => format!("{format}, {}", self.and_memory),
            None => self.model(model),
        }
    }
    /// A component of energy.
    pub(crate) fn component<'a>(&self, component: &'a str) -> &'a str
    where
        'static: 'a,
    {
        match component {
            "multiply_accumulate" => self.multiply_accumulates,
            "accumulate" => self.additions,
            "membrane" => self.membrane,
            "weight_memory" => self.weight_memory,
            "state_memory" => self.state_memory,
            "requantise" => self.requantise,
            "addressing" => self.addressing,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn every_text_is_there_in_letters_that_the_font_has() {
        for (name, en, de) in PAIRS {
            for text in [en, de] {
                assert!(!text.trim().is_empty(), "{name}");
                assert!(text.chars().all(|c| text::glyph(c, false).0 != 0), "{name}: {text}");
            }
        }
    }

    #[test]
    fn names_of_the_tables_in_words() {
        let (en, de) = (Words::of(Language::En), Words::of(Language::De));
        assert_eq!(
            [en.network("ann"), en.network("ann-8bit"), de.network("ann-3bit")],
            ["ANN", "ANN, 8 bits", "ANN, 3 Bit"]
        );
        assert_eq!(en.model("fp32+memory"), "fp32 arithmetic and memory");
        assert_eq!(de.model("int8"), "int8-Arithmetik");
        assert_eq!((en.component("membrane"), en.component("odd")), ("membrane updates", "odd"));
        assert_eq!(en.route(Route::ConvertedDefault), "converted only, default");
    }
}
