//! Scenes drawn with plotters, as SVG and as pixels.
//!
//! Its backends take whole coordinates only, so a unit of the scene is [`SCALE`] of theirs. An SVG's view box turns
//! them back; pixels are drawn at twice the size of the file and averaged, which smooths every edge.

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
use crate::text;

/// Units of a backend per unit of a scene.
const SCALE: f64 = 4.0;
/// Units of a backend per pixel of a PNG.
const REDUCED: u32 = 2;
/// Pixels while drawing, some 800 MB.
const MOST_PIXELS: u64 = 1 << 28;

/// Fonts of a reader's system that are about as wide as the embedded one, which has this whole list as its name.
const FAMILY: &str = "Helvetica Neue, Arial, Liberation Sans, DejaVu Sans Condensed, sans-serif";

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
    surface: Surface,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    for item in items {
        match item {
            Item::Rect { x, y, w, h, ink } => {
                let (from, to) = (at(*x, *y), at(x + w, y + h));
                // At least one unit wide and high.
                let to = (to.0.max(from.0 + 1), to.1.max(from.1 + 1));
                area.draw(&Rectangle::new([from, to], colour(*ink).filled()))?;
            }
            Item::Line { points, ink, width, dash } => {
                let points: Vec<_> = points.iter().map(|(x, y)| at(*x, *y)).collect();
                let (width, colour) = (units(*width).unsigned_abs(), colour(*ink));
                let stroke = match surface {
                    Surface::Vector => colour.stroke_width(width),
                    // The rasteriser fills the pixels of both edges, one more than the width.
                    Surface::Pixels => colour.stroke_width(width.max(2) - 1),
                };
                match (dash.pattern(), surface) {
                    (Some([on, off]), _) => {
                        area.draw(&DashedPathElement::new(points, units(on), units(off), stroke))?;
                    }
                    (None, Surface::Vector) => area.draw(&PathElement::new(points, stroke))?,
                    (None, Surface::Pixels) => solid(area, &points, stroke, width as i32 / 2)?,
                }
            }
            Item::Polygon { points, ink } => {
                let points: Vec<_> = points.iter().map(|(x, y)| at(*x, *y)).collect();
                area.draw(&Polygon::new(points, colour(*ink)))?;
            }
            Item::Circle { x, y, r, ink } => {
                area.draw(&Circle::new(at(*x, *y), units(*r), colour(*ink).filled()))?;
            }
            Item::Text { x, y, string, style } => words(area, surface, (*x, *y), string, *style)?,
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
    surface: Surface,
    (x, y): (f64, f64),
    string: &str,
    style: Type,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let string = string.replace(char::is_control, " ");
    if surface == Surface::Vector {
        // plotters' size of a font is 1.24 em, and the top of a text 0.76 em over its baseline.
        let face = face(style, 1.24 * style.size, style.anchor);
        return area.draw(&Text::new(string, at(x, y - 0.76 * style.size), face));
    }
    // One by one: in a whole text each letter would stand at the left edge of its room, unevenly spaced. The size
    // is the font's height, half of which is over the baseline.
    let height = text::height(style.size, style.bold);
    let face = face(style, height, Anchor::Start);
    let left = x - style.width(&string)
        * match style.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => 0.5,
            Anchor::End => 1.0,
        };
    for (letter, shift) in text::letters(&string, style.size, style.bold) {
        area.draw(&Text::new(letter.to_string(), at(left + shift, y - height / 2.0), face.clone()))?;
    }
    Ok(())
}

fn units(length: f64) -> i32 {
    (length * SCALE).round() as i32
}

fn at(x: f64, y: f64) -> (i32, i32) {
    (units(x), units(y))
}

fn colour(ink: Ink) -> RGBColor {
    let [r, g, b] = ink.rgb();
    RGBColor(r, g, b)
}

fn face(style: Type, size: f64, anchor: Anchor) -> TextStyle<'static> {
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
    let font = (FAMILY, size * SCALE, weight).into_font();
    TextStyle { font, color: colour(style.ink).to_backend_color(), pos: Pos::new(side, VPos::Top) }
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
pub(crate) fn drawing(scene: &Scene) -> Result<String, String> {
    let size = (units(scene.width).unsigned_abs(), units(scene.height).unsigned_abs());
    let marker = |item: &Item| matches!(item, Item::MapStart | Item::MapEnd);
    let mut body = String::new();
    for part in scene.items.chunk_by(|a, b| !marker(a) && !marker(b)) {
        match part {
            [Item::MapStart] => body.push_str("<g class=\"map\">\n"),
            [Item::MapEnd] => body.push_str("</g>\n"),
            items => {
                let mut svg = String::new();
                let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
                render(items, &area, Surface::Vector).map_err(|e| e.to_string())?;
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

/// The scene as a file of its own, on white.
pub(crate) fn file(scene: &Scene, drawing: &str) -> String {
    let title = escape(&scene.title);
    let ground = "<rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>";
    format!("{}<title>{title}</title>{ground}\n{drawing}</svg>\n", opening(scene, 0.0))
}

/// The scene as part of the page: coloured by its variables, its title in line with the text around it.
pub(crate) fn fragment(scene: &Scene, drawing: &str) -> String {
    with_variables(format!("{}\n{drawing}</svg>\n", opening(scene, 12.0)))
}

fn opening(scene: &Scene, left: f64) -> String {
    let (width, height) = (scene.width - left, scene.height);
    let view = [left, 0.0, width, height].map(|length| units(length).to_string()).join(" ");
    let label = escape(&scene.title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{view}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{label}\" font-family=\"{FAMILY}\" stroke-linejoin=\"round\">"
    )
}

/// The scene as a PNG file on white, twice its size.
pub(crate) fn png(scene: &Scene) -> Result<Vec<u8>, String> {
    let even = |length: f64| ((length * SCALE).ceil() as u32).next_multiple_of(REDUCED);
    let (width, height) = (even(scene.width), even(scene.height));
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(format!("a figure of {} x {} does not fit in memory", scene.width, scene.height));
    }
    let mut large = RgbImage::from_pixel(width, height, image::Rgb([255; 3]));
    let area = BitMapBackend::with_buffer(&mut large, (width, height)).into_drawing_area();
    render(&scene.items, &area, Surface::Pixels).map_err(|e| e.to_string())?;
    drop(area);
    let small = image::imageops::thumbnail(&large, width / REDUCED, height / REDUCED);
    let mut file = Vec::new();
    let encoder =
        PngEncoder::new_with_quality(Cursor::new(&mut file), CompressionType::Default, FilterType::Adaptive);
    small.write_with_encoder(encoder).map_err(|e| e.to_string())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Area, Dash};

    fn decoded(scene: &Scene) -> RgbImage {
        image::load_from_memory(&png(scene).unwrap()).unwrap().to_rgb8()
    }

    #[test]
    fn what_is_drawn_can_be_seen() {
        let image = decoded(&Scene::new(80.0, 40.0, "Title"));
        assert_eq!(image.dimensions(), (160, 80));
        let ink: Vec<_> = image.enumerate_pixels().filter(|(.., p)| p.0[0] < 60).collect();
        // From 12 to the text's width, between the baseline at 21 and the height of a capital.
        let end = 12.0 + Type::TITLE.width("Title");
        assert!(!ink.is_empty());
        for (x, y, _) in ink {
            assert!((24..=(2.0 * end) as u32).contains(&x) && (19..=42).contains(&y), "{x}, {y}");
        }
    }

    #[test]
    fn lines_have_their_width() {
        let mut scene = Scene::new(40.0, 40.0, "");
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
        let cells = [[1, 2, 3], [250, 0, 9], [10, 20, 30], [20, 40, 50]];
        let mut scene = Scene::new(40.0, 40.0, "");
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
        let scene = Scene::new(720.0, 40.0, "Spikes & \u{7}<more>");
        let drawing = drawing(&scene).unwrap();
        let file = file(&scene, &drawing);
        assert!(file.contains("viewBox=\"0 0 2880 160\" width=\"720\" height=\"40\""), "{file}");
        assert!(
            file.contains("<title>Spikes &amp;  &lt;more&gt;</title>") && file.contains("fill=\"#1B1F24\"")
        );
        assert!(file.contains("font-size=\"58\"") && file.contains("font-weight=\"bold\""), "{file}");
        let fragment = fragment(&scene, &drawing);
        assert!(
            fragment.contains("viewBox=\"48 0 2832 160\"") && fragment.contains("fill=\"var(--c-text)\"")
        );
        assert!(!fragment.contains('#'), "{fragment}");
    }

    #[test]
    fn a_huge_figure_is_refused() {
        assert!(png(&Scene::new(720.0, 1e6, "")).unwrap_err().contains("does not fit"));
    }
}
