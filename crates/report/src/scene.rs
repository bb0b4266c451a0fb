//! What a figure consists of, independent of the format it is written in: rectangles, lines, marks, texts and
//! images, in a coordinate system of CSS pixels from the top left corner.
//!
//! A scene is drawn twice from the same list: [`Scene::svg`](crate::scene::Scene::svg) here, and as pixels in
//! [`crate::raster`].

use std::fmt::Write as _;

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

/// Roles with their class, light and dark colour.
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

    /// `class="f-text"` or, for a colour that means a value, `fill="#..."`. `property` is `fill` or `stroke`.
    fn attribute(self, property: &str) -> String {
        let initial = &property[..1];
        match self {
            Self::Text => format!("class=\"{initial}-text\""),
            Self::Muted => format!("class=\"{initial}-muted\""),
            Self::Grid => format!("class=\"{initial}-grid\""),
            Self::Axis => format!("class=\"{initial}-axis\""),
            Self::Series(i) => format!("class=\"{initial}-{}\"", i % SERIES.len()),
            Self::Rgb(rgb) => format!("{property}=\"{}\"", hex(rgb)),
        }
    }
}

fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// The style of all figures: with fixed colours for a file of its own, or as CSS variables for the page.
pub(crate) fn style(variables: bool) -> String {
    let mut css = String::new();
    let series = SERIES.iter().enumerate().map(|(i, (light, _))| (i.to_string(), *light));
    for (name, light) in ROLES.iter().map(|(n, light, _)| ((*n).to_owned(), *light)).chain(series) {
        let colour = if variables { format!("var(--c-{name})") } else { hex(light) };
        let _ = write!(css, ".f-{name}{{fill:{colour}}}.s-{name}{{stroke:{colour}}}");
    }
    css
}

/// The CSS variables that [`style`] refers to, for the light or the dark scheme.
pub(crate) fn variables(dark: bool) -> String {
    let mut css = String::new();
    let series = SERIES.iter().enumerate().map(|(i, (l, d))| (i.to_string(), *l, *d));
    for (name, l, d) in ROLES.iter().map(|(n, l, d)| ((*n).to_owned(), *l, *d)).chain(series) {
        let _ = write!(css, "--c-{name}:{};", hex(if dark { d } else { l }));
    }
    css
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
    /// A mark of series `i`: its shape tells series apart where colours cannot.
    pub(crate) fn mark(&mut self, i: usize, x: f64, y: f64, ink: Ink) {
        let r = 4.0;
        let points: &[(f64, f64)] = match i % 4 {
            0 => return self.items.push(Item::Circle { x, y, r, ink }),
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

    /// As SVG: a file of its own with its colours and a white ground, or a fragment for the page.
    pub(crate) fn svg(&self, standalone: bool) -> String {
        let mut svg = String::with_capacity(64 * self.items.len() + 1024);
        let (w, h) = (number(self.width), number(self.height));
        let title = escape(&self.title);
        // On the page the title lines up with the text around it.
        let left = if standalone { 0.0 } else { 12.0 };
        let (x, width) = (number(left), number(self.width - left));
        let _ = write!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{x} 0 {width} {h}\" width=\"{width}\" height=\"{h}\" \
             role=\"img\" aria-label=\"{title}\" font-family=\"{FAMILY}\">"
        );
        if standalone {
            let _ = write!(svg, "<title>{title}</title><style>{}</style>", style(false));
            let _ = write!(svg, "<rect width=\"{w}\" height=\"{h}\" class=\"f-paper\"/>");
        }
        svg.push('\n');
        for item in &self.items {
            write_item(&mut svg, item);
            svg.push('\n');
        }
        svg.push_str("</svg>\n");
        svg
    }
}

const FAMILY: &str = "Helvetica Neue, Arial, Liberation Sans, DejaVu Sans Condensed, sans-serif";

fn write_item(svg: &mut String, item: &Item) {
    // Writing to a string cannot fail.
    let _ = match item {
        Item::Rect { x, y, w, h, ink } => write!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" {}/>",
            number(*x),
            number(*y),
            number(*w),
            number(*h),
            ink.attribute("fill")
        ),
        Item::Line { points, ink, width, dash } => {
            let dash = dash.pattern().map_or(String::new(), |[on, off]| {
                format!(" stroke-dasharray=\"{} {}\"", number(on), number(off))
            });
            write!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke-width=\"{}\" stroke-linejoin=\"round\"{dash} {}/>",
                list(points),
                number(*width),
                ink.attribute("stroke")
            )
        }
        Item::Polygon { points, ink } => {
            write!(svg, "<polygon points=\"{}\" {}/>", list(points), ink.attribute("fill"))
        }
        Item::Circle { x, y, r, ink } => write!(
            svg,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" {}/>",
            number(*x),
            number(*y),
            number(*r),
            ink.attribute("fill")
        ),
        Item::Text { x, y, string, style } => {
            let anchor = match style.anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let weight = if style.bold { " font-weight=\"bold\"" } else { "" };
            write!(
                svg,
                "<text x=\"{}\" y=\"{}\" font-size=\"{}\"{anchor}{weight} {}>{}</text>",
                number(*x),
                number(*y),
                number(style.size),
                style.ink.attribute("fill"),
                escape(string)
            )
        }
        Item::Image { area, columns, rows, pixels } => {
            let Some(png) = crate::raster::cells_png(*columns, *rows, pixels) else { return };
            // Enlarged cells keep their edges; shrunken ones are averaged rather than dropped.
            let crisp = *columns as f64 <= area.w && *rows as f64 <= area.h;
            write!(
                svg,
                "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" {}\
                 href=\"data:image/png;base64,{}\"/>",
                number(area.x),
                number(area.y),
                number(area.w),
                number(area.h),
                if crisp { "style=\"image-rendering:pixelated\" " } else { "" },
                text::base64(&png)
            )
        }
        Item::MapStart => write!(svg, "<g class=\"map\">"),
        Item::MapEnd => write!(svg, "</g>"),
    };
}

fn list(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{},{}", number(*x), number(*y))).collect::<Vec<_>>().join(" ")
}

/// At most two decimals, no trailing zeros.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
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
    fn numbers_are_short() {
        assert_eq!([1.0, 0.5, -0.001, 123.456, 100.0].map(number), ["1", "0.5", "0", "123.46", "100"]);
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escape("a<b & \"c\">\u{7}"), "a&lt;b &amp; &quot;c&quot;&gt; ");
    }
}
