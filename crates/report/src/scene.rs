//! What a figure consists of, independent of the format it is written in: rectangles, lines, marks, texts and
//! images, in a coordinate system of CSS pixels from the top left corner.
//!
//! [`crate::render`] draws a scene.

use crate::text;

/// A colour by its role, so that the page can recolour inlined figures for a dark scheme.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Ink {
    /// Titles and values.
    Text,
    /// Axis labels and ticks.
    Muted,
    /// Grid lines.
    Grid,
    /// Axis lines.
    Axis,
    /// One of [`SERIES`], counted round.
    Series(usize),
    /// A colour that means a value.
    Rgb([u8; 3]),
}

/// Okabe and Ito's palette, told apart with every common colour blindness; first of each pair for light paper,
/// second for dark.
pub(crate) const SERIES: [([u8; 3], [u8; 3]); 7] = [
    ([0x00, 0x72, 0xB2], [0x4F, 0xA8, 0xDE]),
    ([0xD5, 0x5E, 0x00], [0xF0, 0x8A, 0x3C]),
    ([0x00, 0x9E, 0x73], [0x2F, 0xC1, 0x97]),
    ([0xB8, 0x5C, 0x92], [0xDD, 0x92, 0xBC]),
    ([0xE6, 0x9F, 0x00], [0xF2, 0xB8, 0x3A]),
    ([0x35, 0x9A, 0xCF], [0x86, 0xCB, 0xF2]),
    ([0x5B, 0x62, 0x6B], [0xA3, 0xAB, 0xB5]),
];

/// Grey of the series: the ANN everywhere.
pub(crate) const ANN_SERIES: usize = 6;

/// Roles with their name, light and dark colour.
const ROLES: [(&str, [u8; 3], [u8; 3]); 5] = [
    ("text", [0x1B, 0x1F, 0x24], [0xE8, 0xEA, 0xED]),
    ("muted", [0x57, 0x60, 0x6A], [0xA3, 0xAB, 0xB5]),
    ("grid", [0xE4, 0xE7, 0xEB], [0x2E, 0x34, 0x3B]),
    ("axis", [0x8C, 0x95, 0x9F], [0x6B, 0x74, 0x7E]),
    ("paper", [0xFF, 0xFF, 0xFF], [0x15, 0x18, 0x1C]),
];

impl Ink {
    /// On light paper.
    pub(crate) fn rgb(self) -> [u8; 3] {
        match self {
            Self::Text => ROLES[0].1,
            Self::Muted => ROLES[1].1,
            Self::Grid => ROLES[2].1,
            Self::Axis => ROLES[3].1,
            Self::Series(i) => SERIES[i % SERIES.len()].0,
            Self::Rgb(rgb) => rgb,
        }
    }
}

/// As plotters writes it.
fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// Name, light and dark colour of every role and series, as hexadecimal numbers.
fn inks() -> impl Iterator<Item = (String, String, String)> {
    let roles = ROLES.iter().map(|(name, light, dark)| ((*name).to_owned(), light, dark));
    let series = SERIES.iter().enumerate().map(|(i, (light, dark))| (i.to_string(), light, dark));
    roles.chain(series).map(|(name, light, dark)| (name, hex(*light), hex(*dark)))
}

/// The CSS variables that [`with_variables`] refers to, for the light or the dark scheme.
pub(crate) fn variables(dark: bool) -> String {
    inks().map(|(name, l, d)| format!("--c-{name}:{};", if dark { d } else { l })).collect()
}

/// An SVG with the colours of roles as CSS variables. White stays: on coloured cells it means itself.
pub(crate) fn with_variables(svg: String) -> String {
    inks().filter(|(name, ..)| name != "paper").fold(svg, |svg, (name, light, _)| {
        svg.replace(&format!("\"{light}\""), &format!("\"var(--c-{name})\""))
    })
}

/// Where a text's position is within it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Type {
    pub size: f64,
    pub bold: bool,
    pub anchor: Anchor,
    pub ink: Ink,
}

impl Type {
    const fn new(size: f64, bold: bool, ink: Ink) -> Self {
        Self { size, bold, anchor: Anchor::Start, ink }
    }
    /// The figure's title.
    pub(crate) const TITLE: Self = Self::new(14.5, true, Ink::Text);
    /// A panel's title.
    pub(crate) const PANEL: Self = Self::new(12.5, true, Ink::Text);
    /// Legends and values.
    pub(crate) const VALUE: Self = Self::new(11.5, false, Ink::Text);
    /// Axis labels and ticks.
    pub(crate) const LABEL: Self = Self::new(11.5, false, Ink::Muted);

    pub(crate) const fn middle(self) -> Self {
        Self { anchor: Anchor::Middle, ..self }
    }
    pub(crate) const fn end(self) -> Self {
        Self { anchor: Anchor::End, ..self }
    }
    pub(crate) const fn ink(self, ink: Ink) -> Self {
        Self { ink, ..self }
    }
    pub(crate) const fn size(self, size: f64) -> Self {
        Self { size, ..self }
    }
    /// Width of a text in pixels.
    pub(crate) fn width(self, string: &str) -> f64 {
        text::width(string, self.size, self.bold)
    }
    /// From the middle of a line of text down to its baseline.
    pub(crate) fn drop(self) -> f64 {
        self.size * 0.36
    }
}

/// A line's pattern.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Dash {
    Solid,
    Dashed,
    Dotted,
}

impl Dash {
    pub(crate) fn pattern(self) -> Option<[f64; 2]> {
        match self {
            Self::Solid => None,
            Self::Dashed => Some([6.0, 4.0]),
            Self::Dotted => Some([1.5, 3.0]),
        }
    }
}

/// One thing to draw.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Rect { x: f64, y: f64, w: f64, h: f64, ink: Ink },
    Line { points: Vec<(f64, f64)>, ink: Ink, width: f64, dash: Dash },
    Polygon { points: Vec<(f64, f64)>, ink: Ink },
    Circle { x: f64, y: f64, r: f64, ink: Ink },
    Text { x: f64, y: f64, string: String, style: Type },
    Image { area: Area, columns: usize, rows: usize, pixels: Vec<[u8; 3]> },
    MapStart,
    MapEnd,
}

/// A rectangle on the figure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Area {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

impl Area {
    pub(crate) fn new(x: f64, y: f64, w: f64, h: f64) -> Self {
        Self { x, y, w, h }
    }
    pub(crate) fn right(&self) -> f64 {
        self.x + self.w
    }
    pub(crate) fn bottom(&self) -> f64 {
        self.y + self.h
    }
}

/// A figure.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub width: f64,
    pub height: f64,
    pub title: String,
    pub items: Vec<Item>,
}

impl Scene {
    /// An empty figure with its title at the top left. Content starts at y = 34.
    pub(crate) fn new(width: f64, height: f64, title: &str) -> Self {
        let mut scene = Self { width, height, title: title.to_owned(), items: Vec::new() };
        scene.text(12.0, 21.0, title, Type::TITLE);
        scene
    }
    pub(crate) fn rect(&mut self, x: f64, y: f64, w: f64, h: f64, ink: Ink) {
        if w > 0.0 && h > 0.0 {
            self.items.push(Item::Rect { x, y, w, h, ink });
        }
    }
    pub(crate) fn line(&mut self, points: Vec<(f64, f64)>, ink: Ink, width: f64, dash: Dash) {
        if points.len() > 1 {
            self.items.push(Item::Line { points, ink, width, dash });
        }
    }
    pub(crate) fn text(&mut self, x: f64, y: f64, string: &str, style: Type) {
        self.items.push(Item::Text { x, y, string: string.to_owned(), style });
    }
    /// An image of columns x rows cells, row by row from the top left, stretched over the area.
    pub(crate) fn image(&mut self, area: Area, columns: usize, rows: usize, pixels: Vec<[u8; 3]>) {
        self.items.push(Item::Image { area, columns, rows, pixels });
    }
    pub(crate) fn disk(&mut self, x: f64, y: f64, r: f64, ink: Ink) {
        self.items.push(Item::Circle { x, y, r, ink });
    }
    /// A mark of series `i`: its shape tells series apart where colours cannot.
    pub(crate) fn mark(&mut self, i: usize, x: f64, y: f64, ink: Ink) {
        let r = 4.0;
        let points: &[(f64, f64)] = match i % 4 {
            0 => return self.disk(x, y, r, ink),
            1 => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            2 => &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
            _ => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
        };
        let points = points.iter().map(|(dx, dy)| (x + dx * r, y + dy * r)).collect();
        self.items.push(Item::Polygon { points, ink });
    }
    /// Draw cells whose colours mean values; a dark page inverts them as a whole.
    pub(crate) fn map(&mut self, draw: impl FnOnce(&mut Self)) {
        self.items.push(Item::MapStart);
        draw(self);
        self.items.push(Item::MapEnd);
    }
}

/// For XML and HTML, in text and attributes. Control characters, which XML forbids, become blanks.
pub(crate) fn escape(string: &str) -> String {
    let mut out = String::with_capacity(string.len());
    for c in string.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_a_colour_of_its_own() {
        let colours: std::collections::BTreeSet<_> = inks().map(|(_, light, _)| light).collect();
        assert_eq!(colours.len(), ROLES.len() + SERIES.len());
        let svg = with_variables("fill=\"#1B1F24\" stroke=\"#0072B2\" fill=\"#FFFFFF\"".to_owned());
        assert_eq!(svg, "fill=\"var(--c-text)\" stroke=\"var(--c-0)\" fill=\"#FFFFFF\"");
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escape("a<b & \"c\">\u{7}"), "a&lt;b &amp; &quot;c&quot;&gt; ");
    }
}
