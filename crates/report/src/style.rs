//! How figures look: width, language, fonts, lines, colours. A file of it (`report --style`) gives any of the keys;
//! `configs/style.yaml` lists them all.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::ReportError;
use crate::routes::Route;
use crate::scene::{Anchor, Ink, Type};
use crate::words::Words;

/// The size of labels in units of a scene: every layout is made for this one, whatever it is on paper.
const TEXT: f64 = 11.5;
/// The narrowest figure that the layouts are made for, in units of a scene.
const NARROWEST: f64 = 300.0;
const POINTS_PER_MM: f64 = 72.0 / 25.4;

/// The language of the labels in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    En,
    /// German.
    De,
}

impl Language {
    /// A text with its numbers as the language writes them: `0.62` and `4,000` are `0,62` and `4.000` in German.
    pub(crate) fn numbers(self, text: &str) -> String {
        if self == Self::En {
            return text.to_owned();
        }
        let swapped = |c: char| match c {
            '.' => ',',
            ',' => '.',
            c => c,
        };
        let word = |word: &str| -> String {
            let bare = word.trim_start_matches(['-', '+', '\u{2212}', '<', '(']);
            let number = bare.trim_end_matches(['x', '%', 'k', 'M', 'G', 'T', ')', '*']);
            let is_number = number.starts_with(|c: char| c.is_ascii_digit())
                && number.ends_with(|c: char| c.is_ascii_digit())
                && number.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ',');
            match word.split_once(number).filter(|_| is_number) {
                Some((before, after)) => {
                    format!("{before}{}{after}", number.chars().map(swapped).collect::<String>())
                }
                None => word.to_owned(),
            }
        };
        text.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }
}

/// How figures look. Every key has a default; [`Style::read`] refuses keys that there are not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Style {
    /// Width of a figure, in millimetres.
    pub width_mm: f64,
    /// Pixels of a PNG per inch.
    pub png_dpi: u32,
    /// Language of the labels.
    pub language: Language,
    /// Whether a figure has its title in it.
    pub titles: bool,
    /// Fonts.
    pub font: Font,
    /// Lines and marks.
    pub lines: Lines,
    /// Colours.
    pub colours: Palette,
}

/// Fonts of figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Font {
    /// Families for an SVG, the first that a reader's system has; PDF and PNG have DejaVu Sans Condensed.
    pub family: String,
    /// Size of a figure's title, in points.
    pub title_pt: f64,
    /// Size of a panel's title, in points.
    pub panel_pt: f64,
    /// Size of labels, ticks and legends, in points.
    pub text_pt: f64,
}

/// Lines and marks of figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lines {
    /// Width of a curve, in points.
    pub curve_pt: f64,
    /// Radius of a mark, in points.
    pub mark_pt: f64,
    /// How much a band of errors covers: 0 nothing, 1 all.
    pub band_opacity: f64,
}

/// Colours of figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Palette {
    /// Titles and values.
    pub text: Colour,
    /// Labels and ticks.
    pub muted: Colour,
    /// Lines of the grid.
    pub grid: Colour,
    /// Lines of the axes.
    pub axis: Colour,
    /// Of each route.
    pub routes: RouteColours,
    /// Of the layers, from the input on; counted round.
    pub layers: Vec<Colour>,
    /// Of anything else that is told apart: classes, kinds of operations; counted round.
    pub series: Vec<Colour>,
}

/// The colour of each route from ANN to spiking network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteColours {
    /// ANNs, quantised ones too.
    pub ann: Colour,
    /// Converted by the default preset.
    pub converted_default: Colour,
    /// Converted by the default preset and fine-tuned.
    pub finetuned_default: Colour,
    /// Converted by the published preset.
    pub converted_published: Colour,
    /// Converted by the published preset and fine-tuned.
    pub finetuned_published: Colour,
    /// Converted by weight normalisation, as in the SNN toolbox.
    pub converted_toolbox: Colour,
    /// Of any other preset, or unknown.
    pub other: Colour,
}

/// A colour, in a file `"#RRGGBB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

impl Serialize for Colour {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [r, g, b] = self.0;
        serializer.serialize_str(&format!("#{r:02X}{g:02X}{b:02X}"))
    }
}

impl<'de> Deserialize<'de> for Colour {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.strip_prefix('#').filter(|digits| digits.len() == 6);
        let number = number.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let wrong =
            || serde::de::Error::custom(format!("expected a colour such as \"#0072B2\", got `{text}`"));
        let [_, r, g, b] = number.ok_or_else(wrong)?.to_be_bytes();
        Ok(Self([r, g, b]))
    }
}

const fn colour(rgb: u32) -> Colour {
    let [_, r, g, b] = rgb.to_be_bytes();
    Colour([r, g, b])
}

impl Default for Style {
    fn default() -> Self {
        Self {
            width_mm: 85.0,
            png_dpi: 300,
            language: Language::En,
            titles: true,
            font: Font::default(),
            lines: Lines::default(),
            colours: Palette::default(),
        }
    }
}

impl Default for Font {
    fn default() -> Self {
        Self {
            family: "Helvetica Neue, Arial, Liberation Sans, DejaVu Sans Condensed, sans-serif".to_owned(),
            title_pt: 8.5,
            panel_pt: 7.5,
            text_pt: 7.0,
        }
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self { curve_pt: 1.0, mark_pt: 2.0, band_opacity: 0.18 }
    }
}

impl Default for Palette {
    /// Okabe and Ito's colours for routes and series, Paul Tol's muted ones for layers: each told apart with every common
    /// colour blindness.
    fn default() -> Self {
        let series = [0x00_72B2, 0xD5_5E00, 0x00_9E73, 0xB8_5C92, 0xE6_9F00, 0x35_9ACF];
        let layers = [0x33_2288, 0x44_AA99, 0x99_9933, 0xCC_6677, 0x88_2255, 0x88_CCEE, 0x11_7733];
        Self {
            text: colour(0x1B_1F24),
            muted: colour(0x57_606A),
            grid: colour(0xE4_E7EB),
            axis: colour(0x8C_959F),
            routes: RouteColours::default(),
            layers: layers.map(colour).to_vec(),
            series: series.map(colour).to_vec(),
        }
    }
}

impl Default for RouteColours {
    fn default() -> Self {
        Self {
            ann: colour(0x5B_626B),
            converted_default: colour(0x00_72B2),
            finetuned_default: colour(0xD5_5E00),
            converted_published: colour(0x00_9E73),
            finetuned_published: colour(0xB8_5C92),
            converted_toolbox: colour(0x56_B4E9),
            other: colour(0xE6_9F00),
        }
    }
}

impl RouteColours {
    fn of(&self, route: Route) -> Colour {
        match route {
            Route::Ann => self.ann,
            Route::ConvertedDefault => self.converted_default,
            Route::FinetunedDefault => self.finetuned_default,
            Route::ConvertedPublished => self.converted_published,
            Route::FinetunedPublished => self.finetuned_published,
            Route::ConvertedToolbox => self.converted_toolbox,
            Route::Other => self.other,
        }
    }
}

impl Style {
    /// The style that a YAML file describes: its keys, and the defaults of all others.
    ///
    /// # Errors
    /// The file cannot be read, or [`ReportError::Style`]: a key is unknown, or its value is not what it holds.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = fs::read_to_string(path).map_err(ReportError::io("read", path))?;
        Self::parse(&text).map_err(|(key, what)| ReportError::Style { path: path.to_owned(), key, what })
    }

    /// The style, or a key and what is wrong with it.
    fn parse(text: &str) -> Result<Self, (String, String)> {
        let value: serde_yaml::Value =
            serde_yaml::from_str(text).map_err(|e| (".".to_owned(), format!("no valid YAML: {e}")))?;
        if value.is_null() {
            return Ok(Self::default());
        }
        let style: Self = serde_path_to_error::deserialize(value)
            .map_err(|e| (e.path().to_string(), e.inner().to_string()))?;
        style.check()?;
        Ok(style)
    }

    fn check(&self) -> Result<(), (String, String)> {
        let within = |key: &str, value: f64, (lo, hi): (f64, f64)| {
            let wrong = || (key.to_owned(), format!("expected a number from {lo} to {hi}, got {value}"));
            (lo..=hi).contains(&value).then_some(()).ok_or_else(wrong)
        };
        within("width_mm", self.width_mm, (30.0, 500.0))?;
        within("png_dpi", self.png_dpi.into(), (72.0, 1200.0))?;
        within("font.title_pt", self.font.title_pt, (4.0, 40.0))?;
        within("font.panel_pt", self.font.panel_pt, (4.0, 40.0))?;
        within("font.text_pt", self.font.text_pt, (4.0, 30.0))?;
        within("lines.curve_pt", self.lines.curve_pt, (0.1, 10.0))?;
        within("lines.mark_pt", self.lines.mark_pt, (0.5, 10.0))?;
        within("lines.band_opacity", self.lines.band_opacity, (0.0, 1.0))?;
        for (key, colours) in
            [("colours.layers", &self.colours.layers), ("colours.series", &self.colours.series)]
        {
            if colours.is_empty() {
                return Err((key.to_owned(), "expected at least one colour, got none".to_owned()));
            }
        }
        for (key, size) in [("font.title_pt", self.font.title_pt), ("font.panel_pt", self.font.panel_pt)] {
            if size > 2.0 * self.font.text_pt {
                let most = 2.0 * self.font.text_pt;
                return Err((
                    key.to_owned(),
                    format!("expected at most twice font.text_pt, {most}, got {size}"),
                ));
            }
        }
        if self.width() < NARROWEST {
            let least = (NARROWEST / TEXT * self.font.text_pt / POINTS_PER_MM).ceil();
            let size = self.font.text_pt;
            let what = format!("expected at least {least} for text of {size} pt, got {}", self.width_mm);
            return Err(("width_mm".to_owned(), what));
        }
        Ok(())
    }

    /// As a file has it, every key given.
    pub(crate) fn yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }

    /// The default at the width of a whole page, for recordings side by side.
    pub(crate) fn wide() -> Self {
        Self { width_mm: 155.0, ..Self::default() }
    }

    /// Points of a unit of a scene.
    pub(crate) fn unit_pt(&self) -> f64 {
        self.font.text_pt / TEXT
    }
    /// Width of a figure in units.
    pub(crate) fn width(&self) -> f64 {
        self.width_mm * POINTS_PER_MM / self.unit_pt()
    }
    /// Units as millimetres.
    pub(crate) fn mm(&self, units: f64) -> f64 {
        units * self.unit_pt() / POINTS_PER_MM
    }
    /// Width of a curve in units.
    pub(crate) fn curve(&self) -> f64 {
        self.lines.curve_pt / self.unit_pt()
    }
    /// Radius of a mark in units.
    pub(crate) fn mark(&self) -> f64 {
        self.lines.mark_pt / self.unit_pt()
    }
    fn face(&self, pt: f64, bold: bool, ink: Ink) -> Type {
        Type { size: pt / self.unit_pt(), bold, anchor: Anchor::Start, ink }
    }
    /// The figure's title.
    pub(crate) fn title(&self) -> Type {
        self.face(self.font.title_pt, true, Ink::Text)
    }
    /// A panel's title.
    pub(crate) fn panel(&self) -> Type {
        self.face(self.font.panel_pt, true, Ink::Text)
    }
    /// Legends and values.
    pub(crate) fn value(&self) -> Type {
        self.face(self.font.text_pt, false, Ink::Text)
    }
    /// Axis labels and ticks.
    pub(crate) fn label(&self) -> Type {
        self.face(self.font.text_pt, false, Ink::Muted)
    }
    /// The labels' texts.
    pub(crate) fn words(&self) -> &'static Words {
        Words::of(self.language)
    }
    /// The colour of an ink, on light paper.
    pub(crate) fn rgb(&self, ink: Ink) -> [u8; 3] {
        let colours = &self.colours;
        let round = |of: &[Colour], i: usize| of.get(i % of.len().max(1)).copied().unwrap_or(colours.text);
        let Colour(rgb) = match ink {
            Ink::Text => colours.text,
            Ink::Muted => colours.muted,
            Ink::Grid => colours.grid,
            Ink::Axis => colours.axis,
            Ink::Route(route) => colours.routes.of(route),
            Ink::Layer(i) => round(&colours.layers, i),
            Ink::Series(i) => round(&colours.series, i),
            Ink::Rgb(rgb) => Colour(rgb),
        };
        rgb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_has_every_key_and_the_defaults() {
        let shipped = include_str!("../../../configs/style.yaml");
        assert_eq!(Style::parse(shipped), Ok(Style::default()));
        let every = |text: &str| {
            let value: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
            fn keys(value: &serde_yaml::Value, found: &mut Vec<String>) {
                for (key, inner) in value.as_mapping().into_iter().flatten() {
                    found.push(key.as_str().unwrap().to_owned());
                    keys(inner, found);
                }
            }
            let mut found = Vec::new();
            keys(&value, &mut found);
            found
        };
        assert_eq!(every(shipped), every(&Style::default().yaml().unwrap()));
    }

    #[test]
    fn a_file_comes_back_as_it_was_written() {
        let style = Style { width_mm: 170.0, language: Language::De, ..Style::default() };
        assert_eq!(Style::parse(&style.yaml().unwrap()), Ok(style));
        assert_eq!(Style::parse(""), Ok(Style::default()));
        assert_eq!(Style::parse("lines: {mark_pt: 3}\n").unwrap().lines.mark_pt, 3.0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |text: &str| Style::parse(text).map(|_| ()).unwrap_err();
        let (key, what) = wrong("font: {famly: Times}");
        assert!(key == "font.famly" || key == "font", "{key}");
        assert!(what.contains("`famly`, expected") && what.contains("`family`"), "{what}");
        let (key, what) = wrong("width_mm: wide");
        assert!(key == "width_mm" && what.contains("wide"), "{key}: {what}");
        let (key, what) = wrong("colours: {routes: {ann: grey}}");
        assert_eq!(key, "colours.routes.ann");
        assert!(what.contains("expected a colour such as \"#0072B2\", got `grey`"), "{what}");
        assert_eq!(
            wrong("png_dpi: 10"),
            ("png_dpi".into(), "expected a number from 72 to 1200, got 10".into())
        );
        assert!(
            wrong("width_mm: 60\nfont: {text_pt: 12, title_pt: 12, panel_pt: 12}")
                .1
                .contains("at least 111 for text of 12 pt")
        );
        assert!(wrong("colours: {layers: []}").1.contains("at least one"));
        assert!(wrong("language: fr").1.contains("`en` or `de`"));
    }

    #[test]
    fn numbers_are_those_of_the_language() {
        let de = |text| Language::De.numbers(text);
        assert_eq!(de("ANN modified 0.718"), "ANN modified 0,718");
        assert_eq!([de("4,000"), de("22.9M"), de("0.62x"), de("-0.5")], ["4.000", "22,9M", "0,62x", "-0,5"]);
        // Names and sentences stay.
        let kept = ["z0.75-c8-8", "z0.5", "v1.0", "a, b.", "1", "conv1", "-"];
        assert_eq!(kept.map(de), kept);
        assert_eq!(Language::En.numbers("0.718"), "0.718");
    }

    #[test]
    fn lengths_on_paper() {
        let style = Style::default();
        assert!((style.mm(style.width()) - 85.0).abs() < 1e-9);
        assert!((style.label().size * style.unit_pt() - 7.0).abs() < 1e-9);
        assert!((390.0..400.0).contains(&style.width()), "{}", style.width());
    }
}
