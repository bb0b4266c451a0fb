//! What a figure consists of, independent of the format it is written in: rectangles, lines, marks, texts and
//! images, in a coordinate system of CSS pixels from the top left corner.
//!
//! [`crate::render`] draws a scene.

use crate::routes::Route;
use crate::style::Style;
use crate::text;

/// A colour by its role, so that a style can choose it and the page recolour it for a dark scheme.
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
    /// A route from ANN to spiking network.
    Route(Route),
    /// A layer, by its place in the network.
    Layer(usize),
    /// Anything else that is told apart.
    Series(usize),
    /// A colour that means a value.
    Rgb([u8; 3]),
}

/// What the colours of the default style become on a dark page.
const DARK: [([u8; 3], [u8; 3]); 14] = [
    ([0x00, 0x72, 0xB2], [0x4F, 0xA8, 0xDE]),
    ([0xD5, 0x5E, 0x00], [0xF0, 0x8A, 0x3C]),
    ([0x00, 0x9E, 0x73], [0x2F, 0xC1, 0x97]),
    ([0xB8, 0x5C, 0x92], [0xDD, 0x92, 0xBC]),
    ([0xE6, 0x9F, 0x00], [0xF2, 0xB8, 0x3A]),
    ([0x35, 0x9A, 0xCF], [0x86, 0xCB, 0xF2]),
    ([0x5B, 0x62, 0x6B], [0xA3, 0xAB, 0xB5]),
    ([0x33, 0x22, 0x88], [0x9C, 0x91, 0xE8]),
    ([0x44, 0xAA, 0x99], [0x5C, 0xC9, 0xB7]),
    ([0x99, 0x99, 0x33], [0xC2, 0xC2, 0x55]),
    ([0xCC, 0x66, 0x77], [0xE0, 0x8A, 0x9A]),
    ([0x88, 0x22, 0x55], [0xCF, 0x6B, 0xA5]),
    ([0x88, 0xCC, 0xEE], [0x9A, 0xD6, 0xF5]),
    ([0x11, 0x77, 0x33], [0x4F, 0xB8, 0x6F]),
];

/// As plotters writes it.
fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// Name, light and dark colour of everything that has a role in a style, as hexadecimal numbers. Of equal light colours the first
/// counts.
fn inks(style: &Style) -> Vec<(String, String, String)> {
    let dark = |light: [u8; 3]| DARK.iter().find(|(from, _)| *from == light).map_or(light, |(_, to)| *to);
    let roles = [
        ("text", style.rgb(Ink::Text), [0xE8, 0xEA, 0xED]),
        ("muted", style.rgb(Ink::Muted), [0xA3, 0xAB, 0xB5]),
        ("grid", style.rgb(Ink::Grid), [0x2E, 0x34, 0x3B]),
        ("axis", style.rgb(Ink::Axis), [0x6B, 0x74, 0x7E]),
        ("paper", [0xFF; 3], [0x15, 0x18, 0x1C]),
    ];
    let roles = roles.map(|(name, light, dark)| (name.to_owned(), light, dark));
    let of = |name: &str, i: usize, light| (format!("{name}{i}"), light, dark(light));
    let routes = Route::ALL.into_iter().enumerate().map(|(i, r)| of("r", i, style.rgb(Ink::Route(r))));
    let layers = (0..style.colours.layers.len()).map(|i| of("l", i, style.rgb(Ink::Layer(i))));
    let series = (0..style.colours.series.len()).map(|i| of("s", i, style.rgb(Ink::Series(i))));
    let mut inks: Vec<(String, String, String)> = Vec::new();
    for (name, light, dark) in roles.into_iter().chain(routes).chain(layers).chain(series) {
        let (light, dark) = (hex(light), hex(dark));
        // Links on the page have the first route's colour.
        if inks.iter().all(|known| known.1 != light) {
            inks.push((name, light, dark));
        }
    }
    inks
}

/// The CSS variables that [`with_variables`] refers to, for the light or the dark scheme.
pub(crate) fn variables(style: &Style, dark: bool) -> String {
    let inks = inks(style).into_iter();
    inks.map(|(name, l, d)| format!("--c-{name}:{};", if dark { d } else { l })).collect()
}

/// An SVG with the colours of roles as CSS variables. White stays: on coloured cells it means itself.
pub(crate) fn with_variables(svg: String, style: &Style) -> String {
    inks(style).into_iter().filter(|(name, ..)| name != "paper").fold(svg, |svg, (name, light, _)| {
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
    pub(crate) const fn middle(self) -> Self {
        Self { anchor: Anchor::Middle, ..self }
    }
    pub(crate) const fn end(self) -> Self {
        Self { anchor: Anchor::End, ..self }
    }
    pub(crate) const fn ink(self, ink: Ink) -> Self {
        Self { ink, ..self }
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
    Long,
    Fine,
}

impl Dash {
    /// Patterns that tell level lines apart, counted round.
    pub(crate) fn level(i: usize) -> Self {
        [Self::Dashed, Self::Long, Self::Fine][i % 3]
    }
    /// Drawn and left out, in units.
    pub(crate) fn pattern(self) -> Option<[f64; 2]> {
        match self {
            Self::Solid => None,
            Self::Dashed => Some([6.0, 4.0]),
            Self::Dotted => Some([1.5, 3.0]),
            Self::Long => Some([12.0, 4.0]),
            Self::Fine => Some([3.0, 2.0]),
        }
    }
}

/// One thing to draw.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Rect { x: f64, y: f64, w: f64, h: f64, ink: Ink },
    Line { points: Vec<(f64, f64)>, ink: Ink, width: f64, dash: Dash },
    Polygon { points: Vec<(f64, f64)>, ink: Ink, opacity: f64 },
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
pub(crate) struct Scene<'s> {
    pub style: &'s Style,
    pub width: f64,
    pub height: f64,
    pub title: String,
    pub items: Vec<Item>,
}

impl<'s> Scene<'s> {
    /// An empty figure with its title at the top left, if the style has titles. Content starts at [`top`](Self::top).
    pub(crate) fn new(style: &'s Style, height: f64, title: &str) -> Self {
        let width = style.width();
        let mut scene = Self { style, width, height, title: title.to_owned(), items: Vec::new() };
        if style.titles {
            let shown = text::fit(title, width - 24.0, style.title().size, true);
            scene.text(12.0, 21.0, &shown, style.title());
        }
        scene
    }
    /// Where a figure's content starts.
    pub(crate) fn top(&self) -> f64 {
        if self.style.titles { 34.0 } else { 8.0 }
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
        self.items.push(Item::Text { x, y, string: self.style.language.numbers(string), style });
    }
    /// An image of columns x rows cells, row by row from the top left, stretched over the area.
    pub(crate) fn image(&mut self, area: Area, columns: usize, rows: usize, pixels: Vec<[u8; 3]>) {
        self.items.push(Item::Image { area, columns, rows, pixels });
    }
    pub(crate) fn disk(&mut self, x: f64, y: f64, r: f64, ink: Ink) {
        self.items.push(Item::Circle { x, y, r, ink });
    }
    /// A filled polygon.
    pub(crate) fn polygon(&mut self, points: Vec<(f64, f64)>, ink: Ink, opacity: f64) {
        if points.len() > 2 {
            self.items.push(Item::Polygon { points, ink, opacity });
        }
    }
    /// The `i`th mark: its shape tells series apart where colours cannot, or are the same. The first four are filled, the next
    /// open, and so on.
    pub(crate) fn mark(&mut self, i: usize, x: f64, y: f64, ink: Ink) {
        const DISK: [(f64, f64); 16] = {
            const S: [f64; 5] = [0.0, 0.382_683, std::f64::consts::FRAC_1_SQRT_2, 0.923_880, 1.0];
            [
                (S[4], S[0]),
                (S[3], S[1]),
                (S[2], S[2]),
                (S[1], S[3]),
                (S[0], S[4]),
                (-S[1], S[3]),
                (-S[2], S[2]),
                (-S[3], S[1]),
                (-S[4], S[0]),
                (-S[3], -S[1]),
                (-S[2], -S[2]),
                (-S[1], -S[3]),
                (S[0], -S[4]),
                (S[1], -S[3]),
                (S[2], -S[2]),
                (S[3], -S[1]),
            ]
        };
        let open = i / 4 % 2 == 1;
        let r = self.style.mark() * if open { 1.3 } else { 1.1 };
        if !open && i.is_multiple_of(4) {
            return self.disk(x, y, r, ink);
        }
        let points: &[(f64, f64)] = match i % 4 {
            0 => &DISK,
            1 => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            2 => &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
            _ => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
        };
        let mut points: Vec<(f64, f64)> = points.iter().map(|(dx, dy)| (x + dx * r, y + dy * r)).collect();
        if open {
            points.extend(points.first().copied());
            self.line(points, ink, 1.2, Dash::Solid);
        } else {
            self.polygon(points, ink, 1.0);
        }
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
    fn every_colour_is_a_variable() {
        let style = Style::default();
        let svg = "fill=\"#1B1F24\" stroke=\"#0072B2\" fill=\"#332288\" fill=\"#FFFFFF\"".to_owned();
        let expected = "fill=\"var(--c-text)\" stroke=\"var(--c-r1)\" fill=\"var(--c-l0)\" fill=\"#FFFFFF\"";
        assert_eq!(with_variables(svg, &style), expected);
        // A colour of one's own stays on a dark page, one of the default's is lightened.
        let dark = variables(&style, true);
        assert!(dark.contains("--c-r1:#4FA8DE;") && dark.contains("--c-text:#E8EAED;"), "{dark}");
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escape("a<b & \"c\">\u{7}"), "a&lt;b &amp; &quot;c&quot;&gt; ");
    }
}
