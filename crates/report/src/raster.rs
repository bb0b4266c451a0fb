//! A scene as pixels, at twice its size, drawn with the embedded font.

use ab_glyph::{Font, OutlineCurve, Point};
use tiny_skia::{
    Color, FillRule, FilterQuality, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, PixmapPaint,
    PremultipliedColorU8, Rect, Stroke, StrokeDash, Transform,
};

use crate::scene::{Anchor, Ink, Item, Scene, Type};
use crate::text;

/// Pixels per unit of the scene.
const SCALE: f32 = 2.0;

/// The figure as a PNG file on white; `None` if it is too large to hold.
pub(crate) fn png(scene: &Scene) -> Option<Vec<u8>> {
    let size = |length: f64| (length as f32 * SCALE).ceil() as u32;
    let mut pixmap = Pixmap::new(size(scene.width), size(scene.height))?;
    pixmap.fill(Color::WHITE);
    for item in &scene.items {
        draw(&mut pixmap, item);
    }
    pixmap.encode_png().ok()
}

/// Cells as an image of one pixel each.
pub(crate) fn cells_png(columns: usize, rows: usize, cells: &[[u8; 3]]) -> Option<Vec<u8>> {
    cells_pixmap(columns, rows, cells)?.encode_png().ok()
}

fn cells_pixmap(columns: usize, rows: usize, cells: &[[u8; 3]]) -> Option<Pixmap> {
    let mut pixmap = Pixmap::new(u32::try_from(columns).ok()?, u32::try_from(rows).ok()?)?;
    for (pixel, &[r, g, b]) in pixmap.pixels_mut().iter_mut().zip(cells) {
        *pixel = PremultipliedColorU8::from_rgba(r, g, b, 255)?;
    }
    Some(pixmap)
}

fn draw(pixmap: &mut Pixmap, item: &Item) {
    let scale = Transform::from_scale(SCALE, SCALE);
    match item {
        Item::Rect { x, y, w, h, ink } => {
            if let Some(rect) = Rect::from_xywh(*x as f32, *y as f32, *w as f32, *h as f32) {
                pixmap.fill_rect(rect, &paint(*ink), scale, None);
            }
        }
        Item::Line { points, ink, width, dash } => {
            if let Some(path) = polyline(points, false) {
                let stroke = Stroke {
                    width: *width as f32,
                    line_cap: LineCap::Butt,
                    line_join: LineJoin::Round,
                    dash: dash
                        .pattern()
                        .and_then(|[on, off]| StrokeDash::new(vec![on as f32, off as f32], 0.0)),
                    ..Stroke::default()
                };
                pixmap.stroke_path(&path, &paint(*ink), &stroke, scale, None);
            }
        }
        Item::Polygon { points, ink } => {
            if let Some(path) = polyline(points, true) {
                pixmap.fill_path(&path, &paint(*ink), FillRule::Winding, scale, None);
            }
        }
        Item::Circle { x, y, r, ink } => {
            if let Some(path) = PathBuilder::from_circle(*x as f32, *y as f32, *r as f32) {
                pixmap.fill_path(&path, &paint(*ink), FillRule::Winding, scale, None);
            }
        }
        Item::Text { x, y, string, style } => {
            if let Some(path) = glyphs(*x, *y, string, *style) {
                pixmap.fill_path(&path, &paint(style.ink), FillRule::Winding, scale, None);
            }
        }
        Item::Image { area, columns, rows, pixels } => {
            if let Some(cells) = cells_pixmap(*columns, *rows, pixels) {
                let (sx, sy) = (area.w as f32 / *columns as f32, area.h as f32 / *rows as f32);
                let crisp = sx * SCALE >= 1.0 && sy * SCALE >= 1.0;
                let quality = if crisp { FilterQuality::Nearest } else { FilterQuality::Bicubic };
                let place = scale.pre_translate(area.x as f32, area.y as f32).pre_scale(sx, sy);
                let paint = PixmapPaint { quality, ..PixmapPaint::default() };
                pixmap.draw_pixmap(0, 0, cells.as_ref(), &paint, place, None);
            }
        }
        Item::MapStart | Item::MapEnd => {}
    }
}

fn paint(ink: Ink) -> Paint<'static> {
    let [r, g, b] = ink.rgb();
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, 255);
    paint
}

fn polyline(points: &[(f64, f64)], close: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (i, (x, y)) in points.iter().enumerate() {
        if i == 0 {
            path.move_to(*x as f32, *y as f32);
        } else {
            path.line_to(*x as f32, *y as f32);
        }
    }
    if close {
        path.close();
    }
    path.finish()
}

/// The outlines of a text as one path.
fn glyphs(x: f64, y: f64, string: &str, style: Type) -> Option<Path> {
    let font = text::font(style.bold)?;
    let unit = text::scale(font, style.size) as f32;
    let shift = match style.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => style.width(string) / 2.0,
        Anchor::End => style.width(string),
    };
    let (mut pen, baseline) = ((x - shift) as f32, y as f32);
    let mut path = PathBuilder::new();
    for c in string.chars() {
        let id = font.glyph_id(c);
        // Font units grow upwards.
        let at = |p: Point| (pen + p.x * unit, baseline - p.y * unit);
        let mut last: Option<Point> = None;
        for curve in font.outline(id).map(|o| o.curves).unwrap_or_default() {
            let (start, end) = match curve {
                OutlineCurve::Line(a, b) | OutlineCurve::Quad(a, _, b) | OutlineCurve::Cubic(a, _, _, b) => {
                    (a, b)
                }
            };
            if last != Some(start) {
                let (x, y) = at(start);
                path.move_to(x, y);
            }
            let (x, y) = at(end);
            match curve {
                OutlineCurve::Line(..) => path.line_to(x, y),
                OutlineCurve::Quad(_, control, _) => {
                    let (cx, cy) = at(control);
                    path.quad_to(cx, cy, x, y);
                }
                OutlineCurve::Cubic(_, first, second, _) => {
                    let ((ax, ay), (bx, by)) = (at(first), at(second));
                    path.cubic_to(ax, ay, bx, by, x, y);
                }
            }
            last = Some(end);
        }
        pen += font.h_advance_unscaled(id) * unit;
    }
    path.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_can_be_seen() {
        let scene = Scene::new(80.0, 40.0, "Title");
        let pixmap = Pixmap::decode_png(&png(&scene).unwrap()).unwrap();
        assert_eq!((pixmap.width(), pixmap.height()), (160, 80));
        assert!(pixmap.pixels().iter().any(|p| p.red() < 60));
    }

    #[test]
    fn cells_keep_their_colours() {
        let png = cells_png(2, 1, &[[1, 2, 3], [250, 0, 9]]).unwrap();
        let pixmap = Pixmap::decode_png(&png).unwrap();
        let pixel = pixmap.pixel(1, 0).unwrap();
        assert_eq!([pixel.red(), pixel.green(), pixel.blue()], [250, 0, 9]);
    }
}
