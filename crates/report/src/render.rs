//! Scenes drawn with plotters, as SVG and as pixels.
//!
//! Its backends take whole coordinates only, so a unit of the scene is [`SCALE`] of theirs. An SVG's view box turns
//! them back; pixels are drawn at twice the size of the file and averaged, which smooths every edge. [`crate::pdf`] writes a PDF.

use std::io::Cursor;
use std::sync::Once;

use image::RgbImage;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _};
use plotters::element::{BitMapElement, Circle, DashedPathElement, PathElement, Polygon, Rectangle, Text};
use plotters::prelude::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontStyle, IntoFont as _, RGBColor, ShapeStyle, TextStyle, register_font};

use crate::scene::{Anchor, Ink, Item, Scene, Type, escape, with_variables};
use crate::style::Style;
use crate::text;

/// Units of an SVG per unit of a scene.
const SCALE: f64 = 4.0;
/// Units of a backend per pixel of a PNG.
const REDUCED: u32 = 2;
/// Pixels while drawing, some 800 MB.
const MOST_PIXELS: u64 = 1 << 28;

/// The embedded font's name for plotters.
const FAMILY: &str = "embedded";

/// What a backend makes of lines and texts.
#[derive(Clone, Copy, PartialEq)]
enum Surface {
    Vector,
    Pixels,
}

/// Draw items through any backend.
fn render<DB: DrawingBackend>(
    items: &[Item],
    area: &DrawingArea<DB, Shift>,
    pen: Pen<'_>,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let at = |x: f64, y: f64| pen.at(x, y);
    for item in items {
        match item {
            Item::Rect { x, y, w, h, ink } => {
                let (from, to) = (at(*x, *y), at(x + w, y + h));
                // At least one unit wide and high.
                let to = (to.0.max(from.0 + 1), to.1.max(from.1 + 1));
                area.draw(&Rectangle::new([from, to], pen.colour(*ink).filled()))?;
            }
            Item::Line { points, ink, width, dash } => {
                let points: Vec<_> = points.iter().map(|(x, y)| at(*x, *y)).collect();
                let (width, colour) = (pen.units(*width).unsigned_abs().max(1), pen.colour(*ink));
                let stroke = match pen.surface {
                    Surface::Vector => colour.stroke_width(width),
                    // The rasteriser fills the pixels of both edges, one more than the width.
                    Surface::Pixels => colour.stroke_width(width.max(2) - 1),
                };
                match (dash.pattern(), pen.surface) {
                    (Some([on, off]), _) => {
                        area.draw(&DashedPathElement::new(
                            points,
                            pen.units(on).max(1),
                            pen.units(off).max(1),
                            stroke,
                        ))?;
                    }
                    (None, Surface::Vector) => area.draw(&PathElement::new(points, stroke))?,
                    (None, Surface::Pixels) => solid(area, &points, stroke, width as i32 / 2)?,
                }
            }
            Item::Polygon { points, ink, opacity } => {
                let points: Vec<_> = points.iter().map(|(x, y)| at(*x, *y)).collect();
                area.draw(&Polygon::new(points, pen.colour(*ink).mix(*opacity)))?;
            }
            Item::Circle { x, y, r, ink } => {
                area.draw(&Circle::new(at(*x, *y), pen.units(*r), pen.colour(*ink).filled()))?;
            }
            Item::Text { x, y, string, style } => words(area, pen, (*x, *y), string, *style)?,
            Item::Image { area: over, columns, rows, pixels } => {
                let (from, to) = (at(over.x, over.y), at(over.right(), over.bottom()));
                let size = ((to.0 - from.0).unsigned_abs(), (to.1 - from.1).unsigned_abs());
                let bytes = stretched(pixels, (*columns, *rows), (size.0 as usize, size.1 as usize));
                if let Some(image) = <BitMapElement<_>>::with_owned_buffer(from, size, bytes) {
                    area.draw(&image)?;
                }
            }
            Item::MapStart | Item::MapEnd => {}
        }
    }
    area.present()
}

/// A line as pixels, part by part: the rasteriser spoils the corners of a whole one.
fn solid<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    points: &[(i32, i32)],
    stroke: ShapeStyle,
    half: i32,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    for pair in points.windows(2) {
        let [(ax, ay), (bx, by)] = [pair[0], pair[1]];
        if ax == bx || ay == by {
            let (h, v) = if ax == bx { (half, 0) } else { (0, half) };
            let corners = [(ax.min(bx) - h, ay.min(by) - v), (ax.max(bx) + h, ay.max(by) + v)];
            area.draw(&Rectangle::new(corners, stroke.filled()))?;
        } else {
            area.draw(&PathElement::new(pair, stroke))?;
        }
    }
    for corner in points.iter().skip(1).take(points.len().saturating_sub(2)) {
        area.draw(&Circle::new(*corner, (half - 1).max(1), stroke.filled()))?;
    }
    Ok(())
}

/// A text on its baseline. Control characters, which XML forbids, become blanks.
fn words<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    pen: Pen<'_>,
    (x, y): (f64, f64),
    string: &str,
    style: Type,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let string = string.replace(char::is_control, " ");
    if pen.surface == Surface::Vector {
        // plotters' size of a font is 1.24 em, and the top of a text 0.76 em over its baseline.
        let face = face(pen, style, 1.24 * style.size, style.anchor);
        return area.draw(&Text::new(string, pen.at(x, y - 0.76 * style.size), face));
    }
    // One by one: in a whole text each letter would stand at the left edge of its room, unevenly spaced. The size
    // is the font's height, half of which is over the baseline.
    let height = text::height(style.size, style.bold);
    let face = face(pen, style, height, Anchor::Start);
    let left = x - style.width(&string)
        * match style.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => 0.5,
            Anchor::End => 1.0,
        };
    for (letter, shift) in text::letters(&string, style.size, style.bold) {
        area.draw(&Text::new(letter.to_string(), pen.at(left + shift, y - height / 2.0), face.clone()))?;
    }
    Ok(())
}

/// How a scene's units become those of a backend.
#[derive(Clone, Copy)]
struct Pen<'s> {
    surface: Surface,
    /// Units of the backend per unit of the scene.
    scale: f64,
    style: &'s Style,
}

impl Pen<'_> {
    fn units(self, length: f64) -> i32 {
        (length * self.scale).round() as i32
    }
    fn at(self, x: f64, y: f64) -> (i32, i32) {
        (self.units(x), self.units(y))
    }
    fn colour(self, ink: Ink) -> RGBColor {
        let [r, g, b] = self.style.rgb(ink);
        RGBColor(r, g, b)
    }
}

fn face(pen: Pen<'_>, style: Type, size: f64, anchor: Anchor) -> TextStyle<'static> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        for (weight, file) in [FontStyle::Normal, FontStyle::Bold].into_iter().zip(text::FILES) {
            // Without a font, drawing fails.
            let _ = register_font(FAMILY, weight, file);
        }
    });
    let weight = if style.bold { FontStyle::Bold } else { FontStyle::Normal };
    let side = match anchor {
        Anchor::Start => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::End => HPos::Right,
    };
    let font = (FAMILY, size * pen.scale, weight).into_font();
    TextStyle { font, color: pen.colour(style.ink).to_backend_color(), pos: Pos::new(side, VPos::Top) }
}

/// Cells stretched over an image: enlarged ones keep their edges, shrunken ones are averaged. RGB, row by row.
fn stretched(cells: &[[u8; 3]], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    // The cells that a pixel covers, at least one.
    let covered = |i: usize, from: usize, to: usize| {
        let first = i * from / to;
        first..((i + 1) * from / to).max(first + 1)
    };
    let mut bytes = Vec::with_capacity(3 * to.0 * to.1);
    for y in 0..to.1 {
        for x in 0..to.0 {
            let (mut sum, mut count) = ([0_u32; 3], 0);
            for row in covered(y, from.1, to.1) {
                for column in covered(x, from.0, to.0) {
                    let cell = cells.get(row * from.0 + column).copied().unwrap_or([255; 3]);
                    sum.iter_mut().zip(cell).for_each(|(sum, c)| *sum += u32::from(c));
                    count += 1;
                }
            }
            bytes.extend(sum.map(|sum| (sum / count) as u8));
        }
    }
    bytes
}

/// What is inside the `<svg>` of a scene, with fixed colours.
pub(crate) fn drawing(scene: &Scene<'_>) -> Result<String, String> {
    let pen = Pen { surface: Surface::Vector, scale: SCALE, style: scene.style };
    let size = (pen.units(scene.width).unsigned_abs(), pen.units(scene.height).unsigned_abs());
    let marker = |item: &Item| matches!(item, Item::MapStart | Item::MapEnd);
    let mut body = String::new();
    for part in scene.items.chunk_by(|a, b| !marker(a) && !marker(b)) {
        match part {
            [Item::MapStart] => body.push_str("<g class=\"map\">\n"),
            [Item::MapEnd] => body.push_str("</g>\n"),
            items => {
                let mut svg = String::new();
                let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
                render(items, &area, pen).map_err(|e| e.to_string())?;
                drop(area);
                let inside = svg.split_once('\n').and_then(|(_, rest)| rest.strip_suffix("</svg>\n"));
                body.push_str(inside.ok_or("plotters' SVG has another form than expected")?);
            }
        }
    }
    // Said once for all, or what holds anyway; and plotters' type of an image is none.
    Ok(body
        .replace(&format!(" font-family=\"{FAMILY}\""), "")
        .replace(" opacity=\"1\"", "")
        .replace("data:png;", "data:image/png;"))
}

/// The scene as a file of its own, on white, in the size that it has on paper.
pub(crate) fn file(scene: &Scene<'_>, drawing: &str) -> String {
    let title = escape(&scene.title);
    let ground = "<rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>";
    let mm = |units: f64| format!("{:.2}mm", scene.style.mm(units));
    let opening = opening(scene, 0.0, &mm(scene.width), &mm(scene.height));
    format!("{opening}<title>{title}</title>{ground}\n{drawing}</svg>\n")
}

/// The scene as part of the page: coloured by its variables, its title in line with the text around it.
pub(crate) fn fragment(scene: &Scene<'_>, drawing: &str) -> String {
    let left = 12.0;
    let (width, height) = (scene.width - left, scene.height);
    let opening = opening(scene, left, &format!("{width:.0}"), &format!("{height:.0}"));
    with_variables(format!("{opening}\n{drawing}</svg>\n"), scene.style)
}

fn opening(scene: &Scene<'_>, left: f64, width: &str, height: &str) -> String {
    let view = [left, 0.0, scene.width - left, scene.height];
    let view = view.map(|length| format!("{:.0}", length * SCALE)).join(" ");
    let (label, family) = (escape(&scene.title), escape(&scene.style.font.family));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{view}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{label}\" font-family=\"{family}\" stroke-linejoin=\"round\">"
    )
}

/// The scene as a PNG file on white, which says how many pixels an inch has.
pub(crate) fn png(scene: &Scene<'_>) -> Result<Vec<u8>, String> {
    let dpi = f64::from(scene.style.png_dpi);
    let scale = f64::from(REDUCED) * dpi / 72.0 * scene.style.unit_pt();
    let pen = Pen { surface: Surface::Pixels, scale, style: scene.style };
    let even = |length: f64| ((length * scale).ceil() as u32).next_multiple_of(REDUCED);
    let (width, height) = (even(scene.width), even(scene.height));
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(format!("a figure of {width} x {height} pixels does not fit in memory"));
    }
    let mut large = RgbImage::from_pixel(width, height, image::Rgb([255; 3]));
    let area = BitMapBackend::with_buffer(&mut large, (width, height)).into_drawing_area();
    render(&scene.items, &area, pen).map_err(|e| e.to_string())?;
    drop(area);
    let small = image::imageops::thumbnail(&large, width / REDUCED, height / REDUCED);
    let mut file = Vec::new();
    let encoder =
        PngEncoder::new_with_quality(Cursor::new(&mut file), CompressionType::Default, FilterType::Adaptive);
    small.write_with_encoder(encoder).map_err(|e| e.to_string())?;
    Ok(with_resolution(file, dpi))
}

/// A PNG with a chunk `pHYs`, which the encoder does not write: right after the header, which has a fixed size.
fn with_resolution(mut png: Vec<u8>, dpi: f64) -> Vec<u8> {
    const HEADER: usize = 8 + 25;
    let per_metre = ((dpi / 0.0254).round() as u32).to_be_bytes();
    let content = [&b"pHYs"[..], &per_metre, &per_metre, &[1]].concat();
    let mut sum = flate2::Crc::new();
    sum.update(&content);
    let chunk = [&9_u32.to_be_bytes()[..], &content, &sum.sum().to_be_bytes()].concat();
    png.splice(HEADER..HEADER, chunk);
    png
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Area, Dash};

    /// A style whose PNG has two pixels a unit.
    fn two() -> Style {
        let mut style = Style::default();
        style.font.text_pt = 11.5;
        style.font.title_pt = 14.5;
        style.png_dpi = 144;
        style
    }

    fn small<'s>(style: &'s Style, title: &str) -> Scene<'s> {
        Scene { width: 80.0, ..Scene::new(style, 40.0, title) }
    }

    fn decoded(scene: &Scene<'_>) -> RgbImage {
        image::load_from_memory(&png(scene).unwrap()).unwrap().to_rgb8()
    }

    #[test]
    fn what_is_drawn_can_be_seen() {
        let style = two();
        let image = decoded(&small(&style, "Title"));
        assert_eq!(image.dimensions(), (160, 80));
        let ink: Vec<_> = image.enumerate_pixels().filter(|(.., p)| p.0[0] < 60).collect();
        // From 12 to the text's width, between the baseline at 21 and the height of a capital.
        let end = 12.0 + style.title().width("Title");
        assert!(!ink.is_empty());
        for (x, y, _) in ink {
            assert!((24..=(2.0 * end) as u32).contains(&x) && (19..=42).contains(&y), "{x}, {y}");
        }
    }

    #[test]
    fn lines_have_their_width() {
        let style = two();
        let mut scene = small(&style, "");
        scene.line(vec![(5.0, 10.0), (35.0, 10.0)], Ink::Rgb([0; 3]), 2.0, Dash::Solid);
        scene.line(vec![(5.0, 30.0), (35.0, 30.0)], Ink::Rgb([0; 3]), 2.0, Dash::Dashed);
        let image = decoded(&scene);
        let black =
            |x: u32, rows: std::ops::Range<u32>| rows.filter(|y| image.get_pixel(x, *y).0[0] < 128).count();
        assert_eq!(black(40, 0..40), 4);
        let dashes = (10..70).filter(|x| black(*x, 40..80) > 0).count();
        assert!((30..42).contains(&dashes), "6 of 10 are drawn: {dashes}");
    }

    #[test]
    fn cells_keep_their_colours() {
        let style = two();
        let cells = [[1, 2, 3], [250, 0, 9], [10, 20, 30], [20, 40, 50]];
        let mut scene = small(&style, "");
        scene.map(|scene| scene.image(Area::new(10.0, 10.0, 20.0, 20.0), 2, 2, cells.to_vec()));
        let image = decoded(&scene);
        let found = [(22, 22), (58, 22), (22, 58), (58, 58)].map(|(x, y)| image.get_pixel(x, y).0);
        assert_eq!(found, cells);
        assert_eq!(stretched(&cells, (2, 2), (1, 2)), [125, 1, 6, 15, 30, 40]);
        let drawing = drawing(&scene).unwrap();
        assert!(drawing.contains("<g class=\"map\">\n<image x=\"40\" y=\"40\" width=\"80\" height=\"80\""));
        assert!(drawing.contains("href=\"data:image/png;base64,iVBOR") && drawing.ends_with("/>\n</g>\n"));
    }

    #[test]
    fn an_svg_stands_alone_or_takes_the_pages_colours() {
        let style = Style::default();
        let mut scene = Scene::new(&style, 40.0, "Spikes & \u{7}<more>");
        scene.polygon(vec![(0.0, 0.0), (9.0, 0.0), (9.0, 9.0)], Ink::Layer(0), 0.25);
        let drawing = drawing(&scene).unwrap();
        let file = file(&scene, &drawing);
        assert!(file.contains("width=\"85.00mm\" height=\"8.59mm\""), "{file}");
        assert!(
            file.contains("<title>Spikes &amp;  &lt;more&gt;</title>") && file.contains("fill=\"#1B1F24\"")
        );
        assert!(file.contains("<text ") && file.contains("font-weight=\"bold\""), "{file}");
        assert!(file.contains("opacity=\"0.25\" fill=\"#332288\""), "{file}");
        let fragment = fragment(&scene, &drawing);
        assert!(fragment.contains("viewBox=\"48 0 ") && fragment.contains("fill=\"var(--c-text)\""));
        assert!(!fragment.contains('#'), "{fragment}");
    }

    #[test]
    fn a_png_says_its_resolution() {
        let style = Style::default();
        let file = png(&Scene::new(&style, 40.0, "Title")).unwrap();
        // 300 pixels an inch are 11811 a metre.
        let chunk =
            [&[0, 0, 0, 9][..], b"pHYs", &11_811_u32.to_be_bytes(), &11_811_u32.to_be_bytes(), &[1]].concat();
        assert_eq!(file[33..33 + chunk.len()], chunk);
        let image = image::load_from_memory(&file).unwrap();
        assert_eq!(image.width(), 1004, "85 mm");
    }

    #[test]
    fn a_huge_figure_is_refused() {
        assert!(png(&Scene::new(&Style::default(), 1e6, "")).unwrap_err().contains("does not fit"));
    }
}
